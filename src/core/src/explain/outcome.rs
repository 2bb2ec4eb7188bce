//! What an explanation tells.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{ObjectKey, Protocol, ServiceEndpoint};

/// Where a packet comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// It arrives on this interface.
    Interface(String),
    /// A process of the host sends it.
    Local,
}

/// The first packet of a would-be connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Client.
    pub source: IpAddr,
    /// The client's port, if it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Where it goes.
    pub destination: IpAddr,
    /// Its port there.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Where it comes from; absent: what the source address tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Every endpoint that may be chosen gets it, and its replies come back.
    Delivered,
    /// Some of the endpoints that may be chosen get it.
    PartlyDelivered,
    /// T13: it leaves with the external address of a Mapping.
    Egress,
    /// No Mapping concerns it; it is routed on.
    Passes,
    /// It goes to the host itself.
    Host,
    /// T2: silence.
    Refused,
    /// T6: a reset or port unreachable goes back.
    Answered,
    /// It, or its reply, is dropped or has no way.
    Dropped,
}

/// What keeps a packet from its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// No interface is an uplink.
    NoUplink,
    /// The kernel does not have the address family.
    FamilyOff,
    /// The interface that it arrives on is down.
    InterfaceDown,
    /// Its source is an address of this host.
    Martian,
    /// No Mapping allows its source.
    SourceRefused,
    /// A Mapping has the address, but not the port.
    PortNotMapped,
    /// No Mapping has the address, which is on an uplink of this host.
    AddressNotMapped,
    /// No uplink of this host has the address.
    AddressNotHere,
    /// The Mapping that has it lost against another one.
    Conflict,
    /// The Mapping that has it is wrong in itself.
    InvalidMapping,
    /// The Mapping that has it is being deleted.
    MappingDeleted,
    /// There is no such Service.
    NoService,
    /// The Service has no such port.
    NoServicePort,
    /// No endpoint takes new connections.
    NoEndpoint,
    /// Nothing leads to the endpoint.
    NoRouteToEndpoint,
    /// Nothing leads back to the client.
    NoReturnRoute,
    /// A rule or policy of others drops it.
    ForeignDrop,
    /// A rule of others translates it.
    ForeignTranslation,
    /// T4: nothing passes between uplinks and the rest.
    NoTransit,
    /// T4: it was we who switched forwarding on.
    ForwardingClosed,
    /// Nothing leads to its destination.
    NoRoute,
}

/// Where on its way a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The interface that it comes by.
    Arrival,
    /// The Mapping that has the external endpoint.
    Mapping,
    /// Allowed sources.
    Source,
    /// T3.
    Guard,
    /// Which endpoint.
    Endpoint,
    /// New destination and source.
    Translation,
    /// The way on.
    Route,
    /// Rules and policies of others.
    Others,
    /// The way of the reply.
    Return,
}

/// What a step comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// It goes on.
    Passes,
    /// It ends here.
    Stops,
    /// It may end here; what decides is not known.
    Perhaps,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub stage: Stage,
    /// What it comes to.
    pub progress: Progress,
    /// For people.
    pub text: String,
}

/// The way to one endpoint that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointWay {
    /// The endpoint.
    pub endpoint: ServiceEndpoint,
    /// Output interface; absent: none, or the endpoint is on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The source address that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The way of its replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyWay>,
    /// What keeps it from the endpoint, or the reply from the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Cause>,
}

/// How a reply reaches the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplyWay {
    /// Output interface; absent: the client is this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Next hop; absent: the client is on the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The address that the client sees.
    pub source: IpAddr,
}

/// The way of a packet and of its reply, and who is responsible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The packet, with where it comes from.
    pub packet: Question,
    /// What becomes of it.
    pub verdict: Verdict,
    /// One sentence that says why.
    pub summary: String,
    /// What keeps it from its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The Mapping responsible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<ObjectKey>,
    /// The field of it that decided, for example `spec.ports[2]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it.
    pub mend: Vec<String>,
    /// Step by step.
    pub steps: Vec<Step>,
    /// Every endpoint that chance may choose.
    pub endpoints: Vec<EndpointWay>,
    /// T13: the address and uplink that it leaves with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<ReplyWay>,
}

impl Explanation {
    /// Whether a Mapping takes it all the way: to any of its endpoints and back, or out by egress.
    pub fn is_delivered(&self) -> bool {
        matches!(self.verdict, Verdict::Delivered | Verdict::Egress)
    }
}
