//! iptables of either flavour, by its `-save` and `-restore` programs.
//!
//! One process reads a family, one process changes a table. Programs are started from the calling
//! thread, so they act on its network namespace.

mod builtin;
mod counters;
mod detect;
mod diagnose;
mod executor;
mod programs;

pub use counters::RuleCounter;
pub use detect::OtherFlavour;
pub use executor::{ProcessCounts, Xtables, XtablesSettings};
pub use programs::{Flavour, XtablesError};
