//! What the Go version left is found and removed, and nothing else (T14).

mod common;

use common::{add_uplink, in_namespace, sh};
use smartnat_core::ops::OpErrorClass;
use smartnat_linux::predecessor::{find, remove};
use smartnat_linux::{NetworkNamespace, XtablesSettings};

const NAME: &str = "ABCDEFGHIJKLMNOPQRSTUV27";

fn settings() -> XtablesSettings {
    XtablesSettings::default()
}

/// Things of others that look alike, in every place where the Go version had something.
fn add_foreign(iptables: &str) {
    sh(&format!(
        "ipset create blocklist hash:net
         ipset create DNAT-web hash:ip
         ipset create {other} hash:ip
         {iptables} -t nat -N MAP-PORTS
         {iptables} -t nat -A PREROUTING -m comment --comment 'for SNM' -j MAP-PORTS
         {iptables} -t nat -A MAP-PORTS -m set --match-set blocklist src -j RETURN
         {iptables} -t mangle -A PREROUTING -j MARK --set-xmark 0x802/0x802
         {iptables} -t filter -N SNM
         ip rule add pref 500 fwmark 0x10 lookup 42
         ip rule add pref 501 fwmark 0x900 lookup 43
         ip rule add pref 502 from 192.0.2.2 lookup 44
         ip rule add pref 503 fwmark 0x802/0xfff lookup 100
         ip route add default via 192.0.2.1 table 43",
        other = "Z".repeat(24),
    ));
}

/// What the Go version made for one Mapping on `eth1`.
fn add_leftovers(iptables: &str) {
    let index: u32 = sh("ip -o link show eth1 | cut -d: -f1").trim().parse().expect("a number");
    let mark = format!("{:#x}", 0x800 + index);
    sh(&format!(
        "ipset create DNAT-{NAME} hash:net,port
         ipset add DNAT-{NAME} 0.0.0.0/1,tcp:80
         ipset create {NAME} hash:ip
         {iptables} -t nat -N SNM-PREROUTING
         {iptables} -t nat -A PREROUTING -m comment --comment 'for SNM' -j SNM-PREROUTING
         {iptables} -t nat -N SNM-POSTROUTING-MASQ
         {iptables} -t nat -A POSTROUTING -m comment --comment 'for SNM' -j SNM-POSTROUTING-MASQ
         {iptables} -t nat -A SNM-POSTROUTING-MASQ -m mark --mark 0x100000/0x100000 -j MASQUERADE
         {iptables} -t nat -N SNM-POSTROUTING-SNAT
         {iptables} -t nat -A POSTROUTING -m comment --comment 'for SNM' -j SNM-POSTROUTING-SNAT
         {iptables} -t nat -A SNM-POSTROUTING-SNAT -m set --match-set {NAME} src -j SNAT --to-source 192.0.2.2
         {iptables} -t nat -N MAP-{NAME}
         {iptables} -t nat -A MAP-{NAME} -j MARK --set-xmark 0x100000/0x100000
         {iptables} -t nat -A MAP-{NAME} -p tcp --dport 80 -m comment \
             --comment 'for mapping default/web [tcp:80:80]' -j DNAT --to-destination 10.96.0.9:80
         {iptables} -t nat -A SNM-PREROUTING -d 192.0.2.2/32 -m set --match-set DNAT-{NAME} src,dst -j MAP-{NAME}
         {iptables} -t mangle -N SNM-PREROUTING
         {iptables} -t mangle -A PREROUTING -m comment --comment 'for SNM' -j SNM-PREROUTING
         {iptables} -t mangle -A SNM-PREROUTING -m set --match-set {NAME} src -j MARK --set-xmark {mark}/{mark}
         ip route add 192.0.2.0/24 dev eth1 table 100
         ip route add default via 192.0.2.1 table 100
         ip rule add fwmark {mark} lookup 100
         ip rule add from 192.0.2.2 lookup 100",
    ));
}

fn state(iptables: &str) -> String {
    // Counters and times change by themselves.
    sh(&format!(
        "{iptables}-save | grep -v '^#' | sed 's/ \\[.*\\]//'
         ipset save; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all"
    ))
}

#[test]
fn exactly_the_objects_of_the_go_version_are_found_and_removed() {
    for iptables in ["iptables-nft", "iptables-legacy"] {
        in_namespace(|| {
            add_uplink();
            add_foreign(iptables);
            // Built-in chains that only its jumps brought stay: nobody can tell whose they are.
            sh(&format!("{iptables} -t nat -L >/dev/null; {iptables} -t mangle -L >/dev/null"));
            let before = state(iptables);
            assert!(find(settings()).expect("readable").is_empty());
            add_leftovers(iptables);

            let found = find(settings()).expect("readable");
            assert_eq!(found.unreadable, Vec::<String>::new());
            let counts = (found.jumps.len(), found.chains.len(), found.sets.len());
            assert_eq!(counts, (4, 5, 2), "{found:#?}");
            assert_eq!((found.rules.len(), found.routes.len()), (2, 2), "{found:#?}");
            let text = found.describe().join("\n");
            for part in [&format!("chain nat/MAP-{NAME}"), "from 192.0.2.2 lookup", "set DNAT-"] {
                assert!(text.contains(part), "{text}");
            }

            let removal = remove(&found, settings());
            assert_eq!(removal.failures, []);
            assert_eq!(removal.removed, found.describe().len());
            assert_eq!(state(iptables), before);
            assert!(find(settings()).expect("readable").is_empty());
        });
    }
}

#[test]
fn a_removal_goes_on_past_a_failure_and_names_it() {
    in_namespace(|| {
        add_uplink();
        add_leftovers("iptables-nft");
        // A foreign chain that jumps to one of theirs, and a foreign rule on one of their sets.
        sh(&format!(
            "iptables-nft -t nat -N FOREIGN; iptables-nft -t nat -A FOREIGN -j MAP-{NAME}
             iptables-nft -t filter -A FORWARD -m set --match-set {NAME} src -j ACCEPT"
        ));
        let found = find(settings()).expect("readable");
        let removal = remove(&found, settings());
        let objects: Vec<_> = removal.failures.iter().map(|f| f.object.clone()).collect();
        let expected = [format!("chain nat/MAP-{NAME} (IPv4)"), format!("set {NAME}")];
        assert_eq!(objects, expected, "{:#?}", removal.failures);
        assert!(removal.failures.iter().all(|f| f.class == OpErrorClass::Busy));

        let left = find(settings()).expect("readable");
        assert_eq!((left.chains.len(), left.jumps.len(), left.rules.len()), (1, 0, 0));
        assert_eq!(left.sets.len(), 1);
    });
}

#[test]
fn the_rules_of_an_interface_that_is_gone_are_found_by_the_chains() {
    in_namespace(|| {
        add_uplink();
        add_leftovers("iptables-nft");
        sh("ip link del eth1");
        let found = find(settings()).expect("readable");
        assert_eq!((found.rules.len(), found.routes.len()), (2, 0), "{found:#?}");
        assert_eq!(remove(&found, settings()).failures, []);
    });
}

#[test]
fn looking_changes_nothing() {
    in_namespace(|| {
        let namespace = NetworkNamespace::current().expect("proc is mounted");
        assert!(find(settings()).expect("readable").is_empty());
        assert_eq!(sh("nft list ruleset; cat /proc/self/net/ip_tables_names"), "", "{namespace}");
    });
}
