//! Random changes of our table of nftables, from pools so small that they meet: sets and maps of every
//! sort, elements of theirs and of others, rules of any expressions, in any order.

mod element;
mod rule;

use fastrand::Rng;
use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    NftBase, NftChain, NftChainKind, NftData, NftKey, NftName, NftRule, NftSetSpec, NftType,
};
use smartnat_core::ops::NftOp;

use NftType::{InterfaceName, Ipv4, Ipv6, Mark, Port, Protocol};

/// Chains that rules and elements lead to.
const CHAINS: [&str; 4] = ["a", "b", "c", "d"];
/// Chains that packets enter by themselves. Where iptables and the kernel have theirs is left out: who
/// comes first among equals is the older one's affair.
const BASES: [(&str, NftChainKind, BuiltinHook, i32); 8] = [
    ("early", NftChainKind::Filter, BuiltinHook::Prerouting, -290),
    ("prerouting", NftChainKind::Filter, BuiltinHook::Prerouting, -140),
    ("translate", NftChainKind::Nat, BuiltinHook::Prerouting, -101),
    ("input", NftChainKind::Filter, BuiltinHook::Input, -10),
    ("forward", NftChainKind::Filter, BuiltinHook::Forward, 5),
    ("output", NftChainKind::Route, BuiltinHook::Output, -140),
    ("source", NftChainKind::Nat, BuiltinHook::Postrouting, 99),
    ("leave", NftChainKind::Filter, BuiltinHook::Postrouting, 110),
];

/// A source of random changes.
#[derive(Debug)]
pub struct RandomNft {
    rng: Rng,
    /// Elements of late, by their sets.
    added: Vec<(NftName, NftKey)>,
    /// Rules and elements are as the kernel takes them.
    tame: bool,
}

impl RandomNft {
    /// Changes of which many are refused.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), added: Vec::new(), tame: false }
    }

    /// Changes that the kernel takes where the order is right, of what does not depend on chance.
    pub fn tame(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), added: Vec::new(), tame: true }
    }

    /// The table with most of the sets and chains that other changes speak of.
    pub fn furniture(&mut self) -> Vec<NftOp> {
        let mut ops = vec![NftOp::CreateTable];
        for (name, spec) in sets() {
            if self.tame || !self.one_in(8) {
                ops.push(NftOp::CreateSet { name, spec });
            }
        }
        for name in CHAINS {
            if self.tame || !self.one_in(8) {
                ops.push(NftOp::PutChain { name: name.into(), chain: NftChain::default() });
            }
        }
        ops
    }

    /// Base chains with rules, and the chains below them: each leads to later ones alone.
    pub fn ruleset(&mut self) -> Vec<NftOp> {
        let mut ops = Vec::new();
        for (number, name) in CHAINS.into_iter().enumerate().rev() {
            let rules = self.rules(&CHAINS[number + 1..], None, 4);
            ops.push(NftOp::PutChain { name: name.into(), chain: NftChain { base: None, rules } });
        }
        for (name, kind, hook, priority) in BASES {
            if self.one_in(3) {
                continue;
            }
            let base = NftBase { kind, hook, priority, drops: false };
            let rules = self.rules(&CHAINS, Some(base), 4);
            let chain = NftChain { base: Some(base), rules };
            ops.push(NftOp::PutChain { name: name.into(), chain });
        }
        ops
    }

    /// An element of one of the sets.
    pub fn element(&mut self) -> NftOp {
        self.add_element()
    }

    /// What is committed together.
    pub fn batch(&mut self) -> Vec<NftOp> {
        if self.one_in(40) {
            let furniture = if self.one_in(4) { Vec::new() } else { self.furniture() };
            return [vec![NftOp::DeleteTable], furniture].concat();
        }
        // Alone most of the time: the more there are, the surer one of them is refused.
        let count = 1 + self.rng.usize(0..3) * self.rng.usize(0..3);
        (0..count).map(|_| self.op()).collect()
    }

    fn op(&mut self) -> NftOp {
        match self.rng.u8(0..48) {
            0 => NftOp::CreateTable,
            1..4 => {
                let (name, spec) = self.set();
                // A key of one field that is no interval would be the begin of one.
                let (_, other) = self.set();
                let otherwise = other.interval == spec.interval && self.one_in(6);
                let spec = if otherwise { other } else { spec };
                NftOp::CreateSet { name, spec }
            }
            4..6 => NftOp::DeleteSet { name: self.set().0 },
            6..16 => self.put_chain(),
            16..19 => NftOp::DeleteChain { name: self.any_chain() },
            19..38 => self.add_element(),
            _ => self.delete_element(),
        }
    }

    fn put_chain(&mut self) -> NftOp {
        if self.one_in(3) {
            let (name, kind, hook, priority) = self.pick(&BASES);
            let (_, other_kind, other_hook, _) = self.pick(&BASES);
            let kind = if self.one_in(8) { other_kind } else { kind };
            let hook = if self.one_in(12) { other_hook } else { hook };
            let base = NftBase { kind, hook, priority, drops: false };
            let rules = self.rules(&CHAINS, Some(base), 2);
            let chain = NftChain { base: Some(base).filter(|_| !self.one_in(8)), rules };
            return NftOp::PutChain { name: name.into(), chain };
        }
        let rules = self.rules(&CHAINS, None, 2);
        NftOp::PutChain { name: self.any_chain(), chain: NftChain { base: None, rules } }
    }

    fn rules(&mut self, below: &[&str], base: Option<NftBase>, most: usize) -> Vec<NftRule> {
        (0..self.rng.usize(0..=most)).map(|_| self.rule(below, base)).collect()
    }

    /// A chain, or a name that is too long for one, or the longest.
    fn any_chain(&mut self) -> NftName {
        match self.rng.u8(0..24) {
            0 => "c".repeat(NftName::MAX_LEN).into(),
            1 => "c".repeat(NftName::MAX_LEN + 1).into(),
            2..6 => self.pick(&BASES).0.into(),
            _ => self.pick(&CHAINS).into(),
        }
    }

    fn set(&mut self) -> (NftName, NftSetSpec) {
        let mut sets = sets();
        let (name, spec) = sets.swap_remove(self.rng.usize(0..sets.len()));
        match self.rng.u8(0..40) {
            0 if !self.tame => ("s".repeat(NftName::MAX_LEN + 1).into(), spec),
            _ => (name, spec),
        }
    }

    fn pick<T: Copy>(&mut self, pool: &[T]) -> T {
        pool[self.rng.usize(0..pool.len())]
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }
}

/// One of each sort.
fn sets() -> Vec<(NftName, NftSetSpec)> {
    let exact = |key: &[NftType], data| NftSetSpec::exact(key, data);
    let values = |types: &[NftType]| NftData::Values(types.to_vec());
    let intervals = |key: &[NftType], data| NftSetSpec { interval: true, ..exact(key, data) };
    let counted = NftSetSpec { counter: true, ..exact(&[Ipv4, Protocol, Port], NftData::Verdict) };
    let small = NftSetSpec { size: Some(2), ..exact(&[Ipv6], NftData::Nothing) };
    let remembered = NftSetSpec {
        dynamic: true,
        timeout: Some(600),
        size: Some(64),
        ..exact(&[Ipv4, Port], values(&[Mark]))
    };
    // Without a timeout a read-back would tell of what the host itself sends.
    let seen = NftSetSpec {
        dynamic: true,
        timeout: Some(600),
        size: Some(64),
        ..exact(&[Ipv6], NftData::Nothing)
    };
    let timed =
        NftSetSpec { timeout: Some(600), size: Some(2), ..exact(&[Mark], NftData::Nothing) };
    let sets = [
        ("marks", exact(&[Mark], NftData::Nothing)),
        ("mark-of-mark", exact(&[Mark], values(&[Mark]))),
        ("by-mark", exact(&[Mark], NftData::Verdict)),
        ("by-input", exact(&[InterfaceName], NftData::Verdict)),
        ("services", counted),
        ("endpoints", exact(&[Ipv4], values(&[Ipv4, Port]))),
        ("endpoints6", exact(&[Ipv6], values(&[Ipv6]))),
        ("sources", intervals(&[Ipv4], NftData::Nothing)),
        ("sources6", intervals(&[Ipv6], values(&[Mark]))),
        ("by-port", intervals(&[Port], NftData::Verdict)),
        ("ranges", intervals(&[Ipv4, Protocol, Port], values(&[Mark]))),
        ("remembered", remembered),
        ("seen", seen),
        ("timed", timed),
        ("small", small),
    ];
    sets.map(|(name, spec)| (name.into(), spec)).into()
}
