//! What is foreign and matters is found, and looking changes nothing.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener, UdpSocket};

use common::{add_uplink, in_namespace, sh};
use smartnat_linux::XtablesSettings;
use smartnat_linux::survey::{Survey, survey};

fn uplinks() -> BTreeMap<String, BTreeSet<IpAddr>> {
    let addresses = ["192.0.2.2", "2001:db8::2"].map(|a| a.parse().expect("an address"));
    [("eth1".to_owned(), addresses.into())].into()
}

fn look() -> Survey {
    survey(XtablesSettings::default(), &uplinks())
}

#[test]
fn foreign_translations_policies_and_listeners_are_found() {
    in_namespace(|| {
        add_uplink();
        assert!(look().is_empty(), "{:?}", look());
        assert_eq!(sh("nft list ruleset; cat /proc/self/net/ip_tables_names"), "");

        sh("iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1
            ip6tables-legacy -t nat -N WEB
            ip6tables-legacy -t nat -A WEB -p tcp -j REDIRECT --to-ports 8080
            iptables-nft -P FORWARD DROP; ip6tables-nft -P INPUT DROP");
        let _tcp = TcpListener::bind("192.0.2.2:8080").expect("bound");
        let _udp = UdpSocket::bind("[2001:db8::2]:53").expect("bound");
        let _all = TcpListener::bind("0.0.0.0:22").expect("bound");
        let _local = TcpListener::bind("127.0.0.1:631").expect("bound");

        let found = look();
        let at: Vec<_> = found.translations.iter().map(|t| t.chain.to_string()).collect();
        let expected = ["nat/PREROUTING (iptables-nft, IPv4)", "nat/WEB (iptables-legacy, IPv6)"];
        assert_eq!(at, expected);
        let at: Vec<_> = found.dropping_policies.iter().map(ToString::to_string).collect();
        let expected = ["filter/FORWARD (iptables-nft, IPv4)", "filter/INPUT (iptables-nft, IPv6)"];
        assert_eq!(at, expected);
        let listeners: Vec<_> =
            found.listeners.iter().map(|l| (l.uplink.as_deref(), l.address.to_string())).collect();
        let expected = [
            (None, "0.0.0.0:22".to_owned()),
            (Some("eth1"), "192.0.2.2:8080".to_owned()),
            (Some("eth1"), "[2001:db8::2]:53".to_owned()),
        ];
        assert_eq!(listeners, expected);
        assert_eq!(found.messages().len(), 7);
        serde_json::to_string(&found).expect("serialisable");
    });
}
