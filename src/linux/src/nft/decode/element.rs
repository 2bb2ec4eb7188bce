//! Elements of sets and maps.

use std::collections::BTreeMap;

use smartnat_core::objects::nft::{NftElement, NftKey, NftSetSpec, NftValue};

use super::{comment, find, value, verdict};
use crate::netlink::{Attribute, Attributes, ParseError};
use crate::nft::ElementCounter;
use crate::nft::protocol::{counter, element as attribute, elements, expression};
use crate::nft::types;

/// The elements of a set as a listing builds them up, message by message.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    told: Vec<Told>,
}

/// What is told of an element.
#[derive(Debug)]
struct Told {
    key: Box<[u8]>,
    key_end: Option<Box<[u8]>>,
    flags: u32,
    element: NftElement,
    /// Packets and bytes that matched it, where it counts.
    counted: Option<(u64, u64)>,
}

impl Told {
    fn is_end(&self) -> bool {
        self.flags & attribute::INTERVAL_END != 0
    }

    fn is_for_all_others(&self) -> bool {
        self.flags & attribute::CATCH_ALL != 0
    }
}

impl Elements {
    /// Takes in one message of the listing.
    pub(crate) fn add(&mut self, attributes: Attributes<'_>) -> Result<(), ParseError> {
        for list in attributes {
            let list = list?;
            if list.kind == elements::LIST {
                for item in list.nested() {
                    self.told.push(element(item?.nested())?);
                }
            }
        }
        Ok(())
    }

    /// The elements of a set of this shape. The one for all keys that have none of their own has
    /// an empty key. `None` where an element was told twice: while a hash table grows, which
    /// it goes on to do after a change, the kernel tells of some twice and of as many not at all,
    /// since it remembers how many it told, not which (`nft_rhash_walk`).
    pub(crate) fn finish(self, spec: &NftSetSpec) -> Option<BTreeMap<NftKey, NftElement>> {
        let told = self.told.len();
        let ends = self.told.iter().filter(|told| told.is_end()).count();
        let elements = self.elements(spec);
        (elements.len() == told - ends).then_some(elements)
    }

    /// What the elements of a set without intervals have counted. `None` likewise.
    pub(crate) fn counters(self) -> Option<Vec<ElementCounter>> {
        let counter = |told: Told| {
            let (packets, bytes) = told.counted?;
            let key = types::padded(&told.key);
            Some(ElementCounter { key, value: told.element.value, packets, bytes })
        };
        let mut counters: Vec<ElementCounter> = self.told.into_iter().filter_map(counter).collect();
        counters.sort_by(|a, b| a.key.cmp(&b.key));
        counters.is_sorted_by(|a, b| a.key < b.key).then_some(counters)
    }

    fn elements(self, spec: &NftSetSpec) -> BTreeMap<NftKey, NftElement> {
        let (others, told): (Vec<_>, Vec<_>) =
            self.told.into_iter().partition(Told::is_for_all_others);
        let for_all_others = others.into_iter().map(|t| (NftKey::exact([]), t.element));
        if spec.interval && spec.key.len() == 1 {
            return intervals(told).chain(for_all_others).collect();
        }
        let element = |told: Told| {
            let first = types::padded(&told.key);
            let last = told.key_end.as_deref().map(types::padded);
            // The kernel tells no end of a key that is its own.
            let last = if spec.interval { last.or_else(|| Some(first.clone())) } else { None };
            (NftKey { first, last }, told.element)
        };
        told.into_iter().map(element).chain(for_all_others).collect()
    }
}

/// Intervals from their begins and ends, which the kernel keeps apart. An end that follows no begin
/// ends nothing: nft puts one before the first interval.
fn intervals(mut told: Vec<Told>) -> impl Iterator<Item = (NftKey, NftElement)> {
    // Where one interval ends another may begin.
    told.sort_by(|a, b| (&a.key, !a.is_end()).cmp(&(&b.key, !b.is_end())));
    let ends: Vec<Box<[u8]>> = (1..=told.len())
        .map(|next| {
            let next = told.get(next).and_then(|end| before(&end.key));
            // Without anything after it, it goes on to the last key.
            next.unwrap_or_else(|| vec![u8::MAX; told.last().map_or(0, |t| t.key.len())].into())
        })
        .collect();
    let begins = told.into_iter().zip(ends).filter(|(begin, _)| !begin.is_end());
    begins.map(|(begin, last)| {
        let key = NftKey { first: types::padded(&begin.key), last: Some(types::padded(&last)) };
        (key, begin.element)
    })
}

/// The key before; `None` before the first one, whose bytes are all zeros.
fn before(key: &[u8]) -> Option<Box<[u8]>> {
    let mut previous: Box<[u8]> = key.into();
    for byte in previous.iter_mut().rev() {
        let (difference, borrowed) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrowed {
            return Some(previous);
        }
    }
    None
}

fn element(attributes: Attributes<'_>) -> Result<Told, ParseError> {
    let mut told = Told {
        key: Box::default(),
        key_end: None,
        flags: 0,
        element: NftElement { value: NftValue::Nothing, comment: None },
        counted: None,
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            attribute::KEY => told.key = value(&attribute)?.unwrap_or_default().into(),
            attribute::KEY_END => told.key_end = value(&attribute)?.map(Into::into),
            attribute::FLAGS => told.flags = attribute.be32()?,
            attribute::DATA => {
                if let Some(bytes) = value(&attribute)? {
                    told.element.value = NftValue::Bytes(types::padded(bytes));
                } else if let Some(verdict) = verdict(&attribute)? {
                    told.element.value = NftValue::Verdict(verdict);
                }
            }
            attribute::USERDATA => told.element.comment = comment(attribute.value).map(Into::into),
            attribute::EXPRESSION => told.counted = told.counted.or(counted(&attribute)?),
            attribute::EXPRESSIONS => {
                for item in attribute.nested() {
                    told.counted = told.counted.or(counted(&item?)?);
                }
            }
            _ => {}
        }
    }
    Ok(told)
}

/// Packets and bytes of a counter; `None` for any other expression.
fn counted(expression: &Attribute<'_>) -> Result<Option<(u64, u64)>, ParseError> {
    let name = find(expression.nested(), expression::NAME)?;
    let data = find(expression.nested(), expression::DATA)?;
    let Some(data) = data.filter(|_| name.is_some_and(|name| name.text() == "counter")) else {
        return Ok(None);
    };
    let number = |kind| find(data.nested(), kind)?.map_or(Ok(0), |number| number.be64());
    Ok(Some((number(counter::PACKETS)?, number(counter::BYTES)?)))
}
