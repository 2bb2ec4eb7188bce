//! Random steps from pools so small that they collide.

use fastrand::Rng;
use smartnat_core::model::{Family, PortRange, Protocol};
use smartnat_core::objects::{
    BuiltinHook, ChainName, FlowKey, FlowTuple, L4Match, Layer4, PortMapping, Route, RoutingRule,
    RuleAction, SetDirection, SetElement, SetKind, SetName, SetSpec, SysctlKey, XtMatch, XtRule,
    XtTable, XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, NetworkOp, NftOp, Transaction};

use crate::arms::{LINKS, RULE_PRIORITY, Reference, Step, TABLE_BASE, sysctls};

/// The third has 28 characters, the fourth 29: one more than a chain may have.
const CHAINS: [&str; 4] =
    ["SMARTNAT-A", "SMARTNAT-B", "SMARTNAT-4567890123456789012", "SMARTNAT-45678901234567890123"];
/// The third has 31 characters, the fourth 32: one more than a set may have.
const SETS: [&str; 4] = [
    "smartnat-a",
    "smartnat-b",
    "smartnat-0123456789012345678901",
    "smartnat-01234567890123456789012",
];
const LINK_NAMES: [&str; 3] = ["ext0", "ext1", "nope"];

/// Steps of one seed.
pub(crate) struct Generator {
    rng: Rng,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed) }
    }

    pub(crate) fn step(&mut self) -> Step {
        match self.rng.u8(0..20) {
            0 => {
                let (link, _) = self.pick(&LINKS);
                Step::SetLink { link, up: self.rng.bool() }
            }
            1 | 2 => self.address(),
            3 => {
                let table = self.table();
                let reference = if self.rng.bool() {
                    Reference::Chain(self.chain())
                } else {
                    Reference::Set(self.set())
                };
                Step::ForeignRule { table, reference }
            }
            4 => Step::ForeignChainGoes { table: self.table() },
            _ => Step::Apply(self.transaction()),
        }
    }

    fn pick<T: Copy>(&mut self, pool: &[T]) -> T {
        pool[self.rng.usize(0..pool.len())]
    }

    fn address(&mut self) -> Step {
        let (link, addresses) = self.pick(&LINKS);
        let address = self.pick(&addresses);
        if self.rng.bool() {
            Step::AddAddress { link, address }
        } else {
            Step::RemoveAddress { link, address }
        }
    }

    fn transaction(&mut self) -> Transaction {
        let domain = match self.rng.u8(0..10) {
            0..4 => Domain::Xtables(self.table()),
            4..6 => Domain::Sets,
            6..8 => Domain::Routing,
            8 => Domain::Sysctls,
            _ => Domain::Flows,
        };
        let count = self.rng.usize(1..=3);
        let mut ops: Vec<NetworkOp> = Vec::new();
        for _ in 0..count {
            let op = self.op(domain);
            // No difference of two states says two things of one chain.
            if chain_of(&op).is_none_or(|chain| !ops.iter().any(|o| chain_of(o) == Some(chain))) {
                ops.push(op);
            }
        }
        Transaction { domain, ops }
    }

    fn op(&mut self, domain: Domain) -> NetworkOp {
        match domain {
            Domain::Xtables(id) | Domain::OtherXtables(id) => self.xtables_op(id),
            Domain::Sets => self.set_op(),
            Domain::Nftables => NetworkOp::Nft(NftOp::CreateTable),
            Domain::Routing => self.routing_op(),
            Domain::Sysctls => self.sysctl_op(),
            Domain::Flows => NetworkOp::DeleteFlow(self.flow()),
        }
    }

    fn family(&mut self) -> Family {
        self.pick(&Family::ALL)
    }

    fn table(&mut self) -> XtTableId {
        XtTableId { family: self.family(), table: self.pick(&XtTable::ALL) }
    }

    fn chain(&mut self) -> ChainName {
        // The one that is too long would spoil most sequences.
        let count = if self.rng.u8(0..6) == 0 { 4 } else { 3 };
        ChainName(self.pick(&CHAINS[..count]).into())
    }

    fn set(&mut self) -> SetName {
        let count = if self.rng.u8(0..6) == 0 { 4 } else { 3 };
        SetName(self.pick(&SETS[..count]).into())
    }

    fn xtables_op(&mut self, id: XtTableId) -> NetworkOp {
        match self.rng.u8(0..8) {
            0..4 => {
                let count = self.rng.usize(0..3);
                let rules = (0..count).map(|_| self.rule(id)).collect();
                NetworkOp::PutChain { chain: self.chain(), rules }
            }
            4 => NetworkOp::DeleteChain { chain: self.chain() },
            kind => {
                // Sometimes one that the table does not have.
                let own = self.rng.u8(0..8) > 0;
                let hook = self.pick(if own { id.table.hooks() } else { &BuiltinHook::ALL });
                let rule = XtRule::new(XtTarget::Jump(self.chain()));
                match kind {
                    5 => NetworkOp::InsertJump { hook, rule },
                    6 => NetworkOp::DeleteJump { hook, rule },
                    _ => NetworkOp::DeleteEmptyBuiltin { hook },
                }
            }
        }
    }

    fn rule(&mut self, id: XtTableId) -> XtRule {
        match self.rng.u8(0..6) {
            0 => XtRule::new(XtTarget::Return),
            1 => {
                let ports = PortRange::new(80, 81).expect("a constant range");
                XtRule {
                    protocol: Some(L4Match::Transport(Protocol::Tcp)),
                    ..XtRule::new(XtTarget::Accept).with(XtMatch::DestinationPorts(vec![ports]))
                }
            }
            2 => XtRule::new(XtTarget::Jump(self.chain())),
            3 | 4 => {
                let directions = vec![SetDirection::Source];
                let m = XtMatch::Set { name: self.set(), directions, negated: self.rng.bool() };
                XtRule::new(XtTarget::Return).with(m)
            }
            _ if id.table == XtTable::Nat && self.rng.bool() => XtRule::new(XtTarget::Masquerade),
            _ if id.table == XtTable::Nat => {
                let address = Self::ip(id.family, 9);
                XtRule::new(XtTarget::DestinationNat { address, ports: PortMapping::Keep })
            }
            _ => XtRule::new(XtTarget::Drop),
        }
    }

    fn ip(family: Family, host: u8) -> std::net::IpAddr {
        match family {
            Family::V4 => std::net::IpAddr::from([192, 0, 2, host]),
            Family::V6 => std::net::IpAddr::from([0x2001, 0xdb8, 0xa, 0, 0, 0, 0, u16::from(host)]),
        }
    }

    fn set_op(&mut self) -> NetworkOp {
        match self.rng.u8(0..6) {
            0 | 1 => {
                let kind = self.pick(&[SetKind::HashIp, SetKind::HashNet, SetKind::HashIpPortIp]);
                let timeout = self.pick(&[None, None, Some(600)]);
                // Full soon.
                let spec = SetSpec { kind, family: self.family(), timeout, max_elements: 2 };
                NetworkOp::CreateSet { name: self.set(), spec }
            }
            2 | 3 => NetworkOp::AddElement { set: self.set(), element: self.element() },
            4 => NetworkOp::DeleteElement { set: self.set(), element: self.element() },
            _ => NetworkOp::DestroySet { name: self.set() },
        }
    }

    fn element(&mut self) -> SetElement {
        let family = self.family();
        let host = self.rng.u8(7..10);
        let ip = Self::ip(family, host);
        match self.rng.u8(0..5) {
            0 | 1 => SetElement::Ip(ip),
            2 => SetElement::Net(ip.into()),
            3 => {
                let all = self.pick(&["0.0.0.0/0", "0.0.0.0/1", "::/0", "8000::/1"]);
                SetElement::Net(all.parse().expect("a constant network"))
            }
            _ => SetElement::IpPortIp { ip, protocol: Protocol::Udp, port: 53, other: ip },
        }
    }

    fn routing_op(&mut self) -> NetworkOp {
        match self.rng.u8(0..6) {
            0 | 1 => NetworkOp::AddRule(self.routing_rule()),
            2 => NetworkOp::DeleteRule(self.routing_rule()),
            3 | 4 => NetworkOp::PutRoute(self.route()),
            _ => NetworkOp::DeleteRoute(self.route()),
        }
    }

    fn routing_rule(&mut self) -> RoutingRule {
        let action = self.pick(&[
            RuleAction::Unreachable,
            RuleAction::Lookup { table: TABLE_BASE + 1, suppress_prefix: None },
            RuleAction::Lookup { table: 254, suppress_prefix: Some(0) },
        ]);
        let mark = Some((0x100, 0xff00));
        let in_interface = self.pick(&[None, Some("ext0"), Some("nope")]);
        // One without a condition decides where the kernel itself finds gateways; none of ours is like that.
        let marked = in_interface.is_none() || self.rng.bool();
        RoutingRule {
            family: self.family(),
            priority: RULE_PRIORITY + self.rng.u32(0..2),
            in_interface: in_interface.map(Into::into),
            mark: mark.filter(|_| marked),
            destination: None,
            action,
        }
    }

    fn route(&mut self) -> Route {
        let family = self.family();
        let destinations = match family {
            Family::V4 => ["0.0.0.0/0", "203.0.113.0/24"],
            Family::V6 => ["::/0", "2001:db8:c::/48"],
        };
        // The second is on link nowhere.
        let gateways = match family {
            Family::V4 => ["192.0.2.254", "203.0.113.9", "198.51.100.254"],
            Family::V6 => ["2001:db8:a::fe", "2001:db8:c::9", "2001:db8:b::fe"],
        };
        let gateway = self.rng.u8(0..4).ne(&0).then(|| self.pick(&gateways));
        Route {
            table: TABLE_BASE + 1 + self.rng.u32(0..2),
            destination: self.pick(&destinations).parse().expect("a constant network"),
            gateway: gateway.map(|g| g.parse().expect("a constant address")),
            interface: self.pick(&LINK_NAMES).into(),
            onlink: self.rng.u8(0..4) == 0,
        }
    }

    fn sysctl_op(&mut self) -> NetworkOp {
        let mut keys = sysctls();
        keys.push(SysctlKey::ArpIgnore("nope".into()));
        let key = keys.swap_remove(self.rng.usize(0..keys.len()));
        let value = self.pick(&["0", "1", "2"]).to_owned();
        if self.rng.bool() {
            NetworkOp::SetSysctl { key, value }
        } else {
            NetworkOp::ForgetSysctl { key, value: self.rng.bool().then_some(value) }
        }
    }

    /// No connection has ever been there.
    fn flow(&mut self) -> FlowKey {
        let family = self.family();
        let layer4 = Layer4::Ports { source: 40_000, destination: 80 };
        let (source, destination) = (Self::ip(family, 7), Self::ip(family, 8));
        FlowKey { original: FlowTuple { source, destination, protocol: 6, layer4 }, id: 1 }
    }
}

/// The chain that an operation puts or deletes.
fn chain_of(op: &NetworkOp) -> Option<&ChainName> {
    match op {
        NetworkOp::PutChain { chain, .. } | NetworkOp::DeleteChain { chain } => Some(chain),
        _ => None,
    }
}
