//! Intervals of both kinds, timeouts, and what nft does with our sets.

use smartnat_core::objects::nft::{
    NftData, NftElement, NftKey, NftSetSpec, NftType, NftValue, NftVerdict,
};
use smartnat_core::ops::{NftOp, OpErrorClass};

use super::common::{in_namespace, sh};
use super::sample::{
    ENDPOINT, SERVICE, add, address, create, delete, element, exact, goto, name, put, service,
};
use super::{apply, followed, listing, observe, open, refused};

fn interval(first: &str, last: &str) -> NftKey {
    NftKey::interval(address(first), address(last))
}

fn intervals(key: &[NftType], data: NftData) -> NftSetSpec {
    NftSetSpec { interval: true, ..exact(key, data) }
}

/// A field, intervals of it, and how nft lists some of them.
type IntervalCase = (NftType, &'static [(&'static str, &'static str)], &'static str);

#[test]
fn intervals_of_one_field_come_back_also_where_they_touch_or_cover_everything() {
    let cases: [IntervalCase; 5] = [
        (NftType::Ipv4, &[("0.0.0.0", "255.255.255.255")], "0.0.0.0/0"),
        (NftType::Ipv6, &[("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")], "::/0"),
        (
            NftType::Ipv4,
            &[("0.0.0.0", "0.0.0.0"), ("0.0.0.1", "9.255.255.255"), ("10.0.0.0", "10.0.0.255")],
            "0.0.0.1-9.255.255.255",
        ),
        (
            NftType::Ipv4,
            &[("192.0.2.7", "192.0.2.7"), ("255.255.255.255", "255.255.255.255")],
            "192.0.2.7, 255.255.255.255",
        ),
        (NftType::Ipv6, &[("2001:db8::", "2001:db8::ffff")], "2001:db8::/112"),
    ];
    for (kind, keys, listed) in cases {
        in_namespace(|| {
            let mut client = open();
            let mut ops =
                vec![NftOp::CreateTable, create("sources", intervals(&[kind], NftData::Nothing))];
            ops.extend(keys.iter().map(|(a, b)| add("sources", interval(a, b), NftValue::Nothing)));
            apply(&mut client, &ops);
            assert_eq!(observe(&mut client), followed(&ops), "{keys:?}");
            assert!(listing().contains(listed), "{listed}\n{}", listing());
            for (first, last) in keys {
                apply(&mut client, &[delete("sources", interval(first, last))]);
            }
            assert_eq!(observe(&mut client), followed(&ops[..2]), "{keys:?}");
        });
    }
}

#[test]
fn intervals_that_touch_may_carry_different_verdicts() {
    in_namespace(|| {
        let mut client = open();
        let commented = |verdict, comment: &str| NftElement {
            comment: Some(comment.into()),
            ..element(NftValue::Verdict(verdict))
        };
        let add_commented = |first, last, element| NftOp::AddElement {
            set: name("restricted4"),
            key: interval(first, last),
            element,
        };
        let ops = [
            NftOp::CreateTable,
            create("restricted4", intervals(&[NftType::Ipv4], NftData::Verdict)),
            add_commented("10.0.0.0", "10.0.0.255", commented(NftVerdict::Drop, "a")),
            add_commented("10.0.1.0", "255.255.255.255", commented(NftVerdict::Accept, "b")),
        ];
        apply(&mut client, &ops);
        assert_eq!(observe(&mut client), followed(&ops));
        let listing = listing();
        assert!(listing.contains("10.0.0.0/24 comment \"a\" : drop"), "{listing}");
        assert!(listing.contains("10.0.1.0-255.255.255.255 comment \"b\" : accept"), "{listing}");
    });
}

#[test]
fn intervals_of_several_fields_come_back() {
    in_namespace(|| {
        let mut client = open();
        let ports = |first, last| {
            NftKey::interval(service("203.0.113.10", first), service("203.0.113.10", last))
        };
        let everything = NftKey::interval(service("0.0.0.0", 0), {
            let mut last = service("255.255.255.255", u16::MAX);
            last[4] = u8::MAX;
            last
        });
        let value = |port: u16| NftValue::Bytes([port.to_be_bytes(), [0; 2]].concat().into());
        let spec = intervals(&SERVICE, NftData::Values(vec![NftType::Port]));
        let ops = [
            NftOp::CreateTable,
            create("ranges4", spec.clone()),
            add("ranges4", ports(5060, 5080), value(5060)),
            add("ranges4", ports(5081, 65_535), value(5081)),
            add("ranges4", ports(80, 80), value(80)),
            create("all", spec),
            add("all", everything.clone(), value(1)),
        ];
        apply(&mut client, &ops);
        assert_eq!(observe(&mut client), followed(&ops));
        let listing = listing();
        for text in ["5060-5080 : 5060", "5081-65535 : 5081", ". 80 : 80", "0-65535 : 1"] {
            assert!(listing.contains(text), "{text}\n{listing}");
        }
        apply(&mut client, &[delete("ranges4", ports(5060, 5080)), delete("all", everything)]);
        let observed = observe(&mut client);
        assert_eq!(observed.sets["ranges4"].elements.len(), 2);
        assert!(observed.sets["all"].elements.is_empty());
    });
}

#[test]
fn overlapping_intervals_are_refused_as_existing() {
    in_namespace(|| {
        let mut client = open();
        let set = intervals(&[NftType::Ipv4], NftData::Nothing);
        let add = |first, last| add("sources", interval(first, last), NftValue::Nothing);
        apply(
            &mut client,
            &[NftOp::CreateTable, create("sources", set), add("10.0.0.0", "10.0.0.255")],
        );
        for (first, last) in
            [("10.0.0.7", "10.0.0.9"), ("10.0.0.128", "10.0.1.0"), ("9.0.0.0", "11.0.0.0")]
        {
            let error = refused(&mut client, &[add(first, last)]);
            assert_eq!(error.class, OpErrorClass::Exists, "{first}: {error}");
        }
    });
}

#[test]
fn elements_of_a_set_with_a_timeout_are_there_but_are_not_told() {
    in_namespace(|| {
        let mut client = open();
        let key = || NftKey::exact(address("192.0.2.7"));
        let timed = NftSetSpec { timeout: Some(30), ..exact(&[NftType::Ipv4], NftData::Nothing) };
        let ops = [
            NftOp::CreateTable,
            create("quarantine4", timed),
            add("quarantine4", key(), NftValue::Nothing),
        ];
        apply(&mut client, &ops);
        let observed = observe(&mut client);
        assert_eq!(observed, followed(&ops));
        assert!(observed.sets["quarantine4"].elements.is_empty());
        assert!(listing().contains("192.0.2.7 expires "), "{}", listing());
        // Once more, its time begins anew.
        apply(&mut client, &ops[2..]);
        apply(&mut client, &[delete("quarantine4", key())]);
        assert!(!listing().contains("192.0.2.7"), "{}", listing());
    });
}

#[test]
fn what_nft_adds_to_our_sets_has_the_bytes_that_we_would_write() {
    in_namespace(|| {
        let mut client = open();
        let marks = NftData::Values(vec![NftType::Mark]);
        let mark = |mark: u32| mark.to_ne_bytes();
        apply(
            &mut client,
            &[
                NftOp::CreateTable,
                put("there", []),
                create("marks", exact(&[NftType::Mark], NftData::Verdict)),
                create("uplinks", exact(&[NftType::InterfaceName], marks.clone())),
                create("of-client", exact(&[NftType::Ipv4, NftType::Mark], marks)),
                create("sources", intervals(&[NftType::Ipv4], NftData::Nothing)),
                create("endpoints", exact(&SERVICE, NftData::Values(ENDPOINT.to_vec()))),
            ],
        );
        sh("nft add element inet smartnat marks { 0x100 : goto there }
            nft add element inet smartnat uplinks { \"eth1\" : 0x200 }
            nft add element inet smartnat of-client { 192.0.2.7 . 0x300 : 0x400 }
            nft add element inet smartnat sources { 10.0.0.0/8, 255.0.0.0/8 }
            nft 'add element inet smartnat endpoints { 192.0.2.7 . tcp . 80 : 10.1.0.7 . 81 }'");
        let observed = observe(&mut client);
        let of = |set: &str| &observed.sets[set].elements;
        assert_eq!(of("marks")[&NftKey::exact(mark(0x100))], element(goto("there")));
        let bytes = |bytes: &[u8]| element(NftValue::Bytes(bytes.into()));
        let uplink = NftKey::exact(*b"eth1\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(of("uplinks")[&uplink], bytes(&mark(0x200)));
        let client_mark = NftKey::exact([&address("192.0.2.7")[..], &mark(0x300)].concat());
        assert_eq!(of("of-client")[&client_mark], bytes(&mark(0x400)));
        let keys: Vec<_> = of("sources").keys().cloned().collect();
        let last = interval("255.0.0.0", "255.255.255.255");
        assert_eq!(keys, [interval("10.0.0.0", "10.255.255.255"), last]);
        let endpoint = [&address("10.1.0.7")[..], &[0, 81, 0, 0]].concat();
        assert_eq!(of("endpoints")[&NftKey::exact(service("192.0.2.7", 80))], bytes(&endpoint));
        // And what nft added goes as if it were ours.
        for (set, set_elements) in &observed.sets {
            for key in set_elements.elements.keys() {
                apply(&mut client, &[delete(set.as_str(), key.clone())]);
            }
        }
        assert!(observe(&mut client).sets.values().all(|set| set.elements.is_empty()));
    });
}

#[test]
fn an_element_for_all_other_keys_is_seen_and_goes() {
    in_namespace(|| {
        let mut client = open();
        let spec = exact(&[NftType::Mark], NftData::Verdict);
        apply(&mut client, &[NftOp::CreateTable, create("marks", spec)]);
        sh("nft add element inet smartnat marks { '*' : accept }");
        let for_all_others = NftKey::exact([]);
        let observed = observe(&mut client);
        let accept = element(NftValue::Verdict(NftVerdict::Accept));
        assert_eq!(observed.sets["marks"].elements[&for_all_others], accept);
        apply(&mut client, &[delete("marks", for_all_others)]);
        assert!(observe(&mut client).sets["marks"].elements.is_empty());
    });
}
