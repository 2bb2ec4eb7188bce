//! The output of `iptables-save`: what is ours, typed, and what is foreign, as text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{parse_rule, words};
use crate::model::Family;
use crate::objects::{
    BuiltinHook, CHAIN_PREFIX, ChainName, XtRule, XtTable, XtTableState, XtTarget,
};

/// Output that is no `iptables-save` output.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// A line that does not belong there.
    #[error("line {line}: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The output ends within a table.
    #[error("the output ends within table {table}")]
    Truncated {
        /// The table.
        table: String,
    },
}

/// What of a table is foreign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignTable {
    /// Policies of the built-in chains.
    pub policies: BTreeMap<String, String>,
    /// Foreign rules of the built-in chains, in order.
    pub builtin_rules: BTreeMap<String, Vec<String>>,
    /// Foreign user-defined chains with their rules.
    pub chains: BTreeMap<String, Vec<String>>,
}

impl ForeignTable {
    /// Whether nobody else has put anything here: no rule, no chain, no policy but ACCEPT.
    pub fn is_untouched(&self) -> bool {
        self.chains.is_empty()
            && self.builtin_rules.values().all(Vec::is_empty)
            && self.policies.values().all(|policy| policy == "ACCEPT")
    }

    /// Whether others have a rule or a policy but ACCEPT in the built-in chain of `hook`.
    pub fn uses(&self, hook: BuiltinHook) -> bool {
        self.builtin_rules.get(hook.name()).is_some_and(|rules| !rules.is_empty())
            || self.policies.get(hook.name()).is_some_and(|policy| policy != "ACCEPT")
    }

    /// Foreign rules of `hook` that go to a chain whose name `is_theirs` recognises, as rules that
    /// can be deleted.
    pub fn jumps_to(&self, hook: BuiltinHook, is_theirs: impl Fn(&str) -> bool) -> Vec<XtRule> {
        self.builtin_rules.get(hook.name()).map_or_else(Vec::new, |rules| {
            let theirs = rules.iter().filter(|r| jump_of(r).is_some_and(|chain| is_theirs(&chain)));
            theirs.map(|rule| XtRule::new(XtTarget::Unknown(rule.clone()))).collect()
        })
    }
}

/// All tables of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedTables {
    /// What is ours; a table without anything of ours is absent.
    pub ours: BTreeMap<XtTable, XtTableState>,
    /// What is foreign, of every table that was printed.
    pub foreign: BTreeMap<String, ForeignTable>,
    /// How many foreign rules come before our first jump, by table and built-in chain; a chain
    /// without a jump of ours is absent.
    pub rules_ahead: BTreeMap<(String, String), usize>,
    /// Tables that the nft flavour leaves out since it cannot read them.
    pub unreadable: BTreeSet<String>,
}

/// Reads what `iptables-save` or `ip6tables-save` printed, of either flavour.
pub fn parse_save(family: Family, text: &str) -> Result<SavedTables, ParseError> {
    let mut saved = SavedTables::default();
    let mut open: Option<OpenTable<'_>> = None;
    for (index, line) in text.lines().enumerate() {
        let fail = |reason| Err(ParseError::Line { line: index + 1, reason });
        let line = line.trim();
        match (line.as_bytes().first(), &mut open) {
            (None, _) => {}
            (Some(b'#'), _) => saved.unreadable.extend(unreadable_table(line)),
            (Some(b'*'), None) => open = Some(OpenTable::new(line.trim_start_matches('*'))),
            (Some(b'*'), Some(_)) => return fail("a table within a table"),
            (Some(_), None) => return fail("outside of a table"),
            (Some(b':'), Some(table)) => {
                if table.declare(line).is_none() {
                    return fail("no chain declaration");
                }
            }
            (Some(_), Some(_)) if line == "COMMIT" => {
                if let Some(table) = open.take() {
                    table.close(family, &mut saved);
                }
            }
            (Some(_), Some(table)) => {
                if table.append(line).or_else(|| table.continue_rule(line)).is_none() {
                    return fail("neither chain, rule nor COMMIT");
                }
            }
        }
    }
    match open {
        Some(table) => Err(ParseError::Truncated { table: table.name.to_owned() }),
        None => Ok(saved),
    }
}

/// The table that a comment says to be incompatible with what the nft flavour can read.
fn unreadable_table(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("# Table `")?.split_once('\'')?;
    rest.starts_with(" is incompatible").then(|| name.to_owned())
}

/// A table whose COMMIT has not come yet.
struct OpenTable<'a> {
    name: &'a str,
    builtins: BTreeMap<&'a str, &'a str>,
    chains: BTreeSet<&'a str>,
    rules: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> OpenTable<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, builtins: BTreeMap::new(), chains: BTreeSet::new(), rules: Vec::new() }
    }

    /// `:CHAIN POLICY [PACKETS:BYTES]`.
    fn declare(&mut self, line: &'a str) -> Option<()> {
        let (rest, _counters) = line.strip_prefix(':')?.rsplit_once(' ')?;
        let (chain, policy) = rest.rsplit_once(' ')?;
        if policy == "-" {
            self.chains.insert(chain);
        } else {
            self.builtins.insert(chain, policy);
        }
        Some(())
    }

    /// `[COUNTERS] -A CHAIN RULE`.
    fn append(&mut self, line: &'a str) -> Option<()> {
        let line = match line.strip_prefix('[') {
            Some(rest) => rest.split_once("] ")?.1,
            None => line,
        };
        let rest = line.strip_prefix("-A ")?;
        let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        self.rules.push((chain, Cow::Borrowed(rule)));
        Some(())
    }

    /// The rest of a rule whose comment holds a line end: others' rules may, ours never do.
    fn continue_rule(&mut self, line: &str) -> Option<()> {
        let (_, rule) = self.rules.last_mut()?;
        let rule = rule.to_mut();
        rule.push('\n');
        rule.push_str(line);
        Some(())
    }

    fn close(self, family: Family, saved: &mut SavedTables) {
        let table = XtTable::ALL.into_iter().find(|t| t.name() == self.name);
        let mut ours = XtTableState::default();
        let foreign = saved.foreign.entry(self.name.to_owned()).or_default();
        let own = |name: &str| name.to_owned();
        foreign.policies.extend(self.builtins.iter().map(|(c, p)| (own(c), own(p))));
        for chain in &self.chains {
            if table.is_some() && chain.starts_with(CHAIN_PREFIX) {
                ours.chains.insert(ChainName(own(chain)), Vec::new());
            } else {
                foreign.chains.insert(own(chain), Vec::new());
            }
        }
        let is_chain = |name: &str| self.chains.contains(name);
        for (chain, text) in &self.rules {
            let hook = hook_of(table, chain);
            if let Some(rules) = ours.chains.get_mut(&ChainName(own(chain))) {
                rules.push(typed(family, text, is_chain));
            } else if let Some(hook) = hook.filter(|_| goes_to_ours(text)) {
                let ahead = foreign.builtin_rules.get(*chain).map_or(0, Vec::len);
                saved.rules_ahead.entry((own(self.name), own(chain))).or_insert(ahead);
                ours.jumps.entry(hook).or_default().push(typed(family, text, is_chain));
            } else if self.chains.contains(chain) {
                foreign.chains.entry(own(chain)).or_default().push(text.to_string());
            } else {
                foreign.builtin_rules.entry(own(chain)).or_default().push(text.to_string());
            }
        }
        if let Some(table) = table.filter(|_| !ours.is_empty()) {
            saved.ours.insert(table, ours);
        }
    }
}

fn hook_of(table: Option<XtTable>, chain: &str) -> Option<BuiltinHook> {
    table?.hooks().iter().copied().find(|hook| hook.name() == chain)
}

fn typed(family: Family, text: &str, is_chain: impl Fn(&str) -> bool) -> XtRule {
    parse_rule(family, text, is_chain)
        .unwrap_or_else(|| XtRule::new(XtTarget::Unknown(text.to_owned())))
}

/// Whether a rule's target is a chain of ours.
fn goes_to_ours(text: &str) -> bool {
    // Most foreign rules need no closer look.
    text.contains(CHAIN_PREFIX)
        && jump_of(text).is_some_and(|chain| chain.starts_with(CHAIN_PREFIX))
}

/// The target of a rule, by jump or goto. Targets come last among the options that have a value.
fn jump_of(text: &str) -> Option<String> {
    let words = words::split(text)?;
    let mut pairs = words.iter().zip(words.iter().skip(1));
    let (_, target) = pairs.rfind(|(option, _)| matches!(option.as_str(), "-j" | "-g"))?;
    Some(target.clone())
}
