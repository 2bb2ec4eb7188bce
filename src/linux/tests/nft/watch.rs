//! Notifications about our table.

use std::process::Command;

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    MetaKey, NftChainKind, NftData, NftElement, NftExpr, NftKey, NftSetSpec, NftType, NftValue,
    Register, SetUpdate,
};
use smartnat_core::ops::NftOp;
use smartnat_linux::{ChangeWatch, Changes, OwnPort};

use super::common::{in_namespace, sh, wait_until};
use super::sample::{
    R0, add, address, create, everything, exact, name, of_ipv4, put, put_base, rule, source_address,
};
use super::{apply, listing, observe, open};

const NOTHING: Changes = Changes { host: false, kernel: false, nftables: false };
const KERNEL: Changes = Changes { host: false, kernel: true, nftables: true };

#[test]
fn what_others_change_in_our_table_is_noticed_and_what_we_change_is_not() {
    in_namespace(|| {
        let own = OwnPort::default();
        let mut watch = ChangeWatch::open(true).expect("subscribed").ignoring(own.clone());
        let mut client = open();
        apply(&mut client, &everything());
        assert_eq!(watch.pending().expect("readable"), KERNEL, "nobody is ours yet");
        own.set(client.port());
        let members = create("members", exact(&[NftType::Ipv4], NftData::Nothing));
        let element = add("members", NftKey::exact(address("10.0.0.1")), NftValue::Nothing);
        for ops in [
            vec![NftOp::DeleteTable],
            everything(),
            vec![members, element],
            vec![put("translate", [rule([NftExpr::Counter])])],
            vec![NftOp::DeleteSet { name: name("members") }],
            vec![NftOp::CreateTable, create("members", exact(&[NftType::Ipv4], NftData::Nothing))],
        ] {
            apply(&mut client, &ops);
            assert_eq!(watch.pending().expect("readable"), NOTHING, "{:?}", ops[0]);
        }
        observe(&mut client);
        sh("nft add table inet other; nft add chain inet other translate");
        assert_eq!(watch.pending().expect("readable"), NOTHING);
        for command in [
            "add element inet smartnat members { 10.0.0.2 }",
            "delete element inet smartnat members { 10.0.0.2 }",
            "add rule inet smartnat translate drop",
            "flush chain inet smartnat translate",
            "add chain inet smartnat theirs",
            "delete chain inet smartnat theirs",
            "add set inet smartnat theirs { type ipv4_addr; }",
            "delete set inet smartnat theirs",
            "add table inet smartnat { flags dormant; }",
            "delete table inet smartnat",
        ] {
            let status = Command::new("nft").arg(command).status().expect("nft");
            assert!(status.success(), "{command}");
            assert_eq!(watch.pending().expect("readable"), KERNEL, "{command}");
        }
        // Another client of ours is somebody else, too.
        apply(&mut open(), &[NftOp::CreateTable]);
        assert_eq!(watch.pending().expect("readable"), KERNEL);
    });
}

#[test]
fn a_large_change_of_ours_loses_no_notification() {
    in_namespace(|| {
        let own = OwnPort::default();
        let mut watch = ChangeWatch::open(true).expect("subscribed").ignoring(own.clone());
        let mut client = open();
        own.set(client.port());
        let members = exact(&[NftType::Ipv4], NftData::Nothing);
        let mut ops = vec![NftOp::CreateTable, create("members", members)];
        ops.extend((0..100_000_u32).map(|number| NftOp::AddElement {
            set: name("members"),
            key: NftKey::exact(number.to_be_bytes()),
            element: NftElement {
                value: NftValue::Nothing,
                comment: Some(
                    format!("a-namespace-of-a-team/a-mapping-with-a-name-{number}").into(),
                ),
            },
        }));
        apply(&mut client, &ops);
        assert_eq!(watch.pending().expect("readable"), NOTHING);
        sh("nft add element inet smartnat members { 10.0.0.2 }");
        assert_eq!(watch.pending().expect("readable"), KERNEL);
    });
}

#[test]
fn elements_that_packets_add_are_not_notified_of() {
    in_namespace(|| {
        let mut client = open();
        let timed = NftSetSpec {
            dynamic: true,
            timeout: Some(1),
            size: Some(16),
            ..exact(&[NftType::Ipv4], NftData::Nothing)
        };
        let remember = NftExpr::Dynset {
            set: name("clients"),
            update: SetUpdate::Update,
            key: R0,
            value: None,
            timeout_millis: None,
        };
        let source = NftExpr::Meta { key: MetaKey::L4Proto, to: Register(8) };
        let expressions = [&of_ipv4()[..], &[source, source_address(0), remember]].concat();
        let input = (NftChainKind::Filter, BuiltinHook::Input, 0);
        apply(
            &mut client,
            &[
                NftOp::CreateTable,
                create("clients", timed),
                put_base("input", input, [rule(expressions)]),
            ],
        );
        let mut watch = ChangeWatch::open(true).expect("subscribed");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let there = socket.local_addr().expect("bound");
        socket.send_to(b"x", there).expect("sent");
        wait_until("a packet added an element", || listing().contains("127.0.0.1"));
        assert_eq!(watch.pending().expect("readable"), NOTHING);
        wait_until("it expired", || !listing().contains("127.0.0.1"));
        assert_eq!(watch.pending().expect("readable"), NOTHING);
    });
}
