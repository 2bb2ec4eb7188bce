//! The last good snapshot of the cluster on disk, to serve from it when the API server can't be
//! reached after a restart or reboot (T23).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smartnat_cluster::write::lease_name;
use smartnat_core::coordination::LeaseName;
use smartnat_core::model::ClusterState;
use tokio::sync::watch;

use crate::state_files::write_durably;

/// A cluster of 10,000 Mappings takes some ten megabytes; a larger file is none of ours.
const MAX_BYTES: u64 = 1 << 30;
/// Shortest time between two writes.
const PAUSE: Duration = Duration::from_secs(5);
/// Raised when older programs would read the file wrongly.
const FORMAT: u32 = 1;

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Remembered {
    format: u32,
    cluster: ClusterState,
}

#[derive(Serialize)]
struct ToRemember<'a> {
    format: u32,
    cluster: &'a ClusterState,
}

impl Memory {
    /// The file of an instance in a directory, which need not exist yet.
    pub(super) fn new(directory: &Path, instance: &str) -> Self {
        let name = lease_name(&LeaseName::Instance(instance.to_owned()));
        Self { path: directory.join(format!("{name}.snapshot.json")) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is remembered; `None` when there is nothing.
    pub(super) fn load(&self) -> io::Result<Option<ClusterState>> {
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        if metadata.len() > MAX_BYTES {
            return Err(invalid("it is too large".into()));
        }
        let remembered: Remembered = serde_json::from_slice(&fs::read(&self.path)?)?;
        if remembered.format != FORMAT {
            return Err(invalid(format!("its format is {}, not {FORMAT}", remembered.format)));
        }
        Ok(Some(remembered.cluster))
    }

    fn save(&self, cluster: &ClusterState) -> io::Result<()> {
        let text = serde_json::to_vec(&ToRemember { format: FORMAT, cluster })?;
        write_durably(&self.path, &text)
    }
}

/// Writes what is to be remembered until there is nothing more to come.
pub(super) async fn remember(
    memory: Memory,
    mut states: watch::Receiver<Option<Arc<ClusterState>>>,
) {
    let mut failing = false;
    while states.changed().await.is_ok() {
        let Some(state) = states.borrow_and_update().clone() else { continue };
        let to = memory.clone();
        let saved = tokio::task::spawn_blocking(move || to.save(&state)).await;
        match saved {
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::warn!(
                    "the last good snapshot can't be kept in {}: {error}; after a restart without \
                     the API server nothing new would be served",
                    memory.path().display()
                );
            }
            Ok(Ok(())) => failing = false,
            _ => {}
        }
        // A copy, since waiting for the end must not take note of what comes before it.
        let mut end = states.clone();
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = end.wait_for(|_| false) => {}
        }
    }
}
