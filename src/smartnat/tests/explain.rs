//! The first screen of `smartnat explain` for what goes wrong most: the right cause, the Mapping
//! and field responsible, and what to do (T1, T2, T3, T5, T6, T11, T19).

use std::collections::BTreeMap;

use smartnat::render::explanation_text;
use smartnat_core::explain::{
    Cause, Foreign, ForeignBuiltin, ForeignRules, Question, Scene, Verdict, explain,
};
use smartnat_core::model::{
    ClusterObject, ClusterState, Family, GatewayConfig, HostRoute, HostState, InterfaceAddress,
    Link, Protocol,
};
use smartnat_sim::scenario::{MappingBuilder, mapping, service};

/// What fits on a terminal of the least height.
const SCREEN: usize = 24;

fn link(index: u32, addresses: &[&str]) -> Link {
    let address = |text: &&str| InterfaceAddress {
        address: text.parse().expect("an address"),
        link_local: false,
    };
    Link { index, up: true, addresses: addresses.iter().map(address).collect() }
}

fn route(destination: &str, gateway: Option<&str>, interface: &str) -> HostRoute {
    HostRoute {
        destination: destination.parse().expect("a network"),
        gateway: gateway.map(|g| g.parse().expect("an address")),
        interface: interface.into(),
        metric: 0,
    }
}

/// `ext2` has a single address and no router.
fn host() -> HostState {
    HostState {
        links: BTreeMap::from([
            ("ext1".to_owned(), link(2, &["203.0.113.10/24"])),
            ("ext2".to_owned(), link(3, &["198.51.100.10/32"])),
            ("eth0".to_owned(), link(4, &["10.0.0.2/24"])),
        ]),
        routes: vec![
            route("203.0.113.0/24", None, "ext1"),
            route("10.0.0.0/24", None, "eth0"),
            route("0.0.0.0/0", Some("10.0.0.1"), "eth0"),
        ],
        families: Family::ALL.to_vec(),
    }
}

fn objects() -> Vec<ClusterObject> {
    let echo = service("echo")
        .port("http", Protocol::Tcp, 80, 8080)
        .port("dns", Protocol::Udp, 53, 5353)
        .ready("10.244.1.11")
        .ready("10.244.1.12")
        .not_ready("10.244.1.13");
    let idle = service("idle").port("http", Protocol::Tcp, 80, 8080).not_ready("10.244.1.21");
    let mappings = [
        mapping("echo")
            .created(1)
            .address("203.0.113.10")
            .address("198.51.100.10")
            .address("203.0.113.99")
            .source("192.0.2.0/24")
            .source("198.51.100.0/30")
            .port(Protocol::Tcp, 8080, None, Some("http"))
            .port(Protocol::Tcp, 8081, None, Some("web")),
        mapping("late")
            .created(2)
            .service("echo")
            .address("203.0.113.10")
            .port(Protocol::Tcp, 8080, None, Some("http"))
            .port(Protocol::Tcp, 9090, None, Some("http")),
        mapping("idle").created(3).address("203.0.113.10").port(
            Protocol::Tcp,
            7070,
            None,
            Some("http"),
        ),
    ];
    [echo.build(), idle.build(), mappings.map(MappingBuilder::build).to_vec()].concat()
}

fn scene() -> Scene {
    let mut cluster = ClusterState::default();
    for object in objects() {
        cluster.update(object);
    }
    let config = GatewayConfig { uplink_pattern: "ext[0-9]".into(), ..GatewayConfig::default() };
    Scene { cluster, host: host(), config, ..Scene::default() }
}

fn question(source: &str, destination: &str, port: u16) -> Question {
    Question {
        source: source.parse().expect("an address"),
        source_port: None,
        destination: destination.parse().expect("an address"),
        port,
        protocol: Protocol::Tcp,
        origin: None,
    }
}

fn foreign_drop() -> Foreign {
    let forward =
        ForeignBuiltin { before: vec!["-s 192.0.2.0/24 -j DROP".into()], ..Default::default() };
    Foreign {
        tables: vec![ForeignRules {
            program: "iptables-nft".into(),
            family: Family::V4,
            table: "filter".into(),
            beside_ours: true,
            builtins: BTreeMap::from([("FORWARD".to_owned(), forward)]),
            chains: BTreeMap::new(),
        }],
        ..Foreign::default()
    }
}

/// The text, which fits on a screen, of an explanation with this verdict and cause.
#[track_caller]
fn screen(scene: &Scene, question: &Question, verdict: Verdict, cause: Option<Cause>) -> String {
    let told = explain(scene, question);
    let text = explanation_text(&told, &[]);
    assert_eq!((told.verdict, told.cause), (verdict, cause), "{text}");
    assert!(text.lines().count() <= SCREEN, "{text}");
    text
}

/// A cause's first screen.
macro_rules! first_screen {
    ($name:ident, $verdict:ident, $cause:expr, $source:expr => $to:expr, $port:expr) => {
        #[test]
        fn $name() {
            let text = screen(&scene(), &question($source, $to, $port), Verdict::$verdict, $cause);
            insta::assert_snapshot!(text);
        }
    };
}

first_screen!(delivered, Delivered, None, "192.0.2.10" => "203.0.113.10", 8080);
first_screen!(a_refused_source, Refused, Some(Cause::SourceRefused), "198.51.100.7" => "203.0.113.10", 8080);
first_screen!(an_unmapped_port, Dropped, Some(Cause::PortNotMapped), "192.0.2.10" => "203.0.113.10", 8088);
first_screen!(no_ready_endpoint, Answered, Some(Cause::NoEndpoint), "192.0.2.10" => "203.0.113.10", 7070);
first_screen!(a_wrong_port_name, Answered, Some(Cause::NoServicePort), "192.0.2.10" => "203.0.113.10", 8081);
first_screen!(a_conflict, Dropped, Some(Cause::Conflict), "192.0.2.10" => "203.0.113.10", 9090);
first_screen!(an_address_not_on_this_host, Dropped, Some(Cause::AddressNotHere), "192.0.2.10" => "203.0.113.99", 8080);
first_screen!(a_missing_return_route, Dropped, Some(Cause::NoReturnRoute), "192.0.2.10" => "198.51.100.10", 8080);

#[test]
fn a_foreign_drop_rule_in_forward() {
    let scene = Scene { foreign: foreign_drop(), ..scene() };
    let question = question("192.0.2.10", "203.0.113.10", 8080);
    let text = screen(&scene, &question, Verdict::Dropped, Some(Cause::ForeignDrop));
    insta::assert_snapshot!(text);
}
