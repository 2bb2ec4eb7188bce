//! Builders of cluster objects, shared by tests on the simulated and on the real kernel.

pub mod standard;

use std::collections::BTreeMap;
use std::net::IpAddr;

use smartnat_core::model::{
    ClusterObject, EndpointSlice, Family, Mapping, MappingPort, MappingSpec, ObjectKey, ObjectKind,
    PortReference, Protocol, Service, ServicePort, SliceEndpoint, SlicePort, Timestamp,
};

/// A Mapping in namespace `default`, one builder step a field.
#[derive(Clone, Debug)]
pub struct MappingBuilder(Mapping);

/// Begins a Mapping `default/NAME` of the Service of the same name.
pub fn mapping(name: &str) -> MappingBuilder {
    MappingBuilder(Mapping {
        key: ObjectKey::new("default", name),
        uid: String::new(),
        generation: 1,
        created: None,
        deleting: false,
        spec: MappingSpec { service_name: name.into(), ..MappingSpec::default() },
    })
}

impl MappingBuilder {
    /// Another namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.0.key.namespace = namespace.into();
        self
    }

    /// Another Service.
    pub fn service(mut self, name: &str) -> Self {
        self.0.spec.service_name = name.into();
        self
    }

    /// `metadata.creationTimestamp` in seconds.
    pub fn created(mut self, seconds: u64) -> Self {
        self.0.created = Some(Timestamp(seconds * 1000));
        self
    }

    /// An external address.
    pub fn address(mut self, address: &str) -> Self {
        self.0.spec.addresses.push(address.to_owned());
        self
    }

    /// An allowed source.
    pub fn source(mut self, source: &str) -> Self {
        self.0.spec.allowed_sources.push(source.to_owned());
        self
    }

    /// A TCP port, equal to the Service port.
    pub fn tcp(self, port: u16) -> Self {
        self.port(Protocol::Tcp, port, None, None)
    }

    /// A UDP port, equal to the Service port.
    pub fn udp(self, port: u16) -> Self {
        self.port(Protocol::Udp, port, None, None)
    }

    /// A port or a range; the Service port by number or by name.
    pub fn port(
        mut self,
        protocol: Protocol,
        port: u16,
        end: Option<u16>,
        service_port: Option<&str>,
    ) -> Self {
        self.0.spec.ports.push(MappingPort {
            port: Some(i64::from(port)),
            end_port: end.map(i64::from),
            protocol: Some(protocol.name().to_owned()),
            service_port: service_port.map(|text| {
                text.parse()
                    .map_or_else(|_| PortReference::Name(text.into()), PortReference::Number)
            }),
        });
        self
    }

    /// Overrides the gateway's masquerade.
    pub fn masquerade(mut self, on: bool) -> Self {
        self.0.spec.masquerade = Some(on);
        self
    }

    /// Overrides the gateway's egress.
    pub fn egress(mut self, on: bool) -> Self {
        self.0.spec.egress = Some(on);
        self
    }

    /// The Mapping.
    pub fn mapping(self) -> Mapping {
        self.0
    }

    /// The Mapping as a change.
    pub fn build(self) -> ClusterObject {
        self.0.into()
    }
}

/// A Service with its endpoints: one slice a family, `NAME-ipv4` and `NAME-ipv6`.
#[derive(Clone, Debug)]
pub struct ServiceBuilder {
    service: Service,
    targets: Vec<SlicePort>,
    endpoints: BTreeMap<Family, Vec<SliceEndpoint>>,
}

/// Begins a Service `default/NAME`.
pub fn service(name: &str) -> ServiceBuilder {
    ServiceBuilder {
        service: Service {
            key: ObjectKey::new("default", name),
            external_name: false,
            cluster_ips: Vec::new(),
            ports: Vec::new(),
            publish_not_ready: false,
            affinity_seconds: None,
        },
        targets: Vec::new(),
        endpoints: BTreeMap::from([(Family::V4, Vec::new()), (Family::V6, Vec::new())]),
    }
}

impl ServiceBuilder {
    /// Another namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.service.key.namespace = namespace.into();
        self
    }

    /// A named port of the Service with its target port.
    pub fn port(mut self, name: &str, protocol: Protocol, port: u16, target: u16) -> Self {
        self.service.ports.push(ServicePort { name: name.to_owned(), protocol, port });
        self.targets.push(SlicePort { name: name.to_owned(), protocol, port: Some(target) });
        self
    }

    /// A ready endpoint.
    pub fn ready(self, address: &str) -> Self {
        self.endpoint(address, true, true, false)
    }

    /// A terminating endpoint that still serves.
    pub fn draining(self, address: &str) -> Self {
        self.endpoint(address, false, true, true)
    }

    /// A listed endpoint that neither is ready nor serves.
    pub fn not_ready(self, address: &str) -> Self {
        self.endpoint(address, false, false, false)
    }

    /// An endpoint with all its conditions.
    pub fn endpoint(
        mut self,
        address: &str,
        ready: bool,
        serving: bool,
        terminating: bool,
    ) -> Self {
        let address: IpAddr = address.parse().expect("a test's address parses");
        let list = self.endpoints.entry(Family::of(&address)).or_default();
        list.push(SliceEndpoint { addresses: vec![address], ready, serving, terminating });
        self
    }

    /// `sessionAffinity: ClientIP` with its timeout.
    pub fn affinity(mut self, seconds: u32) -> Self {
        self.service.affinity_seconds = Some(seconds);
        self
    }

    /// `publishNotReadyAddresses: true`.
    pub fn publish_not_ready(mut self) -> Self {
        self.service.publish_not_ready = true;
        self
    }

    /// The Service and its two slices as changes.
    pub fn build(self) -> Vec<ClusterObject> {
        let Self { service, targets, endpoints } = self;
        let key = service.key.clone();
        let slices = endpoints.into_iter().map(|(family, endpoints)| {
            ClusterObject::from(EndpointSlice {
                key: slice_key(&key, family),
                service_name: key.name.clone(),
                family,
                ports: targets.clone(),
                endpoints,
            })
        });
        let slices: Vec<ClusterObject> = slices.collect();
        std::iter::once(service.into()).chain(slices).collect()
    }
}

/// The slice that [`ServiceBuilder`] makes for a family.
pub fn slice_key(service: &ObjectKey, family: Family) -> ObjectKey {
    let suffix = if family == Family::V4 { "ipv4" } else { "ipv6" };
    ObjectKey::new(service.namespace.clone(), format!("{}-{suffix}", service.name))
}

/// The deletion of a Mapping `default/NAME`.
pub fn without_mapping(name: &str) -> ClusterObject {
    ClusterObject::Deleted(ObjectKind::Mapping, ObjectKey::new("default", name))
}

/// The deletion of a Service `default/NAME` with the slices that [`ServiceBuilder`] made.
pub fn without_service(name: &str) -> Vec<ClusterObject> {
    let key = ObjectKey::new("default", name);
    let slices =
        Family::ALL.map(|f| ClusterObject::Deleted(ObjectKind::EndpointSlice, slice_key(&key, f)));
    std::iter::once(ClusterObject::Deleted(ObjectKind::Service, key)).chain(slices).collect()
}
