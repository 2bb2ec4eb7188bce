//! What the story needs of the place where it is played.

mod linux;
mod simulated;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smartnat_core::model::Protocol;

use super::DemoError;
use super::manifests::EndpointEdit;
use super::report::Kernel;
use super::story::Finding;
use crate::lab::traffic::{Outcome, StreamKind, StreamReport};

pub(super) use linux::LinuxStage;
pub(super) use simulated::SimulatedStage;

/// The host that the controller runs on.
pub(super) const GATEWAY: &str = "gateway";

/// The pods, in order.
pub(super) const PODS: [&str; 3] = ["pod1", "pod2", "pod3"];

/// TCP ports of every pod.
const TCP_PORTS: [u16; 1] = [8080];

/// UDP ports of every pod: one, and those of the range.
const UDP_PORTS: [u16; 11] = [5353, 5060, 5061, 5062, 5063, 5064, 5065, 5066, 5067, 5068, 5069];

/// A client, its address, where it connects to.
pub(super) type Request = (&'static str, &'static str, Protocol, &'static str, u16);

/// A client, its kind of traffic, where it goes.
pub(super) type Flow = (&'static str, StreamKind, &'static str, u16);

/// How a start went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    /// Where time is real.
    pub(super) took: Option<Duration>,
    pub(super) operations: u64,
    /// Child processes, where there are any.
    pub(super) processes: Option<u64>,
}

/// The gateway's host, compared with what it was before the controller touched it.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    /// How many lines were compared.
    pub(super) lines: usize,
    pub(super) differences: Vec<String>,
}

/// Hosts, a controller and its manifests, and traffic between them.
pub(super) trait Stage: Sized {
    /// An open TCP connection of a client.
    type Conversation;
    /// An interface of the gateway whose packets are seen.
    type Watch;

    /// What carries the packets.
    const KERNEL: Kernel;

    /// What was built.
    fn description(&self) -> String;

    /// One request from `client`, and from this address where it matters.
    fn ask(&mut self, client: &str, from: Option<IpAddr>, how: Protocol, to: SocketAddr)
    -> Outcome;

    /// Requests that should meet silence.
    fn ask_in_vain(&mut self, requests: &[Request]) -> Vec<Outcome>;

    /// How long silence was listened to, where time is real.
    fn silence(&self) -> Option<Duration>;

    /// Requests that any pod has seen.
    fn requests(&self) -> u64;

    /// A TCP connection from `client`; the inner error says what became of the attempt.
    fn open(
        &mut self,
        client: &str,
        to: SocketAddr,
    ) -> Result<Result<Self::Conversation, Outcome>, DemoError>;

    /// A request over an open connection.
    fn ask_on(&mut self, conversation: &mut Self::Conversation, request: &str) -> Outcome;

    /// The same on a connection that is about to end: no long wait.
    fn ask_on_ending(&mut self, conversation: &mut Self::Conversation) -> Outcome;

    /// The client's own end.
    fn local(conversation: &Self::Conversation) -> SocketAddr;

    /// Traffic in the background, until it is stopped.
    fn start_streams(&mut self, flows: &[Flow]) -> Result<(), DemoError>;

    /// What became of each stream so far.
    fn streams(&self) -> Vec<StreamReport>;

    /// Ends the traffic in the background.
    fn stop_streams(&mut self) -> Vec<StreamReport>;

    /// Lets traffic flow until `condition` holds, within a bound; whether it came to that.
    fn wait_until(&mut self, condition: impl FnMut(&mut Self) -> bool) -> bool;

    /// TCP segments that clients and pods sent more than once, where that is counted.
    fn retransmissions(&self) -> Result<Option<u64>, DemoError>;

    /// Sees the packets of an interface of the gateway from now on.
    fn watch(&mut self, interface: &'static str) -> Result<Self::Watch, DemoError>;

    /// Source addresses of the packets that left by it from this port.
    fn sources_of_replies(&self, watch: &Self::Watch, port: u16) -> Vec<IpAddr>;

    /// Starts the controller; it is back when the controller has read back what it programmed.
    fn start_controller(&mut self) -> Result<Started, DemoError>;

    /// Ends the controller without warning.
    fn kill_controller(&mut self);

    /// Asks the controller to end.
    fn end_controller(&mut self) -> Result<(), DemoError>;

    /// Removes all that the controller left.
    fn clean_up(&mut self) -> Result<(), DemoError>;

    /// The gateway's host against its state before the first start.
    fn compare_host(&self) -> Result<Comparison, DemoError>;

    /// Edits the endpoints of a pod in the manifests.
    fn edit_pod(&mut self, pod: &str, edit: EndpointEdit) -> Result<(), DemoError>;

    /// The end of the controller's log.
    fn log_tail(&self) -> String;

    /// Everything goes; what is left then.
    fn strike(self) -> Finding;
}

/// An external endpoint of the samples.
pub(super) fn end(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("a constant address"), port)
}
