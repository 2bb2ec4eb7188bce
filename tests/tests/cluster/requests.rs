//! What the API server was asked, by its own count.

use std::collections::BTreeMap;

use smartnat_tests::control_plane::ControlPlane;

/// Resources that the program reads or writes. Servers have controllers of their own, which ask for
/// others.
const RESOURCES: [&str; 5] = ["mappings", "services", "endpointslices", "leases", "events"];

/// Requests by verb and resource (`PATCH mappings/status`), without those that are under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests(BTreeMap<String, u64>);

impl Requests {
    /// Those so far.
    pub(crate) fn so_far(plane: &ControlPlane) -> Self {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
        let text = plane.wait(plane.client().request_text(request)).expect("metrics");
        let mut requests = Self::default();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\"")).expect("a label");
                rest.split('"').next().unwrap_or_default()
            };
            let (verb, resource, sub) = (label("verb"), label("resource"), label("subresource"));
            let count: u64 =
                line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
            let slash = if sub.is_empty() { "" } else { "/" };
            if RESOURCES.contains(&resource) {
                let key = format!("{verb} {resource}{slash}{sub}");
                *requests.0.entry(key).or_default() += count;
            }
        }
        requests
    }

    /// Those that came after `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |(key, count): (&String, &u64)| {
            let count = count - before.count(key);
            (count > 0).then(|| (key.clone(), count))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    /// How many of a kind there were.
    pub(crate) fn count(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// Those of a verb.
    pub(crate) fn of_verb(&self, verb: &str) -> BTreeMap<&str, u64> {
        let of = self.0.iter().filter_map(|(key, count)| Some((key.split_once(' ')?, *count)));
        of.filter(|((v, _), _)| *v == verb).map(|((_, what), count)| (what, count)).collect()
    }

    /// All but the Leases' renewals.
    pub(crate) fn without_leases(mut self) -> Self {
        self.0.remove("PUT leases");
        self
    }

    /// Only what writes: where a watch had no sign of life, a list of one object asks how far the
    /// server is.
    pub(crate) fn writes(mut self) -> Self {
        self.0.retain(|key, _| !key.starts_with("LIST ") && !key.starts_with("WATCH "));
        self
    }

    /// Whether there were none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
