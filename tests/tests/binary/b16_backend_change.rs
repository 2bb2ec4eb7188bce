//! Another backend, or iptables' other flavour, on a running host: the new one is set up beside
//! the old one, connections live on, and nothing of the old one stays.

use std::process::Command;
use std::time::Duration;

use smartnat::lab::traffic::{self, Conversation, Stream, StreamKind};
use smartnat_core::model::{IptablesFlavour, Protocol};

use crate::b06_cleanup::used;
use crate::common::{SIDES, at, servers};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{GATEWAY, Run, Station};

/// Backend and flavour, as they are set.
type Place = (&'static str, &'static str);

const NFTABLES: Place = ("nftables", "nft");
const NFT: Place = ("iptables", "nft");
const LEGACY: Place = ("iptables", "legacy");

fn station() -> Option<Station> {
    if !smartnat::lab::available() {
        return None;
    }
    let station = Station::new(IptablesFlavour::Nft);
    station.write("service.yaml", &service("echo", &["10.244.1.11", "10.244.1.12"]));
    let all = SIDES.map(|side| side.external);
    station.write("mapping.yaml", &(echo_mapping(&all) + "  egress: true\n"));
    station.write("going.yaml", &mapping("going", &all, 9000, "echo"));
    Some(station)
}

fn serving(station: &Station, (backend, flavour): Place) -> Command {
    let mut command = station.serving("run");
    command.env("SMARTNAT_BACKEND", backend).env("SMARTNAT_IPTABLES_FLAVOUR", flavour);
    command
}

fn serve(station: &Station, place: Place) -> Run {
    let mut run = station.start(serving(station, place));
    run.wait_ready();
    run
}

fn connect(station: &Station, port: u16) -> Conversation {
    let (side, patience) = (SIDES[0], traffic::PATIENT);
    let to = at(side.external, port);
    traffic::open(&station.lab, side.client, Protocol::Tcp, None, to, patience)
        .expect("the lab")
        .expect("a connection")
}

/// Which places hold something of ours.
fn places(station: &Station) -> Vec<&'static str> {
    let holds = |lines: &[&str], word: &str| lines.iter().any(|l| station.sh(l).contains(word));
    let legacy = ["iptables-legacy-save", "ip6tables-legacy-save"];
    let nft = ["iptables-nft-save", "ip6tables-nft-save"];
    let found = [
        (holds(&["nft list tables"], "inet smartnat"), "nftables"),
        (holds(&nft, "SMARTNAT-"), "iptables-nft"),
        (holds(&legacy, "SMARTNAT-"), "iptables-legacy"),
        (holds(&["ipset list -name"], "smartnat-"), "ipset"),
    ];
    found.into_iter().filter_map(|(there, place)| there.then_some(place)).collect()
}

fn places_of(place: Place) -> &'static [&'static str] {
    match place {
        NFTABLES => &["nftables"],
        NFT => &["iptables-nft", "ipset"],
        _ => &["iptables-legacy", "ipset"],
    }
}

/// Traffic that notices every packet lost, then all that a change may and may not touch.
fn changes(old: Place, new: Place) {
    let Some(station) = station() else { return };
    let _servers = servers(&station.lab);
    let host = station.host_text();
    let before = serve(&station, old);
    assert_eq!(places(&station), places_of(old));
    let (side, pause) = (SIDES[0], Duration::from_millis(2));
    let to = |port| at(side.external, port);
    let streams = [
        (StreamKind::Established, 8080),
        (StreamKind::NewConnections, 8080),
        (StreamKind::Datagrams, 5353),
    ]
    .map(|(kind, port)| {
        Stream::start(&station.lab, side.client, kind, None, to(port), pause).expect("a stream")
    });
    let mut lasting = connect(&station, 8080);
    let mut withdrawn = connect(&station, 9000);
    assert!(lasting.ask("1", traffic::PATIENT).is_answered());
    assert!(withdrawn.ask("1", traffic::PATIENT).is_answered());
    before.terminate();
    assert!(lasting.ask("2", traffic::PATIENT).is_answered());
    station.delete("going.yaml");
    station.write("coming.yaml", &mapping("coming", &[side.external], 9001, "echo"));

    let run = serve(&station, new);
    assert_eq!(places(&station), places_of(new), "{}", run.log());
    run.wait_line(&["left objects in", "connections live on"]);
    run.wait_line(&["what a run on another backend left is removed"]);
    assert!(lasting.ask("3", traffic::PATIENT).is_answered(), "{}", run.log());
    assert!(!withdrawn.ask("2", traffic::BRIEF).is_answered(), "{}", run.log());
    assert!(connect(&station, 9001).ask("1", traffic::PATIENT).is_answered());
    let refused = traffic::connect_tcp(&station.lab, side.client, None, to(9000), traffic::BRIEF);
    assert_eq!(refused.server(), None);
    for stream in streams {
        let sent = stream.report().sent;
        stream.wait_for(traffic::PATIENT, |report| report.sent > sent + 20);
        let report = stream.stop();
        assert_eq!((report.lost(), report.ended), (0, false), "{report:?}\n{}", run.log());
        assert!(report.slowest < Duration::from_secs(1), "{report:?}");
    }
    // A change has cost nothing for good: the next start finds nothing to do.
    run.terminate();
    let run = serve(&station, new);
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    run.terminate();
    station.finish(station.bare(&["cleanup"])).expect(0);
    assert_eq!(used(&station.host_text()), used(&host));
}

#[test]
fn from_nftables_to_iptables() {
    changes(NFTABLES, NFT);
}

#[test]
fn from_iptables_to_nftables() {
    changes(NFT, NFTABLES);
}

#[test]
fn from_nftables_to_iptables_legacy() {
    changes(NFTABLES, LEGACY);
}

#[test]
fn from_iptables_legacy_to_nftables() {
    changes(LEGACY, NFTABLES);
}

#[test]
fn from_iptables_legacy_to_its_nft_flavour() {
    changes(LEGACY, NFT);
}

#[test]
fn from_iptables_of_the_nft_flavour_to_legacy() {
    changes(NFT, LEGACY);
}

/// What keeps the old one from going is told, the new one serves, and in the end it goes.
#[test]
fn what_cannot_be_removed_is_named_until_it_can() {
    let Some(station) = station() else { return };
    let _servers = servers(&station.lab);
    serve(&station, NFT).terminate();
    // Nobody can delete a chain that somebody else's rule leads to.
    station.sh("iptables-nft -t mangle -N THEIRS");
    station.sh("iptables-nft -t mangle -A THEIRS -j SMARTNAT-TRANSIT");
    let run = station.start(serving(&station, NFTABLES));
    run.wait_line(&["WARN", "degraded", "mangle/SMARTNAT-TRANSIT (IPv4): busy"]);
    assert!(connect(&station, 8080).ask("1", traffic::PATIENT).is_answered());
    station.sh("iptables-nft -t mangle -F THEIRS");
    run.wait_line(&["what a run on another backend left is removed"]);
    assert_eq!(places(&station), ["nftables"], "{}", run.log());
    run.wait_status(|status| status.in_sync);
    run.terminate();
    assert!(
        station.lab.command(GATEWAY, &["iptables-nft", "-t", "mangle", "-L", "THEIRS"]).is_ok()
    );
}

/// The rules and sets of a flavour, to be put back.
fn keep(station: &Station, flavour: &str) -> String {
    let file = |name: &str| station.path(name).display().to_string();
    let (rules4, rules6, sets) = (file("rules4"), file("rules6"), file("sets"));
    let script = format!(
        "iptables-{flavour}-save > {rules4} && ip6tables-{flavour}-save > {rules6} && \
         ipset save > {sets}"
    );
    station.lab.command(GATEWAY, &["sh", "-c", &script]).expect("kept");
    format!(
        "ipset -exist restore < {sets} && iptables-{flavour}-restore --noflush < {rules4} && \
         ip6tables-{flavour}-restore --noflush < {rules6}"
    )
}

/// A run that ended between the two halves leaves both. The next one ends it, and so does a
/// clean-up, whatever backend is configured.
#[test]
fn what_two_backends_left_is_removed_by_the_next_start_and_by_a_clean_up() {
    let Some(station) = station() else { return };
    for (old, new) in [(NFT, NFTABLES), (LEGACY, NFTABLES), (LEGACY, NFT)] {
        for clean_up in [None, Some("nftables"), Some("iptables")] {
            serve(&station, old).terminate();
            let put_back = keep(&station, old.1);
            serve(&station, new).terminate();
            station.lab.command(GATEWAY, &["sh", "-c", &put_back]).expect("both are there");
            assert!(places(&station).len() > places_of(new).len(), "{:?}", places(&station));
            let Some(configured) = clean_up else {
                let run = serve(&station, new);
                assert_eq!(places(&station), places_of(new), "{}", run.log());
                run.terminate();
                continue;
            };
            let mut command = station.bare(&["cleanup"]);
            command.env("SMARTNAT_BACKEND", configured);
            station.finish(command).expect(0);
            assert_eq!(places(&station), [""; 0]);
        }
    }
}
