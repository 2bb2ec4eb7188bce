//! What a host's own kernel counted.

use std::fs;
use std::io;

use crate::lab::{Lab, LabError};

/// Where the counters of the calling thread's namespace are.
const COUNTERS: &str = "/proc/thread-self/net/snmp";

/// TCP segments that the host has sent more than once, both families: with no packet lost, none.
pub fn retransmissions(lab: &Lab, host: &str) -> Result<u64, LabError> {
    let failed = |error| LabError::Socket { host: host.into(), what: COUNTERS.into(), error };
    let text = lab.run(host, || fs::read_to_string(COUNTERS))?.map_err(failed)?;
    parse(&text, "Tcp:", "RetransSegs")
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, "no RetransSegs")))
}

/// Counters come as a line of names and a line of values.
fn parse(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split(' ').next() == Some(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|word| word == name)?;
    values.split(' ').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "Ip: Forwarding\nIp: 2\nTcp: MaxConn RetransSegs InErrs\nTcp: -1 7 0\n";
        assert_eq!(parse(text, "Tcp:", "RetransSegs"), Some(7));
        assert_eq!(parse(text, "Tcp:", "NoSuch"), None);
        assert_eq!(parse(text, "Udp:", "RetransSegs"), None);
    }
}
