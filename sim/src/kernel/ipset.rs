//! ipset: sets and their elements. Probed with ipset 7.17.

use std::collections::BTreeMap;

use smartnat_core::model::Timestamp;
use smartnat_core::objects::{IpSet, SET_PREFIX, SetElement, SetKind, SetName, SetSpec};
use smartnat_core::ops::OpError;

use super::error::{busy, exists, invalid, not_found};

/// `ipset create … timeout 2147484` is out of range 0-2147483.
const MAX_TIMEOUT: u32 = 2_147_483;

/// A set as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What it was created with.
    pub spec: SetSpec,
    /// Elements; with the instant at which they expire, if they do.
    pub elements: BTreeMap<SetElement, Option<Timestamp>>,
}

/// All sets, ours and others'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    sets: BTreeMap<SetName, Set>,
}

impl Sets {
    /// One set.
    pub fn get(&self, name: &SetName) -> Option<&Set> {
        self.sets.get(name)
    }

    /// All sets.
    pub fn iter(&self) -> impl Iterator<Item = (&SetName, &Set)> {
        self.sets.iter()
    }

    /// Whether a set is ours by its name.
    pub(super) fn is_ours(name: &SetName) -> bool {
        name.0.starts_with(SET_PREFIX)
    }

    /// Ours, without the elements of sets that are filled at run time.
    pub(super) fn observe(&self) -> BTreeMap<SetName, IpSet> {
        let elements = |set: &Set| match set.spec.timeout {
            Some(_) => std::collections::BTreeSet::new(),
            None => set.elements.keys().copied().collect(),
        };
        self.sets
            .iter()
            .filter(|(name, _)| Self::is_ours(name))
            .map(|(name, set)| (name.clone(), IpSet { spec: set.spec, elements: elements(set) }))
            .collect()
    }

    pub(super) fn create(&mut self, name: &SetName, spec: &SetSpec) -> Result<(), OpError> {
        let object = object(name);
        // ipset itself takes an empty name and blanks; neither survives a save and restore.
        if name.0.is_empty() || name.0.len() > SetName::MAX_LEN {
            return invalid(object, "a name has 1 to 31 bytes");
        }
        if !name.0.bytes().all(|b| b.is_ascii_graphic()) {
            return invalid(object, "a name is printable ASCII without blanks");
        }
        if spec.timeout.is_some_and(|t| t > MAX_TIMEOUT) {
            return invalid(object, "a timeout is at most 2147483 s");
        }
        if spec.max_elements == 0 {
            return invalid(object, "maxelem 0 is not modelled");
        }
        if self.sets.contains_key(name) {
            return exists(object, "set with the same name already exists");
        }
        self.sets.insert(name.clone(), Set { spec: *spec, elements: BTreeMap::new() });
        Ok(())
    }

    pub(crate) fn add(
        &mut self,
        name: &SetName,
        element: SetElement,
        now: Timestamp,
    ) -> Result<(), OpError> {
        let set = self.get_mut(name)?;
        let element = as_stored(element, set.spec.kind);
        if !element.fits(&set.spec) {
            return invalid(object(name), format_args!("{element} does not fit {:?}", set.spec));
        }
        // hash:ip refuses 0.0.0.0 and ::, hash:net and hash:ip,port,ip take them.
        if matches!(element, SetElement::Ip(ip) if ip.is_unspecified()) {
            return invalid(object(name), "null-valued element, cannot be stored");
        }
        // `ipset -exist add` of a held element succeeds in a full set.
        if !set.elements.contains_key(&element)
            && set.elements.len() >= usize::try_from(set.spec.max_elements).unwrap_or(usize::MAX)
        {
            return invalid(object(name), "hash is full, cannot add more elements");
        }
        let expiry = set
            .spec
            .timeout
            .filter(|seconds| *seconds > 0)
            .map(|seconds| now.plus_millis(u64::from(seconds) * 1000));
        set.elements.insert(element, expiry);
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &SetName, element: &SetElement) -> Result<(), OpError> {
        let set = self.get_mut(name)?;
        let element = as_stored(*element, set.spec.kind);
        if !element.fits(&set.spec) {
            return invalid(object(name), format_args!("{element} does not fit {:?}", set.spec));
        }
        set.elements.remove(&element);
        Ok(())
    }

    pub(super) fn destroy(&mut self, name: &SetName, referenced: bool) -> Result<(), OpError> {
        self.get_mut(name)?;
        if referenced {
            return busy(object(name), "it is in use by a kernel component");
        }
        self.sets.remove(name);
        Ok(())
    }

    /// Drops the elements whose time has come.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for set in self.sets.values_mut() {
            set.elements.retain(|_, expiry| expiry.is_none_or(|at| at > now));
        }
    }

    fn get_mut(&mut self, name: &SetName) -> Result<&mut Set, OpError> {
        // The policy of the attribute comes before the lookup.
        if name.0.len() > SetName::MAX_LEN {
            return invalid(object(name), "a name has at most 31 bytes");
        }
        match self.sets.get_mut(name) {
            Some(set) => Ok(set),
            None => missing(name),
        }
    }
}

/// An address and the network of it alone are one on the wire (`IPSET_ATTR_CIDR` is absent or full).
fn as_stored(element: SetElement, kind: SetKind) -> SetElement {
    match (element, kind) {
        (SetElement::Ip(ip), SetKind::HashNet) => SetElement::Net(ip.into()),
        (SetElement::Net(net), SetKind::HashIp) if net.prefix_len() == net.max_prefix_len() => {
            SetElement::Ip(net.addr())
        }
        (element, _) => element,
    }
}

fn object(name: &SetName) -> String {
    format!("set {name}")
}

fn missing<T>(name: &SetName) -> Result<T, OpError> {
    not_found(object(name), "the set with the given name does not exist")
}
