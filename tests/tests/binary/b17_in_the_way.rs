//! nftables on a host where others drop what goes through it: our connections are accepted where
//! that is iptables', of either flavour, and named where it is a chain of nftables.

use std::process::Command;

use smartnat::lab::traffic::{self, Server};
use smartnat_core::model::IptablesFlavour;

use crate::b06_cleanup::used;
use crate::common::{SIDES, at, both_flavours, ip, servers};
use crate::manifests::{echo_mapping, service};
use crate::station::{GATEWAY, Station};

fn station(flavour: IptablesFlavour) -> Station {
    let station = Station::new(flavour);
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    let all = SIDES.map(|side| side.external);
    station.write("mapping.yaml", &(echo_mapping(&all) + "  egress: true\n"));
    station
}

fn nftables(station: &Station, word: &str) -> Command {
    let mut command = station.serving(word);
    command.env("SMARTNAT_BACKEND", "nftables");
    command
}

fn policy(station: &Station, policy: &str) {
    let programs = station.programs();
    for iptables in [programs.v4, programs.v6] {
        station.sh(&format!("{iptables} -P FORWARD {policy}"));
    }
}

fn is_served(station: &Station) -> bool {
    station.wait_answer(SIDES[0].client, at(SIDES[0].external, 8080), Some("pod1"))
}

/// Whether a pod is let out, with its external address.
fn is_let_out(station: &Station) -> bool {
    let to = at("192.0.2.10", 8080);
    let outcome = traffic::connect_tcp(&station.lab, "pod1", None, to, traffic::PATIENT);
    outcome.answer().map(|answer| answer.seen_peer.ip()) == Some(ip("198.51.100.10"))
}

/// The chain that accepts, as the kernel has it.
fn accepts(station: &Station) -> bool {
    let programs = station.programs();
    [programs.save4, programs.save6]
        .iter()
        .all(|save| station.sh(save).contains("-j SMARTNAT-FORWARD"))
}

both_flavours!(a_policy_of_drop_does_not_touch_our_connections, |flavour| {
    let station = station(flavour);
    let _servers = servers(&station.lab);
    let _far = Server::start(&station.lab, "client1", &[8080], &[]).expect("a server");
    policy(&station, "DROP");
    let before = station.host_text();
    let mut run = station.start(nftables(&station, "run"));
    run.wait_ready();
    assert!(is_served(&station) && is_let_out(&station), "{}", run.log());
    assert!(accepts(&station));
    run.wait_line(&["policy of filter/FORWARD", "accepted by rules of ours"]);

    // One changed endpoint costs no process.
    let processes = run.stats().processes_started;
    let syncs = run.stats().syncs;
    station.replace("service.yaml", &service("echo", &["10.244.1.12"]));
    assert!(station.wait_answer("client1", at(SIDES[0].external, 8080), Some("pod2")));
    run.wait_stats(|stats| stats.syncs > syncs);
    // With the legacy flavour what the kernel does not tell of is read every four seconds.
    if flavour != IptablesFlavour::Legacy {
        assert_eq!(run.stats().processes_started, processes);
    }
    run.terminate();
    // Nor does a restart that changes nothing.
    let mut run = station.start(nftables(&station, "run"));
    run.wait_ready();
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    run.terminate();
    station.finish(station.bare(&["cleanup"])).expect(0);
    assert_eq!(station.host_text(), before);
});

both_flavours!(what_others_do_while_we_run_is_followed_and_repaired, |flavour| {
    let station = station(flavour);
    let _servers = servers(&station.lab);
    // A table that others use: the kernel keeps legacy ones.
    policy(&station, "ACCEPT");
    let before = station.host_text();
    let mut run = station.start(nftables(&station, "run"));
    run.wait_ready();
    assert!(!accepts(&station), "nobody is in the way");
    policy(&station, "DROP");
    assert!(is_served(&station), "{}", run.log());
    assert!(accepts(&station));
    station.sh(&format!("{} -F SMARTNAT-FORWARD", station.programs().v4));
    assert!(is_served(&station), "{}", run.log());
    run.wait_line(&["put back", "SMARTNAT-FORWARD"]);
    policy(&station, "ACCEPT");
    let gone = || (!accepts(&station)).then_some(());
    smartnat::lab::wait_until(crate::station::PATIENCE, gone).expect("nobody is in the way");
    run.wait_status(|status| status.in_sync);
    run.terminate();
    station.finish(station.bare(&["cleanup"])).expect(0);
    assert_eq!(used(&station.host_text()), used(&before));
});

both_flavours!(a_change_of_the_backend_keeps_what_is_accepted, |flavour| {
    let station = station(flavour);
    let _servers = servers(&station.lab);
    policy(&station, "DROP");
    for backend in ["nftables", "iptables", "nftables"] {
        let mut command = station.serving("run");
        command.env("SMARTNAT_BACKEND", backend);
        let mut run = station.start(command);
        run.wait_ready();
        assert!(is_served(&station), "{backend}: {}", run.log());
        assert!(accepts(&station), "{backend}");
        run.terminate();
    }
});

#[test]
fn a_chain_of_nftables_that_drops_is_named_in_log_and_status() {
    if !smartnat::lab::available() {
        return;
    }
    let station = station(IptablesFlavour::Nft);
    let script = "nft -f - <<END
table inet firewall {
    chain gate { type filter hook forward priority 10; policy drop; }
    chain door { type filter hook input priority 10; policy drop; ct state established accept; }
    chain last { type filter hook forward priority 5; ct state established accept; counter reject with icmpx admin-prohibited; }
    chain open { type filter hook forward priority 6; counter; }
}
END";
    station.lab.command(GATEWAY, &["sh", "-c", script]).expect("a table of others");
    let mut run = station.start(nftables(&station, "run"));
    run.wait_ready();
    let named = |text: &str, chain: &str| {
        let name = format!("chain {chain} of table inet firewall (nftables)");
        text.lines().any(|line| line.contains(&name) && line.contains("drop"))
    };
    for chain in ["gate", "door", "last"] {
        run.wait_line(&["WARN", &format!("chain {chain} of table inet firewall"), "drop"]);
    }
    let status = station.finish(station.bare(&["status"])).expect(0).out;
    for (chain, expected) in [("gate", true), ("door", true), ("last", true), ("open", false)] {
        assert_eq!(named(&status, chain), expected, "{chain}: {status}");
        assert_eq!(named(&run.log(), chain), expected, "{chain}: {}", run.log());
    }
    run.terminate();
}
