//! One instance, step by step.

mod trouble;

use imbl::OrdMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::status::{Condition, UplinkStatus, reason};

const LEASE: u64 = 15_000;
const PATIENCE: u64 = 60_000;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key() -> ObjectKey {
    ObjectKey::new("default", "echo")
}

fn coordinator() -> Coordinator {
    let config = CoordinationConfig {
        instance: "gw-a".into(),
        identity: "gw-a_1".into(),
        lease_millis: LEASE,
        max_finalize_millis: PATIENCE,
    };
    Coordinator::new(config, None)
}

fn report(held: &[&str], serving: &[&str], released: bool) -> StatusReport {
    let uplink = UplinkStatus {
        number: 1,
        addresses: held.iter().map(|a| address(a)).collect(),
        gateways: Vec::new(),
        guarded: true,
    };
    let condition = |kind: &'static str, status, why: &'static str| Condition {
        kind: kind.into(),
        status,
        reason: why.into(),
        message: "text".into(),
    };
    let programmed = match (serving.is_empty(), released) {
        (false, _) => condition(reason::PROGRAMMED, true, reason::SERVING),
        (true, true) => condition(reason::PROGRAMMED, false, reason::REMOVED),
        (true, false) => condition(reason::PROGRAMMED, false, reason::NO_INSTANCE),
    };
    let status = MappingStatus {
        uid: "u".into(),
        observed_generation: if released { 2 } else { 1 },
        invalid: "no".into(),
        service_vip: None,
        configured_addresses: serving.iter().map(|a| (address(a), Vec::new())).collect(),
        conditions: vec![condition(reason::ACCEPTED, true, reason::VALID), programmed],
        ports: Vec::new(),
        pods: vec![address("10.244.1.11")],
        released,
        remarks: Vec::new(),
    };
    StatusReport {
        instance: "gw-a".into(),
        in_sync: true,
        read_back: true,
        uplinks: [("eth1".to_owned(), uplink)].into(),
        mappings: OrdMap::unit(key(), status.into()),
        ..StatusReport::default()
    }
}

fn record(version: &str) -> MappingRecord {
    MappingRecord {
        uid: "u".into(),
        version: version.into(),
        generation: 1,
        addresses: [address("203.0.113.10")].into(),
        ..MappingRecord::default()
    }
}

fn lease(holder: &str, renewed: &str, addresses: &[&str]) -> LeaseRecord {
    LeaseRecord {
        holder: holder.into(),
        renewed: renewed.into(),
        duration_millis: LEASE,
        addresses: addresses.iter().map(|a| address(a)).collect(),
        version: renewed.into(),
    }
}

fn instance(name: &str) -> LeaseName {
    LeaseName::Instance(name.into())
}

/// An API server that does what it is told at once, and an operator who looks on.
struct Story {
    it: Coordinator,
    now: Timestamp,
    version: u64,
    leases: BTreeMap<LeaseName, LeaseRecord>,
    mapping: Option<MappingRecord>,
    published: Vec<BTreeSet<IpAddr>>,
    events: Vec<String>,
    notices: Vec<Notice>,
    writes: Vec<Write>,
}

impl Story {
    fn new() -> Self {
        Self {
            it: coordinator(),
            now: Timestamp(1_000_000),
            version: 100,
            leases: BTreeMap::new(),
            mapping: None,
            published: Vec::new(),
            events: Vec::new(),
            notices: Vec::new(),
            writes: Vec::new(),
        }
    }

    fn begin(leases: &[(LeaseName, LeaseRecord)], mapping: Option<MappingRecord>) -> Self {
        let mut story = Self::new();
        story.leases = leases.iter().cloned().collect();
        story.mapping = mapping;
        story.watch_leases();
        let mappings = story.mapping.clone().map(|m| (key(), Some(m))).into_iter().collect();
        story.input(Input::Mappings(mappings));
        story
    }

    fn watch_leases(&mut self) {
        let all = self.leases.clone().into_iter().map(|(n, r)| (n, Some(r))).collect();
        self.input(Input::Leases(all));
    }

    fn input(&mut self, input: Input) {
        self.it.handle_input(self.now, input);
        self.run();
    }

    fn run(&mut self) {
        while let Some(output) = self.it.poll_output() {
            match output {
                Output::Published(addresses) => self.published.push(addresses),
                Output::Event(event) => self.events.push(event.reason),
                Output::Notice(notice) => self.notices.push(notice),
                Output::Write(id, write) => {
                    let result = self.write(&write);
                    self.writes.push(write);
                    self.it.handle_input(self.now, Input::Written(id, result));
                }
            }
        }
    }

    fn write(&mut self, write: &Write) -> Result<Written, WriteError> {
        self.version += 1;
        let version = self.version.to_string();
        if let Write::Lease { name, replaces, holder, duration_millis, addresses } = write {
            let stored = self.leases.get(name).map(|r| r.version.clone());
            if stored != *replaces {
                return Err(WriteError::Conflict);
            }
            let record = LeaseRecord {
                holder: holder.clone(),
                renewed: version.clone(),
                duration_millis: *duration_millis,
                addresses: addresses.clone(),
                version,
            };
            self.leases.insert(name.clone(), record.clone());
            return Ok(Written::Lease(record));
        }
        let mapping = self.mapping.as_mut().ok_or(WriteError::NotFound)?;
        mapping.version = version;
        match write.clone() {
            Write::Entries { instance, entries, .. } => {
                mapping.entries.retain(|e| e.instance != instance);
                mapping.entries.extend(entries);
            }
            Write::Summary { summary, .. } => mapping.summary = *summary,
            Write::Finalizers { finalizers, .. } => mapping.finalizers = finalizers,
            Write::Lease { .. } => {}
        }
        if mapping.deleting && mapping.finalizers.is_empty() {
            self.mapping = None;
            return Ok(Written::Mapping(None));
        }
        Ok(Written::Mapping(self.mapping.clone().map(Box::new)))
    }

    /// Time passes second by second; the watch shows what was written.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus_millis(1_000);
            self.input(Input::Tick);
            self.watch_leases();
        }
    }

    fn delete(&mut self) {
        let mapping = self.mapping.as_mut().expect("it is there");
        mapping.deleting = true;
        mapping.generation = 2;
        self.version += 1;
        mapping.version = self.version.to_string();
        let mapping = mapping.clone();
        self.input(Input::Mappings([(key(), Some(mapping))].into()));
    }

    fn programmed(&self) -> (Truth, String) {
        let conditions = &self.mapping.as_ref().expect("it is there").summary.conditions;
        let condition = records::condition(conditions, reason::PROGRAMMED).expect("it is told");
        (condition.truth, condition.reason.clone())
    }

    fn set(&self) -> Vec<String> {
        self.published.last().into_iter().flatten().map(ToString::to_string).collect()
    }
}

#[test]
fn addresses_are_published_before_they_may_be_served_and_status_follows() {
    let mut story = Story::begin(&[], Some(record("1")));
    assert!(story.set().is_empty(), "nothing is known of the host yet");
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    assert_eq!(story.set(), ["203.0.113.10"]);
    let lease = &story.leases[&instance("gw-a")];
    assert_eq!(lease.addresses, [address("203.0.113.10")].into());
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))));
    assert_eq!(story.programmed(), (Truth::True, reason::SERVING.into()));
    assert_eq!(story.mapping.as_ref().expect("there").finalizers, [FINALIZER]);
    assert_eq!(story.events, ["Accepted", "Programmed"]);
    let quiet = story.writes.len();
    story.pass(4);
    assert_eq!(story.writes.len(), quiet, "nothing is written when nothing changes");
    story.pass(56);
    let only_leases = |w: &Write| matches!(w, Write::Lease { .. });
    assert!(story.writes[quiet..].iter().all(only_leases), "{:?}", &story.writes[quiet..]);
}

/// What the leader writes of the whole Mapping when nothing is answered.
fn summaries(story: &mut Story, input: Input) -> Vec<Summary> {
    story.it.handle_input(story.now, input);
    let outputs = std::iter::from_fn(|| story.it.poll_output());
    let summary = |output| match output {
        Output::Write(_, Write::Summary { summary, .. }) => Some(*summary),
        _ => None,
    };
    outputs.filter_map(summary).collect()
}

#[test]
fn an_address_that_is_about_to_be_published_has_an_instance() {
    let known = MappingRecord { finalizers: vec![FINALIZER.into()], ..record("1") };
    let mut story = Story::begin(&[], Some(known));
    let held = report(&["203.0.113.10"], &[], false);
    let written = summaries(&mut story, Input::Report(Box::new(held)));
    assert_eq!(written, [], "the Lease with the address is under way");
    // A Lease that can't be written does not hide it for ever.
    story.now = story.now.plus_millis(PENDING_MILLIS);
    let written = summaries(&mut story, Input::Tick);
    let programmed = records::condition(&written[0].conditions, reason::PROGRAMMED);
    assert_eq!(programmed.expect("told").reason, reason::NO_INSTANCE);
}

#[test]
fn a_deletion_waits_until_the_kernel_was_read_back() {
    let mut story = Story::begin(&[], Some(record("1")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))));
    story.delete();
    story.pass(1);
    assert!(story.mapping.is_some(), "the kernel may still hold it");
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], true))));
    assert_eq!(story.mapping, None);
}

#[test]
fn a_lapsed_instance_holds_up_a_deletion_no_longer_than_configured() {
    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let mut story = Story::begin(&[other], Some(record("1")));
    story.input(Input::Report(Box::new(report(&[], &[], false))));
    story.delete();
    story.input(Input::Report(Box::new(report(&[], &[], true))));
    story.pass(14);
    assert!(story.mapping.is_some(), "gw-b is alive and has not confirmed");
    story.pass(PATIENCE / 1_000 - 20);
    assert!(story.mapping.is_some(), "it lapsed and is waited for");
    story.pass(25);
    assert_eq!(story.mapping, None);
}

#[test]
fn an_outage_makes_nobody_lapse() {
    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let mut story = Story::begin(&[other], Some(record("1")));
    story.input(Input::Report(Box::new(report(&[], &[], false))));
    // Nothing comes through the watch for an hour.
    for _ in 0..3_600 {
        story.now = story.now.plus_millis(1_000);
        story.input(Input::Tick);
    }
    story.delete();
    story.input(Input::Report(Box::new(report(&[], &[], true))));
    story.pass(10);
    assert!(story.mapping.is_some(), "gw-b could not be seen renewing");
}

#[test]
fn an_address_waits_for_its_old_owner_yet_not_for_ever() {
    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let mut story = Story::begin(&[other], None);
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    assert!(story.set().is_empty(), "gw-b still has it");
    let lets_go = lease("gw-b_1", "8", &[]);
    story.leases.insert(instance("gw-b"), lets_go);
    story.watch_leases();
    assert_eq!(story.set(), ["203.0.113.10"]);

    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let mut story = Story::begin(&[other], Some(record("1")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    story.pass(HANDOVER_MILLIS / 1_000);
    assert_eq!(story.set(), ["203.0.113.10"]);
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))));
    let entries = &story.mapping.as_ref().expect("there").entries;
    let shared = records::condition(&entries[0].conditions, reason::SHARED).expect("told");
    assert_eq!(shared.message, "also held by gw-b");
}

#[test]
fn an_address_is_let_go_of_only_when_the_kernel_has() {
    let mut story = Story::begin(&[], None);
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    let mut busy = report(&[], &[], false);
    busy.read_back = false;
    story.input(Input::Report(Box::new(busy)));
    assert_eq!(story.set(), ["203.0.113.10"]);
    story.input(Input::Report(Box::new(report(&[], &[], false))));
    assert!(story.set().is_empty());
}

#[test]
fn two_instances_with_one_name_are_told_of_and_the_second_serves_nothing() {
    let mut renewals = 7;
    let mut story = Story::begin(&[(instance("gw-a"), lease("gw-a_2", "7", &[]))], None);
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    for _ in 0..20 {
        renewals += 1;
        let renewed = lease("gw-a_2", &renewals.to_string(), &[]);
        story.leases.insert(instance("gw-a"), renewed);
        story.pass(5);
    }
    assert!(story.published.is_empty());
    assert_eq!(story.notices, [Notice::NameTaken { holder: "gw-a_2".into() }]);
    // The other one ends, and its Lease lapses.
    story.pass(LEASE / 1_000 + 1);
    assert_eq!(story.set(), ["203.0.113.10"]);
    assert!(story.notices.contains(&Notice::Joined));
}

#[test]
fn what_a_lapsed_instance_said_is_unknown_and_then_forgotten() {
    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let mut known = record("1");
    known.entries = vec![AddressEntry {
        address: address("203.0.113.10"),
        instance: "gw-b".into(),
        conditions: vec![StatusCondition {
            kind: reason::PROGRAMMED.into(),
            truth: Truth::True,
            reason: reason::SERVING.into(),
            message: "served".into(),
            generation: 1,
            since: Timestamp(5),
        }],
    }];
    let mut story = Story::begin(&[other], Some(known));
    story.input(Input::Report(Box::new(report(&[], &[], false))));
    assert_eq!(story.programmed(), (Truth::True, reason::SERVING.into()));
    story.pass(LEASE / 1_000 + 6);
    assert_eq!(story.programmed(), (Truth::Unknown, reason::INSTANCE_LOST.into()));
    let entries = &story.mapping.as_ref().expect("there").entries;
    assert_eq!(entries[0].conditions[0].truth, Truth::Unknown);
    story.pass(PATIENCE / 1_000 + 10);
    assert!(story.mapping.as_ref().expect("there").entries.is_empty());
    assert_eq!(story.programmed(), (Truth::False, reason::NO_INSTANCE.into()));
}

#[test]
fn older_versions_of_an_object_change_nothing() {
    let mut story = Story::begin(&[], Some(record("50")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))));
    let writes = story.writes.len();
    story.input(Input::Mappings([(key(), Some(record("50")))].into()));
    assert_eq!(story.writes.len(), writes, "its status would be written again");
}

#[test]
fn leadership_is_given_back_at_the_end_and_the_own_lease_is_not() {
    let mut story = Story::begin(&[], None);
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    assert!(story.it.leads());
    story.input(Input::Stop);
    assert_eq!(story.leases[&LeaseName::Leader].holder, "");
    assert_eq!(story.leases[&instance("gw-a")].holder, "gw-a_1");
    assert_eq!(story.it.poll_timeout(), None);
}

/// The Mapping was accepted once, so that it has the finalizer, and lost its endpoint since.
#[test]
fn a_rejected_mapping_that_is_deleted_is_confirmed_as_removed() {
    let mut known = record("1");
    known.finalizers = vec![FINALIZER.into()];
    // Another one leads, so that this instance does not simply know what it did itself.
    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let leader = (LeaseName::Leader, lease("gw-b_1", "8", &[]));
    let mut story = Story::begin(&[other, leader], Some(known));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    story.pass(HANDOVER_MILLIS / 1_000);
    story.delete();
    let mut rejected = report(&["203.0.113.10"], &[], true);
    let status = Arc::make_mut(rejected.mappings.get_mut(&key()).expect("it is reported"));
    status.invalid = "owned by another".into();
    status.conditions[1].reason = reason::NOT_ACCEPTED.into();
    story.input(Input::Report(Box::new(rejected)));
    let entries = &story.mapping.as_ref().expect("gw-b has not confirmed").entries;
    let said = records::condition(&entries[0].conditions, reason::PROGRAMMED).expect("told");
    assert_eq!((said.reason.as_str(), said.generation), (reason::REMOVED, 2));
}

/// Renewals are 5 s apart; what begins between two of them does not count from the earlier.
#[test]
fn what_begins_between_two_renewals_is_not_taken_for_older() {
    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let mut story = Story::begin(&[other], Some(record("1")));
    story.input(Input::Report(Box::new(report(&[], &[], false))));
    story.pass(4);
    story.leases.insert(instance("gw-b"), lease("gw-b_1", "8", &["203.0.113.10"]));
    story.pass(LEASE / 1_000);
    let live = story.it.peers.life("gw-b", PATIENCE);
    assert_eq!(live, Some(Life::Live), "it renewed {} s ago", LEASE / 1_000 - 1);
}

#[test]
fn the_answer_about_a_mapping_that_has_a_successor_by_now_is_old_news() {
    let mut story = Story::begin(&[], Some(record("200")));
    story.it.handle_input(
        story.now,
        Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))),
    );
    // The first write to the Mapping itself is under way.
    let mut first = None;
    while let Some(output) = story.it.poll_output() {
        match output {
            Output::Write(id, write) if write.mapping().is_some() => {
                first.get_or_insert((id, record("201")));
            }
            Output::Write(id, write) => {
                let result = story.write(&write);
                story.it.handle_input(story.now, Input::Written(id, result));
            }
            _ => {}
        }
        if first.is_some() {
            break;
        }
    }
    let (id, before) = first.expect("something is to be written");
    let after = MappingRecord { uid: "v".into(), ..record("210") };
    story.mapping = Some(after.clone());
    story.it.handle_input(story.now, Input::Mappings([(key(), Some(after))].into()));
    story
        .it
        .handle_input(story.now, Input::Written(id, Ok(Written::Mapping(Some(Box::new(before))))));
    assert_eq!(story.it.mappings[&key()].uid, "v");
}

/// The answer to a renewal comes after the watch has told that somebody deleted the Lease.
#[test]
fn a_lease_that_is_gone_is_made_anew_whatever_a_late_answer_said() {
    let mut story = Story::begin(&[], None);
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    story.now = story.now.plus_millis(LEASE / 3);
    story.it.handle_input(story.now, Input::Tick);
    let mut late = Vec::new();
    while let Some(output) = story.it.poll_output() {
        if let Output::Write(id, write) = output {
            late.push((id, story.write(&write)));
        }
    }
    assert_eq!(late.len(), 2, "its own Lease and the leader's");
    story.leases.clear();
    let gone = [(instance("gw-a"), None), (LeaseName::Leader, None)];
    story.it.handle_input(story.now, Input::Leases(gone.into()));
    for (id, result) in late {
        story.it.handle_input(story.now, Input::Written(id, result));
    }
    story.pass(1);
    assert!(story.leases.contains_key(&instance("gw-a")), "{:?}", story.leases);
    assert!(story.leases.contains_key(&LeaseName::Leader), "{:?}", story.leases);
}

/// The watch of Mappings is ahead of that of Leases.
#[test]
fn one_that_says_something_before_its_lease_is_seen_is_waited_for() {
    let mut story = Story::begin(&[], Some(record("1")));
    story.input(Input::Report(Box::new(report(&[], &[], false))));
    let served = StatusCondition {
        kind: reason::PROGRAMMED.into(),
        truth: Truth::True,
        reason: reason::SERVING.into(),
        message: "served".into(),
        generation: 1,
        since: Timestamp(5),
    };
    let entry = AddressEntry {
        address: address("203.0.113.10"),
        instance: "gw-b".into(),
        conditions: vec![served],
    };
    let mapping = story.mapping.as_mut().expect("it is there");
    mapping.entries = vec![entry];
    story.delete();
    story.input(Input::Report(Box::new(report(&[], &[], true))));
    let entries = |story: &Story| story.mapping.as_ref().map(|m| m.entries.len());
    assert_eq!(entries(&story), Some(1), "gw-b may have joined just now");
    // A renewal that was begun later comes back, and still no Lease of gw-b.
    story.pass(LEASE / 3_000 + 1);
    assert_eq!(entries(&story), None);
}

/// The second Mapping of a name has generation 1 too.
#[test]
fn what_was_reported_of_a_mapping_is_not_said_of_its_successor() {
    let mut story = Story::begin(&[], Some(record("1")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))));
    let successor = MappingRecord { uid: "v".into(), ..record("900") };
    story.version = 900;
    story.mapping = Some(successor.clone());
    story.input(Input::Mappings([(key(), Some(successor))].into()));
    assert!(story.mapping.as_ref().expect("it is there").entries.is_empty());
    let mut of_successor = report(&["203.0.113.10"], &["203.0.113.10"], false);
    let status = of_successor.mappings.get_mut(&key()).expect("it is reported");
    Arc::make_mut(status).uid = "v".into();
    story.input(Input::Report(Box::new(of_successor)));
    assert_eq!(story.mapping.as_ref().expect("it is there").entries.len(), 1);
}

/// Somebody deleted its Lease while its own kernel still serves the Mapping.
#[test]
fn a_leader_without_a_lease_waits_for_itself_and_makes_the_lease_anew() {
    let mut story = Story::begin(&[], Some(record("1")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))));
    story.leases.remove(&instance("gw-a"));
    story.it.handle_input(story.now, Input::Leases([(instance("gw-a"), None)].into()));
    story.delete();
    assert!(story.mapping.is_some(), "its kernel was not read back");
    assert!(story.leases.contains_key(&instance("gw-a")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], true))));
    assert_eq!(story.mapping, None);
}

/// Somebody deleted the Lease while the instance was down: what it serves is not let go of.
#[test]
fn what_is_remembered_stays_published_though_the_lease_is_gone() {
    let mut story = Story::new();
    story.it = Coordinator::new(story.it.config.clone(), Some([address("203.0.113.10")].into()));
    story.watch_leases();
    assert_eq!(story.leases[&instance("gw-a")].addresses, [address("203.0.113.10")].into());
    assert!(story.published.is_empty(), "nothing is new for the gateway");
    story.input(Input::Report(Box::new(report(&[], &[], false))));
    assert!(story.leases[&instance("gw-a")].addresses.is_empty(), "the host has it no more");
}
