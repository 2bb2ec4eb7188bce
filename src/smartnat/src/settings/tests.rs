use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flags(pairs: &[(&'static str, &str)]) -> Layer {
    let mut layer = Layer::default();
    for (key, value) in pairs {
        layer.flag(key, Some(&(*value).to_owned()));
    }
    layer
}

fn from_variables(pairs: &[(&str, &str)]) -> Result<Settings, Problems> {
    resolve(Layer::default(), None, variables(pairs), "gw1")
}

fn from_text(text: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("smartnat.yaml");
    std::fs::write(&path, text).expect("written");
    resolve(Layer::default(), Some(&path), [], "gw1")
        .map_err(|problems| problems.to_string().replace(&path.display().to_string(), "FILE"))
}

#[test]
fn without_anything_given_the_defaults_hold() {
    let settings = from_variables(&[]).expect("defaults are valid");
    assert_eq!(settings.gateway.instance, "gw1");
    assert_eq!(
        settings.gateway,
        GatewayConfig {
            instance: "gw1".into(),
            backend: Backend::Nftables,
            ..GatewayConfig::default()
        }
    );
    assert!(settings.automatic_backend);
    assert_eq!(settings.state_dir, Path::new(DEFAULT_STATE_DIR));
    assert_eq!(settings.lock_wait, DEFAULT_LOCK_WAIT);
    assert_eq!(settings.log_level, tracing::Level::INFO);
    assert_eq!(settings.monitor.address, IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(settings.monitor.port, 8080);
}

#[test]
fn the_monitor_listens_on_one_address_or_on_all() {
    for (given, address) in
        [("", "::"), ("::", "::"), ("0.0.0.0", "0.0.0.0"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1")]
    {
        let settings = from_variables(&[("SMARTNAT_MONITOR_ADDRESS", given)]).expect("valid");
        assert_eq!(settings.monitor.address.to_string(), address, "{given:?}");
    }
    for (variable, wrong) in [
        ("SMARTNAT_MONITOR_ADDRESS", "localhost"),
        ("SNCTRLR_MONITOR_IP", "224.0.0.1"),
        ("SMARTNAT_MONITOR_PORT", "65536"),
    ] {
        let text = from_variables(&[(variable, wrong)]).expect_err("wrong").to_string();
        assert!(text.contains(&format!("{variable}: {wrong:?} is not valid; allowed: ")), "{text}");
    }
    let settings = from_variables(&[("SMARTNAT_MONITOR_PORT", "")]).expect("as good as none");
    assert_eq!(settings.monitor.port, 8080);
}

#[test]
fn each_layer_goes_before_those_below_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("smartnat.yaml");
    std::fs::write(&path, "maxPorts: 1\nmasquerade: false\negress: true\nrulePriority: 100\n")
        .expect("written");
    let environment = variables(&[
        ("SMARTNAT_MAX_PORTS", "3"),
        ("SNCTRLR_MAX_PORTS_PER_MAPPING", "2"),
        ("SNCTRLR_SETUP_SNAT", "false"),
        ("SMARTNAT_MASQUERADE", "true"),
        ("SMARTNAT_CONFIG", path.to_str().expect("a UTF-8 path")),
    ]);
    let settings =
        resolve(flags(&[("maxPorts", "4")]), None, environment, "gw1").expect("all is valid");
    assert_eq!(settings.gateway.max_ports, 4, "a flag goes first");
    assert!(settings.gateway.masquerade, "our variable goes before the file");
    assert!(!settings.gateway.egress, "the Go version's variable goes before the file");
    assert_eq!(settings.gateway.rule_priority, 100, "the file goes before the default");
    assert_eq!(settings.origin("maxPorts"), Some(&Origin::Flag("max-ports")));
}

#[test]
fn variables_of_the_go_version_keep_their_meaning() {
    let settings = from_variables(&[
        ("SNCTRLR_INTERFACES_PATTERN", "eth[1-9]"),
        ("SNCTRLR_DEFAULT_GW_INTERFACE", "eth0"),
        ("SNCTRLR_GW_ADDRESS_OFFSET", "-2"),
        ("SNCTRLR_SETUP_MASQUERADE", "F"),
        ("SNCTRLR_SETUP_SNAT", "TRUE"),
        ("SNCTRLR_AUTOREFRESH_PERIOD_SEC", "60"),
        ("SNCTRLR_IPTABLES_TIMEOUT_SEC", "7"),
        ("SNCTRLR_MAX_FINALIZE_WAIT_MINUTES", "60"),
        ("SNCTRLR_MAX_PORTS_PER_MAPPING", "9"),
        ("SNCTRLR_MONITOR_PORT", "9090"),
        ("SNCTRLR_MONITOR_IP", ""),
        ("SNCTRLR_DEBUG_ENABLED", "true"),
    ])
    .expect("all are understood");
    let gateway = &settings.gateway;
    assert_eq!(gateway.uplink_pattern, "eth[1-9]");
    assert_eq!(gateway.default_interface.as_deref(), Some("eth0"));
    assert_eq!(gateway.gateway_offset, -2);
    assert_eq!((gateway.masquerade, gateway.egress), (false, true));
    assert_eq!(gateway.max_ports, 9);
    assert_eq!(settings.lock_wait, Duration::from_secs(7));
    assert_eq!(settings.log_level, tracing::Level::DEBUG);
    let level = |part: &str| {
        settings.notes.iter().find(|note| note.message.contains(part)).map(|note| note.level)
    };
    assert_eq!(level("AUTOREFRESH_PERIOD_SEC"), Some(NoteLevel::Debug));
    assert_eq!(
        settings.monitor,
        MonitorSettings { address: Ipv6Addr::UNSPECIFIED.into(), port: 9090 }
    );
    assert_eq!(level("MONITOR"), None, "both have their effect");
}

#[test]
fn all_problems_are_reported_at_once_with_setting_value_and_what_is_allowed() {
    let environment = variables(&[
        ("SNCTRLR_GW_ADDRESS_OFFSET", "first"),
        ("SMARTNAT_GUARD", "maybe"),
        ("SMARTNAT_GATEWAYS", "eth1=10.0.0.1,eth1=10.0.0.2,eth2"),
    ]);
    let wrong = flags(&[("backend", "ebpf"), ("tableBase", "255"), ("uplinkPattern", "eth[")]);
    let text = resolve(wrong, None, environment, "gw1").expect_err("much is wrong").to_string();
    for line in [
        "SNCTRLR_GW_ADDRESS_OFFSET: \"first\" is not valid; allowed: a whole number other than 0",
        "SMARTNAT_GUARD: \"maybe\" is not valid; allowed: true or false",
        "SMARTNAT_GATEWAYS: \"eth1=10.0.0.2\" is not valid; allowed: INTERFACE=ADDRESS",
        "SMARTNAT_GATEWAYS: \"eth2\" is not valid",
        "--backend: \"ebpf\" is not valid; allowed: auto, nftables, iptables or simulated",
        "--table-base: \"255\" is not valid; allowed: a whole number from 256",
        "--uplink-pattern: \"eth[\" is not valid",
    ] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
    assert!(text.starts_with("wrong configuration, 7 problems:"), "{text}");
}

#[test]
fn every_setting_can_be_given_in_the_file() {
    let settings = from_text(
        "instance: a\nuplinkPattern: eth.\nuplinks: [wan0]\ndefaultInterface: eth0\n\
         clusterInterfaces: [eth0, cni0]\ngateways: {eth1: [10.0.0.1, 'fd00::1'], \
         eth2: {ipv4: 10.1.0.1}, eth3: 10.2.0.1}\ngatewayOffset: -1\nmasquerade: no\n\
         egress: true\nguard: false\nguardDefaultInterface: true\nmaxPorts: 7\n\
         markMask: 0x1f00\ntableBase: 300\nrulePriority: 5\nbackend: simulated\n\
         iptablesFlavour: legacy\nmanifests: /m\nstateDir: /s\nsysctlDir: /p\nlockWaitSeconds: 3\n\
         monitorAddress: ''\nmonitorPort: 0\nkubeconfig: /k\nnamespace: n-1\n\
         leaseSeconds: 30\nmaxFinalizeWaitMinutes: 0\ndataDir: /d\n\
         logFormat: json\nlogLevel: trace\n",
    )
    .expect("all is valid");
    let gateway = &settings.gateway;
    assert_eq!(gateway.uplink_names, ["wan0"]);
    assert_eq!(gateway.cluster_interfaces, ["eth0", "cni0"]);
    let address = |n| Some(IpAddr::V4(Ipv4Addr::new(10, n, 0, 1)));
    assert_eq!(gateway.gateways["eth1"].ipv4, address(0));
    assert_eq!(gateway.gateways["eth1"].ipv6, "fd00::1".parse().ok());
    assert_eq!(
        (gateway.gateways["eth2"].ipv4, gateway.gateways["eth3"].ipv4),
        (address(1), address(2))
    );
    assert_eq!((gateway.mark_mask, gateway.backend), (0x1f00, Backend::Simulated));
    assert_eq!(settings.flavour, IptablesFlavour::Legacy);
    assert_eq!(settings.sysctl_dir, Path::new("/p"));
    assert_eq!(settings.manifests.as_deref(), Some(Path::new("/m")));
    let cluster = &settings.cluster;
    assert_eq!((cluster.namespace.as_str(), cluster.lease.as_secs()), ("n-1", 30));
    assert!(cluster.max_finalize_wait.is_zero());
    assert_eq!(settings.data_dir, Path::new("/d"));
    assert_eq!((settings.log_format, settings.log_level), (LogFormat::Json, tracing::Level::TRACE));
    for setting in SETTINGS {
        assert!(settings.origin(setting.key).is_some(), "{} is not tested", setting.key);
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_likely_name() {
    let text = from_text("uplinkPatern: eth1\nuplink-names: []\nnonsense: 1\n").expect_err("wrong");
    assert!(
        text.contains("key \"uplinkPatern\" is unknown; did you mean \"uplinkPattern\"?"),
        "{text}"
    );
    assert!(
        text.contains("key \"nonsense\" is unknown; known are instance, uplinkPattern"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_mapping_of_settings_is_named() {
    for (text, part) in [
        ("- a\n- b\n", "must hold keys and values"),
        ("a: [", "is no YAML"),
        ("guard: [true]", "guard in FILE has a value of the wrong shape; allowed: true or false"),
        ("guard: true\nguard: false\n", "is no YAML"),
        ("maxPorts: many\n", "maxPorts in FILE: \"many\" is not valid"),
    ] {
        let message = from_text(text).expect_err("it is wrong");
        assert!(message.contains(part), "{text:?}: {message}");
    }
    assert!(from_text("").is_ok(), "an empty file changes nothing");
    let missing = resolve(Layer::default(), Some(Path::new("/no/such.yaml")), [], "gw1");
    let message = missing.expect_err("there is none").to_string();
    assert!(message.contains("/no/such.yaml: can't be read"), "{message}");
}

#[test]
fn a_strange_variable_is_remarked_only_when_it_is_close_to_a_known_one() {
    let settings = from_variables(&[
        ("SMARTNAT_UPLINK_PATERN", "x"),
        ("SMARTNAT_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("SNCTRLR_INTERFACE_PATTERN", "x"),
    ])
    .expect("they are no error");
    let messages: Vec<&str> = settings.notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "variable SMARTNAT_UPLINK_PATERN is unknown and ignored; did you mean \
             SMARTNAT_UPLINK_PATTERN?",
            "variable SNCTRLR_INTERFACE_PATTERN is unknown and ignored; did you mean \
             SNCTRLR_INTERFACES_PATTERN?"
        ]
    );
}

#[test]
fn a_start_without_uplinks_or_manifests_is_refused_with_the_mend() {
    let settings = from_variables(&[]).expect("valid in itself");
    let text = settings.require_uplinks().expect_err("none").to_string();
    assert!(text.contains("--uplink-pattern REGEX"), "{text}");
    let text = settings.require_manifests().expect_err("none").to_string();
    assert!(text.contains("--manifests DIR"), "{text}");
    let settings = from_variables(&[("SMARTNAT_UPLINKS", "eth1, eth2")]).expect("valid");
    assert!(settings.require_uplinks().is_ok());
    assert_eq!(settings.gateway.uplink_names, ["eth1", "eth2"]);
}

#[test]
fn names_of_settings_are_distinct_and_derived() {
    assert_eq!(
        Setting::of("guardDefaultInterface").map(Setting::variable).as_deref(),
        Some("SMARTNAT_GUARD_DEFAULT_INTERFACE")
    );
    let mut names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len());
}

#[test]
fn the_backend_is_left_open_where_that_is_asked_for() {
    for (given, backend, open) in [
        (None, Backend::Nftables, true),
        (Some("auto"), Backend::Nftables, true),
        (Some("nftables"), Backend::Nftables, false),
        (Some("IPTABLES"), Backend::Iptables, false),
        (Some("simulated"), Backend::Simulated, false),
    ] {
        let layer = given.map_or_else(Layer::default, |word| flags(&[("backend", word)]));
        let settings = resolve(layer, None, [], "gw1").expect("valid");
        assert_eq!((settings.gateway.backend, settings.automatic_backend), (backend, open));
    }
}
