//! The checks on one Mapping for itself.

use crate::model::{GatewayConfig, Mapping, Service};

use super::{AdmittedMapping, Problem};

/// Judges one Mapping for itself, without regard to others. `service` is the Service that it
/// names, if it exists. All problems are reported at once, in the order of the specification.
pub fn check(
    _mapping: &Mapping,
    _service: Option<&Service>,
    _config: &GatewayConfig,
) -> Result<AdmittedMapping, Vec<Problem>> {
    Err(Vec::new())
}
