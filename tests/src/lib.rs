//! What the integration tests share: a gateway in a lab, driven step by step, and the program
//! as its user starts it.

mod program;
mod rig;
pub mod sctp;

pub use program::program;
pub use rig::{Rig, RigOptions, Step};
