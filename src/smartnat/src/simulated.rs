//! The simulated kernel, made to look like a host.

use smartnat_core::model::{Family, HostState};
use smartnat_core::objects::{Flow, FlowFilter, KernelState, ObservationScope};
use smartnat_core::ops::{Kernel, OpError, Transaction};
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::XtFlavour;

use crate::driver::{Counters, CountingKernel};

/// A simulated kernel for a dry run.
#[derive(Debug)]
pub struct DryRunKernel(SimKernel);

/// A kernel with the links, addresses and routes of `host`, and nothing of ours.
pub fn open(host: &HostState) -> DryRunKernel {
    let mut kernel = SimKernel::new(XtFlavour::Nft);
    kernel.set_families(host.families.iter().copied());
    for (name, link) in &host.links {
        if kernel.links().get(name).is_none() {
            kernel.add_link(name);
        }
        for address in &link.addresses {
            let known = kernel.links().get(name);
            if !known.is_some_and(|l| l.addresses.iter().any(|a| a.address == address.address)) {
                kernel.add_address(name, &address.address.to_string());
            }
        }
        kernel.set_carrier(name, link.up);
    }
    for route in host.routes.iter().filter(|route| route.gateway.is_some()) {
        let known = host.families.contains(&Family::of(&route.destination.addr()));
        if known && kernel.links().get(&route.interface).is_some() {
            let gateway = route.gateway.map(|gateway| gateway.to_string());
            let destination = route.destination.to_string();
            kernel.add_host_route(&destination, gateway.as_deref(), &route.interface);
        }
    }
    DryRunKernel(kernel)
}

impl Kernel for DryRunKernel {
    fn observe(&mut self, scope: &ObservationScope) -> Result<KernelState, OpError> {
        self.0.observe(scope)
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        let result = self.0.apply(transaction);
        // A log that nobody reads must not grow for days.
        self.0.take_log();
        result
    }

    fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        self.0.flows(filter)
    }
}

impl CountingKernel for DryRunKernel {
    fn counters(&self) -> Counters {
        Counters { operations: self.0.applied_ops(), processes: 0 }
    }
}
