//! From a five-tuple to the path that it takes on a host, the way of its reply, and the Mapping
//! responsible for it.
//!
//! What our own objects do follows from the compiled dataplane; what others have in the way is
//! evaluated where it can be, and is a "perhaps" where it cannot. Not looked at: routing rules of
//! others, bridges, and whether whoever gets a packet answers it.

mod arrival;
mod foreign;
mod inbound;
mod near;
mod others;
mod outcome;
mod route;
mod services;
mod through;
mod walk;

#[cfg(test)]
mod tests;

pub use foreign::{DroppingChain, Foreign, ForeignBuiltin, ForeignRules};
pub use outcome::{
    Cause, EndpointWay, Explanation, Origin, Progress, Question, ReplyWay, Stage, Step, Verdict,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compile::{UplinkNumbers, compile};
use crate::model::{ClusterState, GatewayConfig, HostState};
use crate::objects::{KernelState, SysctlKey, SysctlState, pairs};

/// Everything that an explanation depends on: a file of it can be replayed anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scene {
    /// Cluster objects.
    pub cluster: ClusterState,
    /// The host.
    pub host: HostState,
    /// Settings.
    pub config: GatewayConfig,
    /// The uplinks' numbers in marks and tables so far.
    pub numbers: UplinkNumbers,
    /// Sysctls as observed, which tell whether it was we who switched forwarding on.
    #[serde(with = "pairs")]
    pub sysctls: BTreeMap<SysctlKey, SysctlState>,
    /// What others have in the way.
    pub foreign: Foreign,
}

/// Tells the way of a packet.
pub fn explain(scene: &Scene, question: &Question) -> Explanation {
    let observed = KernelState { sysctls: scene.sysctls.clone(), ..KernelState::default() };
    let compiled = compile(&scene.cluster, &scene.host, &scene.config, &scene.numbers, &observed);
    walk::Walk::new(scene, &compiled, question).run()
}
