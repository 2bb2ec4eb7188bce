//! How a request ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use smartnat_sim::walk::RequestOutcome;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the server.
    pub server: String,
    /// The peer that the server saw.
    pub seen_peer: SocketAddr,
    /// The client's own end.
    pub local: SocketAddr,
    /// The request, as the server repeated it.
    pub echo: String,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A server answered.
    Answered(Answer),
    /// TCP: a reset. UDP: port unreachable.
    Refused,
    /// TCP: reset or closed by the peer after the connection was there.
    Closed,
    /// An ICMP error other than port unreachable, or no route.
    Unreachable,
    /// Nothing came back in time.
    TimedOut,
    /// Something else, an answer that is none included.
    Failed(String),
}

/// As the clients of a lab tell it.
impl From<RequestOutcome> for Outcome {
    fn from(simulated: RequestOutcome) -> Self {
        match simulated {
            RequestOutcome::Answered(answer) => Self::Answered(Answer {
                server: answer.server,
                seen_peer: answer.seen_peer,
                local: answer.local,
                echo: String::new(),
            }),
            RequestOutcome::Refused => Self::Refused,
            RequestOutcome::Closed => Self::Closed,
            RequestOutcome::Unreachable => Self::Unreachable,
            RequestOutcome::TimedOut => Self::TimedOut,
            RequestOutcome::NotSent(_) | RequestOutcome::NoSuchAddress => {
                Self::Failed(simulated.to_string())
            }
        }
    }
}

impl Outcome {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// The name of the server that answered.
    pub fn server(&self) -> Option<&str> {
        self.answer().map(|a| a.server.as_str())
    }

    /// Whether a server answered.
    pub fn is_answered(&self) -> bool {
        self.answer().is_some()
    }

    pub(super) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => return Self::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => return Self::Closed,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => return Self::TimedOut,
            _ => {}
        }
        match error.raw_os_error().map(Errno::from_raw) {
            // EACCES and EPROTO are how IPv6 tells "administratively prohibited" and other codes.
            Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES | Errno::EPROTO) => {
                Self::Unreachable
            }
            _ => Self::Failed(error.to_string()),
        }
    }

    /// From an answer's text: name, peer, request.
    pub(super) fn of_answer(text: &str, local: SocketAddr) -> Self {
        let mut words = text.trim_end_matches('\n').splitn(3, ' ');
        let parsed = (words.next(), words.next().and_then(|w| w.parse().ok()), words.next());
        match parsed {
            (Some(server), Some(seen_peer), Some(echo)) => Self::Answered(Answer {
                server: server.into(),
                seen_peer,
                local,
                echo: echo.into(),
            }),
            _ => Self::Failed(format!("no answer of a lab server: {text:?}")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => {
                write!(f, "answered by {}, which saw {}", answer.server, answer.seen_peer)
            }
            Self::Refused => f.write_str("refused"),
            Self::Closed => f.write_str("closed by the peer"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::TimedOut => f.write_str("no answer"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}
