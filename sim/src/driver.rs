//! Runs a gateway on a simulated kernel.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use smartnat_core::gateway::{Event, Gateway, Input, Output};
use smartnat_core::model::{ClusterObject, Family, GatewayConfig, Timestamp};
use smartnat_core::ops::{Kernel, Transaction};
use smartnat_core::status::StatusReport;

use crate::SimKernel;

/// Inputs and outputs while time stands still, beyond which a gateway does not come to rest.
const MAX_STEPS: usize = 10_000;
/// Steps that the report of a gateway that does not come to rest shows.
const SHOWN_STEPS: usize = 40;

/// A gateway and its kernel. Every call returns when the gateway has nothing left to do; one
/// that does not come to rest within 10,000 steps while time stands still panics with the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The gateway under test.
    pub gateway: Gateway,
    /// Its kernel.
    pub kernel: SimKernel,
    events: Vec<Event>,
    status: Option<StatusReport>,
    recent: VecDeque<String>,
}

impl Driver {
    /// A new gateway on a kernel. Nothing has been fed to it yet.
    pub fn new(config: GatewayConfig, kernel: SimKernel) -> Self {
        Self {
            gateway: Gateway::new(config),
            kernel,
            events: Vec::new(),
            status: None,
            recent: VecDeque::new(),
        }
    }

    /// The first inputs: the host as it is, and all objects of the cluster.
    pub fn start(&mut self, objects: Vec<ClusterObject>) {
        self.host_changed();
        self.cluster(objects);
    }

    /// The program ends without a word and a new one starts on what it left in the kernel.
    /// A crash of the kernel's fault injection is over.
    pub fn restart(&mut self, config: GatewayConfig, objects: Vec<ClusterObject>) {
        self.kernel.recover();
        self.gateway = Gateway::new(config);
        self.status = None;
        self.start(objects);
    }

    /// Objects of the cluster changed.
    pub fn cluster(&mut self, objects: Vec<ClusterObject>) {
        self.feed(Input::Cluster(objects));
    }

    /// Links, addresses or routes changed: hands over the host as the kernel has it.
    pub fn host_changed(&mut self) {
        self.feed(Input::Host(self.kernel.host()));
    }

    /// The kernel notified of a change by others.
    pub fn kernel_changed(&mut self) {
        self.feed(Input::KernelChanged);
    }

    /// Others need forwarding of these families, for these reasons.
    pub fn forwarding_needed(&mut self, needed: BTreeMap<Family, Vec<String>>) {
        self.feed(Input::ForwardingNeeded(needed));
    }

    /// Everything of ours is to be removed.
    pub fn clean_up(&mut self) {
        self.feed(Input::CleanUp);
    }

    /// Hands over one input and does everything that follows from it now.
    pub fn feed(&mut self, input: Input) {
        let mut steps = 0;
        self.input(input, &mut steps);
        self.settle(&mut steps);
    }

    /// Lets virtual time pass, with a tick whenever the gateway asked for one.
    pub fn advance(&mut self, millis: u64) {
        let end = self.kernel.now().plus_millis(millis);
        let mut steps = 0;
        while let Some(at) = self.gateway.poll_timeout().filter(|at| *at <= end) {
            if at > self.kernel.now() {
                steps = 0;
            }
            self.pass_until(at);
            self.input(Input::Tick, &mut steps);
            self.settle(&mut steps);
        }
        self.pass_until(end);
    }

    /// The last status report of this gateway.
    pub fn status(&self) -> Option<&StatusReport> {
        self.status.as_ref()
    }

    /// Events since they were last taken.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Hands out the events so far and forgets them.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// A timeout in the past is due now: time does not go back.
    fn pass_until(&mut self, at: Timestamp) {
        self.kernel.advance(at.0.saturating_sub(self.kernel.now().0));
    }

    fn settle(&mut self, steps: &mut usize) {
        while let Some(output) = self.gateway.poll_output() {
            self.step(steps, || describe_output(&output));
            match output {
                Output::Observe(scope) => {
                    let observed = self.kernel.observe(&scope).map(Box::new);
                    self.input(Input::Observed(observed), steps);
                }
                Output::Apply(transaction) => {
                    let applied = self.kernel.apply(&transaction);
                    self.input(Input::Applied(applied), steps);
                }
                Output::ListFlows(filter) => {
                    let flows = self.kernel.flows(&filter);
                    self.input(Input::Flows(flows), steps);
                }
                Output::Status(report) => self.status = Some(*report),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn input(&mut self, input: Input, steps: &mut usize) {
        self.step(steps, || describe_input(&input));
        self.gateway.handle_input(self.kernel.now(), input);
    }

    /// Counts a step and remembers it for the report.
    fn step(&mut self, steps: &mut usize, describe: impl FnOnce() -> String) {
        *steps += 1;
        if self.recent.len() == SHOWN_STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(format!("{} {}", self.kernel.now().0, describe()));
        assert!(
            *steps <= MAX_STEPS,
            "the gateway did not come to rest within {MAX_STEPS} steps; the last of them:\n{}",
            self.recent.iter().fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "  {line}");
                text
            })
        );
    }
}

fn describe_transaction(transaction: &Transaction) -> String {
    let ops: Vec<_> = transaction
        .ops
        .iter()
        .take(3)
        .map(|op| crate::kernel::describe(transaction.domain, op))
        .collect();
    let more = transaction.ops.len().saturating_sub(ops.len());
    format!("{} and {more} more", ops.join(", "))
}

fn describe_output(output: &Output) -> String {
    match output {
        Output::Observe(_) => "-> observe".into(),
        Output::Apply(transaction) => format!("-> apply {}", describe_transaction(transaction)),
        Output::ListFlows(filter) => {
            format!("-> list flows with mark {:#x}/{:#x}", filter.mark, filter.mask)
        }
        Output::Status(report) => format!("-> status, in sync: {}", report.in_sync),
        Output::Event(event) => format!("-> event {:?}: {}", event.kind, event.message),
    }
}

fn describe_input(input: &Input) -> String {
    let failure = |result: Result<(), &_>| match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("failed: {error}"),
    };
    match input {
        Input::Cluster(objects) => format!("<- {} objects", objects.len()),
        Input::Host(host) => format!("<- host with {} links", host.links.len()),
        Input::Observed(result) => {
            format!("<- observed: {}", failure(result.as_ref().map(|_| ())))
        }
        Input::Applied(result) => format!("<- applied: {}", failure(result.as_ref().copied())),
        Input::Flows(result) => format!("<- flows: {}", failure(result.as_ref().map(|_| ()))),
        Input::KernelChanged => "<- kernel changed".into(),
        Input::Tick => "<- tick".into(),
        Input::ForwardingNeeded(needed) => {
            format!("<- forwarding needed: {:?}", needed.keys())
        }
        Input::CleanUp => "<- clean up".into(),
    }
}

#[cfg(test)]
mod tests;
