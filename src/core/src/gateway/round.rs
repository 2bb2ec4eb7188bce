//! One round: compare, apply, sweep, verify.

use super::{
    Awaiting, Event, EventKind, FIRST_RETRY_MILLIS, Gateway, Goal, LAST_RETRY_MILLIS, MAX_REPORTED,
    Output, READ_BACK_MILLIS, ROUNDS_AT_ONCE, SWEEPS, Stage, Target,
};
use crate::compile::{adopt_numbers, compile, sysctl_scope};
use crate::diff::diff;
use crate::flows::{Permissions, end_flows, withdraws};
use crate::lint::lint;
use crate::lower::{DesiredObjects, lower};
use crate::marks::MarkLayout;
use crate::objects::{Flow, KernelState, ObservationScope};
use crate::ops::{Domain, OpError, Transaction};

impl Gateway {
    /// Asks for the next thing; in `Idle` there is none.
    pub(super) fn next_step(&mut self) {
        match self.stage {
            Stage::Idle => {}
            Stage::Observe => self.ask(Awaiting::Observation, Output::Observe(self.scope())),
            Stage::Apply => {
                if let Some(transaction) = self.queue.pop_front() {
                    self.ask(Awaiting::Application, Output::Apply(transaction));
                } else {
                    self.after_queue();
                    self.next_step();
                }
            }
            Stage::Sweep(_) => {
                let filter = self.marks().flow_filter();
                self.ask(Awaiting::Flows, Output::ListFlows(filter));
            }
        }
    }

    fn ask(&mut self, awaiting: Awaiting, output: Output) {
        self.awaiting = Some(awaiting);
        self.outbox.push_back(output);
    }

    fn marks(&self) -> MarkLayout {
        MarkLayout::new(self.config.mark_mask)
    }

    fn scope(&self) -> ObservationScope {
        let sysctls = match (&self.goal, &self.host) {
            (Goal::Serve, Some(host)) => sysctl_scope(host, &self.config),
            _ => std::collections::BTreeSet::new(),
        };
        ObservationScope {
            table_base: self.config.table_base,
            table_count: self.marks().max_uplinks(),
            rule_priority: self.config.rule_priority,
            sysctls,
        }
    }

    pub(super) fn on_observed(&mut self, result: Result<Box<KernelState>, OpError>) {
        match result {
            Ok(state) => {
                if self.observed.is_none() {
                    self.numbers = adopt_numbers(&state, &self.config);
                }
                self.observed = Some(*state);
                self.begin_round();
            }
            Err(error) => {
                self.record_failure(error);
                self.pause();
            }
        }
    }

    /// Compares what is wanted with what was last observed, and queues the difference.
    pub(super) fn begin_round(&mut self) {
        let Some(observed) = self.observed.take() else {
            self.stage = Stage::Observe;
            return;
        };
        self.kernel_changed = false;
        match self.goal {
            Goal::Serve => self.compile_target(&observed),
            Goal::CleanUp => self.target = None,
        }
        let nothing = DesiredObjects::default();
        let desired = self.target.as_ref().map_or(&nothing, |t| &t.objects);
        let transactions = if self.goal == Goal::Serve && self.target.is_none() {
            Vec::new()
        } else {
            diff(desired, &observed)
        };
        self.observed = Some(observed);
        self.start(transactions);
    }

    fn start(&mut self, transactions: Vec<Transaction>) {
        if transactions.is_empty() {
            if self.sweep_is_due() {
                self.stage = Stage::Sweep(1);
            } else {
                self.judged();
                self.settle();
            }
            return;
        }
        if self.rounds >= ROUNDS_AT_ONCE {
            self.pause();
            return;
        }
        self.rounds += 1;
        if self.expect_equal {
            self.expect_equal = false;
            self.event(EventKind::DriftRepaired, describe(&transactions));
        }
        self.queue = transactions.into();
        self.stage = Stage::Apply;
    }

    /// A dataplane that breaks an invariant is not programmed: the last good one stays.
    fn compile_target(&mut self, observed: &KernelState) {
        let (Some(cluster), Some(host)) = (&self.cluster, &self.host) else { return };
        let compiled = compile(cluster, host, &self.config, &self.numbers, observed);
        let violations = lint(&compiled.dataplane);
        self.stale = false;
        if violations.is_empty() {
            for (name, uplink) in &compiled.dataplane.uplinks {
                self.numbers.retain(|other, n| other == name || *n != uplink.number);
                self.numbers.insert(name.clone(), uplink.number);
            }
            let objects = lower(&compiled.dataplane);
            self.target = Some(Target { dataplane: compiled.dataplane.clone(), objects });
        }
        let events = self.report.compiled(cluster, compiled, &violations);
        self.outbox.extend(events.into_iter().map(Output::Event));
    }

    pub(super) fn on_applied(&mut self, result: Result<(), OpError>) {
        let Err(error) = result else { return };
        self.record_failure(error);
        // Clean-up goes on past a failure; otherwise what follows may rely on what failed.
        if self.goal == Goal::Serve {
            self.queue.clear();
            self.pause();
        }
    }

    fn after_queue(&mut self) {
        self.stage = match self.pending_sweep.take() {
            Some(sweep) => Stage::Sweep(sweep),
            None if self.sweep_is_due() => Stage::Sweep(1),
            None => {
                self.judged();
                Stage::Observe
            }
        };
    }

    /// All connections that exist are permitted by the target.
    fn judged(&mut self) {
        self.swept = self.target.as_ref().map(|t| t.dataplane.clone());
    }

    fn sweep_is_due(&self) -> bool {
        match (&self.goal, &self.target, &self.swept) {
            (Goal::CleanUp, ..) => self.rounds <= 1,
            (Goal::Serve, Some(target), Some(swept)) => withdraws(swept, &target.dataplane),
            (Goal::Serve, Some(_), None) => true,
            (Goal::Serve, None, _) => false,
        }
    }

    pub(super) fn on_flows(&mut self, result: Result<Vec<Flow>, OpError>) {
        let Stage::Sweep(sweep) = self.stage else { return };
        match result {
            Ok(flows) => {
                let ended = self.no_longer_permitted(flows);
                self.end_connections(sweep, &ended);
            }
            Err(error) => {
                self.record_failure(error);
                self.pause();
            }
        }
    }

    fn no_longer_permitted(&self, flows: Vec<Flow>) -> Vec<Flow> {
        match (&self.goal, &self.target) {
            (Goal::Serve, Some(target)) => {
                let permissions = Permissions::new(&target.dataplane);
                flows.into_iter().filter(|flow| !permissions.permits(flow)).collect()
            }
            (Goal::Serve, None) => Vec::new(),
            (Goal::CleanUp, _) => flows,
        }
    }

    fn end_connections(&mut self, sweep: u32, ended: &[Flow]) {
        if ended.is_empty() || sweep > SWEEPS {
            self.judged();
            self.stage = Stage::Observe;
            if self.goal == Goal::CleanUp {
                self.rounds = self.rounds.max(2);
            }
            return;
        }
        let text = format!("{} connections ended that nothing permits any more", ended.len());
        self.event(EventKind::ConnectionsEnded, text);
        let mut transactions = end_flows(ended, self.marks());
        if self.goal == Goal::CleanUp {
            transactions.retain(|t| t.domain == Domain::Flows);
        }
        self.queue = transactions.into();
        self.stage = Stage::Apply;
        self.pending_sweep = Some(sweep + 1);
    }

    /// The kernel holds what is wanted, read back.
    fn settle(&mut self) {
        self.rounds = 0;
        self.retry_millis = FIRST_RETRY_MILLIS;
        self.stage = Stage::Idle;
        if self.goal == Goal::CleanUp {
            self.wake = None;
            self.event(EventKind::CleanedUp, "everything of SmartNat is removed".into());
            return;
        }
        self.failures.clear();
        self.expect_equal = true;
        self.wake = Some(self.now.plus_millis(READ_BACK_MILLIS));
        self.publish(true);
        if std::mem::take(&mut self.kernel_changed) {
            self.stage = Stage::Observe;
        }
    }

    fn give_up_clean_up(&mut self) {
        self.wake = None;
        let all: Vec<String> = self.failures.iter().map(ToString::to_string).collect();
        self.event(EventKind::CleanUpIncomplete, all.join("; "));
    }

    /// Tries again later, each time later, since what failed will likely fail again.
    fn pause(&mut self) {
        self.stage = Stage::Idle;
        self.pending_sweep = None;
        self.rounds = 0;
        if self.goal == Goal::CleanUp {
            self.give_up_clean_up();
            return;
        }
        self.observed = None;
        // What a half-done round let in is not known: judge all connections anew.
        self.swept = None;
        self.expect_equal = false;
        self.wake = Some(self.now.plus_millis(self.retry_millis));
        self.retry_millis = (self.retry_millis * 2).min(LAST_RETRY_MILLIS);
        self.publish(false);
    }

    fn record_failure(&mut self, error: OpError) {
        self.event(EventKind::KernelError, error.to_string());
        if self.failures.len() < MAX_REPORTED && !self.failures.contains(&error) {
            self.failures.push(error);
        }
    }

    fn event(&mut self, kind: EventKind, message: String) {
        self.outbox.push_back(Output::Event(Event { kind, mapping: None, message }));
    }

    fn publish(&mut self, in_sync: bool) {
        let outputs = self.report.publish(&self.config, in_sync && !self.stale, &self.failures);
        self.outbox.extend(outputs);
    }
}

/// The first objects of a repair, enough to find the culprit.
fn describe(transactions: &[Transaction]) -> String {
    let names: Vec<String> =
        transactions.iter().flat_map(|t| t.ops.iter().map(|op| op.describe(t.domain))).collect();
    let shown = names.len().min(5);
    let more = names.len() - shown;
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("changed by others, put back: {}{tail}", names[..shown].join(", "))
}
