//! What a gateway would do, without a kernel: its operations change a state in memory.

use std::collections::BTreeSet;

use smartnat_core::gateway::{Gateway, Input};
use smartnat_core::model::{ClusterObject, ClusterState, GatewayConfig, HostState};
use smartnat_core::objects::{
    Flow, FlowFilter, IpSet, KernelState, ObservationScope, SysctlKey, SysctlState, XtTableState,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, OpError, OpErrorClass, Transaction};

use crate::driver::{Settled, now, settle};

/// A state that takes operations as if nothing could fail.
#[derive(Default)]
pub struct PlannedKernel<'a> {
    real: Option<&'a mut dyn Kernel>,
    before: Option<KernelState>,
    state: KernelState,
}

impl<'a> PlannedKernel<'a> {
    /// Starts from what a kernel holds when it is first looked at.
    pub fn from_kernel(real: &'a mut dyn Kernel) -> Self {
        Self { real: Some(real), ..Self::default() }
    }

    /// Starts from a kernel that holds nothing of ours, with the sysctls of a fresh one.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Looks at the real kernel, but only the first time.
    fn first_look(&mut self, scope: &ObservationScope) -> Result<(), OpError> {
        if self.before.is_some() {
            return Ok(());
        }
        self.state = match self.real.take() {
            Some(real) => real.observe(scope)?,
            None => fresh(scope),
        };
        self.before = Some(self.state.clone());
        Ok(())
    }
}

impl PlannedKernel<'_> {
    fn other_op(&mut self, op: &NetworkOp) {
        let state = &mut self.state;
        match op {
            NetworkOp::CreateSet { name, spec } => {
                let set = IpSet { spec: *spec, elements: BTreeSet::new() };
                state.sets.insert(name.clone(), set);
            }
            NetworkOp::AddElement { set, element } => {
                if let Some(set) = state.sets.get_mut(set) {
                    set.elements.insert(*element);
                }
            }
            NetworkOp::DeleteElement { set, element } => {
                if let Some(set) = state.sets.get_mut(set) {
                    set.elements.remove(element);
                }
            }
            NetworkOp::DestroySet { name } => {
                state.sets.remove(name);
            }
            NetworkOp::AddRule(rule) => {
                state.rules.insert(rule.clone());
            }
            NetworkOp::DeleteRule(rule) => {
                state.rules.remove(rule);
            }
            NetworkOp::PutRoute(route) => {
                let same = |r: &&_| same_place(r, route);
                state.routes = state.routes.iter().filter(|r| !same(r)).cloned().collect();
                state.routes.insert(route.clone());
            }
            NetworkOp::DeleteRoute(route) => {
                state.routes.remove(route);
            }
            NetworkOp::SetSysctl { key, value } => {
                let before = state.sysctls.remove(key);
                let original = before.map(|b| b.original.unwrap_or(b.value));
                let value = value.clone();
                state.sysctls.insert(key.clone(), SysctlState { value, original });
            }
            NetworkOp::ForgetSysctl { key, value } => {
                if let Some(sysctl) = state.sysctls.get_mut(key) {
                    sysctl.original = None;
                    sysctl.value = value.clone().unwrap_or_else(|| sysctl.value.clone());
                }
            }
            _ => {}
        }
    }
}

fn xtables_op(table: &mut XtTableState, op: &NetworkOp) {
    match op {
        NetworkOp::PutChain { chain, rules } => {
            table.chains.insert(chain.clone(), rules.clone());
        }
        NetworkOp::DeleteChain { chain } => {
            table.chains.remove(chain);
        }
        NetworkOp::InsertJump { hook, rule } => {
            table.jumps.entry(*hook).or_default().insert(0, rule.clone());
        }
        NetworkOp::DeleteJump { hook, rule } => {
            let jumps = table.jumps.entry(*hook).or_default();
            if let Some(at) = jumps.iter().position(|jump| jump == rule) {
                jumps.remove(at);
            }
        }
        NetworkOp::DeleteEmptyBuiltin { hook } => {
            table.created_builtins.remove(hook);
        }
        _ => {}
    }
}

fn same_place(a: &smartnat_core::objects::Route, b: &smartnat_core::objects::Route) -> bool {
    a.table == b.table && a.destination == b.destination
}

/// A kernel as it starts.
fn fresh(scope: &ObservationScope) -> KernelState {
    let initial = |key: &SysctlKey| match key {
        SysctlKey::AcceptRouterAdvertisements(_) => "1",
        _ => "0",
    };
    let state = |key| SysctlState { value: initial(key).into(), original: None };
    let sysctls = scope.sysctls.iter().map(|key| (key.clone(), state(key))).collect();
    KernelState { sysctls, ..KernelState::default() }
}

impl Kernel for PlannedKernel<'_> {
    fn observe(&mut self, scope: &ObservationScope) -> Result<KernelState, OpError> {
        self.first_look(scope)?;
        Ok(self.state.clone())
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        for op in &transaction.ops {
            match transaction.domain {
                Domain::Xtables(id) => xtables_op(self.state.xtables.entry(id).or_default(), op),
                Domain::OtherXtables(id) => {
                    xtables_op(self.state.other_xtables.entry(id).or_default(), op);
                }
                Domain::Sets | Domain::Routing | Domain::Sysctls => self.other_op(op),
                Domain::Nftables => {
                    let NetworkOp::Nft(op) = op else { continue };
                    self.state.follow_nft(op);
                }
                Domain::Flows => {}
            }
        }
        Ok(())
    }

    /// No connections are looked at: that some may end is no change of an object.
    fn flows(&mut self, _filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        Ok(Vec::new())
    }
}

/// What a plan comes to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything of ours before.
    pub before: KernelState,
    /// And after.
    pub after: KernelState,
    /// What would be done, and the status after it.
    pub settled: Settled,
}

/// Lets a new gateway reach its goal on a planned kernel.
pub fn plan(
    config: GatewayConfig,
    cluster: ClusterState,
    host: HostState,
    mut kernel: PlannedKernel<'_>,
) -> Result<Plan, OpError> {
    let mut gateway = Gateway::new(config);
    let now = now();
    gateway.handle_input(now, Input::Host(host));
    gateway.handle_input(now, Input::Cluster(objects(cluster)));
    let settled = settle(&mut gateway, &mut kernel, now);
    if !settled.finished {
        let detail = "it does not come to an end; this is a defect of smartnat";
        return Err(OpError::new(OpErrorClass::Invalid, "the plan", detail));
    }
    Ok(Plan { before: kernel.before.unwrap_or_default(), after: kernel.state, settled })
}

/// All objects of a cluster as changes.
pub fn objects(cluster: ClusterState) -> Vec<ClusterObject> {
    let ClusterState { mappings, services, slices, published } = cluster;
    let services = services.into_values().map(ClusterObject::Service);
    let slices = slices.into_values().map(ClusterObject::EndpointSlice);
    let mappings = mappings.into_values().map(ClusterObject::Mapping);
    let published = published.into_iter().map(ClusterObject::Published);
    services.chain(slices).chain(mappings).chain(published).collect()
}

#[cfg(test)]
mod tests;
