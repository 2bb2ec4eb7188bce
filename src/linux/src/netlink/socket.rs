//! A netlink socket to netfilter's subsystems.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force,
    set_socket_timeout,
};
use rustix::net::{RecvFlags, SendFlags};

use super::message::{Message, Subsystem};
use super::parse::{Attributes, Messages, RawMessage, echoed_attributes, refused_offset};
use super::{BatchError, NetlinkError, ParseError, Refusal};

/// How long one datagram may take. The kernel answers while it is asked, so this is a backstop.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take, a listing of a large table included.
const EXCHANGE_LIMIT: Duration = Duration::from_mins(1);
/// How often a listing is begun that changes interrupt, or of which messages are lost.
const DUMP_ATTEMPTS: usize = 5;
/// Messages that are sent before their acknowledgements are read, so that these fit the buffer.
const ACK_WINDOW: usize = 128;
/// Datagrams that are thrown away at most when answers were lost.
const DRAIN_LIMIT: usize = 1_000_000;
/// An upper limit for what the kernel queues; it is not allocated beforehand.
const SOCKET_BUFFER: usize = 8 << 20;
/// Holds the largest datagram: an error that echoes a message of 64 KiB.
const RECEIVE_BUFFER: usize = 128 << 10;

/// The kernel's answer to one message.
pub type Answer = Result<(), Refusal>;

/// A socket of the network namespace in which its opener's thread was.
pub struct NetfilterSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    /// What may be sent at once, as far as the kernel let us ask for it.
    send_buffer: usize,
    bytes_sent: u64,
    buffer: Vec<u8>,
}

impl fmt::Debug for NetfilterSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, sequence, .. } = self;
        let mut shown = f.debug_struct("NetfilterSocket");
        shown.field("socket", socket).field("sequence", sequence).finish_non_exhaustive()
    }
}

impl NetfilterSocket {
    /// Opens a socket in the calling thread's network namespace, to which it
    /// belongs from then on.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        // Connected to the kernel, nobody else can send to it.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without the refused message in an error, answers stay small.
        socket.set_cap_ack(true)?;
        // With it they tell which attribute is wrong.
        socket.set_ext_ack(true)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(RECEIVE_TIMEOUT))
            .map_err(io::Error::from)?;
        for force in [
            set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER),
            set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER),
        ] {
            // Without the privilege the kernel refuses every request anyway, and says so.
            force.or_else(|e| if e == Errno::PERM { Ok(()) } else { Err(io::Error::from(e)) })?;
        }
        let (sequence, bytes_sent) = (0, 0);
        let buffer = vec![0; RECEIVE_BUFFER];
        Ok(Self { socket, port, sequence, send_buffer: SOCKET_BUFFER, bytes_sent, buffer })
    }

    /// The socket's address (`nlmsg_pid`), by which the kernel names it in notifications of what
    /// it changed.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Bytes sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Sends all messages and returns the kernel's answer to each. The kernel
    /// executes a message also when the one before it failed.
    pub fn request_ack(&mut self, messages: &[Message]) -> Result<Vec<Answer>, NetlinkError> {
        let mut answers = Vec::with_capacity(messages.len());
        for window in messages.chunks(ACK_WINDOW) {
            answers.extend(self.request_window(window)?);
        }
        Ok(answers)
    }

    /// Sends all messages as one change that the kernel makes whole or not at all, provided
    /// that the subsystem's generation is still this one (0: whatever it is). An error names the
    /// message that was refused first.
    pub fn transact(
        &mut self,
        subsystem: Subsystem,
        generation: u32,
        messages: &[Message],
    ) -> Result<(), BatchError> {
        let Some((last, others)) = messages.split_last() else { return Ok(()) };
        let opening = Message::begin(subsystem, generation)?;
        let closing = Message::end(subsystem)?;
        // Only the last one asks for an answer of success; refusals come unasked.
        let batch = std::iter::once((&opening, 0))
            .chain(others.iter().map(|message| (message, 0)))
            .chain([(last, NLM_F_ACK), (&closing, 0)]);
        let first = self.send_all(batch)?;
        self.outcome(first, u32::try_from(messages.len()).unwrap_or(u32::MAX))
    }

    /// Waits for what became of a batch of `count` messages after the one that begins it, whose
    /// sequence number is `first`.
    fn outcome(&mut self, first: u32, count: u32) -> Result<(), BatchError> {
        let mut refused = None;
        let mut handle = |answer: &RawMessage<'_>| {
            // What concerns an earlier exchange has a sequence number before the first.
            let index = answer.sequence.wrapping_sub(first);
            if answer.kind == NLMSG_ERROR && index <= count {
                if let Some(refusal) = refusal(answer)? {
                    // Number 0 is the message that begins the batch.
                    refused = index.checked_sub(1).and_then(|i| usize::try_from(i).ok());
                    return Err(refusal);
                }
                if index == count {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        let mut outcome = self.receive_all(&mut handle);
        if matches!(outcome, Err(NetlinkError::Overrun)) {
            // Of a batch that fails in many places the later refusals are lost, never the first.
            outcome = self.receive_all(&mut handle);
        }
        if outcome.is_err() {
            self.drain();
        }
        outcome.map_err(|error| BatchError { message: refused, error })
    }

    /// Sends a message and parses the attributes of the one message that answers it.
    pub fn request<T>(
        &mut self,
        message: &Message,
        mut parse: impl FnMut(Attributes<'_>) -> Result<T, ParseError>,
    ) -> Result<T, NetlinkError> {
        let sequence = self.send(std::slice::from_ref(message), 0)?;
        let mut parsed = None;
        self.exchange(|answer| {
            if answer.sequence != sequence {
                return Ok(ControlFlow::Continue(()));
            }
            if answer.kind == NLMSG_ERROR {
                refusal(answer)?.map_or(Ok(()), Err)?;
                return Err(ParseError::Missing("the answer").into());
            }
            parsed = Some(parse(answer.attributes()?)?);
            Ok(ControlFlow::Break(()))
        })?;
        parsed.ok_or_else(|| ParseError::Missing("the answer").into())
    }

    /// Lists: folds the attributes of each message of the listing into a fresh
    /// `T`. Begins anew, within bounds, when the kernel says that changes
    /// interrupted the listing, or that messages were lost.
    pub fn dump<T: Default>(
        &mut self,
        message: &Message,
        mut fold: impl FnMut(&mut T, Attributes<'_>) -> Result<(), ParseError>,
    ) -> Result<T, NetlinkError> {
        let mut last = NetlinkError::Unsteady;
        for _ in 0..DUMP_ATTEMPTS {
            let mut listed = T::default();
            match self.dump_once(message, |attributes| fold(&mut listed, attributes)) {
                Ok(true) => return Ok(listed),
                Ok(false) => last = NetlinkError::Unsteady,
                Err(NetlinkError::Overrun) => last = NetlinkError::Overrun,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// One listing; tells whether it was consistent.
    fn dump_once(
        &mut self,
        message: &Message,
        mut fold: impl FnMut(Attributes<'_>) -> Result<(), ParseError>,
    ) -> Result<bool, NetlinkError> {
        let sequence = self.send(std::slice::from_ref(message), NLM_F_DUMP)?;
        let mut consistent = true;
        self.exchange(|answer| {
            if answer.sequence != sequence {
                return Ok(ControlFlow::Continue(()));
            }
            consistent &= answer.flags & NLM_F_DUMP_INTR == 0;
            match answer.kind {
                NLMSG_ERROR | NLMSG_DONE => {
                    refusal(answer)?.map_or(Ok(ControlFlow::Break(())), Err)
                }
                _ => {
                    fold(answer.attributes()?)?;
                    Ok(ControlFlow::Continue(()))
                }
            }
        })?;
        Ok(consistent)
    }

    fn request_window(&mut self, messages: &[Message]) -> Result<Vec<Answer>, NetlinkError> {
        let first = self.send(messages, NLM_F_ACK)?;
        let mut answers: Vec<Option<Answer>> = vec![None; messages.len()];
        let mut open = messages.len();
        self.exchange(|answer| {
            let index = usize::try_from(answer.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            if answer.kind == NLMSG_ERROR
                && let Some(slot @ None) = answers.get_mut(index)
            {
                *slot = Some(match refusal(answer)? {
                    Some(NetlinkError::Refused(refusal)) => Err(refusal),
                    Some(other) => return Err(other),
                    None => Ok(()),
                });
                open -= 1;
            }
            Ok(if open == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Sends all messages at once and returns the sequence number of the first.
    fn send(&mut self, messages: &[Message], flags: u16) -> Result<u32, NetlinkError> {
        self.send_all(messages.iter().map(|message| (message, flags)))
    }

    /// The same, each with flags of its own.
    fn send_all<'a>(
        &mut self,
        messages: impl Iterator<Item = (&'a Message, u16)> + Clone,
    ) -> Result<u32, NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(messages.clone().map(|(m, _)| m.length()).sum());
        for (message, flags) in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(&mut datagram, flags, self.sequence);
        }
        self.make_room(datagram.len())?;
        rustix::net::send(&self.socket, &datagram, SendFlags::empty()).map_err(io::Error::from)?;
        self.bytes_sent = self.bytes_sent.saturating_add(datagram.len() as u64);
        Ok(first)
    }

    /// Lets a datagram of this length go at once: the kernel takes no longer one than its buffer.
    fn make_room(&mut self, length: usize) -> Result<(), NetlinkError> {
        if length <= self.send_buffer {
            return Ok(());
        }
        // The kernel doubles it, so that its own bookkeeping fits too.
        match set_socket_send_buffer_size_force(&self.socket, length) {
            Ok(()) => self.send_buffer = length,
            Err(Errno::PERM) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        Ok(())
    }

    /// Hands each received message to `handle` until that breaks. After a
    /// failure nothing of this exchange is left in the socket.
    fn exchange(
        &mut self,
        mut handle: impl FnMut(&RawMessage<'_>) -> Result<ControlFlow<()>, NetlinkError>,
    ) -> Result<(), NetlinkError> {
        let result = self.receive_all(&mut handle);
        if result.is_err() {
            self.drain();
        }
        result
    }

    fn receive_all(
        &mut self,
        handle: &mut impl FnMut(&RawMessage<'_>) -> Result<ControlFlow<()>, NetlinkError>,
    ) -> Result<(), NetlinkError> {
        let deadline = Instant::now() + EXCHANGE_LIMIT;
        while Instant::now() < deadline {
            let length = match self.receive(RecvFlags::TRUNC) {
                Err(Errno::INTR) => continue,
                received => received.map_err(receive_error)?,
            };
            let datagram = self.buffer.get(..length).ok_or(ParseError::Truncated("a datagram"))?;
            for message in Messages::new(datagram) {
                let message = message?;
                match message.kind {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(NetlinkError::Overrun),
                    _ if handle(&message)?.is_break() => return Ok(()),
                    _ => {}
                }
            }
        }
        Err(NetlinkError::Timeout)
    }

    fn receive(&mut self, flags: RecvFlags) -> rustix::io::Result<usize> {
        // The second length is the datagram's, also where the buffer is shorter.
        rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), flags).map(|(_, length)| length)
    }

    /// Throws away what is under way; receiving also drives an open listing to its end.
    fn drain(&mut self) {
        for _ in 0..DRAIN_LIMIT {
            match self.receive(RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// The refusal that an error, or the end of a listing, carries, if it does.
fn refusal(answer: &RawMessage<'_>) -> Result<Option<NetlinkError>, ParseError> {
    // The end of a listing may come without a status.
    if answer.kind == NLMSG_DONE && answer.body.is_empty() {
        return Ok(None);
    }
    let (status, echo) = answer.status()?;
    // A positive status is the number of what was listed.
    Ok((status < 0).then(|| {
        let errno = status.checked_neg().unwrap_or(i32::MAX);
        let offset = refused_offset(answer.flags, echo);
        NetlinkError::Refused(Refusal { errno, echo: echoed_attributes(echo), offset })
    }))
}

fn receive_error(errno: Errno) -> NetlinkError {
    match errno {
        Errno::AGAIN => NetlinkError::Timeout,
        Errno::NOBUFS => NetlinkError::Overrun,
        other => NetlinkError::Socket(other.into()),
    }
}

#[cfg(test)]
mod tests;
