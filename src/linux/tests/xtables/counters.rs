//! Counters of rules, against packets that were really sent.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use smartnat_core::objects::BuiltinHook;
use smartnat_core::ops::NetworkOp;

use super::*;

#[test]
fn rules_of_the_wanted_chains_tell_what_they_counted() {
    for_each(|xtables, family| {
        let id = table(family, XtTable::Mangle);
        let hook = BuiltinHook::Output;
        xtables
            .apply(
                id,
                &[
                    put("SMARTNAT-M-A", vec![XtRule::new(XtTarget::Return)]),
                    put("SMARTNAT-B", vec![jump("SMARTNAT-M-A")]),
                    NetworkOp::InsertJump { hook, rule: jump("SMARTNAT-B") },
                ],
            )
            .expect("applied");
        let loopback = match family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => std::net::IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let server = UdpSocket::bind((loopback, 0)).expect("bound");
        let count = |xtables: &mut Xtables, chains: &str| {
            xtables.rule_counters(XtTable::Mangle, chains).expect("read")
        };
        let before = count(xtables, "SMARTNAT-M-").first().expect("a rule").packets;
        for _ in 0..3 {
            server.send_to(&[0; 72], server.local_addr().expect("bound")).expect("sent");
        }
        let counters = count(xtables, "SMARTNAT-M-");
        let [counter] = counters.as_slice() else { panic!("one rule: {counters:?}") };
        assert_eq!((counter.family, counter.chain.as_str()), (family, "SMARTNAT-M-A"));
        assert_eq!(counter.target(), Some("RETURN"));
        assert_eq!(counter.packets - before, 3);
        let header = if family == Family::V4 { 20 } else { 40 };
        assert!(counter.bytes >= 3 * (header + 8 + 72), "{counter:?}");
        let jumps = count(xtables, "SMARTNAT-B");
        assert_eq!(jumps.first().and_then(|rule| rule.target()), Some("SMARTNAT-M-A"));
    });
}
