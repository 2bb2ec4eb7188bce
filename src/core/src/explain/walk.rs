//! The way of one packet under explanation.

use std::collections::BTreeSet;

use super::outcome::{
    Cause, EndpointWay, Explanation, Origin, Progress, Question, ReplyWay, Stage, Step, Verdict,
};
use super::route::{LOOPBACK, Router};
use super::{Scene, arrival};
use crate::compile::Compiled;
use crate::dataplane::{Dataplane, Uplink};
use crate::model::{Family, ObjectKey};

/// A packet on its way, with what it has met so far.
pub(super) struct Walk<'a> {
    pub(super) scene: &'a Scene,
    pub(super) compiled: &'a Compiled,
    pub(super) router: Router<'a>,
    pub(super) question: Question,
    pub(super) origin: Origin,
    pub(super) mapping: Option<ObjectKey>,
    pub(super) field: Option<String>,
    pub(super) steps: Vec<Step>,
    pub(super) endpoints: Vec<EndpointWay>,
    pub(super) egress: Option<ReplyWay>,
}

/// How a way ends.
pub(super) struct End {
    pub(super) verdict: Verdict,
    pub(super) cause: Option<Cause>,
    pub(super) summary: String,
    pub(super) mend: Vec<String>,
}

impl End {
    pub(super) fn well(verdict: Verdict, summary: impl Into<String>) -> Self {
        Self { verdict, cause: None, summary: summary.into(), mend: Vec::new() }
    }

    pub(super) fn because(verdict: Verdict, cause: Cause, summary: impl Into<String>) -> Self {
        Self { verdict, cause: Some(cause), summary: summary.into(), mend: Vec::new() }
    }

    pub(super) fn mend(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() && !self.mend.contains(&text) {
            self.mend.push(text);
        }
        self
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(scene: &'a Scene, compiled: &'a Compiled, question: &Question) -> Self {
        let (origin, why) = arrival::origin(scene, compiled, question);
        let mut walk = Self {
            scene,
            compiled,
            router: Router::new(&scene.host, &compiled.dataplane),
            question: Question { origin: Some(origin.clone()), ..question.clone() },
            origin,
            mapping: None,
            field: None,
            steps: Vec::new(),
            endpoints: Vec::new(),
            egress: None,
        };
        walk.step(Stage::Arrival, Progress::Passes, why);
        walk
    }

    pub(super) fn run(mut self) -> Explanation {
        let end = self.arrive();
        Explanation {
            packet: self.question,
            verdict: end.verdict,
            summary: end.summary,
            cause: end.cause,
            mapping: self.mapping,
            field: self.field,
            mend: end.mend,
            steps: self.steps,
            endpoints: self.endpoints,
            egress: self.egress,
        }
    }

    fn arrive(&mut self) -> End {
        if let Some(end) = arrival::obstacle(self) {
            self.stop(Stage::Arrival, end.summary.clone());
            return end;
        }
        self.inbound().unwrap_or_else(|| {
            if super::route::is_own(&self.scene.host, self.question.destination) {
                self.end_here()
            } else {
                self.through()
            }
        })
    }

    pub(super) fn step(&mut self, stage: Stage, progress: Progress, text: impl Into<String>) {
        let step = Step { stage, progress, text: text.into() };
        if !self.steps.contains(&step) {
            self.steps.push(step);
        }
    }

    pub(super) fn pass(&mut self, stage: Stage, text: impl Into<String>) {
        self.step(stage, Progress::Passes, text);
    }

    pub(super) fn stop(&mut self, stage: Stage, text: impl Into<String>) {
        self.step(stage, Progress::Stops, text);
    }

    pub(super) fn dataplane(&self) -> &'a Dataplane {
        &self.compiled.dataplane
    }

    pub(super) fn family(&self) -> Family {
        Family::of(&self.question.destination)
    }

    /// The interface that it came by.
    pub(super) fn input(&self) -> Option<&str> {
        match &self.origin {
            Origin::Interface(name) => Some(name),
            Origin::Local => None,
        }
    }

    /// `iif` as routing rules see it.
    pub(super) fn routing_input(&self) -> String {
        self.input().unwrap_or(LOOPBACK).to_owned()
    }

    /// The uplink that it came by.
    pub(super) fn uplink(&self) -> Option<(&'a str, &'a Uplink)> {
        let name = self.input()?;
        self.compiled.dataplane.uplinks.get_key_value(name).map(|(name, u)| (name.as_str(), u))
    }

    /// The packet and connection mark that our rules give it at the beginning, egress aside.
    pub(super) fn uplink_mark(&self) -> u32 {
        self.uplink().map_or(0, |(_, uplink)| self.dataplane().marks.uplink_mark(uplink.number))
    }

    pub(super) fn is_dedicated(&self, interface: &str) -> bool {
        self.dataplane().uplinks.get(interface).is_some_and(|uplink| uplink.dedicated)
    }

    /// What the packet is called: `203.0.113.10 tcp/8080`.
    pub(super) fn asked(&self) -> String {
        let Question { destination, protocol, port, .. } = &self.question;
        format!("{destination} {protocol}/{port}")
    }

    /// Names of the uplinks, for people.
    pub(super) fn uplink_names(&self) -> String {
        listed(self.dataplane().uplinks.keys())
    }
}

/// How many things of a kind one sentence names.
pub(super) const NAMED: usize = 4;

/// The first few of them, and how many more.
pub(super) fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    joined(items, ", ")
}

/// The same with another separator.
pub(super) fn joined<T: ToString>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    let mut seen = BTreeSet::new();
    let all: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let all: Vec<String> = all.into_iter().filter(|item| seen.insert(item.clone())).collect();
    let more = all.len().saturating_sub(NAMED);
    let named = all[..all.len() - more].join(separator);
    if more > 0 { format!("{named} and {more} more") } else { named }
}
