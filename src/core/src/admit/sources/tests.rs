//! T2: who may connect, in canonical form.

use proptest::prelude::*;

use super::*;

fn parse(texts: &[&str]) -> AllowedSources {
    let mut problems = Vec::new();
    let texts: Vec<_> = texts.iter().map(ToString::to_string).collect();
    let sources = AllowedSources::parse(&texts, &mut problems);
    assert_eq!(problems, []);
    sources
}

fn texts(networks: &[IpNet]) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_list_means_everyone_in_both_families() {
    let sources = parse(&[]);
    assert_eq!(sources, AllowedSources::everyone());
    assert!(Family::ALL.into_iter().all(|family| sources.is_everyone(family)));
    assert!(sources.allows("198.51.100.1".parse().unwrap()));
    assert!(sources.allows("2001:db8::1".parse().unwrap()));
}

#[test]
fn a_list_of_one_family_admits_nobody_of_the_other() {
    let sources = parse(&["0.0.0.0/0"]);
    assert!(sources.is_everyone(Family::V4) && !sources.is_everyone(Family::V6));
    assert!(sources.of(Family::V6).is_empty());
    assert!(!sources.allows("2001:db8::1".parse().unwrap()));
}

#[test]
fn sources_are_masked_merged_and_sorted() {
    let cases: [(&[&str], &[&str], &[&str]); 8] = [
        (&["192.0.2.7"], &["192.0.2.7/32"], &[]),
        (&["2001:db8::7"], &[], &["2001:db8::7/128"]),
        (&["192.0.2.7/24", "2001:db8::7/32"], &["192.0.2.0/24"], &["2001:db8::/32"]),
        (&["192.0.2.9", "192.0.2.8"], &["192.0.2.8/31"], &[]),
        (&["10.1.0.0/16", "10.0.0.0/8", "10.1.2.3"], &["10.0.0.0/8"], &[]),
        (&["128.0.0.0/1", "0.0.0.0/1", "::/1", "8000::/1"], &["0.0.0.0/0"], &["::/0"]),
        (&["10.0.1.0/24", "10.0.2.0/24"], &["10.0.1.0/24", "10.0.2.0/24"], &[]),
        (
            &["255.255.255.255", "255.255.255.254", "10.0.3.0/24", "10.0.0.0/23", "10.0.2.0/24"],
            &["10.0.0.0/22", "255.255.255.254/31"],
            &[],
        ),
    ];
    for (spec, ipv4, ipv6) in cases {
        let sources = parse(spec);
        assert_eq!(texts(&sources.ipv4), ipv4, "{spec:?}");
        assert_eq!(texts(&sources.ipv6), ipv6, "{spec:?}");
    }
}

#[test]
fn what_is_no_source_is_rejected() {
    let no_source = "is no source; write a network like 198.51.100.0/24 or 2001:db8::/32, or a \
                     bare IP address";
    let no_length = |bits| {
        format!("has no valid prefix length; write a number from 0 to {bits} after the slash")
    };
    let cases = [
        ("", no_source.into()),
        ("everyone", no_source.into()),
        ("10.0.0.0/8/8", no_length(32)),
        ("/8", no_source.into()),
        ("10.0.0/8", no_source.into()),
        ("10.0.0.0/", no_length(32)),
        ("10.0.0.0/33", no_length(32)),
        ("10.0.0.0/+8", no_length(32)),
        ("10.0.0.0/-1", no_length(32)),
        ("10.0.0.0/255.0.0.0", no_length(32)),
        ("2001:db8::/129", no_length(128)),
        ("2001:db8::/999999", no_length(128)),
        ("::ffff:192.0.2.7", "is an IPv4-mapped IPv6 network; write it as 192.0.2.7/32".into()),
        ("::ffff:10.0.0.0/104", "is an IPv4-mapped IPv6 network; write it as 10.0.0.0/8".into()),
    ];
    for (text, message) in cases {
        let mut problems = Vec::new();
        AllowedSources::parse(&["10.0.0.0/8".into(), text.into()], &mut problems);
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("spec.allowedSources[1]: {text:?} {message}.")]
        );
    }
}

/// Networks in a corner of the address space, so that they meet.
fn network() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u8>(), 22u8..=32, any::<bool>()).prop_map(|(low, length, top)| {
        let base = if top { 0xffff_ff00 } else { 0x0a00_0000 };
        IpNet::new(IpAddr::V4((base | u32::from(low)).into()), length).unwrap()
    });
    let v6 = (any::<u8>(), 118u8..=128).prop_map(|(low, length)| {
        let base = 0x2001_0db8_u128 << 96;
        IpNet::new(IpAddr::V6((base | u128::from(low)).into()), length).unwrap()
    });
    prop_oneof![4 => v4, 4 => v6, 1 => "0\\.0\\.0\\.0/[01]".prop_map(|t| t.parse().unwrap())]
}

/// Addresses at and around the borders of `networks`.
fn probes(networks: &[IpNet]) -> Vec<IpAddr> {
    let around = |address: IpAddr| match address {
        IpAddr::V4(a) => {
            let n = u32::from(a);
            [n.wrapping_sub(1), n, n.wrapping_add(1)].map(|n| IpAddr::V4(n.into()))
        }
        IpAddr::V6(a) => {
            let n = u128::from(a);
            [n.wrapping_sub(1), n, n.wrapping_add(1)].map(|n| IpAddr::V6(n.into()))
        }
    };
    networks.iter().flat_map(|n| [n.network(), n.broadcast()]).flat_map(around).collect()
}

proptest! {
    /// P2: merging changes nobody's permission.
    #[test]
    fn merged_sources_allow_the_same_addresses(
        networks in prop::collection::vec(network(), 0..20)
    ) {
        let sources = AllowedSources::merged(networks.clone());
        for address in probes(&networks) {
            let expected = networks.iter().any(|n| n.contains(&address));
            prop_assert_eq!(sources.allows(address), expected, "{}", address);
        }
    }

    /// Equal permissions are equal values: no overlap, no mergeable halves, any order.
    #[test]
    fn merged_sources_are_canonical(
        (networks, shuffled) in prop::collection::vec(network(), 0..20)
            .prop_flat_map(|n| (Just(n.clone()), Just(n).prop_shuffle()))
    ) {
        let sources = AllowedSources::merged(networks);
        prop_assert_eq!(&sources, &AllowedSources::merged(shuffled));
        for family in Family::ALL {
            let merged = sources.of(family);
            prop_assert!(merged.is_sorted());
            for (i, a) in merged.iter().enumerate() {
                prop_assert_eq!(*a, a.trunc());
                for b in &merged[i + 1..] {
                    prop_assert!(!a.contains(b) && !b.contains(a), "{} and {}", a, b);
                    prop_assert!(a.supernet() != b.supernet(), "{} and {}", a, b);
                }
            }
        }
    }
}
