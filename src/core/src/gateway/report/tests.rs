use super::*;
use crate::compile::{UplinkNumbers, compile};
use crate::model::{HostState, InterfaceAddress, Link, Mapping, MappingPort, MappingSpec};
use crate::objects::KernelState;
use crate::ops::OpErrorClass;

fn config() -> GatewayConfig {
    GatewayConfig { uplink_pattern: "ext1".into(), ..GatewayConfig::default() }
}

fn key() -> ObjectKey {
    ObjectKey::new("default", "echo")
}

/// One Mapping on one uplink; its Service does not exist.
fn cluster() -> ClusterState {
    let mapping = Mapping {
        key: key(),
        uid: String::new(),
        generation: 3,
        created: None,
        deleting: false,
        spec: MappingSpec {
            addresses: vec!["203.0.113.10".into()],
            service_name: "echo".into(),
            ports: vec![MappingPort { port: Some(80), ..MappingPort::default() }],
            ..MappingSpec::default()
        },
    };
    ClusterState { mappings: [(key(), mapping.shared())].into(), ..ClusterState::default() }
}

fn compiled() -> Compiled {
    let address = "203.0.113.10/24".parse().expect("a network");
    let addresses = vec![InterfaceAddress { address, link_local: false }];
    let link = Link { index: 2, up: true, addresses };
    let host = HostState {
        links: [("ext1".into(), link)].into(),
        routes: Vec::new(),
        families: Family::ALL.to_vec(),
    };
    let (numbers, observed) = (UplinkNumbers::new(), KernelState::default());
    compile(&cluster(), &host, &config(), &numbers, &observed)
}

fn programmed_condition(outputs: &[Output]) -> Condition {
    let report = outputs.iter().find_map(|output| match output {
        Output::Status(report) => Some(report),
        _ => None,
    });
    let status = &report.expect("a status").mappings[&key()];
    assert_eq!(status.observed_generation, 3);
    let found = status.conditions.iter().find(|c| c.kind == reason::PROGRAMMED);
    found.expect("a condition").clone()
}

#[test]
fn what_was_read_back_is_programmed_and_told_once() {
    let mut reporter = Reporter::default();
    let events = reporter.compiled(&cluster(), &compiled(), &BTreeSet::new());
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::Accepted]);
    let outputs = reporter.publish(&config(), true, &[]);
    let condition = programmed_condition(&outputs);
    assert!(condition.status);
    assert_eq!(condition.reason, reason::WAITING, "its Service does not exist");
    assert_eq!(outputs.len(), 2, "the status and an event");
    assert_eq!(reporter.publish(&config(), true, &[]), []);
    assert_eq!(reporter.compiled(&cluster(), &compiled(), &BTreeSet::new()), []);
}

/// T21: neither before it was read back, nor when the kernel refused it.
#[test]
fn what_was_not_read_back_is_not_programmed() {
    let refusal = OpError::new(OpErrorClass::Busy, "set x", "in use");
    for (failures, expected) in
        [(vec![], reason::PENDING), (vec![refusal.clone()], reason::KERNEL_ERROR)]
    {
        let mut reporter = Reporter::default();
        reporter.compiled(&cluster(), &compiled(), &BTreeSet::new());
        let outputs = reporter.publish(&config(), false, &failures);
        let condition = programmed_condition(&outputs);
        assert!(!condition.status);
        assert_eq!(condition.reason, expected);
        assert_eq!(reporter.latest().map(|r| r.in_sync), Some(false));
        assert_eq!(reporter.latest().map(|r| r.degraded.len()), Some(failures.len()));
    }
}

/// T21: the kernel holds the last good dataplane, which says nothing about this generation.
#[test]
fn what_is_held_back_is_not_programmed() {
    let mut reporter = Reporter::default();
    let violation = Violation::NumberTwice { number: 4 };
    reporter.compiled(&cluster(), &compiled(), &[violation.clone()].into());
    let outputs = reporter.publish(&config(), true, &[]);
    let condition = programmed_condition(&outputs);
    assert!(!condition.status);
    assert_eq!(
        (&*condition.reason, &*condition.message),
        (reason::PENDING, &*violation.to_string())
    );
    let report = reporter.latest().expect("a status");
    assert!(!report.in_sync);
    assert_eq!(report.degraded, [violation.to_string()]);
    // The next good one is programmed again.
    reporter.compiled(&cluster(), &compiled(), &BTreeSet::new());
    assert!(programmed_condition(&reporter.publish(&config(), true, &[])).status);
}
