//! This instance as a member of a cluster: what it reads there goes to the driver, what the
//! core decides to tell is written there.

mod feed;
mod identity;
mod join;
mod member;
mod memory;
mod notices;
mod record;

#[cfg(test)]
mod tests;

pub use join::{Membership, client, only_read};
pub use record::events_of_instance;
