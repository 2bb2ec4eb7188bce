//! SCTP as conntrack follows it (`nf_conntrack_proto_sctp.c`), for the chunks that are modelled.

use super::Progressed;
use crate::kernel::{Direction, Entry, Progress, SctpState};
use crate::walk::packet::SctpChunk;

/// The state after a first chunk; `None` where it cannot be the first: all but INIT carry a verification
/// tag, and nobody has told one yet (RFC 9260, section 8.5).
pub(super) fn first(chunk: SctpChunk) -> Option<SctpState> {
    (chunk == SctpChunk::Init).then_some(SctpState::Closed)
}

/// `sctp_conntracks`.
fn next(direction: Direction, chunk: SctpChunk, state: SctpState) -> SctpState {
    use SctpState::{Closed, CookieEchoed, CookieWait, Established};
    match (chunk, direction, state) {
        (SctpChunk::Abort, ..) => Closed,
        (SctpChunk::InitAck, Direction::Reply, Closed) => CookieWait,
        (SctpChunk::CookieEcho, _, CookieWait) => CookieEchoed,
        (SctpChunk::CookieAck, _, CookieEchoed) => Established,
        _ => state,
    }
}

/// `sctp_timeouts`, in seconds.
fn seconds(state: SctpState) -> u64 {
    match state {
        SctpState::Closed => 10,
        SctpState::CookieWait | SctpState::CookieEchoed => 3,
        SctpState::Established => 210,
    }
}

/// `nf_conntrack_sctp_packet`.
pub(super) fn progress(
    entry: &mut Entry,
    held: SctpState,
    direction: Direction,
    chunk: SctpChunk,
    first: bool,
) -> Progressed {
    let new = if first { held } else { next(direction, chunk, held) };
    entry.progress = Progress::Sctp(new);
    if direction == Direction::Reply
        && held == SctpState::CookieEchoed
        && new == SctpState::Established
    {
        entry.assured = true;
    }
    Progressed::Alive { seconds: seconds(new) }
}
