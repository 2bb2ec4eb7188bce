//! Which of two states of an object is the newer one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Which object this is among those that ever had its name. A UUID, as API servers make them, is
/// kept in 16 bytes: there is one for each `EndpointSlice` of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Uid {
    Uuid(u128),
    Other(Box<str>),
}

impl Uid {
    fn new(text: &str) -> Self {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let canonical = text.len() == 36
            && digits.len() == 32
            && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if canonical => Self::Uuid(number),
            _ => Self::Other(text.into()),
        }
    }
}

/// One state of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    uid: Uid,
    /// `None`: the server's resourceVersion is no number, so versions cannot be compared and the
    /// order in which they come is all there is.
    revision: Option<u64>,
}

impl Version {
    pub(super) fn of(metadata: &ObjectMeta) -> Self {
        let revision = metadata.resource_version.as_deref().and_then(revision);
        Self { uid: Uid::new(metadata.uid.as_deref().unwrap_or_default()), revision }
    }

    /// Whether this state comes after `other`, of the same name. Numbers are comparable across
    /// objects of one resource, so this tells former objects of the name apart, too.
    pub(super) fn is_after(&self, other: &Self) -> bool {
        match (self.revision, other.revision) {
            (Some(this), Some(other)) => this > other,
            _ => true,
        }
    }

    /// Whether this state comes before `other`, of the same name.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        match (self.revision, other.revision) {
            (Some(this), Some(other)) => this < other,
            _ => false,
        }
    }

    /// Whether a deletion with this version ends the object whose state `held` is. The server
    /// stamps a deletion with a revision of its own, or (long ago) with the object's last one.
    pub(super) fn ends(&self, held: &Self) -> bool {
        match (self.revision, held.revision) {
            (Some(this), Some(held)) => this >= held,
            _ => self.uid == held.uid,
        }
    }
}

/// A resourceVersion as a number.
pub(super) fn revision(text: &str) -> Option<u64> {
    // No sign: "+5" would parse.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// How many deleted objects are remembered. Enough for what can be under way when an object is
/// deleted; the oldest are forgotten first.
const REMEMBERED: usize = 1024;

/// The last objects that were deleted: what comes late about them brings nothing back.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    by_uid: std::collections::BTreeMap<Uid, Option<u64>>,
    order: std::collections::VecDeque<Uid>,
}

impl Deletions {
    pub(super) fn note(&mut self, version: &Version) {
        let known = self.by_uid.get_mut(&version.uid);
        if let Some(known) = known {
            *known = (*known).max(version.revision);
            return;
        }
        self.by_uid.insert(version.uid.clone(), version.revision);
        self.order.push_back(version.uid.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_uid.remove(&oldest);
        }
    }

    /// Whether the object had been deleted when it was in this state, or after it. An object that
    /// stops matching a selector counts as deleted and may come back, with a later revision.
    pub(super) fn cover(&self, version: &Version) -> bool {
        match (self.by_uid.get(&version.uid), version.revision) {
            (Some(Some(deleted)), Some(revision)) => revision <= *deleted,
            _ => false,
        }
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
