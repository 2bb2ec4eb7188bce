//! How many packets a second the walk carries on one core, through the real ruleset of a gateway
//! with 1,001 Mappings. The figures are in docs/verification.md, section "Speed of the packet walk".

#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::net::IpAddr;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use smartnat_core::model::{ClusterObject, GatewayConfig, Protocol};
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service};
use smartnat_sim::topology::{StandardOptions, standard};
use smartnat_sim::walk::{Detail, Network, Outcome, Packet, TcpFlags, Trace};
use smartnat_sim::{Driver, SimHost, SimKernel};

/// Packets a sample.
const PACKETS: u16 = 1000;
/// Mappings beside the one that is used.
const OTHERS: u16 = 1000;

/// A gateway in sync with a Mapping and many others.
fn gateway(detail: Detail) -> SimHost {
    let topology = standard(StandardOptions::default());
    let mut network = Network::build(&topology, XtFlavour::Nft, 1).expect("the network is built");
    let config = GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() };
    let mut driver = Driver::new(config, SimKernel::new(XtFlavour::Nft));
    let used = mapping("used").service("echo").created(1).address("198.51.100.10");
    let mut objects: Vec<ClusterObject> = service("echo")
        .port("http", Protocol::Tcp, 8080, 8080)
        .ready("10.244.1.11")
        .ready("10.244.1.12")
        .build();
    objects.push(used.source("192.0.2.0/24").tcp(8080).build());
    objects.extend((0..OTHERS).map(|n| {
        let other = mapping(&format!("other{n}")).service("echo").address("198.51.100.11");
        other.port(Protocol::Tcp, 10_000 + n, None, Some("http")).build()
    }));
    network.drive("gateway", &mut driver, |driver| driver.start(objects)).expect("the gateway");
    assert!(driver.status().is_some_and(|s| s.in_sync));
    let mut host = network.host("gateway").expect("the gateway").clone();
    host.detail = detail;
    host
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn segment(port: u16, flags: TcpFlags) -> Packet {
    Packet::tcp((ip("192.0.2.10"), port), (ip("198.51.100.10"), 8080), flags)
}

fn carried(trace: &Trace) -> &Packet {
    match &trace.outcome {
        Outcome::Left { packet, .. } => packet,
        _ => panic!("it did not leave:\n{trace}"),
    }
}

/// Opens a connection; returns the client's packets and the pod's from then on.
fn open(host: &mut SimHost, port: u16) -> [Packet; 2] {
    let syn = host.receive("ext1", segment(port, TcpFlags::SYN)).expect("all is understood");
    let syn = *carried(&syn);
    let (source, destination) = syn.ports().expect("TCP has ports");
    let reply = |flags| Packet::tcp((syn.destination, destination), (syn.source, source), flags);
    host.receive("eth0", reply(TcpFlags::SYN_ACK)).expect("all is understood");
    [segment(port, TcpFlags::ACK), reply(TcpFlags::ACK)]
}

fn group(c: &mut Criterion) -> BenchmarkGroup<'_, WallTime> {
    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(u64::from(PACKETS)));
    group
}

fn established(c: &mut Criterion, name: &str, detail: Detail) {
    let mut host = gateway(detail);
    let connections: Vec<_> = (0..PACKETS / 2).map(|n| open(&mut host, 20_000 + n)).collect();
    group(c).bench_function(name, |b| {
        b.iter(|| {
            for [there, back] in &connections {
                let trace = host.receive("ext1", *there).expect("all is understood");
                black_box(carried(&trace));
                let trace = host.receive("eth0", *back).expect("all is understood");
                black_box(carried(&trace));
            }
        });
    });
}

fn first_packets(c: &mut Criterion, name: &str, detail: Detail) {
    let host = gateway(detail);
    group(c).bench_function(name, |b| {
        b.iter_batched_ref(
            || host.clone(),
            |host| {
                for port in 0..PACKETS {
                    let packet = segment(20_000 + port, TcpFlags::SYN);
                    let trace = host.receive("ext1", packet).expect("all is understood");
                    black_box(carried(&trace));
                }
            },
            BatchSize::SmallInput,
        );
    });
}

fn benches(c: &mut Criterion) {
    established(c, "established", Detail::Outcome);
    established(c, "established, with steps", Detail::Steps);
    first_packets(c, "first packets", Detail::Outcome);
    first_packets(c, "first packets, with steps", Detail::Steps);
}

criterion_group!(walk, benches);
criterion_main!(walk);
