//! The parts of netfilter, of which a backend needs its own and can do without the others.

use std::collections::BTreeMap;

use smartnat_core::model::Backend;
use smartnat_core::objects::nft::NftTable;
use smartnat_core::objects::{IpSet, SET_PREFIX, SetName};
use smartnat_core::ops::{NetworkOp, NftOp, OpError, OpErrorClass};

use super::{LinuxOptions, OpenError, misplaced};
use crate::ipset::IpsetClient;
use crate::nft::NftClient;
use crate::xtables::{Xtables, XtablesError, XtablesSettings};

/// A part that the host may lack, and why it does. Nothing of ours is in one that is not there.
type Optional<T> = Result<T, OpError>;

/// iptables, ipset and nftables.
pub(super) struct Parts {
    backend: Backend,
    pub(super) xtables: Optional<Xtables>,
    sets: Optional<IpsetClient>,
    nft: Optional<NftClient>,
}

impl Parts {
    /// Opens all that are there; an error where one is missing that the backend needs.
    pub(super) fn open(
        options: &LinuxOptions,
        settings: XtablesSettings,
    ) -> Result<Self, OpenError> {
        let backend = options.backend;
        let native = backend == Backend::Nftables;
        let xtables = match Xtables::detect(options.flavour, settings) {
            Err(missing @ XtablesError::Missing { .. }) if native => {
                Err(OpError::new(OpErrorClass::Invalid, "iptables", missing))
            }
            detected => Ok(detected?),
        };
        let sets = tolerated(IpsetClient::open(), native)?;
        let nft = tolerated(NftClient::open(), !native)?;
        if let Ok(client) = &nft {
            options.own_port.set(client.port());
        }
        Ok(Self { backend, xtables, sets, nft })
    }

    /// iptables; an error for an operation where there is none.
    pub(super) fn xtables(&mut self) -> Result<&mut Xtables, OpError> {
        self.xtables.as_mut().map_err(|absent| absent.clone())
    }

    /// Sets of ipset with our prefix.
    pub(super) fn observe_sets(&mut self) -> Result<BTreeMap<SetName, IpSet>, OpError> {
        self.sets.as_mut().map_or_else(|_| Ok(BTreeMap::new()), |sets| sets.observe(SET_PREFIX))
    }

    /// Our table of nftables. One of somebody else keeps only the backend from working that wants
    /// the name.
    pub(super) fn observe_nft(&mut self) -> Result<Option<NftTable>, OpError> {
        let Ok(client) = &mut self.nft else { return Ok(None) };
        Ok(tolerated(client.observe(), self.backend != Backend::Nftables)?.unwrap_or_default())
    }

    pub(super) fn apply_sets(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        self.sets.as_mut().map_err(|absent| absent.clone())?.apply(ops)
    }

    pub(super) fn apply_nft(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        let mut batch: Vec<&NftOp> = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                NetworkOp::Nft(op) => batch.push(op),
                other => return Err(misplaced(other, "nftables")),
            }
        }
        self.nft.as_mut().map_err(|absent| absent.clone())?.apply(&batch)
    }

    /// Changes begun so far: batches, messages, writing processes.
    pub(super) fn operations(&self) -> u64 {
        let processes = self.xtables.as_ref().map_or(0, |x| x.processes_started().writes);
        let messages = self.sets.as_ref().map_or(0, IpsetClient::writes);
        processes + messages + self.nft.as_ref().map_or(0, NftClient::writes)
    }

    /// Whether nftables alone carries the dataplane.
    pub(super) fn is_native(&self) -> bool {
        self.backend == Backend::Nftables
    }
}

/// The result, or the refusal itself as one where nothing depends on the part.
fn tolerated<T>(result: Result<T, OpError>, dispensable: bool) -> Result<Optional<T>, OpError> {
    match result {
        Err(error) if dispensable && error.class == OpErrorClass::Invalid => Ok(Err(error)),
        result => result.map(Ok),
    }
}
