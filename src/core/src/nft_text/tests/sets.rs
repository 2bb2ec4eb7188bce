use super::*;
use crate::nft_text::{render_element, render_key, render_set};
use crate::objects::nft::{NftElement, NftKey, NftValue, fields};

/// The fields of a key, its bytes, its text.
type KeyCase = (&'static [NftType], Box<[u8]>, &'static str);

fn element(value: NftValue, comment: Option<&str>) -> NftElement {
    NftElement { value, comment: comment.map(Into::into) }
}

fn nothing() -> NftElement {
    element(NftValue::Nothing, None)
}

#[test]
fn a_declaration_names_what_is_not_usual() {
    use NftType::{InterfaceName, Ipv4, Ipv6, Mark, Port, Protocol};
    let base = NftSetSpec::exact(vec![Ipv4], NftData::Nothing);
    let ranges = NftData::Values(vec![Port]);
    let endpoint = NftData::Values(vec![Ipv6, Port]);
    let cases = [
        (base.clone(), "set s {\n\ttype ipv4_addr\n}\n"),
        (
            NftSetSpec {
                interval: true,
                counter: true,
                size: Some(100),
                ..NftSetSpec::exact(vec![Ipv4, Protocol, Port], ranges)
            },
            "map s {\n\ttype ipv4_addr . inet_proto . inet_service : inet_service\n\tsize 100\n\tflags interval\n\tcounter\n}\n",
        ),
        (
            NftSetSpec {
                dynamic: true,
                timeout: Some(10_800),
                size: Some(65_536),
                ..NftSetSpec::exact(vec![Ipv6], endpoint)
            },
            "map s {\n\ttype ipv6_addr : ipv6_addr . inet_service\n\tsize 65536\n\tflags dynamic,timeout\n\ttimeout 3h\n}\n",
        ),
        (
            NftSetSpec { timeout: Some(0), ..base.clone() },
            "set s {\n\ttype ipv4_addr\n\tflags timeout\n}\n",
        ),
        (
            NftSetSpec { timeout: Some(90_061), ..base },
            "set s {\n\ttype ipv4_addr\n\ttimeout 1d1h1m1s\n}\n",
        ),
        (
            NftSetSpec::exact(vec![Mark, InterfaceName], NftData::Verdict),
            "map s {\n\ttype mark . ifname : verdict\n}\n",
        ),
    ];
    for (spec, text) in cases {
        let set = NftSet { spec, elements: BTreeMap::new() };
        assert_eq!(render_set(&"s".into(), &set, 5), text);
    }
}

#[test]
fn keys_are_written_field_by_field() {
    use NftType::{InterfaceName, Ipv4, Ipv6, Mark, Port, Protocol};
    let v6 = "2001:db8::1".parse().expect("an address");
    let cases: [KeyCase; 6] = [
        (
            &[Ipv4, Protocol, Port],
            fields::join([&[203, 0, 113, 10], &[6], &8080_u16.to_be_bytes()]),
            "203.0.113.10 . tcp . 8080",
        ),
        (
            &[Ipv4, Protocol, Port],
            fields::join([&[203, 0, 113, 10], &[77], &[0, 1]]),
            "203.0.113.10 . 77 . 1",
        ),
        (
            &[Ipv6, Mark],
            fields::join([&fields::address(v6), &5_u32.to_ne_bytes()]),
            "2001:db8::1 . 0x00000005",
        ),
        (&[InterfaceName], fields::interface("eth1").into(), "\"eth1\""),
        (&[NftType::Unknown(42)], Box::new([1, 2, 3]), "0x10203"),
        (&[Ipv4], Box::new([1, 2, 3, 4, 5, 6]), "1.2.3.4 . 0x506"),
    ];
    for (types, bytes, text) in cases {
        let spec = NftSetSpec::exact(types, NftData::Nothing);
        assert_eq!(render_key(&spec, &NftKey::exact(bytes)), text);
    }
    let spec = NftSetSpec::exact([Ipv4, Port], NftData::Nothing);
    assert_eq!(render_key(&spec, &NftKey::exact([1, 2])), "0x102");
}

#[test]
fn intervals_of_addresses_are_prefixes_where_they_can_be() {
    use NftType::{Ipv4, Ipv6, Port, Protocol};
    let v4 = |first: [u8; 4], last: [u8; 4]| NftKey::interval(first, last);
    let cases: [(&[NftType], NftKey, &str); 9] = [
        (&[Ipv4], v4([10, 0, 0, 0], [10, 255, 255, 255]), "10.0.0.0/8"),
        (&[Ipv4], v4([0; 4], [255; 4]), "0.0.0.0/0"),
        (&[Ipv4], v4([1, 1, 1, 1], [1, 1, 1, 1]), "1.1.1.1"),
        (&[Ipv4], v4([192, 168, 1, 4], [192, 168, 1, 9]), "192.168.1.4-192.168.1.9"),
        (&[Ipv4], v4([1, 2, 3, 7], [1, 2, 3, 8]), "1.2.3.7-1.2.3.8"),
        (&[Ipv4], v4([1, 2, 3, 4], [1, 2, 3, 5]), "1.2.3.4/31"),
        (&[Ipv6], NftKey::interval([0; 16], [255; 16]), "::/0"),
        (&[Port], NftKey::interval(5056_u16.to_be_bytes(), 5059_u16.to_be_bytes()), "5056-5059"),
        (
            &[Ipv4, Protocol, Port],
            NftKey::interval(
                fields::join([&[10, 0, 0, 0], &[17], &5060_u16.to_be_bytes()]),
                fields::join([&[10, 255, 255, 255], &[17], &5080_u16.to_be_bytes()]),
            ),
            "10.0.0.0/8 . udp . 5060-5080",
        ),
    ];
    for (types, key, text) in cases {
        let spec = NftSetSpec { interval: true, ..NftSetSpec::exact(types, NftData::Nothing) };
        assert_eq!(render_key(&spec, &key), text);
    }
}

#[test]
fn an_element_has_its_comment_before_what_it_carries() {
    let verdicts = NftSetSpec::exact(vec![NftType::Ipv4], NftData::Verdict);
    let values =
        NftSetSpec::exact(vec![NftType::Ipv4], NftData::Values(vec![NftType::Ipv4, NftType::Port]));
    let key = NftKey::exact([10, 0, 0, 1]);
    let goto = NftVerdict::Goto("egress-1".into());
    let bytes = fields::join([&[10, 1, 0, 7], &80_u16.to_be_bytes()]);
    for (spec, carried, text) in [
        (
            &verdicts,
            element(NftValue::Verdict(goto), Some("ns/a")),
            "10.0.0.1 comment \"ns/a\" : goto egress-1",
        ),
        (&verdicts, element(NftValue::Verdict(NftVerdict::Drop), None), "10.0.0.1 : drop"),
        (&values, element(NftValue::Bytes(bytes), None), "10.0.0.1 : 10.1.0.7 . 80"),
        (&values, element(NftValue::Nothing, Some("a \"b\"\n")), "10.0.0.1 comment \"a  b  \""),
    ] {
        assert_eq!(render_element(spec, &key, &carried), text);
    }
}

#[test]
fn a_long_set_is_cut_and_says_how_much_is_missing() {
    let mut long = set(&[NftType::Port], NftData::Nothing);
    for port in 1..=9_u16 {
        long.elements.insert(NftKey::exact(port.to_be_bytes()), nothing());
    }
    let text = render_set(&"ports".into(), &long, 2);
    assert_eq!(
        text,
        "set ports {\n\ttype inet_service\n\telements = { 1,\n\t\t     2,\n\t\t     # and 7 more }\n}\n"
    );
}
