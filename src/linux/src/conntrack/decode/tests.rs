//! Entries, well-formed and not. What a kernel really sends is tested on one.

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

/// A UDP tuple from 10.0.0.1:1 to 10.0.0.2:2.
fn udp() -> Vec<u8> {
    let addresses =
        [put(ip::V4_SOURCE, &[10, 0, 0, 1]), put(ip::V4_DESTINATION, &[10, 0, 0, 2])].concat();
    let ports = [
        put(layer4::NUMBER, &[17]),
        put(layer4::SOURCE_PORT, &[0, 1]),
        put(layer4::DESTINATION_PORT, &[0, 2]),
    ]
    .concat();
    [put(tuple::IP, &addresses), put(tuple::LAYER4, &ports)].concat()
}

fn entry_of(original: &[u8], reply: &[u8]) -> Vec<u8> {
    [put(entry::ORIGINAL, original), put(entry::REPLY, reply), put(entry::ID, &[0, 0, 0, 9])]
        .concat()
}

fn read(bytes: &[u8]) -> Result<Option<Flow>, ParseError> {
    flow(Attributes::new(bytes))
}

#[test]
fn an_entry_without_a_mark_has_mark_0() {
    let flow = read(&entry_of(&udp(), &udp())).expect("whole").expect("of zone 0");
    assert_eq!(flow.mark, 0);
    assert_eq!(flow.key.id, 9);
    assert_eq!(flow.key.original.layer4, Layer4::Ports { source: 1, destination: 2 });
}

#[test]
fn a_zone_of_the_entry_or_of_a_direction_makes_it_foreign() {
    let zoned = [udp(), put(tuple::ZONE, &[0, 7])].concat();
    let zone_0 = [udp(), put(tuple::ZONE, &[0, 0])].concat();
    assert_eq!(read(&entry_of(&zoned, &udp())), Ok(None));
    assert_eq!(read(&entry_of(&udp(), &zoned)), Ok(None));
    assert_eq!(read(&[entry_of(&udp(), &udp()), put(entry::ZONE, &[0, 7])].concat()), Ok(None));
    assert!(read(&entry_of(&zone_0, &udp())).expect("whole").is_some());
}

#[test]
fn an_entry_that_lacks_something_is_an_error() {
    let no_addresses = put(tuple::LAYER4, &put(layer4::NUMBER, &[17]));
    let half = put(tuple::IP, &put(ip::V4_SOURCE, &[10, 0, 0, 1]));
    let no_protocol =
        put(tuple::IP, &[put(ip::V4_SOURCE, &[0; 4]), put(ip::V4_DESTINATION, &[0; 4])].concat());
    for (bytes, missing) in [
        (vec![], "the original tuple"),
        (put(entry::ORIGINAL, &udp()), "the reply tuple"),
        ([put(entry::ORIGINAL, &udp()), put(entry::REPLY, &udp())].concat(), "the entry's id"),
        (entry_of(&no_addresses, &udp()), "the tuple's addresses"),
        (entry_of(&half, &udp()), "an address of the tuple"),
        (entry_of(&no_protocol, &udp()), "the tuple's protocol"),
        (entry_of(&put(tuple::LAYER4, &[]), &udp()), "the protocol number"),
    ] {
        assert_eq!(read(&bytes), Err(ParseError::Missing(missing)));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        let _ = read(&bytes);
        let _ = read(&entry_of(&bytes, &udp()));
        let _ = read(&entry_of(&put(tuple::IP, &bytes), &udp()));
        let _ = read(&entry_of(&put(tuple::LAYER4, &bytes), &udp()));
    }
}

#[test]
fn counters_are_read_of_both_directions_and_none_where_the_kernel_does_not_count() {
    let bare = entry_of(&udp(), &udp());
    assert_eq!(flow_counters(Attributes::new(&bare)), Ok(None));
    let count = |packets: u64, bytes: u64| {
        [put(counters::PACKETS, &packets.to_be_bytes()), put(counters::BYTES, &bytes.to_be_bytes())]
            .concat()
    };
    let counted = [
        bare,
        put(entry::COUNTERS_ORIGINAL, &count(3, 300)),
        put(entry::COUNTERS_REPLY, &count(2, u64::MAX)),
    ]
    .concat();
    let found = flow_counters(Attributes::new(&counted)).expect("whole").expect("counted");
    assert_eq!(found.flow.key.id, 9);
    assert_eq!(found.original, FlowCount { packets: 3, bytes: 300 });
    assert_eq!(found.reply, FlowCount { packets: 2, bytes: u64::MAX });
}
