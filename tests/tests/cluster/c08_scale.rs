//! Thousands of Mappings: ready in seconds, told once, and then silence.

use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use smartnat::lab::traffic::{self, PATIENT};
use smartnat::lab::wait_until;

use crate::fleet::{Fleet, address_of, external, is_true, pod_address};
use crate::objects::{mapping, ready, service, slice};
use crate::requests::Requests;
use crate::station::Run;
use crate::variables;

/// Namespaces, and in each of them Services with Mappings.
const NAMESPACES: usize = 4;
const SERVICES: usize = 50;
const MAPPINGS: usize = 10;
const ALL: usize = NAMESPACES * SERVICES * MAPPINGS;
const FIRST_PORT: u16 = 10_000;
/// Pages of 500 that a list of all takes.
const PAGES: u64 = 5;
/// Longest wait for the status of all of them.
const TOLD: Duration = Duration::from_mins(3);
/// All is told when nothing was for so long: longer than anything waits before it is.
const SILENCE: Duration = Duration::from_secs(3);
/// How long it is to be quiet; `SMARTNAT_TEST_QUIET_SECONDS=60` is a minute.
const QUIET: u64 = 10;

fn namespace(number: usize) -> String {
    format!("scale-{number}")
}

fn port(number: usize) -> u16 {
    FIRST_PORT + u16::try_from(number).expect("few")
}

fn create(fleet: &Fleet, object: &Value) {
    let (api, _) = fleet.plane.api_of(object);
    let object = serde_json::from_value(object.clone()).expect("an object");
    fleet.plane.wait(api.create(&PostParams::default(), &object)).expect("it is accepted");
}

/// All objects of a namespace.
fn fill(fleet: &Fleet, number: usize) {
    let space = namespace(number);
    create(
        fleet,
        &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": space } }),
    );
    for svc in 0..SERVICES {
        let name = format!("svc-{svc}");
        create(fleet, &service(&space, &name, "http"));
        let endpoints = ready([pod_address(1)]);
        create(fleet, &slice(&space, &name, 1, &[("http", 8080)], &endpoints));
        for map in 0..MAPPINGS {
            let port = port((number * SERVICES + svc) * MAPPINGS + map);
            let mapping_name = format!("{name}-{map}");
            create(fleet, &mapping(&space, &mapping_name, &external(1), port, &name));
        }
    }
}

/// Waits until nothing but Leases has been written for a while.
fn wait_told(fleet: &Fleet) -> Requests {
    let mut last = (Requests::so_far(&fleet.plane), Instant::now());
    let told = wait_until(TOLD, || {
        thread::sleep(Duration::from_millis(200));
        let now = Requests::so_far(&fleet.plane);
        if !now.since(&last.0).without_leases().writes().is_empty() {
            last = (now, Instant::now());
            return None;
        }
        (last.1.elapsed() >= SILENCE).then_some(now)
    });
    told.unwrap_or_else(|| panic!("no end of writes"))
}

fn memory(run: &Run) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", run.id())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or_default().trim().to_owned()
}

/// All Mappings say that they are served, and what by.
fn assert_all_programmed(fleet: &Fleet) {
    let api = Api::<smartnat_cluster::api::Mapping>::all(fleet.plane.client());
    let all = fleet.plane.wait(api.list(&ListParams::default())).expect("the list");
    assert_eq!(all.items.len(), ALL + 1);
    for mapping in all {
        let mapping = json!(mapping);
        assert!(is_true(&mapping, "Accepted") && is_true(&mapping, "Programmed"), "{mapping:#}");
        let pods = &mapping["status"]["configuredAddresses"][external(1)]["podIPs"];
        assert_eq!(*pods, json!([pod_address(1)]), "{mapping:#}");
    }
}

/// No event of a start tells of trouble, since there was none. Returns how many Mappings had to
/// wait so long that this was told.
fn assert_no_trouble_told(fleet: &Fleet) -> u64 {
    let api = Api::<Event>::all(fleet.plane.client());
    let events = fleet.plane.wait(api.list(&ListParams::default())).expect("the list");
    let waiting = events.iter().filter(|event| match event.reason.as_deref() {
        Some("Accepted" | "Programmed") => false,
        Some("Pending") => true,
        _ => panic!("{:#}", json!(event)),
    });
    u64::try_from(waiting.count()).expect("few")
}

/// What is written after a change of the endpoints of one Mapping.
fn change_one(fleet: &Fleet, before: &Requests) {
    fleet.endpoints("default", &[1, 2]);
    fleet.wait_mapping("default", "echo", |m| m["status"]["endpoints"] == 2);
    let told = wait_told(fleet);
    let one = told.since(before);
    assert_eq!(one.of_verb("APPLY"), [("endpointslices", 1), ("mappings/status", 1)].into());
    assert_eq!(one.count("PATCH mappings") + one.count("POST events"), 0, "{one:?}");

    // A change that says nothing new.
    let object = slice("default", "echo", 1, &[], &[]);
    let (api, name) = fleet.plane.api_of(&object);
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "note": "nothing new" } } }));
    fleet.plane.wait(api.patch(&name, &PatchParams::default(), &patch)).expect("it is there");
    let nothing = wait_told(fleet).since(&told).without_leases();
    assert_eq!(nothing.of_verb("PATCH"), [("endpointslices", 1)].into(), "{nothing:?}");
    assert!(nothing.of_verb("APPLY").is_empty(), "{nothing:?}");
}

#[test]
fn two_thousand_mappings_are_told_once() {
    let Some(fleet) = Fleet::with_own_server(1) else { return };
    let begin = Instant::now();
    thread::scope(|scope| {
        for number in 0..NAMESPACES {
            let fleet = &fleet;
            scope.spawn(move || fill(fleet, number));
        }
    });
    fleet.echo("default", &[1]);
    fleet.map("default", "echo", &[1]);
    eprintln!("{ALL} Mappings, created in {:?}", begin.elapsed());

    let before = Requests::so_far(&fleet.plane);
    let begin = Instant::now();
    let run = fleet.serve(1);
    eprintln!("ready in {:?}, {}", begin.elapsed(), memory(&run));
    for number in [0, ALL / 2, ALL - 1] {
        let to = address_of(1, port(number));
        let outcome = traffic::connect_tcp(&fleet.station.lab, "client", None, to, PATIENT);
        assert_eq!(outcome.server(), Some("pod1"), "{to}: {outcome}");
    }
    // Later lists of one object ask how far the server is, where a watch had no sign of life.
    let lists = [("endpointslices", 1), ("leases", 1), ("mappings", PAGES), ("services", 1)];
    let listed = Requests::so_far(&fleet.plane).since(&before);
    assert_eq!(listed.of_verb("LIST"), lists.into(), "{}", run.log());
    let told = wait_told(&fleet);
    eprintln!("all told within {:?}, {}", begin.elapsed().saturating_sub(SILENCE), memory(&run));
    let first = told.since(&before);
    // What the instance says, and what the leader says of the whole.
    let needed = 2 * (ALL as u64 + 1) + assert_no_trouble_told(&fleet);
    assert_eq!(first.count("APPLY mappings/status"), needed, "{first:#?}");
    let told = Requests::so_far(&fleet.plane);

    thread::sleep(variables::seconds("SMARTNAT_TEST_QUIET_SECONDS", QUIET));
    let quiet = Requests::so_far(&fleet.plane).since(&told);
    assert!(quiet.count("PUT leases") > 0, "{quiet:?}");
    assert!(quiet.clone().without_leases().writes().is_empty(), "{quiet:?}");
    assert!(quiet.of_verb("LIST").values().all(|lists| *lists <= 1), "{quiet:?}");
    assert_all_programmed(&fleet);

    change_one(&fleet, &Requests::so_far(&fleet.plane));
    run.terminate();
    let before = Requests::so_far(&fleet.plane);
    let run = fleet.serve(1);
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    let again = wait_told(&fleet).since(&before).without_leases();
    assert_eq!(again.of_verb("LIST"), lists.into(), "{again:?}");
    assert!(again.of_verb("APPLY").is_empty() && again.of_verb("POST").is_empty(), "{again:?}");
    run.terminate();
}
