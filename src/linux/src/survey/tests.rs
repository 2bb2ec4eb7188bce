use super::*;

fn uplinks(guarded: bool) -> Uplinks {
    let addresses = ["192.0.2.2", "2001:db8::2"].map(|a| a.parse().expect("an address")).into();
    let eth1 = UplinkStatus { number: 1, addresses, gateways: Vec::new(), guarded };
    [("eth1".to_owned(), eth1)].into()
}

fn chain(program: &str, table: &str, chain: &str) -> ForeignChain {
    ForeignChain {
        program: program.into(),
        family: Family::V4,
        table: table.into(),
        chain: chain.into(),
    }
}

#[test]
fn a_target_is_not_taken_from_a_comment() {
    for (rule, target) in [
        ("-p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80", Some("DNAT")),
        ("-p tcp -j REDIRECT --to-ports 8080", Some("REDIRECT")),
        ("-m comment --comment \"see -j DNAT below\" -j RETURN", Some("RETURN")),
        ("-j DNAT-WEB", Some("DNAT-WEB")),
        ("-g WEB", None),
    ] {
        assert_eq!(target_of(rule), target, "{rule}");
    }
}

#[test]
fn a_translation_of_an_uplinks_address_names_the_uplink() {
    let uplinks = uplinks(true);
    for (rule, uplink) in [
        ("-d 192.0.2.2/32 -p tcp -j DNAT --to-destination 10.0.0.1", Some("eth1")),
        ("-d 192.0.2.0/24 -j REDIRECT", Some("eth1")),
        ("-d 2001:db8::2/128 -j DNAT --to-destination fd00::1", Some("eth1")),
        ("! -d 192.0.2.2/32 -j REDIRECT", None),
        ("-d 10.0.0.1/32 -j DNAT --to-destination 10.0.0.2", None),
        ("-m comment --comment \"-d 192.0.2.2/32\" -j REDIRECT", None),
        ("-d nonsense -j REDIRECT", None),
    ] {
        assert_eq!(uplink_of(rule, &uplinks).as_deref(), uplink, "{rule}");
    }
    let told = |uplink: Option<String>| {
        let chain = chain("iptables-nft", "nat", "WEB");
        let translation = ForeignTranslation { chain, rule: "-j REDIRECT".into(), uplink };
        Survey { translations: vec![translation], ..Survey::default() }.messages().concat()
    };
    assert!(told(Some("eth1".into())).contains("an address of uplink eth1"));
    assert!(!told(None).contains("uplink"));
}

#[test]
fn a_socket_matters_on_an_address_of_an_uplink_or_where_the_guard_is_off() {
    let found = |address: &str, guarded| {
        let address = SocketAddr::new(address.parse().expect("an address"), 80);
        listener(Protocol::Tcp, address, &uplinks(guarded))
    };
    let on_uplink = found("192.0.2.2", true).expect("an address of eth1");
    assert_eq!((on_uplink.uplink.as_deref(), on_uplink.open_to.len()), (Some("eth1"), 0));
    assert_eq!(found("0.0.0.0", true), None, "the guard keeps everybody from it");
    assert_eq!(found("127.0.0.1", false), None);
    for address in ["192.0.2.2", "::"] {
        assert_eq!(found(address, false).expect("reachable").open_to, ["eth1".to_owned()].into());
    }
    let everywhere = SocketAddr::new("0.0.0.0".parse().expect("an address"), 80);
    assert_eq!(listener(Protocol::Tcp, everywhere, &Uplinks::new()), None);
}

#[test]
fn a_message_about_a_listener_says_whether_it_can_be_reached() {
    let told = |address: &str, guarded| {
        let address = SocketAddr::new(address.parse().expect("an address"), 80);
        let listener = listener(Protocol::Tcp, address, &uplinks(guarded)).expect("it matters");
        Survey { listeners: [listener].into(), ..Survey::default() }.messages().concat()
    };
    assert!(told("192.0.2.2", true).contains("the guard keeps everybody else from it"));
    assert!(told("192.0.2.2", false).contains("can be reached from eth1"));
    assert!(told("::", false).contains("can be reached from eth1"));
}

#[test]
fn a_dropping_policy_is_passed_by_our_rules_only_where_they_are() {
    let told = |serving: &[&str]| {
        let serving = serving.iter().map(|s| (*s).to_owned()).collect();
        let dropping_policies = vec![chain("iptables-nft", "filter", "FORWARD")];
        Survey { dropping_policies, serving, ..Survey::default() }.messages().concat()
    };
    assert!(told(&["iptables-nft"]).contains("packets of Mappings are accepted by rules of ours"));
    let other = told(&["iptables-legacy"]);
    assert!(other.contains("packets of Mappings too"), "{other}");
    assert!(other.contains("our rules are in iptables-legacy"), "{other}");
    let native = told(&["nftables"]);
    assert!(native.contains("packets of Mappings are accepted by rules of ours"), "{native}");
}

#[test]
fn many_of_a_kind_are_told_by_number() {
    let chain = chain("iptables-nft", "nat", "KUBE-SEP");
    let rule =
        |n| ForeignTranslation { chain: chain.clone(), rule: format!("-j DNAT {n}"), uplink: None };
    let survey = Survey { translations: (0..100).map(rule).collect(), ..Survey::default() };
    let messages = survey.messages();
    assert_eq!(messages.len(), MAX_NAMED + 1);
    assert!(messages[MAX_NAMED].starts_with("95 more"), "{messages:?}");
}
