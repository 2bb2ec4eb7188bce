//! The simulated kernel of `SmartNat`: the same typed operations as the Linux kernel takes,
//! executed over objects in memory, with the kernel's own rules and with injected failures; and an
//! API server on which several gateways meet.

pub mod api_server;
mod driver;
pub mod fleet;
pub mod fuzz_targets;
pub mod kernel;
pub mod oracle;
pub mod scenario;
pub mod topology;
pub mod walk;

pub use driver::Driver;
pub use kernel::SimKernel;
pub use walk::SimHost;
