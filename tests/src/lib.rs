//! What the integration tests share: a gateway in a lab, driven step by step, and the program
//! as its user starts it.

pub mod arm;
pub mod control_plane;
mod engine;
pub mod host_text;
mod program;
pub mod random_nft;
pub mod relay;
mod rig;
mod ruleset;
pub mod sctp;

pub use engine::Step;
pub use program::program;
pub use rig::{Rig, RigOptions};
pub use ruleset::Ruleset;
