use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use k8s_openapi::api::core::v1::Service;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// What a fake server answers, in this order; afterwards it is silent.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn answer(self, code: u16, body: &Value) -> Self {
        self.answers.lock().unwrap().push_back((code, body.to_string()));
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
        self.answers.lock().unwrap().push_back((200, lines.concat()));
        self
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            script.asked.lock().unwrap().push(request.uri().to_string());
            let answer = script.answers.lock().unwrap().pop_front();
            async move {
                let Some((code, body)) = answer else { return std::future::pending().await };
                Response::builder().status(code).body(Body::from(body.into_bytes()))
            }
        });
        Client::new(service, "default")
    }

    /// Follows Services of this server until it has told `steps` things.
    async fn follow(&self, steps: usize) -> Vec<String> {
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
