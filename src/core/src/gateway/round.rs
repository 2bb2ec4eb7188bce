//! One round: compare, apply, sweep, verify.

use std::collections::{BTreeMap, BTreeSet};

use super::split::{Reliance, loosened, one_by_one, opens_forwarding, reliance};
use super::{
    Awaiting, Connections, Event, EventKind, FIRST_RETRY_MILLIS, Gateway, Goal, Judged,
    LAST_RETRY_MILLIS, MAX_REPORTED, Output, READ_BACK_MILLIS, READ_TABLE_MILLIS, ROUNDS_AT_ONCE,
    SWEEPS, Stage,
};
use crate::compile::{adopt_numbers, sysctl_scope};
use crate::dataplane::Before;
use crate::diff::diff;
use crate::flows::{Permissions, end_flows, withdrawn};
use crate::lower::{DesiredObjects, TouchedObjects};
use crate::marks::MarkLayout;
use crate::model::Timestamp;
use crate::objects::{Flow, KernelState, Netfilter, ObservationScope};
use crate::ops::{Domain, OpError, Transaction};

impl Gateway {
    /// Asks for the next thing; in `Idle` there is none.
    pub(super) fn next_step(&mut self) {
        match self.stage {
            Stage::Idle => {}
            Stage::Observe => {
                // What changes from here on may be missing in the answer.
                self.kernel_changed = false;
                self.host_changed = false;
                self.reads = self.to_read();
                if self.reads != Netfilter::Untold {
                    self.distrusted = false;
                }
                self.ask(Awaiting::Observation, Output::Observe(self.scope()));
            }
            Stage::Apply => {
                if let Some(transaction) = self.queue.pop_front() {
                    self.applying = reliance(&transaction);
                    self.unread |= !is_known_when_taken(&transaction);
                    self.distrusted |= is_of_iptables(&transaction);
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
        let sysctls = match (self.goal, &self.host) {
            (Goal::Serve, Some(host)) => sysctl_scope(host, &self.config),
            _ => BTreeSet::new(),
        };
        ObservationScope {
            table_base: self.config.table_base,
            table_count: self.marks().max_uplinks(),
            rule_priority: self.config.rule_priority,
            sysctls,
            netfilter: self.reads,
        }
    }

    /// A look at what the kernel does not tell of needs none at the table, which it does.
    fn to_read(&self) -> Netfilter {
        let due = self.table_read_at.plus_millis(READ_TABLE_MILLIS) <= self.now;
        let known = self.as_wanted && self.observed.is_some() && !self.distrusted && !due;
        match self.goal {
            Goal::Serve if known => Netfilter::Untold,
            Goal::Serve if self.left.is_gone() => Netfilter::InUse,
            _ => Netfilter::All,
        }
    }

    pub(super) fn on_observed(&mut self, result: Result<Box<KernelState>, OpError>) {
        match result {
            Ok(state) => {
                // Later the kernel may hold less than what was decided.
                if self.numbers.is_empty() {
                    self.numbers = adopt_numbers(&state, &self.config);
                }
                self.take_in(*state);
                self.observed_at = self.now;
                let repair = self.settled && self.drift.is_some() && !self.stale;
                match self.repairs.put_off(self.now).filter(|_| repair) {
                    Some(until) => self.pause_until(until),
                    None => self.begin_round(),
                }
            }
            Err(error) => {
                self.record_failure(error);
                if self.goal == Goal::Serve || self.rounds >= ROUNDS_AT_ONCE {
                    self.pause();
                } else {
                    self.rounds += 1;
                }
            }
        }
    }

    /// Takes note of what was read, and of what others changed.
    fn take_in(&mut self, mut state: KernelState) {
        self.unread = false;
        let whole = self.reads != Netfilter::Untold;
        let before = self.observed.take();
        let changed = before.as_ref().is_none_or(|before| {
            let same_rest = before.rules == state.rules
                && before.routes == state.routes
                && before.other_xtables == state.other_xtables
                && before.sysctls == state.sysctls;
            // A table that was as wanted is not kept here, and one that is gone looks the same.
            let table_gone = self.as_wanted && state.nft.is_none();
            !(same_rest && (!whole || (*before == state && !table_gone)))
        });
        if whole {
            self.table_read_at = self.now;
            self.as_wanted = false;
            self.agrees = false;
        } else if let Some(before) = before {
            // What was not read is as it was.
            state.xtables = before.xtables;
            state.contested = before.contested;
            state.sets = before.sets;
            state.nft = before.nft;
        }
        if self.settled && changed {
            self.note_drift(&state, whole);
        }
        self.host_moved = self.host_changed;
        self.look_for_left(&state);
        self.observed = Some(state);
    }

    /// What differs from a target that was in the kernel was changed by others, whatever is
    /// wanted by now.
    fn note_drift(&mut self, state: &KernelState, whole: bool) {
        let Some(target) = &self.target else { return };
        let mut repair = if whole {
            diff(&target.objects, state)
        } else {
            let rest = untold();
            let (desired, observed) = rest.of(&target.objects, state);
            diff(&desired, &observed)
        };
        // With a link the kernel itself takes routes and sysctls away.
        repair
            .retain(|t| !self.host_moved || !matches!(t.domain, Domain::Routing | Domain::Sysctls));
        if !repair.is_empty() {
            self.drift = Some(describe(&repair));
            self.repairs.add(self.now);
        }
    }

    /// Compares what is wanted with what was last observed, and queues the difference.
    pub(super) fn begin_round(&mut self) {
        let outdated = self.goal == Goal::Serve && self.host_changed;
        let Some(mut observed) = self.observed.take_if(|_| !outdated) else {
            self.stage = Stage::Observe;
            return;
        };
        let touched = match self.goal {
            Goal::Serve => self.compile_target(&mut observed),
            Goal::CleanUp(_) => {
                self.target = None;
                None
            }
        };
        let nothing = DesiredObjects::default();
        let desired = self.target.as_ref().map_or(&nothing, |t| &t.objects);
        let transactions = match touched {
            _ if self.goal == Goal::Serve && self.target.is_none() => Vec::new(),
            Some(touched) if self.agrees => {
                let rest = self.as_wanted;
                let touched = TouchedObjects {
                    others: touched.others | rest,
                    routing: touched.routing | rest,
                    sysctls: touched.sysctls | rest,
                    ..touched
                };
                let (desired, observed) = touched.of(desired, &observed);
                diff(&desired, &observed)
            }
            _ => {
                if self.as_wanted && observed.nft.is_none() {
                    observed.nft.clone_from(&desired.nft);
                }
                diff(desired, &observed)
            }
        };
        self.agrees = transactions.is_empty();
        self.as_wanted = self.agrees && desired.nft.is_some();
        if self.as_wanted {
            observed.nft = None;
        }
        if self.agrees && self.target.is_some() {
            self.nothing_is_left();
        }
        let transactions = self.keep_forwarding(transactions);
        let transactions = match self.goal {
            _ if self.failures.is_empty() => transactions,
            Goal::Serve => loosened(transactions),
            Goal::CleanUp(_) => one_by_one(transactions),
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
        self.settled = false;
        self.queue = transactions.into();
        self.stage = Stage::Apply;
    }

    /// Clean-up goes on past a failure, and so does the end of connections: what can't be held
    /// back ends all the same. Otherwise it depends on who relies on what failed.
    pub(super) fn on_applied(&mut self, result: Result<(), OpError>) {
        let Err(error) = result else { return };
        self.record_failure(error);
        if self.pending_sweep.is_some() {
            self.sweep_failed = true;
        } else if self.goal == Goal::Serve {
            self.incomplete = true;
            match self.applying {
                Reliance::Nothing => {}
                Reliance::Forwarding => self.queue.retain(|t| !opens_forwarding(t)),
                Reliance::Everything => {
                    self.queue.clear();
                    self.pause();
                }
            }
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
        if self.stage == Stage::Observe {
            self.verify();
        }
    }

    /// What nftables took it holds: the kernel makes a change of the table whole or not at all,
    /// and tells when others change it. Everything else is read back.
    fn verify(&mut self) {
        self.stage = Stage::Observe;
        if self.goal == Goal::Serve && self.incomplete {
            self.pause();
            return;
        }
        let carried = self.target.as_ref().is_some_and(|target| target.objects.nft.is_some());
        if self.goal == Goal::Serve && carried {
            self.agrees = true;
            self.as_wanted = true;
            if let Some(observed) = &mut self.observed {
                observed.nft = None;
            }
            if !self.unread {
                self.begin_round();
            }
        }
    }

    /// All connections that exist are permitted by the target.
    fn judged(&mut self) {
        self.judged = match &self.target {
            Some(_) => Judged::But(Before::default()),
            None => Judged::Never,
        };
    }

    fn sweep_is_due(&self) -> bool {
        match (&self.goal, &self.target, &self.judged) {
            (Goal::CleanUp(connections), ..) => *connections == Connections::Untouched,
            (Goal::Serve, Some(target), Judged::But(before)) => {
                withdrawn(before, &target.dataplane)
            }
            (Goal::Serve, Some(_), Judged::Never) => true,
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
                self.sweep_ended(Connections::Left);
            }
        }
    }

    fn no_longer_permitted(&self, flows: Vec<Flow>) -> Vec<Flow> {
        match (&self.goal, &self.target) {
            (Goal::Serve, Some(target)) => {
                let permissions = Permissions::indexed(&target.dataplane, &target.exposure);
                flows.into_iter().filter(|flow| !permissions.permits(flow)).collect()
            }
            (Goal::Serve, None) => Vec::new(),
            (Goal::CleanUp(_), _) => flows,
        }
    }

    fn end_connections(&mut self, sweep: u32, ended: &[Flow]) {
        // What was in flight when the rules changed may show only now.
        if ended.is_empty() && sweep < SWEEPS && self.rounds > 0 {
            self.stage = Stage::Sweep(sweep + 1);
            return;
        }
        if ended.is_empty() || sweep > SWEEPS {
            let refused = self.sweep_failed && !ended.is_empty();
            self.sweep_ended(if refused { Connections::Left } else { Connections::Ended });
            return;
        }
        let text = format!("{} connections ended that nothing permits any more", ended.len());
        self.event(EventKind::ConnectionsEnded, text);
        let nobody = BTreeMap::new();
        let egress = self.target.as_ref().map_or(&nobody, |t| &t.dataplane.egress);
        let mut transactions = end_flows(ended, self.marks(), egress, self.config.backend);
        if self.goal != Goal::Serve {
            transactions.retain(|t| t.domain == Domain::Flows);
        }
        self.queue = transactions.into();
        self.stage = Stage::Apply;
        self.pending_sweep = Some(sweep + 1);
    }

    fn sweep_ended(&mut self, connections: Connections) {
        self.sweep_failed = false;
        self.stage = Stage::Observe;
        match (&mut self.goal, connections) {
            (Goal::CleanUp(state), _) => *state = connections,
            (Goal::Serve, Connections::Ended) if !self.incomplete => {
                self.judged();
                self.verify();
            }
            (Goal::Serve, _) => self.pause(),
        }
    }

    /// The kernel holds what is wanted, read back.
    fn settle(&mut self) {
        self.stage = Stage::Idle;
        self.rounds = 0;
        match self.goal {
            Goal::CleanUp(Connections::Left) => self.give_up_clean_up(),
            Goal::CleanUp(_) => {
                self.event(EventKind::CleanedUp, "everything of SmartNat is removed".into());
            }
            Goal::Serve => self.settle_serving(),
        }
    }

    fn settle_serving(&mut self) {
        self.retry_millis = FIRST_RETRY_MILLIS;
        self.failures.clear();
        self.settled = true;
        // Counted from the observation: changes that need none must not put it off (T17).
        self.wake = Some(self.observed_at.plus_millis(READ_BACK_MILLIS));
        if let Some(text) = self.drift.take() {
            self.event(EventKind::DriftRepaired, text);
        }
        self.publish(true);
        if self.kernel_changed {
            self.stage = Stage::Observe;
        }
    }

    fn give_up_clean_up(&mut self) {
        let all: Vec<String> = self.failures.iter().map(ToString::to_string).collect();
        let text =
            if all.is_empty() { "others put back what is removed".into() } else { all.join("; ") };
        self.event(EventKind::CleanUpIncomplete, text);
    }

    /// Tries again later, each time later, since what failed will likely fail again.
    fn pause(&mut self) {
        if self.goal != Goal::Serve {
            self.stage = Stage::Idle;
            self.rounds = 0;
            self.give_up_clean_up();
            return;
        }
        self.pause_until(self.now.plus_millis(self.retry_millis));
        self.retry_millis = (self.retry_millis * 2).min(LAST_RETRY_MILLIS);
    }

    fn pause_until(&mut self, at: Timestamp) {
        self.stage = Stage::Idle;
        self.rounds = 0;
        self.incomplete = false;
        self.observed = None;
        // What a half-done round let in is not known: judge all connections anew.
        self.judged = Judged::Never;
        self.settled = false;
        self.wake = Some(at);
        self.publish(false);
    }

    fn record_failure(&mut self, error: OpError) {
        self.event(EventKind::KernelError, error.to_string());
        if self.failures.len() < MAX_REPORTED && !self.failures.contains(&error) {
            self.failures.push(error);
        }
    }

    pub(super) fn event(&mut self, kind: EventKind, message: String) {
        self.outbox.push_back(Output::Event(Event { kind, mapping: None, message }));
    }

    fn publish(&mut self, in_sync: bool) {
        let outputs = self.report.publish(&self.config, in_sync && !self.stale, &self.failures);
        self.outbox.extend(outputs);
    }
}

/// What is read however little of netfilter is.
fn untold() -> TouchedObjects {
    TouchedObjects { others: true, routing: true, sysctls: true, ..Default::default() }
}

/// Whether the kernel's answer tells what it holds from then on.
fn is_known_when_taken(transaction: &Transaction) -> bool {
    matches!(transaction.domain, Domain::Nftables | Domain::Flows)
}

/// Whether the kernel tells nothing of what it changes, be it beside a table of nftables.
fn is_of_iptables(transaction: &Transaction) -> bool {
    matches!(transaction.domain, Domain::Xtables(_) | Domain::OtherXtables(_) | Domain::Sets)
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
