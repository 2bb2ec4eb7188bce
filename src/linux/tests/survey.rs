//! What is foreign and matters is found, and looking changes nothing.

mod common;

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};

use common::{add_uplink, in_namespace, sh};
use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::status::UplinkStatus;
use smartnat_linux::XtablesSettings;
use smartnat_linux::survey::{Survey, Uplinks, forwarding_users, survey};

fn uplinks(guarded: bool) -> Uplinks {
    let addresses = ["192.0.2.2", "2001:db8::2"].map(|a| a.parse().expect("an address")).into();
    let eth1 = UplinkStatus { number: 1, addresses, gateways: Vec::new(), guarded };
    [("eth1".to_owned(), eth1)].into()
}

fn look(guarded: bool) -> Survey {
    survey(Some(IptablesFlavour::Nft), XtablesSettings::default(), &uplinks(guarded))
}

fn users() -> BTreeMap<Family, Vec<String>> {
    forwarding_users(XtablesSettings::default())
}

#[test]
fn foreign_translations_policies_and_listeners_are_found() {
    in_namespace(|| {
        add_uplink();
        assert_eq!(look(true).messages(), [""; 0]);
        assert_eq!(users(), BTreeMap::new());
        assert_eq!(sh("nft list ruleset; cat /proc/self/net/ip_tables_names"), "");

        sh("iptables-nft -t nat -A PREROUTING -d 192.0.2.2 -p tcp --dport 80 \
                -j DNAT --to-destination 10.0.0.1
            ip6tables-legacy -t nat -N WEB
            ip6tables-legacy -t nat -A WEB -p tcp -j REDIRECT --to-ports 8080
            iptables-nft -P FORWARD DROP; ip6tables-nft -P INPUT DROP
            iptables-legacy -P FORWARD DROP");
        let _tcp = TcpListener::bind("192.0.2.2:8080").expect("bound");
        let _udp = UdpSocket::bind("[2001:db8::2]:53").expect("bound");
        let _all = TcpListener::bind("0.0.0.0:22").expect("bound");
        let _local = TcpListener::bind("127.0.0.1:631").expect("bound");

        let found = look(true);
        let at: Vec<_> =
            found.translations.iter().map(|t| (t.chain.to_string(), t.uplink.as_deref())).collect();
        let expected = [
            ("nat/PREROUTING (iptables-nft, IPv4)".to_owned(), Some("eth1")),
            ("nat/WEB (iptables-legacy, IPv6)".to_owned(), None),
        ];
        assert_eq!(at, expected);
        let at: Vec<_> = found.dropping_policies.iter().map(ToString::to_string).collect();
        let expected = [
            "filter/FORWARD (iptables-nft, IPv4)",
            "filter/INPUT (iptables-nft, IPv6)",
            "filter/FORWARD (iptables-legacy, IPv4)",
        ];
        assert_eq!(at, expected);
        let accepted = |survey: &Survey| {
            let messages = survey.messages();
            messages.iter().filter(|m| m.contains("are accepted by rules of ours")).count()
        };
        assert_eq!(accepted(&found), 2, "ours are in iptables-nft: {:?}", found.messages());
        let listeners = |survey: &Survey| -> Vec<_> {
            let listener = |l: &smartnat_linux::survey::Listener| {
                (l.uplink.clone(), l.address.to_string(), l.open_to.len())
            };
            survey.listeners.iter().map(listener).collect()
        };
        let eth1 = || Some("eth1".to_owned());
        let of_uplink = |open| {
            vec![
                (eth1(), "192.0.2.2:8080".to_owned(), open),
                (eth1(), "[2001:db8::2]:53".to_owned(), open),
            ]
        };
        assert_eq!(listeners(&found), of_uplink(0));
        assert_eq!(found.messages().len(), 7);
        let everywhere = (None, "0.0.0.0:22".to_owned(), 1);
        assert_eq!(listeners(&look(false)), [vec![everywhere], of_uplink(1)].concat());
        serde_json::to_string(&found).expect("serialisable");
    });
}

#[test]
fn chains_of_nftables_itself_are_found() {
    in_namespace(|| {
        sh("nft 'add table inet site
            add chain inet site local { type filter hook input priority 0; policy drop; }
            add chain inet site through { type filter hook forward priority 0; policy drop; }
            add chain inet site last { type filter hook forward priority 1; }
            add rule inet site last ct state established accept
            add rule inet site last counter log reject with icmpx admin-prohibited
            add chain inet site open { type filter hook forward priority 2; }
            add rule inet site open tcp dport 9 drop
            add chain inet site pre { type nat hook prerouting priority -100; }
            add chain inet site post { type nat hook postrouting priority 100; }
            add chain inet site own { type nat hook output priority -100; }
            add rule inet site pre tcp dport 80 redirect to :8080
            add rule inet site post masquerade'");
        let found = look(true);
        let names = |chains: &[smartnat_linux::survey::NativeChain]| {
            chains.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let dropping = ["local", "through", "last"];
        let dropping = dropping.map(|c| format!("chain {c} of table inet site (nftables)"));
        assert_eq!(names(&found.native_drops), dropping);
        assert_eq!(names(&found.native_translations), ["chain pre of table inet site (nftables)"]);
        assert_eq!(found.messages().len(), 4);
        let reasons = ["pre", "post"].map(|c| format!("chain {c} of table inet site (nftables)"));
        for (family, told) in users() {
            let mut expected = reasons.to_vec();
            expected.sort();
            assert_eq!(told, expected, "{family}");
        }
        assert_eq!(users().len(), 2);
    });
}

/// T16.
#[test]
fn translations_and_bridges_of_others_need_forwarding() {
    in_namespace(|| {
        sh("iptables-nft -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE
            iptables-nft -t nat -A POSTROUTING -m comment --comment '-j SNAT' -j RETURN
            ip6tables-legacy -t nat -N WEB
            ip6tables-legacy -t nat -A WEB -p tcp -j DNAT --to-destination fd00::1
            ip link add br0 type bridge");
        let expected: BTreeMap<Family, Vec<String>> = [
            (Family::V4, vec!["MASQUERADE in nat/POSTROUTING (iptables-nft)".to_owned()]),
            (Family::V6, vec!["DNAT in nat/WEB (iptables-legacy)".to_owned()]),
        ]
        .into();
        assert_eq!(users(), expected, "a bridge without ports has nobody behind it");
        sh("iptables-nft -t nat -F; ip6tables-legacy -t nat -F
            ip link add port0 type veth peer name far0; ip link set port0 master br0");
        let expected = Family::ALL.map(|family| (family, vec!["bridge br0".to_owned()]));
        assert_eq!(users(), expected.into());
    });
}

/// Its programs tell of the table without the chain, or that they cannot read the table.
#[test]
fn translations_of_nftables_in_a_table_of_iptables_are_found() {
    in_namespace(|| {
        sh("nft 'add table ip nat
            add chain ip nat post { type nat hook postrouting priority 100; }
            add rule ip nat post masquerade'");
        let reasons = vec!["chain post of table ip nat (nftables)".to_owned()];
        assert_eq!(users(), [(Family::V4, reasons)].into());
        sh("nft delete table ip nat
            iptables-nft -t nat -A POSTROUTING -j ACCEPT
            nft 'add rule ip nat POSTROUTING ip saddr { 10.0.0.0/8, 11.0.0.0/8 } masquerade'");
        let told = users();
        assert_eq!(told.keys().collect::<Vec<_>>(), [&Family::V4]);
        assert!(told[&Family::V4][0].contains("cannot read"), "{told:?}");
        let messages = look(true).messages();
        assert!(messages.iter().any(|m| m.contains("cannot be read: table nat")), "{messages:?}");
    });
}

#[test]
fn our_own_table_is_not_foreign_and_drops_of_others_concern_it() {
    in_namespace(|| {
        add_uplink();
        sh("nft add table inet smartnat
            nft add chain inet smartnat translate \
                '{ type nat hook prerouting priority -101; policy accept; }'
            nft add chain inet smartnat forward \
                '{ type filter hook forward priority -150; policy accept; }'
            nft add rule inet smartnat translate redirect
            iptables-nft -P FORWARD DROP");
        let native = || survey(None, XtablesSettings::default(), &uplinks(true));
        let [told] = &native().messages()[..] else { panic!("{:?}", native().messages()) };
        assert!(told.contains("accepted by rules of ours"), "{told}");
        assert_eq!(users(), BTreeMap::new());
        sh("nft add table ip smartnat-like
            nft add chain ip smartnat-like forward \
                '{ type filter hook forward priority 0; policy drop; }'");
        assert_eq!(native().native_drops.len(), 1);
    });
}
