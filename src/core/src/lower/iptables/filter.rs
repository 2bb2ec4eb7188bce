//! Table filter: our connections pass (a DROP policy of others notwithstanding), and
//! who finds nobody home is told so at once (T6).

use super::TableBuilder;
use super::rules::{Narrow, accept, drop, new, packet_mark, rule};
use crate::dataplane::Dataplane;
use crate::model::Protocol;
use crate::names::fixed_chain;
use crate::objects::{BuiltinHook, RejectWith, XtRule, XtTableState, XtTarget};

pub(super) fn table(dataplane: &Dataplane) -> XtTableState {
    let marks = dataplane.marks;
    let mut table = TableBuilder::default();

    let mut input = nobody_home(marks.ours);
    input.push(accept().with(marks.translated()));
    table.hooked_chain(&[BuiltinHook::Input], fixed_chain("INPUT"), input);

    // The host's own packets meet the nat table in OUTPUT, so its verdict falls here.
    let mut output = vec![drop().all([new(), packet_mark(marks.masquerade)])];
    output.extend(nobody_home(marks.ours));
    output.push(accept().with(marks.translated()));
    table.hooked_chain(&[BuiltinHook::Output], fixed_chain("OUTPUT"), output);

    table.hooked_chain(&[BuiltinHook::Forward], fixed_chain("FORWARD"), forward(dataplane));
    table.0
}

/// Only what accepts, for a dataplane in nftables: no verdict there keeps a packet from these
/// chains, in which others judge.
pub(super) fn acceptance(
    dataplane: &Dataplane,
    hooks: impl Iterator<Item = BuiltinHook>,
) -> XtTableState {
    let mut table = TableBuilder::default();
    for hook in hooks {
        let rules = match hook {
            BuiltinHook::Forward => forward(dataplane),
            // An endpoint on the host itself.
            _ => vec![accept().with(dataplane.marks.translated())],
        };
        table.hooked_chain(&[hook], fixed_chain(hook.name()), rules);
    }
    table.0
}

/// Our connections and those that pods open with egress.
fn forward(dataplane: &Dataplane) -> Vec<XtRule> {
    let marks = dataplane.marks;
    let mut rules = vec![accept().with(marks.translated())];
    for name in dataplane.uplinks.keys() {
        rules.push(accept().from_interface(name).with(marks.egress_connection()));
        rules.push(accept().to_interface(name).with(marks.egress_connection()));
    }
    rules
}

/// Only new connections: the answer itself carries the reflected mark.
fn nobody_home(bit: u32) -> Vec<XtRule> {
    vec![
        rule(XtTarget::Reject(RejectWith::TcpReset))
            .protocol(Protocol::Tcp)
            .all([new(), packet_mark(bit)]),
        rule(XtTarget::Reject(RejectWith::PortUnreachable)).all([new(), packet_mark(bit)]),
    ]
}
