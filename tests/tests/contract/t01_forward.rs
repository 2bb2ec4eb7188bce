//! T1: a new connection from an allowed client is translated to one endpoint; replies carry the
//! external address and port.

use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, at, both_flavours, echo_on, servers};

fn objects() -> Vec<ClusterObject> {
    let all = SIDES.iter().fold(mapping("echo"), |m, side| m.address(side.external));
    [echo_on(&[1]), vec![all.tcp(8080).udp(5353).build()]].concat()
}

both_flavours!(a_client_reaches_the_pod_by_tcp_and_udp, |flavour| {
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, RigOptions::new(flavour), objects());
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let to = at(side.external, port);
            let outcome = ask(&rig.lab, protocol, side.client, side.source, to);
            assert_eq!(outcome.server(), Some("pod1"), "{side:?} {protocol}: {outcome}");
        }
    }
});
