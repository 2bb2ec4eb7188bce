//! What changes and vanishes while the program is not there (T10, T20; P9, P10).

use std::thread;
use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::{Value, json};
use smartnat::lab::traffic::{self, BRIEF, Conversation, PATIENT};
use smartnat::lab::wait_until;
use smartnat_core::model::Protocol;

use crate::fleet::{Fleet, LEASE_SECONDS, address_of, external, is_true, pod_address};
use crate::fresh::Bare;
use crate::objects::{State, mapping, service, slice};
use crate::station::{PATIENCE, Run};
use crate::variables;

/// What happens to a Mapping, or to what it leads to, while the program is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    /// Another pod takes over.
    Moves,
    /// Another pod takes over while the old one is draining.
    Drains,
    LosesEndpoints,
    LosesSlice,
    LosesService,
    ChangesPort,
    /// The client is no longer allowed.
    ChangesSources,
    Deleted,
    DeletedWithService,
    Created,
}

/// All of them; each has a Service, a Mapping and a port.
const FATES: [Fate; 11] = [
    Fate::Stays,
    Fate::Moves,
    Fate::Drains,
    Fate::LosesEndpoints,
    Fate::LosesSlice,
    Fate::LosesService,
    Fate::ChangesPort,
    Fate::ChangesSources,
    Fate::Deleted,
    Fate::DeletedWithService,
    Fate::Created,
];

impl Fate {
    fn port(self) -> u16 {
        8081 + self as u16
    }

    fn name(self) -> String {
        format!("{self:?}").to_ascii_lowercase()
    }

    fn service(self) -> Value {
        service("default", &self.name(), "http")
    }

    fn slice(self, endpoints: &[(usize, State)]) -> Value {
        let endpoints: Vec<_> = endpoints.iter().map(|(pod, s)| (pod_address(*pod), *s)).collect();
        slice("default", &self.name(), 1, &[("http", 8080)], &endpoints)
    }

    fn mapping(self, port: u16) -> Value {
        mapping("default", &self.name(), &external(1), port, &self.name())
    }

    /// Who answers a new connection afterwards.
    fn answers(self) -> Option<&'static str> {
        match self {
            Self::Stays | Self::Created => Some("pod1"),
            Self::Moves | Self::Drains => Some("pod2"),
            _ => None,
        }
    }

    fn is_deleted(self) -> bool {
        matches!(self, Self::Deleted | Self::DeletedWithService)
    }

    /// Whether a connection from before lives on.
    fn keeps_connections(self) -> bool {
        matches!(self, Self::Stays | Self::Drains)
    }

    fn make(self, fleet: &Fleet) {
        fleet.plane.apply(&self.service());
        fleet.plane.apply(&self.slice(&[(1, State::Ready)]));
        fleet.plane.apply(&self.mapping(self.port()));
    }

    fn come(self, fleet: &Fleet) {
        let delete = |object: &Value| {
            let (api, name) = fleet.plane.api_of(object);
            fleet.plane.wait(api.delete(&name, &DeleteParams::default())).expect("it is there");
        };
        match self {
            Self::Stays => {}
            Self::Moves => drop(fleet.plane.apply(&self.slice(&[(2, State::Ready)]))),
            Self::Drains => {
                let both = [(1, State::Draining), (2, State::Ready)];
                fleet.plane.apply(&self.slice(&both));
            }
            Self::LosesEndpoints => drop(fleet.plane.apply(&self.slice(&[]))),
            Self::LosesSlice => delete(&self.slice(&[])),
            Self::LosesService => {
                delete(&self.service());
                delete(&self.slice(&[]));
            }
            Self::ChangesPort => drop(fleet.plane.apply(&self.mapping(self.port() + 100))),
            Self::ChangesSources => {
                let mut mapping = self.mapping(self.port());
                mapping["spec"]["allowedSources"] = json!(["192.0.2.0/24"]);
                fleet.plane.apply(&mapping);
            }
            Self::Deleted => delete(&self.mapping(1)),
            Self::DeletedWithService => {
                delete(&self.mapping(1));
                delete(&self.slice(&[]));
                delete(&self.service());
            }
            Self::Created => self.make(fleet),
        }
    }
}

/// Connections to all that exists before, which are answered.
fn converse(fleet: &Fleet) -> Vec<(Fate, Conversation)> {
    let old = FATES.into_iter().filter(|fate| *fate != Fate::Created);
    old.map(|fate| {
        let to = address_of(1, fate.port());
        assert!(fleet.station.wait_answer("client", to, Some("pod1")), "{fate:?}");
        let lab = &fleet.station.lab;
        let opened = traffic::open(lab, "client", Protocol::Tcp, None, to, PATIENT);
        let mut conversation = opened.expect("the lab").expect("a connection");
        assert!(conversation.ask("hello", PATIENT).is_answered(), "{fate:?}");
        (fate, conversation)
    })
    .collect()
}

/// How long the program is not there: longer than its Lease lasts. A minute is
/// `SMARTNAT_TEST_ABSENCE_SECONDS=60`.
fn absence() -> Duration {
    variables::seconds("SMARTNAT_TEST_ABSENCE_SECONDS", LEASE_SECONDS + 1)
}

#[track_caller]
fn assert_as_changed(fleet: &Fleet, conversations: Vec<(Fate, Conversation)>) {
    for fate in FATES {
        let answers =
            fleet.station.wait_answer("client", address_of(1, fate.port()), fate.answers());
        assert!(answers, "{fate:?}");
    }
    let moved = address_of(1, Fate::ChangesPort.port() + 100);
    assert!(fleet.station.wait_answer("client", moved, Some("pod1")));
    for (fate, mut conversation) in conversations {
        if fate.keeps_connections() {
            let outcome = conversation.ask("still there", PATIENT);
            assert_eq!(outcome.server(), Some("pod1"), "{fate:?}: {outcome}");
        } else {
            let ended = !conversation.ask("still there", BRIEF).is_answered();
            assert!(ended, "{fate:?}: its connection lives on");
        }
    }
}

/// Ends by `end`, and starts again when all has changed.
fn come_back(end: impl FnOnce(Run)) {
    let Some(fleet) = Fleet::new(1) else { return };
    let bare = Bare::of(&fleet, 1);
    for fate in FATES.into_iter().filter(|fate| *fate != Fate::Created) {
        fate.make(&fleet);
    }
    let run = fleet.serve(1);
    let mut conversations = converse(&fleet);
    for fate in FATES.into_iter().filter(|fate| *fate != Fate::Created) {
        fleet.wait_mapping("default", &fate.name(), |m| is_true(m, "Programmed"));
    }

    end(run);
    for fate in FATES {
        fate.come(&fleet);
    }
    thread::sleep(absence());
    for (fate, conversation) in &mut conversations {
        let outcome = conversation.ask("meanwhile", PATIENT);
        assert_eq!(outcome.server(), Some("pod1"), "{fate:?}: {outcome}");
        let mapping = fleet.mapping("default", &fate.name());
        assert!(mapping.is_some(), "{fate:?}: it waits for who holds something of it");
    }

    let run = fleet.serve(1);
    for fate in FATES {
        if fate.is_deleted() {
            fleet.wait_gone("default", &fate.name());
        } else {
            let told = |m: &Value| is_true(m, "Programmed");
            fleet.wait_mapping("default", &fate.name(), told);
        }
    }
    assert_as_changed(&fleet, conversations);
    bare.assert_as_fresh(&fleet, 1, run).terminate();
}

#[test]
fn what_changed_while_it_was_stopped_is_caught_up_with() {
    come_back(|run| drop(run.terminate()));
}

#[test]
fn what_changed_after_it_was_killed_is_caught_up_with() {
    come_back(Run::kill);
}

/// Others let a Mapping go when its instance has been away for too long: nothing in the cluster
/// tells of it when that comes back, and nothing of it is left in its kernel.
#[test]
fn what_vanished_meanwhile_is_removed() {
    let Some(fleet) = Fleet::new(2) else { return };
    let bare = Bare::of(&fleet, 1);
    let all = [Fate::Stays, Fate::DeletedWithService];
    for fate in all {
        fate.make(&fleet);
    }
    let run = fleet.serve(1);
    let other = fleet.serve(2);
    for fate in all {
        let to = address_of(1, fate.port());
        assert!(fleet.station.wait_answer("client", to, Some("pod1")), "{fate:?}");
        fleet.wait_mapping("default", &fate.name(), |m| is_true(m, "Programmed"));
    }
    run.kill();
    Fate::DeletedWithService.come(&fleet);
    fleet.wait_gone("default", &Fate::DeletedWithService.name());
    let gone = address_of(1, Fate::DeletedWithService.port());
    assert!(fleet.station.wait_answer("client", gone, Some("pod1")), "nobody was there to end it");

    let run = fleet.serve(1);
    let ended = wait_until(PATIENCE, || {
        let outcome = traffic::connect_tcp(&fleet.station.lab, "client", None, gone, BRIEF);
        (!outcome.is_answered()).then_some(())
    });
    assert!(ended.is_some(), "{}", fleet.rules(1));
    let stays = address_of(1, Fate::Stays.port());
    assert!(fleet.station.wait_answer("client", stays, Some("pod1")));
    fleet.wait_mapping("default", &Fate::Stays.name(), |m| is_true(m, "Programmed"));
    bare.assert_as_fresh(&fleet, 1, run).terminate();
    other.terminate();
}
