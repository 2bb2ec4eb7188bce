//! The real gateway on a simulated host of a network, and the words of the contract's tests.

use std::net::{IpAddr, SocketAddr};

use smartnat_core::model::{ClusterObject, GatewayConfig, Protocol};
use smartnat_core::status::StatusReport;
use smartnat_sim::kernel::XtFlavour;
pub(crate) use smartnat_sim::scenario::standard::{
    SIDES, Side, echo_on, echo_service, first_network, pod,
};
use smartnat_sim::topology::Topology;
use smartnat_sim::walk::{Conversation, Network, RequestOutcome};
use smartnat_sim::{Driver, SimKernel};

/// Both flavours of iptables.
pub(crate) const FLAVOURS: [XtFlavour; 2] = [XtFlavour::Nft, XtFlavour::Legacy];

/// Defaults, with the uplinks of the standard topologies.
pub(crate) fn config() -> GatewayConfig {
    GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() }
}

/// A network whose host `gateway` runs the gateway.
pub(crate) struct Rig {
    pub(crate) network: Network,
    driver: Driver,
    objects: Vec<ClusterObject>,
}

impl Rig {
    /// Builds the network and runs the first sync.
    #[track_caller]
    pub(crate) fn start(
        topology: &Topology,
        flavour: XtFlavour,
        config: GatewayConfig,
        objects: Vec<ClusterObject>,
    ) -> Self {
        let network = Network::build(topology, flavour, 7).expect("the network is built");
        Self::start_in(network, flavour, config, objects)
    }

    /// The same in a network that a test has prepared.
    #[track_caller]
    pub(crate) fn start_in(
        network: Network,
        flavour: XtFlavour,
        config: GatewayConfig,
        objects: Vec<ClusterObject>,
    ) -> Self {
        let driver = Driver::new(config, SimKernel::new(flavour));
        let mut rig = Self { network, driver, objects: objects.clone() };
        rig.drive(|driver| driver.start(objects));
        rig.assert_in_sync();
        rig
    }

    /// Restarts with other settings and the objects of the start.
    #[track_caller]
    pub(crate) fn reconfigure(&mut self, config: GatewayConfig) {
        let objects = self.objects.clone();
        self.drive(|driver| driver.restart(config, objects));
        self.assert_in_sync();
    }

    /// Changed objects.
    #[track_caller]
    pub(crate) fn sync(&mut self, objects: Vec<ClusterObject>) {
        self.drive(|driver| driver.cluster(objects));
        self.assert_in_sync();
    }

    pub(crate) fn status(&self) -> &StatusReport {
        self.driver.status().expect("a status")
    }

    #[track_caller]
    fn assert_in_sync(&self) {
        let status = self.status();
        assert!(status.in_sync, "{:?} {:?}", status.degraded, self.driver.events());
    }

    fn drive<T>(&mut self, work: impl FnOnce(&mut Driver) -> T) -> T {
        self.network.drive("gateway", &mut self.driver, work).expect("the host gateway")
    }

    /// A request from a fresh port.
    #[track_caller]
    pub(crate) fn ask(
        &mut self,
        protocol: Protocol,
        client: &str,
        from: &str,
        to: SocketAddr,
    ) -> RequestOutcome {
        self.network.request(client, Some(ip(from)), protocol, to).expect("all is understood")
    }

    /// An open connection or port.
    #[track_caller]
    pub(crate) fn connect(
        &mut self,
        protocol: Protocol,
        client: &str,
        from: &str,
        to: SocketAddr,
    ) -> Conversation {
        let from = Some(SocketAddr::new(ip(from), 0));
        let opened = self.network.open(client, from, protocol, to).expect("all is understood");
        opened.unwrap_or_else(|outcome| panic!("{client} {protocol} {to}: {outcome}"))
    }

    /// A request on an open connection.
    #[track_caller]
    pub(crate) fn ask_on(&mut self, conversation: &Conversation) -> RequestOutcome {
        self.network.ask(conversation).expect("all is understood")
    }

    /// Servers in all pods on the target ports of [`echo_service`] and some more.
    pub(crate) fn servers(&mut self) {
        for pod in ["pod1", "pod2", "pod3"] {
            self.serve(pod, pod, &[], &POD_PORTS);
        }
    }

    /// A server on a host.
    pub(crate) fn serve(
        &mut self,
        host: &str,
        owner: &str,
        addresses: &[&str],
        ports: &[(Protocol, u16)],
    ) {
        let addresses: Vec<_> = addresses.iter().map(|a| ip(a)).collect();
        self.network.serve(host, owner, &addresses, ports).expect("the host");
    }
}

/// TCP 8080 and UDP 5353.
pub(crate) const USUAL: [(Protocol, u16); 2] = [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)];

const POD_PORTS: [(Protocol, u16); 8] = [
    (Protocol::Tcp, 8080),
    (Protocol::Tcp, 8081),
    (Protocol::Tcp, 9090),
    (Protocol::Udp, 5353),
    (Protocol::Udp, 7000),
    (Protocol::Udp, 7001),
    (Protocol::Udp, 7002),
    (Protocol::Sctp, 3868),
];

/// Parses an address of a test.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Address and port.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}
