//! How often rules of ours were met.

use smartnat_core::model::Family;
use smartnat_core::objects::{XtTable, XtTableId};
use smartnat_core::ops::OpError;

use super::diagnose;
use super::executor::{Xtables, legacy_table_exists};
use super::programs::Flavour;

/// What one rule of ours has counted since it was last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCounter {
    /// Family of its table.
    pub family: Family,
    /// Its chain.
    pub chain: String,
    /// The rule, as `iptables-save` prints it.
    pub rule: String,
    /// Packets that it matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl RuleCounter {
    /// The chain that the rule goes to, or its target.
    pub fn target(&self) -> Option<&str> {
        let mut words = self.rule.split_ascii_whitespace();
        words.find(|word| matches!(*word, "-j" | "-g"))?;
        words.next()
    }
}

impl Xtables {
    /// The counters of the rules of one table in chains whose names begin so, of both families.
    /// Starts one process a family; none for a legacy table that is not there, since reading would
    /// make it.
    pub fn rule_counters(
        &mut self,
        table: XtTable,
        chains: &str,
    ) -> Result<Vec<RuleCounter>, OpError> {
        let mut counters = Vec::new();
        for family in Family::ALL {
            if self.flavour() == Flavour::Legacy && !legacy_table_exists(family, table) {
                continue;
            }
            let id = XtTableId { family, table };
            let object = diagnose::table_name(id);
            let finished = self.save(family, &["-c", "-t", table.name()], &object)?;
            if !finished.status.success() {
                let stderr = String::from_utf8_lossy(&finished.stderr);
                return Err(diagnose::failed_save(object, finished.status.code(), &stderr));
            }
            let text = String::from_utf8_lossy(&finished.stdout);
            counters.extend(text.lines().filter_map(|line| parse(family, line, chains)));
        }
        Ok(counters)
    }
}

/// `[PACKETS:BYTES] -A CHAIN RULE`; `None` for what is no rule of such a chain.
fn parse(family: Family, line: &str, chains: &str) -> Option<RuleCounter> {
    let (counts, rest) = line.strip_prefix('[')?.split_once("] -A ")?;
    if !rest.starts_with(chains) {
        return None;
    }
    let (packets, bytes) = counts.split_once(':')?;
    let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(RuleCounter {
        family,
        chain: chain.to_owned(),
        rule: rule.to_owned(),
        packets: packets.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_counters_chain_rule_and_target() {
        let line = "[12:720] -A SMARTNAT-M-X -p tcp -m multiport --dports 80 -j SMARTNAT-P-Y";
        let counter = parse(Family::V4, line, "SMARTNAT-M-").expect("well-formed");
        assert_eq!((counter.packets, counter.bytes), (12, 720));
        assert_eq!(counter.chain, "SMARTNAT-M-X");
        assert_eq!(counter.target(), Some("SMARTNAT-P-Y"));
        assert_eq!(parse(Family::V4, line, "SMARTNAT-A-"), None, "of another chain");
        for wrong in ["[12] -A X", "[a:1] -A X -j Y", "[1:1] X"] {
            assert_eq!(parse(Family::V4, wrong, ""), None, "{wrong}");
        }
    }
}
