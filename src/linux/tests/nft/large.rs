//! Many elements at once.

use smartnat_core::objects::nft::{NftData, NftElement, NftKey, NftSetSpec, NftType, NftValue};
use smartnat_core::ops::NftOp;

use super::common::{in_namespace, sh};
use super::sample::{SERVICE, create, element, exact, goto, name, put, service};
use super::{apply, followed, observe, open};

const MANY: u32 = 100_000;

fn key(number: u32) -> NftKey {
    let address = std::net::Ipv4Addr::from(0xcb00_7100 + number / 1000).to_string();
    NftKey::exact(service(&address, u16::try_from(number % 1000 + 1).expect("a port")))
}

#[test]
fn a_hundred_thousand_elements_go_in_one_batch_and_come_back() {
    in_namespace(|| {
        let mut client = open();
        let spec = NftSetSpec { counter: true, ..exact(&SERVICE, NftData::Verdict) };
        let mut ops =
            vec![NftOp::CreateTable, put("from4-0123456789abcdef", []), create("services4", spec)];
        ops.extend((0..MANY).map(|number| NftOp::AddElement {
            set: name("services4"),
            key: key(number),
            element: NftElement {
                comment: Some(
                    format!("a-namespace-of-a-team/a-mapping-with-a-name-{number}").into(),
                ),
                ..element(goto("from4-0123456789abcdef"))
            },
        }));
        apply(&mut client, &ops);
        assert_eq!(client.writes(), 1);
        // At once, while the kernel's hash table still grows.
        let observed = observe(&mut client);
        assert!(observed == followed(&ops), "{:?}", observed.sets["services4"].elements.len());
        let deletes: Vec<_> = (0..MANY)
            .map(|number| NftOp::DeleteElement { set: name("services4"), key: key(number) })
            .collect();
        apply(&mut client, &deletes);
        assert!(observe(&mut client).sets["services4"].elements.is_empty());
    });
}

#[test]
fn the_longest_elements_fit_their_messages() {
    in_namespace(|| {
        let mut client = open();
        let chain = "c".repeat(255);
        let fields = [NftType::Ipv6, NftType::Ipv6, NftType::Ipv6, NftType::Port, NftType::Mark];
        let spec = NftSetSpec { interval: true, ..exact(&fields, NftData::Verdict) };
        let set = "s".repeat(255);
        let mut ops = vec![NftOp::CreateTable, put(&chain, []), create(&set, spec)];
        ops.extend((0..1000_u32).map(|number| {
            let mut first = vec![0; 56];
            first[..4].copy_from_slice(&number.to_be_bytes());
            let mut last = first.clone();
            last[47] = 9;
            NftOp::AddElement {
                set: name(&set),
                key: NftKey::interval(first, last),
                element: NftElement { value: goto(&chain), comment: Some("m".repeat(127).into()) },
            }
        }));
        apply(&mut client, &ops);
        assert!(observe(&mut client) == followed(&ops));
    });
}

#[test]
fn many_intervals_go_in_one_batch_and_come_back() {
    in_namespace(|| {
        let mut client = open();
        let spec = NftSetSpec { interval: true, ..exact(&[NftType::Ipv6], NftData::Nothing) };
        let mut ops = vec![NftOp::CreateTable, create("sources6", spec)];
        ops.extend((0..5000_u32).map(|number| {
            let (mut first, mut last) = ([0; 16], [u8::MAX; 16]);
            first[..4].copy_from_slice(&number.to_be_bytes());
            last[..4].copy_from_slice(&number.to_be_bytes());
            NftOp::AddElement {
                set: name("sources6"),
                key: NftKey::interval(first, last),
                element: element(NftValue::Nothing),
            }
        }));
        apply(&mut client, &ops);
        assert!(observe(&mut client) == followed(&ops));
        sh("nft list set inet smartnat sources6");
    });
}
