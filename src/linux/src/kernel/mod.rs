//! The Linux kernel as the core's [`Kernel`](smartnat_core::ops::Kernel).

mod record;

pub(crate) use record::Record;
pub use record::{RecordError, StateDir};
