//! Conntrack entries.

use std::collections::BTreeSet;

use smartnat_core::objects::{FlowFilter, FlowKey, FlowTuple, Layer4};

use super::*;

fn tuple(source_port: u16) -> FlowTuple {
    FlowTuple {
        source: "192.0.2.1".parse().expect("an address"),
        destination: "203.0.113.10".parse().expect("an address"),
        protocol: 6,
        layer4: Layer4::Ports { source: source_port, destination: 80 },
    }
}

fn keys(kernel: &mut SimKernel, wanted: u32, bits: u32) -> Vec<FlowKey> {
    let flows =
        kernel.flows(&FlowFilter { mark: wanted, mask: bits }).expect("no fault is injected");
    flows.into_iter().map(|f| f.key).collect()
}

#[test]
fn flows_are_selected_by_masked_mark() {
    let mut kernel = kernel();
    let a = kernel.add_flow(tuple(1), tuple(1), 0x11);
    let b = kernel.add_flow(tuple(2), tuple(2), 0x21);
    let c = kernel.add_flow(tuple(3), tuple(3), 0x02);
    for (mark, mask, expected) in [
        (0, 0, vec![a, b, c]),
        (0x01, 0x0f, vec![a, b]),
        (0x11, 0xff, vec![a]),
        (0x02, 0x02, vec![c]),
        (0x13, 0x01, vec![]),
    ] {
        assert_eq!(keys(&mut kernel, mark, mask), expected, "{mark:#x}/{mask:#x}");
    }
}

#[test]
fn exactly_one_flow_is_deleted_and_a_missing_one_is_no_error() {
    let mut kernel = kernel();
    let old = kernel.add_flow(tuple(1), tuple(1), 0);
    let other = kernel.add_flow(tuple(2), tuple(2), 0);
    let ops = vec![NetworkOp::DeleteFlow(old), NetworkOp::DeleteFlow(old)];
    apply(&mut kernel, Domain::Flows, ops).expect("gone is gone");
    let successor = kernel.add_flow(tuple(1), tuple(1), 0);
    apply(&mut kernel, Domain::Flows, vec![NetworkOp::DeleteFlow(old)]).expect("gone is gone");
    let left: BTreeSet<FlowKey> = keys(&mut kernel, 0, 0).into_iter().collect();
    assert_eq!(left, BTreeSet::from([successor, other]));
}

#[test]
fn deletions_go_on_past_a_failure() {
    let mut kernel = kernel();
    let flows: Vec<_> = (1..=3).map(|port| kernel.add_flow(tuple(port), tuple(port), 0)).collect();
    kernel.fail_nth(2, OpErrorClass::Transient);
    let ops = flows.iter().map(|key| NetworkOp::DeleteFlow(*key)).collect();
    assert_eq!(class(apply(&mut kernel, Domain::Flows, ops)), Some(OpErrorClass::Transient));
    assert_eq!(keys(&mut kernel, 0, 0), [flows[1]]);
}
