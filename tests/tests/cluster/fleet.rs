//! Gateways of one cluster, each in a namespace of its own, with a client and pods.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use ipnet::IpNet;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};
use smartnat::lab::traffic::{self, BRIEF, Server};
use smartnat::lab::wait_until;
use smartnat_core::model::IptablesFlavour;
use smartnat_sim::topology::{Host, Topology};
use smartnat_tests::control_plane::{ControlPlane, NAMESPACE};
use smartnat_tests::relay::Relay;

use crate::station::{PATIENCE, Run, Said, Station};

/// Duration of a Lease in these tests, in seconds.
pub(crate) const LEASE_SECONDS: u64 = 3;

/// A cluster with gateways `gw1`, `gw2`, …, that hold `198.51.100.11`, `.12`, ….
pub(crate) struct Fleet {
    pub(crate) plane: ControlPlane,
    pub(crate) station: Station,
    relays: Vec<Relay>,
    _pods: Vec<Server>,
}

/// External address of a gateway, by its number from 1.
pub(crate) fn external(gateway: usize) -> String {
    format!("198.51.100.1{gateway}")
}

/// Name of a gateway, by its number from 1.
pub(crate) fn name(gateway: usize) -> String {
    format!("gw{gateway}")
}

fn topology(gateways: usize) -> Topology {
    let net = |text: String| -> IpNet { text.parse().expect("a net") };
    let mut topology = Topology::default();
    topology.add_host(Host::new("client"));
    topology.attach("outside", "client", "eth0", &[net("198.51.100.77/24".into())]);
    for number in 1..=gateways {
        let host = Host::new(&name(number)).with_sysctl("net.ipv4.icmp_ratelimit", "0");
        topology.add_host(host);
        topology.attach("outside", &name(number), "ext1", &[net(external(number) + "/24")]);
        topology.attach("cluster", &name(number), "eth0", &[net(format!("10.244.1.{number}/24"))]);
    }
    for number in 1..=3 {
        let pod = format!("pod{number}");
        topology.add_host(Host::new(&pod));
        topology.attach("cluster", &pod, "eth0", &[net(pod_address(number) + "/24")]);
    }
    topology
}

pub(crate) fn pod_address(number: usize) -> String {
    format!("10.244.1.10{number}")
}

impl Fleet {
    /// Gateways without the program yet, and an API server. `None` when a test must be skipped.
    pub(crate) fn new(gateways: usize) -> Option<Self> {
        if smartnat::lab::available() {
            Some(Self::with(gateways, ControlPlane::start()?))
        } else {
            None
        }
    }

    /// The same with a server of the test's own, which it may stop.
    pub(crate) fn with_own_server(gateways: usize) -> Option<Self> {
        if smartnat::lab::available() {
            Some(Self::with(gateways, ControlPlane::start_own()?))
        } else {
            None
        }
    }

    fn with(gateways: usize, plane: ControlPlane) -> Self {
        let station = Station::on(&topology(gateways), IptablesFlavour::Nft);
        let relay = |number: usize| {
            let relay =
                Relay::start(&station.lab, &name(number), plane.address()).expect("a relay");
            plane.kubeconfig_for(relay.address(), &station.path(&format!("kubeconfig-{number}")));
            relay
        };
        let relays = (1..=gateways).map(relay).collect();
        let pods = (1..=3)
            .map(|n| Server::start(&station.lab, &format!("pod{n}"), &[8080], &[]).expect("a pod"));
        let pods = pods.collect();
        Self { plane, station, relays, _pods: pods }
    }

    /// The way of a gateway to the API server.
    pub(crate) fn relay(&self, gateway: usize) -> &Relay {
        &self.relays[gateway - 1]
    }

    /// `run` of a gateway.
    pub(crate) fn command(&self, gateway: usize) -> Command {
        self.command_as(gateway, &name(gateway), NAMESPACE)
    }

    /// `run` of a gateway with another name, or with its Lease in another namespace.
    pub(crate) fn command_as(&self, gateway: usize, instance: &str, namespace: &str) -> Command {
        let mut command = self.station.command(&["run", "--uplink-pattern", "ext[0-9]"]);
        command.arg("--instance").arg(instance);
        command.arg("--kubeconfig").arg(self.kubeconfig(gateway));
        command.arg("--data-dir").arg(self.station.path(&format!("data-{gateway}")));
        command.args(["--namespace", namespace]);
        command.args(["--lease-seconds", &LEASE_SECONDS.to_string()]);
        command.env("SMARTNAT_MAX_FINALIZE_WAIT_MINUTES", "0");
        command
    }

    pub(crate) fn kubeconfig(&self, gateway: usize) -> PathBuf {
        self.station.path(&format!("kubeconfig-{gateway}"))
    }

    /// Starts the program of a gateway.
    pub(crate) fn start(&self, gateway: usize) -> Run {
        self.station.start_on(&name(gateway), self.command(gateway))
    }

    /// The same, and waits until it serves.
    pub(crate) fn serve(&self, gateway: usize) -> Run {
        let mut run = self.start(gateway);
        run.wait_ready();
        run
    }

    /// Maps `echo` on the first pod and waits until the first gateway serves it and says so.
    pub(crate) fn serve_echo(&self) -> Run {
        self.echo("default", &[1]);
        self.map("default", "echo", &[1]);
        let run = self.serve(1);
        self.wait_answer(1, Some("pod1"));
        self.wait_mapping("default", "echo", |m| is_true(m, "Programmed"));
        run
    }

    /// Makes the Service `echo` on these pods, in a namespace.
    pub(crate) fn echo(&self, namespace: &str, pods: &[usize]) {
        self.plane.apply(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "echo", "namespace": namespace },
            "spec": { "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }] },
        }));
        self.endpoints(namespace, pods);
    }

    /// Replaces the endpoints of the Service `echo`.
    pub(crate) fn endpoints(&self, namespace: &str, pods: &[usize]) {
        let endpoint =
            |n: &usize| json!({ "addresses": [pod_address(*n)], "conditions": { "ready": true } });
        self.plane.apply(&json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "echo-1",
                "namespace": namespace,
                "labels": { "kubernetes.io/service-name": "echo" },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
        }));
    }

    /// Makes a Mapping of TCP 8080 on these gateways to `echo`.
    pub(crate) fn map(&self, namespace: &str, mapping: &str, gateways: &[usize]) -> DynamicObject {
        let addresses: Vec<String> = gateways.iter().map(|n| external(*n)).collect();
        self.plane.apply(&mapping_of(namespace, mapping, &addresses, 8080))
    }

    /// A Mapping as the API server has it; `None` when it is gone.
    pub(crate) fn mapping(&self, namespace: &str, mapping: &str) -> Option<Value> {
        let key = mapping_of(namespace, mapping, &[], 1);
        let (api, name) = self.plane.api_of(&key);
        let found = self.plane.wait(api.get_opt(&name)).expect("the API server answers");
        found.map(|object| serde_json::to_value(object).expect("JSON"))
    }

    /// Deletes a Mapping; it goes when its finalizers have.
    pub(crate) fn delete(&self, namespace: &str, mapping: &str) {
        let (api, name) = self.plane.api_of(&mapping_of(namespace, mapping, &[], 1));
        self.plane.wait(api.delete(&name, &DeleteParams::default())).expect("it is there");
    }

    /// Waits until a Mapping is as wanted.
    #[track_caller]
    pub(crate) fn wait_mapping(
        &self,
        namespace: &str,
        mapping: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let found = wait_until(PATIENCE, || self.mapping(namespace, mapping).filter(&wanted));
        found.unwrap_or_else(|| panic!("{:#}", json!(self.mapping(namespace, mapping))))
    }

    /// Waits until a Mapping is gone.
    #[track_caller]
    pub(crate) fn wait_gone(&self, namespace: &str, mapping: &str) {
        let gone =
            wait_until(PATIENCE, || self.mapping(namespace, mapping).is_none().then_some(()));
        assert!(gone.is_some(), "{:#}", json!(self.mapping(namespace, mapping)));
    }

    /// Waits until the client is answered by this pod on a gateway's address, or by none.
    #[track_caller]
    pub(crate) fn wait_answer(&self, gateway: usize, pod: Option<&str>) {
        let to = address_of(gateway, 8080);
        assert!(self.station.wait_answer("client", to, pod), "{pod:?} on {to}");
    }

    /// What a gateway's kernel holds of us, as the backend's own programs print it.
    pub(crate) fn rules(&self, gateway: usize) -> String {
        let lab = &self.station.lab;
        let words = ["iptables-nft-save"];
        lab.command(&name(gateway), &words).expect("the rules")
    }

    /// Runs a command of the program on a gateway to its end.
    pub(crate) fn finish(&self, gateway: usize, command: Command) -> Said {
        self.station.finish_on(&name(gateway), command)
    }
}

/// The external port of a gateway.
pub(crate) fn address_of(gateway: usize, port: u16) -> SocketAddr {
    SocketAddr::new(external(gateway).parse().expect("an address"), port)
}

/// A Mapping of one TCP port to the Service `echo`.
pub(crate) fn mapping_of(namespace: &str, mapping: &str, addresses: &[String], port: u16) -> Value {
    json!({
        "apiVersion": smartnat_cluster::api::API_VERSION,
        "kind": smartnat_cluster::api::KIND,
        "metadata": { "name": mapping, "namespace": namespace },
        "spec": {
            "addresses": addresses,
            "serviceName": "echo",
            "ports": [{ "port": port, "servicePort": 8080 }],
        },
    })
}

/// Status and reason of a condition of a Mapping.
pub(crate) fn condition(mapping: &Value, kind: &str) -> Option<(String, String)> {
    let all = mapping["status"]["conditions"].as_array()?;
    let found = all.iter().find(|c| c["type"] == kind)?;
    let text = |field: &str| found[field].as_str().map(str::to_owned);
    Some((text("status")?, text("reason")?))
}

/// Whether a condition is True for the latest specification.
pub(crate) fn is_true(mapping: &Value, kind: &str) -> bool {
    let all = mapping["status"]["conditions"].as_array();
    all.into_iter().flatten().any(|c| {
        c["type"] == kind
            && c["status"] == "True"
            && c["observedGeneration"] == mapping["metadata"]["generation"]
    })
}

/// Nobody answers within a short time.
pub(crate) fn is_silent(fleet: &Fleet, gateway: usize) -> bool {
    let to = address_of(gateway, 8080);
    let lab = &fleet.station.lab;
    traffic::connect_tcp(lab, "client", None, to, BRIEF).server().is_none()
}
