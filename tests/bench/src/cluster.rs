//! The cluster that is served: Mappings with a Service of two endpoints each, and what changes in it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use smartnat_core::model::{
    ClusterObject, EndpointSlice, Family, ObjectKey, ObjectKind, Protocol, SliceEndpoint, SlicePort,
};
use smartnat_sim::scenario::{mapping, service, without_mapping, without_service};

/// Mappings on one external address: an address's chain of iptables grows with them and no further.
pub(crate) const ON_ONE_ADDRESS: u32 = 100;
/// Most Mappings: their endpoints and addresses have to fit the networks below.
pub(crate) const MAX_MAPPINGS: u32 = 100_000;
/// Port of every endpoint.
pub(crate) const TARGET_PORT: u16 = 8080;
/// Network of the external addresses.
pub(crate) const EXTERNAL_NETWORK: &str = "198.51.96.0/20";
/// Network of all endpoints, former and future ones included.
pub(crate) const POD_NETWORK: &str = "10.0.0.0/9";

/// External port of the first Mapping on an address.
const FIRST_PORT: u16 = 10_000;
/// External port of the Mapping whose pods are replaced one after the other.
const FLEET_PORT: u16 = 9000;
/// Endpoints in one slice, as a cluster cuts them.
const IN_ONE_SLICE: u32 = 100;

const FIRST_EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FIRST_POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FIRST_SPARE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const FIRST_OF_FLEET: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const FIRST_SUCCESSOR: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn at(first: Ipv4Addr, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + offset)
}

fn name(number: u32) -> String {
    format!("m{number}")
}

fn port(number: u32) -> u16 {
    FIRST_PORT + u16::try_from(number % ON_ONE_ADDRESS).expect("less than a hundred")
}

/// External addresses that so many Mappings need, and one more Mapping.
pub(crate) fn externals(size: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..=size / ON_ONE_ADDRESS).map(|n| at(FIRST_EXTERNAL, n))
}

/// External endpoint of a Mapping.
pub(crate) fn external(number: u32) -> SocketAddr {
    SocketAddr::new(at(FIRST_EXTERNAL, number / ON_ONE_ADDRESS).into(), port(number))
}

/// Both endpoints of a Mapping.
pub(crate) fn endpoints(number: u32) -> [SocketAddr; 2] {
    [0, 1].map(|which| SocketAddr::new(at(FIRST_POD, 2 * number + which).into(), TARGET_PORT))
}

/// A Mapping of a TCP port with its Service; `datagrams` adds the UDP port of the same number.
fn served(number: u32, datagrams: bool) -> Vec<ClusterObject> {
    let (name, port) = (name(number), port(number));
    let mut target =
        service(&name).port("tcp", Protocol::Tcp, port, TARGET_PORT).ready(&pod(number, 0));
    target = target.ready(&pod(number, 1));
    let to = external(number).ip().to_string();
    let mut source = mapping(&name).created(1).address(&to).tcp(port);
    if datagrams {
        target = target.port("udp", Protocol::Udp, port, TARGET_PORT);
        source = source.udp(port);
    }
    let mut objects = target.build();
    objects.push(source.build());
    objects
}

fn pod(number: u32, which: u32) -> String {
    at(FIRST_POD, 2 * number + which).to_string()
}

/// So many Mappings; the last one, on which traffic is measured, has a UDP port as well.
pub(crate) fn many(size: u32) -> Vec<ClusterObject> {
    (0..size).flat_map(|number| served(number, number + 1 == size)).collect()
}

/// One of the two endpoints of a Mapping in the middle is replaced, back and forth.
pub(crate) fn one_endpoint(size: u32, turn: u32) -> Vec<ClusterObject> {
    let number = size / 2;
    let last = number + 1 == size;
    let spare = IpAddr::from(at(FIRST_SPARE, number));
    let mut objects = served(number, last);
    objects.retain(|o| matches!(o, ClusterObject::EndpointSlice(s) if s.family == Family::V4));
    for object in &mut objects {
        if let ClusterObject::EndpointSlice(slice) = object
            && turn.is_multiple_of(2)
        {
            Arc::make_mut(slice).endpoints[1].addresses = vec![spare];
        }
    }
    objects
}

/// One Mapping more, with its Service.
pub(crate) fn one_more(size: u32) -> Vec<ClusterObject> {
    served(size, false)
}

/// That one goes again.
pub(crate) fn one_less(size: u32) -> Vec<ClusterObject> {
    let name = name(size);
    let mut gone = without_service(&name);
    gone.push(without_mapping(&name));
    gone
}

/// A Mapping of a Service with so many pods, in slices as a cluster cuts them.
pub(crate) fn fleet(pods: u32) -> Vec<ClusterObject> {
    let mut objects = service("fleet").port("tcp", Protocol::Tcp, FLEET_PORT, TARGET_PORT).build();
    objects.retain(|object| matches!(object, ClusterObject::Service(_)));
    objects.extend((0..pods.div_ceil(IN_ONE_SLICE)).map(|slice| fleet_slice(slice, pods, 0)));
    let to = FIRST_EXTERNAL.to_string();
    objects.push(mapping("fleet").created(1).address(&to).tcp(FLEET_PORT).build());
    objects
}

/// That Mapping with its Service goes.
pub(crate) fn without_fleet(pods: u32) -> Vec<ClusterObject> {
    let key = |name: String| ObjectKey::new("default", name);
    let slices = (0..pods.div_ceil(IN_ONE_SLICE)).map(|slice| {
        ClusterObject::Deleted(ObjectKind::EndpointSlice, key(format!("fleet-{slice}")))
    });
    let service = ClusterObject::Deleted(ObjectKind::Service, key("fleet".into()));
    slices.chain([service, without_mapping("fleet")]).collect()
}

/// The pod of this number is replaced by its successor, after all before it.
pub(crate) fn replace(number: u32, pods: u32) -> Vec<ClusterObject> {
    vec![fleet_slice(number / IN_ONE_SLICE, pods, number + 1)]
}

fn fleet_slice(slice: u32, pods: u32, replaced: u32) -> ClusterObject {
    let numbers = slice * IN_ONE_SLICE..pods.min((slice + 1) * IN_ONE_SLICE);
    let endpoint = |number| {
        let first = if number < replaced { FIRST_SUCCESSOR } else { FIRST_OF_FLEET };
        let addresses = vec![at(first, number).into()];
        SliceEndpoint { addresses, ready: true, serving: true, terminating: false }
    };
    ClusterObject::from(EndpointSlice {
        key: ObjectKey::new("default", format!("fleet-{slice}")),
        service_name: "fleet".into(),
        family: Family::V4,
        ports: vec![SlicePort {
            name: "tcp".into(),
            protocol: Protocol::Tcp,
            port: Some(TARGET_PORT),
        }],
        endpoints: numbers.map(endpoint).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ipnet::Ipv4Net;

    use super::*;

    fn addresses(objects: &[ClusterObject]) -> BTreeSet<IpAddr> {
        let slices = objects.iter().filter_map(|object| match object {
            ClusterObject::EndpointSlice(slice) => Some(slice),
            _ => None,
        });
        slices.flat_map(|s| &s.endpoints).flat_map(|e| e.addresses.clone()).collect()
    }

    #[test]
    fn the_largest_cluster_fits_its_networks_and_shares_nothing() {
        let pods: Ipv4Net = POD_NETWORK.parse().unwrap();
        let outside: Ipv4Net = EXTERNAL_NETWORK.parse().unwrap();
        let ends: BTreeSet<SocketAddr> = (0..=MAX_MAPPINGS).map(external).collect();
        assert_eq!(ends.len(), MAX_MAPPINGS as usize + 1, "each has its own external endpoint");
        assert!(externals(MAX_MAPPINGS).all(|address| outside.contains(&address)));
        assert_eq!(
            externals(MAX_MAPPINGS).last().map(IpAddr::from),
            Some(external(MAX_MAPPINGS).ip())
        );
        let last = MAX_MAPPINGS;
        for address in
            [at(FIRST_POD, 2 * last + 1), at(FIRST_SPARE, last), at(FIRST_SUCCESSOR, last)]
        {
            assert!(pods.contains(&address), "{address}");
        }
        assert!(
            at(FIRST_POD, 2 * last + 1) < FIRST_SPARE && at(FIRST_SPARE, last) < FIRST_OF_FLEET
        );
    }

    #[test]
    fn an_endpoint_goes_back_and_forth() {
        let before =
            addresses(&many(5)).into_iter().filter(|a| addresses(&one_endpoint(5, 1)).contains(a));
        assert_eq!(before.count(), 2, "there it is as it was");
        let there = addresses(&one_endpoint(5, 0));
        assert_eq!(there.intersection(&addresses(&many(5))).count(), 1);
        assert_eq!(there.len(), 2);
    }

    #[test]
    fn a_rolling_update_replaces_each_pod_once() {
        let mut now = addresses(&fleet(250));
        let first = now.clone();
        assert_eq!(now.len(), 250);
        let mut slices: Vec<Vec<ClusterObject>> =
            (0..3).map(|s| vec![fleet_slice(s, 250, 0)]).collect();
        for number in 0..250 {
            slices[number as usize / 100] = replace(number, 250);
            let next = addresses(&slices.concat());
            assert_eq!((next.len(), next.difference(&now).count()), (250, 1), "pod {number}");
            now = next;
        }
        assert!(now.is_disjoint(&first));
    }
}
