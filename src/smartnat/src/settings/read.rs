//! Reads values of one type each, and collects what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use smartnat_core::model::UplinkGateway;

use super::catalogue::Setting;
use super::layer::{Given, Layer};
use super::problem::Problem;

/// True or false, in the spellings that people and the Go version use.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Longest interface name (`IFNAMSIZ` less its NUL).
const MAX_INTERFACE_NAME: usize = 15;

fn is_interface(name: &str) -> bool {
    (1..=MAX_INTERFACE_NAME).contains(&name.len())
        && !name.contains(|c: char| c.is_whitespace() || c == '/')
        && name != "."
        && name != ".."
}

/// Reads typed values out of a layer.
pub(super) struct Reader<'a> {
    layer: &'a Layer,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layer: &'a Layer, problems: &'a mut Vec<Problem>) -> Self {
        Self { layer, problems }
    }

    fn refuse(&mut self, key: &str, given: &Given, value: &str) {
        let allowed = Setting::of(key).map_or("", |setting| setting.allowed);
        self.problems.push(Problem::value(&given.origin, value, format!("allowed: {allowed}")));
    }

    /// The value that `parse` makes of the text.
    fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let given = self.layer.get(key)?;
        let text = given.values.last()?.trim();
        let value = parse(text);
        if value.is_none() {
            self.refuse(key, given, text);
        }
        value
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        self.parsed(key, boolean)
    }

    /// A DNS label (RFC 1123).
    pub(super) fn namespace(&mut self, key: &str) -> Option<String> {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        self.parsed(key, |text| {
            let edges = !text.starts_with('-') && !text.ends_with('-');
            let good = (1..=63).contains(&text.len()) && text.bytes().all(inner) && edges;
            good.then(|| text.to_owned())
        })
    }

    pub(super) fn number<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        self.parsed(key, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// A whole number other than 0.
    pub(super) fn offset(&mut self, key: &str) -> Option<i32> {
        self.parsed(key, |text| text.parse().ok().filter(|number| *number != 0))
    }

    /// A 32-bit number, hexadecimal with `0x`.
    pub(super) fn mask(&mut self, key: &str, bits: u32) -> Option<u32> {
        self.parsed(key, |text| {
            let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            };
            number.filter(|mask: &u32| mask.count_ones() >= bits)
        })
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, v)| *v)
        })
    }

    pub(super) fn pattern(&mut self, key: &str) -> Option<String> {
        let given = self.layer.get(key)?;
        let text = given.values.last()?;
        match regex_lite::Regex::new(text) {
            Ok(_) => Some(text.clone()),
            Err(error) => {
                let allowed = Setting::of(key).map_or("", |setting| setting.allowed);
                self.problems.push(Problem::value(
                    &given.origin,
                    text,
                    format!("{error}; allowed: {allowed}"),
                ));
                None
            }
        }
    }

    pub(super) fn name(&mut self, key: &str) -> Option<String> {
        self.parsed(key, |text| {
            let fits = (1..=253).contains(&text.len()) && !text.contains(char::is_whitespace);
            fits.then(|| text.to_owned())
        })
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.parsed(key, |text| (!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// An address to listen on; nothing and `::` mean all of both families.
    pub(super) fn listen_address(&mut self, key: &str) -> Option<IpAddr> {
        self.parsed(key, |text| {
            if text.is_empty() {
                return Some(Ipv6Addr::UNSPECIFIED.into());
            }
            text.parse::<IpAddr>().ok().filter(|address| !address.is_multicast())
        })
    }

    pub(super) fn interface(&mut self, key: &str) -> Option<String> {
        self.parsed(key, |text| is_interface(text).then(|| text.to_owned()))
    }

    pub(super) fn interfaces(&mut self, key: &str) -> Vec<String> {
        let Some(given) = self.layer.get(key) else { return Vec::new() };
        let mut names: Vec<String> = Vec::new();
        for name in &given.values {
            if !is_interface(name) {
                self.refuse(key, given, name);
            } else if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    pub(super) fn gateways(&mut self, key: &str) -> BTreeMap<String, UplinkGateway> {
        let mut gateways: BTreeMap<String, UplinkGateway> = BTreeMap::new();
        let Some(given) = self.layer.get(key) else { return gateways };
        for pair in &given.values {
            let Some((interface, address)) = interface_and_address(pair) else {
                self.refuse(key, given, pair);
                continue;
            };
            let entry = gateways.entry(interface.to_owned()).or_default();
            let slot = if address.is_ipv4() { &mut entry.ipv4 } else { &mut entry.ipv6 };
            if slot.is_some_and(|other| other != address) {
                self.refuse(key, given, pair);
            } else {
                *slot = Some(address);
            }
        }
        gateways
    }
}

fn interface_and_address(pair: &str) -> Option<(&str, IpAddr)> {
    let (interface, address) = pair.split_once('=')?;
    let (interface, address) = (interface.trim(), address.trim().parse::<IpAddr>().ok()?);
    let unicast = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    (unicast && is_interface(interface)).then_some((interface, address))
}
