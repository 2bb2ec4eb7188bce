//! What the integration tests share: a gateway in a lab, driven step by step.

mod rig;

pub use rig::{Rig, RigOptions, Step};
