//! Kernel settings below `/proc/sys/net`.
//!
//! The kernel shows each thread the settings of that thread's network namespace.

mod side_effects;

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketType};
use smartnat_core::objects::SysctlKey;
use smartnat_core::ops::{OpError, OpErrorClass};

use crate::routing::class_of_errno;

pub(crate) use side_effects::{SideEffect, lost_with};

/// The value, or `None` where this kernel or host has no such setting.
pub fn read(key: &SysctlKey) -> Result<Option<String>, OpError> {
    let path = path(key)?;
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure(key, &error)),
    }
}

/// Sets the value; `NotFound` where there is no such setting.
pub fn write(key: &SysctlKey, value: &str) -> Result<(), OpError> {
    write_file(&path(key)?, value).map_err(|error| failure(key, &error))
}

/// A sysctl takes a value in one write, and is never created.
fn write_file(path: &std::path::Path, value: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, value.as_bytes())
}

/// The index of the interface that a setting is about; `None` where it is about none or that is gone.
pub(crate) fn interface_index(key: &SysctlKey) -> Result<Option<u32>, OpError> {
    let name = interface(key);
    if name == "all" {
        return Ok(None);
    }
    let failed = |error: rustix::io::Errno| failure(key, &error.into());
    let socket =
        rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(failed)?;
    match rustix::net::netdevice::name_to_index(socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(rustix::io::Errno::NODEV) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn interface(key: &SysctlKey) -> &str {
    match key {
        SysctlKey::Forwarding(_) | SysctlKey::MarkReflect(_) | SysctlKey::TcpMarkAccept => "all",
        SysctlKey::ReversePathFilter(name)
        | SysctlKey::SourceValidMark(name)
        | SysctlKey::ArpIgnore(name)
        | SysctlKey::ArpAnnounce(name)
        | SysctlKey::AcceptRouterAdvertisements(name) => name,
    }
}

fn path(key: &SysctlKey) -> Result<PathBuf, OpError> {
    let interface = interface(key);
    // No interface has such a name; as a path it would lead elsewhere.
    if interface.is_empty() || interface.contains('/') || interface == "." || interface == ".." {
        let detail = format!("{interface:?} is no name of an interface");
        return Err(OpError::new(OpErrorClass::Invalid, object(key), detail));
    }
    Ok(PathBuf::from("/proc/sys").join(key.path()))
}

fn failure(key: impl fmt::Display, error: &io::Error) -> OpError {
    let class = error.raw_os_error().map_or(OpErrorClass::Transient, class_of_errno);
    OpError::new(class, object(key), error)
}

fn object(key: impl fmt::Display) -> String {
    format!("sysctl {key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartnat_core::model::Family;

    #[test]
    fn a_setting_is_read_without_its_line_end() {
        let value = read(&SysctlKey::Forwarding(Family::V4)).expect("readable");
        assert!(matches!(value.as_deref(), Some("0" | "1")), "{value:?}");
    }

    #[test]
    fn a_setting_of_an_absent_interface_is_absent() {
        let key = SysctlKey::ReversePathFilter("no-such-if".into());
        assert_eq!(read(&key), Ok(None));
        assert_eq!(write(&key, "2").expect_err("absent").class, OpErrorClass::NotFound);
    }

    #[test]
    fn a_name_cannot_lead_to_another_place() {
        for name in ["", ".", "..", "../../kernel"] {
            let key = SysctlKey::ArpIgnore(name.into());
            assert_eq!(read(&key).expect_err("no interface").class, OpErrorClass::Invalid);
        }
    }
}
