//! Why a lab could not be built or used.

use std::io;

use smartnat_sim::topology::TopologyError;
use thiserror::Error;

/// Why a lab could not be built or used.
#[derive(Debug, Error)]
pub enum LabError {
    /// Not root.
    #[error("network namespaces need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")]
    Unprivileged,
    /// No program `ip`.
    #[error("the program ip (package iproute2) is not there")]
    NoIproute2,
    /// The description is wrong.
    #[error("the topology is wrong: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Topology(Vec<TopologyError>),
    /// No host of the name.
    #[error("the lab has no host {0}")]
    UnknownHost(String),
    /// A namespace could not be made or entered.
    #[error("network namespace {0}: {1}")]
    Namespace(String, netns_rs::Error),
    /// No thread could be started.
    #[error("no thread: {0}")]
    Thread(io::Error),
    /// An empty command.
    #[error("no program named")]
    NoProgram,
    /// A program could not be started.
    #[error("{0}: {1}")]
    Program(String, io::Error),
    /// A program failed.
    #[error("on {host}: {command}: {message}")]
    Failed {
        /// Where it ran.
        host: String,
        /// What ran.
        command: String,
        /// What it said.
        message: String,
    },
    /// A sysctl could not be set or read.
    #[error("sysctl {0}: {1}")]
    Sysctl(String, io::Error),
    /// A link did not come up.
    #[error("on {host}: still not up: {link}")]
    LinkDown {
        /// The host.
        host: String,
        /// What `ip` says of the link or address.
        link: String,
    },
    /// A socket could not be made.
    #[error("on {host}: socket {what}: {error}")]
    Socket {
        /// The host.
        host: String,
        /// Protocol and address.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
}
