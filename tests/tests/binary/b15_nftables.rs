//! The backend nftables with the program: it serves, is shown and goes without a trace.

use std::process::Command;

use smartnat::lab::{Lab, traffic};
use smartnat_core::model::{IptablesFlavour, Protocol};
use smartnat_linux::NftClient;

use crate::b08_bad_input::without_iptables;
use crate::common::{SIDES, at, servers};
use crate::manifests::{echo_mapping, service};
use crate::station::{GATEWAY, Station};

/// A station with one Mapping; none without privileges.
fn station() -> Option<Station> {
    if !smartnat::lab::available() {
        return None;
    }
    let station = Station::new(IptablesFlavour::Nft);
    station.write("service.yaml", &service("echo", &["10.244.1.11", "10.244.1.12"]));
    station.write("mapping.yaml", &echo_mapping(&SIDES.map(|side| side.external)));
    Some(station)
}

/// `run` or `plan` with a backend.
fn serving(station: &Station, word: &str, backend: &str) -> Command {
    let mut command = station.serving(word);
    command.env("SMARTNAT_BACKEND", backend);
    command
}

fn is_answered(lab: &Lab) -> bool {
    let side = SIDES[0];
    let to = at(side.external, 8080);
    let open = traffic::open(lab, side.client, Protocol::Tcp, None, to, traffic::PATIENT);
    let mut connection = open.expect("the lab").expect("a connection");
    connection.ask("1", traffic::PATIENT).is_answered()
}

/// Whether our table is there.
fn has_table(station: &Station) -> bool {
    let observe = || NftClient::open().and_then(|mut client| client.observe());
    station.lab.run(GATEWAY, observe).expect("the gateway").expect("observed").is_some()
}

#[test]
fn it_serves_and_clean_up_leaves_what_was_before_whatever_backend_is_configured() {
    let Some(station) = station() else { return };
    let _servers = servers(&station.lab);
    let before = station.host_text();
    for configured in ["nftables", "auto", "iptables"] {
        let mut run = station.start(serving(&station, "run", "nftables"));
        run.wait_ready();
        assert!(has_table(&station));
        assert!(is_answered(&station.lab));
        run.terminate();
        assert!(is_answered(&station.lab), "the dataplane serves on");
        let mut clean_up = station.bare(&["cleanup"]);
        clean_up.env("SMARTNAT_BACKEND", configured);
        let said = station.finish(clean_up).expect(0);
        assert!(said.out.contains("Everything is removed ("), "{said}");
        assert_eq!(station.host_text(), before, "{configured}");
        assert!(!has_table(&station));
    }
}

#[test]
fn it_needs_no_program_of_iptables() {
    let Some(station) = station() else { return };
    let _servers = servers(&station.lab);
    let before = station.host_text();
    let mut command = without_iptables(&station.serving("run"));
    command.env("SMARTNAT_BACKEND", "nftables");
    let mut run = station.start(command);
    run.wait_ready();
    assert!(is_answered(&station.lab));
    run.terminate();
    let mut clean_up = without_iptables(&station.bare(&["cleanup"]));
    clean_up.env("SMARTNAT_BACKEND", "auto");
    let said = station.finish(clean_up).expect(0);
    assert!(said.out.contains("Everything is removed ("), "{said}");
    assert_eq!(station.host_text(), before);
}

#[test]
fn the_backend_is_chosen_by_what_the_kernel_has_and_told() {
    let Some(station) = station() else { return };
    let mut run = station.start(serving(&station, "run", "auto"));
    run.wait_ready();
    assert!(
        run.log().contains("the backend is nftables: the kernel has nftables"),
        "{}",
        run.log()
    );
    run.terminate();
}

#[test]
fn a_plan_shows_sets_chains_and_rules_as_nft_does_until_they_are_there() {
    let Some(station) = station() else { return };
    let said = station.finish(serving(&station, "plan", "nftables")).expect(0);
    for line in [
        "+ table inet smartnat",
        "+ map services4",
        "+ chain services",
        "+     (ip daddr . meta l4proto . th dport map @services4) vmap @targets",
        "+     type nat hook prerouting priority dstnat - 1; policy accept;",
    ] {
        assert!(said.out.contains(line), "{line:?} is missing in {said}");
    }
    assert!(!has_table(&station), "a plan changes nothing");
    let mut json = serving(&station, "plan", "nftables");
    json.args(["-o", "json"]);
    let plan = station.finish(json).expect(0).json();
    assert!(plan["transactions"].as_array().is_some_and(|t| !t.is_empty()), "{plan}");

    let mut run = station.start(serving(&station, "run", "nftables"));
    run.wait_ready();
    run.terminate();
    let said = station.finish(serving(&station, "plan", "nftables")).expect(0);
    assert!(said.out.contains("Nothing would change."), "{said}");
}

/// A Service that keeps its clients, and a Mapping of it with all that one can say.
const EVERYTHING: &str = r#"apiVersion: v1
kind: Service
metadata: {name: sticky, namespace: default}
spec:
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  ports:
  - {name: http, protocol: TCP, port: 80}
  - {name: media, protocol: UDP, port: 6000}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sticky-4, namespace: default, labels: {kubernetes.io/service-name: sticky}}
addressType: IPv4
ports: &ports
- {name: http, protocol: TCP, port: 8080}
- {name: media, protocol: UDP, port: 7000}
endpoints:
- {addresses: ["10.244.1.11"]}
- {addresses: ["10.244.1.12"]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sticky-6, namespace: default, labels: {kubernetes.io/service-name: sticky}}
addressType: IPv6
ports:
- {name: http, protocol: TCP, port: 8080}
- {name: media, protocol: UDP, port: 7000}
endpoints:
- {addresses: ["fd00:244:1::11"]}
---
apiVersion: smartnat.aureacentral.com/v1alpha1
kind: Mapping
metadata: {name: sticky, namespace: default}
spec:
  addresses: [EXTERNAL]
  serviceName: sticky
  egress: true
  masquerade: false
  allowedSources: ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32"]
  ports:
  - {port: 80}
  - {port: 6000, endPort: 6010, protocol: udp, servicePort: media}
---
apiVersion: smartnat.aureacentral.com/v1alpha1
kind: Mapping
metadata: {name: for-all, namespace: default}
spec:
  addresses: [EXTERNAL]
  serviceName: sticky
  ports:
  - {port: 8081, servicePort: http}
  - {port: 7000, endPort: 7010, protocol: udp, servicePort: media}
"#;

#[test]
fn nft_lists_all_that_it_serves() {
    let Some(station) = station() else { return };
    let addresses: Vec<String> = SIDES.iter().map(|side| format!("{:?}", side.external)).collect();
    let everything = EVERYTHING.replace("EXTERNAL", &addresses.join(", ")).replace("&ports", "");
    station.write("everything.yaml", &everything);
    let mut run = station.start(serving(&station, "run", "nftables"));
    run.wait_ready();
    let listed = station.sh("nft list ruleset");
    for line in [
        "vmap @targets comment \"by the name that @services4 has for it\"",
        "comment \"default/sticky\" : 0x00000000 . \"f~",
        "comment \"default/for-all\" : 0x00000000 . \"s~",
        " : goto spread4-2-affinity-600",
        "map @affinity4",
        "map @members4",
        "map @range-members4:th dport map @shift-",
    ] {
        assert!(listed.contains(line), "{line:?} is missing in {listed}");
    }
    let plan = station.finish(serving(&station, "plan", "nftables")).expect(0);
    assert!(plan.out.contains("Nothing would change."), "{plan}");
    run.terminate();
}

#[test]
fn a_table_of_somebody_else_is_left_alone_and_named() {
    let Some(station) = station() else { return };
    station.sh("nft add table inet smartnat");
    station.sh("nft add chain inet smartnat theirs");
    let before = station.host_text();
    for backend in ["nftables", "auto"] {
        let said = station.finish(serving(&station, "run", backend)).expect(1);
        assert!(said.err.contains("table inet smartnat"), "{said}");
        assert!(said.err.contains("somebody else made it"), "{said}");
        assert_eq!(station.host_text(), before);
        assert!(station.sh("nft list table inet smartnat").contains("chain theirs"));
    }
}

#[test]
fn a_table_that_somebody_puts_in_place_of_ours_is_left_alone_until_it_is_gone() {
    let Some(station) = station() else { return };
    let _servers = servers(&station.lab);
    let mut run = station.start(serving(&station, "run", "nftables"));
    run.wait_ready();
    let replace = || {
        // At once, so that ours has no time to come back.
        station.sh("nft delete table inet smartnat; add table inet smartnat; add chain inet smartnat theirs");
        station.sh("nft list table inet smartnat")
    };
    let theirs = replace();
    run.wait_line(&["table inet smartnat", "somebody else made it", "nft delete table"]);
    run.wait_status(|status| !status.in_sync);
    assert_eq!(station.sh("nft list table inet smartnat"), theirs);
    station.sh("nft delete table inet smartnat");
    run.wait_status(|status| status.in_sync);
    assert!(is_answered(&station.lab));
    run.terminate();

    let theirs = replace();
    let mut clean_up = station.bare(&["cleanup"]);
    clean_up.env("SMARTNAT_BACKEND", "nftables");
    let said = station.finish(clean_up).expect(1);
    assert!(said.out.contains("somebody else made it"), "{said}");
    assert_eq!(station.sh("nft list table inet smartnat"), theirs);
}
