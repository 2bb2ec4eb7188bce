//! How a story reads.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use smartnat_core::model::Protocol;
use smartnat_core::ops::OpErrorClass;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service, without_mapping};

use crate::host_events::Interference;
use crate::setup::Setup;
use crate::story::{Step, Story};

#[test]
fn a_story_reads_as_numbered_sentences() {
    let setup = Setup {
        backend: smartnat_core::model::Backend::Iptables,
        flavour: XtFlavour::Nft,
        guard: true,
        masquerade: true,
        egress: false,
        mark_mask: 0x00ff_0000,
        default_route: false,
        shared_subnet: true,
        others: true,
    };
    let web = mapping("m1").service("s0").created(1).address("203.0.113.10");
    let web = web.address("2001:db8:1::10").port(Protocol::Tcp, 80, Some(90), Some("http"));
    let services = service("s0")
        .port("http", Protocol::Tcp, 80, 8080)
        .affinity(3600)
        .ready("10.1.0.1")
        .draining("fd01::1");
    let index = any::<Index>().new_tree(&mut TestRunner::deterministic());
    let at = index.expect("a strategy without conditions").current();
    let steps = vec![
        Step::Cluster(vec![web.clone().source("192.0.2.0/24").build()]),
        Step::Cluster(services.build()),
        Step::Connect(at),
        Step::Fail(3, OpErrorClass::Busy),
        Step::Cluster(vec![web.masquerade(false).udp(53).build()]),
        Step::Interfere(Interference::FlushChain, at),
        Step::Flap("ext1"),
        Step::Crash(7),
        Step::Cluster(vec![without_mapping("m1")]),
        Step::Restart,
        Step::Wait(4_500),
    ];
    let story = Story { setup, steps, seed: 7 };
    insta::assert_snapshot!(story, @r"
    1. A gateway starts: iptables-nft, mark mask 0xff0000, guard on, masquerade on, egress off; uplinks ext1, ext2; no default route on int0; uplink ext3 in the subnet of ext1; others have rules too; seed 7.
    2. Mapping m1 is created: 203.0.113.10, 2001:db8:1::10; tcp 80-90 → http of s0; sources 192.0.2.0/24; created at 1 s.
    3. Service s0 is created: http tcp 80 → 8080; 10.1.0.1 ready, fd01::1 draining; a client stays 3600 s.
    4. A client connects, if any is let in.
    5. The operation after 2 more will fail: busy.
    6. Mapping m1 is changed: 203.0.113.10, 2001:db8:1::10; tcp 80-90 → http, udp 53 of s0; no masquerade; created at 1 s.
    7. Others flush a chain of ours.
    8. Link ext1 goes down, or up if it was down.
    9. The program dies after 7 operations.
    10. Mapping m1 is deleted.
    11. The program starts anew.
    12. 4500 ms pass.
    ");
}
