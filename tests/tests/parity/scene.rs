//! One gateway twice: on the Linux kernel in a namespace, and on the simulated kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use smartnat::lab::Lab;
use smartnat_core::compile::{adopt_numbers, sysctl_scope};
use smartnat_core::explain;
use smartnat_core::marks::MarkLayout;
use smartnat_core::model::{
    Backend, ClusterObject, ClusterState, Family, GatewayConfig, IptablesFlavour,
};
use smartnat_core::nft_text::render_table;
use smartnat_core::objects::{ObservationScope, SysctlKey, XtTable, XtTableId, XtTarget};
use smartnat_core::ops::{Kernel as _, NftOp, OpError};
use smartnat_core::xtables_text::parse_rule;
use smartnat_linux::survey::obstacles;
use smartnat_linux::{NftClient, XtablesSettings};
use smartnat_sim::kernel::Policy;
use smartnat_sim::topology::{Host, Topology};
use smartnat_sim::walk::{Network, NftAction, Outcome, Packet, Payload, SimHost, Step, Trace};
use smartnat_sim::{Driver, SimKernel};
use smartnat_tests::{Rig, RigOptions, Ruleset};

use crate::wire::{Seen, Wire, station, written};

/// Draws of chance among which the kernel's must be found: of 8 endpoints one is missed by all of
/// them once in 10^23 times.
const MAX_DRAWS: u64 = 400;

/// The gateway's interfaces with its addresses.
const INTERFACES: [(&str, &[&str]); 3] = [
    ("ext1", &["203.0.113.10/24", "203.0.113.11/24", "203.0.113.12/24", "2001:db8:1::10/64"]),
    ("ext2", &["198.51.100.10/24", "2001:db8:2::10/64"]),
    ("eth0", &["10.0.0.2/24", "fd00::2/64"]),
];

/// Everybody on the links, by interface: routers, a client, pods, the asker of the barrier.
pub(crate) const STATIONS: [(&str, &[&str]); 3] = [
    ("ext1", &["203.0.113.1", "203.0.113.77", "2001:db8:1::1", "2001:db8:1::77"]),
    ("ext2", &["198.51.100.1", "198.51.100.77", "2001:db8:2::1", "2001:db8:2::77"]),
    (
        "eth0",
        &[
            "10.0.0.1",
            "10.0.0.11",
            "10.0.0.12",
            "10.0.0.13",
            "10.0.0.250",
            "fd00::1",
            "fd00::11",
            "fd00::12",
        ],
    ),
];

fn topology() -> Topology {
    let mut topology = Topology::default();
    let mut gateway = Host::new("gateway");
    for (key, value) in [("net.ipv4.icmp_ratelimit", "0"), ("net.ipv6.icmp.ratelimit", "0")] {
        gateway = gateway.with_sysctl(key, value);
    }
    topology.add_host(gateway);
    topology.add_host(Host::new("world"));
    for (name, addresses) in INTERFACES {
        let addresses: Vec<IpNet> =
            addresses.iter().map(|a| a.parse().expect("an address")).collect();
        topology.attach(name, "gateway", name, &addresses);
        topology.attach(name, "world", name, &[]);
    }
    for (destination, gateway) in [("0.0.0.0/0", "10.0.0.1"), ("::/0", "fd00::1")] {
        let gateway = gateway.parse().expect("an address");
        topology.route("gateway", destination.parse().expect("a network"), gateway);
    }
    topology
}

/// What somebody else has in the way: table, chain, rule; a rule `POLICY DROP` is the policy.
pub(crate) type Foreign = (&'static str, &'static str, String);

pub(crate) struct Scene {
    ruleset: Ruleset,
    rig: Rig,
    wire: Wire,
    simulated: SimHost,
    driver: Driver,
    draws: u64,
    cluster: ClusterState,
    config: GatewayConfig,
    /// What `explain` is told, with what others have as it is read from the kernel.
    explained: explain::Scene,
}

/// What one packet came to on both.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) agree: bool,
    /// An endpoint was drawn and remembered for the client, but the packet went nowhere: which one
    /// the kernel drew does not show. Or a port was drawn, among more than can be tried.
    pub(crate) unseen_choice: bool,
    pub(crate) linux: Vec<Seen>,
    pub(crate) trace: Trace,
}

impl Scene {
    /// The links and stations, with a gateway that has nothing to do yet.
    pub(crate) fn build(ruleset: Ruleset) -> Self {
        let (rig, _) = Rig::start(&topology(), RigOptions::new(ruleset), Vec::new());
        let mut stations = BTreeMap::new();
        let all = STATIONS.iter().flat_map(|(link, all)| all.iter().map(move |a| (*link, *a)));
        for ((link, address), number) in all.zip(1..) {
            let mac = written(station(number));
            let words = ["ip", "neigh", "replace", address, "lladdr", &mac, "dev", link];
            rig.lab
                .command("gateway", &[&words[..], &["nud", "permanent"]].concat())
                .expect("a neighbour");
            stations.insert(station(number), address.parse().expect("an address"));
        }
        for (key, value) in [
            // What is in no window is as good as what is: the simulation has no sequence numbers.
            ("net.netfilter.nf_conntrack_tcp_be_liberal", "1"),
            ("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst", "1"),
            ("net.ipv4.conf.all.send_redirects", "0"),
            ("net.ipv4.conf.ext1.send_redirects", "0"),
            ("net.ipv4.conf.ext2.send_redirects", "0"),
            ("net.ipv4.conf.eth0.send_redirects", "0"),
            ("net.ipv4.icmp_msgs_per_sec", "1000000"),
            ("net.ipv4.icmp_msgs_burst", "1000000"),
        ] {
            // The global limit is no setting of a namespace on older kernels.
            let set = rig.lab.set_sysctl("gateway", key, value);
            assert!(set.is_ok() || key.contains("icmp_msgs"), "{key}: {set:?}");
        }
        let wire =
            Wire::open(&rig.lab, "world", stations, ("eth0", "10.0.0.2".parse().expect("own")));
        let simulated = simulated_host(ruleset);
        let kernel = SimKernel::new(ruleset.simulated_flavour());
        let driver = Driver::new(RigOptions::new(ruleset).config, kernel);
        let (cluster, config) = (ClusterState::default(), GatewayConfig::default());
        let explained = explain::Scene::default();
        Self { ruleset, rig, wire, simulated, driver, draws: 0, cluster, config, explained }
    }

    /// Both start anew, with these settings and objects, beside what others have.
    pub(crate) fn begin(
        &mut self,
        config: &GatewayConfig,
        objects: &[ClusterObject],
        foreign: &[Foreign],
    ) {
        self.rig.clean_up();
        self.clear_foreign();
        self.forget_connections();
        self.simulated = simulated_host(self.ruleset);
        for one in foreign {
            self.add_foreign(one);
        }
        let options = RigOptions::with(config.clone(), self.ruleset);
        let config = options.config.clone();
        self.rig.kill();
        let step = self.rig.reconfigure_with(options, objects.to_vec());
        assert!(step.status.in_sync, "{:?}", step.events);
        let kernel = SimKernel::new(self.ruleset.simulated_flavour());
        self.driver = Driver::new(config.clone(), kernel);
        self.drive(|driver| driver.start(objects.to_vec()));
        self.wire.everything_so_far();
        (self.cluster, self.config) = (ClusterState::default(), config);
        self.tell(objects);
    }

    /// Nobody decides any more what the kernels hold; both forward.
    pub(crate) fn without_gateway(&mut self) {
        self.rig.clean_up();
        self.rig.kill();
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            self.rig.lab.set_sysctl("gateway", key, "1").expect("forwarding");
        }
    }

    /// Without a gateway: both kernels know no table and no connection.
    pub(crate) fn forget(&mut self) {
        let delete = || -> Result<(), OpError> {
            let mut client = NftClient::open()?;
            match client.observe()? {
                Some(_) => client.apply(&[NftOp::DeleteTable]),
                None => Ok(()),
            }
        };
        self.rig.lab.run("gateway", delete).expect("the namespace").expect("the table goes");
        self.forget_connections();
        self.simulated = simulated_host(self.ruleset);
        for family in Family::ALL {
            let key = SysctlKey::Forwarding(family);
            self.simulated.kernel.write_sysctl(&key, "1").expect("it exists");
        }
        self.wire.everything_so_far();
    }

    fn forget_connections(&self) {
        for family in ["ipv4", "ipv6"] {
            self.rig.lab.command("gateway", &["conntrack", "-F", "-f", family]).expect("a flush");
        }
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.rig.lab
    }

    pub(crate) fn kernel(&mut self) -> &mut SimKernel {
        &mut self.simulated.kernel
    }

    /// Our table, as `nft` would print it.
    pub(crate) fn table_text(&self) -> String {
        let table = self.simulated.kernel.nft().ours();
        table.map(|table| render_table(&table.observe())).unwrap_or_default()
    }

    /// A packet comes in on both, where nothing is left to chance. `None`: it is not modelled what
    /// would become of it.
    pub(crate) fn exchange_modelled(
        &mut self,
        interface: &str,
        packet: &Packet,
    ) -> Option<Comparison> {
        self.simulated.clone().receive(interface, *packet).ok()?;
        Some(self.exchange(interface, packet))
    }

    /// What `explain` goes by on this host.
    pub(crate) fn explained(&self) -> &explain::Scene {
        &self.explained
    }

    fn tell(&mut self, objects: &[ClusterObject]) {
        for object in objects {
            self.cluster.update(object.clone());
        }
        let config = &self.config;
        let of_iptables = (config.backend == Backend::Iptables).then(|| self.ruleset.flavour());
        let kernel = &mut self.simulated.kernel;
        let host = kernel.host();
        let scope = ObservationScope {
            table_base: config.table_base,
            table_count: MarkLayout::new(config.mark_mask).max_uplinks(),
            rule_priority: config.rule_priority,
            sysctls: sysctl_scope(&host, config),
            netfilter: smartnat_core::objects::Netfilter::All,
        };
        let held = kernel.observe(&scope).expect("the simulated kernel is read");
        let others = || obstacles(of_iptables, XtablesSettings::default());
        self.explained = explain::Scene {
            cluster: self.cluster.clone(),
            host,
            numbers: adopt_numbers(&held, config),
            config: config.clone(),
            sysctls: held.sysctls,
            foreign: self.rig.lab.run("gateway", others).expect("the gateway's namespace"),
        };
        assert_eq!(self.explained.foreign.unreadable, [""; 0]);
    }

    /// The cluster changes on both.
    pub(crate) fn change(&mut self, objects: &[ClusterObject]) {
        let step = self.rig.sync(objects.to_vec());
        assert!(step.status.in_sync, "{:?}", step.events);
        self.drive(|driver| driver.cluster(objects.to_vec()));
        self.wire.everything_so_far();
        self.tell(objects);
    }

    fn drive(&mut self, work: impl FnOnce(&mut Driver)) {
        std::mem::swap(&mut self.simulated.kernel, &mut self.driver.kernel);
        work(&mut self.driver);
        std::mem::swap(&mut self.simulated.kernel, &mut self.driver.kernel);
        let status = self.driver.status().expect("a status");
        assert!(status.in_sync, "{:?}", self.driver.events());
    }

    /// A packet comes in on both. Where chance decides, the simulation draws until it finds what
    /// the kernel did, and goes on from there.
    pub(crate) fn exchange(&mut self, interface: &str, packet: &Packet) -> Comparison {
        let linux = self.wire.exchange(interface, packet);
        let before = self.simulated.clone();
        for draw in 0..MAX_DRAWS {
            if draw > 0 {
                self.simulated = before.clone();
                self.draws += 1;
                self.simulated.reseed(self.draws);
            }
            let trace = self.simulated.receive(interface, *packet).expect("all is understood");
            let drawn = draws_a_port(&trace);
            let agree = if drawn {
                without_source_ports(effects(&trace)) == without_source_ports(linux.clone())
            } else {
                effects(&trace) == linux
            };
            if agree || (draw > 0 && !depends_on_chance(&trace)) || draw + 1 == MAX_DRAWS {
                let left = matches!(trace.outcome, Outcome::Left { .. });
                let unseen_choice = drawn || !left && remembers_an_endpoint(&trace);
                return Comparison { agree, unseen_choice, linux, trace };
            }
        }
        unreachable!("the last draw returns")
    }

    fn add_foreign(&mut self, (table, chain, rule): &Foreign) {
        for (family, program) in Family::ALL.into_iter().zip(self.programs()) {
            let lab = &self.rig.lab;
            let kernel = &mut self.simulated.kernel;
            let id = XtTableId { family, table: table_of(table) };
            let mut words = vec![program, "-w", "-t", table];
            if rule == "POLICY DROP" {
                words.extend(["-P", chain, "DROP"]);
                kernel.foreign_policy(id, chain, Policy::Drop);
            } else {
                let Some(parsed) = parse_rule(family, rule, |_| false) else { continue };
                words.extend(["-A", chain]);
                words.extend(rule.split(' '));
                kernel.foreign_append(id, chain, &parsed);
            }
            lab.command("gateway", &words).expect("a foreign rule");
        }
    }

    fn clear_foreign(&self) {
        for program in self.programs() {
            for table in ["filter", "nat", "mangle", "raw"] {
                let lab = &self.rig.lab;
                lab.command("gateway", &[program, "-w", "-t", table, "-F"]).expect("a flush");
                for chain in ["FORWARD", "INPUT"].iter().filter(|_| table == "filter") {
                    lab.command("gateway", &[program, "-w", "-P", chain, "ACCEPT"])
                        .expect("a policy");
                }
            }
        }
    }

    fn programs(&self) -> [&'static str; 2] {
        if self.ruleset.flavour() == IptablesFlavour::Legacy {
            ["iptables-legacy", "ip6tables-legacy"]
        } else {
            ["iptables-nft", "ip6tables-nft"]
        }
    }
}

fn table_of(name: &str) -> XtTable {
    let all = [XtTable::Mangle, XtTable::Filter, XtTable::Nat, XtTable::Raw];
    all.into_iter().find(|t| t.name() == name).expect("a table")
}

fn simulated_host(ruleset: Ruleset) -> SimHost {
    let network =
        Network::build(&topology(), ruleset.simulated_flavour(), 1).expect("the network is built");
    let mut host = network.host("gateway").expect("the gateway").clone();
    host.detail = smartnat_sim::walk::Detail::Steps;
    host
}

/// What leaves the host because of a packet, in order of time.
fn effects(trace: &Trace) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    for answer in &trace.answers {
        seen.extend(effects(answer));
    }
    if let Outcome::Left { interface, next_hop, packet } = &trace.outcome {
        let plain = Packet::new(packet.source, packet.destination, packet.payload);
        let packet = Packet { ttl: packet.ttl, ..plain };
        seen.push(Seen { interface: interface.clone(), next_hop: Some(*next_hop), packet });
    }
    seen
}

/// Whether a rule of the path was taken or left by chance, or a port was drawn.
fn depends_on_chance(trace: &Trace) -> bool {
    let drawn = |step: &Step| {
        matches!(step, Step::DestinationTranslated { .. } | Step::SourceTranslated { .. })
    };
    trace.steps.iter().any(drawn) || trace.answers.iter().any(depends_on_chance)
}

/// Whether the source's port was taken, and another one drawn.
fn draws_a_port(trace: &Trace) -> bool {
    let other =
        |step: &Step| matches!(step, Step::SourceTranslated { from, to } if from.port != to.port);
    trace.steps.iter().any(other)
}

fn without_source_ports(mut seen: Vec<Seen>) -> Vec<Seen> {
    for Seen { packet, .. } in &mut seen {
        match &mut packet.payload {
            Payload::Tcp { source, .. }
            | Payload::Udp { source, .. }
            | Payload::Sctp { source, .. } => *source = 0,
            Payload::Icmp(_) => {}
        }
    }
    seen
}

/// Whether a rule of the path put the client into a set (T8).
fn remembers_an_endpoint(trace: &Trace) -> bool {
    trace.steps.iter().any(|step| match step {
        Step::Rule { target: XtTarget::AddSourceToSet { .. }, .. } => true,
        Step::NftRule { actions, .. } => {
            actions.iter().any(|action| matches!(action, NftAction::SetChanged { .. }))
        }
        _ => false,
    })
}

/// Any address of the text.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
