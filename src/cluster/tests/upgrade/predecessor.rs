//! What the Go version left in a cluster.

use kube::api::{Api, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use smartnat_cluster::api;

use crate::Failure;
use crate::etcd::Etcd;

const DEFINITION: &str = include_str!("go-version-definition.json");
const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions";
const MAPPINGS: &str = "/registry/smartnat.aureacentral.com/mappings/default";

/// Its definition of the Mapping, of the time of `apiextensions.k8s.io/v1beta1`.
pub(crate) fn put_definition(etcd: &Etcd) -> Result<(), Failure> {
    let definition: Value = serde_json::from_str(DEFINITION)?;
    etcd.put(&format!("{DEFINITIONS}/mappings.smartnat.aureacentral.com"), &definition)
}

/// The names of three Mappings.
pub(crate) struct Names {
    /// Stored before API servers recorded who manages which field.
    pub(crate) early: String,
    /// Spec and status in one write.
    pub(crate) late: String,
    /// With a port that names no external port, which the Go version planned to allocate, and with
    /// an address that cannot be exposed.
    pub(crate) invalid: String,
}

impl Names {
    pub(crate) fn new(suffix: &str) -> Self {
        let name = |what: &str| format!("{what}-{suffix}");
        Self { early: name("early"), late: name("late"), invalid: name("invalid") }
    }

    pub(crate) fn all(&self) -> [&str; 3] {
        [&self.early, &self.late, &self.invalid]
    }
}

/// A served Mapping.
fn served(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": api::API_VERSION,
        "kind": api::KIND,
        "metadata": {
            "name": name, "namespace": "default", "finalizers": [api::FINALIZER],
        },
        "spec": {
            "addresses": [address],
            "allowedSources": ["0.0.0.0/0"],
            "serviceName": "legacy",
            "mode": "service",
            "ports": [{ "port": 9080, "servicePort": 8080, "protocol": "tcp" }],
        },
        "status": {
            "invalid": "no",
            "serviceVIP": "10.96.0.81",
            "configuredAddresses": { address: { "podIPs": ["10.244.1.11", "10.244.1.12"] } },
        },
    })
}

/// Stores the three.
pub(crate) async fn put_mappings(
    etcd: &Etcd,
    mappings: &Api<DynamicObject>,
    names: &Names,
) -> Result<(), Failure> {
    let mut early = served(&names.early, "198.51.100.10");
    let mut invalid = served(&names.invalid, "127.0.0.1");
    invalid["spec"]["ports"] = json!([{ "servicePort": 8080, "protocol": "tcp" }]);
    for (object, name) in [(&mut early, &names.early), (&mut invalid, &names.invalid)] {
        object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        object["metadata"]["creationTimestamp"] = json!("2019-05-02T00:00:00Z");
        object["metadata"]["generation"] = json!(7);
        etcd.put(&format!("{MAPPINGS}/{name}"), object)?;
    }
    let late: DynamicObject = serde_json::from_value(served(&names.late, "198.51.100.11"))?;
    mappings.create(&PostParams::default(), &late).await?;
    Ok(())
}
