//! Generated objects: few names, addresses and ports, so that they meet.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use smartnat_core::model::{ClusterObject, Protocol};
use smartnat_sim::scenario::{mapping, service};

use crate::common::*;

/// Mappings are `m0` to `m3`.
pub(crate) const MAPPINGS: usize = 4;
/// Services are `s0` to `s2`.
pub(crate) const SERVICES: usize = 3;

const ADDRESSES: [&str; 7] = [EXT1, EXT1_B, EXT1_V6, EXT2, EXT2_V6, "192.0.2.99", "10.0.0.2"];
const SOURCES: [&str; 6] =
    ["192.0.2.0/24", "192.0.2.0/25", "192.0.2.200", "0.0.0.0/0", "2001:db8:c::/48", "::/0"];

/// Protocol, first port, last port, Service port.
type Port = (Protocol, u16, Option<u16>, Option<&'static str>);

const PORTS: [Port; 8] = [
    (Protocol::Tcp, 80, None, None),
    (Protocol::Tcp, 81, None, Some("http")),
    (Protocol::Tcp, 80, Some(90), None),
    (Protocol::Udp, 5000, Some(5003), None),
    (Protocol::Udp, 5002, None, Some("5000")),
    (Protocol::Udp, 6000, Some(6003), Some("5000")),
    (Protocol::Tcp, 99, None, Some("nobody")),
    (Protocol::Sctp, 80, None, None),
];

/// A Mapping of one of the names, at times one that is rejected.
pub(crate) fn a_mapping() -> impl Strategy<Value = ClusterObject> {
    (0..MAPPINGS).prop_flat_map(|n| a_mapping_named(&format!("m{n}")))
}

/// A Mapping of this name.
pub(crate) fn a_mapping_named(name: &str) -> impl Strategy<Value = ClusterObject> + use<> {
    (
        Just(name.to_owned()),
        0..SERVICES,
        subsequence(ADDRESSES.to_vec(), 1..4),
        subsequence(SOURCES.to_vec(), 0..4),
        subsequence(PORTS.to_vec(), 1..4),
        proptest::option::of(0..3_u64),
        proptest::option::of(any::<bool>()),
        any::<bool>(),
    )
        .prop_map(|(name, to, addresses, sources, ports, created, masquerade, egress)| {
            let mut builder = mapping(&name).service(&format!("s{to}")).egress(egress);
            for address in addresses {
                builder = builder.address(address);
            }
            for source in sources {
                builder = builder.source(source);
            }
            for (protocol, first, last, target) in ports {
                builder = builder.port(protocol, first, last, target);
            }
            if let Some(seconds) = created {
                builder = builder.created(seconds);
            }
            if let Some(on) = masquerade {
                builder = builder.masquerade(on);
            }
            builder.build()
        })
}

/// A Service with up to five endpoints in all states.
pub(crate) fn a_service() -> impl Strategy<Value = Vec<ClusterObject>> {
    let pods =
        ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "fd01::1", "fd01::2"].map(str::to_owned);
    // Ready, serving, terminating.
    let state = select(vec![
        (true, true, false),
        (true, true, false),
        (false, true, true),
        (false, true, false),
        (false, false, false),
        (false, false, true),
    ]);
    (
        0..SERVICES,
        subsequence(pods.to_vec(), 0..6),
        proptest::collection::vec(state, 6),
        proptest::option::weighted(0.3, 1..3_u32),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(name, pods, states, affinity, publish)| {
            let mut builder = service(&format!("s{name}"))
                .port("http", Protocol::Tcp, 80, 8080)
                .port("", Protocol::Udp, 5000, 6000);
            for (pod, (ready, serving, terminating)) in pods.iter().zip(states) {
                builder = builder.endpoint(pod, ready, serving, terminating);
            }
            if let Some(hours) = affinity {
                builder = builder.affinity(hours * 3600);
            }
            if publish {
                builder = builder.publish_not_ready();
            }
            builder.build()
        })
}

/// Objects of a cluster, each at most once.
pub(crate) fn cluster() -> impl Strategy<Value = Vec<ClusterObject>> {
    let services = proptest::collection::vec(a_service(), 0..4);
    let mappings = proptest::collection::vec(a_mapping(), 0..5);
    (services, mappings).prop_map(|(services, mappings)| {
        let state = common_cluster(services.concat().into_iter().chain(mappings));
        let mappings = state.mappings.into_values().map(ClusterObject::Mapping);
        let services = state.services.into_values().map(ClusterObject::Service);
        let slices = state.slices.into_values().map(ClusterObject::EndpointSlice);
        mappings.chain(services).chain(slices).collect()
    })
}

fn common_cluster(
    objects: impl Iterator<Item = ClusterObject>,
) -> smartnat_core::model::ClusterState {
    crate::common::cluster(&objects.collect::<Vec<_>>())
}
