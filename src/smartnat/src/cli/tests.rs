use clap::CommandFactory;

use super::*;
use crate::settings::SETTINGS;

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("smartnat").chain(arguments.iter().copied()))
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_setting_is_a_flag_of_run() {
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("there is run");
    for setting in SETTINGS {
        let known = run.get_arguments().chain(command.get_arguments());
        assert!(
            known.into_iter().any(|arg| arg.get_long() == Some(setting.flag)),
            "--{} is no flag",
            setting.flag
        );
    }
}

#[test]
fn every_setting_given_as_a_flag_arrives() {
    let arguments = [
        "run",
        "--manifests",
        "m",
        "--instance",
        "a",
        "--uplink-pattern",
        "eth.",
        "--uplink",
        "wan0",
        "--uplink",
        "wan1",
        "--default-interface",
        "eth0",
        "--cluster-interface",
        "cni0",
        "--gateway",
        "wan0=10.0.0.1",
        "--gateway",
        "wan0=fd00::1",
        "--gateway-offset",
        "-1",
        "--masquerade",
        "false",
        "--egress",
        "true",
        "--guard",
        "false",
        "--guard-default-interface",
        "true",
        "--max-ports",
        "5",
        "--backend",
        "simulated",
        "--iptables-flavour",
        "nft",
        "--lock-wait-seconds",
        "2",
        "--mark-mask",
        "0xff00",
        "--table-base",
        "500",
        "--rule-priority",
        "9",
        "--kubeconfig",
        "k",
        "--namespace",
        "n",
        "--lease-seconds",
        "5",
        "--max-finalize-wait-minutes",
        "0",
        "--data-dir",
        "d",
        "--state-dir",
        "s",
        "--monitor-address",
        "",
        "--monitor-port",
        "9090",
        "--sysctl-dir",
        "p",
        "--log-format",
        "json",
        "--log-level",
        "debug",
    ];
    let settings = parse(&arguments).expect("valid").settings([]).expect("valid");
    for setting in SETTINGS {
        assert!(settings.origin(setting.key).is_some(), "--{} got lost", setting.flag);
    }
    assert_eq!(settings.gateway.uplink_names, ["wan0", "wan1"]);
    assert_eq!(settings.gateway.gateway_offset, -1);
    assert!(settings.gateway.gateways["wan0"].ipv6.is_some());
}

#[test]
fn a_wrong_value_of_a_flag_is_a_problem_of_the_configuration() {
    let cli = parse(&["cleanup", "--backend", "ebpf"]).expect("parsed");
    let text = cli.settings([]).expect_err("not built").to_string();
    assert!(
        text.contains(
            "--backend: \"ebpf\" is not valid; allowed: auto, nftables, iptables or simulated"
        ),
        "{text}"
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [&["run", "--no-such"][..], &["validate"], &["completions", "tcsh"], &[]] {
        assert_eq!(parse(arguments).expect_err("wrong").exit_code(), 2, "{arguments:?}");
    }
}

#[test]
fn common_flags_go_before_and_after_the_command() {
    for arguments in [["-o", "json", "status"], ["status", "-o", "json"]] {
        assert_eq!(parse(&arguments).expect("valid").common.output, OutputFormat::Json);
    }
}
