//! A rule of others, understood as far as addresses, interfaces, ports and states go.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::xtables_text::split_words;

/// A rule as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForeignRule {
    pub(super) conditions: Vec<(bool, Condition)>,
    pub(super) target: Target,
}

/// What a rule asks for; the flag beside it says whether it is negated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Source(IpNet),
    Destination(IpNet),
    Input(String),
    Output(String),
    Protocol(String),
    SourcePorts(Vec<(u16, u16)>),
    Ports(Vec<(u16, u16)>),
    States(Vec<String>),
    Syn,
    Reply(bool),
    /// What cannot be evaluated.
    Unknown,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Accept,
    Drop,
    Return,
    Translate,
    /// The packet goes on.
    Continue,
    Jump(String),
    Goto(String),
    Unknown,
}

/// Targets after which a packet goes on unhindered.
const PASSING: [&str; 17] = [
    "LOG",
    "NFLOG",
    "ULOG",
    "MARK",
    "CONNMARK",
    "SET",
    "TCPMSS",
    "TOS",
    "DSCP",
    "TTL",
    "HL",
    "TRACE",
    "CLASSIFY",
    "CHECKSUM",
    "SECMARK",
    "CONNSECMARK",
    "RATEEST",
];

impl ForeignRule {
    /// Reads a rule as `iptables-save` prints it, without its chain.
    pub(super) fn parse(text: &str) -> Self {
        let Some(words) = split_words(text) else {
            return Self { conditions: vec![(false, Condition::Unknown)], target: Target::Unknown };
        };
        let mut rule = Self { conditions: Vec::new(), target: Target::Continue };
        let mut words = words.iter().map(String::as_str).peekable();
        let mut negated = false;
        while let Some(word) = words.next() {
            match word {
                "!" => {
                    negated = true;
                    continue;
                }
                "-j" | "-g" => {
                    rule.target = target(word == "-g", words.next().unwrap_or_default());
                    return rule;
                }
                "-m" | "--comment" => {
                    words.next();
                }
                "--tcp-flags" => {
                    let flags = (words.next(), words.next());
                    let syn = flags == (Some("FIN,SYN,RST,ACK"), Some("SYN"));
                    rule.conditions
                        .push((negated, if syn { Condition::Syn } else { Condition::Unknown }));
                }
                option => {
                    let value = words.next_if(|next| !next.starts_with('-') && *next != "!");
                    let known = value.and_then(|value| condition(option, value));
                    rule.conditions.push((negated, known.unwrap_or(Condition::Unknown)));
                    // An option that is not understood may have several values.
                    while words.next_if(|next| !next.starts_with('-') && *next != "!").is_some() {}
                }
            }
            negated = false;
        }
        rule
    }
}

fn target(goto: bool, name: &str) -> Target {
    match name {
        "ACCEPT" => Target::Accept,
        "DROP" | "REJECT" => Target::Drop,
        "RETURN" => Target::Return,
        "DNAT" | "REDIRECT" | "NETMAP" | "SNAT" | "MASQUERADE" => Target::Translate,
        "NFQUEUE" | "QUEUE" | "TPROXY" | "CT" | "NOTRACK" | "SYNPROXY" => Target::Unknown,
        name if PASSING.contains(&name) => Target::Continue,
        name if goto => Target::Goto(name.to_owned()),
        name => Target::Jump(name.to_owned()),
    }
}

fn condition(option: &str, value: &str) -> Option<Condition> {
    Some(match option {
        "-s" => Condition::Source(network(value)?),
        "-d" => Condition::Destination(network(value)?),
        "-i" => Condition::Input(value.to_owned()),
        "-o" => Condition::Output(value.to_owned()),
        "-p" => Condition::Protocol(value.to_owned()),
        "--sport" | "--sports" => Condition::SourcePorts(ports(value)?),
        "--dport" | "--dports" => Condition::Ports(ports(value)?),
        "--ctstate" | "--state" => Condition::States(value.split(',').map(str::to_owned).collect()),
        "--ctdir" => Condition::Reply(value == "REPLY"),
        _ => return None,
    })
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn ports(text: &str) -> Option<Vec<(u16, u16)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.split(',').map(range).collect()
}
