//! What elements count, against packets that were really sent.

use std::net::UdpSocket;

use smartnat_core::objects::BuiltinHook;
use smartnat_core::objects::nft::{
    LookupResult, NftChainKind, NftData, NftExpr, NftKey, NftSetSpec, NftType, NftValue, NftVerdict,
};
use smartnat_core::ops::NftOp;
use smartnat_linux::ElementCounter;

use super::common::in_namespace;
use super::sample::{
    R0, R1, add, address, create, delete, destination_address, exact, name, of_ipv4, put_base, rule,
};
use super::{apply, observe, open};

const IPV4: [NftType; 1] = [NftType::Ipv4];

fn key(text: &str) -> NftKey {
    NftKey::exact(address(text))
}

/// A map of destinations that counts, of this data, which packets that leave are looked up in.
fn counted(data: NftData, result: LookupResult) -> Vec<NftOp> {
    let spec = NftSetSpec { counter: true, ..exact(&IPV4, data) };
    let lookup = NftExpr::Lookup { set: name("counted"), key: R0, result };
    let expressions = [&of_ipv4()[..], &[destination_address(0), lookup]].concat();
    let output = (NftChainKind::Filter, BuiltinHook::Output, 0);
    vec![
        NftOp::CreateTable,
        create("counted", spec),
        put_base("output", output, [rule(expressions)]),
    ]
}

fn send(to: &str, times: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    for _ in 0..times {
        socket.send_to(&[0; 72], (to, 7)).expect("sent");
    }
}

#[test]
fn an_element_counts_what_is_looked_up_and_goes_on_when_others_change() {
    let verdict = NftValue::Verdict(NftVerdict::Accept);
    let values = NftData::Values(vec![NftType::Mark]);
    for (ops, value) in [
        (counted(NftData::Verdict, LookupResult::Verdict), verdict),
        (counted(values, LookupResult::Value(R1)), NftValue::Bytes([7, 0, 0, 0].into())),
    ] {
        in_namespace(move || {
            let mut client = open();
            apply(&mut client, &ops);
            let element = |text: &str| add("counted", key(text), value.clone());
            apply(&mut client, &[element("127.0.0.2"), element("127.0.0.3")]);
            let before = observe(&mut client);
            send("127.0.0.2", 3);
            send("127.0.0.4", 1);
            let count = |text: &str, packets: u64| ElementCounter {
                key: address(text).into(),
                value: value.clone(),
                packets,
                bytes: packets * (20 + 8 + 72),
            };
            let told = client.counters(&name("counted")).expect("read");
            assert_eq!(told, [count("127.0.0.2", 3), count("127.0.0.3", 0)]);
            assert_eq!(observe(&mut client), before, "what was counted is no part of an element");
            // Another one goes, one comes; and the same once more in place of itself.
            let again = [delete("counted", key("127.0.0.3")), element("127.0.0.4")];
            apply(&mut client, &again);
            apply(&mut client, &[element("127.0.0.2")]);
            send("127.0.0.2", 1);
            let told = client.counters(&name("counted")).expect("read");
            assert_eq!(told, [count("127.0.0.2", 4), count("127.0.0.4", 0)]);
            // Made anew, it begins at 0.
            apply(&mut client, &[delete("counted", key("127.0.0.2")), element("127.0.0.2")]);
            let told = client.counters(&name("counted")).expect("read");
            assert_eq!(told.first(), Some(&count("127.0.0.2", 0)));
        });
    }
}

#[test]
fn where_nothing_counts_nothing_is_told() {
    in_namespace(|| {
        let mut client = open();
        assert_eq!(client.counters(&name("counted")).expect("no table"), []);
        apply(&mut client, &[NftOp::CreateTable, create("plain", exact(&IPV4, NftData::Nothing))]);
        apply(&mut client, &[add("plain", key("127.0.0.2"), NftValue::Nothing)]);
        assert_eq!(client.counters(&name("counted")).expect("no such set"), []);
        assert_eq!(client.counters(&name("plain")).expect("no counters"), []);
    });
}
