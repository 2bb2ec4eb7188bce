//! A transaction on one table as the input of `iptables-restore --noflush`.

use std::collections::BTreeMap;

use super::render_rule;
use crate::objects::{ChainName, XtTableId};
use crate::ops::NetworkOp;

/// What a line of a restore input asks for; tells what its failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineKind {
    /// `*TABLE`.
    Table,
    /// `:CHAIN - [0:0]`: creates a chain or empties it.
    DeclareChain,
    /// `-A` or `-I`.
    AddRule,
    /// `-D`.
    DeleteRule,
    /// `-F`.
    FlushChain,
    /// `-X`.
    DeleteChain,
    /// `COMMIT`: the kernel refuses the table as a whole.
    Commit,
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RestoreLine {
    /// What it asks for.
    pub kind: LineKind,
    /// Index of the operation behind it; none for `*TABLE` and `COMMIT`.
    pub op: Option<usize>,
}

/// Text for `iptables-restore --noflush` and where each line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreInput {
    /// The text.
    pub text: String,
    lines: Vec<RestoreLine>,
}

impl RestoreInput {
    /// The line with this number, counted from 1 as the programs do.
    pub fn line(&self, number: usize) -> Option<RestoreLine> {
        number.checked_sub(1).and_then(|index| self.lines.get(index)).copied()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.op.is_none())
    }

    fn push(&mut self, kind: LineKind, op: Option<usize>, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        self.lines.push(RestoreLine { kind, op });
    }
}

/// The operations of [`crate::ops::Domain::Xtables`] on table `id`, as text. Chains are declared
/// first, so that rules may jump to chains that come later, and those to be deleted are flushed
/// first, so that the order in which chains that jump to each other go does not matter. Operations
/// of other domains and [`NetworkOp::DeleteEmptyBuiltin`], for which there is no text, are left out.
pub fn render_transaction(id: XtTableId, ops: &[NetworkOp]) -> RestoreInput {
    let mut input = RestoreInput { text: String::new(), lines: Vec::new() };
    input.push(LineKind::Table, None, &format!("*{}", id.table.name()));
    // A declaration empties the chain, so of several replacements only the last has effect.
    let mut last_put: BTreeMap<&ChainName, usize> = BTreeMap::new();
    for (index, op) in ops.iter().enumerate() {
        if let NetworkOp::PutChain { chain, .. } = op {
            last_put.insert(chain, index);
        }
    }
    for (index, op) in ops.iter().enumerate() {
        if let NetworkOp::PutChain { chain, .. } = op
            && last_put.get(chain) == Some(&index)
        {
            input.push(LineKind::DeclareChain, Some(index), &format!(":{} - [0:0]", safe(chain)));
        }
    }
    for (index, op) in ops.iter().enumerate() {
        if let NetworkOp::DeleteChain { chain } = op {
            input.push(LineKind::FlushChain, Some(index), &format!("-F {}", safe(chain)));
        }
    }
    for (index, op) in ops.iter().enumerate() {
        let superseded =
            matches!(op, NetworkOp::PutChain { chain, .. } if last_put.get(chain) != Some(&index));
        if !superseded {
            push_op(&mut input, id, index, op);
        }
    }
    input.push(LineKind::Commit, None, "COMMIT");
    input
}

fn push_op(input: &mut RestoreInput, id: XtTableId, index: usize, op: &NetworkOp) {
    let op_index = Some(index);
    match op {
        NetworkOp::PutChain { chain, rules } => {
            let chain = safe(chain);
            for rule in rules {
                let line = format!("-A {chain} {}", render_rule(id.family, rule));
                input.push(LineKind::AddRule, op_index, &line);
            }
        }
        NetworkOp::DeleteChain { chain } => {
            input.push(LineKind::DeleteChain, op_index, &format!("-X {}", safe(chain)));
        }
        NetworkOp::InsertJump { hook, rule } => {
            let line = format!("-I {} 1 {}", hook.name(), render_rule(id.family, rule));
            input.push(LineKind::AddRule, op_index, &line);
        }
        NetworkOp::DeleteJump { hook, rule } => {
            let line = format!("-D {} {}", hook.name(), render_rule(id.family, rule));
            input.push(LineKind::DeleteRule, op_index, &line);
        }
        _ => {}
    }
}

/// The name of a chain; what would end or split the line becomes `?`.
fn safe(chain: &ChainName) -> String {
    chain.0.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
