//! The simulated kernel of `SmartNat`: the same typed operations as the Linux kernel takes,
//! executed over objects in memory, with the kernel's own rules and with injected failures.

mod driver;
pub mod fuzz_targets;
pub mod kernel;
pub mod oracle;
pub mod scenario;
pub mod topology;
pub mod walk;

pub use driver::Driver;
pub use kernel::SimKernel;
pub use walk::SimHost;
