use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request, Response};
use k8s_openapi::api::core::v1::Service;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

#[derive(Clone)]
struct Answer {
    code: u16,
    body: String,
    /// Does not end, as a watch that is not cut.
    lasts: bool,
}

/// A body that may go on after its last word.
struct Answered {
    body: Body,
    lasts: bool,
}

impl http_body::Body for Answered {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(None) if self.lasts => Poll::Pending,
            other => other,
        }
    }
}

/// What a fake server answers, in this order; afterwards it is silent.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// What it says of its revision after a lost connection; `None`: that it is far ahead.
    revision: Option<&'static str>,
    /// How long the answer to that is under way.
    revision_takes: Duration,
    /// How often it was asked for that.
    revision_asked: Arc<AtomicUsize>,
}

impl Script {
    fn answer(self, code: u16, body: &Value) -> Self {
        let body = body.to_string();
        self.answers.lock().unwrap().push_back(Answer { code, body, lasts: false });
        self
    }

    fn list(self, version: &str, names: &[&str], continues: &str) -> Self {
        let items: Vec<_> = names.iter().map(|name| service(name, version)).collect();
        let list = json!({
            "apiVersion": "v1", "kind": "ServiceList", "items": items,
            "metadata": { "resourceVersion": version, "continue": continues },
        });
        self.answer(200, &list)
    }

    /// A watch that tells this and ends.
    fn watch(self, events: &[Value]) -> Self {
        let lines: Vec<_> = events.iter().map(|event| format!("{event}\n")).collect();
        let body = lines.concat();
        self.answers.lock().unwrap().push_back(Answer { code: 200, body, lasts: false });
        self
    }

    /// The last answer is a watch that does not end.
    fn lasts(self) -> Self {
        self.answers.lock().unwrap().back_mut().unwrap().lasts = true;
        self
    }

    fn answer_to(&self, uri: &str) -> Option<Answer> {
        if is_for_revision(uri) {
            self.revision_asked.fetch_add(1, Ordering::Relaxed);
            let version = self.revision.unwrap_or("1000000");
            let list = json!({
                "apiVersion": "v1", "kind": "ServiceList", "items": [],
                "metadata": { "resourceVersion": version },
            });
            return Some(Answer { code: 200, body: list.to_string(), lasts: false });
        }
        self.asked.lock().unwrap().push(uri.to_owned());
        self.answers.lock().unwrap().pop_front()
    }

    fn revision_asked(&self) -> usize {
        self.revision_asked.load(Ordering::Relaxed)
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let uri = request.uri().to_string();
            let answer = script.answer_to(&uri);
            let takes = if is_for_revision(&uri) { script.revision_takes } else { Duration::ZERO };
            async move {
                sleep(takes).await;
                let Some(answer) = answer else { return std::future::pending().await };
                let body = Body::from(answer.body.into_bytes());
                Response::builder().status(answer.code).body(Answered { body, lasts: answer.lasts })
            }
        });
        Client::new(service, "default")
    }

    /// Follows Services of this server until it has told `steps` things.
    async fn follow(&self, steps: usize) -> Vec<String> {
        // Nobody asks for a new list.
        let (_anew, anew) = watch::channel(0);
        self.follow_anew(steps, anew).await
    }

    /// Likewise, with everything listed anew when that changes.
    async fn follow_anew(&self, steps: usize, anew: watch::Receiver<u64>) -> Vec<String> {
        let client = self.client();
        let (to, mut told) = mpsc::channel(100);
        let watch = Watch {
            api: Api::all(client.clone()),
            client,
            resource: WatchedResource::Services,
            namespace: None,
            labels: String::new(),
            page_size: 2,
            tells: |step: Step<Service>| step,
            to,
            anew,
        };
        let running = tokio::spawn(watch.run());
        let mut all = Vec::new();
        while all.len() < steps {
            all.push(text(&told.recv().await.unwrap()));
        }
        running.abort();
        all
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The resourceVersion of each watch.
    fn watched_from(&self) -> Vec<String> {
        let asked = self.asked();
        let watches = asked.iter().filter(|uri| uri.contains("watch=true"));
        watches
            .filter_map(|uri| uri.split("resourceVersion=").nth(1))
            .map(|rest| rest.split('&').next().unwrap_or_default().to_owned())
            .collect()
    }
}

fn is_for_revision(uri: &str) -> bool {
    uri.contains("limit=1")
}

fn service(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "web", "resourceVersion": version },
    })
}

fn event(kind: &str, name: &str, version: &str) -> Value {
    json!({ "type": kind, "object": service(name, version) })
}

fn bookmark(version: &str) -> Value {
    json!({
        "type": "BOOKMARK",
        "object": {
            "apiVersion": "v1", "kind": "Service", "metadata": { "resourceVersion": version },
        },
    })
}

fn status(code: u16) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code })
}

fn text(step: &Step<Service>) -> String {
    let name = |service: &Service| service.metadata.name.clone().unwrap_or_default();
    match step {
        Step::ListBegan { resets } => format!("list{}", if *resets { " resets" } else { "" }),
        Step::Page(page) => format!("page {}", page.iter().map(name).collect::<String>()),
        Step::Listed => "listed".to_owned(),
        Step::ListAbandoned => "abandoned".to_owned(),
        Step::Applied(service) => format!("applied {}", name(service)),
        Step::Deleted(service) => format!("deleted {}", name(service)),
        Step::Trouble(trouble) => format!("{} {}", trouble.class.label(), trouble.failures),
        Step::Well => "well".to_owned(),
    }
}

const LISTED: [&str; 4] = ["list", "page a", "listed", "well"];

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_where_the_last_one_ended() {
    let script = Script::default()
        .list("10", &["a"], "")
        .watch(&[event("ADDED", "b", "11"), event("DELETED", "a", "12")])
        .watch(&[bookmark("20")])
        .watch(&[]);
    let told = script.follow(9).await;
    assert_eq!(told[..4], LISTED);
    assert_eq!(told[4..], ["well", "applied b", "deleted a", "well", "well"]);
    assert_eq!(script.watched_from(), ["10", "12", "20"]);
    assert!(script.asked()[1].contains("allowWatchBookmarks=true"));
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages() {
    let script = Script::default().list("10", &["a", "b"], "more").list("10", &["c"], "");
    assert_eq!(script.follow(5).await, ["list", "page ab", "page c", "listed", "well"]);
    assert!(script.asked()[0].contains("limit=2"));
    assert!(script.asked()[1].contains("continue=more"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_expires_between_pages_begins_anew() {
    let script = Script::default().list("10", &["a", "b"], "more").answer(410, &status(410)).list(
        "11",
        &["a"],
        "",
    );
    let told = script.follow(8).await;
    assert_eq!(told[..4], ["list", "page ab", "abandoned", "gone 1"]);
    assert_eq!(told[4..], LISTED);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_listed_anew_however_the_server_says_it() {
    let scripts = [
        Script::default().list("10", &["a"], "").answer(410, &status(410)),
        Script::default()
            .list("10", &["a"], "")
            .watch(&[json!({ "type": "ERROR", "object": status(410) })]),
    ];
    for script in scripts {
        let script = script.list("20", &["a"], "");
        let told = script.follow(9).await;
        let told: Vec<_> = told.iter().filter(|step| *step != "well").collect();
        assert_eq!(told[..3], ["list", "page a", "listed"]);
        assert_eq!(told[3..7], ["gone 1", "list", "page a", "listed"]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_any_other_error_the_watch_is_resumed() {
    let script = Script::default()
        .list("10", &["a"], "")
        .watch(&[event("ADDED", "b", "11"), json!({ "type": "ERROR", "object": status(500) })])
        .answer(503, &status(503))
        .watch(&[event("MODIFIED", "b", "12")]);
    let told = script.follow(10).await;
    assert_eq!(told[4..], ["well", "applied b", "other 1", "other 2", "well", "applied b"]);
    assert_eq!(script.watched_from(), ["10", "11", "11"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_holds_up_no_other() {
    let broken = json!({ "type": "ADDED", "object": { "metadata": { "name": 7 } } });
    let script =
        Script::default().list("10", &["a"], "").watch(&[broken, event("ADDED", "b", "12")]);
    assert_eq!(script.follow(6).await[4..], ["well", "applied b"]);
}

#[tokio::test(start_paused = true)]
async fn an_older_list_than_what_was_seen_is_not_believed_at_once() {
    let mut script = Script::default()
        .list("10", &["a"], "")
        .watch(&[event("ADDED", "b", "100")])
        .answer(410, &status(410))
        .list("50", &["a"], "")
        .list("101", &["a"], "");
    let told = script.follow(12).await;
    assert_eq!(told[4..8], ["well", "applied b", "gone 1", "stale 2"]);
    assert_eq!(told[8..], LISTED);

    // But a server that stays there was set back.
    script = Script::default()
        .list("10", &["a"], "")
        .watch(&[event("ADDED", "b", "100")])
        .answer(410, &status(410));
    for _ in 0..=STALE_LISTS {
        script = script.list("50", &["a"], "");
    }
    let told = script.follow(19).await;
    assert_eq!(told[15], "list resets", "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_unreachable() {
    let began = Instant::now();
    let script = Script::default().list("10", &["a"], "");
    assert_eq!(script.follow(6).await[4..], ["unreachable 1", "unreachable 2"]);
    assert_eq!(script.watched_from(), ["10", "10"], "and nothing is listed again");
    assert!(began.elapsed() < ANSWER * 2 + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_busy_is_left_alone_as_long_as_it_asks() {
    let busy = json!({
        "kind": "Status", "status": "Failure", "code": 429, "details": { "retryAfterSeconds": 7 },
    });
    let began = Instant::now();
    let script = Script::default().answer(429, &busy).list("10", &["a"], "");
    assert_eq!(script.follow(5).await[1..], LISTED);
    assert!(began.elapsed() >= Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_at_once_is_not_asked_for_in_a_hurry() {
    let mut script = Script::default().list("10", &["a"], "");
    for _ in 0..20 {
        script = script.watch(&[]);
    }
    let began = Instant::now();
    script.follow(4 + 20).await;
    assert!(began.elapsed() > Duration::from_secs(15), "{:?}", began.elapsed());
}

/// A script whose server was set back from 100 to 50 while the connection was lost.
fn set_back() -> Script {
    let mut script = Script { revision: Some("50"), ..Script::default() }
        .list("10", &["a"], "")
        .watch(&[event("ADDED", "b", "100")])
        // It takes the watch from the future.
        .watch(&[])
        .lasts();
    for _ in 0..=STALE_LISTS {
        script = script.list("50", &["a"], "");
    }
    script
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_set_back_is_noticed_when_a_watch_is_resumed() {
    let script = set_back().watch(&[event("ADDED", "c", "51")]);
    let stale = usize::try_from(STALE_LISTS).unwrap() + 1;
    let told = script.follow(7 + stale + 6).await;
    assert_eq!(told[4..7], ["well", "applied b", "well"]);
    assert!(told[7..7 + stale].iter().all(|step| step.starts_with("stale")), "{told:?}");
    assert_eq!(told[7 + stale..], ["list resets", "page a", "listed", "well", "well", "applied c"]);
    assert_eq!(script.watched_from(), ["10", "100", "50"]);
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_the_revision_is_under_way_is_no_setback() {
    let takes = Duration::from_secs(1);
    let script = Script { revision: Some("20"), revision_takes: takes, ..Script::default() }
        .list("10", &["a"], "")
        .watch(&[])
        .watch(&[event("ADDED", "b", "30")])
        .lasts();
    let told = timeout(SILENCE / 2, script.follow(8)).await;
    assert!(told.is_err(), "{told:?}");
    assert_eq!(script.revision_asked(), 1);
    assert_eq!(script.watched_from(), ["10", "10"], "nothing is listed anew");
}

#[tokio::test(start_paused = true)]
async fn a_list_after_a_setback_that_breaks_off_does_not_count_as_one() {
    let mut script = set_back();
    // The last list breaks off between two pages.
    script.answers.lock().unwrap().pop_back();
    script = script.list("50", &["a"], "more").answer(500, &status(500)).list("51", &["a"], "");
    let told = script.follow(23).await;
    let resets: Vec<_> = told.iter().filter(|step| *step == "list resets").collect();
    assert_eq!(resets.len(), 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_that_goes_backwards_is_followed_by_a_list() {
    let script = Script::default()
        .list("10", &["a"], "")
        .watch(&[event("ADDED", "b", "100"), bookmark("50"), event("ADDED", "c", "51")])
        .list("120", &["a"], "");
    let told = script.follow(11).await;
    assert_eq!(told[4..7], ["well", "applied b", "stale 1"]);
    assert_eq!(told[7..], LISTED);
}

#[tokio::test(start_paused = true)]
async fn the_revision_is_asked_for_after_a_lost_connection_only() {
    // The second watch ends at once, which no server does in time.
    let script = Script::default().list("10", &["a"], "").watch(&[bookmark("20")]).lasts();
    let told = script.follow(5).await;
    assert_eq!((script.revision_asked(), told.len()), (0, 5), "{told:?}");
    // A silent one is taken for lost.
    let script = script.list("10", &["a"], "").watch(&[]).lasts().watch(&[]).lasts();
    let (began, following) = (Instant::now(), script.clone());
    let running = tokio::spawn(async move { following.follow(100).await });
    let asked = async {
        while script.revision_asked() == 0 {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_mins(10), asked).await.unwrap();
    assert!(began.elapsed() >= SILENCE, "{:?}", began.elapsed());
    running.abort();

    let ended = |lived| in_time(Ending::Ended, Duration::from_secs(lived));
    assert!(matches!(ended(289), Ending::Ended), "the server's clock");
    assert!(matches!(ended(60), Ending::Cut));
    assert!(matches!(in_time(Ending::Cut, Duration::from_secs(289)), Ending::Cut));
}

#[tokio::test(start_paused = true)]
async fn everything_is_listed_anew_when_asked_for() {
    let script = Script::default().list("10", &["a"], "");
    let (ask, anew) = watch::channel(0);
    let asking = async {
        while script.watched_from().is_empty() {
            tokio::task::yield_now().await;
        }
        // The watch has no answer yet, as on a connection that is dead.
        script.clone().list("20", &["a"], "");
        ask.send_replace(1);
    };
    let (told, ()) = tokio::join!(script.follow_anew(8, anew), asking);
    assert_eq!(told[4..], LISTED);
}
