//! Two kernels side by side, the simulated and the real one of a lab's host.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use smartnat::lab::Lab;
use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::objects::{
    ChainName, KernelState, ObservationScope, SetDirection, SetName, SysctlKey, XtMatch, XtRule,
    XtTableId, XtTarget,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, OpErrorClass, Transaction};
use smartnat_linux::{LinuxKernel, LinuxOptions, StateDir};
use smartnat_sim::kernel::SimKernel;
use smartnat_sim::topology::{Host, Topology};
use smartnat_tests::Ruleset;

/// The host under test.
const HOST: &str = "gateway";
/// Its links with their addresses.
pub(crate) const LINKS: [(&str, [&str; 2]); 2] = [
    ("ext0", ["192.0.2.1/24", "2001:db8:a::1/64"]),
    ("ext1", ["198.51.100.1/24", "2001:db8:b::1/64"]),
];
/// A chain of somebody else.
const FOREIGN_CHAIN: &str = "OTHERS";
/// Base of the observed routing tables, and of the rules' priorities.
pub(crate) const TABLE_BASE: u32 = 7000;
pub(crate) const RULE_PRIORITY: u32 = 20_000;

/// What happens to both kernels.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Operations of ours.
    Apply(Transaction),
    /// A link is switched.
    SetLink { link: &'static str, up: bool },
    /// An address comes, unless it is there.
    AddAddress { link: &'static str, address: &'static str },
    /// An address goes, if it is there.
    RemoveAddress { link: &'static str, address: &'static str },
    /// Others give their chain one rule that may refer to a chain or set of ours.
    ForeignRule { table: XtTableId, reference: Reference },
    /// Others delete their chain, if it is there.
    ForeignChainGoes { table: XtTableId },
}

/// What somebody else's rule refers to.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Chain(ChainName),
    Set(SetName),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Apply(transaction) = self else { return write!(f, "{self:?}") };
        write!(f, "{:?}", transaction.domain)?;
        transaction.ops.iter().try_for_each(|op| write!(f, "\n        {op:?}"))
    }
}

/// Outcome of one step; the detail is for people.
type Outcome = Result<(), (OpErrorClass, String)>;

/// Both kernels and what happened to them.
pub(crate) struct Arms<'l> {
    sim: SimKernel,
    linux: LinuxKernel,
    lab: &'l Lab,
    ruleset: Ruleset,
    label: String,
    history: Vec<String>,
    refused: usize,
}

/// Runs `work` on fresh kernels; how many steps it did and how many of them were refused.
pub(crate) fn in_lab(
    ruleset: Ruleset,
    label: &str,
    work: impl FnOnce(&mut Arms<'_>) + Send,
) -> (usize, usize) {
    let mut topology = Topology::default();
    topology.add_host(Host::new(HOST));
    topology.add_host(Host::new("peer"));
    for (link, addresses) in LINKS {
        let addresses: Vec<IpNet> =
            addresses.iter().map(|a| a.parse().expect("a constant address")).collect();
        topology.attach(link, HOST, link, &addresses);
        topology.attach(link, "peer", link, &[]);
    }
    let lab = Lab::build(&topology).expect("the lab is built");
    let state = tempfile::tempdir().expect("a temporary directory");
    lab.run(HOST, || {
        let mut arms = Arms::open(&lab, StateDir::new(state.path()), ruleset, label);
        work(&mut arms);
        (arms.history.len(), arms.refused)
    })
    .expect("a thread in the namespace")
}

/// Settings that are observed whether recorded or not.
pub(crate) fn sysctls() -> Vec<SysctlKey> {
    let mut keys: Vec<_> = Family::ALL
        .into_iter()
        .flat_map(|f| [SysctlKey::Forwarding(f), SysctlKey::MarkReflect(f)])
        .collect();
    keys.push(SysctlKey::TcpMarkAccept);
    for (link, _) in LINKS {
        keys.push(SysctlKey::ReversePathFilter(link.into()));
        keys.push(SysctlKey::ArpIgnore(link.into()));
        keys.push(SysctlKey::AcceptRouterAdvertisements(link.into()));
    }
    keys
}

fn scope() -> ObservationScope {
    ObservationScope {
        table_base: TABLE_BASE,
        table_count: 8,
        rule_priority: RULE_PRIORITY,
        sysctls: sysctls().into_iter().collect(),
        netfilter: smartnat_core::objects::Netfilter::All,
    }
}

impl<'l> Arms<'l> {
    fn open(lab: &'l Lab, state_dir: StateDir, ruleset: Ruleset, label: &str) -> Self {
        let options = LinuxOptions {
            backend: ruleset.backend(),
            flavour: ruleset.flavour(),
            state_dir,
            ..LinuxOptions::default()
        };
        let linux = LinuxKernel::open(options).expect("the kernel is usable");
        let mut sim = SimKernel::new(ruleset.simulated_flavour());
        for (link, addresses) in LINKS {
            sim.add_link(link);
            for address in addresses {
                sim.add_address(link, address);
            }
        }
        // A namespace inherits some values from its machine.
        for key in sysctls() {
            let path = format!("/proc/sys/{key}");
            let value = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            sim.write_sysctl(&key, value.trim()).expect("a value that a kernel holds");
        }
        let (label, history) = (label.into(), Vec::new());
        let mut arms = Self { sim, linux, lab, ruleset, label, history, refused: 0 };
        arms.compare_state();
        arms
    }

    /// Operations of ours whose class of outcome must be equal in both and is returned.
    pub(crate) fn apply(
        &mut self,
        domain: Domain,
        ops: Vec<NetworkOp>,
    ) -> Result<(), OpErrorClass> {
        self.step(&Step::Apply(Transaction { domain, ops }))
    }

    /// One step in both kernels; outcome and read-back must be equal.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), OpErrorClass> {
        self.history.push(step.to_string());
        let (simulated, real) = match step {
            Step::Apply(transaction) => {
                let plain = |r: Result<(), smartnat_core::ops::OpError>| {
                    r.map_err(|e| (e.class, e.to_string()))
                };
                (plain(self.sim.apply(transaction)), plain(self.linux.apply(transaction)))
            }
            Step::ForeignRule { table, reference } => self.foreign_rule(*table, reference),
            Step::ForeignChainGoes { table } => self.foreign_chain_goes(*table),
            Step::SetLink { .. } | Step::AddAddress { .. } | Step::RemoveAddress { .. } => {
                self.change_host(step);
                (Ok(()), Ok(()))
            }
        };
        // A table's transaction with several mistakes is refused for one of them; which one the
        // programs find first is their affair.
        let several = matches!(&step, Step::Apply(t) if lines_of_a_table(t) > 1);
        let class = |outcome: &Outcome| outcome.as_ref().copied().map_err(|(class, _)| *class);
        let alike =
            class(&simulated) == class(&real) || several && simulated.is_err() && real.is_err();
        if !alike {
            self.disagree(&format!("simulated: {simulated:?}\nreal:      {real:?}"));
        }
        self.compare_state();
        self.refused += usize::from(real.is_err());
        class(&real)
    }

    fn compare_state(&mut self) {
        let simulated = self.sim.observe(&scope()).expect("the simulated kernel is readable");
        let real = self.linux.observe(&scope()).expect("the kernel is readable");
        if simulated != real {
            self.disagree(&difference(&simulated, &real));
        }
    }

    fn disagree(&self, what: &str) -> ! {
        let history = self.history.iter().enumerate().map(|(n, s)| format!("  {:3}. {s}\n", n + 1));
        let history: String = history.collect();
        panic!("{} ({:?}): the kernels disagree after\n{history}{what}", self.label, self.ruleset);
    }

    fn ip(&self, words: &str) {
        let words: Vec<_> = std::iter::once("ip").chain(words.split(' ')).collect();
        self.lab.command(HOST, &words).expect("the host is changed");
    }

    fn change_host(&mut self, step: &Step) {
        match *step {
            Step::SetLink { link, up } => {
                self.sim.set_link_up(link, up);
                self.ip(&format!("link set {link} {}", if up { "up" } else { "down" }));
            }
            Step::AddAddress { link, address } if !self.holds(address) => {
                self.sim.add_address(link, address);
                // A connected IPv4 subnet and its address need no detection of duplicates.
                let flag = if address.contains(':') { " nodad" } else { "" };
                self.ip(&format!("address add {address} dev {link}{flag}"));
            }
            Step::RemoveAddress { link, address } if self.holds(address) => {
                self.sim.remove_address(link, bare(address));
                self.ip(&format!("address del {address} dev {link}"));
            }
            _ => {}
        }
    }

    fn holds(&self, address: &str) -> bool {
        self.sim.links().holder(bare(address)).is_some()
    }

    fn foreign_rule(&mut self, table: XtTableId, reference: &Reference) -> (Outcome, Outcome) {
        let (rule, text) = match reference {
            Reference::Chain(chain) => {
                (XtRule::new(XtTarget::Jump(chain.clone())), format!("-j {chain}"))
            }
            Reference::Set(name) => {
                let directions = vec![SetDirection::Source];
                let m = XtMatch::Set { name: name.clone(), directions, negated: false };
                (
                    XtRule::new(XtTarget::Return).with(m),
                    format!("-m set --match-set {name} src -j RETURN"),
                )
            }
        };
        let op = NetworkOp::PutChain { chain: ChainName(FOREIGN_CHAIN.into()), rules: vec![rule] };
        self.by_others(table, op, &format!("-A {FOREIGN_CHAIN} {text}"))
    }

    fn foreign_chain_goes(&mut self, table: XtTableId) -> (Outcome, Outcome) {
        let chain = ChainName(FOREIGN_CHAIN.into());
        if self.sim.xtables().table(table).is_none_or(|t| t.chain(&chain).is_none()) {
            return (Ok(()), Ok(()));
        }
        self.by_others(table, NetworkOp::DeleteChain { chain }, &format!("-X {FOREIGN_CHAIN}"))
    }

    /// Errors of others have no class; that both refuse is what counts.
    fn by_others(&mut self, table: XtTableId, op: NetworkOp, line: &str) -> (Outcome, Outcome) {
        let class = OpErrorClass::Invalid;
        let transaction = Transaction { domain: Domain::Xtables(table), ops: vec![op] };
        let simulated = self.sim.interfere(&transaction).map_err(|e| (class, e.to_string()));
        let program = match (table.family, self.ruleset.flavour()) {
            (Family::V4, IptablesFlavour::Legacy) => "iptables-legacy-restore",
            (Family::V4, _) => "iptables-nft-restore",
            (Family::V6, IptablesFlavour::Legacy) => "ip6tables-legacy-restore",
            (Family::V6, _) => "ip6tables-nft-restore",
        };
        let name = table.table.name();
        let script = format!(
            "printf '%s\\n' '*{name}' ':{FOREIGN_CHAIN} - [0:0]' '{line}' COMMIT | {program} --noflush"
        );
        let output = self.lab.output(HOST, &["sh", "-c", &script]).expect("a shell");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        (simulated, if output.status.success() { Ok(()) } else { Err((class, message)) })
    }
}

/// How many rules and chains a transaction of iptables says something about.
fn lines_of_a_table(transaction: &Transaction) -> usize {
    let lines = |op: &NetworkOp| match op {
        NetworkOp::PutChain { rules, .. } => rules.len().max(1),
        _ => 1,
    };
    match transaction.domain {
        Domain::Xtables(_) => transaction.ops.iter().map(lines).sum(),
        _ => 1,
    }
}

fn bare(address: &str) -> IpAddr {
    address.parse::<IpNet>().expect("a constant address").addr()
}

/// Lines of either read-back that the other does not have.
fn difference(simulated: &KernelState, real: &KernelState) -> String {
    let (simulated, real) = (format!("{simulated:#?}"), format!("{real:#?}"));
    let only = |sign: char, these: &str, those: &str| -> String {
        let those: Vec<_> = those.lines().collect();
        let mut lines = String::new();
        for line in these.lines().filter(|line| !those.contains(line)) {
            lines.extend([sign, ' ']);
            lines.push_str(line);
            lines.push('\n');
        }
        lines
    };
    let lines = only('-', &simulated, &real) + &only('+', &real, &simulated);
    // The same lines in another order or number: only the whole shows it.
    let whole = if lines.is_empty() { format!("{simulated}\n{real}") } else { String::new() };
    format!("read-back, - simulated, + real:\n{lines}{whole}")
}
