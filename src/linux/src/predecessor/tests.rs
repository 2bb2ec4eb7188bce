use std::collections::BTreeMap;

use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::names::{is_chain, is_target_set, jump_target, mark_set, matched_sets};
use super::routes::{Evidence, SimpleRule, parse_table_names};

const NAME: &str = "ABCDEFGHIJKLMNOPQRSTUV27";

fn rule(mark: Option<u32>, table: u32) -> SimpleRule {
    SimpleRule { priority: 32_765, mark, source: None, table }
}

fn routes_over(index: u32) -> Vec<RouteMessage> {
    let mut message = RouteMessage::default();
    message.attributes.push(RouteAttribute::Oif(index));
    vec![message]
}

#[test]
fn names_are_theirs_by_their_exact_shape() {
    for name in ["SNM-PREROUTING", "SNM-POSTROUTING-MASQ", &format!("MAP-{NAME}")] {
        assert!(is_chain(name), "{name}");
    }
    let lower = format!("MAP-{}", NAME.to_lowercase());
    for name in ["MAP-", "MAP-PORTS", "SNMP", "XMAP-", lower.as_str()] {
        assert!(!is_chain(name), "{name}");
    }
    assert!(is_target_set(&format!("DNAT-{NAME}")));
    assert!(!is_target_set("DNAT-web"));
}

#[test]
fn a_comment_is_never_taken_for_an_option() {
    let rule = format!(
        r#"-d 192.0.2.5/32 -m comment --comment "-j SNM-X --match-set other src" -m set --match-set DNAT-{NAME} src,dst -j MAP-{NAME}"#
    );
    assert_eq!(jump_target(&rule), Some(format!("MAP-{NAME}").as_str()));
    assert_eq!(matched_sets(&rule).collect::<Vec<_>>(), [format!("DNAT-{NAME}")]);
}

#[test]
fn a_mark_counts_where_value_and_mask_are_equal() {
    assert_eq!(mark_set("-j MARK --set-xmark 0x802/0x802"), Some(0x802));
    assert_eq!(mark_set("-j MARK --set-xmark 0x802/0xffffffff"), None);
    assert_eq!(mark_set("-j ACCEPT"), None);
}

#[test]
fn a_rule_by_mark_is_theirs_only_with_evidence() {
    let evidence = Evidence {
        interfaces: [(2, "eth1".to_owned())].into(),
        table_names: [(300, "eth1".to_owned()), (301, "vpn".to_owned())].into(),
        ..Evidence::default()
    };
    let marked = |index: u32, table| rule(Some(0x800 + index), table);
    assert!(evidence.convicts(&marked(2, 300), &routes_over(2)));
    assert!(evidence.convicts(&marked(2, 100), &[]));
    assert!(!evidence.convicts(&marked(2, 100), &routes_over(3)), "another interface's table");
    assert!(!evidence.convicts(&marked(2, 301), &routes_over(2)), "another name");
    assert!(!evidence.convicts(&marked(9, 300), &[]), "no such interface");
    assert!(!evidence.convicts(&rule(Some(0x7ff), 300), &[]), "too small a mark");
    assert!(!evidence.convicts(&rule(None, 300), &routes_over(2)), "no mark");

    let with_chains = Evidence { has_netfilter: true, ..evidence.clone() };
    assert!(with_chains.convicts(&marked(9, 300), &[]), "its interface is gone");
    assert!(!with_chains.convicts(&marked(0x800, 300), &[]), "far too large a mark");
    let by_chain = Evidence { marks: [0x809].into(), ..evidence };
    assert!(by_chain.convicts(&marked(9, 300), &routes_over(3)), "a chain sets it");
}

#[test]
fn a_rule_with_other_conditions_is_somebody_elses() {
    let mut plain = RuleMessage::default();
    plain.header.action = RuleAction::ToTable;
    plain.attributes = vec![
        RuleAttribute::FwMark(0x802),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(300),
        RuleAttribute::SuppressPrefixLen(u32::MAX),
    ];
    let decoded = SimpleRule::decode(&plain).expect("plain");
    assert_eq!((decoded.mark, decoded.table), (Some(0x802), 300));

    let with = |attribute| {
        let mut message = plain.clone();
        message.attributes.push(attribute);
        SimpleRule::decode(&message)
    };
    assert_eq!(with(RuleAttribute::FwMask(0xff00)), None);
    assert_eq!(with(RuleAttribute::Iifname("eth1".into())), None);
    assert_eq!(with(RuleAttribute::Protocol(83.into())), None);
    assert_eq!(with(RuleAttribute::Table(254)), None);
}

#[test]
fn names_of_tables_are_read_with_comments() {
    let text = "#\n255\tlocal\n300 eth1 # uplink\nnonsense\n0x12 hex\n";
    let names: BTreeMap<u32, String> = parse_table_names(text).into_iter().collect();
    assert_eq!(names, [(255, "local".into()), (300, "eth1".into())].into());
}
