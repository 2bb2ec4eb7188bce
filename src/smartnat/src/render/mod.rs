//! How results look to people.

mod changes;
mod explanation;
mod listing;
mod status;
mod table;

pub use changes::{Change, ChangeKind, Changes, changes};
pub use explanation::explanation_text;
pub use listing::{Listing, listing};
pub use status::status_text;
pub use table::Table;
