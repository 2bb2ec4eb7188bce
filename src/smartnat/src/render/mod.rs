//! How results look to people.

mod changes;
mod listing;
mod status;
mod table;

pub use changes::{Change, ChangeKind, Changes, changes};
pub use listing::{Listing, listing};
pub use status::status_text;
pub use table::Table;
