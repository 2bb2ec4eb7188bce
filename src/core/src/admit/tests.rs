//! What is admitted and what is rejected with which sentence (section 4 of the design).

use proptest::prelude::*;

use super::*;
use crate::model::{Mapping, MappingPort, MappingSpec, Service};

fn port(port: i64) -> MappingPort {
    MappingPort { port: Some(port), ..Default::default() }
}

fn range(first: i64, last: i64) -> MappingPort {
    MappingPort { end_port: Some(last), ..port(first) }
}

fn with_protocol(protocol: &str, entry: MappingPort) -> MappingPort {
    MappingPort { protocol: Some(protocol.into()), ..entry }
}

fn to_number(service_port: i64, entry: MappingPort) -> MappingPort {
    MappingPort { service_port: Some(PortReference::Number(service_port)), ..entry }
}

fn to_name(service_port: &str, entry: MappingPort) -> MappingPort {
    MappingPort { service_port: Some(PortReference::Name(service_port.into())), ..entry }
}

fn valid() -> MappingSpec {
    MappingSpec {
        addresses: vec!["203.0.113.10".into()],
        service_name: "echo".into(),
        ports: vec![port(8080)],
        ..Default::default()
    }
}

fn mapping(spec: MappingSpec) -> Mapping {
    Mapping {
        key: ObjectKey::new("default", "echo"),
        uid: String::new(),
        generation: 3,
        created: Some(Timestamp(1)),
        deleting: false,
        spec,
    }
}

fn judge(spec: MappingSpec) -> Result<AdmittedMapping, Vec<Problem>> {
    check(&mapping(spec), None, &GatewayConfig::default())
}

/// The sentences of a rejected specification.
fn sentences(spec: MappingSpec) -> Vec<String> {
    let problems = judge(spec).expect_err("must be rejected");
    problems.iter().map(ToString::to_string).collect()
}

fn admitted(spec: MappingSpec) -> AdmittedMapping {
    judge(spec).expect("must be accepted")
}

#[test]
fn defaults_are_filled_in() {
    let echo = admitted(valid());
    assert_eq!(echo.key, ObjectKey::new("default", "echo"));
    assert_eq!(echo.service, ObjectKey::new("default", "echo"));
    assert_eq!((echo.generation, echo.created, echo.deleting), (3, Some(Timestamp(1)), false));
    assert_eq!(echo.sources, AllowedSources::everyone());
    let expected = AdmittedPort {
        protocol: Protocol::Tcp,
        ports: PortRange::single(8080).unwrap(),
        service_port: PortReference::Number(8080),
    };
    assert_eq!(echo.ports, [expected]);
}

#[test]
fn addresses_of_both_families_keep_their_order() {
    let addresses = vec!["2001:db8::10".into(), "203.0.113.10".into(), "10.0.0.1".into()];
    let echo = admitted(MappingSpec { addresses: addresses.clone(), ..valid() });
    assert_eq!(echo.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), addresses);
}

/// T7, T13: per gateway, and per Mapping.
#[test]
fn masquerade_and_egress_come_from_the_gateway_unless_given() {
    for gateway in [false, true] {
        let config =
            GatewayConfig { masquerade: gateway, egress: gateway, ..GatewayConfig::default() };
        for own in [None, Some(false), Some(true)] {
            let spec = MappingSpec { masquerade: own, egress: own, ..valid() };
            let echo = check(&mapping(spec), None, &config).unwrap();
            let expected = own.unwrap_or(gateway);
            assert_eq!((echo.masquerade, echo.egress), (expected, expected), "{gateway} {own:?}");
        }
    }
}

/// T5: by port, by range, by number and by name of the Service port.
#[test]
fn ports_are_read_in_all_their_forms() {
    let entries = vec![
        with_protocol("UDP", to_number(5060, range(5060, 5080))),
        with_protocol("udp", to_name("dns", port(53))),
        with_protocol("Sctp", port(53)),
        with_protocol("", port(53)),
        to_number(1, range(1024, 65_535)),
        with_protocol("sctp", to_number(65_535, port(1))),
    ];
    let echo = admitted(MappingSpec { ports: entries, ..valid() });
    let read: Vec<_> = echo
        .ports
        .iter()
        .map(|p| format!("{}/{} {}", p.protocol, p.ports, p.service_port))
        .collect();
    assert_eq!(
        read,
        [
            "udp/5060-5080 5060",
            "udp/53 dns",
            "sctp/53 53",
            "tcp/53 53",
            "tcp/1024-65535 1",
            "sctp/1 65535"
        ]
    );
}

#[test]
fn an_address_that_cannot_be_external_is_rejected() {
    let kinds = [
        ("127.0.0.1", "is a loopback address; write an external address of a gateway"),
        ("::1", "is a loopback address; write an external address of a gateway"),
        ("0.0.0.0", "is the unspecified address; write an external address of a gateway"),
        ("::", "is the unspecified address; write an external address of a gateway"),
        ("224.0.0.1", "is a multicast address; write an external address of a gateway"),
        ("ff02::1", "is a multicast address; write an external address of a gateway"),
        ("255.255.255.255", "is the broadcast address; write an external address of a gateway"),
        ("169.254.1.1", "is a link-local address; write an external address of a gateway"),
        ("fe80::1", "is a link-local address; write an external address of a gateway"),
        ("::ffff:203.0.113.10", "is an IPv4-mapped IPv6 address; write it as 203.0.113.10"),
    ];
    for (address, message) in kinds {
        let spec = MappingSpec { addresses: vec![address.into()], ..valid() };
        assert_eq!(sentences(spec), [format!("spec.addresses[0]: {address:?} {message}.")]);
    }
}

#[test]
fn what_is_no_address_is_rejected() {
    for text in
        ["", "echo.example", "203.0.113", "203.0.113.10/32", " 203.0.113.10", "fe80::1%eth0"]
    {
        let spec = MappingSpec { addresses: vec![text.into()], ..valid() };
        assert_eq!(
            sentences(spec),
            [format!(
                "spec.addresses[0]: {text:?} is no IP address; write one like 203.0.113.10 or \
                 2001:db8::10, without prefix length, port, zone or blanks."
            )]
        );
    }
}

#[test]
fn an_address_given_twice_is_rejected_in_any_spelling() {
    let addresses = vec!["2001:db8::10".into(), "10.0.0.1".into(), "2001:DB8:0::10".into()];
    assert_eq!(
        sentences(MappingSpec { addresses, ..valid() }),
        ["spec.addresses[2]: \"2001:DB8:0::10\" is the address of spec.addresses[0] again; \
             remove one of them."]
    );
}

#[test]
fn missing_parts_are_named() {
    assert_eq!(
        sentences(MappingSpec::default()),
        [
            "spec.addresses: is empty; list at least one external address of a gateway.",
            "spec.serviceName: is missing; name a Service of the Mapping's namespace.",
            "spec.ports: is empty; list at least one port.",
        ]
    );
}

#[test]
fn a_service_name_is_a_dns_label() {
    for name in ["e", "echo-2", "2echo", &"a".repeat(62), &"a".repeat(63)] {
        admitted(MappingSpec { service_name: name.into(), ..valid() });
    }
    for name in ["Echo", "default/echo", "echo.default", "-echo", "echo-", "é", &"a".repeat(64)] {
        assert_eq!(
            sentences(MappingSpec { service_name: name.into(), ..valid() }),
            [format!(
                "spec.serviceName: {name:?} is no name of a Service; write at most 63 lower-case \
                 letters, digits and inner hyphens, without a namespace."
            )]
        );
    }
}

#[test]
fn an_external_name_service_is_rejected() {
    let mut service = Service {
        key: ObjectKey::new("default", "echo"),
        external_name: true,
        cluster_ips: Vec::new(),
        ports: Vec::new(),
        publish_not_ready: false,
        affinity_seconds: None,
    };
    let config = GatewayConfig::default();
    let problems = check(&mapping(valid()), Some(&service), &config).unwrap_err();
    assert_eq!(
        Rejection::Invalid(problems).to_string(),
        "spec.serviceName: \"echo\" is a Service of type ExternalName, which has no endpoints; \
         name a Service that selects pods."
    );
    service.external_name = false;
    check(&mapping(valid()), Some(&service), &config).expect("a normal Service is accepted");
}

#[test]
fn service_is_the_only_mode() {
    for mode in [None, Some("service".into()), Some(String::new())] {
        admitted(MappingSpec { mode, ..valid() });
    }
    assert_eq!(
        sentences(MappingSpec { mode: Some("Pod".into()), ..valid() }),
        ["spec.mode: \"Pod\" is no mode; write \"service\" or leave the field out."]
    );
}

/// The sample of the Go version has a port to be allocated by itself, which never came to be.
#[test]
fn a_port_without_number_is_rejected() {
    let ports = vec![port(80), MappingPort::default()];
    assert_eq!(
        sentences(MappingSpec { ports, ..valid() }),
        ["spec.ports[1].port: is missing; write the external port, since none is allocated by \
             itself."]
    );
}

#[test]
fn a_wrong_port_is_rejected_with_its_field() {
    let no_port = "is no port; write a number from 1 to 65535.";
    let no_name = "is no name of a Service port; write a number, or at most 63 lower-case \
                   letters, digits and inner hyphens.";
    let cases = [
        (port(0), format!("port: \"0\" {no_port}")),
        (port(-1), format!("port: \"-1\" {no_port}")),
        (port(65_536), format!("port: \"65536\" {no_port}")),
        (port(i64::MAX), format!("port: \"9223372036854775807\" {no_port}")),
        (range(80, 65_536), format!("endPort: \"65536\" {no_port}")),
        (range(80, 0), format!("endPort: \"0\" {no_port}")),
        (range(81, 80), "endPort: \"80\" lies before port 81; write the lower one as port.".into()),
        (to_number(0, port(80)), format!("servicePort: \"0\" {no_port}")),
        (to_number(70_000, port(80)), format!("servicePort: \"70000\" {no_port}")),
        (
            to_number(65_530, range(80, 89)),
            "servicePort: \"65530\" starts a range of 10 ports that ends beyond 65535; write at \
             most 65526 or shorten the range."
                .into(),
        ),
        (to_name("", port(80)), format!("servicePort: \"\" {no_name}")),
        (to_name("Dns_1", port(80)), format!("servicePort: \"Dns_1\" {no_name}")),
        (
            to_name("8080", port(80)),
            "servicePort: \"8080\" is a number in quotes; write it without them.".into(),
        ),
        (
            with_protocol("icmp", port(80)),
            "protocol: \"icmp\" is no protocol that can be exposed; write tcp, udp or sctp.".into(),
        ),
    ];
    for (entry, message) in cases {
        let spec = MappingSpec { ports: vec![port(443), entry], ..valid() };
        assert_eq!(sentences(spec), [format!("spec.ports[1].{message}")]);
    }
    admitted(MappingSpec { ports: vec![to_number(65_526, range(80, 89))], ..valid() });
}

#[test]
fn a_port_used_twice_is_rejected_and_ranges_count() {
    let ports = vec![port(8080), range(5060, 5080), with_protocol("udp", port(8080)), port(5080)];
    assert_eq!(
        sentences(MappingSpec { ports, ..valid() }),
        ["spec.ports[3]: \"tcp/5080\" shares a port with spec.ports[1] (tcp/5060-5080); list \
             each port once."]
    );
    let ports = vec![range(10, 20), range(15, 30), port(25), port(18)];
    let found = sentences(MappingSpec { ports, ..valid() });
    assert_eq!(
        found.iter().map(|s| &s[..13]).collect::<Vec<_>>(),
        ["spec.ports[1]", "spec.ports[2]", "spec.ports[3]"]
    );
    admitted(MappingSpec { ports: vec![range(10, 20), range(21, 30), port(9)], ..valid() });
}

/// A wrong Service port must not hide that the external port is used twice.
#[test]
fn a_port_used_twice_is_found_beside_other_problems() {
    let ports = vec![to_number(0, port(80)), port(80)];
    assert_eq!(sentences(MappingSpec { ports, ..valid() }).len(), 2);
}

#[test]
fn the_number_of_ports_is_limited() {
    let config = GatewayConfig { max_ports: 2, ..GatewayConfig::default() };
    let spec = |n| MappingSpec { ports: (1..=n).map(port).collect(), ..valid() };
    check(&mapping(spec(2)), None, &config).expect("as many as the limit are fine");
    let problems = check(&mapping(spec(3)), None, &config).unwrap_err();
    assert_eq!(
        Rejection::Invalid(problems).to_string(),
        "spec.ports: \"3 entries\" are more than the limit of 2; join neighbouring ports into a \
         range with endPort or split the Mapping."
    );
    admitted(spec(50));
    assert_eq!(sentences(spec(51)).len(), 1);
}

#[test]
fn all_problems_are_reported_at_once() {
    let spec = MappingSpec {
        addresses: vec!["nowhere".into(), "127.0.0.1".into()],
        allowed_sources: vec!["10.0.0.0/33".into()],
        service_name: "Echo".into(),
        mode: Some("pod".into()),
        ports: vec![with_protocol("icmp", to_number(0, range(0, 70_000)))],
        ..Default::default()
    };
    let fields: Vec<_> = judge(spec).unwrap_err().into_iter().map(|p| p.field).collect();
    assert_eq!(
        fields,
        [
            "spec.addresses[0]",
            "spec.addresses[1]",
            "spec.allowedSources[0]",
            "spec.serviceName",
            "spec.mode",
            "spec.ports[0].port",
            "spec.ports[0].endPort",
            "spec.ports[0].protocol",
            "spec.ports[0].servicePort",
        ]
    );
}

#[test]
fn a_rejection_stays_readable_however_much_is_wrong() {
    let addresses = vec!["\n".repeat(100_000); 1000];
    let problems = judge(MappingSpec { addresses, ..valid() }).unwrap_err();
    assert_eq!(problems.len(), 1000);
    let text = Rejection::Invalid(problems).to_string();
    assert!(text.len() < 16_384 && text.ends_with(". There are more."), "{} bytes", text.len());
    assert!(!text.contains('\n'));
}

#[test]
fn every_mapping_gets_one_verdict() {
    let named = |name: &str, spec| {
        let key = ObjectKey::new("default", name);
        (key.clone(), Mapping { key, ..mapping(spec) }.shared())
    };
    let cluster = ClusterState {
        mappings: BTreeMap::from([
            named("a", valid()),
            named("b", valid()),
            named("c", MappingSpec::default()),
        ]),
        ..Default::default()
    };
    let admission = admit(&cluster, &GatewayConfig::default());
    assert_eq!(admission.accepted.keys().map(|k| &*k.name).collect::<Vec<_>>(), ["a"]);
    let verdicts: Vec<_> = admission.rejected.iter().map(|(k, r)| (&*k.name, r)).collect();
    assert!(matches!(verdicts[..], [("b", Rejection::Conflict(_)), ("c", Rejection::Invalid(_))]));
}

fn arbitrary_entry() -> impl Strategy<Value = MappingPort> {
    (1i64..40, 0i64..6, prop_oneof![Just("tcp"), Just("udp")])
        .prop_map(|(first, more, protocol)| with_protocol(protocol, range(first, first + more)))
}

proptest! {
    /// Accepted exactly when no two entries of one protocol share a port; otherwise the later
    /// entry of such a pair is named.
    #[test]
    fn ports_used_twice_are_found_like_by_comparing_all_pairs(
        ports in prop::collection::vec(arbitrary_entry(), 1..12)
    ) {
        let share = |a: &MappingPort, b: &MappingPort| {
            a.protocol == b.protocol && a.port <= b.end_port && b.port <= a.end_port
        };
        let later: Vec<bool> =
            (0..ports.len()).map(|i| ports[..i].iter().any(|p| share(p, &ports[i]))).collect();
        match judge(MappingSpec { ports, ..valid() }) {
            Ok(_) => prop_assert!(!later.contains(&true)),
            Err(problems) => for problem in problems {
                let digits = problem.field.trim_matches(|c: char| !c.is_ascii_digit());
                prop_assert!(later[digits.parse::<usize>().unwrap()], "{problem}");
            },
        }
    }
}
