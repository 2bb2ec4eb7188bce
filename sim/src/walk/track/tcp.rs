//! TCP as conntrack follows it (`nf_conntrack_proto_tcp.c`); every segment counts as in the window.

use super::Progressed;
use crate::kernel::{Direction, Entry, Progress, TcpKind, TcpProgress, TcpState};
use crate::walk::packet::TcpFlags;

/// Before the first segment.
pub(super) const BEFORE: TcpProgress =
    TcpProgress { state: TcpState::None, closing: false, last: None };

/// Without a reply, an established connection lives this long (`TCP_CONNTRACK_UNACK`), in seconds.
const UNACKNOWLEDGED: u64 = 300;

/// What a segment does to a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    To(TcpState),
    /// It is let through; the entry may be out of step.
    Ignored,
    Invalid,
}

const fn to(state: TcpState) -> Next {
    Next::To(state)
}

const SS: Next = to(TcpState::SynSent);
const SR: Next = to(TcpState::SynRecv);
const ES: Next = to(TcpState::Established);
const FW: Next = to(TcpState::FinWait);
const CW: Next = to(TcpState::CloseWait);
const LA: Next = to(TcpState::LastAck);
const TW: Next = to(TcpState::TimeWait);
const CL: Next = to(TcpState::Close);
const S2: Next = to(TcpState::SynSent2);
const IG: Next = Next::Ignored;
const IV: Next = Next::Invalid;

/// `tcp_conntracks`; columns are the states in their order.
const ORIGINAL: [[Next; 10]; 5] = [
    [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2],
    [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR],
    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
    [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV],
    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
];
const REPLY: [[Next; 10]; 5] = [
    [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2],
    [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR],
    [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV],
    [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG],
    [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL],
];

/// `get_conntrack_index`.
fn kind(flags: TcpFlags) -> TcpKind {
    if flags.rst() {
        TcpKind::Rst
    } else if flags.syn() {
        if flags.ack() { TcpKind::SynAck } else { TcpKind::Syn }
    } else if flags.fin() {
        TcpKind::Fin
    } else if flags.ack() {
        TcpKind::Ack
    } else {
        TcpKind::None
    }
}

fn next(direction: Direction, kind: TcpKind, state: TcpState) -> Next {
    let row = match kind {
        TcpKind::Syn => 0,
        TcpKind::SynAck => 1,
        TcpKind::Fin => 2,
        TcpKind::Ack => 3,
        TcpKind::Rst => 4,
        TcpKind::None => return IV,
    };
    let table = if direction == Direction::Original { &ORIGINAL } else { &REPLY };
    table[row][state as usize]
}

/// `tcp_timeouts`, in seconds.
fn seconds(state: TcpState) -> u64 {
    match state {
        TcpState::Established => 5 * 24 * 3600,
        TcpState::SynRecv | TcpState::CloseWait => 60,
        TcpState::LastAck => 30,
        TcpState::Close => 10,
        TcpState::None
        | TcpState::SynSent
        | TcpState::SynSent2
        | TcpState::FinWait
        | TcpState::TimeWait => 120,
    }
}

/// `nf_conntrack_tcp_packet`.
pub(super) fn progress(
    entry: &mut Entry,
    held: TcpProgress,
    direction: Direction,
    flags: TcpFlags,
) -> Progressed {
    let kind = kind(flags);
    let new = match next(direction, kind, held.state) {
        Next::Invalid => return Progressed::Invalid,
        Next::Ignored => return let_through(entry, held, direction, kind),
        Next::To(state) => state,
    };
    if new == TcpState::SynSent && held.state >= TcpState::TimeWait {
        // "Attempt to reopen a closed/aborted connection."
        let aborted_by_sender = held.last == Some((direction, TcpKind::Rst));
        if held.closing || aborted_by_sender {
            return Progressed::Reopens;
        }
        return let_through(entry, held, direction, kind);
    }
    let closing = held.closing || (new == TcpState::FinWait && held.state != new);
    entry.progress =
        Progress::Tcp(TcpProgress { state: new, closing, last: Some((direction, kind)) });
    if !entry.seen_reply {
        // "If only reply is a RST, we can consider ourselves not to have an established connection."
        if flags.rst() {
            return Progressed::Last;
        }
        if new == TcpState::Established {
            return Progressed::Alive { seconds: UNACKNOWLEDGED };
        }
    } else if matches!(held.state, TcpState::SynRecv | TcpState::Established)
        && new == TcpState::Established
    {
        entry.assured = true;
    }
    Progressed::Alive { seconds: seconds(new) }
}

/// The packet goes on with the translation of the old connection (`TCP_CONNTRACK_IGNORE`).
fn let_through(
    entry: &mut Entry,
    held: TcpProgress,
    direction: Direction,
    kind: TcpKind,
) -> Progressed {
    // b) "This SYN/ACK acknowledges a SYN that we earlier ignored as invalid": in step again.
    if kind == TcpKind::SynAck && held.last == Some((direction.opposite(), TcpKind::Syn)) {
        let state = TcpState::SynRecv;
        let last = Some((direction, kind));
        entry.progress = Progress::Tcp(TcpProgress { state, closing: false, last });
        return Progressed::Alive { seconds: seconds(state) };
    }
    entry.progress = Progress::Tcp(TcpProgress { last: Some((direction, kind)), ..held });
    Progressed::Unchanged
}

/// A reset that the host itself sends ends the connection soon (`nf_conntrack_tcp_set_closing`).
pub(in crate::walk) fn set_closing(entry: &mut Entry) -> Option<u64> {
    let Progress::Tcp(held) = entry.progress else { return None };
    entry.progress = Progress::Tcp(TcpProgress { state: TcpState::Close, ..held });
    Some(seconds(TcpState::Close))
}
