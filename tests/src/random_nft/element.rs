//! Elements of sets and maps.

use std::net::IpAddr;

use smartnat_core::objects::nft::{
    NftData, NftElement, NftKey, NftSetSpec, NftType, NftValue, NftVerdict, fields,
};
use smartnat_core::ops::NftOp;

use super::{CHAINS, RandomNft};

const ADDRESSES: [&str; 6] =
    ["192.0.2.5", "192.0.2.200", "203.0.113.10", "203.0.113.11", "10.0.0.11", "10.0.0.12"];
const ADDRESSES_V6: [&str; 4] = ["2001:db8:c::5", "2001:db8:1::10", "fd00::11", "fd00::12"];
const PORTS: [u16; 5] = [80, 81, 99, 5000, 5001];
const PROTOCOLS: [u8; 3] = [6, 17, 132];
const MARKS: [u32; 4] = [0, 1, 2, 0x100];
const INTERFACES: [&str; 3] = ["ext1", "ext2", "eth0"];

/// Intervals that touch, overlap in part or lie in each other; no two begin or end alike.
const INTERVALS: [(&str, &str); 8] = [
    ("0.0.0.0", "9.255.255.255"),
    ("10.0.0.0", "10.0.0.11"),
    ("10.0.0.10", "10.0.0.20"),
    ("10.0.0.12", "10.0.0.12"),
    ("192.0.2.0", "192.0.2.127"),
    ("192.0.2.5", "192.0.2.6"),
    ("192.0.2.128", "192.0.2.255"),
    ("203.0.113.10", "255.255.255.255"),
];
const INTERVALS_V6: [(&str, &str); 5] = [
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:1::10"),
    ("2001:db8:1::", "2001:db8:f::"),
    ("2001:db8:c::5", "2001:db8:c::5"),
    ("fd00::10", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
];
/// None of them encloses another: a set of several fields lets that pass.
const PORT_RANGES: [(u16, u16); 5] = [(0, 79), (80, 90), (85, 100), (95, 5000), (5001, 65_535)];

impl RandomNft {
    pub(super) fn add_element(&mut self) -> NftOp {
        let (set, spec) = self.set();
        let (key, mut value) = (self.key(&spec), self.value(&spec.data));
        if !self.tame && self.one_in(30) {
            let (_, other) = self.set();
            value = self.value(&other.data);
        }
        let comment = self.one_in(8).then(|| "a comment".into());
        self.added.push((set.clone(), key.clone()));
        NftOp::AddElement { set, key, element: NftElement { value, comment } }
    }

    /// Mostly one that was added, and may have been deleted since.
    pub(super) fn delete_element(&mut self) -> NftOp {
        if !self.added.is_empty() && !self.one_in(4) {
            let (set, key) = self.added.swap_remove(self.rng.usize(0..self.added.len()));
            return NftOp::DeleteElement { set, key };
        }
        let (set, spec) = self.set();
        NftOp::DeleteElement { set, key: self.key(&spec) }
    }

    fn key(&mut self, spec: &NftSetSpec) -> NftKey {
        let mut key = if spec.interval {
            let (first, last) = self.interval(&spec.key);
            // One field's begins and ends are elements of their own.
            let reversed = spec.key.len() > 1 && !self.tame && self.one_in(10);
            if reversed { NftKey::interval(last, first) } else { NftKey::interval(first, last) }
        } else {
            NftKey::exact(self.fields(&spec.key))
        };
        if !self.tame && self.one_in(30) {
            key.first = [&key.first[..], &[0; 4]].concat().into();
        }
        key
    }

    /// First and last of one field, or of the ports beside others that are single ones.
    fn interval(&mut self, types: &[NftType]) -> (Vec<u8>, Vec<u8>) {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for kind in types {
            let (low, high) = match kind {
                NftType::Port => {
                    let (low, high) = self.pick(&PORT_RANGES);
                    (low.to_be_bytes().to_vec(), high.to_be_bytes().to_vec())
                }
                NftType::Ipv4 | NftType::Ipv6 if types.len() == 1 => {
                    let v4 = *kind == NftType::Ipv4;
                    let pool = if v4 { &INTERVALS[..] } else { &INTERVALS_V6 };
                    let (low, high) = self.pick(pool);
                    (address(low), address(high))
                }
                _ => {
                    let single = self.field(*kind);
                    (single.clone(), single)
                }
            };
            first.extend(fields::join([&low]));
            last.extend(fields::join([&high]));
        }
        (first, last)
    }

    fn value(&mut self, data: &NftData) -> NftValue {
        match data {
            NftData::Nothing => NftValue::Nothing,
            NftData::Values(types) => NftValue::Bytes(self.fields(types).into()),
            NftData::Verdict => NftValue::Verdict(match self.rng.u8(0..8) {
                0 => NftVerdict::Accept,
                1 => NftVerdict::Drop,
                2 => NftVerdict::Return,
                3 => NftVerdict::Continue,
                4 => NftVerdict::Jump(self.pick(&CHAINS).into()),
                5 if !self.tame => NftVerdict::Goto(self.any_chain()),
                _ => NftVerdict::Goto(self.pick(&CHAINS).into()),
            }),
        }
    }

    /// A key or a value.
    fn fields(&mut self, types: &[NftType]) -> Vec<u8> {
        types.iter().flat_map(|kind| fields::join([&self.field(*kind)]).into_vec()).collect()
    }

    /// One that packets have, or the first or last that there is.
    pub(super) fn field(&mut self, kind: NftType) -> Vec<u8> {
        if !self.tame && self.one_in(12) {
            let edge = self.pick(&[0, u8::MAX]);
            return vec![edge; kind.size()];
        }
        match kind {
            NftType::Ipv4 => address(self.pick(&ADDRESSES)),
            NftType::Ipv6 => address(self.pick(&ADDRESSES_V6)),
            NftType::Protocol => vec![self.pick(&PROTOCOLS)],
            NftType::Port => self.pick(&PORTS).to_be_bytes().into(),
            NftType::Mark => self.pick(&MARKS).to_ne_bytes().into(),
            NftType::InterfaceName => fields::interface(self.pick(&INTERFACES)).into(),
            NftType::Unknown(_) => Vec::new(),
        }
    }
}

fn address(text: &str) -> Vec<u8> {
    fields::address(text.parse::<IpAddr>().expect("a constant address"))
}
