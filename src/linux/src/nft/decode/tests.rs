//! The decoder on what the encoder makes, and on what nobody should send.

use std::collections::BTreeMap;

use proptest::prelude::*;
use smartnat_core::model::Family;
use smartnat_core::objects::RejectWith;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftData, NftElement, NftExpr, NftKey, NftRule,
    NftSetSpec, NftType, NftValue, PayloadBase, Register, SetUpdate,
};

use super::*;
use crate::netlink::parse::Messages;
use crate::netlink::{Message, MessageBuilder, NetlinkError, Subsystem};
use crate::nft::encode;

/// The attributes of a message as they go over the wire.
fn wire(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes, 0, 1);
    let whole = Messages::new(&bytes).next().expect("a message").expect("whole");
    whole.body.get(4..).expect("nfgenmsg").to_vec()
}

/// A rule that goes there and back.
fn returned(rule_sent: &NftRule) -> NftRule {
    let (message, _) = encode::rule(&"chain".into(), rule_sent).expect("short enough");
    let told = rule(Attributes::new(&wire(&message))).expect("readable");
    let (chain, rule) = told.expect("of our table");
    assert_eq!(chain.as_str(), "chain");
    rule
}

/// An expression as it comes back when `data` are its attributes.
fn read(name: &str, data: impl FnOnce(&mut MessageBuilder)) -> NftExpr {
    let mut message = MessageBuilder::new(Subsystem::NfTables, 6, 0, 1);
    message.string(1, name).nest(2, data);
    expression::read(Attributes::new(&wire(&message.finish().expect("short")))).expect("readable")
}

fn register() -> impl Strategy<Value = Register> {
    (0..Register::COUNT).prop_map(Register)
}

fn bytes() -> impl Strategy<Value = Box<[u8]>> {
    prop::collection::vec(any::<u8>(), 1..17).prop_map(Into::into)
}

fn name() -> impl Strategy<Value = NftName> {
    "[a-z][a-z0-9-]{0,30}".prop_map(|name| NftName::from(name.as_str()))
}

fn verdicts() -> impl Strategy<Value = NftVerdict> {
    prop_oneof![
        Just(NftVerdict::Accept),
        Just(NftVerdict::Drop),
        Just(NftVerdict::Return),
        Just(NftVerdict::Continue),
        name().prop_map(NftVerdict::Jump),
        name().prop_map(NftVerdict::Goto),
    ]
}

fn reading() -> impl Strategy<Value = NftExpr> {
    let base = prop::sample::select(vec![PayloadBase::Network, PayloadBase::Transport]);
    let meta = prop::sample::select(vec![
        MetaKey::NfProto,
        MetaKey::L4Proto,
        MetaKey::InputName,
        MetaKey::OutputName,
        MetaKey::Mark,
    ]);
    let ct = prop::sample::select(vec![CtKey::State, CtKey::Direction, CtKey::Status, CtKey::Mark]);
    prop_oneof![
        (base, any::<u32>(), any::<u32>(), register()).prop_map(|(base, offset, length, to)| {
            NftExpr::Payload { base, offset, length, to }
        }),
        (meta, register()).prop_map(|(key, to)| NftExpr::Meta { key, to }),
        (ct, register()).prop_map(|(key, to)| NftExpr::Ct { key, to }),
        register().prop_map(|to| NftExpr::DestinationType { to }),
        (any::<u32>(), register()).prop_map(|(modulus, to)| NftExpr::Random { modulus, to }),
        (register(), register(), bytes(), bytes())
            .prop_map(|(from, to, mask, xor)| { NftExpr::Bitwise { from, to, mask, xor } }),
        (bytes(), register()).prop_map(|(value, to)| NftExpr::Constant { value, to }),
    ]
}

fn deciding() -> impl Strategy<Value = NftExpr> {
    let result = prop_oneof![
        any::<bool>().prop_map(|negated| LookupResult::Membership { negated }),
        Just(LookupResult::Verdict),
        register().prop_map(LookupResult::Value),
    ];
    prop_oneof![
        (register(), any::<bool>(), bytes())
            .prop_map(|(from, negated, value)| { NftExpr::Compare { from, negated, value } }),
        (name(), register(), result).prop_map(|(set, key, result)| NftExpr::Lookup {
            set,
            key,
            result
        }),
        prop::sample::select(vec![RejectWith::TcpReset, RejectWith::PortUnreachable])
            .prop_map(NftExpr::Reject),
        verdicts().prop_map(NftExpr::Verdict),
        Just(NftExpr::Counter),
    ]
}

fn changing() -> impl Strategy<Value = NftExpr> {
    let update = prop::sample::select(vec![SetUpdate::Update, SetUpdate::Delete]);
    let kind = prop::sample::select(vec![NatKind::Source, NatKind::Destination]);
    let family = prop::sample::select(Family::ALL.to_vec());
    let option = || prop::option::of(register());
    prop_oneof![
        register().prop_map(|from| NftExpr::SetMark { from }),
        register().prop_map(|from| NftExpr::SetCtMark { from }),
        (name(), update, register(), option(), prop::option::of(1..u64::MAX)).prop_map(
            |(set, update, key, value, timeout_millis)| {
                NftExpr::Dynset { set, update, key, value, timeout_millis }
            }
        ),
        (kind, family, register(), option()).prop_map(|(kind, family, address, port)| {
            NftExpr::Nat { kind, family, address, port }
        }),
        Just(NftExpr::Masquerade),
    ]
}

fn rules() -> impl Strategy<Value = NftRule> {
    let expression = prop_oneof![reading(), deciding(), changing()];
    let comment = prop::option::of("[ -~]{0,127}".prop_map(Into::into));
    (prop::collection::vec(expression, 0..8), comment)
        .prop_map(|(expressions, comment)| NftRule { expressions, comment })
}

/// Everything that reads what the kernel says; results do not matter.
fn read_all(bytes: &[u8]) {
    let attributes = || Attributes::new(bytes);
    let _ = (table_head(attributes()), generation(attributes()), chain(attributes()));
    let _ = (rule(attributes()), expression::read(attributes()));
    let mut elements = Elements::default();
    let _ = elements.add(attributes());
    let spec = set(attributes()).ok().flatten().map(|(_, spec)| spec);
    let interval =
        NftSetSpec { interval: true, ..NftSetSpec::exact([NftType::Ipv4], NftData::Nothing) };
    let _ = elements.finish(&spec.unwrap_or(interval));
}

proptest! {
    #[test]
    fn a_rule_goes_there_and_back(rule in rules()) {
        prop_assert_eq!(returned(&rule), rule);
    }

    #[test]
    fn malformed_bytes_are_an_error_at_most(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn a_damaged_rule_is_an_error_at_most(
        rule in rules(),
        cut in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (message, _) = encode::rule(&"chain".into(), &rule).expect("short enough");
        let mut bytes = wire(&message);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        read_all(&bytes);
    }
}

/// Elements that go there and back, in messages as they would be listed.
fn elements_returned(
    spec: &NftSetSpec,
    sent: &BTreeMap<NftKey, NftElement>,
) -> Option<BTreeMap<NftKey, NftElement>> {
    let mut changes = sent.iter().map(|(key, element)| (key, Some(element))).peekable();
    let mut listed = Elements::default();
    while changes.peek().is_some() {
        let part = encode::elements(&"set".into(), Some(spec), &mut changes).expect("short");
        listed.add(Attributes::new(&wire(&part.message))).expect("readable");
    }
    listed.finish(spec)
}

fn plain() -> NftElement {
    NftElement { value: NftValue::Nothing, comment: None }
}

#[test]
fn every_interval_of_one_byte_goes_there_and_back() {
    let spec =
        NftSetSpec { interval: true, ..NftSetSpec::exact([NftType::Protocol], NftData::Nothing) };
    let key = |first, last| NftKey::interval([first, 0, 0, 0], [last, 0, 0, 0]);
    for first in 0..=u8::MAX {
        for last in first..=u8::MAX {
            // Those that touch it on both sides are not drawn into it.
            let mut sent = BTreeMap::from([(key(first, last), plain())]);
            sent.extend(first.checked_sub(1).map(|before| (key(0, before), plain())));
            sent.extend(last.checked_add(1).map(|after| (key(after, u8::MAX), plain())));
            assert_eq!(elements_returned(&spec, &sent), Some(sent));
        }
    }
}

#[test]
fn an_element_that_is_told_twice_spoils_the_listing() {
    let spec = NftSetSpec::exact([NftType::Mark], NftData::Nothing);
    let sent = BTreeMap::from([(NftKey::exact([1, 0, 0, 0]), plain())]);
    let mut changes = sent.iter().map(|(key, element)| (key, Some(element))).peekable();
    let part = encode::elements(&"set".into(), Some(&spec), &mut changes).expect("short");
    let mut listed = Elements::default();
    for _ in 0..2 {
        listed.add(Attributes::new(&wire(&part.message))).expect("readable");
    }
    assert_eq!(listed.finish(&spec), None);
}

#[test]
fn a_set_goes_there_and_back() {
    let timed = NftSetSpec {
        timeout: Some(10_800),
        dynamic: true,
        size: Some(65_536),
        ..NftSetSpec::exact(
            [NftType::Ipv6, NftType::Protocol, NftType::Port, NftType::Mark, NftType::Ipv4],
            NftData::Values(vec![NftType::InterfaceName, NftType::Port]),
        )
    };
    let counted = NftSetSpec {
        counter: true,
        interval: true,
        ..NftSetSpec::exact([NftType::Ipv4, NftType::Port], NftData::Verdict)
    };
    let shapeless = NftSetSpec { timeout: Some(0), ..counted.clone() };
    for spec in [timed, counted, shapeless, NftSetSpec::exact([NftType::Port], NftData::Nothing)] {
        let message = encode::create_set(&"set".into(), &spec, 1).expect("short");
        let told = set(Attributes::new(&wire(&message))).expect("readable");
        assert_eq!(told, Some(("set".into(), spec)));
    }
}

#[test]
fn an_expression_that_does_more_than_ours_is_unknown() {
    let unknown = |name: &str| NftExpr::Unknown(name.to_owned());
    // Writes into the packet; only compares smaller; numbers that are not random; another family.
    assert_eq!(
        read("payload", |d| _ = d.be32(5, 8).be32(2, 1).be32(3, 0).be32(4, 4)),
        unknown("payload")
    );
    assert_eq!(
        read("cmp", |d| _ = d.be32(1, 8).be32(2, 2).nest(3, |v| _ = v.bytes(1, &[1]))),
        unknown("cmp")
    );
    assert_eq!(read("numgen", |d| _ = d.be32(1, 8).be32(2, 3).be32(3, 0)), unknown("numgen"));
    assert_eq!(read("nat", |d| _ = d.be32(1, 1).be32(2, 7).be32(3, 8)), unknown("nat"));
    // With a range of addresses, with flags, with ports, for the original direction.
    assert_eq!(read("nat", |d| _ = d.be32(1, 1).be32(2, 2).be32(3, 8).be32(4, 9)), unknown("nat"));
    assert_eq!(read("nat", |d| _ = d.be32(1, 1).be32(2, 2).be32(3, 8).be32(7, 4)), unknown("nat"));
    assert_eq!(read("masq", |d| _ = d.be32(1, 4)), unknown("masq"));
    assert_eq!(read("ct", |d| _ = d.be32(1, 8).be32(2, 3).byte(3, 0)), unknown("ct"));
    // Loads a constant into no register; looks up a value for none; has a name alone.
    assert_eq!(
        read("immediate", |d| _ = d.nest(2, |v| _ = v.bytes(1, &[1]))),
        unknown("immediate")
    );
    assert_eq!(read("lookup", |d| _ = d.string(1, "set").be32(2, 8).be32(3, 7)), unknown("lookup"));
    assert_eq!(read("xt", |_| ()), unknown("xt"));
}

#[test]
fn registers_of_sixteen_bytes_are_told_as_those_of_four() {
    for (number, register) in [(1, 0), (2, 4), (3, 8), (4, 12), (8, 0), (9, 1), (23, 15)] {
        let to = Register(register);
        let read = read("fib", |d| _ = d.be32(1, number).be32(2, 3).be32(3, 2));
        assert_eq!(read, NftExpr::DestinationType { to }, "{number}");
    }
    for number in [0, 5, 7, 24, u32::MAX] {
        let read = read("fib", |d| _ = d.be32(1, number).be32(2, 3).be32(3, 2));
        assert_eq!(read, NftExpr::Unknown("fib".to_owned()), "{number}");
    }
}

#[test]
fn the_table_is_told_by_its_comment() {
    let message = encode::create_table().expect("short");
    let head = table_head(Attributes::new(&wire(&message))).expect("readable");
    let comment = Some(smartnat_core::objects::nft::NFT_TABLE_COMMENT.to_owned());
    assert_eq!(head, TableHead { comment, dormant: false });
}

#[test]
fn an_element_that_no_message_can_hold_is_refused() {
    let spec = NftSetSpec::exact([NftType::Mark], NftData::Nothing);
    let key = NftKey::exact(vec![0; 1 << 16]);
    let element = plain();
    let mut changes = std::iter::once((&key, Some(&element))).peekable();
    let result = encode::elements(&"set".into(), Some(&spec), &mut changes);
    assert!(matches!(result.map(|part| part.starts), Err(NetlinkError::TooLong)));
}
