//! A packet among the rules of others.

use std::net::IpAddr;

use super::rule::{Condition, ForeignRule, Target};
use super::{Foreign, ForeignRules};
use crate::model::{Family, Protocol};
use crate::objects::BuiltinHook;

/// Chains that a packet may be in at a time; the kernel refuses loops, a snapshot file may have one.
const MAX_DEPTH: usize = 32;

/// A packet at one place of its way.
#[derive(Clone, Debug)]
pub(in crate::explain) struct Passing {
    pub(in crate::explain) source: IpAddr,
    pub(in crate::explain) source_port: Option<u16>,
    pub(in crate::explain) destination: IpAddr,
    pub(in crate::explain) port: Option<u16>,
    pub(in crate::explain) protocol: Protocol,
    pub(in crate::explain) input: Option<String>,
    pub(in crate::explain) output: Option<String>,
    /// It answers the first packet of a connection.
    pub(in crate::explain) reply: bool,
    /// Its connection's destination was translated.
    pub(in crate::explain) translated: bool,
}

/// A place where rules of others may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::explain) struct Point {
    pub(in crate::explain) table: &'static str,
    pub(in crate::explain) hook: BuiltinHook,
    /// Our rules decide there: what others have after them, their policy included, does not count.
    pub(in crate::explain) ours_decide: bool,
    /// Who is accepted before them misses something of ours: a mark, a drop, an answer.
    pub(in crate::explain) ours_needed: bool,
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explain) enum Fate {
    Dropped,
    Translated,
    Perhaps,
    /// It is accepted before our rules see it.
    Bypasses,
}

/// A rule or policy that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::explain) struct Finding {
    pub(in crate::explain) fate: Fate,
    /// The place and the rule, for people.
    pub(in crate::explain) what: String,
    /// A command that takes the obstacle away, where one does.
    pub(in crate::explain) mend: String,
}

enum Decision {
    Open,
    Returned,
    Accepted,
    Ended,
}

impl Foreign {
    /// What a packet meets at one place, in order; after one that is certain nothing follows.
    pub(in crate::explain) fn at(&self, point: Point, packet: &Passing) -> Vec<Finding> {
        let family = Family::of(&packet.destination);
        let mut findings = Vec::new();
        let tables = self.tables.iter().filter(|t| t.family == family && t.table == point.table);
        for table in tables {
            let mut walk = Walk {
                table,
                point,
                packet,
                maybe_accepted: false,
                passed_by: None,
                uncertain_jumps: 0,
                findings,
            };
            walk.builtin();
            findings = walk.findings;
            if findings.iter().any(|f| matches!(f.fate, Fate::Dropped | Fate::Translated)) {
                return findings;
            }
        }
        if point.table == "filter" {
            let chains = self.dropping_chains.iter();
            let met = chains.filter(|c| c.hook == point.hook && c.families.contains(&family));
            findings.extend(met.map(|chain| Finding {
                fate: Fate::Perhaps,
                what: format!("the policy of {} drops what its rules do not accept", chain.name),
                mend: format!("give {} a rule such as `ct status dnat accept`", chain.name),
            }));
        }
        findings
    }
}

struct Walk<'a> {
    table: &'a ForeignRules,
    point: Point,
    packet: &'a Passing,
    /// A rule that could not be evaluated may have accepted it.
    maybe_accepted: bool,
    /// The last rule that accepted it for certain, or sent it back, with its chain.
    passed_by: Option<(String, String)>,
    /// Jumps under way that may not have been taken.
    uncertain_jumps: usize,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn builtin(&mut self) {
        let table = self.table;
        let hook = self.point.hook.name();
        let Some(chain) = table.builtins.get(hook) else { return };
        match self.rules(hook, &chain.before, 0) {
            Decision::Ended => return,
            Decision::Accepted => return self.bypassed(),
            Decision::Open if self.point.ours_decide && table.beside_ours => return,
            Decision::Open => {
                let after = self.rules(hook, &chain.after, 0);
                if matches!(after, Decision::Accepted | Decision::Ended) {
                    return;
                }
            }
            // Out of a built-in chain a packet returns to its policy.
            Decision::Returned => self.bypassed(),
        }
        if chain.drops {
            let what = format!("the policy DROP of {}", self.place(hook));
            let mend = format!(
                "{} -t {} -P {hook} ACCEPT, or accept it there",
                self.command(),
                table.table
            );
            self.found(Fate::Dropped, what, mend);
        }
    }

    fn bypassed(&mut self) {
        if !self.point.ours_needed || !self.table.beside_ours {
            return;
        }
        if let Some((chain, text)) = self.passed_by.clone() {
            self.rule_found(Fate::Bypasses, &chain, &text);
        }
    }

    fn rules(&mut self, chain: &str, rules: &[String], depth: usize) -> Decision {
        if depth > MAX_DEPTH {
            self.found(
                Fate::Perhaps,
                format!("chains nest too deep in {}", self.place(chain)),
                String::new(),
            );
            return Decision::Open;
        }
        for text in rules {
            let rule = ForeignRule::parse(text);
            let Some(certain) = self.matches(&rule) else { continue };
            let decision = self.target(chain, text, &rule.target, certain, depth);
            if certain && matches!(rule.target, Target::Accept | Target::Return) {
                self.passed_by = Some((chain.to_owned(), text.clone()));
            }
            if certain && !matches!(decision, Decision::Open) {
                return decision;
            }
        }
        Decision::Open
    }

    fn target(
        &mut self,
        chain: &str,
        text: &str,
        target: &Target,
        certain: bool,
        depth: usize,
    ) -> Decision {
        let fate = |fate| if certain { fate } else { Fate::Perhaps };
        match target {
            Target::Continue => Decision::Open,
            Target::Return => Decision::Returned,
            Target::Accept => {
                self.maybe_accepted |= !certain || self.uncertain_jumps > 0;
                Decision::Accepted
            }
            Target::Drop => self.rule_found(fate(Fate::Dropped), chain, text),
            Target::Translate => self.rule_found(fate(Fate::Translated), chain, text),
            Target::Unknown => {
                self.rule_found(Fate::Perhaps, chain, text);
                Decision::Open
            }
            Target::Jump(name) | Target::Goto(name) => {
                let Some(rules) = self.table.chains.get(name) else {
                    // An extension that is not known, or a chain of ours, which returns.
                    if !name.starts_with(crate::objects::CHAIN_PREFIX) {
                        self.rule_found(Fate::Perhaps, chain, text);
                    }
                    return Decision::Open;
                };
                let uncertain = usize::from(!certain);
                self.uncertain_jumps += uncertain;
                let decision = self.rules(name, rules, depth + 1);
                self.uncertain_jumps -= uncertain;
                match decision {
                    Decision::Returned if matches!(target, Target::Jump(_)) => Decision::Open,
                    Decision::Open if matches!(target, Target::Goto(_)) => Decision::Returned,
                    decision => decision,
                }
            }
        }
    }

    fn rule_found(&mut self, fate: Fate, chain: &str, text: &str) -> Decision {
        let what = format!("the rule `{text}` in {}", self.place(chain));
        let mend = format!("{} -t {} -D {chain} {text}", self.command(), self.table.table);
        self.found(fate, what, mend)
    }

    fn found(&mut self, fate: Fate, what: String, mend: String) -> Decision {
        let open = self.maybe_accepted || self.uncertain_jumps > 0;
        let fate = if open { Fate::Perhaps } else { fate };
        self.findings.push(Finding { fate, what, mend });
        Decision::Ended
    }

    fn place(&self, chain: &str) -> String {
        format!("{}/{chain} ({}, {})", self.table.table, self.table.program, self.table.family)
    }

    fn command(&self) -> String {
        let variant = self.table.program.trim_start_matches("iptables");
        let base = if self.table.family == Family::V4 { "iptables" } else { "ip6tables" };
        format!("{base}{variant}")
    }

    /// Whether a rule matches for certain (`true`) or perhaps (`false`); `None`: it does not.
    fn matches(&self, rule: &ForeignRule) -> Option<bool> {
        let mut certain = true;
        for (negated, condition) in &rule.conditions {
            match self.packet.satisfies(condition) {
                Some(holds) if holds == *negated => return None,
                Some(_) => {}
                None => certain = false,
            }
        }
        Some(certain)
    }
}

impl Passing {
    /// `None`: not known.
    fn satisfies(&self, condition: &Condition) -> Option<bool> {
        let in_ranges = |ranges: &[(u16, u16)], port: u16| {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
        };
        match condition {
            Condition::Source(net) => Some(net.contains(&self.source)),
            Condition::Destination(net) => Some(net.contains(&self.destination)),
            Condition::Input(name) => Some(is_interface(name, self.input.as_deref())),
            Condition::Output(name) => Some(is_interface(name, self.output.as_deref())),
            Condition::Protocol(name) => {
                let number = self.protocol.number().to_string();
                Some(name == self.protocol.name() || name == "all" || *name == number)
            }
            Condition::SourcePorts(ranges) => self.source_port.map(|port| in_ranges(ranges, port)),
            Condition::Ports(ranges) => self.port.map(|port| in_ranges(ranges, port)),
            Condition::States(states) => {
                let has = |name: &str| states.iter().any(|state| state == name);
                let by_state = has(if self.reply { "ESTABLISHED" } else { "NEW" });
                if by_state || (has("DNAT") && self.translated) {
                    return Some(true);
                }
                (!has("SNAT")).then_some(false)
            }
            Condition::Syn => Some(self.protocol == Protocol::Tcp && !self.reply),
            Condition::Reply(reply) => Some(self.reply == *reply),
            Condition::Unknown => None,
        }
    }
}

/// A trailing `+` is a prefix.
fn is_interface(wanted: &str, name: Option<&str>) -> bool {
    let name = name.unwrap_or_default();
    wanted.strip_suffix('+').map_or(wanted == name, |prefix| name.starts_with(prefix))
}
