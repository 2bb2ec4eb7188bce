//! The state machine that strings all stages together. Sans-IO: the driver feeds
//! [`Input`]s, executes [`Output`]s and calls back at [`Gateway::poll_timeout`].

mod io;

pub use io::{Event, EventKind, Input, Output};

use serde::{Deserialize, Serialize};

use crate::model::{GatewayConfig, Timestamp};

/// The controller's whole decision state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gateway {
    config: GatewayConfig,
}

impl Gateway {
    /// A gateway that knows nothing yet.
    pub fn new(config: GatewayConfig) -> Self {
        Self { config }
    }

    /// Takes note of something that happened at `now`.
    pub fn handle_input(&mut self, _now: Timestamp, _input: Input) {}

    /// The next thing to do; `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When to come back with [`Input::Tick`], if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }
}
