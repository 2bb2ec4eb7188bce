//! Transactions taken apart, for a clean-up that met a refusal.

use crate::ops::{Domain, NetworkOp, Transaction};

/// Each removal by itself, so that what the kernel refuses takes nothing else with it (T16).
/// Chains refer to one another, so all are emptied before the first one goes.
pub(super) fn one_by_one(transactions: Vec<Transaction>) -> Vec<Transaction> {
    transactions.into_iter().flat_map(apart).collect()
}

fn apart(transaction: Transaction) -> Vec<Transaction> {
    let Transaction { domain, ops } = transaction;
    let alone = |op| Transaction { domain, ops: vec![op] };
    if !matches!(domain, Domain::Xtables(_)) {
        return ops.into_iter().map(alone).collect();
    }
    let (last, mut first): (Vec<_>, Vec<_>) = ops.into_iter().partition(|op| {
        matches!(op, NetworkOp::DeleteChain { .. } | NetworkOp::DeleteEmptyBuiltin { .. })
    });
    first.extend(last.iter().filter_map(|op| match op {
        NetworkOp::DeleteChain { chain } => {
            Some(NetworkOp::PutChain { chain: chain.clone(), rules: Vec::new() })
        }
        _ => None,
    }));
    let emptied = (!first.is_empty()).then_some(Transaction { domain, ops: first });
    emptied.into_iter().chain(last.into_iter().map(alone)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;
    use crate::objects::{BuiltinHook, ChainName, SetName, XtRule, XtTable, XtTableId, XtTarget};

    #[test]
    fn chains_are_emptied_together_and_deleted_each_by_itself() {
        let domain = Domain::Xtables(XtTableId { family: Family::V4, table: XtTable::Nat });
        let chain = |name: &str| ChainName(name.into());
        let jump = NetworkOp::DeleteJump {
            hook: BuiltinHook::Prerouting,
            rule: XtRule::new(XtTarget::Jump(chain("A"))),
        };
        let delete = |name| NetworkOp::DeleteChain { chain: chain(name) };
        let empty = |name| NetworkOp::PutChain { chain: chain(name), rules: Vec::new() };
        let builtin = NetworkOp::DeleteEmptyBuiltin { hook: BuiltinHook::Prerouting };
        let ops = vec![jump.clone(), delete("A"), delete("B"), builtin.clone()];
        let split: Vec<_> =
            one_by_one(vec![Transaction { domain, ops }]).into_iter().map(|t| t.ops).collect();
        assert_eq!(
            split,
            [
                vec![jump, empty("A"), empty("B")],
                vec![delete("A")],
                vec![delete("B")],
                vec![builtin]
            ]
        );
    }

    #[test]
    fn sets_go_each_by_itself() {
        let destroy = |name: &str| NetworkOp::DestroySet { name: SetName(name.into()) };
        let ops = vec![destroy("a"), destroy("b")];
        let split = one_by_one(vec![Transaction { domain: Domain::Sets, ops }]);
        assert_eq!(split.iter().map(|t| t.ops.len()).collect::<Vec<_>>(), [1, 1]);
    }
}
