//! A rule from the arguments that `iptables-save` prints.

mod matches;
mod target;

use std::net::IpAddr;

use ipnet::IpNet;

use super::{canonical, words};
use crate::model::{Family, Protocol};
use crate::objects::{InterfaceMatch, L4Match, XtRule};

/// A rule from its arguments (without `-A CHAIN`), in [`canonical`] form. `None` for what no rule
/// of ours can say. `is_chain` tells whether a target is a user-defined chain of the table.
pub fn parse_rule(family: Family, text: &str, is_chain: impl Fn(&str) -> bool) -> Option<XtRule> {
    // Nothing of ours has other characters, and rendering could not give them back.
    if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return None;
    }
    let words = words::split(text)?;
    let mut words = Words { words: &words, family };
    let mut source = None;
    let mut destination = None;
    let mut in_interface = None;
    let mut out_interface = None;
    let mut protocol = None;
    let mut found = Vec::new();
    loop {
        let negated = words.take("!");
        match (words.next()?, negated) {
            ("-s", false) => set_once(&mut source, words.network()?)?,
            ("-d", false) => set_once(&mut destination, words.network()?)?,
            ("-i", _) => set_once(&mut in_interface, words.interface(negated)?)?,
            ("-o", _) => set_once(&mut out_interface, words.interface(negated)?)?,
            ("-p", false) => set_once(&mut protocol, words.protocol()?)?,
            ("-m", false) => matches::parse(&mut words, protocol, &mut found)?,
            ("-j", false) => {
                let target = target::parse(&mut words, is_chain)?;
                let rule = XtRule {
                    source,
                    destination,
                    in_interface,
                    out_interface,
                    protocol,
                    matches: found,
                    target,
                };
                return words.words.is_empty().then(|| canonical(&rule));
            }
            _ => return None,
        }
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// What is left of the arguments.
struct Words<'a> {
    words: &'a [String],
    family: Family,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.first().is_some_and(|w| w == word);
        if is_next {
            self.next();
        }
        is_next
    }

    /// The next word if it is this one, else nothing.
    fn expect(&mut self, word: &str) -> Option<()> {
        self.take(word).then_some(())
    }

    /// The next long option of a match or target with its negation; `None` at the end of them.
    fn long_option(&mut self) -> Option<(bool, &'a str)> {
        let negated = self.words.first().is_some_and(|w| w == "!");
        let option = self.words.get(usize::from(negated))?;
        if !option.starts_with("--") {
            return None;
        }
        if negated {
            self.next();
        }
        self.next().map(|option| (negated, option))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.next()?.parse().ok()
    }

    fn address(&self, text: &str) -> Option<IpAddr> {
        text.parse().ok().filter(|a| Family::of(a) == self.family)
    }

    fn network(&mut self) -> Option<IpNet> {
        let text = self.next()?;
        let network = match text.split_once('/') {
            None => self.address(text)?.into(),
            Some((address, length)) => {
                IpNet::new(self.address(address)?, length.parse().ok()?).ok()?
            }
        };
        Some(network)
    }

    fn interface(&mut self, negated: bool) -> Option<InterfaceMatch> {
        let name = self.next()?.to_owned();
        // A trailing `+` is a prefix, not a name.
        (!name.is_empty() && !name.ends_with('+')).then_some(InterfaceMatch { name, negated })
    }

    fn protocol(&mut self) -> Option<L4Match> {
        match (self.next()?, self.family) {
            ("icmp", Family::V4) | ("ipv6-icmp" | "icmpv6", Family::V6) => Some(L4Match::Icmp),
            (name, _) => {
                let protocol = Protocol::ALL.into_iter().find(|p| p.name() == name)?;
                Some(L4Match::Transport(protocol))
            }
        }
    }

    /// `VALUE[/MASK]`, decimal or hexadecimal.
    fn mark(&mut self) -> Option<(u32, u32)> {
        let text = self.next()?;
        match text.split_once('/') {
            None => Some((mark_number(text)?, u32::MAX)),
            Some((value, mask)) => Some((mark_number(value)?, mark_number(mask)?)),
        }
    }

    /// A mark alone.
    fn mask(&mut self) -> Option<u32> {
        mark_number(self.next()?)
    }
}

fn mark_number(text: &str) -> Option<u32> {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
}
