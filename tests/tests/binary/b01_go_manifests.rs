//! The manifests and the variables of a user of the Go version, unchanged.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use smartnat::lab::Lab;
use smartnat_core::model::IptablesFlavour;
use smartnat_sim::topology::{Host, Topology};

use crate::common::both_flavours;
use crate::station::{Said, Station};

/// A web page in a pod, until it is dropped.
struct Page {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Page {
    fn start(lab: &Lab, pod: &str, port: u16, body: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let any = SocketAddr::from(([0, 0, 0, 0], port));
        let listener = lab.run(pod, || TcpListener::bind(any)).expect("the pod");
        let listener = listener.expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // Who goes away early is no matter of the page.
                    Ok((stream, _)) => drop(answer(stream, body)),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it panicked of, a client has noticed.
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut request, mut octet) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && request.len() < 8192 && stream.read(&mut octet)? == 1 {
        request.push(octet[0]);
    }
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// As its guide draws it: `eth0` to the cluster, `eth1` with the external address, whose first
/// address of the subnet is the next hop.
fn topology() -> Topology {
    let nets = |texts: &[&str]| texts.iter().map(|t| t.parse().expect("a net")).collect::<Vec<_>>();
    let mut topology = Topology::default();
    for host in ["gateway", "pod1"] {
        topology.add_host(Host::new(host));
    }
    // Its own router: like one it asks for neighbours from its address on the link.
    topology.add_host(Host::new("client").with_sysctl("net.ipv4.conf.all.arp_announce", "2"));
    topology.attach("outside", "client", "eth0", &nets(&["192.168.60.1/24", "8.8.8.8/32"]));
    topology.attach("outside", "gateway", "eth1", &nets(&["192.168.60.5/24"]));
    topology.attach("cluster", "gateway", "eth0", &nets(&["10.244.1.1/24"]));
    topology.attach("cluster", "pod1", "eth0", &nets(&["10.244.1.11/24"]));
    topology
}

const DEPLOYMENT: &str = r"apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx
  labels: {app: nginx}
spec:
  replicas: 1
  selector:
    matchLabels: {app: nginx}
  template:
    metadata:
      labels: {app: nginx}
    spec:
      containers:
      - name: nginx
        image: nginx:1.15
        ports:
        - containerPort: 80
";

const SERVICE: &str = r"apiVersion: v1
kind: Service
metadata:
  name: nginx
spec:
  type: ClusterIP
  clusterIP: 10.96.0.17
  selector: {app: nginx}
  ports:
  - protocol: TCP
    port: 80
    targetPort: 80
";

const MAPPING: &str = r#"apiVersion: smartnat.aureacentral.com/v1alpha1
kind: Mapping
metadata:
  name: nginx
spec:
  addresses: ["192.168.60.5"]
  allowedSources: ["0.0.0.0/0"]
  serviceName: nginx
  mode: service
  ports:
  - port: 8080
    servicePort: 80
    protocol: TCP
"#;

const SLICE: &str = r#"apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: nginx-x7k2p
  labels: {kubernetes.io/service-name: nginx}
addressType: IPv4
ports:
- {name: "", protocol: TCP, port: 80}
endpoints:
- addresses: ["10.244.1.11"]
  conditions: {ready: true, serving: true, terminating: false}
"#;

/// What the guide tells its user to set; those without an effect here included.
const VARIABLES: [(&str, &str); 12] = [
    ("SNCTRLR_INTERFACES_PATTERN", "eth[1-9]"),
    ("SNCTRLR_DEFAULT_GW_INTERFACE", "eth0"),
    ("SNCTRLR_GW_ADDRESS_OFFSET", "1"),
    ("SNCTRLR_SETUP_MASQUERADE", "true"),
    ("SNCTRLR_SETUP_SNAT", "false"),
    ("SNCTRLR_AUTOREFRESH_PERIOD_SEC", "60"),
    ("SNCTRLR_IPTABLES_TIMEOUT_SEC", "10"),
    ("SNCTRLR_MAX_FINALIZE_WAIT_MINUTES", "60"),
    ("SNCTRLR_MAX_PORTS_PER_MAPPING", "50"),
    ("SNCTRLR_MONITOR_PORT", "8080"),
    ("SNCTRLR_MONITOR_IP", "127.0.0.1"),
    ("SNCTRLR_DEBUG_ENABLED", "false"),
];

fn fetch(station: &Station, from: &str) -> Said {
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "5", "--noproxy", "*"]);
    curl.args(["--interface", from, "http://192.168.60.5:8080/"]);
    station.finish_on("client", curl)
}

both_flavours!(manifests_and_variables_of_the_go_version_serve_a_page, |flavour| {
    let station = Station::on(&topology(), flavour);
    let _page = Page::start(&station.lab, "pod1", 80, "hello from nginx");
    for (name, text) in
        [("deployment", DEPLOYMENT), ("service", SERVICE), ("mapping", MAPPING), ("slice", SLICE)]
    {
        station.write(&format!("{name}.yaml"), text);
    }
    let mut command = station.bare(&["run", "--manifests"]);
    command.arg(station.manifests()).envs(VARIABLES);
    if flavour == IptablesFlavour::Legacy {
        command.env("SMARTNAT_IPTABLES_FLAVOUR", "legacy");
    }
    let mut run = station.start(command);
    run.wait_ready();
    // From the link, and from afar through the next hop.
    for from in ["192.168.60.1", "8.8.8.8"] {
        let said = fetch(&station, from).expect(0);
        assert_eq!(said.out, "hello from nginx");
    }
    let status = run.status().expect("a status");
    assert!(status.degraded.is_empty(), "{:?}", status.degraded);
    let mapping = status.mappings.values().next().expect("the Mapping");
    assert_eq!(mapping.invalid, "no");
    assert_eq!(mapping.service_vip, Some("10.96.0.17".parse().expect("an address")));
    let log = run.terminate();
    assert!(!log.contains("ERROR"), "{log}");
    assert!(!log.contains("unknown"), "{log}");
});

both_flavours!(a_pattern_that_the_go_version_matched_in_part_is_named, |flavour| {
    let station = Station::on(&topology(), flavour);
    let mut command = station.command(&["run", "--manifests"]);
    command.arg(station.manifests());
    command.env("SNCTRLR_INTERFACES_PATTERN", "th1").env("SNCTRLR_DEFAULT_GW_INTERFACE", "eth0");
    let run = station.start(command);
    let line = run.wait_line(&["SNCTRLR_INTERFACES_PATTERN", "eth1", "whole name"]);
    assert!(line.contains("WARN"), "{line}");
    // Nothing is an uplink then, and the status says so.
    run.wait_status(|status| status.degraded.iter().any(|line| line.contains("th1")));
});

/// As `kubectl get -o yaml` prints it on a cluster of the Go version.
const EXPORT: &str = r#"apiVersion: v1
kind: List
metadata: {resourceVersion: "", selfLink: ""}
items:
- apiVersion: smartnat.aureacentral.com/v1alpha1
  kind: Mapping
  metadata:
    annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}
    creationTimestamp: "2019-01-30T10:11:12Z"
    finalizers: [mapping.finalizers.aureacentral.com]
    generation: 3
    name: nginx
    namespace: default
    resourceVersion: "4711"
    selfLink: /apis/smartnat.aureacentral.com/v1alpha1/namespaces/default/mappings/nginx
    uid: 6b3e1a5e-2478-11e9-8d1f-080027c0ffee
  spec:
    addresses: [192.168.60.5]
    allowedSources: [0.0.0.0/0]
    mode: service
    ports: [{port: 8080, protocol: tcp, servicePort: 80}]
    serviceName: nginx
  status:
    configuredAddresses: {192.168.60.5: {podIPs: [10.244.1.11]}}
    invalid: "no"
    serviceVIP: 10.96.0.17
- apiVersion: v1
  kind: Service
  metadata: {creationTimestamp: null, labels: {app: nginx}, name: nginx, namespace: default}
  spec:
    clusterIP: 10.96.0.17
    ports: [{port: 80, protocol: TCP, targetPort: 80}]
    selector: {app: nginx}
    sessionAffinity: None
    type: ClusterIP
  status: {loadBalancer: {}}
- apiVersion: v1
  kind: Endpoints
  metadata: {name: nginx, namespace: default}
  subsets:
  - addresses: [{ip: 10.244.1.11, nodeName: n1, targetRef: {kind: Pod, name: nginx-1}}]
    ports: [{port: 80, protocol: TCP}]
"#;

both_flavours!(an_export_of_a_cluster_of_the_go_version_serves_a_page, |flavour| {
    let station = Station::on(&topology(), flavour);
    let _page = Page::start(&station.lab, "pod1", 80, "exported");
    station.write("export.yaml", EXPORT);
    let mut validate = station.bare(&["validate", "-f"]);
    validate.arg(station.manifests());
    let said = station.finish(validate).expect(0);
    assert!(said.out.contains("1 accepted, 0 rejected; files: 0 errors, 0 warnings"), "{said}");
    let mut command = station.command(&["run", "--uplink", "eth1", "--manifests"]);
    command.arg(station.manifests());
    let mut run = station.start(command);
    run.wait_ready();
    assert_eq!(fetch(&station, "8.8.8.8").expect(0).out, "exported");
    assert!(!run.terminate().contains("WARN"));
});
