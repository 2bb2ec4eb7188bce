//! Files in which a running instance tells others what it does.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use smartnat_core::model::GatewayConfig;
use smartnat_core::status::StatusReport;
use smartnat_linux::NetworkNamespace;

/// A status of 10,000 Mappings has some megabytes; a larger file is none of ours.
const MAX_STATUS_BYTES: u64 = 256 << 20;

/// The files of one network namespace.
#[derive(Clone, Debug)]
pub struct StateFiles {
    dir: PathBuf,
    namespace: NetworkNamespace,
}

/// Which process wrote a status, and with what configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessInfo {
    /// Process id.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// When it wrote this, in seconds since the Unix epoch.
    pub written: u64,
    /// Its configuration as far as decisions depend on it.
    pub config: GatewayConfig,
}

/// Content of `INODE.status.json`.
#[derive(Clone, Debug, Serialize)]
pub struct StatusFile {
    /// Who wrote it.
    pub process: ProcessInfo,
    /// What it found that is foreign and matters (T14), for people.
    pub foreign: Vec<String>,
    /// What it told.
    #[serde(flatten)]
    pub report: StatusReport,
}

#[derive(Deserialize)]
struct StatusHead {
    process: ProcessInfo,
    #[serde(default)]
    foreign: Vec<String>,
}

/// Content of `INODE.stats.json`: what a run has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Operations that were handed to the kernel.
    pub operations: u64,
    /// Child processes that were started, to read and to write.
    pub processes_started: u64,
    /// How often the dataplane was brought in line and read back.
    pub syncs: u64,
}

impl StateFiles {
    /// The files of the calling thread's network namespace.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), namespace: NetworkNamespace::current()? })
    }

    /// Where the status is.
    pub fn status_path(&self) -> PathBuf {
        self.file("status.json")
    }

    /// Where the counters are.
    pub fn stats_path(&self) -> PathBuf {
        self.file("stats.json")
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.namespace.inode()))
    }

    /// Replaces the status.
    pub fn write_status(
        &self,
        config: &GatewayConfig,
        report: &StatusReport,
        foreign: &[String],
    ) -> io::Result<()> {
        let process = ProcessInfo {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            written: seconds(SystemTime::now()),
            config: config.clone(),
        };
        let file = StatusFile { process, foreign: foreign.to_vec(), report: report.clone() };
        write_atomically(&self.status_path(), &serde_json::to_vec(&file)?)
    }

    /// Replaces the counters.
    pub fn write_stats(&self, stats: &Stats) -> io::Result<()> {
        write_atomically(&self.stats_path(), &serde_json::to_vec(stats)?)
    }

    /// The last status; `None` when there is none.
    pub fn read_status(&self) -> io::Result<Option<StatusFile>> {
        let path = self.status_path();
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > MAX_STATUS_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
        }
        let text = fs::read(&path)?;
        let StatusHead { process, foreign } = serde_json::from_slice(&text)?;
        Ok(Some(StatusFile { process, foreign, report: serde_json::from_slice(&text)? }))
    }

    /// Removes both, and the directory if nothing else is in it.
    pub fn remove(&self) -> io::Result<()> {
        for path in [self.status_path(), self.stats_path()] {
            remove_if_there(&path)?;
        }
        Ok(())
    }
}

/// Removes a file; none to be there is as good.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file so that a reader sees the old content or the new one, never a part.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, |_| Ok(()))
}

/// The same for a file that must survive the loss of power: the content is on disk before it
/// takes the place of the old one, and the place after it.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, fs::File::sync_all)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn replace(
    path: &Path,
    content: &[u8],
    finish: impl FnOnce(&fs::File) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(content)?;
    finish(&file)?;
    drop(file);
    fs::rename(&temporary, path)
}

/// Seconds since the Unix epoch.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_was_written_and_is_a_report_for_other_readers() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = StateFiles::open(&dir.path().join("run")).expect("proc is mounted");
        assert!(files.read_status().expect("none yet").is_none());
        let mut report = StatusReport { instance: "gw1".into(), ..StatusReport::default() };
        report.degraded.push("no interface matches".into());
        let config = GatewayConfig { table_base: 9000, ..GatewayConfig::default() };
        let foreign = vec!["a program listens".to_owned()];
        files.write_status(&config, &report, &foreign).expect("written");
        let read = files.read_status().expect("readable").expect("there is one");
        assert_eq!((&read.report, &read.process.config), (&report, &config));
        assert_eq!(read.foreign, foreign);
        assert_eq!(read.process.pid, std::process::id());
        let text = fs::read_to_string(files.status_path()).expect("readable");
        let plain: StatusReport = serde_json::from_str(&text).expect("a report");
        assert_eq!(plain, report);
        files.remove().expect("removed");
        assert!(files.read_status().expect("none again").is_none());
    }

    #[test]
    fn a_damaged_status_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = StateFiles::open(dir.path()).expect("proc is mounted");
        fs::write(files.status_path(), "{\"process\":").expect("written");
        assert!(files.read_status().is_err());
    }
}
