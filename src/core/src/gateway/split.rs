//! What a refusal costs: what relies on the refused transaction, and transactions taken apart so
//! that the next refusal costs less.

use serde::{Deserialize, Serialize};

use crate::objects::{RuleAction, SysctlKey};
use crate::ops::{Domain, NetworkOp, NftOp, Transaction};

/// What of a round relies on one of its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Reliance {
    /// Nothing: it removes, or it routes, which mostly bears on nobody's isolation.
    Nothing,
    /// Forwarding, which is opened when all other sysctls are set.
    Forwarding,
    /// Everything after it.
    Everything,
}

/// What of the rest of a round relies on `transaction`.
pub(super) fn reliance(transaction: &Transaction) -> Reliance {
    match transaction.domain {
        Domain::Routing if transaction.ops.iter().any(keeps_inside) => Reliance::Everything,
        Domain::Routing => Reliance::Nothing,
        Domain::Sysctls => Reliance::Forwarding,
        _ if transaction.ops.iter().all(is_removal) => Reliance::Nothing,
        _ => Reliance::Everything,
    }
}

fn is_removal(op: &NetworkOp) -> bool {
    matches!(
        op,
        NetworkOp::DeleteChain { .. }
            | NetworkOp::DeleteEmptyBuiltin { .. }
            | NetworkOp::DestroySet { .. }
            | NetworkOp::DeleteElement { .. }
            | NetworkOp::Nft(NftOp::DeleteTable)
    )
}

/// Whether it keeps inside what pods with egress send there (T13): while it is missing none may be let out.
fn keeps_inside(op: &NetworkOp) -> bool {
    let NetworkOp::AddRule(rule) = op else { return false };
    matches!(rule.action, RuleAction::Lookup { suppress_prefix: Some(_), .. })
}

/// Whether it switches forwarding on.
pub(super) fn opens_forwarding(transaction: &Transaction) -> bool {
    let opens =
        |op: &NetworkOp| matches!(op, NetworkOp::SetSysctl { key: SysctlKey::Forwarding(_), .. });
    transaction.ops.iter().any(opens)
}

/// Apart where nothing relies on the whole, and chains that go are by themselves.
pub(super) fn loosened(transactions: Vec<Transaction>) -> Vec<Transaction> {
    let loosen = |transaction: Transaction| {
        if transaction.domain == Domain::Routing {
            return apart(transaction);
        }
        if transaction.domain == Domain::Nftables {
            return vec![transaction];
        }
        if reliance(&transaction) == Reliance::Everything && !transaction.ops.iter().any(is_removal)
        {
            return vec![transaction];
        }
        match transaction.domain {
            Domain::Sets if reliance(&transaction) == Reliance::Everything => vec![transaction],
            _ => apart(transaction),
        }
    };
    transactions.into_iter().flat_map(loosen).collect()
}

/// Each removal by itself, so that what the kernel refuses takes nothing else with it (T16).
/// Chains refer to one another, so all are emptied before the first one goes.
pub(super) fn one_by_one(transactions: Vec<Transaction>) -> Vec<Transaction> {
    transactions.into_iter().flat_map(apart).collect()
}

fn apart(transaction: Transaction) -> Vec<Transaction> {
    let Transaction { domain, ops } = transaction;
    let alone = |op| Transaction { domain, ops: vec![op] };
    if domain == Domain::Nftables {
        return vec![Transaction { domain, ops }];
    }
    if !matches!(domain, Domain::Xtables(_) | Domain::OtherXtables(_)) {
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
    use crate::objects::{
        BuiltinHook, ChainName, RoutingRule, SetKind, SetName, SetSpec, XtRule, XtTable, XtTableId,
        XtTarget,
    };

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
    fn what_others_rely_on_stays_whole() {
        let nat = Domain::Xtables(XtTableId { family: Family::V4, table: XtTable::Nat });
        let chain = |name: &str| ChainName(name.into());
        let put = NetworkOp::PutChain { chain: chain("A"), rules: Vec::new() };
        let gone = NetworkOp::DeleteChain { chain: chain("B") };
        let destroy = |name: &str| NetworkOp::DestroySet { name: SetName(name.into()) };
        let open =
            NetworkOp::SetSysctl { key: SysctlKey::Forwarding(Family::V4), value: "1".into() };
        let close = NetworkOp::ForgetSysctl { key: SysctlKey::Forwarding(Family::V4), value: None };
        let spec =
            SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 1 };
        let create = NetworkOp::CreateSet { name: SetName("a".into()), spec };
        let rule = |suppress_prefix| {
            NetworkOp::AddRule(RoutingRule {
                family: Family::V4,
                priority: 20_000,
                in_interface: None,
                mark: Some((1, 1)),
                destination: None,
                action: RuleAction::Lookup { table: 254, suppress_prefix },
            })
        };
        let (by_mark, inside) = (rule(None), rule(Some(0)));
        let cases = [
            (nat, vec![put.clone(), put.clone()], Reliance::Everything, 1),
            (nat, vec![put, gone.clone()], Reliance::Everything, 2),
            (nat, vec![gone.clone()], Reliance::Nothing, 2),
            (Domain::Sets, vec![destroy("a"), destroy("b")], Reliance::Nothing, 2),
            (Domain::Sets, vec![destroy("a"), create], Reliance::Everything, 1),
            (Domain::Sysctls, vec![open.clone(), close.clone()], Reliance::Forwarding, 2),
            (Domain::Routing, vec![by_mark.clone(), by_mark.clone()], Reliance::Nothing, 2),
            (Domain::Routing, vec![by_mark, inside], Reliance::Everything, 2),
        ];
        for (domain, ops, expected, parts) in cases {
            let transaction = Transaction { domain, ops };
            assert_eq!(reliance(&transaction), expected, "{transaction:?}");
            assert_eq!(loosened(vec![transaction.clone()]).len(), parts, "{transaction:?}");
        }
        let of = |op| Transaction { domain: Domain::Sysctls, ops: vec![op] };
        assert!(opens_forwarding(&of(open)) && !opens_forwarding(&of(close)));
    }

    #[test]
    fn sets_go_each_by_itself() {
        let destroy = |name: &str| NetworkOp::DestroySet { name: SetName(name.into()) };
        let ops = vec![destroy("a"), destroy("b")];
        let split = one_by_one(vec![Transaction { domain: Domain::Sets, ops }]);
        assert_eq!(split.iter().map(|t| t.ops.len()).collect::<Vec<_>>(), [1, 1]);
    }
}
