//! A kernel whose time is taken, and a gateway that is driven on it.

use std::time::{Duration, Instant};

use smartnat::driver::{Job, MAX_STEPS, execute};
use smartnat_core::gateway::{EventKind, Gateway, Input, Output};
use smartnat_core::model::Timestamp;
use smartnat_core::objects::{Flow, FlowFilter, KernelState, ObservationScope};
use smartnat_core::ops::{Domain, Kernel, OpError, Transaction};

/// Where the time of a change goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Decisions.
    pub core: Duration,
    /// Changes of the kernel.
    pub apply: Duration,
    /// Reading the kernel.
    pub observe: Duration,
    /// Listing connections.
    pub flows: Duration,
    /// Until the kernel had taken the last change, deleted connections not counted.
    pub until_applied: Duration,
    /// Operations that were applied.
    pub operations: u64,
}

impl Spent {
    /// All of it.
    pub(crate) fn total(&self) -> Duration {
        self.core + self.kernel()
    }

    /// What is not the core's.
    pub(crate) fn kernel(&self) -> Duration {
        self.apply + self.observe + self.flows
    }
}

/// A kernel whose time is taken.
pub(crate) struct Measured<K> {
    kernel: K,
    spent: Spent,
}

impl<K: Kernel> Measured<K> {
    /// Of this kernel, from now on.
    pub(crate) fn new(kernel: K) -> Self {
        Self { kernel, spent: Spent::default() }
    }

    /// The kernel itself.
    pub(crate) fn inner(&mut self) -> &mut K {
        &mut self.kernel
    }
}

fn timed<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *spent += began.elapsed();
    result
}

impl<K: Kernel> Kernel for Measured<K> {
    fn observe(&mut self, scope: &ObservationScope) -> Result<KernelState, OpError> {
        timed(&mut self.spent.observe, || self.kernel.observe(scope))
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        self.spent.operations += transaction.ops.len() as u64;
        timed(&mut self.spent.apply, || self.kernel.apply(transaction))
    }

    fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        timed(&mut self.spent.flows, || self.kernel.flows(filter))
    }
}

/// Hands over inputs, does all that the gateway wants, and says where the time went. Dropping what
/// was read is the core's time, as it is in the running program.
///
/// The error is what the kernel refused, or that the gateway did not come to rest.
pub(crate) fn drive<K: Kernel>(
    gateway: &mut Gateway,
    kernel: &mut Measured<K>,
    now: Timestamp,
    inputs: Vec<Input>,
) -> Result<Spent, String> {
    kernel.spent = Spent::default();
    let mut refused = None;
    let mut until_applied = Duration::ZERO;
    let began = Instant::now();
    for input in inputs {
        gateway.handle_input(now, input);
    }
    for _ in 0..MAX_STEPS {
        let job = match gateway.poll_output() {
            Some(Output::Observe(scope)) => Job::Observe(scope),
            Some(Output::ListFlows(filter)) => Job::ListFlows(filter),
            Some(Output::Apply(transaction)) => Job::Apply(transaction),
            Some(Output::Event(event)) if event.kind == EventKind::KernelError => {
                refused.get_or_insert(event.message);
                continue;
            }
            Some(Output::Event(_) | Output::Status(_)) => continue,
            None => {
                let all = began.elapsed();
                let core = all.saturating_sub(kernel.spent.kernel());
                let in_sync = gateway.status().is_some_and(|status| status.in_sync);
                return match refused {
                    Some(error) => Err(error),
                    None if in_sync => Ok(Spent { core, until_applied, ..kernel.spent }),
                    None => Err("the gateway is not in sync".into()),
                };
            }
        };
        let answer = execute(kernel, &job);
        if matches!(&job, Job::Apply(transaction) if transaction.domain != Domain::Flows) {
            until_applied = began.elapsed();
        }
        gateway.handle_input(now, answer);
    }
    Err(format!("the gateway did not come to rest within {MAX_STEPS} steps"))
}

#[cfg(test)]
mod tests {
    use smartnat_core::model::GatewayConfig;
    use smartnat_sim::SimKernel;
    use smartnat_sim::kernel::XtFlavour;

    use super::*;
    use crate::cluster;

    fn simulated() -> (Gateway, Measured<SimKernel>) {
        let mut kernel = SimKernel::new(XtFlavour::Nft);
        kernel.add_link("ext1");
        for address in cluster::externals(100) {
            kernel.add_address("ext1", &format!("{address}/20"));
        }
        kernel.add_link("eth0");
        kernel.add_address("eth0", "10.255.0.1/24");
        kernel.add_host_route(cluster::POD_NETWORK, Some("10.255.0.2"), "eth0");
        let config = GatewayConfig { uplink_pattern: "ext1".into(), ..GatewayConfig::default() };
        (Gateway::new(config), Measured::new(kernel))
    }

    #[test]
    fn each_part_of_a_change_is_counted() {
        let (mut gateway, mut kernel) = simulated();
        let host = kernel.inner().host();
        let inputs = vec![Input::Host(host), Input::Cluster(cluster::many(3))];
        let mut change = |inputs| drive(&mut gateway, &mut kernel, Timestamp(1), inputs).unwrap();
        let first = change(inputs);
        assert!(first.operations > 3, "{first:?}");
        let spent = [first.core, first.apply, first.observe, first.flows];
        assert!(spent.iter().all(|part| *part > Duration::ZERO), "{first:?}");
        assert_eq!(spent.iter().sum::<Duration>(), first.total());
        assert!((first.apply..first.total()).contains(&first.until_applied), "{first:?}");

        let endpoint = change(vec![Input::Cluster(cluster::one_endpoint(3, 0))]);
        assert!((1..first.operations).contains(&endpoint.operations), "{endpoint:?}");
        let same = change(vec![Input::Cluster(cluster::one_endpoint(3, 0))]);
        assert_eq!((same.operations, same.kernel()), (0, Duration::ZERO), "nothing changed");
        assert_eq!(same.until_applied, Duration::ZERO);
        assert!(change(vec![Input::Cluster(cluster::one_more(3))]).operations > 0);
        assert!(change(vec![Input::Cluster(cluster::one_less(3))]).operations > 0);
    }
}
