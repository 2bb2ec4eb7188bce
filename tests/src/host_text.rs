//! What a host holds, as its own programs print it.

use smartnat::lab::Lab;
use smartnat_core::model::IptablesFlavour;
use smartnat_core::nft_text::render_table;
use smartnat_core::objects::nft::NftTable;

/// The programs of one flavour.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// `iptables`.
    pub v4: &'static str,
    /// `ip6tables`.
    pub v6: &'static str,
    /// `iptables-save`.
    pub save4: &'static str,
    /// `ip6tables-save`.
    pub save6: &'static str,
}

impl Programs {
    /// Those of a flavour.
    pub fn of(flavour: IptablesFlavour) -> Self {
        if flavour == IptablesFlavour::Legacy {
            Self {
                v4: "iptables-legacy",
                v6: "ip6tables-legacy",
                save4: "iptables-legacy-save",
                save6: "ip6tables-legacy-save",
            }
        } else {
            Self {
                v4: "iptables-nft",
                v6: "ip6tables-nft",
                save4: "iptables-nft-save",
                save6: "ip6tables-nft-save",
            }
        }
    }
}

/// Rules, sets, policy rules, routes and a sysctl of somebody else.
pub fn foreign_objects(lab: &Lab, programs: &Programs) {
    let run = |words: &[&str]| {
        lab.command("gateway", words).expect("a foreign object");
    };
    for iptables in [programs.v4, programs.v6] {
        let net = if iptables == programs.v4 { "192.0.2.128/25" } else { "2001:db8:f::/64" };
        run(&[iptables, "-N", "FOREIGN"]);
        run(&[iptables, "-A", "FOREIGN", "-s", net, "-j", "RETURN"]);
        run(&[iptables, "-A", "FORWARD", "-j", "FOREIGN"]);
        run(&[iptables, "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"]);
        run(&[iptables, "-t", "nat", "-A", "POSTROUTING", "-s", net, "-j", "MASQUERADE"]);
        run(&[
            iptables,
            "-t",
            "mangle",
            "-A",
            "PREROUTING",
            "-s",
            net,
            "-j",
            "MARK",
            "--set-xmark",
            "0x4000/0x4000",
        ]);
        run(&[iptables, "-t", "raw", "-A", "PREROUTING", "-s", net, "-j", "ACCEPT"]);
    }
    run(&["ipset", "create", "foreign", "hash:ip"]);
    run(&["ipset", "add", "foreign", "192.0.2.200"]);
    run(&["ip", "rule", "add", "pref", "20002", "fwmark", "0x4000/0x4000", "lookup", "4242"]);
    run(&["ip", "-6", "rule", "add", "pref", "5", "from", "2001:db8:f::/64", "lookup", "7001"]);
    run(&["ip", "route", "add", "192.0.2.128/25", "dev", "eth0", "table", "7001"]);
    run(&["ip", "route", "add", "192.0.2.128/25", "dev", "eth0", "table", "4242"]);
    run(&["sysctl", "-qw", "net.ipv4.conf.ext1.rp_filter=1"]);
}

/// Everything that a clean-up must restore on the host `gateway`, without counters and comments of
/// time.
pub fn host_text(lab: &Lab, programs: &Programs) -> String {
    host_text_of(lab, "gateway", programs)
}

/// The same of another host.
pub fn host_text_of(lab: &Lab, host: &str, programs: &Programs) -> String {
    let commands: [&[&str]; 9] = [
        &[programs.save4],
        &[programs.save6],
        &["ipset", "save"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["nft", "list", "tables"],
        &["sysctl", "-a", "-r", SYSCTLS],
    ];
    let mut text = String::new();
    for command in commands {
        text.extend(["$ ", &command.join(" "), "\n"]);
        let output = lab.command(host, command).expect("a program that lists");
        text.extend(output.lines().filter(|l| !l.starts_with('#')).map(|l| {
            // Policies are printed with counters.
            let end = l.find(" [").unwrap_or(l.len());
            format!("{}\n", &l[..end])
        }));
    }
    text
}

/// Our table of nftables, one line an object.
pub fn table_lines(table: Option<&NftTable>) -> Vec<String> {
    let lines = |table| render_table(table).lines().map(str::to_owned).collect();
    table.map(lines).unwrap_or_default()
}

const SYSCTLS: &str = "^net\\.(ipv4|ipv6)\\.(ip_forward|fwmark_reflect|tcp_fwmark_accept|conf\\..*\\.(forwarding|rp_filter|src_valid_mark|arp_ignore|arp_announce|accept_ra))$";
