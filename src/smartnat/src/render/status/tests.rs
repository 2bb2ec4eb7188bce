use std::collections::BTreeMap;
use std::sync::Arc;

use smartnat_core::model::ObjectKey;
use smartnat_core::status::{Condition, UplinkStatus};

use super::*;

fn condition_of(
    kind: &'static str,
    status: bool,
    why: &'static str,
    message: &'static str,
) -> Condition {
    Condition { kind: kind.into(), status, reason: why.into(), message: message.into() }
}

fn mapping(conditions: Vec<Condition>, ports: Vec<PortStatus>) -> MappingStatus {
    MappingStatus {
        uid: String::new(),
        observed_generation: 1,
        invalid: "no".into(),
        service_vip: None,
        configured_addresses: std::iter::empty().collect(),
        conditions,
        ports,
        pods: Vec::new(),
        released: false,
        remarks: Vec::new(),
    }
}

#[test]
fn every_mapping_has_a_line_and_every_failure_a_reason() {
    let address = "203.0.113.10".parse().expect("an address");
    let port = PortStatus {
        port: "tcp/8080".into(),
        endpoints: [(address, vec!["10.1.0.7:80".into(), "10.1.0.8:80".into()])]
            .into_iter()
            .collect(),
        waiting: None,
    };
    let waiting = PortStatus {
        port: "udp/53".into(),
        endpoints: [(address, Vec::new())].into_iter().collect(),
        waiting: Some("the Service has no port dns".into()),
    };
    let mut good = mapping(
        vec![
            condition_of(reason::ACCEPTED, true, reason::VALID, "valid"),
            condition_of(reason::PROGRAMMED, true, reason::SERVING, "served"),
        ],
        vec![port, waiting],
    );
    good.configured_addresses.insert(address, Vec::new());
    let bad = mapping(
        vec![
            condition_of(reason::ACCEPTED, false, reason::CONFLICT, "owned by a/good"),
            condition_of(reason::PROGRAMMED, false, reason::NOT_ACCEPTED, "not accepted"),
        ],
        Vec::new(),
    );
    let uplink =
        UplinkStatus { number: 1, addresses: vec![address], gateways: Vec::new(), guarded: true };
    let report = StatusReport {
        instance: "gw1".into(),
        read_back: true,
        unpublished: Vec::new(),
        in_sync: false,
        degraded: vec!["chain x: busy".into()],
        uplinks: BTreeMap::from([("eth1".to_owned(), uplink)]),
        mappings: [
            (ObjectKey::new("a", "bad"), Arc::new(bad)),
            (ObjectKey::new("a", "good"), Arc::new(good)),
        ]
        .into_iter()
        .collect(),
    };
    assert_eq!(
        status_text(&report),
        "Degraded: chain x: busy\n\
         \n\
         UPLINK  NUMBER  ADDRESSES     GATEWAYS  GUARD\n\
         eth1    1       203.0.113.10  -         on\n\
         \n\
         MAPPING  ACCEPTED       PROGRAMMED        ADDRESSES     PORTS            ENDPOINTS\n\
         a/bad    no (Conflict)  no (NotAccepted)  -             -                -\n\
         a/good   yes            yes               203.0.113.10  tcp/8080,udp/53  2,0\n\
         \n\
         a/bad: owned by a/good\n\
         a/good: port udp/53 waits: the Service has no port dns\n"
    );
}
