//! What the kernel changes by itself along with forwarding.
//!
//! Switching forwarding of a family on or off sets it on every interface, and for IPv4
//! redirects are accepted just where forwarding is off. A host that had it otherwise, such as
//! one hardened against redirects, gets that back.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use smartnat_core::model::Family;
use smartnat_core::objects::SysctlKey;
use smartnat_core::ops::OpError;

use super::{Sysctls, failure, write_file};

/// Interfaces of a host; more are looked at by nobody.
const MAX_INTERFACES: usize = 100_000;

/// A setting that is lost when forwarding is switched on and off again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SideEffect {
    /// Path below `/proc/sys`.
    setting: String,
    /// Value before.
    value: String,
}

impl Sysctls {
    /// Sets the value of before; nothing where the setting went with its interface.
    pub(crate) fn undo(&self, effect: &SideEffect) -> Result<(), OpError> {
        match write_file(&self.directory.join(&effect.setting), &effect.value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failure(&effect.setting, &error))
            }
            _ => Ok(()),
        }
    }

    /// What differs from what switching `key` on and off again would leave. Nothing for
    /// other settings than forwarding, and where forwarding is on already.
    pub(crate) fn lost_with(
        &self,
        key: &SysctlKey,
        value: &str,
    ) -> Result<Vec<SideEffect>, OpError> {
        let SysctlKey::Forwarding(family) = key else { return Ok(Vec::new()) };
        if value != "0" {
            return Ok(Vec::new());
        }
        let conf = match family {
            Family::V4 => "net/ipv4/conf",
            Family::V6 => "net/ipv6/conf",
        };
        let mut settings = Vec::new();
        if *family == Family::V4 {
            settings.push((format!("{conf}/all/accept_redirects"), "1"));
        }
        let entries = fs::read_dir(self.directory.join(conf));
        for entry in entries.map_err(|error| failure(conf, &error))?.take(MAX_INTERFACES) {
            let name = entry.map_err(|error| failure(conf, &error))?.file_name();
            // That of all interfaces is the setting itself.
            if let Some(name) = name.to_str().filter(|name| *name != "all") {
                settings.push((format!("{conf}/{name}/forwarding"), "0"));
            }
        }
        let mut lost = Vec::new();
        for (setting, afterwards) in settings {
            match fs::read_to_string(self.directory.join(&setting)) {
                Ok(text) if text.trim_end() == afterwards => {}
                Ok(text) => lost.push(SideEffect { setting, value: text.trim_end().to_owned() }),
                // The interface went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failure(setting, &error)),
            }
        }
        Ok(lost)
    }
}
