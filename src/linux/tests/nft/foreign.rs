//! Tables and objects of others.

use smartnat_core::objects::nft::{NftBase, NftExpr, NftType};
use smartnat_core::ops::{NftOp, OpErrorClass};

use super::common::{in_namespace, sh};
use super::sample::{everything, name, put};
use super::{apply, followed, listing, observe, open, refused};

#[test]
fn a_table_of_our_name_without_our_comment_is_left_alone() {
    for made in [
        "nft add table inet smartnat",
        "nft add table inet smartnat '{ comment \"SmartNat\" ; }'",
        "nft add table inet smartnat; nft add chain inet smartnat translate",
    ] {
        in_namespace(|| {
            sh(made);
            let mut client = open();
            let before = listing();
            let observed = client.observe().expect_err("not ours");
            for error in [
                observed,
                refused(&mut client, &[NftOp::CreateTable]),
                refused(&mut client, &[NftOp::DeleteTable]),
                refused(&mut client, &everything()),
            ] {
                assert_eq!(error.class, OpErrorClass::Invalid, "{error}");
                assert_eq!(error.object, "table inet smartnat");
                assert!(error.detail.contains("nft delete table inet smartnat"), "{error}");
            }
            assert_eq!(listing(), before);
            assert_eq!(client.writes(), 0);
            sh("nft delete table inet smartnat");
            apply(&mut client, &everything());
        });
    }
}

#[test]
fn other_tables_are_neither_seen_nor_touched() {
    in_namespace(|| {
        sh("nft add table ip smartnat
            nft add chain ip smartnat translate
            nft add table inet other
            nft add chain inet other translate
            nft add rule inet other translate drop
            nft add set inet other sources '{ type ipv4_addr ; }'");
        let before = sh("nft list ruleset");
        let mut client = open();
        assert_eq!(client.observe().expect("observed"), None);
        apply(&mut client, &[NftOp::CreateTable, put("translate", [])]);
        let expected = followed(&[NftOp::CreateTable, put("translate", [])]);
        assert_eq!(observe(&mut client), expected);
        apply(&mut client, &[NftOp::DeleteTable]);
        assert_eq!(sh("nft list ruleset"), before);
    });
}

#[test]
fn what_others_put_in_our_table_is_seen_and_can_be_removed() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &everything());
        let before = observe(&mut client);
        sh("nft add chain inet smartnat theirs
            nft add rule inet smartnat theirs drop
            nft add set inet smartnat theirs '{ type ipv4_addr ; }'
            nft add rule inet smartnat translate iifname { eth1, eth2 } tcp dport 80 accept
            nft add rule inet smartnat translate tcp dport vmap { 80 : accept, 81 : drop }
            nft add rule inet smartnat translate ip saddr 10.0.0.0/8 jump '{ drop ; }'
            nft add rule inet smartnat translate limit rate 1/second log prefix x accept
            nft insert rule inet smartnat refuse counter");
        let observed = observe(&mut client);
        assert!(observed.chains.contains_key("theirs") && observed.sets.contains_key("theirs"));
        assert_eq!(observed.chains.len(), before.chains.len() + 1);
        assert_eq!(observed.sets.len(), before.sets.len() + 1);
        let translate = &observed.chains["translate"].rules;
        assert_eq!(translate.len(), 4);
        for unknown in ["limit", "log"] {
            assert!(translate[3].expressions.contains(&NftExpr::Unknown(unknown.into())));
        }
        assert_eq!(observed.chains["refuse"].rules[0].expressions, [NftExpr::Counter]);
        let put_back = |chain: &str| NftOp::PutChain {
            name: name(chain),
            chain: before.chains[chain].clone(),
        };
        apply(
            &mut client,
            &[
                put_back("translate"),
                put_back("refuse"),
                NftOp::DeleteChain { name: name("theirs") },
                NftOp::DeleteSet { name: name("theirs") },
            ],
        );
        assert_eq!(observe(&mut client), before);
    });
}

#[test]
fn a_set_or_chain_that_is_not_quite_ours_is_not_taken_for_it() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &[NftOp::CreateTable]);
        sh("nft add set inet smartnat a '{ type ether_addr ; }'
            nft add set inet smartnat b '{ type ipv4_addr ; flags constant ; elements = { 10.0.0.1 } ; }'
            nft add set inet smartnat c '{ type ipv4_addr ; counter ; }'
            nft add set inet smartnat d '{ type ipv4_addr . ether_addr ; flags interval ; }'
            nft add set inet smartnat e '{ typeof tcp option mss size ; }'
            nft add counter inet smartnat hits
            nft add map inet smartnat f '{ type ipv4_addr : counter ; }'
            nft add chain inet smartnat in '{ type filter hook input priority 0 ; policy drop ; }'
            nft add chain inet smartnat ingress '{ type filter hook ingress device lo priority 0 ; }'");
        let observed = observe(&mut client);
        let keys = |set: &str| observed.sets[set].spec.key.clone();
        assert!(matches!(keys("a")[..], [NftType::Unknown(9)]), "{:?}", keys("a"));
        assert_eq!(keys("b"), [NftType::Unknown(0)]);
        assert_eq!(keys("c"), [NftType::Ipv4]);
        assert!(observed.sets["c"].spec.counter);
        assert_eq!(observed.sets["f"].spec.key, [NftType::Unknown(0)]);
        let drops =
            |chain: &str| observed.chains[chain].base.as_ref().is_some_and(|b: &NftBase| b.drops);
        assert!(drops("in") && drops("ingress"), "{:?}", observed.chains);
        let sets = observed.sets.keys().map(|set| NftOp::DeleteSet { name: set.clone() });
        let chains = observed.chains.keys().map(|chain| NftOp::DeleteChain { name: chain.clone() });
        apply(&mut client, &sets.chain(chains).collect::<Vec<_>>());
        assert_eq!(observe(&mut client), followed(&[NftOp::CreateTable]));
    });
}

#[test]
fn a_dormant_table_has_no_base_chains_and_wakes_with_the_next_change() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &everything());
        let before = observe(&mut client);
        sh("nft add table inet smartnat '{ flags dormant ; }'");
        let observed = observe(&mut client);
        assert!(observed.chains.values().all(|chain| chain.base.is_none()));
        apply(&mut client, &[put("another", [])]);
        assert!(!listing().contains("dormant"), "{}", listing());
        apply(&mut client, &[NftOp::DeleteChain { name: name("another") }]);
        assert_eq!(observe(&mut client), before);
    });
}

#[test]
fn changes_of_other_tables_do_not_keep_ours_from_being_read_or_changed() {
    in_namespace(|| {
        let mut client = open();
        apply(&mut client, &everything());
        let expected = observe(&mut client);
        let script =
            "i=0; while [ $i -lt 200 ]; do nft add table inet other-$i; i=$((i + 1)); done";
        let mut busy =
            std::process::Command::new("sh").args(["-ec", script]).spawn().expect("a shell");
        while busy.try_wait().expect("a child").is_none() {
            assert_eq!(observe(&mut client), expected);
            apply(&mut client, &[put("another", []), NftOp::DeleteChain { name: name("another") }]);
        }
    });
}
