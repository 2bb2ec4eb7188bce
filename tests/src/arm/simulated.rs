//! The arm without any privilege: the simulated kernel and a network of simulated hosts.

mod lines;
mod machine;
mod others;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smartnat::lab::traffic::{Outcome, StreamKind, StreamReport};
use smartnat::lab::{Direction, Packet, Transport};
use smartnat_core::gateway::{Gateway, Input};
use smartnat_core::model::{ClusterObject, GatewayConfig, Protocol};
use smartnat_core::objects::nft::NftTable;
use smartnat_core::objects::{Layer4, SysctlKey};
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::{Direction as FlowDirection, HeldTable};
use smartnat_sim::topology::Topology;
use smartnat_sim::walk::{Carried, Conversation, Network, Packet as SimPacket, Payload};

use super::{Arm, Damage, Foreign, Request};
use crate::Ruleset;
use crate::Step;
use crate::engine::Engine;
use machine::{GATEWAY, SimMachine, SimStream};

/// Where rules leave it to chance, this decides.
const SEED: u64 = 7;
/// How far time goes at once, and how often, where something is waited for.
const PACE: (u64, usize) = (100, 100);

/// A network of simulated hosts with a gateway in it.
pub struct Simulated {
    machine: SimMachine,
    topology: Topology,
    ruleset: Ruleset,
    engine: Option<Engine>,
    config: GatewayConfig,
    objects: Vec<ClusterObject>,
}

/// From when on the packets on an interface count.
#[derive(Clone, Debug)]
pub struct Watch {
    end: (String, String),
    since: u64,
}

impl Simulated {
    fn network(&mut self) -> &mut Network {
        &mut self.machine.network
    }

    #[track_caller]
    fn kernel(&mut self, host: &str) -> &mut SimKernel {
        &mut self.network().host_mut(host).expect("a host of the topology").kernel
    }

    fn launch(&mut self) {
        self.engine = Some(Engine::new(Gateway::new(self.config.clone())));
    }

    #[track_caller]
    fn follow(&mut self, inputs: Vec<Input>) -> Step {
        let engine = self.engine.as_mut().expect("the gateway runs");
        let step = engine.follow(&mut self.machine, inputs);
        // T14: on this arm each operation tells whether it means something of others.
        assert_eq!(self.machine.gateway().trespasses(), [""; 0]);
        step
    }

    #[track_caller]
    fn request(&mut self, (protocol, client, from, to): Request<'_>) -> Outcome {
        let from = from.parse().expect("a test's address parses");
        let asked = self.network().request(client, Some(from), protocol, to);
        Outcome::from(asked.expect("all is understood"))
    }
}

impl Arm for Simulated {
    type Conversation = Conversation;
    type Association = Conversation;
    type Watch = Watch;

    fn build(topology: &Topology, ruleset: Ruleset) -> Self {
        let flavour = ruleset.simulated_flavour();
        let network = Network::build(topology, flavour, SEED).expect("the network is built");
        Self {
            machine: SimMachine { network, streams: Vec::new() },
            topology: topology.clone(),
            ruleset,
            engine: None,
            config: GatewayConfig::default(),
            objects: Vec::new(),
        }
    }

    #[track_caller]
    fn start(&mut self, config: GatewayConfig, objects: Vec<ClusterObject>) -> Step {
        self.config = GatewayConfig { backend: self.ruleset.backend(), ..config };
        self.restart(objects)
    }

    #[track_caller]
    fn restart(&mut self, objects: Vec<ClusterObject>) -> Step {
        self.launch();
        self.objects.clone_from(&objects);
        let host = self.machine.gateway().host();
        self.follow(vec![Input::Host(host), Input::Cluster(objects)])
    }

    #[track_caller]
    fn reconfigure(&mut self, config: GatewayConfig) -> Step {
        let objects = self.objects.clone();
        self.start(config, objects)
    }

    #[track_caller]
    fn sync(&mut self, objects: Vec<ClusterObject>) -> Step {
        self.follow(vec![Input::Cluster(objects)])
    }

    #[track_caller]
    fn host_changed(&mut self) -> Step {
        let host = self.machine.gateway().host();
        self.follow(vec![Input::Host(host)])
    }

    #[track_caller]
    fn kernel_changed(&mut self) -> Step {
        self.follow(vec![Input::KernelChanged])
    }

    #[track_caller]
    fn clean_up(&mut self) -> Step {
        self.follow(vec![Input::CleanUp])
    }

    #[track_caller]
    fn clean_up_anew(&mut self) -> Step {
        self.launch();
        self.clean_up()
    }

    #[track_caller]
    fn set_sysctl(&mut self, host: &str, key: &SysctlKey, value: &str) {
        self.kernel(host).write_sysctl(key, value).expect("a sysctl");
    }

    fn sysctl(&self, host: &str, key: &SysctlKey) -> String {
        let kernel = &self.machine.network.host(host).expect("a host of the topology").kernel;
        kernel.sysctl(key).expect("a sysctl")
    }

    #[track_caller]
    fn add_route(&mut self, host: &str, destination: &str, via: &str) {
        let gateway: IpAddr = via.parse().expect("a test's address parses");
        let kernel = self.kernel(host);
        let interface = kernel
            .links()
            .iter()
            .find(|(_, link)| link.addresses.iter().any(|a| a.address.contains(&gateway)))
            .map(|(name, _)| name.to_owned());
        let interface = interface.unwrap_or_else(|| panic!("{via} is on no link of {host}"));
        kernel.add_host_route(&prefix(destination), Some(via), &interface);
    }

    #[track_caller]
    fn delete_route(&mut self, host: &str, destination: &str) {
        self.kernel(host).remove_host_route(&prefix(destination));
    }

    #[track_caller]
    fn add_address(&mut self, host: &str, interface: &str, address: &str) {
        let wanted = address.parse().expect("a test's address parses");
        let kernel = self.kernel(host);
        let link = kernel.links().get(interface).expect("a link of the host");
        if !link.addresses.iter().any(|a| a.address == wanted) {
            kernel.add_address(interface, address);
        }
    }

    #[track_caller]
    fn delete_address(&mut self, host: &str, interface: &str, address: &str) {
        let address: ipnet::IpNet = address.parse().expect("a test's address parses");
        self.kernel(host).remove_address(interface, address.addr());
    }

    #[track_caller]
    fn set_link(&mut self, host: &str, interface: &str, up: bool) {
        let ends = super::ends_of_cable(&self.topology, host, interface);
        self.kernel(host).set_link_up(interface, up);
        for (host, interface) in ends {
            self.kernel(&host).set_carrier(&interface, up);
        }
    }

    fn forget_connections(&mut self) {
        self.kernel(GATEWAY).forget_connections();
    }

    fn held(&self, client: &str) -> Option<u32> {
        let kernel = self.machine.gateway();
        let ends = lines::held(kernel, client.parse().expect("a test's address parses"));
        assert!(ends.len() <= 1, "one endpoint a client: {ends:?}");
        let millis = ends.first()?.0 - kernel.now().0;
        Some(u32::try_from(millis / 1000).expect("a time-out"))
    }

    fn table(&self) -> Option<NftTable> {
        self.machine.gateway().nft().ours().map(HeldTable::observe)
    }

    fn connections_to(&self, port: u16) -> Vec<String> {
        let entries = self.machine.gateway().conntrack().entries();
        let concerned = entries.filter(|entry| {
            [FlowDirection::Original, FlowDirection::Reply].into_iter().any(|direction| {
                let layer4 = entry.tuple(direction).layer4;
                matches!(layer4, Layer4::Ports { destination, .. } if destination == port)
            })
        });
        concerned.map(|entry| format!("{entry:?}")).collect()
    }

    #[track_caller]
    fn put(&mut self, foreign: &Foreign<'_>) {
        others::put(self.kernel(GATEWAY), foreign);
    }

    fn put_foreign_objects(&mut self) {
        others::put_objects(self.kernel(GATEWAY));
    }

    #[track_caller]
    fn damage(&mut self, damage: &Damage<'_>) {
        others::damage(self.kernel(GATEWAY), damage);
    }

    fn host_lines(&self) -> Vec<String> {
        lines::of(self.machine.gateway())
    }

    #[track_caller]
    fn serve(&mut self, host: &str, owner: &str, addresses: &[IpAddr], ports: &[(Protocol, u16)]) {
        self.network().serve(host, owner, addresses, ports).expect("a host of the topology");
    }

    fn stop(&mut self, owner: &str) {
        for host in self.topology.hosts.clone() {
            self.network().stop(&host.name, owner).expect("a host of the topology");
        }
    }

    fn deliveries(&self, owner: &str) -> u64 {
        self.machine.network.deliveries(owner)
    }

    #[track_caller]
    fn ask(&mut self, request: Request<'_>) -> Outcome {
        self.request(request)
    }

    #[track_caller]
    fn ask_all_briefly(&mut self, requests: &[Request<'_>]) -> Vec<Outcome> {
        requests.iter().map(|request| self.request(*request)).collect()
    }

    #[track_caller]
    fn ping(&mut self, host: &str, from: IpAddr, to: IpAddr) -> Outcome {
        Outcome::from(self.network().ping(host, from, to).expect("all is understood"))
    }

    #[track_caller]
    fn send_datagram_so_far(&mut self, host: &str, from: SocketAddr, to: SocketAddr, hops: u8) {
        let payload = Payload::Udp { source: from.port(), destination: to.port() };
        let packet = SimPacket { ttl: hops, ..SimPacket::new(from.ip(), to.ip(), payload) };
        self.network().send(host, packet).expect("all is understood");
    }

    #[track_caller]
    fn open(
        &mut self,
        protocol: Protocol,
        client: &str,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Conversation, Outcome> {
        let opened = self.network().open(client, Some(from), protocol, to);
        opened.expect("all is understood").map_err(Outcome::from)
    }

    fn local(&self, conversation: &Conversation) -> SocketAddr {
        conversation.local()
    }

    #[track_caller]
    fn ask_on(&mut self, conversation: &mut Conversation) -> Outcome {
        Outcome::from(self.network().ask(conversation).expect("all is understood"))
    }

    #[track_caller]
    fn ask_all_on_briefly(&mut self, conversations: &mut [Conversation]) -> Vec<Outcome> {
        conversations.iter_mut().map(|conversation| self.ask_on(conversation)).collect()
    }

    #[track_caller]
    fn associate(
        &mut self,
        (client, from): (&str, SocketAddr),
        to: SocketAddr,
        (server, at): (&str, SocketAddr),
    ) -> Option<(SocketAddr, Conversation)> {
        self.serve(server, server, &[at.ip()], &[(Protocol::Sctp, at.port())]);
        let mut opened = self.open(Protocol::Sctp, client, from, to).ok()?;
        // A client takes answers of its peer alone.
        let seen = self.ask_on(&mut opened).answer()?.seen_peer;
        Some((seen, opened))
    }

    #[track_caller]
    fn lives(&mut self, association: &mut Conversation) -> bool {
        self.ask_on(association).is_answered()
    }

    #[track_caller]
    fn lives_briefly(&mut self, association: &mut Conversation) -> bool {
        self.lives(association)
    }

    #[track_caller]
    fn send_init(&mut self, host: &str, from: SocketAddr, to: SocketAddr) {
        let (from, to) = ((from.ip(), from.port()), (to.ip(), to.port()));
        let packet = SimPacket::opening(Protocol::Sctp, from, to);
        self.network().send(host, packet).expect("all is understood");
    }

    fn watch(&mut self, host: &str, interface: &str) -> Watch {
        let end = (host.to_owned(), interface.to_owned());
        Watch { end, since: self.machine.network.carried_ever() }
    }

    #[track_caller]
    fn packets(&self, watch: &Watch) -> Vec<Packet> {
        let carried = self.machine.network.carried_since(watch.since);
        let carried = carried.expect("the network remembers all packets since");
        carried.filter_map(|c| passed(c, &watch.end)).collect()
    }

    #[track_caller]
    fn seen(&self, watch: &Watch, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
        self.packets(watch).into_iter().find(wanted)
    }

    #[track_caller]
    fn seen_briefly(&self, watch: &Watch, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
        self.seen(watch, wanted)
    }

    fn stream(
        &mut self,
        kind: StreamKind,
        client: &str,
        from: IpAddr,
        to: SocketAddr,
        _pause: Duration,
    ) {
        self.machine.streams.push(SimStream::new(kind, client, from, to));
        self.machine.ask_on_streams();
    }

    #[track_caller]
    fn await_streams(&mut self, count: u64) {
        let answered = |machine: &SimMachine| -> Vec<u64> {
            machine.streams.iter().map(|stream| stream.report.answered).collect()
        };
        let before = answered(&self.machine);
        (0..count).for_each(|_| self.machine.ask_on_streams());
        for (stream, before) in self.machine.streams.iter().zip(before) {
            assert!(stream.report.answered >= before + count, "{:?}", stream.report);
        }
    }

    fn stop_streams(&mut self) -> Vec<StreamReport> {
        std::mem::take(&mut self.machine.streams).into_iter().map(|stream| stream.report).collect()
    }

    fn wait_until<T>(&mut self, mut wanted: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let (millis, times) = PACE;
        for _ in 0..times {
            if let Some(found) = wanted(self) {
                return Some(found);
            }
            self.network().advance(millis);
        }
        None
    }
}

/// How a packet passed an interface. What found no neighbour never got on the link.
fn passed(carried: &Carried, end: &(String, String)) -> Option<Packet> {
    let to = carried.to.as_ref()?;
    let direction = if carried.from == *end {
        Direction::Out
    } else if to == end {
        Direction::In
    } else {
        return None;
    };
    let packet = &carried.packet;
    let transport = match packet.payload {
        Payload::Tcp { source, destination, flags } => {
            Transport::Tcp { source, destination, flags: flags.bits() }
        }
        Payload::Udp { source, destination } => Transport::Udp { source, destination },
        Payload::Sctp { .. } => Transport::Other(Protocol::Sctp.number()),
        Payload::Icmp(message) => {
            let (kind, code) = message.numbers(packet.family());
            Transport::Icmp { kind, code }
        }
    };
    let (source, destination) = (packet.source, packet.destination);
    Some(Packet { direction, source, destination, hops: packet.ttl, transport })
}

/// A destination as a network, also where it is written as an address.
fn prefix(destination: &str) -> String {
    destination
        .parse::<IpAddr>()
        .map_or_else(|_| destination.to_owned(), |address| ipnet::IpNet::from(address).to_string())
}
