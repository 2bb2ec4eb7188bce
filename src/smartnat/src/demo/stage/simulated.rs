//! Simulated hosts; the controller is the real gateway, driven in between packets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smartnat_core::gateway::EventKind;
use smartnat_core::model::{GatewayConfig, IptablesFlavour, Protocol};
use smartnat_sim::kernel::XtFlavour;
use smartnat_sim::topology::{StandardOptions, Topology, standard};
use smartnat_sim::walk::{Conversation, Network, Refusal};
use smartnat_sim::{Driver, SimKernel};

use super::{Comparison, Flow, GATEWAY, PODS, Request, Stage, Started, TCP_PORTS, UDP_PORTS, end};
use crate::demo::DemoError;
use crate::demo::host_state::HostState;
use crate::demo::manifests::{EndpointEdit, Texts};
use crate::demo::report::Kernel;
use crate::demo::story::Finding;
use crate::lab::traffic::{Outcome, StreamKind, StreamReport};

/// Requests of each stream after which a wait gives up: several times what any step waits for.
const ROUNDS_MAX: usize = 1000;

/// Virtual time after an edit, long enough for the second look at ended connections.
const SETTLING_MILLIS: u64 = 2000;

/// Where chance decides, every run is the same.
const SEED: u64 = 1;

/// Everything is in memory.
pub(in crate::demo) struct SimulatedStage {
    topology: Topology,
    network: Network,
    flavour: XtFlavour,
    config: GatewayConfig,
    controller: Option<Driver>,
    manifests: Texts,
    streams: Vec<SimulatedStream>,
    before: HostState,
}

struct SimulatedStream {
    flow: Flow,
    open: Option<Conversation>,
    report: StreamReport,
}

impl SimulatedStage {
    /// Builds the network and opens the ports of the pods.
    pub(in crate::demo) fn set_up(flavour: IptablesFlavour) -> Result<Self, DemoError> {
        let config =
            GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() };
        Self::with_config(flavour, config)
    }

    /// The same with other settings of the controller.
    pub(in crate::demo) fn with_config(
        flavour: IptablesFlavour,
        config: GatewayConfig,
    ) -> Result<Self, DemoError> {
        let flavour = match flavour {
            IptablesFlavour::Legacy => XtFlavour::Legacy,
            IptablesFlavour::Auto | IptablesFlavour::Nft => XtFlavour::Nft,
        };
        let topology = standard(StandardOptions::default());
        let mut network = Network::build(&topology, flavour, SEED)
            .map_err(|error| DemoError::Simulation(error.to_string()))?;
        let tcp = TCP_PORTS.map(|port| (Protocol::Tcp, port));
        let udp = UDP_PORTS.map(|port| (Protocol::Udp, port));
        for pod in PODS {
            network.serve(pod, pod, &[], &tcp).map_err(refused)?;
            network.serve(pod, pod, &[], &udp).map_err(refused)?;
        }
        let kernel = &network.host(GATEWAY).map_err(refused)?.kernel;
        let before = HostState::of_simulated(kernel, &config);
        Ok(Self {
            topology,
            network,
            flavour,
            config,
            controller: None,
            manifests: Texts::samples(),
            streams: Vec::new(),
            before,
        })
    }

    fn new_driver(&self) -> Driver {
        // The kernel of the host is lent to it whenever it works.
        Driver::new(self.config.clone(), SimKernel::new(self.flavour))
    }

    fn operations(&self) -> Result<u64, DemoError> {
        Ok(self.network.host(GATEWAY).map_err(refused)?.kernel.applied_ops())
    }

    /// One request of each stream.
    fn play_streams(&mut self) {
        for stream in &mut self.streams {
            stream.play(&mut self.network);
        }
    }

    fn open_from(
        &mut self,
        client: &str,
        to: SocketAddr,
    ) -> Result<Result<Conversation, Outcome>, DemoError> {
        let opened = self.network.open(client, None, Protocol::Tcp, to).map_err(refused)?;
        Ok(opened.map_err(Outcome::from))
    }
}

impl SimulatedStream {
    fn play(&mut self, network: &mut Network) {
        if self.report.ended {
            return;
        }
        let told = self.request(network).unwrap_or_else(|error| Outcome::Failed(error.to_string()));
        self.report.record(&told, Duration::ZERO);
        self.report.ended = self.flow.1 == StreamKind::Established && !told.is_answered();
    }

    fn request(&mut self, network: &mut Network) -> Result<Outcome, Refusal> {
        let (client, kind, address, port) = self.flow;
        let (protocol, lasts) = match kind {
            StreamKind::Established => (Protocol::Tcp, true),
            StreamKind::NewConnections => (Protocol::Tcp, false),
            StreamKind::Datagrams => (Protocol::Udp, true),
            StreamKind::NewFlows => (Protocol::Udp, false),
        };
        let conversation = match self.open.take() {
            Some(conversation) => conversation,
            None => match network.open(client, None, protocol, end(address, port))? {
                Ok(conversation) => conversation,
                Err(told) => return Ok(Outcome::from(told)),
            },
        };
        let told = network.ask(&conversation)?;
        if lasts {
            self.open = Some(conversation);
        } else {
            network.close(conversation)?;
        }
        Ok(Outcome::from(told))
    }
}

impl Stage for SimulatedStage {
    type Conversation = Conversation;
    type Watch = &'static str;

    const KERNEL: Kernel = Kernel::Simulated;

    fn description(&self) -> String {
        format!("{} hosts, each a simulated kernel of its own", self.topology.hosts.len())
    }

    fn ask(
        &mut self,
        client: &str,
        from: Option<IpAddr>,
        how: Protocol,
        to: SocketAddr,
    ) -> Outcome {
        match self.network.request(client, from, how, to) {
            Ok(told) => Outcome::from(told),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn ask_in_vain(&mut self, requests: &[Request]) -> Vec<Outcome> {
        let ask = |&(client, from, how, address, port): &Request| {
            self.ask(client, from.parse().ok(), how, end(address, port))
        };
        requests.iter().map(ask).collect()
    }

    fn silence(&self) -> Option<Duration> {
        None
    }

    fn requests(&self) -> u64 {
        PODS.iter().map(|pod| self.network.deliveries(pod)).sum()
    }

    fn open(
        &mut self,
        client: &str,
        to: SocketAddr,
    ) -> Result<Result<Conversation, Outcome>, DemoError> {
        self.open_from(client, to)
    }

    fn ask_on(&mut self, conversation: &mut Conversation, _request: &str) -> Outcome {
        match self.network.ask(conversation) {
            Ok(told) => Outcome::from(told),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn ask_on_ending(&mut self, conversation: &mut Conversation) -> Outcome {
        self.ask_on(conversation, "still there")
    }

    fn local(conversation: &Conversation) -> SocketAddr {
        conversation.local()
    }

    fn start_streams(&mut self, flows: &[Flow]) -> Result<(), DemoError> {
        let start = |&flow| SimulatedStream { flow, open: None, report: StreamReport::default() };
        self.streams.extend(flows.iter().map(start));
        self.play_streams();
        Ok(())
    }

    fn streams(&self) -> Vec<StreamReport> {
        self.streams.iter().map(|stream| stream.report.clone()).collect()
    }

    fn stop_streams(&mut self) -> Vec<StreamReport> {
        self.streams.drain(..).map(|stream| stream.report).collect()
    }

    fn wait_until(&mut self, mut condition: impl FnMut(&mut Self) -> bool) -> bool {
        (0..ROUNDS_MAX).any(|_| {
            self.play_streams();
            condition(self)
        })
    }

    fn retransmissions(&self) -> Result<Option<u64>, DemoError> {
        Ok(None)
    }

    fn watch(&mut self, interface: &'static str) -> Result<&'static str, DemoError> {
        self.network.forget_carried();
        Ok(interface)
    }

    fn sources_of_replies(&self, watch: &&'static str, port: u16) -> Vec<IpAddr> {
        let left = self.network.carried().filter(|c| c.from.0 == GATEWAY && c.from.1 == *watch);
        left.filter(|c| c.packet.ports().is_some_and(|(source, _)| source == port))
            .map(|c| c.packet.source)
            .collect()
    }

    fn start_controller(&mut self) -> Result<Started, DemoError> {
        let before = self.operations()?;
        let objects = self.manifests.objects()?;
        let mut driver = self.new_driver();
        self.network
            .drive(GATEWAY, &mut driver, |driver| driver.start(objects))
            .map_err(refused)?;
        let is_ready = driver.status().is_some_and(|status| status.in_sync);
        self.controller = Some(driver);
        if !is_ready {
            let what = "the controller did not become ready".into();
            return Err(DemoError::Controller { what, log: self.log_tail() });
        }
        Ok(Started { took: None, operations: self.operations()? - before, processes: None })
    }

    fn kill_controller(&mut self) {
        self.controller = None;
    }

    fn end_controller(&mut self) -> Result<(), DemoError> {
        self.controller = None;
        Ok(())
    }

    fn clean_up(&mut self) -> Result<(), DemoError> {
        let mut driver = self.new_driver();
        self.network.drive(GATEWAY, &mut driver, Driver::clean_up).map_err(refused)?;
        let is_clean = driver.events().iter().any(|event| event.kind == EventKind::CleanedUp);
        self.controller = Some(driver);
        if is_clean {
            return Ok(());
        }
        let what = "cleanup left something".into();
        Err(DemoError::Controller { what, log: self.log_tail() })
    }

    fn compare_host(&self) -> Result<Comparison, DemoError> {
        let kernel = &self.network.host(GATEWAY).map_err(refused)?.kernel;
        let after = HostState::of_simulated(kernel, &self.config);
        Ok(Comparison { lines: self.before.len(), differences: after.differences(&self.before) })
    }

    fn edit_pod(&mut self, pod: &str, edit: EndpointEdit) -> Result<(), DemoError> {
        let addresses: Vec<IpAddr> = self.topology.addresses(pod).collect();
        self.manifests.edit(&addresses, edit)?;
        let objects = self.manifests.objects()?;
        let Some(driver) = &mut self.controller else { return Ok(()) };
        let follow = |driver: &mut Driver| {
            driver.cluster(objects);
            driver.advance(SETTLING_MILLIS);
        };
        self.network.drive(GATEWAY, driver, follow).map_err(refused)
    }

    fn log_tail(&self) -> String {
        let events = self.controller.iter().flat_map(Driver::events);
        events.map(|event| event.message.as_str()).collect::<Vec<_>>().join("\n")
    }

    fn strike(self) -> Finding {
        Finding::passed("no namespace, no process and no file was made".into())
    }
}

fn refused(refusal: Refusal) -> DemoError {
    DemoError::Refused(refusal)
}
