//! What was there before us, kept on disk so that a clean-up can restore it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smartnat_core::objects::{BuiltinChain, SysctlKey};
use thiserror::Error;

use crate::namespace::{NetworkNamespace, boot_id};
use crate::sysctl::SideEffect;

/// A record holds a handful of sysctls per interface; a larger file is none of ours.
const MAX_RECORD_BYTES: u64 = 16 << 20;
/// Form of the file's content.
const VERSION: u32 = 1;

/// Directory of lock and state files, one of each for every network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl Default for StateDir {
    /// `/run/smartnat`, which does not outlive a boot, just as the kernel's state does not.
    fn default() -> Self {
        Self::new("/run/smartnat")
    }
}

impl StateDir {
    /// A directory; it is made when it is needed.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    pub(crate) fn file(&self, namespace: NetworkNamespace, extension: &str) -> PathBuf {
        self.path.join(format!("{}.{extension}", namespace.inode()))
    }
}

/// Why the record cannot be used.
#[derive(Debug, Error)]
pub enum RecordError {
    /// A file or directory cannot be read or written.
    #[error("cannot use state file {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The namespace or boot cannot be told.
    #[error("cannot tell the network namespace or the boot from /proc: {0}")]
    Proc(#[source] io::Error),
}

/// A sysctl before us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptSysctl {
    /// Its value.
    pub(crate) value: String,
    /// Index of the interface that it is about: another one may come by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<u32>,
    /// Settings that the kernel changes along with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) along: Vec<SideEffect>,
}

/// Content of the state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    boot_id: String,
    namespace: u64,
    /// Pairs, since JSON has no structured keys.
    sysctls: Vec<(SysctlKey, KeptSysctl)>,
    builtins: Option<BTreeSet<BuiltinChain>>,
}

/// The state before our first operation in one network namespace.
#[derive(Debug)]
pub(crate) struct Record {
    dir: StateDir,
    path: PathBuf,
    namespace: NetworkNamespace,
    boot_id: String,
    sysctls: BTreeMap<SysctlKey, KeptSysctl>,
    builtins: Option<BTreeSet<BuiltinChain>>,
}

impl Record {
    /// Reads the record of the calling thread's namespace; an empty one where there is
    /// none of this boot. A damaged file is set aside, with a warning in the log.
    pub(crate) fn open(dir: &StateDir) -> Result<Self, RecordError> {
        let namespace = NetworkNamespace::current().map_err(RecordError::Proc)?;
        let boot_id = boot_id().map_err(RecordError::Proc)?;
        let path = dir.file(namespace, "json");
        let mut record = Self {
            dir: dir.clone(),
            path,
            namespace,
            boot_id,
            sysctls: BTreeMap::new(),
            builtins: None,
        };
        match record.read() {
            Ok(Some(content)) => {
                record.sysctls = content.sysctls.into_iter().collect();
                record.builtins = content.builtins;
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => record.set_aside(&error)?,
            Err(source) => return Err(RecordError::File { path: record.path, source }),
        }
        Ok(record)
    }

    /// Values before us.
    pub(crate) fn sysctls(&self) -> &BTreeMap<SysctlKey, KeptSysctl> {
        &self.sysctls
    }

    /// Built-in chains before us, if they were recorded.
    pub(crate) fn builtins(&self) -> Option<&BTreeSet<BuiltinChain>> {
        self.builtins.as_ref()
    }

    /// Keeps a value unless one is kept for this setting; on disk when it returns.
    pub(crate) fn keep_sysctl(
        &mut self,
        key: &SysctlKey,
        before: KeptSysctl,
    ) -> Result<(), RecordError> {
        if self.sysctls.get(key).is_some_and(|kept| kept.interface == before.interface) {
            return Ok(());
        }
        self.sysctls.insert(key.clone(), before);
        self.save().inspect_err(|_| {
            self.sysctls.remove(key);
        })
    }

    /// Forgets a kept value.
    pub(crate) fn forget_sysctl(&mut self, key: &SysctlKey) -> Result<(), RecordError> {
        let Some(kept) = self.sysctls.remove(key) else { return Ok(()) };
        self.save().inspect_err(|_| {
            self.sysctls.insert(key.clone(), kept);
        })
    }

    /// Keeps the built-in chains that are there now; on disk when it returns.
    pub(crate) fn keep_builtins(
        &mut self,
        builtins: BTreeSet<BuiltinChain>,
    ) -> Result<(), RecordError> {
        if self.builtins.as_ref() == Some(&builtins) {
            return Ok(());
        }
        let before = self.builtins.replace(builtins);
        self.save().inspect_err(|_| self.builtins = before)
    }

    /// Forgets the built-in chains; the file goes when it holds nothing else.
    pub(crate) fn forget_builtins(&mut self) -> Result<(), RecordError> {
        self.builtins = None;
        self.save()
    }

    fn read(&self) -> io::Result<Option<Content>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let invalid = |detail: String| io::Error::new(io::ErrorKind::InvalidData, detail);
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, MAX_RECORD_BYTES), &mut bytes)?;
        let content: Content =
            serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if content.version != VERSION {
            return Err(invalid(format!("version {} instead of {VERSION}", content.version)));
        }
        let ours = content.boot_id == self.boot_id && content.namespace == self.namespace.inode();
        Ok(ours.then_some(content))
    }

    fn set_aside(&self, error: &io::Error) -> Result<(), RecordError> {
        let aside = self.path.with_extension("json.damaged");
        tracing::warn!(
            file = %self.path.display(), aside = %aside.display(), %error,
            "the state file is damaged and was set aside: sysctls that were changed by an \
             earlier run will not be restored"
        );
        let failed = |source| RecordError::File { path: self.path.clone(), source };
        fs::rename(&self.path, aside).map_err(failed)
    }

    fn save(&self) -> Result<(), RecordError> {
        let empty = self.sysctls.is_empty() && self.builtins.is_none();
        let saved = if empty { self.remove() } else { self.replace() };
        saved.map_err(|source| RecordError::File { path: self.path.clone(), source })
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn replace(&self) -> io::Result<()> {
        let content = Content {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            namespace: self.namespace.inode(),
            sysctls: self.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            builtins: self.builtins.clone(),
        };
        self.dir.create()?;
        let temporary = self.path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        serde_json::to_writer_pretty(&mut file, &content)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(self.dir.path())?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SysctlKey {
        SysctlKey::ReversePathFilter("eth1".into())
    }

    fn value(value: &str) -> KeptSysctl {
        KeptSysctl { value: value.into(), interface: None, along: Vec::new() }
    }

    #[test]
    fn what_is_kept_outlives_the_process_and_is_kept_once() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(temporary.path().join("deep/er"));
        let mut record = Record::open(&dir).expect("no file is an empty record");
        record.keep_sysctl(&key(), value("0")).expect("saved");
        record.keep_sysctl(&key(), value("2")).expect("the first value stays");
        record.keep_builtins(BTreeSet::new()).expect("saved");

        let mut again = Record::open(&dir).expect("readable");
        assert_eq!(again.sysctls().get(&key()), Some(&value("0")));
        assert_eq!(again.builtins(), Some(&BTreeSet::new()));
        again.forget_sysctl(&key()).expect("saved");
        again.forget_builtins().expect("saved");
        assert!(!again.path.exists(), "an empty record leaves no file");
    }

    #[test]
    fn a_record_of_another_boot_is_ignored() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(temporary.path());
        let mut record = Record::open(&dir).expect("empty");
        record.keep_sysctl(&key(), value("0")).expect("saved");
        let text = fs::read_to_string(&record.path).expect("readable");
        let stale = text.replace(&record.boot_id, "00000000-0000-0000-0000-000000000000");
        fs::write(&record.path, stale).expect("written");
        assert!(Record::open(&dir).expect("stale").sysctls().is_empty());
    }

    #[test]
    fn a_damaged_record_is_set_aside() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = StateDir::new(temporary.path());
        let path = Record::open(&dir).expect("empty").path;
        for damaged in ["", "{\"version\": 1", "[]", "{\"version\": 99}", "\0\0"] {
            fs::write(&path, damaged).expect("written");
            assert!(Record::open(&dir).expect("set aside").sysctls().is_empty());
            assert!(!path.exists(), "{damaged:?}");
            let aside = path.with_extension("json.damaged");
            assert_eq!(fs::read_to_string(aside).expect("kept"), damaged);
        }
    }

    #[test]
    fn a_record_that_cannot_be_saved_keeps_nothing() {
        let dir = StateDir::new("/proc/no/such/place");
        let mut record = Record::open(&dir).expect("empty");
        let error = record.keep_sysctl(&key(), value("0")).expect_err("it cannot be saved");
        assert!(error.to_string().contains("/proc/no/such/place"), "{error}");
        assert!(record.sysctls().is_empty());
    }
}
