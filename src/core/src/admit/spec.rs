//! The checks on one Mapping for itself.

use crate::model::{GatewayConfig, Mapping, Service};

use super::{AdmittedMapping, AllowedSources, Problem, addresses, ports};

/// The only mode.
const MODE: &str = "service";

/// Judges one Mapping for itself, without regard to others. `service` is the Service that it
/// names, if it exists. All problems are reported at once, field by field.
pub fn check(
    mapping: &Mapping,
    service: Option<&Service>,
    config: &GatewayConfig,
) -> Result<AdmittedMapping, Vec<Problem>> {
    let spec = &mapping.spec;
    let mut problems = Vec::new();
    let addresses = addresses::parse(&spec.addresses, &mut problems);
    let sources = AllowedSources::parse(&spec.allowed_sources, &mut problems);
    problems.extend(service_problem(&spec.service_name, service));
    problems.extend(spec.mode.as_deref().and_then(mode_problem));
    let ports = ports::parse(&spec.ports, config.max_ports, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(AdmittedMapping {
        key: mapping.key.clone(),
        generation: mapping.generation,
        created: mapping.created,
        deleting: mapping.deleting,
        addresses,
        sources,
        service: mapping.service(),
        ports,
        masquerade: spec.masquerade.unwrap_or(config.masquerade),
        egress: spec.egress.unwrap_or(config.egress),
    })
}

fn service_problem(name: &str, service: Option<&Service>) -> Option<Problem> {
    let field = "spec.serviceName";
    if name.is_empty() {
        return Some(Problem::missing(
            field,
            "is missing; name a Service of the Mapping's namespace",
        ));
    }
    if !is_dns_label(name) {
        return Some(Problem::new(
            field,
            name,
            "is no name of a Service; write at most 63 lower-case letters, digits and inner \
             hyphens, without a namespace",
        ));
    }
    service.is_some_and(|s| s.external_name).then(|| {
        Problem::new(
            field,
            name,
            "is a Service of type ExternalName, which has no endpoints; name a Service that \
             selects pods",
        )
    })
}

/// An empty mode counts as absent: clients written in Go write absent strings so.
fn mode_problem(mode: &str) -> Option<Problem> {
    (!mode.is_empty() && mode != MODE).then(|| {
        Problem::new("spec.mode", mode, "is no mode; write \"service\" or leave the field out")
    })
}

/// RFC 1123: at most 63 lower-case letters, digits and hyphens, no hyphen at an end.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
