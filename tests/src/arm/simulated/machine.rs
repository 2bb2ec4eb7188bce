//! The gateway's simulated host, with traffic after each of its kernel's operations.

use std::net::{IpAddr, SocketAddr};

use smartnat::lab::traffic::{StreamKind, StreamReport};
use smartnat_core::model::{Protocol, Timestamp};
use smartnat_core::ops::{Domain, Kernel, OpError, Transaction};
use smartnat_sim::SimKernel;
use smartnat_sim::walk::{Conversation, Network, RequestOutcome};

use crate::engine::Machine;

/// The host that runs the gateway.
pub(super) const GATEWAY: &str = "gateway";

/// A network and the streams in it.
pub(super) struct SimMachine {
    pub(super) network: Network,
    pub(super) streams: Vec<SimStream>,
}

/// Traffic that asks whenever it is told to.
pub(super) struct SimStream {
    kind: StreamKind,
    client: String,
    from: IpAddr,
    to: SocketAddr,
    open: Option<Conversation>,
    pub(super) report: StreamReport,
}

impl SimStream {
    pub(super) fn new(kind: StreamKind, client: &str, from: IpAddr, to: SocketAddr) -> Self {
        let (client, report) = (client.to_owned(), StreamReport::default());
        Self { kind, client, from, to, open: None, report }
    }

    fn ask(&mut self, network: &mut Network) {
        if self.report.ended {
            return;
        }
        let outcome = self.request(network);
        self.report.sent += 1;
        if let Some(server) = outcome.server() {
            self.report.answered += 1;
            *self.report.servers.entry(server.to_owned()).or_default() += 1;
        } else {
            *self.report.losses.entry(outcome.to_string()).or_default() += 1;
            self.report.ended = self.kind == StreamKind::Established;
        }
    }

    fn request(&mut self, network: &mut Network) -> RequestOutcome {
        let (client, from, to) = (&self.client, self.from, self.to);
        let protocol = match self.kind {
            StreamKind::Established | StreamKind::NewConnections => Protocol::Tcp,
            StreamKind::Datagrams | StreamKind::NewFlows => Protocol::Udp,
        };
        if matches!(self.kind, StreamKind::NewConnections | StreamKind::NewFlows) {
            let asked = network.request(client, Some(from), protocol, to);
            return asked.expect("all is understood");
        }
        let from = Some(SocketAddr::new(from, 0));
        if self.open.is_none() {
            match network.open(client, from, protocol, to).expect("all is understood") {
                Ok(conversation) => self.open = Some(conversation),
                Err(outcome) => return outcome,
            }
        }
        let conversation = self.open.as_ref().expect("it was opened");
        network.ask(conversation).expect("all is understood")
    }
}

impl SimMachine {
    pub(super) fn gateway(&self) -> &SimKernel {
        &self.network.host(GATEWAY).expect("the topology has a gateway").kernel
    }

    fn gateway_mut(&mut self) -> &mut SimKernel {
        &mut self.network.host_mut(GATEWAY).expect("the topology has a gateway").kernel
    }

    pub(super) fn ask_on_streams(&mut self) {
        for stream in &mut self.streams {
            stream.ask(&mut self.network);
        }
    }

    fn apply_and_ask(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        let result = self.gateway_mut().apply(transaction);
        self.ask_on_streams();
        result
    }
}

impl Machine for SimMachine {
    fn now(&self) -> Timestamp {
        self.gateway().now()
    }

    fn kernel(&mut self) -> &mut dyn Kernel {
        self.gateway_mut()
    }

    /// Packets pass between any two operations of a domain that is not atomic.
    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        let atomic = matches!(transaction.domain, Domain::Xtables(_) | Domain::Nftables);
        if atomic || transaction.ops.is_empty() {
            return self.apply_and_ask(transaction);
        }
        let mut first_error = Ok(());
        for op in &transaction.ops {
            let single = Transaction { domain: transaction.domain, ops: vec![op.clone()] };
            let result = self.apply_and_ask(&single);
            let failed = result.is_err();
            first_error = first_error.and(result);
            // As the kernel's executor does it: deletions of connections do not depend on each other.
            if failed && transaction.domain != Domain::Flows {
                break;
            }
        }
        first_error
    }

    fn counts(&self) -> (u64, u64) {
        (self.gateway().applied_ops(), 0)
    }
}
