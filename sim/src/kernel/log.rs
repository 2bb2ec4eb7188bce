//! What the kernel was asked to do.

use smartnat_core::model::Timestamp;
use smartnat_core::ops::{Domain, NetworkOp, OpError, Transaction};

use super::SimKernel;
use super::faults::OpKind;

/// One transaction that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// When.
    pub at: Timestamp,
    /// Where it went.
    pub domain: Domain,
    /// Each operation with the object it is about, as [`NetworkOp::describe`] names it.
    pub ops: Vec<String>,
    /// How many of them are in effect.
    pub applied: u64,
    /// How it ended.
    pub outcome: Result<(), OpError>,
}

/// All transactions since the log was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    records: Vec<TransactionRecord>,
    applied: u64,
    trespasses: Vec<String>,
}

impl Log {
    pub(super) fn push(
        &mut self,
        at: Timestamp,
        transaction: &Transaction,
        applied: u64,
        outcome: &Result<(), OpError>,
    ) {
        let domain = transaction.domain;
        let ops = transaction.ops.iter().map(|op| describe(domain, op)).collect();
        self.applied += applied;
        self.records.push(TransactionRecord { at, domain, ops, applied, outcome: outcome.clone() });
    }

    pub(super) fn trespass(&mut self, what: String) {
        self.trespasses.push(what);
    }
}

/// The log.
impl SimKernel {
    /// Operations that took effect since the beginning.
    pub fn applied_ops(&self) -> u64 {
        self.log.applied
    }

    /// All transactions since [`Self::take_log`], failed ones included.
    pub fn log(&self) -> &[TransactionRecord] {
        &self.log.records
    }

    /// Hands out the transactions so far and forgets them.
    pub fn take_log(&mut self) -> Vec<TransactionRecord> {
        std::mem::take(&mut self.log.records)
    }

    /// Operations of ours that meant to change something that is not ours, or to add something
    /// that nobody could recognise as ours (T14). A test asserts that there is none.
    pub fn trespasses(&self) -> &[String] {
        &self.log.trespasses
    }
}

/// The operation and the object it is about, for example `PutChain chain SMARTNAT-DNAT in nat (IPv4)`.
pub(crate) fn describe(domain: Domain, op: &NetworkOp) -> String {
    format!("{:?} {}", OpKind::from(op), op.describe(domain))
}
