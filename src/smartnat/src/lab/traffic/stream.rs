//! Steady traffic in the background that counts what is lost.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use smartnat_core::model::Protocol;

use super::{Conversation, Outcome, PATIENT};
use crate::lab::{Lab, LabError, wait_until};

/// Longest wait for one answer. A TCP retransmission takes at least 200 ms, so a lost segment shows in
/// [`StreamReport::slowest`], a lost datagram as lost.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// What kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Requests over one TCP connection.
    Established,
    /// Requests from one UDP port.
    Datagrams,
    /// A new TCP connection for each request.
    NewConnections,
    /// A new UDP port for each request.
    NewFlows,
}

/// What became of the traffic so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Longest wait for an answer.
    pub slowest: Duration,
    /// Answers by server.
    pub servers: BTreeMap<String, u64>,
    /// What happened instead of an answer, and how often.
    pub losses: BTreeMap<String, u64>,
    /// A connection that lasts has ended; nothing more is sent.
    pub ended: bool,
}

impl StreamReport {
    /// Requests that were not answered.
    pub fn lost(&self) -> u64 {
        self.losses.values().sum()
    }

    /// Counts one request.
    pub(crate) fn record(&mut self, outcome: &Outcome, waited: Duration) {
        self.sent += 1;
        match outcome.server() {
            Some(server) => {
                self.answered += 1;
                self.slowest = self.slowest.max(waited);
                *self.servers.entry(server.into()).or_default() += 1;
            }
            None => *self.losses.entry(outcome.to_string()).or_default() += 1,
        }
    }
}

/// Traffic that goes on until it is stopped or dropped.
#[derive(Debug)]
pub struct Stream {
    report: Arc<Mutex<StreamReport>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Traffic {
    kind: StreamKind,
    from: Option<IpAddr>,
    to: SocketAddr,
    interval: Duration,
}

impl Stream {
    /// Starts to send a request each `interval` (later where an answer takes longer) and returns
    /// when the first has been answered or lost.
    pub fn start(
        lab: &Lab,
        host: &str,
        kind: StreamKind,
        from: Option<IpAddr>,
        to: SocketAddr,
        interval: Duration,
    ) -> Result<Self, LabError> {
        let traffic = Traffic { kind, from, to, interval };
        let report = Arc::new(Mutex::new(StreamReport::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (record, stopped) = (Arc::clone(&report), Arc::clone(&stop));
        let thread = lab.spawn_thread(host, move || traffic.send_on(&record, &stopped))?;
        let stream = Self { report, stop, thread: Some(thread) };
        // Where nothing happens in time, the report says so by its zeroes.
        stream.wait_for(PATIENT, |r| r.sent > 0);
        Ok(stream)
    }

    /// What became of the traffic so far.
    pub fn report(&self) -> StreamReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the report is as wanted, at most for `patience`; whether it came to that.
    pub fn wait_for(
        &self,
        patience: Duration,
        mut wanted: impl FnMut(&StreamReport) -> bool,
    ) -> bool {
        wait_until(patience, || wanted(&self.report()).then_some(())).is_some()
    }

    /// Waits until `count` more requests were answered, at most for `patience`.
    pub fn wait_for_more(&self, count: u64, patience: Duration) -> bool {
        let before = self.report().answered;
        self.wait_for(patience, |r| r.answered >= before + count)
    }

    /// Waits for the outstanding answer, ends the traffic and says what became of it.
    pub fn stop(mut self) -> StreamReport {
        self.end();
        self.report()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it recorded until a panic is in the report.
            let _ = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

impl Traffic {
    fn send_on(self, report: &Mutex<StreamReport>, stop: &AtomicBool) {
        let record = |outcome: &Outcome, waited| {
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.record(outcome, waited);
        };
        let mut conversation = None;
        let mut number: u64 = 0;
        while !stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let outcome = self.request(&mut conversation, number);
            record(&outcome, begin.elapsed());
            number += 1;
            if self.kind == StreamKind::Established && !outcome.is_answered() {
                report.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
                return;
            }
            std::thread::sleep(self.interval.saturating_sub(begin.elapsed()));
        }
    }

    fn request(self, open: &mut Option<Conversation>, number: u64) -> Outcome {
        let (protocol, lasts) = match self.kind {
            StreamKind::Established => (Protocol::Tcp, true),
            StreamKind::NewConnections => (Protocol::Tcp, false),
            StreamKind::Datagrams => (Protocol::Udp, true),
            StreamKind::NewFlows => (Protocol::Udp, false),
        };
        let from = self.from.map(|address| SocketAddr::new(address, 0));
        let opened = match open.take() {
            Some(conversation) => Ok(conversation),
            None => Conversation::open(protocol, from, self.to, ANSWER_PATIENCE),
        };
        let mut conversation = match opened {
            Ok(conversation) => conversation,
            Err(outcome) => return outcome,
        };
        let outcome = conversation.ask(&number.to_string(), ANSWER_PATIENCE);
        if lasts {
            *open = Some(conversation);
        }
        outcome
    }
}
