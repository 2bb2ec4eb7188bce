//! Sysctls, and the record of their values before the first change.

use std::collections::BTreeMap;

use smartnat_core::model::Family;
use smartnat_core::objects::{ObservationScope, SysctlKey, SysctlState};
use smartnat_core::ops::OpError;

use super::error::{invalid, not_found};
use super::links::Links;

/// Values that differ from the kernel's defaults, and what was recorded before we changed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    values: BTreeMap<SysctlKey, String>,
    /// Of a link with the index of that link: another link may come by its name.
    originals: BTreeMap<SysctlKey, (String, Option<u32>)>,
}

impl Sysctls {
    /// The value; `None` when the interface or family does not exist.
    pub fn get(&self, links: &Links, key: &SysctlKey) -> Option<String> {
        let exists = match (interface(key), family(key)) {
            (_, family) if !links.families().contains(&family) => false,
            (Some("all" | "default") | None, _) => true,
            (Some(name), _) => links.get(name).is_some(),
        };
        let default = match key {
            SysctlKey::AcceptRouterAdvertisements(_) => "1",
            _ => "0",
        };
        exists.then(|| self.values.get(key).cloned().unwrap_or_else(|| default.into()))
    }

    /// The largest value among the keys that `wanted` names, 0 without any: how the kernel joins
    /// the setting for `all` with an interface's (`IN_DEV_MAXCONF`, `IN_DEV_ORCONF`).
    pub(crate) fn largest(&self, wanted: impl Fn(&SysctlKey) -> bool) -> i32 {
        let values = self.values.iter().filter(|(key, _)| wanted(key));
        values.filter_map(|(_, value)| value.parse().ok()).max().unwrap_or(0).max(0)
    }

    /// Recorded values by key, with the index of the link that a key is about.
    pub fn originals(&self) -> &BTreeMap<SysctlKey, (String, Option<u32>)> {
        &self.originals
    }

    /// What is recorded of a setting, unless it is of a link that is gone while another has its name.
    fn original(&self, links: &Links, key: &SysctlKey) -> Option<String> {
        let (value, recorded) = self.originals.get(key)?;
        let present = link_index(links, key);
        (present.is_none() || present == *recorded).then(|| value.clone())
    }

    /// Those of the scope that exist, and all recorded ones: their value is empty when the interface is gone.
    /// Records of a link that was replaced are dropped: there is nothing to restore.
    pub(super) fn observe(
        &mut self,
        links: &Links,
        scope: &ObservationScope,
    ) -> BTreeMap<SysctlKey, SysctlState> {
        self.originals.retain(|key, (_, recorded)| {
            let present = link_index(links, key);
            present.is_none() || present == *recorded
        });
        scope
            .sysctls
            .iter()
            .chain(self.originals.keys())
            .filter_map(|key| {
                let original = self.original(links, key);
                let value = match self.get(links, key) {
                    None if original.is_some() => String::new(),
                    value => value?,
                };
                Some((key.clone(), SysctlState { value, original }))
            })
            .collect()
    }

    /// Records the value of now unless one is recorded.
    pub(super) fn record(&mut self, links: &Links, key: &SysctlKey) -> Result<(), OpError> {
        let Some(value) = self.get(links, key) else { return missing(key) };
        if self.original(links, key).is_none() {
            self.originals.insert(key.clone(), (value, link_index(links, key)));
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, key: &SysctlKey) {
        self.originals.remove(key);
    }

    pub(super) fn write(
        &mut self,
        links: &Links,
        key: &SysctlKey,
        value: &str,
    ) -> Result<(), OpError> {
        if self.get(links, key).is_none() {
            return missing(key);
        }
        // `echo 7 > arp_ignore` succeeds, `echo x` is an invalid argument.
        let Ok(number) = value.trim().parse::<i32>() else {
            return invalid(object(key), format_args!("{value:?} is no number"));
        };
        // proc_dou8vec_minmax.
        if matches!(key, SysctlKey::MarkReflect(_)) && !(0..=255).contains(&number) {
            return invalid(object(key), format_args!("{value:?} does not fit in 8 bits"));
        }
        self.values.insert(key.clone(), number.to_string());
        Ok(())
    }

    /// A new interface of the name begins with the defaults; what was recorded lives in a file.
    pub(super) fn link_removed(&mut self, name: &str) {
        self.values.retain(|key, _| interface(key) != Some(name));
    }
}

/// The index of the link that a key is about, if there is one now.
fn link_index(links: &Links, key: &SysctlKey) -> Option<u32> {
    interface(key).and_then(|name| links.get(name)).map(|link| link.index)
}

/// The interface that a key is about.
fn interface(key: &SysctlKey) -> Option<&str> {
    match key {
        SysctlKey::Forwarding(_) | SysctlKey::MarkReflect(_) | SysctlKey::TcpMarkAccept => None,
        SysctlKey::ReversePathFilter(name)
        | SysctlKey::SourceValidMark(name)
        | SysctlKey::ArpIgnore(name)
        | SysctlKey::ArpAnnounce(name)
        | SysctlKey::AcceptRouterAdvertisements(name) => Some(name),
    }
}

fn family(key: &SysctlKey) -> Family {
    match key {
        SysctlKey::Forwarding(family) | SysctlKey::MarkReflect(family) => *family,
        SysctlKey::AcceptRouterAdvertisements(_) => Family::V6,
        _ => Family::V4,
    }
}

fn object(key: &SysctlKey) -> String {
    format!("sysctl {key}")
}

fn missing<T>(key: &SysctlKey) -> Result<T, OpError> {
    not_found(object(key), "no such file or directory")
}
