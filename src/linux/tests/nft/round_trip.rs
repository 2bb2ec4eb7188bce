//! What is written is read back, and nft can read it too.

use super::common::in_namespace;
use super::{apply, followed, listing, observe, open, sample};

#[test]
fn what_is_written_is_read_back_and_listed_by_nft() {
    in_namespace(|| {
        let mut client = open();
        assert_eq!(client.observe().expect("observed"), None);
        let ops = sample::everything();
        apply(&mut client, &ops);
        let (observed, expected) = (observe(&mut client), followed(&ops));
        for (name, set) in &expected.sets {
            assert_eq!(observed.sets.get(name), Some(set), "set {name}");
        }
        for (name, chain) in &expected.chains {
            assert_eq!(observed.chains.get(name), Some(chain), "chain {name}");
        }
        assert_eq!(observed, expected);
        let listing = listing();
        for text in [
            "comment \"SmartNat: do not edit, changes are undone\"",
            "203.0.113.10 . tcp . 8080 counter packets 0 bytes 0 comment \"default/echo\" : goto translate",
            "0x00000100 : goto translate",
            "10.1.0.7 : 0x00000200",
            "\"eth1\" : goto translate",
            "10.1.0.7 . \"eth1\" : 203.0.113.10",
            "203.0.113.10 . tcp . 8080 . 0x00000001 : 10.1.0.7 . 8080",
            "5060 : 6060",
            "2001:db8::7 . udp . 53",
            "203.0.113.10 . tcp . 5060-5080 : 5060",
            "10.0.0.0/8 comment \"default/echo\"",
            "flags dynamic,timeout",
            "ip daddr . meta l4proto . th dport vmap @services4",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints4 comment \"one of three\"",
            "update @affinity4 { ip saddr . ip daddr . meta l4proto . th dport timeout 20s : ip daddr . th dport }",
            "ct state established,related accept",
            "ct mark set ct mark | 0x00000100",
            "meta mark set meta mark & 0xffff02ff | 0x00000200",
            "iifname \"eth1\" oifname != \"eth2\" drop",
            "fib daddr type local goto refuse",
            "ip saddr != @sources4 drop",
            "meta l4proto tcp reject with tcp reset",
            "snat ip to ip saddr",
            "masquerade",
        ] {
            assert!(listing.contains(text), "{text}\n{listing}");
        }
    });
}
