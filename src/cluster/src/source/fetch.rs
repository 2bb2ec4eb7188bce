//! Reads single slices, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::Api;
use smartnat_core::model::ObjectKey;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::classify::Failure;
use super::holdings::Holdings;
use super::trouble::{Attempt, TroubleClass, Verb, WatchTrouble, WatchedResource};

/// Requests at a time: fills the latency of the server without crowding out others.
const AT_ONCE: usize = 8;
/// No single object takes longer.
const ANSWER: Duration = Duration::from_secs(10);

/// A slice that was asked for, and the answer.
pub(super) struct Fetched {
    key: Arc<ObjectKey>,
    answer: Result<Option<EndpointSlice>, Failure>,
}

/// The requests under way.
#[derive(Default)]
pub(super) struct Fetches {
    under_way: JoinSet<Fetched>,
    backoff: Backoff,
    failures: u32,
    /// After a failure: when to go on.
    resumes: Option<Instant>,
}

impl Fetches {
    /// Asks for what is wished for, as far as it may be asked for now.
    pub(super) fn start(&mut self, holdings: &mut Holdings, client: &Client, now: Instant) {
        if self.resumes.is_some_and(|resumes| now < resumes) {
            return;
        }
        self.resumes = None;
        while self.under_way.len() < AT_ONCE
            && let Some(key) = holdings.next_wish()
        {
            let api = Api::namespaced(client.clone(), &key.namespace);
            self.under_way.spawn(fetch(api, key));
        }
    }

    /// Whether nothing is asked for, nor waits to be.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.resumes.is_none()
    }

    /// When to call [`Self::start`] again without any other reason.
    pub(super) fn resumes(&self) -> Option<Instant> {
        self.resumes
    }

    /// The next answer; never without a request under way.
    pub(super) async fn next(&mut self) -> Fetched {
        match self.under_way.join_next().await {
            Some(Ok(fetched)) => fetched,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => std::future::pending().await,
        }
    }

    /// Takes over an answer; returns what is wrong, if anything is.
    pub(super) fn absorb(
        &mut self,
        fetched: Fetched,
        holdings: &mut Holdings,
        now: Instant,
    ) -> Option<WatchTrouble> {
        let failure = match fetched.answer {
            Ok(slice) if holdings.slice_fetched(&fetched.key, slice.as_ref()) => {
                self.backoff.reset();
                self.failures = 0;
                return None;
            }
            Ok(_) => {
                let detail = format!("{} is older than the watch has shown", fetched.key);
                Failure::of_class(TroubleClass::Stale, detail)
            }
            Err(failure) => {
                holdings.fetch_failed(&fetched.key);
                failure
            }
        };
        // The failures of one round count once.
        if self.resumes.is_none() {
            self.failures = self.failures.saturating_add(1);
            self.resumes = Some(now + self.backoff.after(&failure.class));
        }
        let attempt =
            Attempt { verb: Verb::Get, resource: WatchedResource::EndpointSlices, namespace: None };
        Some(failure.trouble(&attempt, self.failures))
    }
}

async fn fetch(api: Api<EndpointSlice>, key: Arc<ObjectKey>) -> Fetched {
    let attempt =
        Attempt { verb: Verb::Get, resource: WatchedResource::EndpointSlices, namespace: None };
    let answer = match timeout(ANSWER, api.get_opt(&key.name)).await {
        Ok(Ok(slice)) => Ok(slice),
        Ok(Err(error)) => Err(Failure::of(&error, &attempt)),
        Err(_) => Err(Failure::timeout(ANSWER)),
    };
    Fetched { key, answer }
}
