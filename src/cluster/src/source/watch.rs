//! Follows one resource: a paged list, then a watch that is resumed where it broke off.
//!
//! The loop is our own because the ready-made one hides what matters here: that a watch is well
//! again (it has nothing to tell on a quiet resource), how old a list is, and that a server may
//! refuse to resume with a plain 410.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::backoff::Backoff;
use super::classify::Failure;
use super::trouble::{Attempt, TroubleClass, Verb, WatchTrouble, WatchedResource};
use super::version::revision;
use crate::api;

/// The server ends a watch after this time; the next one resumes it.
const WATCH_SECONDS: u32 = 290;
const LASTS: Duration = Duration::from_secs(WATCH_SECONDS as u64);
/// A watch without a sign of life is resumed on a new connection: while nobody resets it, a dead
/// connection looks like a quiet one, and all that happens is missed. Servers send a bookmark a
/// minute, so this gives one a quarter of a minute to be late. A server that sends none costs a
/// request each time.
const SILENCE: Duration = Duration::from_secs(75);
/// A watch that ends no earlier than this before its time ends by the clock of the server.
const IN_TIME: Duration = Duration::from_secs(5);
/// No page of a list takes longer, nor the beginning of a watch.
const ANSWER: Duration = Duration::from_secs(30);
/// A watch that lived this long is none that breaks at once.
const STEADY: Duration = Duration::from_secs(1);
/// So many lists in a row that are older than what the server has shown before mean that it was
/// set back to an earlier state for good (a backup), not that it lags.
const STALE_LISTS: u32 = 8;

/// What happens to a resource.
#[derive(Debug)]
pub(super) enum Step<K> {
    /// A list begins. With `resets` it holds even where newer states are known.
    ListBegan { resets: bool },
    /// Objects of the list.
    Page(Vec<K>),
    /// The list is complete.
    Listed,
    /// The list did not come to its end.
    ListAbandoned,
    /// An object was added or changed.
    Applied(Box<K>),
    /// An object was deleted.
    Deleted(Box<K>),
    /// The watch is in trouble.
    Trouble(WatchTrouble),
    /// The watch works.
    Well,
}

/// Nobody listens any more.
pub(super) struct Closed;

/// Follows one resource.
pub(super) struct Watch<K, I> {
    pub(super) api: Api<K>,
    pub(super) client: Client,
    pub(super) resource: WatchedResource,
    /// `None`: all namespaces.
    pub(super) namespace: Option<String>,
    /// Empty: all objects.
    pub(super) labels: String,
    pub(super) page_size: u32,
    /// Makes what is told of what happens.
    pub(super) tells: fn(Step<K>) -> I,
    pub(super) to: mpsc::Sender<I>,
    /// Changes when everything is to be listed anew.
    pub(super) anew: watch::Receiver<u64>,
}

/// How a watch ended.
enum Ending {
    /// It can be resumed.
    Cut,
    /// The server ended it, as servers do in time.
    Ended,
    /// There is something to say about this request. It can be resumed, as a rule.
    Refused(Verb, Failure),
    /// The receiver is gone.
    Closed,
}

/// What is remembered between requests.
#[derive(Default)]
struct Progress {
    backoff: Backoff,
    failures: u32,
    stale_lists: u32,
    /// The server was set back, and no list since then came to its end.
    resets: bool,
    /// The connection was lost: what answers now may be a server that was set back. It would take
    /// a watch from a revision that it has yet to reach, and tell nothing until then.
    unsure: bool,
    /// The newest revision that the server has shown.
    newest: Option<u64>,
}

impl Progress {
    fn saw(&mut self, version: &str) {
        self.newest = self.newest.max(revision(version));
    }

    /// What is wrong with a server that is at this version, if that comes before what it has shown.
    fn stale(&self, version: &str) -> Option<Failure> {
        stale(version, self.newest)
    }
}

/// What is wrong with a server that is at this version, if that comes before what it had shown when
/// it was asked.
fn stale(version: &str, shown: Option<u64>) -> Option<Failure> {
    let (this, shown) = (revision(version)?, shown?);
    let detail = format!("resourceVersion {this}, before {shown}");
    (this < shown).then(|| Failure::of_class(TroubleClass::Stale, detail))
}

impl<K, I> Watch<K, I>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    /// Follows the resource until nobody listens any more.
    pub(super) async fn run(mut self) {
        let mut progress = Progress::default();
        loop {
            let Ok(version) = self.list(&mut progress).await else { return };
            let mut anew = self.anew.clone();
            tokio::select! {
                outcome = self.follow(version, &mut progress) => if outcome.is_err() { return },
                // What it was about to tell is in the list. The sender outlives its watches.
                Ok(()) = anew.changed() => self.anew = anew,
            }
        }
    }

    async fn tell(&self, step: Step<K>) -> Result<(), Closed> {
        self.to.send((self.tells)(step)).await.map_err(|_| Closed)
    }

    fn attempt(&self, verb: Verb) -> Attempt {
        Attempt { verb, resource: self.resource, namespace: self.namespace.clone() }
    }

    /// Lists until a list comes to its end; returns its resourceVersion.
    async fn list(&self, progress: &mut Progress) -> Result<String, Closed> {
        loop {
            match self.list_once(progress).await? {
                Ok(version) => {
                    progress.stale_lists = 0;
                    progress.failures = 0;
                    progress.resets = false;
                    progress.unsure = false;
                    self.tell(Step::Well).await?;
                    return Ok(version);
                }
                Err(failure) => self.fail(Verb::List, failure, progress).await?,
            }
        }
    }

    async fn list_once(&self, progress: &mut Progress) -> Result<Result<String, Failure>, Closed> {
        let mut params = ListParams::default().labels(&self.labels).limit(self.page_size);
        let mut began = false;
        loop {
            let page = match timeout(ANSWER, self.api.list(&params)).await {
                Ok(Ok(page)) => Ok(page),
                Ok(Err(error)) => Err(Failure::of(&error, &self.attempt(Verb::List))),
                Err(_) => Err(Failure::timeout(ANSWER)),
            };
            let page = match page {
                Ok(page) => page,
                Err(failure) => {
                    if began {
                        self.tell(Step::ListAbandoned).await?;
                    }
                    return Ok(Err(failure));
                }
            };
            let version = page.metadata.resource_version.unwrap_or_default();
            if !began {
                match judge(&version, progress) {
                    Ok(resets) => self.tell(Step::ListBegan { resets }).await?,
                    Err(failure) => return Ok(Err(failure)),
                }
                began = true;
            }
            self.tell(Step::Page(page.items)).await?;
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                progress.saw(&version);
                self.tell(Step::Listed).await?;
                return Ok(Ok(version));
            }
        }
    }

    /// Watches from `version` on until a new list is needed.
    async fn follow(&self, mut version: String, progress: &mut Progress) -> Result<(), Closed> {
        let params = WatchParams {
            label_selector: Some(self.labels.clone()).filter(|labels| !labels.is_empty()),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        loop {
            let ending = self.watch_once(&params, &mut version, progress).await;
            progress.unsure |= !matches!(ending, Ending::Ended);
            match ending {
                Ending::Closed => return Err(Closed),
                Ending::Cut | Ending::Ended => sleep(progress.backoff.after_cut()).await,
                Ending::Refused(verb, failure) => {
                    // What came after the definition was deleted is another history, and so is
                    // what a server tells that was set back; the list tells it from a laggard.
                    let anew = matches!(
                        failure.class,
                        TroubleClass::Gone
                            | TroubleClass::NotInstalled
                            | TroubleClass::WrongVersion { .. }
                            | TroubleClass::Stale
                    );
                    self.fail(verb, failure, progress).await?;
                    if anew {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A single watch from `version` on, which is where to resume afterwards.
    async fn watch_once(
        &self,
        params: &WatchParams,
        version: &mut String,
        progress: &mut Progress,
    ) -> Ending {
        let opened = match timeout(ANSWER, self.api.watch(params, version)).await {
            Err(_) => Err(Failure::timeout(ANSWER)),
            Ok(opened) => opened.map_err(|error| Failure::of(&error, &self.attempt(Verb::Watch))),
        };
        let stream = match opened {
            Ok(stream) => stream,
            Err(failure) => return Ending::Refused(Verb::Watch, failure),
        };
        progress.failures = 0;
        if self.tell(Step::Well).await.is_err() {
            return Ending::Closed;
        }
        let began = Instant::now();
        let ending = self.consume(stream, version, progress).await;
        if began.elapsed() >= STEADY {
            progress.backoff.reset();
        }
        in_time(ending, began.elapsed())
    }

    /// The revision that the server is at, however long it takes to learn. A list of one object is
    /// cheap and tells the revision of all.
    async fn revision_of_server(&self) -> String {
        let params = ListParams::default().labels(&self.labels).limit(1);
        let mut backoff = Backoff::default();
        loop {
            let class = match timeout(ANSWER, self.api.list(&params)).await {
                Ok(Ok(list)) => return list.metadata.resource_version.unwrap_or_default(),
                Ok(Err(error)) => Failure::of(&error, &self.attempt(Verb::List)).class,
                Err(_) => TroubleClass::Unreachable,
            };
            // Not told: the watch works, and says nothing of this.
            sleep(backoff.after(&class)).await;
        }
    }

    /// Hands on what a watch tells. `version` is where to resume.
    async fn consume(
        &self,
        stream: impl Stream<Item = kube::Result<WatchEvent<K>>>,
        version: &mut String,
        progress: &mut Progress,
    ) -> Ending {
        let mut stream = std::pin::pin!(stream);
        // Beside the watch, so that one that breaks all the time still tells what it can.
        let mut revision = std::pin::pin!(self.revision_of_server());
        // What the watch tells while the answer is under way may be newer than the answer.
        let shown = progress.newest;
        loop {
            let event = tokio::select! {
                event = timeout(SILENCE, stream.next()) => event,
                revision = &mut revision, if progress.unsure => {
                    progress.unsure = false;
                    let Some(failure) = stale(&revision, shown) else { continue };
                    // It answers: what it was like before it was set back counts no more.
                    progress.backoff.reset();
                    return Ending::Refused(Verb::List, failure);
                }
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => return Ending::Ended,
                Err(_) => return Ending::Cut,
            };
            let (seen, step) = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    (object.resource_version(), Some(Step::Applied(Box::new(object))))
                }
                Ok(WatchEvent::Deleted(object)) => {
                    (object.resource_version(), Some(Step::Deleted(Box::new(object))))
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    let seen = bookmark.metadata.resource_version;
                    if let Some(failure) = progress.stale(&seen) {
                        return Ending::Refused(Verb::Watch, failure);
                    }
                    (Some(seen), None)
                }
                Ok(WatchEvent::Error(status)) => {
                    let failure = Failure::of_status(&status, &self.attempt(Verb::Watch));
                    return Ending::Refused(Verb::Watch, failure);
                }
                Err(kube::Error::Api(status)) if status.code != 0 => {
                    let failure = Failure::of_status(&status, &self.attempt(Verb::Watch));
                    return Ending::Refused(Verb::Watch, failure);
                }
                // What cannot be read, or was read as a status that says nothing. It would come
                // again and again, and hold up all the others.
                Err(kube::Error::Api(_) | kube::Error::SerdeError(_)) => {
                    warn!(resource = %self.resource, after = %version, "an event that cannot be read is left out");
                    continue;
                }
                Err(_) => return Ending::Cut,
            };
            if let Some(step) = step
                && self.tell(step).await.is_err()
            {
                return Ending::Closed;
            }
            if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
                progress.saw(&seen);
                *version = seen;
                progress.backoff.reset();
            }
        }
    }

    /// Tells of a failure and waits before the next attempt.
    async fn fail(
        &self,
        verb: Verb,
        mut failure: Failure,
        progress: &mut Progress,
    ) -> Result<(), Closed> {
        if failure.class == TroubleClass::NotInstalled && self.resource == WatchedResource::Mappings
        {
            failure = self.tell_versions_apart(failure).await;
        }
        progress.failures = progress.failures.saturating_add(1);
        let mut pause = progress.backoff.after(&failure.class);
        if let Some(seconds) = failure.retry_after {
            pause = pause.max(Duration::from_secs(seconds.into())).min(ANSWER);
        }
        let trouble = failure.trouble(&self.attempt(verb), progress.failures);
        self.tell(Step::Trouble(trouble)).await?;
        sleep(pause).await;
        Ok(())
    }

    /// No such resource: is the definition missing, or is it one of another version?
    async fn tell_versions_apart(&self, failure: Failure) -> Failure {
        let Ok(Ok(groups)) = timeout(ANSWER, self.client.list_api_groups()).await else {
            return failure;
        };
        let served: Vec<String> = groups
            .groups
            .into_iter()
            .filter(|group| group.name == api::GROUP)
            .flat_map(|group| group.versions)
            .map(|version| version.version)
            .collect();
        if served.is_empty() || served.iter().any(|version| version == api::VERSION) {
            return failure;
        }
        Failure::of_class(TroubleClass::WrongVersion { served }, String::new())
    }
}

/// Whether a list of this version is to be believed, and whether it replaces what is newer.
fn judge(version: &str, progress: &mut Progress) -> Result<bool, Failure> {
    let Some(failure) = progress.stale(version).filter(|_| !progress.resets) else {
        return Ok(progress.resets);
    };
    progress.stale_lists += 1;
    if progress.stale_lists <= STALE_LISTS {
        return Err(failure);
    }
    progress.newest = None;
    progress.resets = true;
    Ok(true)
}

/// Tells the end that a watch comes to by the clock of the server from a lost connection, which may
/// look the same.
fn in_time(ending: Ending, lived: Duration) -> Ending {
    match ending {
        Ending::Ended if lived + IN_TIME < LASTS => Ending::Cut,
        other => other,
    }
}

#[cfg(test)]
mod tests;
