use super::*;
use crate::model::Family;
use crate::nft_text::render_rule;
use crate::objects::RejectWith;
use crate::objects::nft::{NatKind, SetUpdate};

fn check(cases: &[(&[&[NftExpr]], &str)]) {
    let sets = sets();
    for (parts, text) in cases {
        assert_eq!(render_rule(&sets, &rule(parts)), *text);
    }
}

fn number(value: u32) -> [u8; 4] {
    value.to_ne_bytes()
}

fn translate(kind: NatKind, address: u8, port: Option<u8>) -> NftExpr {
    NftExpr::Nat { kind, family: Family::V4, address: Register(address), port: port.map(Register) }
}

fn random(modulus: u32, to: u8) -> NftExpr {
    NftExpr::Random { modulus, to: Register(to) }
}

#[test]
fn marks_are_masked_flipped_and_set_as_nft_groups_the_bits() {
    let set_mark = NftExpr::SetMark { from: Register(8) };
    let change = |mask: u32, xor: u32| {
        vec![ct(CtKey::Mark, 8), bitwise(8, 8, &number(mask), &number(xor)), set_mark.clone()]
    };
    check(&[
        (&[&change(0xff, 0)], "meta mark set ct mark & 0x000000ff"),
        (&[&change(0xff, 0x100)], "meta mark set ct mark & 0x000001ff | 0x00000100"),
        (&[&change(0xff, 0x101)], "meta mark set ct mark & 0x000001ff ^ 0x00000001 | 0x00000100"),
        (&[&change(0xffff_ff00, 0x100)], "meta mark set ct mark & 0xffffff00 ^ 0x00000100"),
        (&[&change(0, 0x100)], "meta mark set ct mark & 0x00000100 | 0x00000100"),
        (&[&change(0xffff_feff, 0x100)], "meta mark set ct mark | 0x00000100"),
        (&[&change(0xffff_ffff, 0x100)], "meta mark set ct mark ^ 0x00000100"),
        (
            &[&[meta(MetaKey::Mark, 1), NftExpr::SetCtMark { from: Register(1) }]],
            "ct mark set meta mark",
        ),
    ]);
}

#[test]
fn comparisons_of_marks_are_hexadecimal() {
    let masked = [ct(CtKey::Mark, 8), mask(8, &number(0xff))];
    check(&[
        (&[&masked, &[compare(8, &[0; 4]), accept()]], "ct mark & 0x000000ff == 0x00000000 accept"),
        (
            &[&masked, &[differ(8, &number(5)), accept()]],
            "ct mark & 0x000000ff != 0x00000005 accept",
        ),
        (&[&masked, &[verdict_of("marks", 8)]], "ct mark & 0x000000ff vmap @marks"),
        (
            &[&masked, &[member("known-marks", 8), accept()]],
            "ct mark & 0x000000ff == @known-marks accept",
        ),
        (
            &[&[meta(MetaKey::Mark, 8), compare(8, &number(5)), accept()]],
            "meta mark 0x00000005 accept",
        ),
    ]);
}

#[test]
fn states_and_statuses_have_names() {
    let state = |bits: u32| [ct(CtKey::State, 8), mask(8, &number(bits))];
    let status = [ct(CtKey::Status, 8), mask(8, &number(8))];
    let exact = |value: u32| [ct(CtKey::State, 8), compare(8, &number(value)), accept()];
    let (is, is_not) = ([differ(8, &[0; 4]), accept()], [compare(8, &[0; 4]), accept()]);
    check(&[
        (&[&state(8), &is], "ct state new accept"),
        (&[&state(6), &is], "ct state established,related accept"),
        (&[&state(6), &is_not], "ct state ! established,related accept"),
        (&[&state(71), &is], "ct state invalid,established,related,untracked accept"),
        (&[&exact(8)], "ct state == new accept"),
        (&[&exact(1)], "ct state == invalid accept"),
        (
            &[&[ct(CtKey::State, 8), differ(8, &number(10)), accept()]],
            "ct state != established | new accept",
        ),
        (&[&status, &is_not], "ct status ! confirmed accept"),
        (&[&status, &is], "ct status confirmed accept"),
        (
            &[&status, &[compare(8, &number(8)), accept()]],
            "ct status & confirmed == confirmed accept",
        ),
        (&[&[ct(CtKey::Direction, 8), compare(8, &[1]), accept()]], "ct direction reply accept"),
        (&[&[ct(CtKey::Direction, 8), compare(8, &[0]), accept()]], "ct direction original accept"),
    ]);
}

#[test]
fn flags_of_tcp_have_names_and_imply_the_protocol() {
    let flags = |bits: u8| [transport(13, 1, 9), mask(9, &[bits])];
    let tcp = protocol(6);
    check(&[
        (
            &[&tcp, &flags(0x17), &[differ(9, &[2]), accept()]],
            "tcp flags != syn / fin,syn,rst,ack accept",
        ),
        (&[&tcp, &flags(0x12), &[compare(9, &[2]), accept()]], "tcp flags syn / syn,ack accept"),
        (&[&tcp, &flags(2), &[compare(9, &[0]), accept()]], "tcp flags ! syn accept"),
        (&[&tcp, &flags(2), &[compare(9, &[2]), accept()]], "tcp flags & syn == syn accept"),
        (&[&tcp, &flags(2), &[differ(9, &[2]), accept()]], "tcp flags & syn != syn accept"),
        (&[&tcp, &flags(6), &[differ(9, &[0]), accept()]], "tcp flags syn,rst accept"),
        (
            &[&tcp, &flags(0x12), &[compare(9, &[0x12]), accept()]],
            "tcp flags syn,ack / syn,ack accept",
        ),
    ]);
}

#[test]
fn what_a_header_implies_is_not_said_twice() {
    let daddr = [network(16, 4, 9), compare(9, &[10, 0, 0, 1]), accept()];
    let dport = [transport(2, 2, 9), compare(9, &[0, 68]), accept()];
    let icmp_type = [transport(0, 1, 9), compare(9, &[8]), accept()];
    check(&[
        (&[&ipv4(), &daddr], "ip daddr 10.0.0.1 accept"),
        (&[&daddr], "@nh,128,32 0xa000001 accept"),
        (&[&ipv4(), &[accept()]], "meta nfproto ipv4 accept"),
        (&[&[meta(MetaKey::NfProto, 0), differ(0, &[2]), accept()]], "meta nfproto != ipv4 accept"),
        (&[&protocol(17), &dport], "udp dport 68 accept"),
        (&[&ipv4(), &protocol(17), &dport], "meta nfproto ipv4 udp dport 68 accept"),
        (&[&dport], "th dport 68 accept"),
        (&[&protocol(132), &[accept()]], "meta l4proto sctp accept"),
        (
            &[&protocol(132), &[transport(12, 1, 0), compare(0, &[1]), accept()]],
            "meta l4proto sctp @th,96,8 0x1 accept",
        ),
        (&[&ipv4(), &protocol(1), &icmp_type], "icmp type echo-request accept"),
        (
            &[&protocol(58), &[transport(0, 1, 9), compare(9, &[135]), accept()]],
            "icmpv6 type nd-neighbor-solicit accept",
        ),
        (&[&protocol(58), &[accept()]], "meta l4proto ipv6-icmp accept"),
        (
            &[&ipv4(), &[network(12, 4, 0)], &ipv4(), &[member("sources4", 0), accept()]],
            "meta nfproto ipv4 ip saddr @sources4 accept",
        ),
    ]);
}

#[test]
fn networks_are_prefixes_however_they_are_compared() {
    let ipv6 = [meta(MetaKey::NfProto, 8), compare(8, &[10])];
    let mut link_local = [0; 16];
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    let mut ten_bits = [0; 16];
    ten_bits[..2].copy_from_slice(&[0xff, 0xc0]);
    let v6 = [network(24, 16, 0), mask(0, &ten_bits), compare(0, &link_local), accept()];
    check(&[
        (
            &[
                &ipv4(),
                &[
                    network(16, 4, 9),
                    mask(9, &[240, 0, 0, 0]),
                    compare(9, &[224, 0, 0, 0]),
                    accept(),
                ],
            ],
            "ip daddr 224.0.0.0/4 accept",
        ),
        (
            &[&ipv4(), &[network(16, 1, 9), compare(9, &[127]), accept()]],
            "ip daddr 127.0.0.0/8 accept",
        ),
        (&[&ipv6, &v6], "ip6 daddr fe80::/10 accept"),
        (
            &[&ipv6, &[network(24, 2, 0), compare(0, &[0xfe, 0x80]), accept()]],
            "ip6 daddr fe80::/16 accept",
        ),
    ]);
}

/// One comparison of several fields costs the kernel less than several.
#[test]
fn fields_that_were_read_together_are_written_one_by_one() {
    let together =
        |length, value: &[u8]| vec![transport(0, length, 9), compare(9, value), accept()];
    let mut masked = vec![meta(MetaKey::NfProto, 8), compare(8, &[10])];
    masked.extend([network(8, 2, 9), mask(9, &[0xff, 0xc0]), compare(9, &[0xfe, 0x80]), accept()]);
    check(&[
        (&[&protocol(17), &together(4, &[0, 67, 0, 68])], "udp sport 67 udp dport 68 accept"),
        (
            &[&protocol(1), &together(2, &[3, 4])],
            "icmp type destination-unreachable icmp code frag-needed accept",
        ),
        (&[&masked], "ip6 saddr fe80::/10 accept"),
    ]);
}

#[test]
fn interfaces_and_kinds_of_addresses_have_names() {
    let name = crate::objects::nft::fields::interface("eth1");
    let local = [NftExpr::DestinationType { to: Register(8) }, compare(8, &number(2)), accept()];
    check(&[
        (&[&[meta(MetaKey::InputName, 0), compare(0, &name), accept()]], "iifname \"eth1\" accept"),
        (
            &[&[meta(MetaKey::OutputName, 0), differ(0, &name), accept()]],
            "oifname != \"eth1\" accept",
        ),
        (
            &[&[meta(MetaKey::OutputName, 0), compare(0, b"eth"), accept()]],
            "oifname \"eth*\" accept",
        ),
        (&[&local], "fib daddr type local accept"),
    ]);
}

#[test]
fn a_key_is_what_its_registers_were_loaded_with() {
    let client = [network(12, 4, 0)];
    check(&[
        (
            &[&ipv4(), &endpoint(0), &[verdict_of("services4", 0)]],
            "ip daddr . meta l4proto . th dport vmap @services4",
        ),
        (
            &[&ipv4(), &client, &[transport(2, 2, 1), member("clients4", 0), accept()]],
            "ip saddr . th dport @clients4 accept",
        ),
        (
            &[
                &ipv4(),
                &client,
                &[lookup("sources4", 0, LookupResult::Membership { negated: true })],
                &endpoint(0),
                &[verdict_of("services4", 0)],
            ],
            "ip saddr != @sources4 ip daddr . meta l4proto . th dport vmap @services4",
        ),
    ]);
}

#[test]
fn translations_name_the_map_that_decides() {
    let spread = |set, to| vec![random(3, 3), value_of(set, 0, to)];
    let source = [network(12, 4, 9), translate(NatKind::Source, 9, None)];
    let masked = [ct(CtKey::Mark, 8), mask(8, &number(0xe0)), compare(8, &number(0xc0))];
    let egress = [network(12, 4, 0), meta(MetaKey::OutputName, 1), value_of("egress4", 0, 9)];
    check(&[
        (
            &[
                &ipv4(),
                &endpoint(0),
                &spread("endpoints4", 9),
                &[translate(NatKind::Destination, 9, Some(10))],
            ],
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints4",
        ),
        (
            &[
                &ipv4(),
                &endpoint(0),
                &spread("endpoints4", 0),
                &[translate(NatKind::Destination, 0, Some(1))],
            ],
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints4",
        ),
        (
            &[
                &ipv4(),
                &endpoint(0),
                &spread("range-endpoints4", 9),
                &[
                    transport(2, 2, 10),
                    value_of("shift-5", 10, 10),
                    translate(NatKind::Destination, 9, Some(10)),
                ],
            ],
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @range-endpoints4:th dport map @shift-5",
        ),
        (
            &[
                &ipv4(),
                &endpoint(0),
                &spread("range-endpoints4", 9),
                &[transport(2, 2, 10), translate(NatKind::Destination, 9, Some(10))],
            ],
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @range-endpoints4:th dport",
        ),
        (
            &[&ipv4(), &egress, &[translate(NatKind::Source, 9, None)]],
            "snat ip to ip saddr . oifname map @egress4",
        ),
        (&[&ipv4(), &masked, &source], "ct mark & 0x000000e0 == 0x000000c0 snat ip to ip saddr"),
        (&[&masked, &[NftExpr::Masquerade]], "ct mark & 0x000000e0 == 0x000000c0 masquerade"),
    ]);
}

#[test]
fn refusals_and_changes_of_sets_have_the_words_of_nft() {
    let client = [network(12, 4, 0)];
    let change = |update, value, timeout_millis| NftExpr::Dynset {
        set: "affinity4".into(),
        update,
        key: Register(0),
        value,
        timeout_millis,
    };
    let value = [network(16, 4, 9), transport(2, 2, 10)];
    let (update, delete) = (SetUpdate::Update, SetUpdate::Delete);
    let key = "ip saddr . ip daddr . meta l4proto . th dport";
    check(&[
        (
            &[&protocol(6), &[NftExpr::Reject(RejectWith::TcpReset)]],
            "meta l4proto tcp reject with tcp reset",
        ),
        (&[&[NftExpr::Reject(RejectWith::PortUnreachable)]], "reject"),
        (
            &[
                &ipv4(),
                &client,
                &endpoint(1),
                &value,
                &[change(update, Some(Register(9)), Some(20_000))],
            ],
            &format!("update @affinity4 {{ {key} timeout 20s : ip daddr . th dport }}"),
        ),
        (
            &[&ipv4(), &client, &endpoint(1), &value, &[change(delete, Some(Register(9)), None)]],
            &format!("delete @affinity4 {{ {key} : ip daddr . th dport }}"),
        ),
    ]);
}

/// nft 1.0.6 fails on these; the text says what the kernel does.
#[test]
fn a_part_of_a_key_that_was_looked_up_is_in_parentheses() {
    let client = [network(12, 4, 0)];
    check(&[
        (
            &[&ipv4(), &endpoint(0), &[value_of("ranges4", 0, 2), verdict_of("services4", 0)]],
            "ip daddr . meta l4proto . (ip daddr . meta l4proto . th dport map @ranges4) vmap @services4",
        ),
        (
            &[&ipv4(), &endpoint(1), &[value_of("padded4", 1, 0), verdict_of("services4", 1)]],
            "(ip daddr . meta l4proto . th dport map @padded4) vmap @services4",
        ),
        (
            &[
                &ipv4(),
                &client,
                &endpoint(1),
                &[value_of("affinity4", 0, 4), member("members4", 1), accept()],
            ],
            "ip daddr . meta l4proto . th dport . (ip saddr . ip daddr . meta l4proto . th dport map @affinity4) @members4 accept",
        ),
    ]);
}

#[test]
fn what_has_no_text_is_in_brackets_and_no_input_makes_it_fail() {
    check(&[
        (&[&[NftExpr::Unknown("synproxy".to_owned()), accept()]], "[ synproxy ] accept"),
        (&[&[compare(3, &[1, 2])]], "[ register 3 ] 0x102"),
        (&[&[compare(15, &[7; 8])]], "[ register 15 ] 0x707070707070707"),
        (&[&[verdict_of("absent", 200)]], "[ register 200 ] vmap @absent"),
        (
            &[&[meta(MetaKey::InputName, 14), translate(NatKind::Source, 15, Some(3))]],
            "snat ip to [ register 15 ]:[ register 3 ]",
        ),
        (&[&[meta(MetaKey::Mark, 0), compare(0, &[1])]], "meta mark 0x1"),
        (&[&[meta(MetaKey::Mark, 0), compare(0, &[])]], "meta mark 0x0"),
    ]);
}

#[test]
fn a_comment_follows() {
    let mut commented = rule(&[&[accept()]]);
    commented.comment = Some("ours".into());
    assert_eq!(render_rule(&sets(), &commented), "accept comment \"ours\"");
}
