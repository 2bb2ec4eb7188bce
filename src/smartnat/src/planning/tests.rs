use smartnat_cluster::manifests::ManifestStore;
use smartnat_core::model::{Family, InterfaceAddress, Link};

use super::*;
use crate::render::changes;

/// A kernel that holds something and takes nothing.
struct Frozen(KernelState);

impl Kernel for Frozen {
    fn observe(&mut self, _scope: &ObservationScope) -> Result<KernelState, OpError> {
        Ok(self.0.clone())
    }

    fn apply(&mut self, _transaction: &Transaction) -> Result<(), OpError> {
        panic!("a plan changes nothing")
    }

    fn flows(&mut self, _filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        panic!("a plan looks at no connections")
    }
}

const MANIFESTS: &str = "
apiVersion: smartnat.aureacentral.com/v1alpha1
kind: Mapping
metadata: {name: echo, namespace: default}
spec: {addresses: [203.0.113.10], serviceName: echo, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: default}
spec: {clusterIP: 10.96.1.1, ports: [{port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e, namespace: default, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [ADDRESS]}]
";

fn cluster(endpoint: &str) -> ClusterState {
    let text = MANIFESTS.replace("ADDRESS", endpoint);
    let (store, reload) = ManifestStore::from_texts([("m.yaml", text.as_str())]);
    assert_eq!(reload.problems, []);
    store.cluster_state()
}

fn host() -> HostState {
    let address = |text: &str| InterfaceAddress {
        address: text.parse().expect("a network"),
        link_local: false,
    };
    let link = |index, text| Link { index, up: true, addresses: vec![address(text)] };
    HostState {
        links: [
            ("eth0".to_owned(), link(2, "10.0.0.5/24")),
            ("eth1".to_owned(), link(3, "203.0.113.10/24")),
        ]
        .into(),
        routes: Vec::new(),
        families: Family::ALL.to_vec(),
    }
}

fn config() -> GatewayConfig {
    GatewayConfig { uplink_names: vec!["eth1".into()], ..GatewayConfig::default() }
}

#[test]
fn a_plan_from_nothing_ends_in_sync_and_a_plan_from_there_changes_nothing() {
    let first = plan(config(), cluster("10.1.0.7"), host(), PlannedKernel::empty())
        .expect("it comes to an end");
    assert!(first.settled.status.expect("a status").in_sync);
    assert!(!changes(&first.before, &first.after).0.is_empty());

    let mut kernel = Frozen(first.after);
    let kernel = PlannedKernel::from_kernel(&mut kernel);
    let second = plan(config(), cluster("10.1.0.7"), host(), kernel).expect("it comes to an end");
    assert_eq!(second.settled.transactions, [], "P6");
    assert_eq!(changes(&second.before, &second.after).to_string(), "Nothing would change.\n");
}

#[test]
fn a_plan_for_one_changed_endpoint_shows_that_endpoint_alone() {
    let first = plan(config(), cluster("10.1.0.7"), host(), PlannedKernel::empty())
        .expect("it comes to an end");
    let mut kernel = Frozen(first.after);
    let kernel = PlannedKernel::from_kernel(&mut kernel);
    let second = plan(config(), cluster("10.1.0.8"), host(), kernel).expect("it comes to an end");
    let text = changes(&second.before, &second.after).to_string();
    assert!(text.contains("--to-destination 10.1.0.8:80"), "{text}");
    let lines = text.lines().filter(|line| line.starts_with(['+', '-'])).count();
    assert!(lines <= 4, "one rule and at most one element: {text}");
}
