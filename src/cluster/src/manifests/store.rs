//! What a directory of manifests says, kept up to date.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use smartnat_core::model::{ClusterObject, ClusterState};
use thiserror::Error;

use super::file::{Located, ParsedFile, parse};
use super::problem::{ManifestProblem, Severity};
use super::scan::{self, Listing, MAX_FILE_BYTES, Stamp};
use crate::store::{ObjectStore, SourceId, SourceObject};

/// A directory that cannot be read at all.
#[derive(Debug, Error)]
#[error("manifests {}: {source}", path.display())]
pub struct ManifestError {
    /// The directory.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// What a look at the directory brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Objects that changed since the last look.
    pub changes: Vec<ClusterObject>,
    /// All that is wrong now, by file.
    pub problems: Vec<ManifestProblem>,
    /// Those of `problems` that were not there at the last look.
    pub new_problems: Vec<ManifestProblem>,
}

/// An object and where it is written.
#[derive(Clone, Debug)]
pub struct ManifestSource<'a> {
    /// Kind, namespace and name.
    pub id: &'a SourceId,
    /// The file.
    pub file: String,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// First line of the document, from 1.
    pub line: usize,
    /// What it says.
    pub object: &'a SourceObject,
}

/// The objects of a directory of manifests, and of which file each is.
///
/// A file that cannot be read keeps the last good version of its objects, as does an object
/// that cannot be read; a file that is gone takes its objects with it. Of an object in two
/// files the first file by name counts. A directory that is gone altogether keeps everything:
/// that is more likely an accident than somebody's wish.
#[derive(Clone, Debug, Default)]
pub struct ManifestStore {
    root: PathBuf,
    files: BTreeMap<Arc<Path>, KnownFile>,
    /// In which files an object is, by name; most are in one.
    claims: BTreeMap<SourceId, Vec<Arc<Path>>>,
    /// Objects that are in several files.
    contested: BTreeSet<SourceId>,
    listing_problems: Vec<ManifestProblem>,
    told: BTreeSet<ManifestProblem>,
    objects: ObjectStore,
}

#[derive(Clone, Debug, Default)]
struct KnownFile {
    stamp: Option<Stamp>,
    objects: BTreeMap<SourceId, Located>,
    problems: Vec<ManifestProblem>,
}

impl ManifestStore {
    /// Reads all manifests below `root`, or the one file `root`.
    pub fn load(root: impl Into<PathBuf>) -> Result<(Self, Reload), ManifestError> {
        let root = root.into();
        let listing = scan::list(&root, SystemTime::now())
            .map_err(|source| ManifestError { path: root.clone(), source })?;
        let mut store = Self { root, ..Self::default() };
        let reload = store.take(listing);
        Ok((store, reload))
    }

    /// A store of texts that are in no directory, by name.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> (Self, Reload) {
        let mut store = Self::default();
        let mut touched = BTreeSet::new();
        for (name, text) in texts {
            let path = PathBuf::from(name);
            let parsed = parse(name, &path, text.as_bytes());
            store.replace(&path, None, parsed, &mut touched);
        }
        let reload = store.reloaded(&touched);
        (store, reload)
    }

    /// Looks again: reads the files that changed and says what that means.
    pub fn reload(&mut self) -> Reload {
        match scan::list(&self.root, SystemTime::now()) {
            Ok(listing) => self.take(listing),
            Err(error) => {
                let message = format!("cannot be read, so everything stays as it was: {error}");
                let name = self.root.display().to_string();
                self.listing_problems = vec![ManifestProblem::of_file(&name, message)];
                self.reloaded(&BTreeSet::new())
            }
        }
    }

    /// All objects as the core has them.
    pub fn cluster_state(&self) -> ClusterState {
        let mut state = ClusterState::default();
        for object in self.objects.all() {
            state.update(object);
        }
        state
    }

    /// All objects and where they are written, by kind, namespace and name.
    pub fn sources(&self) -> impl Iterator<Item = ManifestSource<'_>> {
        self.claims.iter().filter_map(|(id, files)| {
            let path = files.first()?;
            let located = self.files.get(path)?.objects.get(id)?;
            Some(ManifestSource {
                id,
                file: self.name_of(path),
                document: located.document,
                line: located.line,
                object: &located.object,
            })
        })
    }

    fn take(&mut self, listing: Listing) -> Reload {
        let mut touched = BTreeSet::new();
        let kept = |path: &Path| listing.unknown.iter().any(|unknown| path.starts_with(unknown));
        let gone: Vec<Arc<Path>> = self
            .files
            .keys()
            .filter(|path| !listing.files.contains_key(&***path) && !kept(path))
            .cloned()
            .collect();
        for path in gone {
            self.forget(&path, &mut touched);
        }
        self.listing_problems = listing.problems;
        for (path, stamp) in listing.files {
            let earlier = self.files.get(&*path).and_then(|file| file.stamp);
            if earlier.is_some_and(|earlier| stamp.same_as(&earlier)) {
                continue;
            }
            self.read(&path, stamp, &mut touched);
        }
        self.reloaded(&touched)
    }

    /// Reads one file, which may have gone since it was listed.
    fn read(&mut self, path: &Path, stamp: Stamp, touched: &mut BTreeSet<SourceId>) {
        let name = self.name_of(path);
        let unreadable = |message: String| ParsedFile {
            problems: vec![ManifestProblem::of_file(&name, message)],
            unreadable: true,
            ..ParsedFile::default()
        };
        let parsed = if stamp.size() > MAX_FILE_BYTES {
            unreadable(format!("is larger than {} MiB; split it", MAX_FILE_BYTES >> 20))
        } else {
            match fs::read(self.full_path(path)) {
                Ok(bytes) => parse(&name, &self.full_path(path), &bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.forget(path, touched);
                    return;
                }
                // No stamp: whatever stood in the way may go without a trace on the file.
                Err(error) => {
                    let parsed = unreadable(format!("cannot be read: {error}"));
                    self.replace(path, None, parsed, touched);
                    return;
                }
            }
        };
        self.replace(path, Some(stamp), parsed, touched);
    }

    /// Takes over what a file says now, and keeps what it said of objects that it no longer
    /// says in a readable way.
    fn replace(
        &mut self,
        path: &Path,
        stamp: Option<Stamp>,
        parsed: ParsedFile,
        touched: &mut BTreeSet<SourceId>,
    ) {
        let path: &Arc<Path> = &self
            .files
            .get_key_value(path)
            .map_or_else(|| path.into(), |(path, _)| Arc::clone(path));
        let file = self.files.entry(Arc::clone(path)).or_default();
        let mut objects = parsed.objects;
        for (id, located) in std::mem::take(&mut file.objects) {
            let keep = parsed.unreadable || parsed.broken.contains(&id);
            touched.insert(id.clone());
            match objects.entry(id) {
                Entry::Occupied(_) => {}
                Entry::Vacant(entry) if keep => {
                    entry.insert(located);
                }
                Entry::Vacant(entry) => disclaim(&mut self.claims, entry.key(), path),
            }
        }
        for id in objects.keys() {
            touched.insert(id.clone());
            claim(&mut self.claims, id, path);
        }
        *file = KnownFile { stamp, objects, problems: parsed.problems };
    }

    fn forget(&mut self, path: &Path, touched: &mut BTreeSet<SourceId>) {
        let Some(file) = self.files.remove(path) else { return };
        for id in file.objects.into_keys() {
            disclaim(&mut self.claims, &id, path);
            touched.insert(id);
        }
    }

    /// What the touched objects are now, and what is wrong now.
    fn reloaded(&mut self, touched: &BTreeSet<SourceId>) -> Reload {
        let mut changes = Vec::with_capacity(touched.len());
        for id in touched {
            let files = self.claims.get(id);
            if files.is_some_and(|files| files.len() > 1) {
                self.contested.insert(id.clone());
            } else {
                self.contested.remove(id);
            }
            let winner = files.and_then(|files| self.files.get(files.first()?));
            let object = winner.and_then(|file| file.objects.get(id)).map(|l| l.object.clone());
            changes.push((id.clone(), object));
        }
        let changes = self.objects.update(changes);
        let problems = self.problems();
        let new_problems = problems.iter().filter(|p| !self.told.contains(p)).cloned().collect();
        self.told = problems.iter().cloned().collect();
        Reload { changes, problems, new_problems }
    }

    fn problems(&self) -> Vec<ManifestProblem> {
        let own = self.files.values().flat_map(|file| &file.problems);
        let mut problems: Vec<_> = self.listing_problems.iter().chain(own).cloned().collect();
        for id in &self.contested {
            problems.extend(self.shadowed(id));
        }
        problems.sort();
        problems
    }

    /// One problem for each further file that has the object.
    fn shadowed(&self, id: &SourceId) -> Vec<ManifestProblem> {
        let Some(files) = self.claims.get(id) else { return Vec::new() };
        let mut files = files.iter();
        let Some(winner) = files.next() else { return Vec::new() };
        let winner = self.name_of(winner);
        let loser = |path: &Arc<Path>| {
            let located = self.files.get(path)?.objects.get(id)?;
            Some(ManifestProblem {
                file: self.name_of(path),
                document: Some(located.document),
                line: Some(located.line),
                severity: Severity::Error,
                object: Some(id.clone()),
                field: None,
                message: format!("is already in {winner}, which counts; remove one"),
            })
        };
        files.filter_map(loser).collect()
    }

    fn full_path(&self, path: &Path) -> PathBuf {
        // Joining an empty path would append a separator to the name of a single file.
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn name_of(&self, path: &Path) -> String {
        self.full_path(path).display().to_string()
    }
}

/// Notes that the object is in the file.
fn claim(claims: &mut BTreeMap<SourceId, Vec<Arc<Path>>>, id: &SourceId, path: &Arc<Path>) {
    let files = claims.entry(id.clone()).or_default();
    if let Err(place) = files.binary_search(path) {
        files.reserve_exact(1);
        files.insert(place, Arc::clone(path));
    }
}

/// Notes that the object is no longer in the file.
fn disclaim(claims: &mut BTreeMap<SourceId, Vec<Arc<Path>>>, id: &SourceId, path: &Path) {
    if let Some(files) = claims.get_mut(id) {
        files.retain(|file| **file != *path);
        if files.is_empty() {
            claims.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
