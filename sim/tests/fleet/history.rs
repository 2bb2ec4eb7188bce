//! T19, T20, T21, T22, T23, P14, P15: whatever happens to a fleet, nothing happens that must never
//! happen, and once faults stop it becomes what a fleet without a past would be.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;
use smartnat_core::coordination::LeaseName;
use smartnat_core::model::{Backend, ClusterObject, ObjectKey, ObjectKind, Protocol};
use smartnat_sim::api_server::Kind;
use smartnat_sim::fleet::{Fleet, Link, UPLINK};
use smartnat_sim::scenario::{MappingBuilder, mapping, service, without_service};

use crate::common::on_backend;
use crate::setup::{HOSTS, fleet, ip, last_writes, writes};
use crate::story::{ADDRESSES, Claim, MAPPINGS, Step, Story, stories};

/// Cases without `PROPTEST_CASES`: some ten seconds in a debug build on two cores.
const CASES: u32 = 64;
/// Within this time the longest pause, Lease and patience are over, one after the other.
const CALM_MILLIS: u64 = 70_000;

fn cases() -> ProptestConfig {
    let regressions = FileFailurePersistence::Direct("tests/regressions/fleet.txt");
    let asked = ProptestConfig::default();
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked_for { asked.cases } else { CASES },
        failure_persistence: Some(Box::new(regressions)),
        max_shrink_iters: 3_000,
        ..asked
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_history_is_safe_and_ends_as_a_fresh_start(
        story in stories(1..25),
        backend in select(vec![Backend::Iptables, Backend::Nftables]),
    ) {
        on_backend(backend, || live(&story))
            .map_err(|what| TestCaseError::fail(format!("\n{story}{what}")))?;
    }
}

fn live(story: &Story) -> Result<(), String> {
    let mut fleet = fleet(story.hosts);
    for namespace in ["default", "team"] {
        happen(&mut fleet, &Step::Endpoints(namespace, Some(1)));
    }
    for (number, step) in story.steps.iter().enumerate() {
        happen(&mut fleet, step);
        safe(&fleet).map_err(|what| format!("At sentence {}: {what}", number + 2))?;
    }
    heal(&mut fleet, story.all_return);
    fleet.advance(CALM_MILLIS);
    let before = writes(&fleet);
    fleet.advance(30_000);
    safe(&fleet)?;
    if writes(&fleet) != before {
        return Err(format!("It goes on writing: {:#?}", last_writes(&fleet)));
    }
    as_fresh(&mut fleet)
}

fn safe(fleet: &Fleet) -> Result<(), String> {
    fleet.violations().first().map_or(Ok(()), |what| Err(format!("{what}.")))
}

fn as_fresh(fleet: &mut Fleet) -> Result<(), String> {
    if !fleet.settle(8_000, 8_000) {
        return Err("A gateway is not in sync.".into());
    }
    let mut fresh = fleet.afresh();
    fresh.settle(8_000, 80_000);
    let (now, fresh) = (fleet.picture(), fresh.picture());
    for (key, said) in &now.mappings {
        if fresh.mappings.get(key) != Some(said) {
            let wanted = fresh.mappings.get(key);
            return Err(format!("Of {key} it says {said:#?}\ninstead of {wanted:#?}"));
        }
    }
    let differs = |(host, kernel)| fresh.kernels.get(host) != Some(kernel);
    match now.kernels.iter().find(|entry| differs(*entry)) {
        Some((host, kernel)) => {
            Err(format!("{host} holds {kernel:#?}\ninstead of {:#?}", fresh.kernels[host]))
        }
        None => Ok(()),
    }
}

/// Nothing goes wrong any more, and somebody is there.
fn heal(fleet: &mut Fleet, all_return: bool) {
    let hosts: Vec<String> = fleet.hosts().map(str::to_owned).collect();
    for host in &hosts {
        *fleet.link(host) = Link::default();
        fleet.pace(host, 3);
        fleet.kernel_mut(host).clear_faults();
    }
    // Who is about to end does so.
    fleet.advance(2_000);
    let nobody = !hosts.iter().any(|host| fleet.runs(host));
    for (number, host) in hosts.iter().enumerate() {
        if all_return || nobody && number == 0 {
            fleet.power_on(host);
        }
    }
}

fn key(at: usize) -> ObjectKey {
    ObjectKey::new(MAPPINGS[at].0, MAPPINGS[at].1)
}

fn happen(fleet: &mut Fleet, step: &Step) {
    match step {
        Step::Claim(at, claim) => fleet.put(claimed(*at, *claim)),
        Step::Delete(at) => fleet.put(ClusterObject::Deleted(ObjectKind::Mapping, key(*at))),
        Step::Strip(at) => fleet.strip_finalizer(&key(*at)),
        Step::Endpoints(namespace, count) => {
            for object in endpoints(namespace, *count) {
                fleet.put(object);
            }
        }
        Step::Outage(outage) => {
            let hosts: Vec<String> = fleet.hosts().map(str::to_owned).collect();
            for host in hosts {
                fleet.link(&host).reachable = !outage;
            }
        }
        Step::Wait(millis) => fleet.advance(*millis),
        of_host => happen_to_host(fleet, of_host),
    }
}

fn happen_to_host(fleet: &mut Fleet, step: &Step) {
    let name = |host: &usize| HOSTS[*host].0;
    match step {
        Step::Kill(host, operations) => fleet.kill(name(host), *operations),
        Step::Start(host, back) => {
            let lists: BTreeMap<Kind, usize> = Kind::ALL.map(|kind| (kind, *back)).into();
            fleet.start(name(host), &lists);
        }
        Step::Stop(host) => fleet.stop(name(host)),
        Step::PowerOff(host) => fleet.power_off(name(host)),
        Step::PowerOn(host) => fleet.power_on(name(host)),
        Step::Address(host, at) => toggle(fleet, name(host), ADDRESSES[*at]),
        Step::CutOff(host, off) => fleet.link(name(host)).reachable = !off,
        Step::Lag(host, kind, lag) => {
            fleet.link(name(host)).lag.insert(*kind, *lag);
        }
        Step::SlowWrites(host, to, fro) => {
            let link = fleet.link(name(host));
            (link.request_millis, link.answer_millis) = (*to, *fro);
        }
        Step::SlowKernel(host, millis) => fleet.pace(name(host), *millis),
        Step::CutWatch(host, kind, back) => fleet.cut(name(host), *kind, *back),
        Step::FailWrites(host, fault, count) => {
            fleet.link(name(host)).faults.extend(std::iter::repeat_n(*fault, *count));
        }
        Step::FailOperation(host, n, class) => fleet.kernel_mut(name(host)).fail_nth(*n, *class),
        Step::DeleteLease(host) => fleet.delete_lease(&LeaseName::Instance(name(host).into())),
        _ => {}
    }
}

fn claimed(at: usize, claim: Claim) -> ClusterObject {
    let (namespace, name) = MAPPINGS[at];
    let named = mapping(name).namespace(namespace).service("echo").tcp(claim.port);
    let aged = named.created(10 + at as u64);
    claim.addresses().fold(aged, MappingBuilder::address).build()
}

fn endpoints(namespace: &str, count: Option<usize>) -> Vec<ClusterObject> {
    let Some(count) = count else {
        let into = |key: ObjectKey| ObjectKey::new(namespace, key.name);
        let gone = without_service("echo").into_iter();
        return gone
            .map(|object| match object {
                ClusterObject::Deleted(kind, key) => ClusterObject::Deleted(kind, into(key)),
                other => other,
            })
            .collect();
    };
    let ports = [80, 81, 82].into_iter();
    let echo = ports.fold(service("echo").namespace(namespace), |s, port| {
        s.port(&format!("p{port}"), Protocol::Tcp, port, 8000 + port)
    });
    (0..count).fold(echo, |s, pod| s.ready(&format!("10.1.0.{}", 7 + pod))).build()
}

fn toggle(fleet: &mut Fleet, host: &str, address: &str) {
    let uplink = fleet.kernel(host).links().get(UPLINK);
    let has = uplink.is_some_and(|l| l.addresses.iter().any(|a| a.address.addr() == ip(address)));
    if has {
        fleet.remove_address(host, ip(address));
    } else {
        fleet.add_address(host, &format!("{address}/24"));
    }
}
