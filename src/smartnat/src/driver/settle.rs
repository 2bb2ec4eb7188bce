//! Runs a gateway on a kernel at hand until it has nothing more to do.

use smartnat_core::gateway::{Event, Gateway, Output};
use smartnat_core::model::Timestamp;
use smartnat_core::ops::{Kernel, Transaction};
use smartnat_core::status::StatusReport;

use super::kernel_thread::{Job, execute};

/// Most outputs of one run; a healthy gateway needs some dozens, and some more with events.
pub const MAX_STEPS: usize = 1_000_000;

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// What was applied, in order.
    pub transactions: Vec<Transaction>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// The last status.
    pub status: Option<StatusReport>,
    /// It had nothing more to do within [`MAX_STEPS`].
    pub finished: bool,
}

/// Executes outputs until there are none. Time stands still, so that nothing is tried again.
pub fn settle(gateway: &mut Gateway, kernel: &mut impl Kernel, now: Timestamp) -> Settled {
    let mut settled = Settled::default();
    for _ in 0..MAX_STEPS {
        let job = match gateway.poll_output() {
            None => {
                settled.finished = true;
                break;
            }
            Some(Output::Observe(scope)) => Job::Observe(scope),
            Some(Output::ListFlows(filter)) => Job::ListFlows(filter),
            Some(Output::Apply(transaction)) => {
                settled.transactions.push(transaction.clone());
                Job::Apply(transaction)
            }
            Some(Output::Status(report)) => {
                settled.status = Some(*report);
                continue;
            }
            Some(Output::Event(event)) => {
                settled.events.push(event);
                continue;
            }
        };
        gateway.handle_input(now, execute(kernel, &job));
    }
    settled
}
