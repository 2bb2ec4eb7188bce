//! What others have in the way at each hook.

use super::foreign::{Fate, Finding, Passing, Point};
use super::outcome::{Cause, Progress, Stage};
use super::route::LOOPBACK;
use super::walk::Walk;
use crate::model::Backend;
use crate::objects::BuiltinHook;

/// The hooks that a packet passes between its arrival and its departure, in order, with whether
/// rules of ours accept it in table filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// In and out again, ours.
    Forwarded,
    /// In and out again, none of ours.
    ForwardedUnknown,
    /// In, to this host, ours.
    TakenIn,
    /// In, to be answered by our rules.
    Answered,
    /// In, to this host, none of ours.
    TakenInUnknown,
    /// From this host, ours.
    Sent,
    /// From this host, none of ours.
    SentUnknown,
}

impl Course {
    fn points(self) -> Vec<Point> {
        use BuiltinHook::{Forward, Input, Output, Postrouting};
        let at = |table, hook, ours_decide| Point {
            table,
            hook,
            ours_decide,
            ours_needed: table == "mangle" || self == Self::Answered,
        };
        match self {
            Self::Forwarded | Self::ForwardedUnknown => vec![
                at("mangle", Forward, false),
                at("filter", Forward, self == Self::Forwarded),
                at("security", Forward, false),
                at("mangle", Postrouting, false),
            ],
            Self::TakenIn | Self::TakenInUnknown | Self::Answered => vec![
                at("mangle", Input, false),
                at("filter", Input, self != Self::TakenInUnknown),
                at("security", Input, false),
            ],
            Self::Sent | Self::SentUnknown => vec![
                at("mangle", Output, false),
                at("filter", Output, self == Self::Sent),
                at("security", Output, false),
                at("mangle", Postrouting, false),
            ],
        }
    }
}

impl Walk<'_> {
    /// The first packet as it arrives.
    pub(super) fn first_packet(&self) -> Passing {
        let question = &self.question;
        Passing {
            source: question.source,
            source_port: question.source_port,
            destination: question.destination,
            port: Some(question.port),
            protocol: question.protocol,
            input: self.input().map(str::to_owned),
            output: None,
            reply: false,
            translated: false,
        }
    }

    /// What others do to a packet that has just arrived, before our translation.
    pub(super) fn others_on_arrival(&mut self, packet: &Passing) -> Option<(Cause, Finding)> {
        let (hook, tables): (_, &[_]) = match packet.input {
            Some(_) => (BuiltinHook::Prerouting, &["raw", "mangle"]),
            None => (BuiltinHook::Output, &["raw", "mangle"]),
        };
        for table in tables {
            let point = Point { table, hook, ours_decide: false, ours_needed: *table == "mangle" };
            if let Some(found) = self.others_at(point, packet) {
                return Some(found);
            }
        }
        None
    }

    /// Translations of others before ours.
    pub(super) fn others_translate(&mut self, packet: &Passing) -> Option<(Cause, Finding)> {
        let local = packet.input.is_none();
        let hook = if local { BuiltinHook::Output } else { BuiltinHook::Prerouting };
        self.others_at(Point { table: "nat", hook, ours_decide: true, ours_needed: true }, packet)
    }

    /// What others do to a packet on its way on.
    pub(super) fn others_on(
        &mut self,
        course: Course,
        packet: &Passing,
    ) -> Option<(Cause, Finding)> {
        if course == Course::Answered && self.translates_first() {
            self.perhaps_before_the_answer(packet);
            return None;
        }
        course.points().into_iter().find_map(|point| {
            let at_exit = point.hook == BuiltinHook::Postrouting;
            let mut packet = packet.clone();
            if at_exit {
                packet.input = None;
            }
            self.others_at(point, &packet)
        })
    }

    /// What others do to a packet that this host sends to itself: it comes back in by `lo`. Also
    /// returns the packet as it was there.
    pub(super) fn others_by_loopback(
        &mut self,
        out: Course,
        back: Course,
    ) -> Option<((Cause, Finding), Passing)> {
        let sent = Passing { output: Some(LOOPBACK.to_owned()), ..self.first_packet() };
        if let Some(met) = self.others_on(out, &sent) {
            return Some((met, sent));
        }
        let arrives = Passing { input: sent.output, output: None, ..sent };
        let met = self.others_on_arrival(&arrives).or_else(|| self.others_on(back, &arrives))?;
        Some((met, arrives))
    }

    /// Whether nobody else's translation comes before ours: chains of nftables have a priority of
    /// their own.
    pub(super) fn translates_first(&self) -> bool {
        self.scene.config.backend == Backend::Nftables
    }

    /// Our chain answers at the priority of table mangle, where the younger one is first, and ahead of
    /// table filter.
    fn perhaps_before_the_answer(&mut self, packet: &Passing) {
        let hook = BuiltinHook::Input;
        let point = Point { table: "mangle", hook, ours_decide: false, ours_needed: false };
        let scene = self.scene;
        for finding in scene.foreign.at(point, packet) {
            let text = format!("{} may drop it first", finding.what);
            self.step(Stage::Others, Progress::Perhaps, text);
        }
    }

    /// Notes what may happen; returns what is certain to.
    fn others_at(&mut self, point: Point, packet: &Passing) -> Option<(Cause, Finding)> {
        let scene = self.scene;
        for finding in scene.foreign.at(point, packet) {
            let whose = if packet.reply { "the reply" } else { "it" };
            match finding.fate {
                Fate::Perhaps => {
                    let text = format!("{} may drop {whose}", finding.what);
                    self.step(Stage::Others, Progress::Perhaps, text);
                }
                Fate::Bypasses => {
                    let text = format!(
                        "{} takes {whose} past SmartNat's rules; move it behind their jump",
                        finding.what
                    );
                    self.step(Stage::Others, Progress::Perhaps, text);
                }
                Fate::Dropped => return Some((Cause::ForeignDrop, finding)),
                Fate::Translated => return Some((Cause::ForeignTranslation, finding)),
            }
        }
        None
    }
}
