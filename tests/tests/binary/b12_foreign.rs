//! What others have on this host is told where it matters (T14), and not cut off (T16).

use std::net::TcpListener;

use crate::common::{SIDES, at, both_flavours};
use crate::manifests::{echo_mapping, service};
use crate::station::{GATEWAY, Station};

fn echo(station: &Station) {
    station.write("service.yaml", &service("echo", &["10.244.1.11"]));
    station.write("mapping.yaml", &echo_mapping(&[SIDES[0].external]));
}

fn forwarding(station: &Station) -> [String; 2] {
    ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]
        .map(|key| station.lab.sysctl(GATEWAY, key).expect("a sysctl"))
}

/// A listener on an external address, a translation of it and a policy, all of others.
fn foreigners(station: &Station) -> TcpListener {
    let iptables = station.programs().v4;
    let external = SIDES[0].external;
    station.sh(&format!(
        "{iptables} -t nat -A PREROUTING -d {external} -p tcp --dport 81 -j DNAT \
         --to-destination 10.244.1.12:81"
    ));
    station.sh(&format!("{iptables} -P FORWARD DROP"));
    let listen = || TcpListener::bind(at(external, 8443));
    station.lab.run(GATEWAY, listen).expect("the gateway").expect("a free port")
}

both_flavours!(what_is_foreign_and_matters_is_in_log_plan_and_status, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let _listener = foreigners(&station);
    let expected: [&[&str]; 3] = [
        &["foreign rule in nat/PREROUTING", "address of uplink ext1", "--dport 81"],
        &["policy of filter/FORWARD", "accepted by rules of ours"],
        &["listens", "198.51.100.10:8443", "address of uplink ext1", "the guard keeps"],
    ];
    let has_all = |lines: &[String]| {
        for words in expected {
            let found = lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(found, "{words:?}: {lines:#?}");
        }
    };
    let text = station.finish(station.serving("plan")).expect(0).out;
    let notes: Vec<String> =
        text.lines().filter(|line| line.starts_with("Note: ")).map(str::to_owned).collect();
    has_all(&notes);
    let mut command = station.serving("plan");
    command.args(["-o", "json"]);
    let strings = |value: &serde_json::Value| -> Vec<String> {
        let list = value.as_array().expect("a list").iter();
        list.map(|item| item.as_str().expect("a message").to_owned()).collect()
    };
    has_all(&strings(&station.finish(command).expect(0).json()["foreign"]));

    let run = station.serve();
    for words in expected {
        run.wait_line(&[&["WARN"][..], words].concat());
    }
    let status = |words: &[&str]| station.finish(station.command(words)).expect(0);
    has_all(&strings(&status(&["status", "-o", "json"]).json()["status"]["foreign"]));
    let lines: Vec<String> = status(&["status"]).out.lines().map(str::to_owned).collect();
    has_all(&lines);
    run.terminate();
});

both_flavours!(the_last_uplink_leaves_forwarding_on_for_the_nat_of_others, |flavour| {
    let station = Station::new(flavour);
    echo(&station);
    let run = station.serve();
    let iptables = station.programs().v4;
    // Only now: what counts is who needs it when the last uplink goes.
    station.sh(&format!("{iptables} -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE"));
    station.sh("ip link delete ext1");
    station.sh("ip link delete ext2");
    run.wait_line(&["WARN", "IPv4 forwarding stays on", "MASQUERADE in nat/POSTROUTING"]);
    run.wait_status(|status| status.uplinks.is_empty());
    assert_eq!(forwarding(&station), ["1", "0"]);
    run.terminate();
});
