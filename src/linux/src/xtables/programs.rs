//! Which programs there are, and runs of them.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::ops::OpError;
use thiserror::Error;

/// Where administrators' programs are, also for a service with a short `PATH`.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A flavour of iptables that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavour {
    /// Over nftables.
    Nft,
    /// Over the kernel's own tables of iptables.
    Legacy,
}

impl Flavour {
    /// Both, the newer first.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Nft => Self::Legacy,
            Self::Legacy => Self::Nft,
        }
    }

    /// As in the programs' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// What `iptables -V` says in parentheses.
    pub(super) fn version_mark(self) -> &'static str {
        match self {
            Self::Nft => "(nf_tables)",
            Self::Legacy => "(legacy)",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Flavour> for IptablesFlavour {
    fn from(flavour: Flavour) -> Self {
        match flavour {
            Flavour::Nft => Self::Nft,
            Flavour::Legacy => Self::Legacy,
        }
    }
}

/// Why iptables cannot be used.
#[derive(Debug, Error)]
pub enum XtablesError {
    /// A program is not there.
    #[error(
        "{program} is neither in PATH nor in /usr/sbin: install it \
         (on Debian and Ubuntu: apt-get install {package})"
    )]
    Missing {
        /// Its name.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// What the kernel holds cannot be read.
    #[error("cannot read iptables: {0}")]
    Unreadable(#[from] OpError),
}

/// The programs of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FamilyPrograms {
    pub(super) save: PathBuf,
    pub(super) restore: PathBuf,
}

/// The programs of one flavour by absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    by_family: BTreeMap<Family, FamilyPrograms>,
}

impl Programs {
    /// Those with the flavour in their names.
    pub(super) fn find(search: &SearchPath, flavour: Flavour) -> Result<Self, XtablesError> {
        Self::collect(search, &format!("-{flavour}"))
    }

    /// Those without; they are of the flavour that `iptables -V` tells.
    pub(super) fn find_plain(search: &SearchPath) -> Result<Self, XtablesError> {
        Self::collect(search, "")
    }

    fn collect(search: &SearchPath, infix: &str) -> Result<Self, XtablesError> {
        let mut by_family = BTreeMap::new();
        for (family, base) in [(Family::V4, "iptables"), (Family::V6, "ip6tables")] {
            let find = |what: &str| search.require(&format!("{base}{infix}-{what}"));
            by_family
                .insert(family, FamilyPrograms { save: find("save")?, restore: find("restore")? });
        }
        Ok(Self { by_family })
    }

    /// The programs of `family`, of which there are always some.
    pub(super) fn of(&self, family: Family) -> Option<&FamilyPrograms> {
        self.by_family.get(&family)
    }
}

/// Directories in which programs are looked for, in order.
#[derive(Clone, Debug)]
pub(super) struct SearchPath {
    directories: Vec<PathBuf>,
}

impl SearchPath {
    /// `PATH`, then the system's own directories.
    pub(super) fn of_environment() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let system = SYSTEM_DIRECTORIES.iter().map(PathBuf::from);
        // A relative directory would depend on where we were started.
        let directories = env::split_paths(&path).chain(system).filter(|d| d.is_absolute());
        Self { directories: directories.collect() }
    }

    /// The first executable file of this name.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        self.directories.iter().map(|d| d.join(program)).find(|path| is_executable(path))
    }

    fn require(&self, program: &str) -> Result<PathBuf, XtablesError> {
        self.find(program).ok_or_else(|| XtablesError::Missing {
            program: program.to_owned(),
            package: "iptables",
        })
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn directory_with(programs: &[&str]) -> (tempfile::TempDir, SearchPath) {
        let directory = tempfile::tempdir().expect("a directory");
        for program in programs {
            let path = directory.path().join(program);
            fs::write(&path, "").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        let search = SearchPath { directories: vec![directory.path().to_owned()] };
        (directory, search)
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let (_directory, search) =
            directory_with(&["iptables-nft-save", "iptables-nft-restore", "ip6tables-nft-save"]);
        let error = Programs::find(&search, Flavour::Nft).expect_err("one is missing");
        let text = error.to_string();
        assert!(text.contains("ip6tables-nft-restore"), "{text}");
        assert!(text.contains("apt-get install iptables"), "{text}");
    }

    #[test]
    fn programs_are_found_for_each_family() {
        let (directory, search) = directory_with(&[
            "iptables-save",
            "iptables-restore",
            "ip6tables-save",
            "ip6tables-restore",
        ]);
        let programs = Programs::find_plain(&search).expect("all there");
        let v6 = programs.of(Family::V6).expect("both families");
        assert_eq!(v6.restore, directory.path().join("ip6tables-restore"));
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_no_program() {
        let (directory, search) = directory_with(&["iptables"]);
        let path = directory.path().join("iptables");
        assert_eq!(search.find("iptables"), Some(path.clone()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        assert_eq!(search.find("iptables"), None);
    }
}
