//! A directory of manifests as the source of objects.
//!
//! [`ManifestStore`] reads `*.yaml`, `*.yml` and `*.json` files and tells what changed since
//! it last looked; [`ManifestWatcher`] tells when to look. What cannot be read is reported,
//! and the last good version of its objects stays.

mod document;
mod fields;
mod file;
mod problem;
mod scan;
mod store;
mod watch;

pub use problem::{ManifestProblem, Severity};
pub use store::{ManifestError, ManifestSource, ManifestStore, Reload};
pub use watch::{ManifestWatcher, WatchError};
