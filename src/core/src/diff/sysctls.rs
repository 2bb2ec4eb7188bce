//! Sysctls: set with the value before recorded, restored from the record.

use super::is_forwarding;
use crate::lower::DesiredObjects;
use crate::objects::{KernelState, SysctlKey};
use crate::ops::NetworkOp;

/// Changes of forwarding, and of the rest.
pub(super) fn changes(
    desired: &DesiredObjects,
    observed: &KernelState,
) -> (Vec<NetworkOp>, Vec<NetworkOp>) {
    let set = desired
        .sysctls
        .iter()
        .filter(|(key, value)| observed.sysctls.get(key).is_some_and(|s| s.value != **value))
        .map(|(key, value)| NetworkOp::SetSysctl { key: key.clone(), value: value.clone() });
    let restore =
        observed.sysctls.iter().filter(|(key, _)| !desired.sysctls.contains_key(key)).filter_map(
            |(key, state)| {
                let original = state.original.clone()?;
                let still_ours = our_values(key).contains(&state.value.as_str());
                let value = (still_ours && original != state.value).then_some(original);
                Some(NetworkOp::ForgetSysctl { key: key.clone(), value })
            },
        );
    set.chain(restore).partition(|op| match op {
        NetworkOp::SetSysctl { key, .. } | NetworkOp::ForgetSysctl { key, .. } => {
            is_forwarding(key)
        }
        _ => false,
    })
}

/// What we ever set a sysctl to: another value is somebody else's and stays (T16).
fn our_values(key: &SysctlKey) -> &'static [&'static str] {
    match key {
        SysctlKey::Forwarding(_)
        | SysctlKey::MarkReflect(_)
        | SysctlKey::TcpMarkAccept
        | SysctlKey::SourceValidMark(_)
        | SysctlKey::ArpIgnore(_) => &["1"],
        SysctlKey::ReversePathFilter(_)
        | SysctlKey::ArpAnnounce(_)
        | SysctlKey::AcceptRouterAdvertisements(_) => &["2"],
    }
}

/// The operations that set a value.
pub(super) fn set(ops: &[NetworkOp]) -> Vec<NetworkOp> {
    ops.iter().filter(|op| matches!(op, NetworkOp::SetSysctl { .. })).cloned().collect()
}

/// The operations that restore one.
pub(super) fn restored(ops: &[NetworkOp]) -> Vec<NetworkOp> {
    ops.iter().filter(|op| matches!(op, NetworkOp::ForgetSysctl { .. })).cloned().collect()
}
