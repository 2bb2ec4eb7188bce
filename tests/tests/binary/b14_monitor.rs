//! What the running program tells of itself over HTTP, held against what packets met.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use smartnat::lab::wait_until;
use smartnat_core::model::IptablesFlavour;
use smartnat_core::model::Protocol::{Tcp, Udp};

use crate::common::{SIDES, ask, ask_briefly, at, both_flavours, servers};
use crate::manifests::{echo_mapping, mapping, service};
use crate::station::{GATEWAY, PATIENCE, REPAIR, Run, Station};

const PORT: u16 = 8080;
/// The gateway's address on the cluster side.
const INSIDE: &str = "10.244.1.1";
const LOOPBACK: &str = "127.0.0.1";

/// Status and body of a GET from a host of the lab; `None` when nobody answers.
fn fetch(station: &Station, from: &str, to: SocketAddr, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n");
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = station.lab.run(from, exchange).expect("the host").ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

/// The same on the gateway itself.
fn local(station: &Station, path: &str) -> Option<(u16, String)> {
    fetch(station, GATEWAY, at(LOOPBACK, PORT), path)
}

fn metrics(station: &Station) -> String {
    let (status, text) = local(station, "/metrics").expect("it answers");
    assert_eq!(status, 200, "{text}");
    text
}

/// A value of the metrics; absent where there is none.
fn value(text: &str, series: &str) -> Option<f64> {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.and_then(|number| number.parse().ok())
}

fn wait_value(station: &Station, series: &str, wanted: f64) {
    let mut last = None;
    let found = wait_until(PATIENCE, || {
        let text = metrics(station);
        last = value(&text, series);
        (last.is_some_and(|found| (found - wanted).abs() < f64::EPSILON)).then_some(())
    });
    assert!(found.is_some(), "{series} is {last:?}, not {wanted}:\n{}", metrics(station));
}

fn new_connections(mapping: &str, verdict: &str) -> String {
    format!("smartnat_mapping_new_connections_total{{mapping=\"{mapping}\",verdict=\"{verdict}\"}}")
}

fn echo(station: &Station, pods: &[&str]) {
    station.write("service.yaml", &service("echo", pods));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external, SIDES[1].external]));
}

/// Opens TCP connections from both clients that are answered.
fn connect(station: &Station, times: usize) {
    for side in [&SIDES[0], &SIDES[1]].iter().cycle().take(times) {
        let to = at(side.external, 8080);
        let outcome = ask(&station.lab, Tcp, side.client, side.source, to);
        assert!(outcome.is_answered(), "{outcome}");
    }
}

both_flavours!(it_is_ready_once_the_first_packet_is_served_and_not_before, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external]));
    let run = station.start(station.serving("run"));
    let mut early = 0;
    let ready = wait_until(PATIENCE, || match local(&station, "/readyz") {
        Some((200, _)) => Some(()),
        Some((status, reasons)) => {
            assert_eq!(status, 503, "{reasons}");
            assert!(!reasons.trim().is_empty(), "it says why not");
            early += 1;
            None
        }
        None => None,
    });
    assert!(ready.is_some(), "{}", run.log());
    let outcome = ask(&station.lab, Tcp, "client1", SIDES[0].source, at(SIDES[0].external, 8080));
    assert!(outcome.is_answered(), "ready after {early} refusals, but {outcome}");
    assert_eq!(local(&station, "/healthz"), Some((200, "ok\n".into())));
    let (_, check) = local(&station, "/healthcheck").expect("it answers");
    assert!(check.starts_with("OK 20") && check.ends_with('Z'), "{check}");
    run.terminate();
});

both_flavours!(what_keeps_it_from_serving_makes_it_unready_and_says_so, |flavour| {
    let station = Station::new(flavour);
    let mut command = station.command(&["run", "--uplink", "late0", "--manifests"]);
    command.arg(station.manifests());
    let run = station.start(command);
    let wait_ready = |wanted: u16, part: &str| {
        let mut last = None;
        let met = wait_until(PATIENCE, || {
            last = local(&station, "/readyz");
            last.as_ref().filter(|(s, text)| *s == wanted && text.contains(part)).map(|_| ())
        });
        assert!(met.is_some(), "{last:?}\n{}", run.log());
    };
    wait_ready(503, "late0");
    assert_eq!(local(&station, "/healthz").map(|(status, _)| status), Some(200));
    assert_eq!(value(&metrics(&station), "smartnat_ready"), Some(0.0));
    station.sh("ip link add late0 type veth peer name late1");
    station.sh("ip link set late0 up");
    station.sh("ip link set late1 up");
    station.sh("ip address add 192.0.2.65/26 dev late0");
    wait_ready(200, "ready");
    assert_eq!(value(&metrics(&station), "smartnat_uplinks"), Some(1.0));
    run.terminate();
});

/// `run` or `plan` with nftables.
fn with_nftables(station: &Station, word: &str) -> Command {
    let mut command = station.serving(word);
    command.env("SMARTNAT_BACKEND", "nftables");
    command
}

both_flavours!(traffic_of_each_mapping_is_counted_and_outlives_a_change_of_endpoints, |flavour| {
    let station = Station::new(flavour);
    assert_traffic_is_counted(&station, station.serving("run"));
});

#[test]
fn with_nftables_traffic_of_each_mapping_is_counted_too() {
    if smartnat::lab::available() {
        let station = Station::new(IptablesFlavour::Nft);
        assert_traffic_is_counted(&station, with_nftables(&station, "run"));
    }
}

fn assert_traffic_is_counted(station: &Station, serving: Command) {
    let _servers = servers(&station.lab);
    echo(station, &["10.244.1.11"]);
    let first = SIDES[0].external;
    let restricted = mapping("closed", &[first], 9000, "echo");
    station.write("closed.yaml", &(restricted + "  allowedSources: [203.0.113.200/32]\n"));
    station.write("nobody.yaml", &mapping("nobody", &[first], 9001, "nobody"));
    station.sh("sysctl -qw net.netfilter.nf_conntrack_acct=1");
    let mut run = station.start(serving);
    run.wait_ready();
    let before = metrics(station);
    let translated = new_connections("default/echo", "translated");
    assert_eq!(value(&before, &translated), Some(0.0), "{before}");
    connect(station, 4);
    let outcome = ask(&station.lab, Udp, "client1", SIDES[0].source, at(first, 5353));
    assert!(outcome.is_answered(), "{outcome}");
    wait_value(station, &translated, 5.0);

    let carried = |name: &str, direction: &str| {
        format!(
            "smartnat_mapping_{name}_total{{mapping=\"default/echo\",direction=\"{direction}\"}}"
        )
    };
    let text = metrics(station);
    for direction in ["in", "out"] {
        let packets = value(&text, &carried("packets", direction)).expect("it is counted");
        let bytes = value(&text, &carried("traffic_bytes", direction)).expect("it is counted");
        // Four TCP connections have at least three packets each way, the UDP one has one.
        assert!(packets >= 13.0 && bytes >= packets * 28.0, "{direction}: {text}");
    }

    for port in [9000, 9001] {
        ask_briefly(&station.lab, Tcp, "client1", SIDES[0].source, at(first, port));
    }
    let count = |text: &str, mapping: &str, verdict: &str| {
        value(text, &new_connections(&format!("default/{mapping}"), verdict))
    };
    let told = wait_until(PATIENCE, || {
        let text = metrics(station);
        let refused = count(&text, "closed", "refused")? >= 1.0;
        let nobody = count(&text, "nobody", "nobody_home")? >= 1.0;
        (refused && nobody).then_some(text)
    });
    let told = told.unwrap_or_else(|| panic!("{}", metrics(station)));
    assert_eq!(count(&told, "closed", "translated"), Some(0.0));
    assert_eq!(count(&told, "echo", "refused"), None, "{told}");

    // The rules of the port are written anew, and count from 0.
    station.write("service.yaml", &service("echo", &["10.244.1.12"]));
    assert!(station.wait_answer("client1", at(first, 8080), Some("pod2")));
    let after = metrics(station);
    assert!(value(&after, &translated).is_some_and(|n| n >= 5.0), "{after}");
    run.terminate();
}

#[test]
fn with_nftables_counts_outlive_changes_of_others_and_a_restart() {
    if !smartnat::lab::available() {
        return;
    }
    let station = Station::new(IptablesFlavour::Nft);
    let _servers = servers(&station.lab);
    echo(&station, &["10.244.1.11"]);
    let mut run = station.start(with_nftables(&station, "run"));
    run.wait_ready();
    let translated = new_connections("default/echo", "translated");
    connect(&station, 3);
    let listed = || station.sh("nft list map inet smartnat services4");
    assert!(listed().contains("counter packets"), "{}", listed());
    // Another Mapping comes on the same address, and goes.
    let first = SIDES[0].external;
    station.write("another.yaml", &mapping("another", &[first], 9002, "echo"));
    wait_value(&station, &new_connections("default/another", "translated"), 0.0);
    station.delete("another.yaml");
    connect(&station, 2);
    wait_value(&station, &translated, 5.0);
    let operations = run.stats().operations;
    run.terminate();

    let mut run = station.start(with_nftables(&station, "run"));
    run.wait_ready();
    assert!(operations > 0);
    assert_eq!(run.stats().operations, 0, "what was counted is no difference");
    connect(&station, 1);
    wait_value(&station, &translated, 6.0);
    run.terminate();
}

both_flavours!(repairs_operations_and_conditions_are_counted, |flavour| {
    let station = Station::new(flavour);
    echo(&station, &["10.244.1.11"]);
    station.write("late.yaml", &mapping("late", &[SIDES[0].external], 8080, "echo"));
    let run = station.serve();
    let text = metrics(&station);
    for (series, wanted) in [
        ("smartnat_mappings{condition=\"Accepted\",status=\"True\",reason=\"Valid\"}", 1.0),
        ("smartnat_mappings{condition=\"Accepted\",status=\"False\",reason=\"Conflict\"}", 1.0),
        ("smartnat_syncs_total{result=\"ok\"}", 1.0),
        ("smartnat_syncs_total{result=\"failed\"}", 0.0),
        ("smartnat_endpoints", 2.0),
        ("smartnat_uplinks", 2.0),
        ("smartnat_in_sync", 1.0),
        ("smartnat_drift_repairs_total", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(wanted), "{series}:\n{text}");
    }
    for series in [
        "smartnat_child_processes_total",
        "smartnat_conntrack_entries_limit",
        "smartnat_kernel_operations_total{domain=\"iptables\",result=\"ok\"}",
        "smartnat_last_successful_sync_timestamp_seconds",
    ] {
        assert!(value(&text, series).is_some_and(|n| n > 0.0), "{series}:\n{text}");
    }
    assert!(value(&text, "smartnat_conntrack_entries").is_some(), "{text}");
    station.sh(&format!("{} -t nat -F SMARTNAT-DNAT", station.programs().v4));
    let repaired = wait_until(REPAIR, || {
        let repairs = value(&metrics(&station), "smartnat_drift_repairs_total");
        repairs.filter(|number| *number >= 1.0)
    });
    assert_eq!(repaired, Some(1.0), "{}", run.log());
    run.terminate();
});

both_flavours!(scrapes_are_no_operations_and_cost_the_sync_no_process, |flavour| {
    let station = Station::new(flavour);
    echo(&station, &["10.244.1.11"]);
    let run = station.serve();
    let processes = "smartnat_child_processes_total";
    // A look of its own in between would count too: two scrapes that see the same one.
    let same = wait_until(PATIENCE, || {
        let (operations, before) = (run.stats().operations, value(&metrics(&station), processes));
        let after = value(&metrics(&station), processes);
        assert_eq!(run.stats().operations, operations);
        (before.is_some() && before == after).then_some(())
    });
    assert!(same.is_some(), "{}", metrics(&station));
    run.terminate();
});

both_flavours!(a_snapshot_is_for_this_host_and_explain_reads_it, |flavour| {
    let station = Station::new(flavour);
    echo(&station, &["10.244.1.11"]);
    let mut command = station.serving("run");
    command.args(["--monitor-address", "", "--monitor-port", "9999"]);
    let mut run = station.start(command);
    run.wait_ready();
    let inside = at(INSIDE, 9999);
    let (status, text) = fetch(&station, "pod1", inside, "/debug/snapshot").expect("it answers");
    assert_eq!(status, 403, "{text}");
    let (status, _) = fetch(&station, "pod1", inside, "/readyz").expect("it answers");
    assert_eq!(status, 200, "probes may come from elsewhere");
    let own = fetch(&station, GATEWAY, inside, "/debug/snapshot").expect("it answers");
    assert_eq!(own.0, 403, "a loopback address, not one of the host's others");
    let guarded = at(SIDES[0].external, 9999);
    assert_eq!(fetch(&station, "client1", guarded, "/healthz"), None, "the guard is in between");
    let v6 = fetch(&station, GATEWAY, at("::1", 9999), "/debug/snapshot").expect("both families");
    let (status, snapshot) = v6;
    assert_eq!(status, 200, "{snapshot}");
    let file = station.path("snapshot.json");
    std::fs::write(&file, &snapshot).expect("written");
    let mut explain = station.command(&["explain", "--from", SIDES[0].source, "--to"]);
    explain.arg(format!("{}/tcp", at(SIDES[0].external, 8080))).arg("--snapshot").arg(&file);
    let said = station.finish(explain).expect(0);
    assert!(said.out.contains("DELIVERED") && said.out.contains("10.244.1.11:8080"), "{said}");
    run.terminate();
});

both_flavours!(a_port_that_is_taken_is_named_with_the_mend_before_anything_is_done, |flavour| {
    let station = Station::new(flavour);
    echo(&station, &["10.244.1.11"]);
    let before = station.host_lines();
    let hold = || TcpListener::bind(at(LOOPBACK, PORT));
    let _holder = station.lab.run(GATEWAY, hold).expect("the host").expect("the port is free");
    let said = station.finish(station.serving("run")).expect(1);
    for part in ["monitorPort", "127.0.0.1:8080", "--monitor-port", "SMARTNAT_MONITOR_PORT"] {
        assert!(said.err.contains(part), "{part}: {said}");
    }
    assert_eq!(station.host_lines(), before, "nothing was changed");
    let mut command = station.serving("run");
    command.args(["--monitor-port", "0"]);
    let mut run: Run = station.start(command);
    run.wait_ready();
    run.terminate();
});

both_flavours!(loopback_that_is_not_there_yet_keeps_nobody_from_serving, |flavour| {
    let station = Station::new(flavour);
    let _servers = servers(&station.lab);
    echo(&station, &["10.244.1.11"]);
    station.sh("ip address flush dev lo");
    station.sh("ip link set lo down");
    let run = station.serve();
    run.wait_line(&["WARN", "monitorAddress", "127.0.0.1"]);
    connect(&station, 2);
    station.sh("ip link set lo up");
    station.sh("ip address replace 127.0.0.1/8 dev lo");
    let answered = wait_until(PATIENCE, || local(&station, "/readyz").filter(|(s, _)| *s == 200));
    assert!(answered.is_some(), "{}", run.log());
    run.terminate();
});
