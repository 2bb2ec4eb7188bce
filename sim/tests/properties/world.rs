//! A gateway that lives through a story, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use smartnat_core::compile::{Compiled, adopt_numbers, compile};
use smartnat_core::gateway::{EventKind, Input, Output};
use smartnat_core::lint::lint;
use smartnat_core::lower::lower;
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{ClusterObject, Family, GatewayConfig, HostState, Protocol, Snapshot};
use smartnat_core::objects::{SysctlKey, XtTableId};
use smartnat_core::ops::OpErrorClass;
use smartnat_sim::oracle::{Expectation, Oracle};
use smartnat_sim::walk::Random;
use smartnat_sim::{Driver, SimHost, SimKernel};

use proptest::sample::Index;

use crate::common::*;
use crate::host_events::{flap, interfere, plug, toggle};
use crate::probes;
use crate::setup::Setup;
use crate::story::{Step, Story};
use crate::traffic::{Connection, Judge};

/// First packets that are judged after a step.
const PROBES: usize = 12;
/// Ports of clients begin here: no Mapping has them.
const FIRST_CLIENT_PORT: u16 = 20_000;
/// Entries without an answer expire after 30 s.
const FRESH_MILLIS: u64 = 25_000;
/// What the kernel does not tell is known by then (T17).
const READ_BACK_MILLIS: u64 = 4_000;
/// The longest pause between two tries, and a little.
const LONGEST_PAUSE_MILLIS: u64 = 31_000;
/// Observations within which a gateway that nothing hinders has converged: four rounds at once,
/// a pause and four more.
const MOST_ROUNDS: usize = 10;

/// A connection that was let in.
struct Held {
    connection: Connection,
    /// The snapshots since have all permitted it.
    permitted_ever_since: bool,
    /// When its last packet went.
    seen: u64,
}

/// A gateway with its cluster, and the same host without a gateway.
pub(crate) struct World {
    setup: Setup,
    pub(crate) driver: Driver,
    /// Undergoes what happens to the host, but no gateway.
    pub(crate) untouched: SimKernel,
    /// All objects in the order in which they came.
    pub(crate) objects: Vec<ClusterObject>,
    connections: Vec<Held>,
    /// The snapshots since the gateway was last in sync, and that one.
    in_force: Vec<Oracle>,
    /// Others changed what is ours, or the host changed, and the gateway has not mended it yet.
    blind: bool,
    random: Random,
    client_port: u16,
}

impl World {
    pub(crate) fn new(setup: &Setup, seed: u64) -> Self {
        let kernel = setup.kernel();
        let mut driver = Driver::new(setup.config(), kernel.clone());
        driver.start(Vec::new());
        let mut world = Self {
            setup: setup.clone(),
            driver,
            untouched: kernel,
            objects: Vec::new(),
            connections: Vec::new(),
            in_force: Vec::new(),
            blind: false,
            random: Random::new(seed),
            client_port: FIRST_CLIENT_PORT,
        };
        world.in_force.push(world.oracle());
        world
    }

    /// Lives through a story, with packets after every step.
    pub(crate) fn after(story: &Story) -> Result<Self, String> {
        let mut world = Self::new(&story.setup, story.seed);
        for (number, step) in story.steps.iter().enumerate() {
            world.take(step).map_err(|what| format!("After sentence {}: {what}", number + 2))?;
        }
        Ok(world)
    }

    /// The same without packets.
    pub(crate) fn after_in_silence(story: &Story) -> Self {
        let mut world = Self::new(&story.setup, story.seed);
        for step in story.steps.iter().filter(|step| !matches!(step, Step::Connect(_))) {
            world.happen(step);
        }
        world
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        if let Step::Connect(at) = step {
            return self.connect(*at);
        }
        self.happen(step);
        self.note_snapshot(step);
        self.judge()
    }

    pub(crate) fn happen(&mut self, step: &Step) {
        match step {
            Step::Cluster(objects) => {
                self.objects.extend(objects.iter().cloned());
                self.driver.cluster(objects.clone());
            }
            Step::Flap(link) => self.on_host(|kernel| flap(kernel, link)),
            Step::Address(link, address) => self.on_host(|kernel| toggle(kernel, link, address)),
            Step::Link(link) => self.on_host(|kernel| plug(kernel, link)),
            Step::Interfere(what, at) => {
                let before = self.driver.kernel.nft().clone();
                interfere(&mut self.driver.kernel, *what, *at);
                // The kernel tells of nftables (T17).
                if *self.driver.kernel.nft() != before {
                    self.driver.kernel_changed();
                }
            }
            Step::Fail(n, class) => self.driver.kernel.fail_nth(*n, *class),
            Step::FailReads(times) => {
                self.driver.kernel.fail_reads(*times, OpErrorClass::Transient);
            }
            Step::Crash(n) => self.driver.kernel.crash_after(*n),
            Step::Restart => self.driver.restart(self.setup.config(), self.objects.clone()),
            Step::Notify => self.driver.kernel_changed(),
            Step::Wait(millis) => {
                self.driver.advance(*millis);
                self.untouched.advance(*millis);
            }
            Step::Connect(_) => {}
        }
    }

    fn on_host(&mut self, change: impl Fn(&mut SimKernel)) {
        change(&mut self.driver.kernel);
        change(&mut self.untouched);
        self.driver.host_changed();
    }

    /// Whether the gateway says that the kernel holds what is wanted, as far as its settings and
    /// the host allow.
    pub(crate) fn in_sync(&self) -> bool {
        let gateway = &self.driver.gateway;
        let Some(status) = gateway.status() else { return false };
        let complains =
            || !status.degraded.is_empty() && status.degraded == self.compiled().warnings;
        gateway.is_idle() && (status.in_sync || complains())
    }

    fn note_snapshot(&mut self, step: &Step) {
        let oracle = self.oracle();
        for held in &mut self.connections {
            held.permitted_ever_since &= oracle.permits(&held.connection.known);
        }
        self.in_force.push(oracle);
        let looked = match step {
            Step::Notify | Step::Restart => true,
            Step::Wait(millis) => *millis > READ_BACK_MILLIS,
            _ => !self.blind,
        };
        match step {
            Step::Interfere(..) => self.blind = true,
            Step::Flap(_) | Step::Address(..) | Step::Link(_) => self.blind |= !self.in_sync(),
            _ if looked && self.in_sync() => self.blind = false,
            _ => {}
        }
        if self.in_sync() && !self.blind {
            self.in_force.drain(..self.in_force.len() - 1);
        }
    }

    /// The snapshot of now, as the oracle reads it.
    pub(crate) fn oracle(&self) -> Oracle {
        let was_off =
            |f: &Family| self.untouched.sysctl(&SysctlKey::Forwarding(*f)).as_deref() != Some("1");
        let closed: BTreeSet<Family> = Family::ALL.into_iter().filter(was_off).collect();
        Oracle::new(self.snapshot(), closed)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            cluster: cluster(&self.objects),
            host: self.host_state(),
            config: self.setup.config(),
        }
    }

    fn host_state(&self) -> HostState {
        self.driver.kernel.host()
    }

    fn judge_by(&self) -> Judge<'_> {
        let settled = self.in_sync() && !self.blind;
        let numbers = settled.then(|| {
            let layout = MarkLayout::new(self.setup.mark_mask);
            let uplinks = &self.driver.gateway.dataplane().expect("it is in sync").uplinks;
            (layout, uplinks.iter().map(|(name, u)| (name.clone(), u.number)).collect())
        });
        Judge { oracles: &self.in_force, numbers }
    }

    fn next_port(&mut self) -> u16 {
        self.client_port += 1;
        self.client_port
    }

    /// Lends the kernel to a host through which packets go.
    fn on_the_way<T>(
        &mut self,
        walk: impl FnOnce(&mut SimHost, &Judge<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let kernel = std::mem::replace(&mut self.driver.kernel, SimKernel::new(self.setup.flavour));
        let judge = self.judge_by();
        let mut host = SimHost::new(kernel, self.random.clone().next_64());
        let outcome = walk(&mut host, &judge);
        self.driver.kernel = host.kernel;
        outcome
    }

    /// A client of the outside opens a connection that the snapshot of now lets in.
    fn connect(&mut self, at: Index) -> Result<(), String> {
        if self.blind {
            return Ok(());
        }
        let now = self.in_force.last().expect("the snapshot of now");
        let open = probes::CONNECTIONS.iter().filter(|probe| {
            let translated = matches!(now.expect(probe), Expectation::Translated { .. });
            translated && probes::can_come(probe, &self.driver.kernel)
        });
        let open: Vec<_> = open.collect();
        if open.is_empty() {
            return Ok(());
        }
        let (probe, port) = (open[at.index(open.len())], self.next_port());
        let opened = self.on_the_way(|host, judge| judge.probe(host, probe, port))?;
        let now = self.in_force.last().expect("the snapshot of now");
        if let Some(connection) = opened {
            let permitted_ever_since = now.permits(&connection.known);
            let seen = self.driver.kernel.now().0;
            self.connections.push(Held { connection, permitted_ever_since, seen });
        }
        Ok(())
    }

    /// P1, P2, P4, P5, T10: some first packets, and those of all connections.
    pub(crate) fn judge(&mut self) -> Result<(), String> {
        if self.blind {
            return Ok(());
        }
        self.judge_connections()?;
        self.judge_probes(PROBES)
    }

    /// The packets go through a copy: they leave no connections behind.
    pub(crate) fn judge_probes(&mut self, number: usize) -> Result<(), String> {
        let chosen: Vec<_> = probes::some(number, &mut self.random).collect();
        let mut kernel = self.driver.kernel.clone();
        kernel.take_log();
        let judge = self.judge_by();
        let mut host = SimHost::new(kernel, self.random.clone().next_64());
        let mut port = self.client_port;
        for probe in chosen {
            if probes::can_come(probe, &host.kernel) {
                port += 1;
                judge.probe(&mut host, probe, port)?;
            }
        }
        Ok(())
    }

    fn judge_connections(&mut self) -> Result<(), String> {
        let settled = self.in_sync();
        let now = self.driver.kernel.now().0;
        let mut connections = std::mem::take(&mut self.connections);
        // Without TCP's long timeouts there may be nothing left to speak of.
        connections.retain(|held| {
            held.connection.known.protocol == Protocol::Tcp || now < held.seen + FRESH_MILLIS
        });
        let last = self.in_force.len() - 1;
        let outcome = self.on_the_way(|host, judge| {
            for held in &mut connections {
                let Held { connection, permitted_ever_since, seen } = held;
                if *permitted_ever_since {
                    if connection.can_come(&host.kernel) {
                        connection.talk(host)?;
                        *seen = now;
                    }
                } else if settled
                    && connection.can_come(&host.kernel)
                    && !judge.oracles[last].permits(&connection.known)
                {
                    let (reaches, trace) = connection.reaches(host)?;
                    if reaches && !connection.begins_anew(&judge.oracles[last]) {
                        return Err(format!("T10: an ended connection goes on\n{trace}"));
                    }
                }
            }
            Ok(())
        });
        connections.retain(|held| held.permitted_ever_since || !settled);
        self.connections = connections;
        outcome
    }

    pub(crate) fn compiled(&self) -> Compiled {
        let observed = held(&self.driver.kernel);
        let config = self.setup.config();
        let numbers = adopt_numbers(&observed, &config);
        compile(&cluster(&self.objects), &self.host_state(), &config, &numbers, &observed)
    }

    /// Mappings are gone, for the cluster that the program finds when it starts anew.
    pub(crate) fn restart_with(&mut self, objects: Vec<ClusterObject>) {
        self.objects = objects;
        self.driver.restart(self.setup.config(), self.objects.clone());
    }

    /// P14: the faults stop. The gateway converges in a bounded number of rounds.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), String> {
        self.driver.kernel.clear_faults();
        if self.driver.kernel.is_crashed() {
            self.driver.restart(self.setup.config(), self.objects.clone());
        }
        self.driver.kernel.recover();
        let rounds = self.rounds();
        if !self.in_sync() || rounds > MOST_ROUNDS {
            let state = report(&self.driver);
            return Err(format!("P14: after {rounds} rounds in sync: {}; {state}", self.in_sync()));
        }
        self.in_force = vec![self.oracle()];
        self.blind = false;
        Ok(())
    }

    /// Runs until the gateway is in sync, or pauses for good; how often it looked.
    fn rounds(&mut self) -> usize {
        let end = self.driver.kernel.now().plus_millis(LONGEST_PAUSE_MILLIS);
        let mut looks = 0;
        loop {
            let Driver { gateway, kernel, .. } = &mut self.driver;
            let outputs = run(gateway, kernel, |_| ());
            looks += outputs.iter().filter(|o| matches!(o, Output::Observe(_))).count();
            match gateway.poll_timeout().filter(|at| *at <= end) {
                // It must look once more: what others changed meanwhile it may not know.
                Some(at) if looks == 0 || !self.in_sync() => {
                    let Driver { gateway, kernel, .. } = &mut self.driver;
                    let pause = at.0.saturating_sub(kernel.now().0);
                    kernel.advance(pause);
                    self.untouched.advance(pause);
                    gateway.handle_input(kernel.now(), Input::Tick);
                }
                _ => return looks,
            }
        }
    }

    /// P9: what the kernel holds is what the whole snapshot compiles to.
    pub(crate) fn assert_as_asked(&self) {
        let compiled = self.compiled();
        assert!(lint(&compiled.dataplane).is_empty());
        let wanted = lower(&compiled.dataplane, self.config().backend);
        let observed = held(&self.driver.kernel);
        assert_eq!(observed.sets, wanted.sets, "{}", report(&self.driver));
        assert_eq!(observed.nft, wanted.nft, "{}", report(&self.driver));
        assert_eq!(observed.rules, wanted.rules, "{}", report(&self.driver));
        assert_eq!(observed.routes, wanted.routes, "{}", report(&self.driver));
        let tables: Vec<&XtTableId> =
            observed.xtables.iter().filter(|(_, t)| !t.is_empty()).map(|(id, _)| id).collect();
        assert_eq!(tables, wanted.xtables.keys().collect::<Vec<_>>());
        for (id, table) in &wanted.xtables {
            assert_eq!(observed.xtables[id].chains, table.chains, "{}", report(&self.driver));
            assert_eq!(observed.xtables[id].jumps, table.jumps, "{}", report(&self.driver));
        }
        for (key, value) in &wanted.sysctls {
            assert_eq!(&observed.sysctls[key].value, value, "{key}");
        }
        let status = self.driver.gateway.status().expect("a status");
        assert_eq!(status.degraded, compiled.warnings, "{}", report(&self.driver));
    }

    /// P6, P14: looks, time and a restart ask for nothing.
    pub(crate) fn assert_quiet(&mut self) {
        self.driver.kernel.take_log();
        self.driver.take_events();
        self.driver.kernel_changed();
        self.driver.host_changed();
        self.driver.advance(20_000);
        self.driver.restart(self.setup.config(), self.objects.clone());
        assert!(self.driver.kernel.log().is_empty(), "P6: {}", report(&self.driver));
    }

    /// T10: what is left is permitted, and what was permitted all along is left.
    pub(crate) fn assert_connections(&mut self) -> Result<(), String> {
        self.judge_connections()
    }

    pub(crate) fn assert_foreign_untouched(&self) {
        assert_eq!(self.driver.kernel.foreign(), self.untouched.foreign(), "P11");
        let trespasses = self.driver.kernel.trespasses();
        assert!(trespasses.is_empty(), "P11: {trespasses:?}");
    }

    /// By a program of its own, which knows nothing.
    pub(crate) fn clean_up(&mut self) {
        self.driver.kernel.clear_faults();
        self.driver.kernel.recover();
        self.driver = Driver::new(self.setup.config(), self.driver.kernel.clone());
        self.driver.clean_up();
        let cleaned = count(self.driver.events(), EventKind::CleanedUp);
        assert_eq!(cleaned, 1, "{}", report(&self.driver));
    }

    /// P10.
    pub(crate) fn assert_gone(&self) {
        assert_clean(&self.driver.kernel, &Surroundings::of(&self.untouched));
        let marks = MarkLayout::new(self.setup.mark_mask);
        let left = self.driver.kernel.conntrack().iter().filter(|f| f.mark & marks.ours != 0);
        assert_eq!(left.count(), 0, "P10: connections of ours are left");
    }

    pub(crate) fn config(&self) -> GatewayConfig {
        self.setup.config()
    }
}

/// The numbers of uplinks by name, as a kernel's objects speak of them.
pub(crate) fn numbers(kernel: &SimKernel, config: &GatewayConfig) -> BTreeMap<String, u32> {
    adopt_numbers(&held(kernel), config)
}
