//! `explain` on the host, against what packets of clients really meet (T2, T6, T11), and offline.

use std::fs;
use std::process::Command;

use smartnat_core::model::IptablesFlavour;
use smartnat_core::model::Protocol::Tcp;
use smartnat_sim::topology::{StandardOptions, standard};

use crate::common::{SIDES, Side, ask, ask_briefly, at, both_flavours, servers};
use crate::manifests::{echo_mapping, service};
use crate::station::{Said, Station};

const PORT: u16 = 8080;

fn echo(station: &Station, externals: &[&str]) {
    station.write("service.yaml", &service("echo", &["10.244.1.11", "10.244.1.12"]));
    station.write("mapping.yaml", &echo_mapping(externals));
}

/// `explain` of the client of a side to its external address.
fn explain(station: &Station, side: &Side, words: &[&str]) -> Said {
    station.finish(command(station, side, words))
}

fn command(station: &Station, side: &Side, words: &[&str]) -> Command {
    let mut command = station.serving("explain");
    command.args(["--from", side.source, "--to", &format!("{}/tcp", at(side.external, PORT))]);
    command.args(words);
    command
}

#[track_caller]
fn assert_first_screen(said: &Said, parts: &[&str]) {
    let screen: String = said.out.lines().take(24).flat_map(|line| [line, "\n"]).collect();
    for part in parts {
        assert!(screen.contains(part), "{part}: {said}");
    }
}

both_flavours!(explain_tells_what_a_clients_packet_meets, |flavour| {
    let station = Station::new(flavour);
    let side = &SIDES[0];
    echo(&station, &[side.external]);
    let _servers = servers(&station.lab);
    let before = explain(&station, side, &[]).expect(0);
    assert_first_screen(&before, &["DELIVERED", "NOT IN SYNC", "holds nothing of SmartNat's"]);
    let run = station.serve();

    let said = explain(&station, side, &[]).expect(0);
    assert_first_screen(&said, &["DELIVERED", "10.244.1.11:8080 or 10.244.1.12:8080", "ext1"]);
    assert!(!said.out.contains("NOT IN SYNC"), "{said}");
    let answer = ask(&station.lab, Tcp, side.client, side.source, at(side.external, PORT));
    assert!(answer.is_answered(), "{answer}");

    // Somebody else's rule before ours drops what our rule would accept.
    let iptables = station.programs().v4;
    let rule = format!("FORWARD -s {}/32 -p tcp -j DROP", side.source);
    station.sh(&format!("{iptables} -I {rule}"));
    let said = explain(&station, side, &[]).expect(1);
    assert_first_screen(&said, &["NOT DELIVERED", "-j DROP", "filter/FORWARD", "What to do"]);
    let json = explain(&station, side, &["-o", "json"]).expect(1).json();
    assert_eq!((&json["delivered"], &json["cause"]), (&false.into(), &"foreignDrop".into()));
    assert_eq!(json["mapping"], "default/echo");
    let silence = ask_briefly(&station.lab, Tcp, side.client, side.source, at(side.external, PORT));
    assert!(!silence.is_answered(), "{silence}");

    // What it says to do mends it.
    station.sh(&format!("{iptables} -D {rule}"));
    explain(&station, side, &[]).expect(0);
    let answer = ask(&station.lab, Tcp, side.client, side.source, at(side.external, PORT));
    assert!(answer.is_answered(), "{answer}");
    run.terminate();
});

#[test]
fn a_missing_return_route_is_told_and_met() {
    if !smartnat::lab::available() {
        return;
    }
    let station = Station::on(&standard(StandardOptions::default()), IptablesFlavour::Nft);
    let side = &SIDES[0];
    echo(&station, &[side.external]);
    let _servers = servers(&station.lab);
    // Without a default route of the uplink, and with an offset beyond its subnet, there is no gateway.
    let offset = ["--gateway-offset", "100000"];
    let mut serve = station.serving("run");
    serve.args(offset);
    let mut run = station.start(serve);
    run.wait_ready();
    let said = explain(&station, side, &offset).expect(1);
    assert_first_screen(&said, &["NOT DELIVERED", "no way back to", "ext1", "--gateway ext1="]);
    let silence = ask_briefly(&station.lab, Tcp, side.client, side.source, at(side.external, PORT));
    assert!(!silence.is_answered(), "{silence}");
    run.terminate();
}

#[test]
fn a_snapshot_tells_the_same_elsewhere_without_the_host() {
    if !smartnat::lab::available() {
        return;
    }
    let station = Station::new(IptablesFlavour::Nft);
    let side = &SIDES[0];
    echo(&station, &[side.external]);
    let run = station.serve();
    station.sh(&format!("{} -I FORWARD -d 10.244.1.11/32 -j DROP", station.programs().v4));
    let file = station.path("snapshot.yaml");
    let path = file.to_str().expect("a path");
    let here = explain(&station, side, &["--write-snapshot", path]).expect(1);
    assert_first_screen(
        &here,
        &["PARTLY DELIVERED", "10.244.1.12:8080, but not to 10.244.1.11:8080"],
    );
    let mut elsewhere =
        station.bare(&["explain", "--snapshot", path, "--from", side.source, "--to"]);
    elsewhere.arg(format!("{}/tcp", at(side.external, PORT)));
    assert_eq!(station.finish_on("pod1", elsewhere).expect(1).out, here.out);
    run.terminate();

    fs::write(&file, "cluster: 7\n").expect("written");
    let mut broken = station.bare(&["explain", "--snapshot", path, "--from", side.source, "--to"]);
    broken.arg(format!("{}/tcp", at(side.external, PORT)));
    let said = station.finish(broken).expect(2);
    assert!(said.err.contains("--write-snapshot"), "{said}");
}

#[test]
fn what_is_no_packet_is_refused_with_flag_value_and_mend() {
    if !smartnat::lab::available() {
        return;
    }
    let station = Station::new(IptablesFlavour::Nft);
    echo(&station, &[SIDES[0].external]);
    let cases = [
        ("client1", "198.51.100.10:8080/tcp", &["--from", "\"client1\"", "no IP address"][..]),
        ("192.0.2.10", "198.51.100.10", &["--to", "no port", "198.51.100.10:8080/tcp"]),
        ("192.0.2.10", "198.51.100.10:0/tcp", &["--to", "port \"0\"", "1 to 65535"]),
        ("192.0.2.10", "198.51.100.10:80/icmp", &["--to", "\"icmp\"", "/udp"]),
        ("192.0.2.10", "[2001:db8:51::10]:80/tcp", &["--to", "IPv6", "one family"]),
        ("127.0.0.1", "198.51.100.10:80/tcp", &["--from", "unicast"]),
    ];
    for (from, to, parts) in cases {
        let mut command = station.serving("explain");
        command.args(["--from", from, "--to", to]);
        let said = station.finish(command).expect(2);
        for part in parts {
            assert!(said.err.contains(part), "{part}: {said}");
        }
    }
    let said = explain(&station, &SIDES[0], &["--interface", "eth9"]).expect(2);
    assert!(said.err.contains("--interface") && said.err.contains("ext1"), "{said}");
    let help = station.finish(station.bare(&["explain", "--help"])).expect(0).out;
    assert!(help.contains("Examples:") && help.contains("Exit code"), "{help}");
}
