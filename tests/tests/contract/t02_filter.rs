//! T2: from any other source it is dropped silently, and never reaches a socket of the host.

use smartnat::lab::traffic::Server;
use smartnat_core::model::Protocol;
use smartnat_sim::scenario::mapping;
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_tests::{Rig, RigOptions};

use super::common::{SIDES, ask, assert_silence, at, both_flavours, echo_on, ip, servers};

both_flavours!(a_refused_client_hears_nothing_and_the_host_neither, |flavour| {
    let all = SIDES.iter().fold(mapping("echo"), |m, s| m.address(s.external).source(s.source));
    let objects = [echo_on(&[1]), vec![all.tcp(8080).udp(5353).build()]].concat();
    // Without the guard, so that nothing else can drop what must be dropped here.
    let mut options = RigOptions::new(flavour);
    options.config.guard = false;
    let topology = standard(StandardOptions::default());
    let (rig, first) = Rig::start(&topology, options, objects);
    assert!(first.status.in_sync, "{:?}", first.events);
    let _servers = servers(&rig.lab);
    let external: Vec<_> = SIDES.iter().map(|s| ip(s.external)).collect();
    let host = Server::start_on(&rig.lab, "gateway", "host", &external, &[8080], &[5353])
        .expect("a socket of the host on the exposed ports");
    let mut refused = Vec::new();
    for side in SIDES {
        for (protocol, port) in [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)] {
            let to = at(side.external, port);
            let allowed = ask(&rig.lab, protocol, side.client, side.source, to);
            assert_eq!(allowed.server(), Some("pod1"), "{side:?} {protocol}: {allowed}");
            refused.push((protocol, side.client, side.refused, to));
        }
    }
    assert_silence(&rig.lab, &refused);
    assert_eq!(host.requests(), 0, "a socket of the host was reached");
});
