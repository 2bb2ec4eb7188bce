//! What one change costs the core as the number of Mappings grows, split by what the gateway
//! does: from the changed object to the first operation, what follows the operations, the
//! judgement of connections, and the comparison with what was read back. The simulated kernel's
//! own time is left out.

#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, WallTime};
use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use smartnat_core::gateway::{Gateway, Input, Output};
use smartnat_core::model::{Backend, ClusterObject, GatewayConfig, Protocol};
use smartnat_core::ops::Kernel;
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::scenario::{mapping, service, without_mapping, without_service};

/// Numbers of Mappings, each with a Service of two endpoints.
const SIZES: [usize; 4] = [1, 100, 1_000, 10_000];
/// Mappings on one external address: an address's chain grows with them and no further.
const ON_ONE_ADDRESS: usize = 100;

/// What the gateway does with its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Changed objects become operations.
    Decide,
    /// Operations were applied.
    Follow,
    /// Connections are judged.
    Judge,
    /// What was read back is compared, and the status is told.
    Verify,
}

const PARTS: [(&str, Option<Part>); 5] = [
    ("all", None),
    ("decide", Some(Part::Decide)),
    ("follow", Some(Part::Follow)),
    ("judge", Some(Part::Judge)),
    ("verify", Some(Part::Verify)),
];

fn address(n: usize) -> String {
    let at = n / ON_ONE_ADDRESS;
    format!("198.51.{}.{}", 100 + at / 250, 1 + at % 250)
}

/// A Mapping with its Service; `last` tells apart two states of the Service's endpoints.
fn served(n: usize, last: u8) -> Vec<ClusterObject> {
    let name = format!("echo{n}");
    let (high, low) = (n / 250, n % 250);
    let port = u16::try_from(10_000 + n % ON_ONE_ADDRESS).expect("a port");
    let mut objects = service(&name)
        .port("http", Protocol::Tcp, port, 8080)
        .ready(&format!("10.1.{high}.{low}"))
        .ready(&format!("10.{last}.{high}.{low}"))
        .build();
    objects.push(mapping(&name).created(1).address(&address(n)).tcp(port).build());
    objects
}

struct Bench {
    gateway: Gateway,
    kernel: SimKernel,
    spent: Vec<(Part, Duration)>,
}

impl Bench {
    /// A gateway in sync with so many Mappings.
    fn new(backend: Backend, size: usize) -> Self {
        let mut kernel = SimKernel::new(XtFlavour::Nft);
        kernel.add_link("ext1");
        for n in (0..=size).step_by(ON_ONE_ADDRESS) {
            kernel.add_address("ext1", &format!("{}/16", address(n)));
        }
        kernel.add_link("int0");
        kernel.add_address("int0", "10.0.0.2/24");
        kernel.add_host_route("0.0.0.0/0", Some("10.0.0.1"), "int0");
        let uplink_pattern = "ext1".into();
        let config = GatewayConfig { uplink_pattern, backend, ..GatewayConfig::default() };
        let mut bench = Self { gateway: Gateway::new(config), kernel, spent: Vec::new() };
        bench.feed(Part::Decide, Input::Host(bench.kernel.host()));
        let objects = (0..size).flat_map(|n| served(n, 2)).collect();
        bench.feed(Part::Decide, Input::Cluster(objects));
        assert!(bench.gateway.status().is_some_and(|s| s.in_sync && s.mappings.len() == size));
        bench
    }

    /// Takes in one input and all that follows, with the time that the gateway takes for each.
    fn feed(&mut self, part: Part, input: Input) {
        let mut next = Some((part, input));
        while let Some((part, input)) = next.take() {
            let now = self.kernel.now();
            let began = WallTime.start();
            self.gateway.handle_input(now, input);
            let mut spent = WallTime.end(began);
            loop {
                let began = WallTime.start();
                let output = self.gateway.poll_output();
                spent += WallTime.end(began);
                next = match output {
                    Some(Output::Observe(scope)) => {
                        let observed = self.kernel.observe(&scope).map(Box::new);
                        Some((Part::Verify, Input::Observed(observed)))
                    }
                    Some(Output::Apply(transaction)) => {
                        let applied = self.kernel.apply(&transaction);
                        Some((Part::Follow, Input::Applied(applied)))
                    }
                    Some(Output::ListFlows(filter)) => {
                        Some((Part::Judge, Input::Flows(self.kernel.flows(&filter))))
                    }
                    Some(Output::Status(_) | Output::Event(_)) => continue,
                    None => None,
                };
                break;
            }
            self.spent.push((part, spent));
        }
        self.kernel.take_log();
    }

    fn change(&mut self, objects: Vec<ClusterObject>, part: Option<Part>) -> Duration {
        self.spent.clear();
        tidy_up();
        self.feed(Part::Decide, Input::Cluster(objects));
        let counted = self.spent.iter().filter(|(of, _)| part.is_none_or(|part| part == *of));
        counted.map(|(_, spent)| *spent).sum()
    }
}

/// What was read back was just dropped: some hundred thousand pieces of memory, which the
/// allocator puts in order when it is next asked for a larger one. That is no part of a change.
fn tidy_up() {
    for size in 1..=64 {
        drop(black_box(Vec::<u8>::with_capacity(size * 2_000)));
    }
}

type Changes = fn(usize, u64) -> Vec<ClusterObject>;

/// One of two endpoints is replaced, back and forth.
fn endpoint(size: usize, turn: u64) -> Vec<ClusterObject> {
    let last = if turn.is_multiple_of(2) { 3 } else { 2 };
    let objects = served(size / 2, last).into_iter();
    objects.filter(|o| matches!(o, ClusterObject::EndpointSlice(_))).take(1).collect()
}

/// A Mapping comes with its Service, and goes.
fn added_and_deleted(size: usize, turn: u64) -> Vec<ClusterObject> {
    if turn.is_multiple_of(2) {
        return served(size, 2);
    }
    let name = format!("echo{size}");
    let mut gone = without_service(&name);
    gone.push(without_mapping(&name));
    gone
}

fn one_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let backends = [("nftables", Backend::Nftables), ("iptables", Backend::Iptables)];
    for (backend, size) in SIZES.iter().flat_map(|size| backends.map(|of| (of, *size))) {
        let mut bench = Bench::new(backend.1, size);
        let kinds: [(&str, Changes); 2] = [("endpoint", endpoint), ("mapping", added_and_deleted)];
        for (kind, changes) in kinds {
            for (name, part) in PARTS {
                // There and back; with nftables nothing is read back after a change.
                let once: Duration =
                    (0..2).map(|turn| bench.change(changes(size, turn), part)).sum();
                if once.is_zero() {
                    continue;
                }
                let function = format!("{kind}, {}/{name}", backend.0);
                group.bench_function(BenchmarkId::new(function, size), |b| {
                    b.iter_custom(|times| {
                        // There and back each time, so that each run ends where it began.
                        let mut spent = Duration::ZERO;
                        for turn in 0..times * 2 {
                            spent += bench.change(changes(size, turn), part);
                        }
                        spent / 2
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, one_change);
criterion_main!(benches);
