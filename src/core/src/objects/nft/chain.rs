//! Chains and their rules.

use serde::{Deserialize, Serialize};

use super::{LookupResult, NftExpr, NftName, NftVerdict};
use crate::objects::BuiltinHook;

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NftChainKind {
    /// Anything but translate.
    Filter,
    /// Sees the first packet of a connection; may translate.
    Nat,
    /// In `output`: a changed mark leads to another look for a route.
    Route,
}

impl NftChainKind {
    /// As nft and the kernel spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

/// Where packets enter a chain by themselves. The policy is always accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NftBase {
    /// What it may do.
    pub kind: NftChainKind,
    /// At which hook.
    pub hook: BuiltinHook,
    /// Smaller ones come first.
    pub priority: i32,
    /// Somebody else's policy: drop. Never in what we want.
    pub drops: bool,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NftRule {
    /// What it consists of.
    pub expressions: Vec<NftExpr>,
    /// For people (`NFTNL_UDATA_RULE_COMMENT`); at most 127 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Box<str>>,
}

impl NftRule {
    /// Longest comment that nft reads.
    pub const MAX_COMMENT: usize = 127;

    /// The chains that its own verdicts lead to.
    pub fn chains(&self) -> impl Iterator<Item = &NftName> {
        self.expressions.iter().filter_map(|e| match e {
            NftExpr::Verdict(NftVerdict::Jump(chain) | NftVerdict::Goto(chain)) => Some(chain),
            _ => None,
        })
    }

    /// The sets and maps that it refers to.
    pub fn sets(&self) -> impl Iterator<Item = &NftName> {
        self.expressions.iter().filter_map(|e| match e {
            NftExpr::Lookup { set, .. } | NftExpr::Dynset { set, .. } => Some(set),
            _ => None,
        })
    }

    /// The verdict maps that it looks something up in.
    pub fn verdict_maps(&self) -> impl Iterator<Item = &NftName> {
        self.expressions.iter().filter_map(|e| match e {
            NftExpr::Lookup { set, result: LookupResult::Verdict, .. } => Some(set),
            _ => None,
        })
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NftChain {
    /// Where packets enter it; absent: by jumps alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<NftBase>,
    /// Its rules in order.
    pub rules: Vec<NftRule>,
}
