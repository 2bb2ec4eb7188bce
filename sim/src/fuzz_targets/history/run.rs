//! A gateway on its kernel, moved on in half steps: a request, then its answer.

use std::fmt::Write as _;

use smartnat_core::gateway::{Input, Output};
use smartnat_core::model::{ClusterObject, ClusterState, GatewayConfig};
use smartnat_core::ops::Kernel;

use super::super::objects;
use crate::kernel::ForeignObjects;
use crate::{Driver, SimKernel};

/// Half steps while time stands still, beyond which a gateway does not come to rest.
const MAX_HALF_STEPS: usize = 10_000;

/// A history under way.
pub(super) struct Run {
    pub(super) config: GatewayConfig,
    pub(super) driver: Driver,
    /// What the cluster asks for by now.
    pub(super) cluster: ClusterState,
    /// It was told to clean up, so it serves no more.
    pub(super) cleaning: bool,
    /// What the gateway waits for an answer to.
    pending: Option<Output>,
    story: String,
}

impl Run {
    /// A gateway that has taken in a cluster on a kernel.
    pub(super) fn begin(config: GatewayConfig, kernel: SimKernel, cluster: ClusterState) -> Self {
        let mut driver = Driver::new(config.clone(), kernel);
        let foreign = driver.kernel.foreign();
        driver.start(objects::all(&cluster));
        let run =
            Self { config, driver, cluster, cleaning: false, pending: None, story: String::new() };
        run.assert_foreign(&foreign);
        run
    }

    /// Notes what happens, for the report of a failure.
    pub(super) fn tell(&mut self, what: impl std::fmt::Display) {
        let _ = writeln!(self.story, "  {} {what}", self.driver.kernel.now().0);
    }

    /// What happened, and how the gateway sees it.
    pub(super) fn report(&self) -> String {
        let status = self.driver.gateway.status();
        let degraded = status.map(|s| (s.in_sync, &s.degraded));
        let log = self.driver.kernel.log();
        let last = log.iter().rev().take(8).rev().fold(String::new(), |mut text, record| {
            let outcome = record.outcome.as_ref().err();
            let _ = writeln!(text, "  {} {:?} {outcome:?}", record.at.0, record.ops);
            text
        });
        format!("{}status: {degraded:?}\nlast transactions:\n{last}", self.story)
    }

    /// Changed objects of the cluster.
    pub(super) fn change(&mut self, objects: Vec<ClusterObject>, steps: Option<usize>) {
        objects.iter().cloned().for_each(|object| self.cluster.update(object));
        self.give(Input::Cluster(objects), steps);
    }

    /// The host as it is now.
    pub(super) fn host_changed(&mut self, steps: Option<usize>) {
        let host = self.driver.kernel.host();
        self.give(Input::Host(host), steps);
    }

    /// Hands over an input, then some half steps, or all that there are.
    pub(super) fn give(&mut self, input: Input, steps: Option<usize>) {
        let now = self.driver.kernel.now();
        self.driver.gateway.handle_input(now, input);
        self.proceed(steps);
    }

    /// Half steps, or all until the gateway has nothing left to do.
    pub(super) fn proceed(&mut self, steps: Option<usize>) {
        let foreign = self.driver.kernel.foreign();
        let mut left = steps.unwrap_or(MAX_HALF_STEPS);
        while left > 0 && self.half_step() {
            left -= 1;
        }
        let at_rest = steps.is_some() || left > 0;
        assert!(at_rest, "P14: the gateway does not come to rest:\n{}", self.report());
        self.assert_foreign(&foreign);
    }

    /// Time passes, with a tick whenever the gateway asked for one.
    pub(super) fn pass(&mut self, millis: u64) {
        self.proceed(None);
        let foreign = self.driver.kernel.foreign();
        self.driver.advance(millis);
        self.assert_foreign(&foreign);
    }

    /// The program dies, whatever was under way, and starts anew.
    pub(super) fn restart(&mut self) {
        self.pending = None;
        self.cleaning = false;
        let foreign = self.driver.kernel.foreign();
        self.driver.restart(self.config.clone(), objects::all(&self.cluster));
        self.assert_foreign(&foreign);
    }

    fn half_step(&mut self) -> bool {
        if let Some(output) = self.pending.take() {
            self.answer(&output);
            return true;
        }
        self.pending = self.driver.gateway.poll_output();
        self.pending.is_some()
    }

    fn answer(&mut self, output: &Output) {
        let kernel = &mut self.driver.kernel;
        let input = match output {
            Output::Observe(scope) => Input::Observed(kernel.observe(scope).map(Box::new)),
            Output::Apply(transaction) => Input::Applied(kernel.apply(transaction)),
            Output::ListFlows(filter) => Input::Flows(kernel.flows(filter)),
            Output::Status(_) | Output::Event(_) => return,
        };
        let now = kernel.now();
        self.driver.gateway.handle_input(now, input);
    }

    fn assert_foreign(&self, before: &ForeignObjects) {
        let kernel = &self.driver.kernel;
        assert_eq!(kernel.foreign(), *before, "P11:\n{}", self.report());
        assert!(kernel.trespasses().is_empty(), "P11: {:?}", kernel.trespasses());
    }
}
