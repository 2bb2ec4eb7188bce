//! What can go wrong between a request and its answer.

use std::io;

use rustix::io::Errno;
use smartnat_core::ops::OpErrorClass;
use thiserror::Error;

/// Bytes from the kernel that are not what the protocol says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// A header or a body ends before its stated length.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// An attribute has not the size of its type.
    #[error("attribute {kind} has {actual} bytes where {expected} are due")]
    AttributeSize {
        /// Attribute number.
        kind: u16,
        /// Size due.
        expected: usize,
        /// Size found.
        actual: usize,
    },
    /// An attribute that is always there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A value outside of what the field can hold.
    #[error("{0} is out of range")]
    Range(&'static str),
}

/// The kernel's refusal of one message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", errno_text(*errno))]
pub struct Refusal {
    /// Positive error number; a subsystem may use numbers of its own from 4096.
    pub errno: i32,
    /// Attributes of the refused message as the kernel echoed them; empty where it did not.
    pub echo: Vec<u8>,
    /// Where in the refused message the attribute is that the kernel found wrong, in bytes from
    /// the message's begin (`NLMSGERR_ATTR_OFFS`); absent where it did not say.
    pub offset: Option<usize>,
}

/// Why a batch was not executed.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct BatchError {
    /// Which of its messages was refused first, from 0; absent where the batch failed as a whole.
    pub message: Option<usize>,
    /// What went wrong.
    #[source]
    pub error: NetlinkError,
}

impl BatchError {
    /// The class by which decisions are made.
    pub fn class(&self) -> OpErrorClass {
        self.error.class()
    }
}

impl From<NetlinkError> for BatchError {
    fn from(error: NetlinkError) -> Self {
        Self { message: None, error }
    }
}

impl From<BatchError> for NetlinkError {
    fn from(failed: BatchError) -> Self {
        failed.error
    }
}

/// A failed exchange with the kernel.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// No answer in time.
    #[error("the kernel did not answer in time")]
    Timeout,
    /// Answers were lost.
    #[error("answers were lost, the receive buffer overflowed")]
    Overrun,
    /// A listing was interrupted by changes at every attempt.
    #[error("the table kept changing while it was read")]
    Unsteady,
    /// The answer cannot be read.
    #[error("unexpected answer of the kernel: {0}")]
    Parse(#[from] ParseError),
    /// A message or attribute exceeds what its length field can say.
    #[error("the message is too long for netlink")]
    TooLong,
    /// The kernel refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl NetlinkError {
    /// The class by which decisions are made. A subsystem with error numbers of
    /// its own looks at [`NetlinkError::Refused`] first.
    pub fn class(&self) -> OpErrorClass {
        match self {
            Self::Timeout | Self::Overrun | Self::Unsteady => OpErrorClass::Transient,
            Self::Parse(_) | Self::TooLong => OpErrorClass::Invalid,
            Self::Refused(refusal) => errno_class(refusal.errno),
            Self::Socket(error) => {
                error.raw_os_error().map_or(OpErrorClass::Transient, errno_class)
            }
        }
    }
}

/// The class of a generic (positive) error number.
pub fn errno_class(errno: i32) -> OpErrorClass {
    // RESTART: others changed nftables since its generation was read.
    const TRANSIENT: [i32; 3] =
        [Errno::NOBUFS.raw_os_error(), Errno::MFILE.raw_os_error(), Errno::RESTART.raw_os_error()];
    if TRANSIENT.contains(&errno) {
        return OpErrorClass::Transient;
    }
    match io::Error::from_raw_os_error(errno).kind() {
        io::ErrorKind::NotFound => OpErrorClass::NotFound,
        io::ErrorKind::AlreadyExists => OpErrorClass::Exists,
        io::ErrorKind::ResourceBusy => OpErrorClass::Busy,
        io::ErrorKind::PermissionDenied => OpErrorClass::Denied,
        io::ErrorKind::OutOfMemory
        | io::ErrorKind::Interrupted
        | io::ErrorKind::TimedOut
        | io::ErrorKind::WouldBlock => OpErrorClass::Transient,
        _ => OpErrorClass::Invalid,
    }
}

/// The system's words for a generic (positive) error number.
pub fn errno_text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_have_the_class_that_decisions_need() {
        for (errno, class) in [
            (Errno::NOENT, OpErrorClass::NotFound),
            (Errno::EXIST, OpErrorClass::Exists),
            (Errno::BUSY, OpErrorClass::Busy),
            (Errno::PERM, OpErrorClass::Denied),
            (Errno::ACCESS, OpErrorClass::Denied),
            (Errno::INVAL, OpErrorClass::Invalid),
            (Errno::NOMEM, OpErrorClass::Transient),
            (Errno::NOBUFS, OpErrorClass::Transient),
            (Errno::RESTART, OpErrorClass::Transient),
            (Errno::AGAIN, OpErrorClass::Transient),
        ] {
            assert_eq!(errno_class(errno.raw_os_error()), class, "{errno}");
        }
    }

    #[test]
    fn lost_answers_may_be_asked_for_again() {
        for error in [NetlinkError::Overrun, NetlinkError::Timeout, NetlinkError::Unsteady] {
            assert_eq!(error.class(), OpErrorClass::Transient);
        }
    }
}
