//! The traversal of a table: rules in order, chains that jump, targets.

use smartnat_core::objects::{
    BuiltinHook, SetElement, SetKind, SetName, XtMatch, XtRule, XtTable, XtTableId, XtTarget,
};

use super::path::{Flight, Halt, Walk};
use super::refusal::Refusal;
use super::trace::{DropCause, RulePlace, Step};
use super::track::Tracking;
use crate::kernel::{Policy, XtTableRules};

/// Where a traversal is.
#[derive(Clone, Copy)]
struct Place<'k> {
    table: &'k XtTableRules,
    hook: BuiltinHook,
    chain: &'k str,
}

impl Place<'_> {
    fn rule(&self, index: usize) -> RulePlace {
        RulePlace {
            table: self.table.id().table.into(),
            hook: self.hook,
            chain: self.chain.to_owned(),
            index: index + 1,
        }
    }
}

/// How a chain ended for a packet that goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The table has accepted it.
    Accepted,
    /// No rule decided.
    Returned,
}

impl<'k> Walk<'k> {
    /// One table at one hook.
    pub(super) fn table(
        &mut self,
        table: XtTable,
        hook: BuiltinHook,
        flight: &mut Flight<'k>,
    ) -> Result<(), Halt> {
        let xtables = self.xtables;
        let id = XtTableId { family: flight.packet.family(), table };
        let Some(rules) = xtables.table(id) else { return Ok(()) };
        let Some(chain) = rules.builtin(hook) else { return Ok(()) };
        let place = Place { table: rules, hook, chain: hook.name() };
        if self.chain(place, &chain.rules, flight)? == Ended::Accepted {
            return Ok(());
        }
        let accepted = chain.policy == Policy::Accept;
        if !accepted {
            self.note(|| Step::Policy { table: table.into(), hook, accepted });
            return Err(Halt::Dropped(DropCause::Policy(table.into(), hook)));
        }
        Ok(())
    }

    /// Chains are nested no deeper than the table was checked for: no loop is ever accepted.
    fn chain(
        &mut self,
        place: Place<'k>,
        rules: &'k [XtRule],
        flight: &mut Flight<'k>,
    ) -> Result<Ended, Halt> {
        for (index, rule) in rules.iter().enumerate() {
            if !self.holds(rule, flight)? {
                continue;
            }
            if self.detailed {
                self.note_rule(place.rule(index), rule);
            }
            match &rule.target {
                XtTarget::Jump(name) => {
                    let Some(inner) = place.table.chain(name) else {
                        return Err(unreadable(&place, index, "a jump to no chain").into());
                    };
                    let place = Place { chain: &name.0, ..place };
                    if self.chain(place, inner, flight)? == Ended::Accepted {
                        return Ok(Ended::Accepted);
                    }
                }
                XtTarget::Return => return Ok(Ended::Returned),
                XtTarget::Accept => return Ok(Ended::Accepted),
                XtTarget::Drop => return Err(Halt::Dropped(DropCause::Rule(place.rule(index)))),
                XtTarget::Reject(with) => {
                    self.reject(*with, flight)?;
                    return Err(Halt::Dropped(DropCause::Rejected(place.rule(index))));
                }
                XtTarget::Unknown(text) => return Err(unreadable(&place, index, text).into()),
                target => {
                    if self.alter(target, flight)? == Ended::Accepted {
                        return Ok(Ended::Accepted);
                    }
                }
            }
        }
        Ok(Ended::Returned)
    }

    fn note_rule(&mut self, place: RulePlace, rule: &XtRule) {
        let comment = rule.matches.iter().find_map(|m| match m {
            XtMatch::Comment(text) => Some(text.clone()),
            _ => None,
        });
        self.steps.push(Step::Rule { place, target: rule.target.clone(), comment });
    }

    /// Targets that change the packet, its connection or a set.
    fn alter(&mut self, target: &XtTarget, flight: &mut Flight<'k>) -> Result<Ended, Halt> {
        match target {
            XtTarget::DestinationNat { address, ports } => {
                self.translate_destination(flight, *address, *ports);
                return Ok(Ended::Accepted);
            }
            XtTarget::SourceNat { address } => {
                self.translate_source(flight, *address);
                return Ok(Ended::Accepted);
            }
            XtTarget::Masquerade => {
                self.masquerade(flight)?;
                return Ok(Ended::Accepted);
            }
            // mark_tg: (mark & ~mask) ^ value.
            XtTarget::SetMark { value, mask } => {
                flight.packet.mark = (flight.packet.mark & !mask) ^ value;
            }
            // connmark_tg: nothing without a connection.
            XtTarget::SetConnMark { value, mask } => {
                if let Tracking::Of { slot, .. } = flight.tracking {
                    let mark = &mut self.slots[slot].entry.flow.mark;
                    *mark = (*mark & !mask) ^ value;
                }
            }
            XtTarget::RestoreMark { mask } => {
                if let Tracking::Of { slot, .. } = flight.tracking {
                    let kept = self.slots[slot].entry.flow.mark & mask;
                    flight.packet.mark = (flight.packet.mark & !mask) ^ kept;
                }
            }
            XtTarget::AddSourceToSet { set } => self.add_source(set, flight)?,
            // xt_ct_target: "Previously seen (loopback)? Ignore."
            XtTarget::NoTrack => {
                if flight.tracking == Tracking::Unseen {
                    flight.tracking = Tracking::Untracked;
                }
            }
            XtTarget::Jump(_)
            | XtTarget::Accept
            | XtTarget::Drop
            | XtTarget::Return
            | XtTarget::Reject(_)
            | XtTarget::Unknown(_) => {}
        }
        Ok(Ended::Returned)
    }

    /// `xt_SET`. A full set takes nothing more, and the packet goes on.
    fn add_source(&mut self, name: &SetName, flight: &Flight<'k>) -> Result<(), Refusal> {
        match self.sets.get(name).map(|set| set.spec.kind) {
            Some(SetKind::HashIp) => {
                let _ = self.sets.add(name, SetElement::Ip(flight.packet.source), self.now);
                Ok(())
            }
            _ => Refusal::not_modelled(format!("adding to set {name} by a rule")),
        }
    }
}

fn unreadable(place: &Place<'_>, index: usize, text: &str) -> Refusal {
    Refusal::Rule {
        table: place.table.id(),
        chain: place.chain.to_owned(),
        index: index + 1,
        text: text.to_owned(),
    }
}
