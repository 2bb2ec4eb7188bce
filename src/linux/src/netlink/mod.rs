//! The part of netlink that netfilter's subsystems speak: messages, their
//! parsing, and a socket that answers each request with a typed outcome.

mod error;
mod message;
pub(crate) mod parse;
mod socket;

pub use error::{BatchError, NetlinkError, ParseError, Refusal, errno_class, errno_text};
pub use message::{Message, MessageBuilder, Subsystem};
pub use parse::{Attribute, Attributes};
pub use socket::{Answer, NetfilterSocket};
