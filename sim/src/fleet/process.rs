//! One running program: gateway, coordinator and reader, wired as the real program wires them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use smartnat_core::coordination::{self, CoordinationConfig, Coordinator, WriteId};
use smartnat_core::gateway::{self, Gateway};
use smartnat_core::model::{ClusterObject, ClusterState, GatewayConfig, ObjectKind, Timestamp};
use smartnat_core::ops::Kernel as _;
use smartnat_core::status::StatusReport;

use super::judge::{unreported, untrue};
use super::link::Link;
use super::reader::{News, Reader};
use crate::SimKernel;
use crate::api_server::{ApiServer, Kind};

/// So long a start waits for the API server before it goes by what it remembers.
const MEMORY_AFTER_MILLIS: u64 = 3_000;
/// Steps while time stands still, beyond which a program does not come to rest.
const MAX_STEPS: usize = 10_000;

/// What a program asks of the outside.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: WriteId,
    pub(super) write: coordination::Write,
}

/// A running program.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) gateway: Gateway,
    pub(super) coordinator: Coordinator,
    reader: Reader,
    started: u64,
    /// What the gateway was told of the cluster; `None` before the first time.
    pub(super) cluster: Option<ClusterState>,
    /// Told by the reader since the start, before the gateway was told anything complete.
    heard: ClusterState,
    published: BTreeSet<IpAddr>,
    /// The gateway knows the cluster from memory alone.
    remembers_only: bool,
    /// The reader has just heard of everything.
    complete: bool,
    /// A request to the kernel, and when it is answered.
    work: Option<(u64, gateway::Output)>,
    pub(super) report: Option<StatusReport>,
    /// What was wrong with its reports and writes when it made them.
    pub(super) wrong: Vec<String>,
    pub(super) notices: Vec<coordination::Notice>,
    pub(super) events: Vec<coordination::ClusterEvent>,
    pub(super) stopping: bool,
}

/// What a program sees while it runs.
pub(super) struct Outside<'a> {
    pub(super) now: u64,
    pub(super) server: &'a ApiServer,
    pub(super) link: &'a Link,
    pub(super) kernel: &'a mut SimKernel,
    pub(super) disk: &'a mut Option<ClusterState>,
    /// How long the kernel takes for an answer.
    pub(super) kernel_millis: u64,
}

impl Outside<'_> {
    fn clock(&self) -> Timestamp {
        self.kernel.now()
    }
}

impl Process {
    pub(super) fn new(
        gateway: GatewayConfig,
        coordination: CoordinationConfig,
        disk: Option<&ClusterState>,
        now: u64,
        steps_back: &BTreeMap<Kind, usize>,
    ) -> Self {
        let published = disk.and_then(|memory| memory.published.clone());
        Self {
            gateway: Gateway::new(gateway),
            coordinator: Coordinator::new(coordination, published.clone()),
            reader: Reader::new(now, steps_back),
            started: now,
            cluster: None,
            heard: ClusterState::default(),
            published: published.unwrap_or_default(),
            remembers_only: false,
            complete: false,
            work: None,
            report: None,
            wrong: Vec::new(),
            notices: Vec::new(),
            events: Vec::new(),
            stopping: false,
        }
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn next(&self, out: &Outside<'_>) -> Option<u64> {
        let here = |at: Timestamp| out.now + at.0.saturating_sub(out.clock().0);
        let memory = (self.cluster.is_none() && out.disk.is_some())
            .then_some(self.started + MEMORY_AFTER_MILLIS);
        let reader = self.reader.next(out.server, out.link);
        let timeouts = [self.gateway.poll_timeout(), self.coordinator.poll_timeout()];
        let work = self.work.as_ref().map(|(at, _)| *at);
        let all = timeouts.map(|t| t.map(here)).into_iter().chain([memory, reader, work]);
        all.flatten().min().map(|at| at.max(out.now))
    }

    /// Does what is due now, and hands out what it asks the API server for.
    pub(super) fn run(&mut self, out: &mut Outside<'_>) -> Vec<Request> {
        self.finish_work(out);
        let mut requests = self.settle(out);
        let news = self.reader.poll(out.server, out.link, out.now);
        if !news.is_empty() {
            self.hear(news, out);
        }
        self.recall(out);
        requests.extend(self.settle(out));
        if self.gateway.poll_timeout().is_some_and(|at| at <= out.clock()) {
            self.gateway.handle_input(out.clock(), gateway::Input::Tick);
        }
        if self.coordinator.poll_timeout().is_some_and(|at| at <= out.clock()) {
            self.coordinator.handle_input(out.clock(), coordination::Input::Tick);
        }
        requests.extend(self.settle(out));
        requests
    }

    /// Input that comes from elsewhere.
    pub(super) fn coordinate(
        &mut self,
        input: coordination::Input,
        out: &mut Outside<'_>,
    ) -> Vec<Request> {
        self.coordinator.handle_input(out.clock(), input);
        self.settle(out)
    }

    /// Links or addresses of the host changed.
    pub(super) fn host_changed(&mut self, out: &mut Outside<'_>) -> Vec<Request> {
        self.gateway.handle_input(out.clock(), gateway::Input::Host(out.kernel.host()));
        self.settle(out)
    }

    pub(super) fn cut(&mut self, kind: Kind, now: u64, steps_back: usize) {
        self.reader.cut(kind, now, steps_back);
    }

    /// The kernel does no more than `operations` of what it was asked for: the program was killed.
    pub(super) fn abandon_work(&mut self, kernel: &mut SimKernel, operations: u64) {
        if let Some((_, gateway::Output::Apply(transaction))) = self.work.take() {
            kernel.crash_after(operations);
            // Nobody is left to hear how it went.
            let _ = kernel.apply(&transaction);
            kernel.recover();
        }
    }

    fn hear(&mut self, news: News, out: &mut Outside<'_>) {
        let clock = out.clock();
        if let Some(leases) = news.leases {
            self.coordinator.handle_input(clock, coordination::Input::Leases(leases));
        }
        if let Some(mappings) = news.mappings {
            self.coordinator.handle_input(clock, coordination::Input::Mappings(mappings));
        }
        for object in &news.objects {
            self.heard.update(object.clone());
        }
        if self.cluster.is_some() && !self.remembers_only {
            self.tell_gateway(news.objects, out);
        } else if self.reader.synced() {
            self.complete = true;
        }
    }

    /// The first complete picture goes to the gateway, along with what is published by then.
    fn begin_to_serve(&mut self, out: &mut Outside<'_>) {
        let gone = self.cluster.as_ref().map(|m| vanished(m, &self.heard)).unwrap_or_default();
        let mut objects = all_objects(&self.heard);
        objects.extend(gone);
        objects.push(ClusterObject::Published(self.published.clone()));
        self.complete = false;
        self.remembers_only = false;
        self.tell_gateway(objects, out);
    }

    /// The API server does not answer: goes by what is remembered (T23).
    fn recall(&mut self, out: &mut Outside<'_>) {
        if self.cluster.is_some() || out.now < self.started + MEMORY_AFTER_MILLIS {
            return;
        }
        if let Some(memory) = out.disk.clone() {
            self.remembers_only = true;
            let mut objects = all_objects(&memory);
            objects.push(ClusterObject::Published(self.published.clone()));
            self.tell_gateway(objects, out);
        }
    }

    fn tell_gateway(&mut self, objects: Vec<ClusterObject>, out: &mut Outside<'_>) {
        let known = self.cluster.get_or_insert_with(|| {
            self.gateway.handle_input(out.clock(), gateway::Input::Host(out.kernel.host()));
            ClusterState::default()
        });
        for object in &objects {
            known.update(object.clone());
        }
        self.gateway.handle_input(out.clock(), gateway::Input::Cluster(objects));
    }

    fn finish_work(&mut self, out: &mut Outside<'_>) {
        let Some((_, output)) = self.work.take_if(|(at, _)| *at <= out.now) else { return };
        let input = match output {
            gateway::Output::Observe(scope) => {
                gateway::Input::Observed(out.kernel.observe(&scope).map(Box::new))
            }
            gateway::Output::Apply(transaction) => {
                gateway::Input::Applied(out.kernel.apply(&transaction))
            }
            gateway::Output::ListFlows(filter) => gateway::Input::Flows(out.kernel.flows(&filter)),
            gateway::Output::Status(_) | gateway::Output::Event(_) => return,
        };
        self.gateway.handle_input(out.clock(), input);
    }

    /// Carries outputs from one half to the other until neither has any left.
    fn settle(&mut self, out: &mut Outside<'_>) -> Vec<Request> {
        let mut requests = Vec::new();
        for _ in 0..MAX_STEPS {
            if let Some(output) = self.coordinator.poll_output() {
                self.carry_out(output, out, &mut requests);
            } else if self.complete {
                self.begin_to_serve(out);
            } else if let Some(output) = self.gateway.poll_output() {
                self.serve(output, out);
            } else {
                return requests;
            }
        }
        panic!("the program does not come to rest while time stands still");
    }

    fn carry_out(
        &mut self,
        output: coordination::Output,
        out: &mut Outside<'_>,
        requests: &mut Vec<Request>,
    ) {
        match output {
            coordination::Output::Write(id, write) => {
                self.wrong.extend(unreported(self.report.as_ref(), &write));
                requests.push(Request { id, write });
            }
            coordination::Output::Published(addresses) => {
                self.published.clone_from(&addresses);
                if self.cluster.is_some() {
                    self.tell_gateway(vec![ClusterObject::Published(addresses)], out);
                }
            }
            coordination::Output::Event(event) => self.events.push(event),
            coordination::Output::Notice(notice) => self.notices.push(notice),
        }
    }

    fn serve(&mut self, output: gateway::Output, out: &mut Outside<'_>) {
        match output {
            gateway::Output::Status(report) => {
                if report.in_sync {
                    out.disk.clone_from(&self.cluster);
                }
                self.report = Some((*report).clone());
                if let Some(told) = &self.cluster {
                    self.wrong.extend(untrue(&report, told, out.kernel));
                }
                self.coordinator.handle_input(out.clock(), coordination::Input::Report(report));
            }
            gateway::Output::Event(_) => {}
            work => self.work = Some((out.now + out.kernel_millis, work)),
        }
    }
}

/// Every object of a state as a change.
fn all_objects(state: &ClusterState) -> Vec<ClusterObject> {
    let services = state.services.values().cloned().map(ClusterObject::Service);
    let slices = state.slices.values().cloned().map(ClusterObject::EndpointSlice);
    let mappings = state.mappings.values().cloned().map(ClusterObject::Mapping);
    services.chain(slices).chain(mappings).collect()
}

/// What is in `before` and not in `now`, as deletions.
fn vanished(before: &ClusterState, now: &ClusterState) -> Vec<ClusterObject> {
    let mappings = before.mappings.keys().filter(|k| !now.mappings.contains_key(*k));
    let services = before.services.keys().filter(|k| !now.services.contains_key(*k));
    let slices = before.slices.keys().filter(|k| !now.slices.contains_key(*k));
    let gone = |kind| move |key: &_| ClusterObject::Deleted(kind, Clone::clone(key));
    mappings
        .map(gone(ObjectKind::Mapping))
        .chain(services.map(gone(ObjectKind::Service)))
        .chain(slices.map(gone(ObjectKind::EndpointSlice)))
        .collect()
}
