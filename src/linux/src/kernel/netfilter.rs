//! The parts of the kernel that may carry the dataplane.

use std::collections::BTreeMap;

use smartnat_core::model::{Backend, IptablesFlavour};
use smartnat_core::objects::nft::NftTable;
use smartnat_core::objects::{IpSet, Netfilter as Scope, SET_PREFIX, SetName};
use smartnat_core::ops::{NetworkOp, NftOp, OpError, OpErrorClass};

use super::{OpenError, misplaced};
use crate::ipset::IpsetClient;
use crate::nft::NftClient;
use crate::xtables::{Flavour, Xtables, XtablesSettings};

/// nftables, both flavours of iptables, ipset. Those of another backend may hold what a run on it
/// left, and do not have to be there.
#[derive(Debug)]
pub(super) struct Netfilter {
    backend: Backend,
    nft: Option<NftClient>,
    xtables: Option<Xtables>,
    other_xtables: Option<Xtables>,
    sets: Option<IpsetClient>,
}

/// Which tables of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tables {
    /// Those of the flavour in use; beside nftables those of the nft flavour.
    Own,
    /// Those of the other one.
    Other,
}

impl Netfilter {
    pub(super) fn open(
        backend: Backend,
        flavour: IptablesFlavour,
        settings: XtablesSettings,
    ) -> Result<Self, OpenError> {
        let detect = |flavour: Flavour| {
            unless_absent(Xtables::detect(flavour.into(), settings).map_err(OpenError::from))
        };
        Ok(match backend {
            Backend::Nftables => Self {
                backend,
                nft: Some(NftClient::open()?),
                xtables: detect(Flavour::Nft)?,
                other_xtables: detect(Flavour::Legacy)?,
                sets: unless_absent(IpsetClient::open().map_err(OpenError::from))?,
            },
            Backend::Iptables | Backend::Simulated => {
                let xtables = Xtables::detect(flavour, settings)?;
                Self {
                    backend,
                    nft: unless_absent(NftClient::open().map_err(OpenError::from))?,
                    other_xtables: detect(xtables.flavour().other())?,
                    xtables: Some(xtables),
                    sets: Some(IpsetClient::open()?),
                }
            }
        })
    }

    /// Whether iptables carries the dataplane.
    fn is_iptables(&self) -> bool {
        self.backend != Backend::Nftables
    }

    pub(super) fn nft(&self) -> Option<&NftClient> {
        self.nft.as_ref()
    }

    /// The flavour of iptables that carries the dataplane.
    pub(super) fn flavour(&self) -> Option<Flavour> {
        self.xtables.as_ref().filter(|_| self.is_iptables()).map(Xtables::flavour)
    }

    pub(super) fn xtables_mut(&mut self, which: Tables) -> Option<&mut Xtables> {
        match which {
            Tables::Own => self.xtables.as_mut(),
            Tables::Other => self.other_xtables.as_mut(),
        }
    }

    /// iptables of the nft flavour, whichever is in use.
    pub(super) fn nft_flavour_mut(&mut self) -> Option<&mut Xtables> {
        let both = self.xtables.as_mut().into_iter().chain(self.other_xtables.as_mut());
        both.into_iter().find(|xtables| xtables.flavour() == Flavour::Nft)
    }

    /// Child processes started so far, to read and to write.
    pub(super) fn processes(&self) -> (u64, u64) {
        let both = self.xtables.iter().chain(&self.other_xtables);
        both.map(Xtables::processes_started)
            .fold((0, 0), |(reads, writes), more| (reads + more.reads, writes + more.writes))
    }

    /// Changes begun so far.
    pub(super) fn writes(&self) -> u64 {
        let batches = self.nft.as_ref().map_or(0, NftClient::writes);
        let (_, processes) = self.processes();
        batches + processes + self.sets.as_ref().map_or(0, IpsetClient::writes)
    }

    /// Whether an observation of this scope reads the tables.
    pub(super) fn reads_tables(&self, scope: Scope, which: Tables) -> bool {
        match scope {
            Scope::All => true,
            Scope::InUse => which == Tables::Own || !self.is_iptables(),
            // The tables of iptables-nft are tables of nftables.
            Scope::Untold => which == Tables::Other && !self.is_iptables(),
        }
    }

    /// Whether what cannot be read there must be an error: it carries the dataplane.
    pub(super) fn requires_tables(&self, which: Tables) -> bool {
        which == Tables::Own && self.is_iptables()
    }

    pub(super) fn sets(&mut self, scope: Scope) -> Result<BTreeMap<SetName, IpSet>, OpError> {
        let reads = scope == Scope::All || (scope == Scope::InUse && self.is_iptables());
        match &mut self.sets {
            Some(sets) if reads => sets.observe(SET_PREFIX),
            _ => Ok(BTreeMap::new()),
        }
    }

    /// Our table of nftables. One of that name that is somebody else's is no matter of a run on
    /// iptables.
    pub(super) fn table(&mut self, scope: Scope) -> Result<Option<NftTable>, OpError> {
        let is_iptables = self.is_iptables();
        let reads = scope == Scope::All || (scope == Scope::InUse && !is_iptables);
        let Some(client) = self.nft.as_mut().filter(|_| reads) else { return Ok(None) };
        match client.observe() {
            Err(error) if is_iptables && error.class == OpErrorClass::Invalid => {
                tracing::debug!("not looked into: {error}");
                Ok(None)
            }
            table => table,
        }
    }

    pub(super) fn apply_sets(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        match &mut self.sets {
            Some(sets) => sets.apply(ops),
            None => Err(misplaced(&ops[0], "a kernel without ipset")),
        }
    }

    pub(super) fn apply_table(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        let Some(client) = &mut self.nft else {
            return Err(misplaced(&ops[0], "a kernel without nftables"));
        };
        let ops: Vec<&NftOp> = ops.iter().map(nft_op).collect::<Result<_, _>>()?;
        client.apply(&ops)
    }
}

/// A part that this host does not have holds nothing of ours.
fn unless_absent<T>(opened: Result<T, OpenError>) -> Result<Option<T>, OpenError> {
    match opened {
        Ok(part) => Ok(Some(part)),
        Err(error) if error.is_absent() => {
            tracing::debug!("nothing is looked for where this host has nothing: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn nft_op(op: &NetworkOp) -> Result<&NftOp, OpError> {
    match op {
        NetworkOp::Nft(op) => Ok(op),
        other => Err(misplaced(other, "nftables")),
    }
}
