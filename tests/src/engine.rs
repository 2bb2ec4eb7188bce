//! Feeds a gateway and does what it wants until it is idle, whatever kernel it works on.

use smartnat_core::gateway::{Event, Gateway, Input, Output};
use smartnat_core::model::Timestamp;
use smartnat_core::ops::{Kernel, OpError, Transaction};
use smartnat_core::status::StatusReport;

/// No step needs more inputs and outputs than this, however large.
const MAX_STEPS: usize = 10_000;

/// What one step did.
#[derive(Debug)]
pub struct Step {
    /// Transactions in the order of their execution.
    pub transactions: Vec<Transaction>,
    /// Events.
    pub events: Vec<Event>,
    /// Status afterwards.
    pub status: StatusReport,
    /// Write operations that began in this step, counted where they reach the kernel.
    pub operations: u64,
    /// Processes that were started in this step; a simulated kernel needs none.
    pub processes: u64,
}

/// What a gateway works on.
pub(crate) trait Machine {
    /// The time.
    fn now(&self) -> Timestamp;
    /// The kernel, to be read.
    fn kernel(&mut self) -> &mut dyn Kernel;
    /// Executes a transaction.
    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError>;
    /// Write operations and processes since the beginning.
    fn counts(&self) -> (u64, u64);
}

/// A gateway and the last status that it reported.
pub(crate) struct Engine {
    gateway: Gateway,
    status: StatusReport,
}

impl Engine {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway, status: StatusReport::default() }
    }

    /// Hands over the inputs and returns when the gateway has nothing left to do.
    pub(crate) fn follow(&mut self, machine: &mut impl Machine, inputs: Vec<Input>) -> Step {
        let (operations, processes) = machine.counts();
        let (mut transactions, mut events) = (Vec::new(), Vec::new());
        for input in inputs {
            self.gateway.handle_input(machine.now(), input);
        }
        for _ in 0..MAX_STEPS {
            let Some(output) = self.gateway.poll_output() else {
                let counts = machine.counts();
                return Step {
                    transactions,
                    events,
                    status: self.status.clone(),
                    operations: counts.0 - operations,
                    processes: counts.1 - processes,
                };
            };
            let answer = match output {
                Output::Observe(scope) => {
                    Input::Observed(machine.kernel().observe(&scope).map(Box::new))
                }
                Output::Apply(transaction) => {
                    let result = machine.apply(&transaction);
                    transactions.push(transaction);
                    Input::Applied(result)
                }
                Output::ListFlows(filter) => Input::Flows(machine.kernel().flows(&filter)),
                Output::Status(status) => {
                    self.status = *status;
                    continue;
                }
                Output::Event(event) => {
                    events.push(event);
                    continue;
                }
            };
            self.gateway.handle_input(machine.now(), answer);
        }
        panic!("not idle after {MAX_STEPS} steps: {events:?}");
    }
}
