//! Sets and maps of nftables: what a kernel takes, and what it finds.

use std::collections::BTreeMap;

use smartnat_core::model::Timestamp;
use smartnat_core::objects::nft::{
    NftData, NftElement, NftKey, NftName, NftRule, NftSet, NftSetSpec, NftType, NftValue,
};

use super::References;

/// `NFT_DATA_VALUE_MAXLEN`: bytes of a key.
const MAX_KEY: usize = 64;

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldElement {
    /// What it carries.
    pub element: NftElement,
    /// When it expires, if it does.
    pub expires: Option<Timestamp>,
    /// Packets that found it, where the set counts; bytes are not modelled.
    pub packets: u64,
}

/// A set or map as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSet {
    spec: NftSetSpec,
    elements: BTreeMap<NftKey, HeldElement>,
    /// Chains that its verdicts lead to.
    pub(super) targets: References<NftName>,
}

/// Why an element is refused.
#[derive(Clone, Copy)]
pub(super) enum Problem {
    Exists(&'static str),
    NotFound(&'static str),
    Invalid(&'static str),
}

/// What a look-up by a key found of which some bits are not known.
#[derive(Debug)]
pub(crate) enum Sought<'s> {
    /// This element.
    Found(&'s HeldElement),
    /// None, whatever the unknown bits are.
    Nothing,
    /// The unknown bits decide.
    Unclear,
}

/// A key of which some bits may be unknown: those that are 0 in `known`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartialKey<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) known: &'a [u8],
}

impl PartialKey<'_> {
    fn is_known(&self) -> bool {
        self.known.iter().all(|byte| *byte == u8::MAX)
    }

    fn part(&self, from: usize, to: usize) -> Self {
        Self { bytes: &self.bytes[from..to], known: &self.known[from..to] }
    }

    /// Whether it may be this key.
    pub(crate) fn may_be(&self, key: &[u8]) -> bool {
        self.bytes.iter().zip(self.known).zip(key).all(|((a, known), b)| (a ^ b) & known == 0)
    }
}

fn padded(types: &[NftType]) -> usize {
    types.iter().map(|kind| kind.size().next_multiple_of(4)).sum()
}

/// Refuses what the kernel refuses of a set, and types whose size is not known.
pub(super) fn check_spec(spec: &NftSetSpec) -> Result<(), &'static str> {
    let values: &[NftType] = match &spec.data {
        NftData::Values(types) => types,
        NftData::Nothing | NftData::Verdict => &[],
    };
    if spec.key.iter().chain(values).any(|kind| kind.size() == 0) {
        return Err("a type of unknown size is not modelled");
    }
    let no_values = matches!(&spec.data, NftData::Values(types) if types.is_empty());
    if spec.key.is_empty() || no_values {
        return Err("keys and values have at least one field");
    }
    if padded(&spec.key) > MAX_KEY || padded(values) > MAX_KEY {
        return Err("keys and values have at most 64 bytes");
    }
    if spec.interval && spec.dynamic {
        return Err("rules can't add intervals");
    }
    if spec.timeout.is_some() && spec.data == NftData::Verdict {
        return Err("verdicts that expire are not modelled");
    }
    if spec.size == Some(0) {
        return Err("size 0 is not modelled");
    }
    Ok(())
}

impl HeldSet {
    pub(super) fn new(spec: NftSetSpec) -> Self {
        Self { spec, elements: BTreeMap::new(), targets: References::new() }
    }

    /// What it was created with.
    pub fn spec(&self) -> &NftSetSpec {
        &self.spec
    }

    /// Its elements, with those that were added at run time.
    pub fn elements(&self) -> impl Iterator<Item = (&NftKey, &HeldElement)> {
        self.elements.iter()
    }

    /// Bytes of a key.
    pub(crate) fn key_length(&self) -> usize {
        padded(&self.spec.key)
    }

    /// Bytes of a value; 0 where there is none.
    pub(crate) fn value_length(&self) -> usize {
        match &self.spec.data {
            NftData::Values(types) => padded(types),
            NftData::Nothing | NftData::Verdict => 0,
        }
    }

    /// Without elements that come and go at run time.
    pub(super) fn observe(&self) -> NftSet {
        let elements = match self.spec.timeout {
            Some(_) => BTreeMap::new(),
            None => self.elements.iter().map(|(k, e)| (k.clone(), e.element.clone())).collect(),
        };
        NftSet { spec: self.spec.clone(), elements }
    }

    /// Puts an element in or takes it out; returns what was there.
    pub(crate) fn swap(&mut self, key: &NftKey, new: Option<HeldElement>) -> Option<HeldElement> {
        if let Some(chain) = new.as_ref().and_then(target) {
            self.targets.add(chain);
        }
        let old = match new {
            Some(new) => self.elements.insert(key.clone(), new),
            None => self.elements.remove(key),
        };
        if let Some(chain) = old.as_ref().and_then(target) {
            self.targets.remove(chain);
        }
        old
    }

    /// The living element of exactly this key.
    pub(crate) fn held(&self, key: &NftKey, now: Timestamp) -> Option<&HeldElement> {
        self.elements.get(key).filter(|held| lives(held, now))
    }

    /// When an element that is added now expires, unless it has a timeout of its own.
    pub(crate) fn expiry(&self, now: Timestamp, own_millis: Option<u64>) -> Option<Timestamp> {
        let of_set = self.spec.timeout.map(|seconds| u64::from(seconds) * 1000);
        own_millis.or(of_set).filter(|millis| *millis > 0).map(|millis| now.plus_millis(millis))
    }

    /// Whether one more element fits.
    pub(crate) fn has_room(&self) -> bool {
        self.spec.size.is_none_or(|size| self.elements.len() < size as usize)
    }

    /// Whether the element, whose form was checked, can be added: `Ok(false)` where an equal one is there already
    /// (`nft_add_set_elem`; its comment and its timeout stay as they are).
    pub(super) fn check(
        &self,
        key: &NftKey,
        element: &NftElement,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        if let Some(held) = self.held(key, now) {
            if held.element.value == element.value {
                return Ok(false);
            }
            return Err(Problem::Exists("an element of that key has another value"));
        }
        if self.spec.interval && self.overlaps(key, now) {
            return Err(Problem::Exists("interval overlaps with an existing one"));
        }
        if !self.is_ordered(key) {
            return Err(Problem::Invalid("an interval ends before it begins"));
        }
        if !self.has_room() {
            // ENFILE.
            return Err(Problem::Invalid("the set is full"));
        }
        Ok(true)
    }

    /// Whether key and value are of the set's sort.
    pub(super) fn check_form(
        &self,
        key: &NftKey,
        element: &NftElement,
    ) -> Result<(), &'static str> {
        self.check_key(key)?;
        let fits = match (&self.spec.data, &element.value) {
            (NftData::Nothing, NftValue::Nothing) | (NftData::Verdict, NftValue::Verdict(_)) => {
                true
            }
            (NftData::Values(types), NftValue::Bytes(bytes)) => bytes.len() == padded(types),
            _ => false,
        };
        if !fits {
            return Err("its value is none of the set's");
        }
        if element.comment.as_ref().is_some_and(|text| text.len() > NftRule::MAX_COMMENT) {
            return Err("a comment has at most 127 bytes");
        }
        Ok(())
    }

    fn check_key(&self, key: &NftKey) -> Result<(), &'static str> {
        let right = |bytes: &[u8]| bytes.len() == self.key_length();
        if !right(&key.first) || !key.last.as_deref().is_none_or(right) {
            return Err("the key has not the length of the set's keys");
        }
        match (&key.last, self.spec.interval) {
            (None, false) | (Some(_), true) => Ok(()),
            (Some(_), false) => Err("the set has no intervals"),
            (None, true) => Err("the set has intervals"),
        }
    }

    fn is_ordered(&self, key: &NftKey) -> bool {
        let ordered = |last: &[u8]| {
            self.field_bounds().all(|(from, to)| key.first[from..to] <= last[from..to])
        };
        key.last.as_deref().is_none_or(ordered)
    }

    /// First byte and end of each field of a key.
    fn field_bounds(&self) -> impl Iterator<Item = (usize, usize)> {
        self.spec.key.iter().scan(0, |at, kind| {
            let from = *at;
            *at += kind.size().next_multiple_of(4);
            Some((from, *at))
        })
    }

    /// The kernel lets an interval pass that encloses another one in a set of several fields
    /// (pipapo), or ends with it (rbtree); which of the two a packet finds is not modelled.
    fn overlaps(&self, key: &NftKey, now: Timestamp) -> bool {
        let Some(last) = &key.last else { return false };
        self.elements.iter().filter(|(_, held)| lives(held, now)).any(|(other, _)| {
            let Some(other_last) = &other.last else { return false };
            self.field_bounds().all(|(from, to)| {
                key.first[from..to] <= other_last[from..to]
                    && other.first[from..to] <= last[from..to]
            })
        })
    }

    /// The key of the element that a deletion by `key` meets: of several fields the one that
    /// holds the first key of the interval, wherever it ends (`nft_pipapo_deactivate`).
    pub(super) fn deleted_by(&self, key: &NftKey, now: Timestamp) -> Result<NftKey, Problem> {
        self.check_key(key).map_err(Problem::Invalid)?;
        let alive = |(_, held): &(&NftKey, &HeldElement)| lives(held, now);
        let found = if self.spec.interval && self.spec.key.len() > 1 {
            let wanted = PartialKey { bytes: &key.first, known: &vec![u8::MAX; key.first.len()] };
            self.elements.iter().filter(alive).find(|(held, _)| self.encloses(held, wanted))
        } else {
            self.elements.get_key_value(key).filter(alive)
        };
        found.map(|(key, _)| key.clone()).ok_or(Problem::NotFound("no such element"))
    }

    /// The element that a packet's key finds.
    pub(crate) fn seek(&self, key: PartialKey<'_>, now: Timestamp) -> Sought<'_> {
        if key.is_known() && !self.spec.interval {
            let found = self.held(&NftKey::exact(key.bytes), now);
            return found.map_or(Sought::Nothing, Sought::Found);
        }
        let mut candidates = self
            .elements
            .iter()
            .filter(|(held, element)| lives(element, now) && self.encloses(held, key));
        match candidates.next() {
            None => Sought::Nothing,
            Some((_, found)) if key.is_known() => Sought::Found(found),
            Some(_) => Sought::Unclear,
        }
    }

    /// The element that a packet's key finds, if any, counts it (`nft_set_elem_update_expr`).
    pub(crate) fn count(&mut self, key: PartialKey<'_>, now: Timestamp) {
        if !key.is_known() {
            return;
        }
        let found = if self.spec.interval {
            let mut alive = self.elements.iter().filter(|(_, held)| lives(held, now));
            alive.find(|(held, _)| self.encloses(held, key)).map(|(held, _)| held.clone())
        } else {
            Some(NftKey::exact(key.bytes))
        };
        if let Some(held) = found.and_then(|key| self.elements.get_mut(&key)) {
            held.packets += 1;
        }
    }

    /// Whether a key is an element's, as far as is known.
    fn encloses(&self, element: &NftKey, key: PartialKey<'_>) -> bool {
        self.field_bounds().all(|(from, to)| {
            let part = key.part(from, to);
            let first = &element.first[from..to];
            match &element.last {
                None => part.may_be(first),
                Some(_) if !part.is_known() => true,
                Some(last) => first <= part.bytes && part.bytes <= &last[from..to],
            }
        })
    }

    /// Drops the elements whose time has come.
    pub(super) fn expire(&mut self, now: Timestamp) {
        // Verdicts never expire here, so no chain loses a reference.
        self.elements.retain(|_, held| lives(held, now));
    }
}

/// The chain that an element leads to.
fn target(held: &HeldElement) -> Option<&NftName> {
    match &held.element.value {
        NftValue::Verdict(verdict) => verdict.chain(),
        NftValue::Nothing | NftValue::Bytes(_) => None,
    }
}

fn lives(held: &HeldElement, now: Timestamp) -> bool {
    held.expires.is_none_or(|at| at > now)
}
