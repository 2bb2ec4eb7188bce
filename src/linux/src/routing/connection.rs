//! One rtnetlink socket with blocking requests.

use std::fmt;
use std::io;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use smartnat_core::model::Family;
use smartnat_core::ops::{OpError, OpErrorClass};
use tokio::sync::mpsc;

use super::errno::class_of_errno;
use super::wire::address_family;

/// The kernel answers at once; this bounds the wait for an answer that was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a dump is read anew because the table changed while it was read.
const MAX_DUMP_ATTEMPTS: usize = 5;
/// `NLM_F_DUMP_INTR`.
const DUMP_INTERRUPTED: u16 = 0x10;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The kernel refused it.
    Refused(io::Error),
    /// There was no proper answer.
    NoAnswer(&'static str),
}

impl RequestError {
    /// The error of an operation on `object`.
    pub(crate) fn about(self, object: impl fmt::Display) -> OpError {
        match self {
            Self::Refused(error) => {
                let class = error.raw_os_error().map_or(OpErrorClass::Transient, class_of_errno);
                OpError::new(class, object, error)
            }
            Self::NoAnswer(detail) => OpError::new(OpErrorClass::Transient, object, detail),
        }
    }
}

type Message = NetlinkMessage<RouteNetlinkMessage>;
type Answers = Result<Vec<Message>, RequestError>;

/// A request and where its answers go.
struct Exchange {
    request: Message,
    reply: blocking::SyncSender<Answers>,
}

/// A socket in the network namespace of the thread that opened it.
///
/// A thread of its own drives it, so that a caller may be inside an asynchronous runtime,
/// where no other runtime can be driven.
pub(crate) struct Connection {
    exchanges: Option<mpsc::UnboundedSender<Exchange>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without a sender the thread ends, at the latest when its last exchange times out.
        self.exchanges = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Connection {
    pub(crate) fn open() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = {
            let _context = runtime.enter();
            let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
            // Only the final message tells a complete dump from one that was cut off.
            connection.set_forward_done(true);
            runtime.spawn(connection);
            handle
        };
        let (exchanges, queue) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("rtnetlink".into())
            .spawn(move || runtime.block_on(serve(handle, queue)))?;
        Ok(Self { exchanges: Some(exchanges), thread: Some(thread) })
    }

    pub(crate) fn links(&mut self) -> Result<Vec<LinkMessage>, RequestError> {
        self.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()), |m| match m {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
    }

    pub(crate) fn addresses(&mut self) -> Result<Vec<AddressMessage>, RequestError> {
        self.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()), |m| match m {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        })
    }

    pub(crate) fn rules(&mut self, family: Family) -> Result<Vec<RuleMessage>, RequestError> {
        let mut request = RuleMessage::default();
        request.header.family = address_family(family);
        self.dump(&RouteNetlinkMessage::GetRule(request), |m| match m {
            RouteNetlinkMessage::NewRule(rule) => Some(rule),
            _ => None,
        })
    }

    /// Routes that the kernel finds to match the header of `filter`.
    pub(crate) fn routes(
        &mut self,
        filter: RouteMessage,
    ) -> Result<Vec<RouteMessage>, RequestError> {
        let family = filter.header.address_family;
        let mut routes = self.dump(&RouteNetlinkMessage::GetRoute(filter), |m| match m {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        })?;
        routes.retain(|r| r.header.address_family == family);
        Ok(routes)
    }

    pub(crate) fn add_rule(&mut self, rule: RuleMessage) -> Result<(), RequestError> {
        self.change(RouteNetlinkMessage::NewRule(rule), NLM_F_CREATE | NLM_F_EXCL)
    }

    pub(crate) fn delete_rule(&mut self, rule: RuleMessage) -> Result<(), RequestError> {
        self.change(RouteNetlinkMessage::DelRule(rule), 0)
    }

    pub(crate) fn put_route(&mut self, route: RouteMessage) -> Result<(), RequestError> {
        self.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
    }

    pub(crate) fn delete_route(&mut self, route: RouteMessage) -> Result<(), RequestError> {
        self.change(RouteNetlinkMessage::DelRoute(route), 0)
    }

    fn change(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<(), RequestError> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let answers = self.exchange(message)?;
        // An acknowledgement is not forwarded: what comes is an error.
        answers.into_iter().try_for_each(|m| check(&m.payload))
    }

    fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        select: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, RequestError> {
        for _ in 0..MAX_DUMP_ATTEMPTS {
            let mut message = NetlinkMessage::from(request.clone());
            message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let answers = self.exchange(message)?;
            answers.iter().try_for_each(|m| check(&m.payload))?;
            if !answers.last().is_some_and(|m| matches!(m.payload, NetlinkPayload::Done(_))) {
                return Err(RequestError::NoAnswer("the kernel's list was cut off"));
            }
            if answers.iter().any(|m| m.header.flags & DUMP_INTERRUPTED != 0) {
                continue;
            }
            let payloads = answers.into_iter().filter_map(|m| match m.payload {
                NetlinkPayload::InnerMessage(inner) => select(inner),
                _ => None,
            });
            return Ok(payloads.collect());
        }
        Err(RequestError::NoAnswer("the list changed each time while it was read"))
    }

    fn exchange(&mut self, request: Message) -> Answers {
        let ended = RequestError::NoAnswer("the netlink socket was closed");
        let (reply, answers) = blocking::sync_channel(1);
        let Some(exchanges) = &self.exchanges else { return Err(ended) };
        if exchanges.send(Exchange { request, reply }).is_err() {
            return Err(ended);
        }
        answers.recv().unwrap_or(Err(ended))
    }
}

/// Executes one exchange after the other until nobody can ask for another.
async fn serve(mut handle: Handle, mut queue: mpsc::UnboundedReceiver<Exchange>) {
    while let Some(Exchange { request, reply }) = queue.recv().await {
        let answers = match handle.request(request) {
            Ok(answers) => tokio::time::timeout(ANSWER_TIMEOUT, answers.collect())
                .await
                .map_err(|_| RequestError::NoAnswer("the kernel did not answer in 10 s")),
            Err(_) => Err(RequestError::NoAnswer("the netlink socket was closed")),
        };
        // Who asked waits, so the reply has a receiver.
        let _ = reply.send(answers);
    }
}

fn check(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Result<(), RequestError> {
    match payload {
        NetlinkPayload::Error(error) if error.code.is_some() => {
            Err(RequestError::Refused(io::Error::from_raw_os_error(-error.raw_code())))
        }
        NetlinkPayload::Done(done) if done.code < 0 => {
            Err(RequestError::Refused(io::Error::from_raw_os_error(-done.code)))
        }
        NetlinkPayload::Overrun(_) => Err(RequestError::NoAnswer("the kernel lost an answer")),
        _ => Ok(()),
    }
}
