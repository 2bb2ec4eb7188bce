//! Objects as a source holds them → the changes of the core's objects.

mod changes;
mod object;

pub use changes::ObjectStore;
pub use object::{LegacyEndpoints, SourceId, SourceKind, SourceObject};
