//! The part of the kernel that carries the dataplane.

use std::collections::BTreeMap;

use smartnat_core::model::{Backend, IptablesFlavour};
use smartnat_core::objects::nft::NftTable;
use smartnat_core::objects::{IpSet, SET_PREFIX, SetName};
use smartnat_core::ops::{NetworkOp, NftOp, OpError};

use super::{OpenError, misplaced};
use crate::ipset::IpsetClient;
use crate::nft::NftClient;
use crate::xtables::{Xtables, XtablesSettings};

/// nftables, or iptables with its sets. What the other one needs does not have to be there.
#[derive(Debug)]
pub(super) enum Netfilter {
    Nftables(NftClient),
    Iptables { xtables: Xtables, sets: IpsetClient },
}

impl Netfilter {
    pub(super) fn open(
        backend: Backend,
        flavour: IptablesFlavour,
        settings: XtablesSettings,
    ) -> Result<Self, OpenError> {
        Ok(match backend {
            Backend::Nftables => Self::Nftables(NftClient::open()?),
            Backend::Iptables | Backend::Simulated => Self::Iptables {
                xtables: Xtables::detect(flavour, settings)?,
                sets: IpsetClient::open()?,
            },
        })
    }

    /// Bytes sent to nftables so far.
    pub(super) fn nftables_bytes(&self) -> Option<u64> {
        match self {
            Self::Nftables(client) => Some(client.bytes()),
            Self::Iptables { .. } => None,
        }
    }

    pub(super) fn xtables(&self) -> Option<&Xtables> {
        match self {
            Self::Nftables(_) => None,
            Self::Iptables { xtables, .. } => Some(xtables),
        }
    }

    pub(super) fn xtables_mut(&mut self) -> Option<&mut Xtables> {
        match self {
            Self::Nftables(_) => None,
            Self::Iptables { xtables, .. } => Some(xtables),
        }
    }

    /// Changes begun so far.
    pub(super) fn writes(&self) -> u64 {
        match self {
            Self::Nftables(client) => client.writes(),
            Self::Iptables { xtables, sets } => xtables.processes_started().writes + sets.writes(),
        }
    }

    pub(super) fn sets(&mut self) -> Result<BTreeMap<SetName, IpSet>, OpError> {
        match self {
            Self::Nftables(_) => Ok(BTreeMap::new()),
            Self::Iptables { sets, .. } => sets.observe(SET_PREFIX),
        }
    }

    pub(super) fn table(&mut self) -> Result<Option<NftTable>, OpError> {
        match self {
            Self::Nftables(client) => client.observe(),
            Self::Iptables { .. } => Ok(None),
        }
    }

    pub(super) fn apply_sets(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        match self {
            Self::Nftables(_) => Err(misplaced(&ops[0], "nftables")),
            Self::Iptables { sets, .. } => sets.apply(ops),
        }
    }

    pub(super) fn apply_table(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        match self {
            Self::Nftables(client) => {
                let ops: Vec<&NftOp> = ops.iter().map(nft_op).collect::<Result<_, _>>()?;
                client.apply(&ops)
            }
            Self::Iptables { .. } => Err(misplaced(&ops[0], "iptables")),
        }
    }
}

fn nft_op(op: &NetworkOp) -> Result<&NftOp, OpError> {
    match op {
        NetworkOp::Nft(op) => Ok(op),
        other => Err(misplaced(other, "nftables")),
    }
}
