//! Listings of sets, well-formed and not. What a kernel really sends is tested on one.

use proptest::prelude::*;

use super::*;

fn put(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn header(type_name: &str, max_elements: u32) -> Vec<u8> {
    [
        put(attribute::SET_NAME, b"smartnat-a\0"),
        put(attribute::TYPE_NAME, format!("{type_name}\0").as_bytes()),
        put(attribute::FAMILY, &[2]),
        put(attribute::DATA, &put(option::MAX_ELEMENTS, &max_elements.to_be_bytes())),
    ]
    .concat()
}

fn ip_element(octets: [u8; 4]) -> Vec<u8> {
    put(attribute::DATA, &put(element::IP, &put(address::IPV4, &octets)))
}

fn finish(messages: &[Vec<u8>]) -> Option<IpSet> {
    let mut listing = Listing::default();
    for message in messages {
        listing.add(Attributes::new(message)).expect("well-formed");
    }
    listing.finish()
}

#[test]
fn elements_of_all_messages_are_joined() {
    let first = [header("hash:ip", 9), put(attribute::ELEMENTS, &ip_element([10, 0, 0, 1]))];
    let second = [
        put(attribute::SET_NAME, b"smartnat-a\0"),
        put(attribute::ELEMENTS, &ip_element([10, 0, 0, 2])),
    ];
    let set = finish(&[first.concat(), second.concat()]).expect("a set");
    assert_eq!(
        set.spec,
        SetSpec { kind: SetKind::HashIp, family: Family::V4, timeout: None, max_elements: 9 }
    );
    let wanted = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|octets| SetElement::Ip(IpAddr::from(octets)));
    assert_eq!(set.elements, wanted.into());
}

#[test]
fn a_set_of_which_nothing_is_told_is_none() {
    assert_eq!(finish(&[]), None);
}

#[test]
fn a_set_of_another_shape_is_one_that_nobody_wants() {
    let unwanted = Some(IpSet { spec: UNKNOWN_SHAPE, elements: BTreeSet::new() });
    let elements = put(attribute::ELEMENTS, &ip_element([10, 0, 0, 1]));
    let option = put(attribute::DATA, &put(20, &[24]));
    let family = put(attribute::FAMILY, &[0]);
    assert_eq!(finish(&[header("hash:mac", 9)]), unwanted, "type");
    assert_eq!(finish(&[[header("hash:net", 9), elements].concat()]), unwanted, "element");
    assert_eq!(finish(&[[header("hash:ip", 9), option].concat()]), unwanted, "option");
    assert_eq!(finish(&[[header("hash:ip", 9), family].concat()]), unwanted, "family");
}

#[test]
fn malformed_listings_are_errors() {
    let add = |bytes: &[u8]| Listing::default().add(Attributes::new(bytes));
    let prefix =
        [put(element::IP, &put(address::IPV4, &[10, 0, 0, 0])), put(element::PREFIX_LENGTH, &[33])];
    let elements = put(attribute::ELEMENTS, &put(attribute::DATA, &prefix.concat()));
    assert_eq!(add(&elements), Err(ParseError::Range("a prefix length")));
    let short = put(attribute::DATA, &put(option::MAX_ELEMENTS, &[1, 2]));
    assert_eq!(
        add(&short),
        Err(ParseError::AttributeSize { kind: option::MAX_ELEMENTS, expected: 4, actual: 2 })
    );
    assert_eq!(add(&[8, 0, 2]), Err(ParseError::Truncated("an attribute")));
}

#[test]
fn answers_without_what_was_asked_for_are_errors() {
    assert_eq!(set_name(Attributes::new(&[])), Err(ParseError::Missing("the set's name")));
    assert_eq!(revisions(Attributes::new(&[])), Err(ParseError::Missing("the revision")));
    let both = [put(attribute::REVISION, &[6]), put(attribute::REVISION_MIN, &[2])].concat();
    assert_eq!(revisions(Attributes::new(&both)), Ok(Revisions { min: 2, max: 6 }));
}

#[test]
fn the_failed_element_is_what_the_kernel_wrote_into_the_line_number() {
    let line = |number: u32| put(attribute::LINE_NUMBER, &number.to_be_bytes());
    assert_eq!(failed_element(&line(3)), Some(3));
    assert_eq!(failed_element(&line(0)), None);
    assert_eq!(failed_element(&put(attribute::LINE_NUMBER, &[3])), None);
    assert_eq!(failed_element(b""), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, inside: Vec<u8>) {
        let nested = [
            header("hash:net", 9),
            put(attribute::DATA, &inside),
            put(attribute::ELEMENTS, &inside),
            put(attribute::ELEMENTS, &put(attribute::DATA, &inside)),
            put(attribute::ELEMENTS, &put(attribute::DATA, &put(element::IP, &inside))),
        ];
        for bytes in nested.iter().chain([&bytes]) {
            let mut listing = Listing::default();
            let _ = listing.add(Attributes::new(bytes));
            let _ = listing.finish();
            let _ = set_name(Attributes::new(bytes));
            let _ = revisions(Attributes::new(bytes));
            let _ = failed_element(bytes);
        }
    }
}
