//! The arm with real packets: a lab of network namespaces on this machine's kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value;
use smartnat::lab::traffic::{
    self, BRIEF, Conversation, Outcome, PATIENT, Server, Stream, StreamKind, StreamReport,
};
use smartnat::lab::{Lab, Packet, Sniffer, wait_until};
use smartnat_core::model::{ClusterObject, Family, GatewayConfig, Protocol};
use smartnat_core::objects::nft::{NFT_TABLE, NftTable};
use smartnat_core::objects::{ROUTE_PROTOCOL, SysctlKey, XtTableId};
use smartnat_linux::NftClient;
use smartnat_sim::topology::Topology;

use super::{Arm, Damage, Foreign, Request};
use crate::Ruleset;
use crate::host_text::{Programs, foreign_objects, host_text, table_lines};
use crate::sctp::{self, Chunk, SctpEnd};
use crate::{Rig, RigOptions, Step};

/// A lab with a gateway in it.
pub struct Linux {
    rig: Rig,
    ruleset: Ruleset,
    servers: BTreeMap<String, Vec<Server>>,
    streams: Vec<Stream>,
    /// Requests on open connections so far: each is another text, so that no late answer is taken for it.
    asked: u64,
}

/// An association between raw sockets.
#[derive(Debug)]
pub struct Association {
    client: SctpEnd,
    server: SctpEnd,
    to: SocketAddr,
    /// Whom the server sees.
    seen: SocketAddr,
}

impl Association {
    fn lives(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        self.client.send(self.to, sctp::TAG_OF_SERVER, Chunk::Heartbeat).expect("it is sent");
        // A raw socket hears of other associations with its port, too.
        while let Some(packet) = self.server.receive(end.saturating_duration_since(Instant::now()))
        {
            if (packet.from, packet.chunk) == (self.seen, Chunk::Heartbeat) {
                return true;
            }
        }
        false
    }
}

impl Linux {
    fn lab(&self) -> &Lab {
        &self.rig.lab
    }

    #[track_caller]
    fn run(&self, host: &str, words: &[&str]) {
        self.lab().command(host, words).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Whether the kernel says that a link is up.
    fn is_up(&self, host: &str, interface: &str) -> bool {
        let words = ["ip", "-oneline", "link", "show", interface];
        self.lab().command(host, &words).expect("ip").contains("state UP")
    }

    #[track_caller]
    fn iptables(&self, table: XtTableId, arguments: &str) {
        let programs = Programs::of(self.ruleset.flavour());
        let program = if table.family == Family::V4 { programs.v4 } else { programs.v6 };
        let words = [program, "-t", table.table.name()].into_iter().chain(arguments.split(' '));
        self.run("gateway", &words.collect::<Vec<_>>());
    }
}

impl Arm for Linux {
    type Conversation = Conversation;
    type Association = Association;
    type Watch = Sniffer;

    fn build(topology: &Topology, ruleset: Ruleset) -> Self {
        let lab = Lab::build(topology).expect("the lab is built");
        let rig = Rig::idle_in(lab, RigOptions::new(ruleset));
        Self { rig, ruleset, servers: BTreeMap::new(), streams: Vec::new(), asked: 0 }
    }

    fn start(&mut self, config: GatewayConfig, objects: Vec<ClusterObject>) -> Step {
        self.rig.restart_with(RigOptions::with(config, self.ruleset), objects)
    }

    fn restart(&mut self, objects: Vec<ClusterObject>) -> Step {
        self.rig.restart(objects)
    }

    fn reconfigure(&mut self, config: GatewayConfig) -> Step {
        self.rig.reconfigure(RigOptions::with(config, self.ruleset))
    }

    fn sync(&mut self, objects: Vec<ClusterObject>) -> Step {
        self.rig.sync(objects)
    }

    fn host_changed(&mut self) -> Step {
        self.rig.host_changed()
    }

    fn kernel_changed(&mut self) -> Step {
        self.rig.kernel_changed()
    }

    fn clean_up(&mut self) -> Step {
        self.rig.clean_up()
    }

    fn clean_up_anew(&mut self) -> Step {
        self.rig.clean_up_anew()
    }

    fn set_sysctl(&mut self, host: &str, key: &SysctlKey, value: &str) {
        self.lab().set_sysctl(host, &dotted(key), value).expect("a sysctl");
    }

    fn sysctl(&self, host: &str, key: &SysctlKey) -> String {
        self.lab().sysctl(host, &dotted(key)).expect("a sysctl")
    }

    #[track_caller]
    fn add_route(&mut self, host: &str, destination: &str, via: &str) {
        self.run(host, &["ip", "route", "add", destination, "via", via]);
    }

    #[track_caller]
    fn delete_route(&mut self, host: &str, destination: &str) {
        self.run(host, &["ip", "route", "del", destination]);
    }

    #[track_caller]
    fn add_address(&mut self, host: &str, interface: &str, address: &str) {
        self.run(host, &["ip", "address", "replace", address, "dev", interface, "nodad"]);
    }

    #[track_caller]
    fn delete_address(&mut self, host: &str, interface: &str, address: &str) {
        self.run(host, &["ip", "address", "del", address, "dev", interface]);
    }

    #[track_caller]
    fn set_link(&mut self, host: &str, interface: &str, up: bool) {
        self.run(host, &["ip", "link", "set", interface, if up { "up" } else { "down" }]);
        let ends = super::ends_of_cable(self.lab().topology(), host, interface);
        for (host, interface) in std::iter::once((host.into(), interface.into())).chain(ends) {
            let follows = || (self.is_up(&host, &interface) == up).then_some(());
            wait_until(PATIENT, follows).expect("the link follows");
        }
    }

    fn forget_connections(&mut self) {
        for family in ["ipv4", "ipv6"] {
            self.run("gateway", &["conntrack", "-F", "-f", family]);
        }
    }

    fn held(&self, client: &str) -> Option<u32> {
        let left = match self.ruleset {
            Ruleset::Nftables => held_in_table(self.lab(), client),
            Ruleset::IptablesNft | Ruleset::IptablesLegacy => held_in_sets(self.lab(), client),
        };
        assert!(left.len() <= 1, "one endpoint a client: {left:?}");
        left.first().copied()
    }

    fn table(&self) -> Option<NftTable> {
        let read = || NftClient::open()?.observe();
        self.lab().run("gateway", read).expect("the lab").expect("nftables is readable")
    }

    fn connections_to(&self, port: u16) -> Vec<String> {
        let list = |family| self.lab().command("gateway", &["conntrack", "-L", "-f", family]);
        let listed = ["ipv4", "ipv6"].map(|family| list(family).expect("connections")).concat();
        let port = format!("dport={port}");
        let concerned = |line: &&str| line.split(' ').any(|word| word == port);
        listed.lines().filter(concerned).map(str::to_owned).collect()
    }

    #[track_caller]
    fn put(&mut self, foreign: &Foreign<'_>) {
        match *foreign {
            Foreign::Chain { table, name } => self.iptables(table, &format!("-N {name}")),
            Foreign::Rule { table, chain, rule } => {
                self.iptables(table, &format!("-A {chain} {rule}"));
            }
            Foreign::Set { name } => self.run("gateway", &["ipset", "create", name, "hash:ip"]),
        }
    }

    fn put_foreign_objects(&mut self) {
        foreign_objects(self.lab(), &Programs::of(self.ruleset.flavour()));
    }

    #[track_caller]
    fn damage(&mut self, damage: &Damage<'_>) {
        match *damage {
            Damage::FlushChain { table, chain } => self.iptables(table, &format!("-F {chain}")),
            Damage::FlushTable { table } => self.iptables(table, "-F"),
            Damage::InsertRule { table, chain, rule } => {
                self.iptables(table, &format!("-I {chain} {rule}"));
            }
            Damage::DeleteFirstRule { table, chain } => {
                self.iptables(table, &format!("-D {chain} 1"));
            }
            Damage::FlushSet { name } => self.run("gateway", &["ipset", "flush", name]),
            Damage::AddElement { set, element } => {
                self.run("gateway", &["ipset", "add", set, element]);
            }
            Damage::Table { changes } => {
                let change = || NftClient::open()?.apply(changes);
                self.lab().run("gateway", change).expect("the lab").expect("others can do that");
            }
            Damage::DeleteRoutingRules { family } => {
                let protocol = ROUTE_PROTOCOL.to_string();
                let words = ["ip", option(family), "rule", "flush", "protocol", &protocol];
                self.run("gateway", &words);
            }
            Damage::DeleteRoutes { family, table } => {
                let table = table.to_string();
                let words = ["ip", option(family), "route", "flush", "table", &table];
                self.run("gateway", &words);
            }
        }
    }

    fn host_lines(&self) -> Vec<String> {
        let text = host_text(self.lab(), &Programs::of(self.ruleset.flavour()));
        // The kernel keeps a legacy table once it was used, with empty built-in chains.
        let kept = |line: &str| {
            let of_table = line.starts_with('*') || line == "COMMIT" || line.ends_with(" ACCEPT");
            self.ruleset == Ruleset::IptablesLegacy && of_table && !line.starts_with("-A")
        };
        let mut lines: Vec<_> = text.lines().filter(|l| !kept(l)).map(str::to_owned).collect();
        lines.extend(table_lines(self.table().as_ref()));
        lines
    }

    #[track_caller]
    fn serve(&mut self, host: &str, owner: &str, addresses: &[IpAddr], ports: &[(Protocol, u16)]) {
        let of = |wanted: Protocol| -> Vec<u16> {
            ports
                .iter()
                .filter(|(protocol, _)| *protocol == wanted)
                .map(|(_, port)| *port)
                .collect()
        };
        assert!(of(Protocol::Sctp).is_empty(), "the lab has no SCTP sockets");
        let own = self.lab().addresses(host);
        let addresses = if addresses.is_empty() { &own } else { addresses };
        let (tcp, udp) = (of(Protocol::Tcp), of(Protocol::Udp));
        let server = Server::start_on(self.lab(), host, owner, addresses, &tcp, &udp);
        self.servers.entry(owner.into()).or_default().push(server.expect("the server starts"));
    }

    fn stop(&mut self, owner: &str) {
        self.servers.remove(owner);
    }

    fn deliveries(&self, owner: &str) -> u64 {
        self.servers.get(owner).into_iter().flatten().map(Server::requests).sum()
    }

    fn ask(&mut self, asked: Request<'_>) -> Outcome {
        request(self.lab(), asked, PATIENT)
    }

    fn ask_all_briefly(&mut self, requests: &[Request<'_>]) -> Vec<Outcome> {
        let lab = self.lab();
        std::thread::scope(|scope| {
            let ask = |asked| scope.spawn(move || request(lab, asked, BRIEF));
            let asked: Vec<_> = requests.iter().copied().map(ask).collect();
            asked.into_iter().map(|a| a.join().expect("a client without a panic")).collect()
        })
    }

    fn ping(&mut self, host: &str, from: IpAddr, to: IpAddr) -> Outcome {
        traffic::ping(self.lab(), host, Some(from), to, 56, PATIENT)
    }

    fn send_datagram_so_far(&mut self, host: &str, from: SocketAddr, to: SocketAddr, hops: u8) {
        // A program that another test starts at this moment holds copies of all sockets until it runs.
        let bind = || wait_until(PATIENT, || UdpSocket::bind(from).ok());
        let send = || -> std::io::Result<usize> {
            let socket = bind().ok_or(std::io::ErrorKind::AddrInUse)?;
            let options = socket2::SockRef::from(&socket);
            if from.is_ipv4() {
                options.set_ttl_v4(hops.into())?;
            } else {
                options.set_unicast_hops_v6(hops.into())?;
            }
            // Whether the host is told that it may not send is not the question.
            Ok(socket.send_to(b"datagram", to).unwrap_or_default())
        };
        self.lab().run(host, send).expect("the lab").expect("a socket");
    }

    fn open(
        &mut self,
        protocol: Protocol,
        client: &str,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Conversation, Outcome> {
        traffic::open(self.lab(), client, protocol, Some(from), to, PATIENT).expect("the lab")
    }

    fn local(&self, conversation: &Conversation) -> SocketAddr {
        conversation.local()
    }

    fn ask_on(&mut self, conversation: &mut Conversation) -> Outcome {
        self.asked += 1;
        conversation.ask(&self.asked.to_string(), PATIENT)
    }

    fn ask_all_on_briefly(&mut self, conversations: &mut [Conversation]) -> Vec<Outcome> {
        self.asked += 1;
        let text = self.asked.to_string();
        std::thread::scope(|scope| {
            let asked: Vec<_> = conversations
                .iter_mut()
                .map(|conversation| scope.spawn(|| conversation.ask(&text, BRIEF)))
                .collect();
            asked.into_iter().map(|a| a.join().expect("a client without a panic")).collect()
        })
    }

    fn associate(
        &mut self,
        client: (&str, SocketAddr),
        to: SocketAddr,
        server: (&str, SocketAddr),
    ) -> Option<(SocketAddr, Association)> {
        let [client, server] = [client, server]
            .map(|(host, at)| SctpEnd::open(self.lab(), host, at).expect("a raw socket"));
        let (seen, answer) = sctp::associate(&client, &server, to, PATIENT)?;
        let association = Association { client, server, to, seen: seen.from };
        (answer.from == to).then_some((seen.from, association))
    }

    fn lives(&mut self, association: &mut Association) -> bool {
        association.lives(PATIENT)
    }

    fn lives_briefly(&mut self, association: &mut Association) -> bool {
        association.lives(BRIEF)
    }

    fn send_init(&mut self, host: &str, from: SocketAddr, to: SocketAddr) {
        let client = SctpEnd::open(self.lab(), host, from).expect("a raw socket");
        client.send(to, 0, Chunk::Init(sctp::TAG_OF_CLIENT)).expect("the packet is sent");
    }

    fn watch(&mut self, host: &str, interface: &str) -> Sniffer {
        Sniffer::start(self.lab(), host, interface).expect("a sniffer")
    }

    fn packets(&self, watch: &Sniffer) -> Vec<Packet> {
        watch.packets()
    }

    fn seen(&self, watch: &Sniffer, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
        watch.wait_for(PATIENT, wanted)
    }

    fn seen_briefly(&self, watch: &Sniffer, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
        watch.wait_for(BRIEF, wanted)
    }

    fn stream(
        &mut self,
        kind: StreamKind,
        client: &str,
        from: IpAddr,
        to: SocketAddr,
        pause: Duration,
    ) {
        let stream = Stream::start(self.lab(), client, kind, Some(from), to, pause);
        self.streams.push(stream.expect("a stream"));
    }

    #[track_caller]
    fn await_streams(&mut self, count: u64) {
        for stream in &self.streams {
            assert!(stream.wait_for_more(count, PATIENT), "{:?}", stream.report());
        }
    }

    fn stop_streams(&mut self) -> Vec<StreamReport> {
        // Each waits for its last answer.
        std::thread::scope(|scope| {
            let stop = |stream: Stream| scope.spawn(|| stream.stop());
            let stopped: Vec<_> = std::mem::take(&mut self.streams).into_iter().map(stop).collect();
            stopped.into_iter().map(|s| s.join().expect("a stream without a panic")).collect()
        })
    }

    fn wait_until<T>(&mut self, mut wanted: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        wait_until(PATIENT, || wanted(self))
    }
}

fn request(lab: &Lab, (protocol, client, from, to): Request<'_>, patience: Duration) -> Outcome {
    let from = Some(from.parse().expect("a test's address parses"));
    match protocol {
        Protocol::Tcp => traffic::connect_tcp(lab, client, from, to, patience),
        Protocol::Udp => traffic::ask_udp(lab, client, from, to, patience),
        Protocol::Sctp => panic!("the lab has no SCTP sockets"),
    }
}

/// Of `ip`.
fn option(family: Family) -> &'static str {
    if family == Family::V4 { "-4" } else { "-6" }
}

fn dotted(key: &SysctlKey) -> String {
    key.path().replace('/', ".")
}

/// Seconds left of each entry of the sets of ipset that hold a client.
fn held_in_sets(lab: &Lab, client: &str) -> Vec<u32> {
    let sets = lab.command("gateway", &["ipset", "save"]).expect("ipset");
    let client = format!(" {client} ");
    let of_client = |l: &&str| l.starts_with("add smartnat-f") && l.contains(&client);
    sets.lines().filter(of_client).filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect()
}

/// The same of the map in our table.
fn held_in_table(lab: &Lab, client: &str) -> Vec<u32> {
    let map = if client.contains(':') { "affinity6" } else { "affinity4" };
    let words = ["nft", "-j", "list", "map", "inet", NFT_TABLE, map];
    let text = lab.command("gateway", &words).expect("the map of affinity");
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    let maps = listed["nftables"].as_array().expect("a list").iter();
    let elements = maps.filter_map(|object| object["map"]["elem"].as_array()).flatten();
    let left = elements.filter_map(|pair| {
        let key = &pair[0]["elem"];
        let held = key["val"]["concat"].as_array().and_then(|fields| fields.last());
        let of_client = held.and_then(Value::as_str) == Some(client);
        of_client.then(|| key["expires"].as_u64())?
    });
    left.map(|seconds| u32::try_from(seconds).expect("a time-out")).collect()
}
