//! Where `SmartNat`'s snapshots come from: Kubernetes objects or a directory of manifests.
//!
//! [`api`] is the `Mapping` as the API server sees it, [`convert`] turns Kubernetes objects
//! into the core's model, [`store`] hands on what changed, [`manifests`] reads a directory,
//! [`source`] follows a cluster.

pub mod api;
pub mod convert;
pub mod fuzz_targets;
pub mod manifests;
pub mod source;
pub mod store;
pub mod write;
