//! What one would write by hand: a rule for each Mapping in one chain.

use std::fmt::Write as _;
use std::io::{Seek, SeekFrom, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use smartnat::lab::Lab;
use smartnat_core::model::IptablesFlavour;

use crate::cluster;
use crate::error::{BenchError, system};
use crate::network::GATEWAY;

/// The rules of so many Mappings as `iptables-restore` reads them: each to its first endpoint, behind the
/// gateway's address; the last one for UDP, too.
fn rules(size: u32) -> String {
    let mut text = String::from(
        "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n:MAPPINGS -\n-A PREROUTING -j MAPPINGS\n",
    );
    let mut rule = |number: u32, protocol: &str| {
        let (from, to) = (cluster::external(number), cluster::endpoints(number)[0]);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "-A MAPPINGS -d {}/32 -p {protocol} --dport {} -j DNAT --to-destination {to}",
            from.ip(),
            from.port()
        );
    };
    (0..size).for_each(|number| rule(number, "tcp"));
    rule(size - 1, "udp");
    text + "-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n"
}

/// Writes the rules of so many Mappings on the gateway's host.
pub(crate) fn program(
    lab: &Lab,
    flavour: IptablesFlavour,
    size: u32,
    limit_seconds: u64,
) -> Result<(), BenchError> {
    let mut file = tempfile::tempfile().map_err(system("a temporary file"))?;
    file.write_all(rules(size).as_bytes()).map_err(system("a temporary file"))?;
    file.seek(SeekFrom::Start(0)).map_err(system("a temporary file"))?;
    let program = match flavour {
        IptablesFlavour::Legacy => "iptables-legacy-restore",
        IptablesFlavour::Nft => "iptables-nft-restore",
        IptablesFlavour::Auto => "iptables-restore",
    };
    let mut command = Command::new(program);
    command.stdin(file).stdout(Stdio::null());
    let mut process = lab.spawn(GATEWAY, command)?;
    let ended = process.wait(Duration::from_secs(limit_seconds)).map_err(system("wait"))?;
    match ended {
        None => Err(BenchError::TooLong(limit_seconds)),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(BenchError::Traffic(format!("{program}: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_rule_for_each_mapping_and_one_for_datagrams() {
        let text = rules(3);
        let mappings: Vec<&str> = text.lines().filter(|l| l.starts_with("-A MAPPINGS")).collect();
        assert_eq!(mappings.len(), 4);
        assert_eq!(
            mappings[2],
            "-A MAPPINGS -d 198.51.100.1/32 -p tcp --dport 10002 -j DNAT --to-destination 10.0.0.5:8080"
        );
        assert_eq!(mappings[3], mappings[2].replace("tcp", "udp"));
    }
}
