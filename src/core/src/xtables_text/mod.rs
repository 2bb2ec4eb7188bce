//! The text that the iptables programs read and write, both flavours, without running them.
//!
//! [`render_transaction`] writes what `iptables-restore --noflush` takes and [`parse_save`] reads
//! what `iptables-save` prints. A rule in the form of [`canonical`] survives the way through the
//! kernel unchanged: what is read back equals what was written.

mod canonical;
mod parse;
mod probability;
mod render;
mod restore;
mod save;
#[cfg(test)]
mod tests;
mod words;

pub use canonical::canonical;
pub use parse::parse_rule;
pub use render::render_rule;
pub use restore::{LineKind, RestoreInput, RestoreLine, render_transaction};
pub use save::{ForeignTable, ParseError, SavedTables, parse_save};
pub(crate) use words::split as split_words;
