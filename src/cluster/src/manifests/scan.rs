//! Which files of a directory are manifests, and whether they changed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::problem::ManifestProblem;

/// How deep directories are followed.
const MAX_DEPTH: usize = 8;
/// How many entries of all directories are looked at.
const MAX_ENTRIES: usize = 200_000;
/// How large one file may be.
pub(super) const MAX_FILE_BYTES: u64 = 32 << 20;

/// A file younger than this when it was read may change again without a new time stamp.
const STAMP_RESOLUTION: Duration = Duration::from_millis(100);

/// What tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// The file was old enough when it was looked at.
    settled: bool,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let age = metadata.modified().ok().and_then(|at| now.duration_since(at).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled: age.is_some_and(|age| age > STAMP_RESOLUTION),
        }
    }

    /// Whether a file with this stamp, read before with `earlier`, need not be read again.
    pub(super) fn same_as(&self, earlier: &Self) -> bool {
        earlier.settled && self == earlier
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// The manifests below a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files by path relative to the directory.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Directories, relative, whose files are unknown.
    pub(super) unknown: Vec<PathBuf>,
    pub(super) problems: Vec<ManifestProblem>,
}

/// Lists the manifests below `root`, or `root` itself if it is a file.
///
/// Directories are followed to a bounded depth, symbolic links to directories are not (they
/// could lead in circles); hidden entries are left out, among them editors' swap files and
/// the `..data` of a mounted `ConfigMap`.
pub(super) fn list(root: &Path, now: SystemTime) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let metadata = fs::metadata(root)?;
    if !metadata.is_dir() {
        listing.files.insert(PathBuf::new(), Stamp::of(&metadata, now));
        return Ok(listing);
    }
    let mut walk = Walk { root, now, entries: 0, listing };
    walk.directory(Path::new(""), 0)?;
    Ok(walk.listing)
}

struct Walk<'a> {
    root: &'a Path,
    now: SystemTime,
    entries: usize,
    listing: Listing,
}

impl Walk<'_> {
    fn directory(&mut self, relative: &Path, depth: usize) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(relative))? {
            names.push(entry?.file_name());
        }
        names.sort_unstable();
        for name in names {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.unknown(relative, &format!("holds more than {MAX_ENTRIES} entries"));
                return Ok(());
            }
            self.entry(&relative.join(name), depth);
        }
        Ok(())
    }

    fn entry(&mut self, relative: &Path, depth: usize) {
        let path = self.root.join(relative);
        let Ok(own) = fs::symlink_metadata(&path) else { return };
        if own.is_dir() {
            if depth + 1 >= MAX_DEPTH {
                self.unknown(relative, &format!("lies deeper than {MAX_DEPTH} directories"));
            } else if let Err(error) = self.directory(relative, depth + 1) {
                self.unknown(relative, &format!("cannot be read: {error}"));
            }
        } else if is_manifest(relative) {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    self.listing.files.insert(relative.into(), Stamp::of(&metadata, self.now));
                }
                // A device or pipe with such a name could block for ever.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unknown(relative, &format!("cannot be read: {error}")),
            }
        }
    }

    fn unknown(&mut self, relative: &Path, message: &str) {
        let name = self.root.join(relative).display().to_string();
        self.listing.problems.push(ManifestProblem::of_file(&name, message));
        self.listing.unknown.push(relative.into());
    }
}

/// By the end of its name.
fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e.eq_ignore_ascii_case(known)))
}
