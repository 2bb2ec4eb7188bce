//! Legacy `Endpoints` → slices in the core's form.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use smartnat_core::model::{EndpointSlice, Family, ObjectKey, SliceEndpoint, SlicePort};

use super::{ConversionError, address, object_key, port_number, protocol};

/// One slice for each subset and family of `endpoints`, which are those of the Service of the
/// same name. The names of the slices contain a colon, so no real slice can have them.
pub fn slices_of_endpoints(endpoints: &Endpoints) -> Result<Vec<EndpointSlice>, ConversionError> {
    let key = object_key(&endpoints.metadata)?;
    let mut slices = Vec::new();
    for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let field = format!("subsets[{i}]");
        let ports = ports(&field, subset)?;
        let mut all = addresses(&field, "addresses", subset.addresses.as_deref(), true)?;
        let not_ready = subset.not_ready_addresses.as_deref();
        all.extend(addresses(&field, "notReadyAddresses", not_ready, false)?);
        for family in Family::ALL {
            let of_family =
                |e: &&SliceEndpoint| e.addresses.iter().all(|a| Family::of(a) == family);
            let members: Vec<_> = all.iter().filter(of_family).cloned().collect();
            if members.is_empty() {
                continue;
            }
            let name = format!("endpoints:{}:{i}:{family}", key.name);
            slices.push(EndpointSlice {
                key: ObjectKey::new(key.namespace.clone(), name),
                service_name: key.name.clone(),
                family,
                ports: ports.clone(),
                endpoints: members,
            });
        }
    }
    Ok(slices)
}

fn ports(field: &str, subset: &EndpointSubset) -> Result<Vec<SlicePort>, ConversionError> {
    let convert = |(i, port): (usize, &k8s_openapi::api::core::v1::EndpointPort)| {
        let field = format!("{field}.ports[{i}]");
        Ok(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: protocol(format!("{field}.protocol"), port.protocol.as_deref())?,
            port: Some(port_number(format!("{field}.port"), port.port)?),
        })
    };
    subset.ports.iter().flatten().enumerate().map(convert).collect()
}

fn addresses(
    field: &str,
    list: &str,
    addresses: Option<&[EndpointAddress]>,
    ready: bool,
) -> Result<Vec<SliceEndpoint>, ConversionError> {
    let convert = |(i, entry): (usize, &EndpointAddress)| {
        let parsed = address(format!("{field}.{list}[{i}].ip"), &entry.ip)?;
        Ok(SliceEndpoint { addresses: vec![parsed], ready, serving: ready, terminating: false })
    };
    addresses.unwrap_or_default().iter().enumerate().map(convert).collect()
}
