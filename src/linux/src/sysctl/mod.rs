//! Kernel settings below `/proc/sys/net`.
//!
//! The kernel shows each thread the settings of that thread's network namespace, also where the
//! directory is mounted elsewhere: in a container `/proc/sys` is read-only and nothing may be mounted below it.

mod side_effects;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketType};
use smartnat_core::objects::SysctlKey;
use smartnat_core::ops::{OpError, OpErrorClass};

use crate::routing::class_of_errno;

pub(crate) use side_effects::SideEffect;

/// Where the kernel shows its settings, unless it is told otherwise.
pub const SYSCTL_DIR: &str = "/proc/sys";

/// The settings as one directory shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctls {
    directory: PathBuf,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self::new(SYSCTL_DIR)
    }
}

impl Sysctls {
    /// Those of a directory that holds `net`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The value, or `None` where this kernel or host has no such setting.
    pub fn read(&self, key: &SysctlKey) -> Result<Option<String>, OpError> {
        match std::fs::read_to_string(self.path(key)?) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure(key, &error)),
        }
    }

    /// Sets the value; `NotFound` where there is no such setting.
    pub fn write(&self, key: &SysctlKey, value: &str) -> Result<(), OpError> {
        write_file(&self.path(key)?, value).map_err(|error| failure(key, &error))
    }

    fn path(&self, key: &SysctlKey) -> Result<PathBuf, OpError> {
        let interface = interface(key);
        // No interface has such a name; as a path it would lead elsewhere.
        if interface.is_empty() || interface.contains('/') || interface == "." || interface == ".."
        {
            let detail = format!("{interface:?} is no name of an interface");
            return Err(OpError::new(OpErrorClass::Invalid, object(key), detail));
        }
        Ok(self.directory.join(key.path()))
    }
}

/// A sysctl takes a value in one write, and is never created.
fn write_file(path: &Path, value: &str) -> io::Result<()> {
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

fn failure(key: impl fmt::Display, error: &io::Error) -> OpError {
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        let detail = "is read-only here; a unit of systemd needs ReadWritePaths=/proc/sys/net, a \
                      container the host's /proc/sys/net mounted below another directory, named \
                      with --sysctl-dir (SMARTNAT_SYSCTL_DIR)";
        return OpError::new(OpErrorClass::Denied, object(key), detail);
    }
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
        let value = Sysctls::default().read(&SysctlKey::Forwarding(Family::V4)).expect("readable");
        assert!(matches!(value.as_deref(), Some("0" | "1")), "{value:?}");
    }

    #[test]
    fn a_setting_of_an_absent_interface_is_absent() {
        let key = SysctlKey::ReversePathFilter("no-such-if".into());
        let sysctls = Sysctls::default();
        assert_eq!(sysctls.read(&key), Ok(None));
        assert_eq!(sysctls.write(&key, "2").expect_err("absent").class, OpErrorClass::NotFound);
    }

    #[test]
    fn a_name_cannot_lead_to_another_place() {
        for name in ["", ".", "..", "../../kernel"] {
            let key = SysctlKey::ArpIgnore(name.into());
            let error = Sysctls::default().read(&key).expect_err("no interface");
            assert_eq!(error.class, OpErrorClass::Invalid);
        }
    }

    #[test]
    fn the_settings_of_another_directory_are_read_and_written_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("net/ipv4/conf/ext1/rp_filter");
        std::fs::create_dir_all(file.parent().expect("it has one")).expect("made");
        std::fs::write(&file, "1\n").expect("written");
        let (sysctls, key) =
            (Sysctls::new(directory.path()), SysctlKey::ReversePathFilter("ext1".into()));
        assert_eq!(sysctls.read(&key), Ok(Some("1".into())));
        sysctls.write(&key, "2").expect("writable");
        assert_eq!(sysctls.read(&key), Ok(Some("2".into())));
    }

    #[test]
    fn a_read_only_setting_says_what_a_container_needs() {
        let error = failure(&SysctlKey::TcpMarkAccept, &io::ErrorKind::ReadOnlyFilesystem.into());
        assert_eq!(error.class, OpErrorClass::Denied);
        assert!(error.to_string().contains("SMARTNAT_SYSCTL_DIR"), "{error}");
    }
}
