//! The way between one instance and the API server, and what goes wrong on it.

use std::collections::{BTreeMap, VecDeque};

use crate::api_server::Kind;

/// How a write goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// It never arrives.
    Lost,
    /// It takes effect, but the answer never arrives.
    AnswerLost,
    /// The server refuses it, for example for want of a permission.
    Refused,
    /// Somebody else's write of the same object comes first.
    Overtaken,
}

/// State of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether anything comes through.
    pub reachable: bool,
    /// How long a request travels.
    pub request_millis: u64,
    /// How long an answer travels.
    pub answer_millis: u64,
    /// How late each watch is; each keeps its own order.
    pub lag: BTreeMap<Kind, u64>,
    /// What happens to the next writes.
    pub faults: VecDeque<WriteFault>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            reachable: true,
            request_millis: 2,
            answer_millis: 2,
            lag: BTreeMap::new(),
            faults: VecDeque::new(),
        }
    }
}

impl Link {
    /// Lateness of a watch where nothing else is said.
    const LAG_MILLIS: u64 = 3;

    pub(super) fn lag_of(&self, kind: Kind) -> u64 {
        self.lag.get(&kind).copied().unwrap_or(Self::LAG_MILLIS)
    }
}
