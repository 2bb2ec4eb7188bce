//! The parser on what the builder makes, and on what nobody should send.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::{MessageBuilder, NetlinkError, Subsystem};
use super::*;

/// A message as it goes over the wire, with sequence number 7.
fn wire(builder: MessageBuilder) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder.finish().expect("short enough").write(&mut bytes, 4, 7);
    bytes
}

fn builder() -> MessageBuilder {
    MessageBuilder::new(Subsystem::IpSet, 9, 0x200, 2)
}

fn attribute(kind: u16, length: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[test]
fn what_is_built_is_parsed() {
    let mut message = builder();
    message
        .byte(1, 7)
        .be16(2, 0x1234)
        .be32(3, 0x1234_5678)
        .string(4, "smartnat-a")
        .network_bytes(5, &[10, 0, 0, 1])
        .nest(6, |inner| {
            inner.network_bytes(1, &[0; 16]).nest(2, |_| {});
        });
    let bytes = wire(message);
    assert_eq!(bytes.len() % 4, 0);

    let messages: Vec<_> = Messages::new(&bytes).collect::<Result<_, _>>().expect("whole");
    let [message] = messages[..] else { panic!("{messages:?}") };
    assert_eq!((message.kind, message.flags, message.sequence), (0x0609, 0x205, 7));
    let attributes: Vec<_> =
        message.attributes().expect("there").collect::<Result<_, _>>().expect("whole");
    assert_eq!(attributes.iter().map(|a| a.kind).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(attributes[0].byte(), Ok(7));
    assert_eq!(attributes[1].be16(), Ok(0x1234));
    assert_eq!(attributes[2].be32(), Ok(0x1234_5678));
    assert_eq!(attributes[3].text(), "smartnat-a");
    assert_eq!(attributes[4].ipv4(), Ok(IpAddr::from([10, 0, 0, 1])));
    let inner: Vec<_> = attributes[5].nested().collect::<Result<_, _>>().expect("whole");
    assert_eq!(inner[0].ipv6(), Ok(IpAddr::from([0_u8; 16])));
    assert_eq!(inner[1].value, b"");
}

#[test]
fn several_messages_of_a_datagram_come_one_by_one() {
    let mut bytes = wire(builder());
    bytes.extend(wire(builder()));
    assert_eq!(Messages::new(&bytes).flatten().count(), 2);
}

#[test]
fn what_does_not_fit_its_length_field_is_refused() {
    let longest = usize::from(u16::MAX) - ATTRIBUTE_HEADER_SIZE;
    let mut fits = builder();
    fits.bytes(1, &vec![0; longest]);
    assert!(fits.finish().is_ok());

    let mut value = builder();
    value.bytes(1, &vec![0; longest + 1]);
    assert!(matches!(value.finish(), Err(NetlinkError::TooLong)));

    let mut nest = builder();
    nest.nest(1, |inner| {
        inner.bytes(1, &vec![0; longest]);
    });
    assert!(matches!(nest.finish(), Err(NetlinkError::TooLong)));
}

#[test]
fn a_value_of_another_size_is_an_error_not_a_guess() {
    let attribute = Attribute { kind: 3, value: &[1, 2, 3] };
    let size = |expected| ParseError::AttributeSize { kind: 3, expected, actual: 3 };
    assert_eq!(attribute.byte(), Err(size(1)));
    assert_eq!(attribute.be16(), Err(size(2)));
    assert_eq!(attribute.be32(), Err(size(4)));
    assert_eq!(attribute.ipv4(), Err(size(4)));
    assert_eq!(attribute.ipv6(), Err(size(16)));
}

#[test]
fn a_text_ends_at_its_nul_or_with_its_bytes() {
    for (value, text) in [
        (&b"abc\0def"[..], "abc"),
        (b"abc", "abc"),
        (b"", ""),
        (b"\0", ""),
        (b"a\xff\0", "a\u{fffd}"),
    ] {
        assert_eq!(Attribute { kind: 1, value }.text(), text);
    }
}

#[test]
fn malformed_attributes_end_the_sequence_with_one_error() {
    let cut_short = Err(ParseError::Truncated("an attribute"));
    let good = Ok(Attribute { kind: 1, value: &[9, 9, 9, 9] });
    for (malformed, name) in [
        (vec![1, 2, 3], "less than a header"),
        (attribute(2, 3, &[]), "a length that ends within the header"),
        (attribute(2, 0, &[]), "length 0, which would never end"),
        (attribute(2, 9, &[0; 4]), "a length beyond the end"),
        (attribute(2, u16::MAX, &[]), "the greatest length"),
    ] {
        let bytes = [attribute(1, 8, &[9; 4]), malformed].concat();
        let parsed: Vec<_> = Attributes::new(&bytes).collect();
        assert_eq!(parsed, [good.clone(), cut_short.clone()], "{name}");
    }
}

#[test]
fn the_last_attribute_needs_no_padding() {
    let bytes = attribute(1, 5, &[9]);
    let parsed: Vec<_> = Attributes::new(&bytes).collect();
    assert_eq!(parsed, [Ok(Attribute { kind: 1, value: &[9] })]);
}

#[test]
fn malformed_messages_end_the_datagram_with_one_error() {
    let whole = wire(builder());
    for length in [0_u32, 15, 21, u32::MAX] {
        let mut malformed = whole.clone();
        malformed[..4].copy_from_slice(&length.to_ne_bytes());
        let bytes = [whole.clone(), malformed].concat();
        let parsed: Vec<_> = Messages::new(&bytes).map(|m| m.map(|m| m.sequence)).collect();
        assert_eq!(parsed, [Ok(7), Err(ParseError::Truncated("nlmsghdr"))], "{length}");
    }
}

#[test]
fn bodies_too_short_for_what_they_are_said_to_hold_are_errors() {
    let message = RawMessage { kind: 2, flags: 0, sequence: 1, body: &[1, 2, 3] };
    assert_eq!(message.attributes().err(), Some(ParseError::Truncated("nfgenmsg")));
    assert_eq!(message.status().err(), Some(ParseError::Truncated("nlmsgerr")));
}

#[test]
fn an_echo_gives_its_attributes_or_nothing() {
    let mut message = builder();
    message.byte(1, 7);
    let bytes = wire(message);
    let echoed = echoed_attributes(&bytes);
    let parsed: Vec<_> = Attributes::new(&echoed).flatten().collect();
    assert_eq!(parsed, [Attribute { kind: 1, value: &[7] }]);
    // The header alone, as it comes where the kernel caps the echo.
    assert_eq!(echoed_attributes(&bytes[..16]), b"");
    assert_eq!(echoed_attributes(b""), b"");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_panic_and_to_an_end(bytes: Vec<u8>) {
        for message in Messages::new(&bytes).flatten() {
            let _ = message.status();
            if let Ok(attributes) = message.attributes() {
                prop_assert!(attributes.count() <= bytes.len() / ATTRIBUTE_HEADER_SIZE + 1);
            }
        }
        prop_assert!(Messages::new(&bytes).count() <= bytes.len() / HEADER_SIZE + 1);
        prop_assert!(Attributes::new(&bytes).count() <= bytes.len() / ATTRIBUTE_HEADER_SIZE + 1);
        prop_assert!(echoed_attributes(&bytes).len() <= bytes.len());
    }

    #[test]
    fn attributes_come_back_as_they_were_built(
        values in proptest::collection::vec((1..=KIND_MASK, any::<Vec<u8>>()), 0..20),
    ) {
        let mut message = builder();
        for (kind, value) in &values {
            message.bytes(*kind, value);
        }
        let bytes = wire(message);
        let message = Messages::new(&bytes).next().expect("one").expect("whole");
        let parsed: Vec<_> = message
            .attributes()
            .expect("there")
            .map(|a| a.map(|a| (a.kind, a.value.to_vec())))
            .collect::<Result<_, _>>()
            .expect("whole");
        prop_assert_eq!(parsed, values);
    }
}
