//! Which flavour to use; never both at once.

use std::collections::BTreeMap;
use std::time::Duration;

use smartnat_core::model::{Family, IptablesFlavour};
use smartnat_core::objects::{XtTableId, XtTableState};
use smartnat_core::ops::{OpError, OpErrorClass};
use smartnat_core::xtables_text::SavedTables;

use super::executor::{Xtables, XtablesSettings};
use super::programs::{Flavour, Programs, SearchPath, XtablesError};
use crate::command::{self, Limits};

/// `iptables -V` prints a line.
const VERSION_LIMITS: Limits = Limits { time: Duration::from_secs(10), output: 64 << 10 };

/// What of ours the flavour holds that is not in use. Remove it with an [`Xtables`] of that flavour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherFlavour {
    /// The flavour.
    pub flavour: Flavour,
    /// Our tables there, at least one.
    pub tables: BTreeMap<XtTableId, XtTableState>,
}

impl Xtables {
    /// Finds the programs of a flavour. Of `Auto` the flavour that holds chains of ours, else the
    /// one that holds rules of others, else the one that `iptables` is.
    pub fn detect(
        wanted: IptablesFlavour,
        settings: XtablesSettings,
    ) -> Result<Self, XtablesError> {
        let mut detector = Detector { search: SearchPath::of_environment(), settings, reads: 0 };
        let mut xtables = match wanted {
            IptablesFlavour::Nft => detector.open(Flavour::Nft)?,
            IptablesFlavour::Legacy => detector.open(Flavour::Legacy)?,
            IptablesFlavour::Auto => detector.choose()?,
        };
        xtables.count_reads(detector.reads);
        Ok(xtables)
    }

    /// What of ours the other flavour holds: after a change of the setting, its leftovers.
    pub fn detect_other_ours(&mut self) -> Result<Option<OtherFlavour>, OpError> {
        let flavour = self.flavour().other();
        let settings = self.settings();
        let mut detector = Detector { search: SearchPath::of_environment(), settings, reads: 0 };
        let other = detector.open(flavour);
        self.count_reads(detector.reads);
        // Without its programs nothing of ours can have come there.
        let Ok(mut other) = other else { return Ok(None) };
        let read = other.read();
        self.count_reads(other.processes_started().reads);
        let of_family = |(family, saved): (Family, SavedTables)| {
            let ours = saved.ours.into_iter();
            ours.map(move |(table, state)| (XtTableId { family, table }, state))
        };
        let tables: BTreeMap<_, _> = read?.into_iter().flat_map(of_family).collect();
        Ok((!tables.is_empty()).then_some(OtherFlavour { flavour, tables }))
    }
}

/// What a flavour holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holdings {
    ours: bool,
    foreign: bool,
}

impl Holdings {
    fn of(tables: &BTreeMap<Family, SavedTables>) -> Self {
        Self {
            ours: tables.values().any(|saved| !saved.ours.is_empty()),
            foreign: tables.values().any(|saved| {
                !saved.unreadable.is_empty()
                    || saved.foreign.values().any(|table| !table.is_untouched())
            }),
        }
    }
}

/// The flavour that alone holds ours, else that alone holds others' rules.
fn prefer(nft: Holdings, legacy: Holdings) -> Option<Flavour> {
    let alone = |nft: bool, legacy: bool| match (nft, legacy) {
        (true, false) => Some(Flavour::Nft),
        (false, true) => Some(Flavour::Legacy),
        _ => None,
    };
    alone(nft.ours, legacy.ours).or_else(|| alone(nft.foreign, legacy.foreign))
}

struct Detector {
    search: SearchPath,
    settings: XtablesSettings,
    reads: u64,
}

impl Detector {
    /// The programs with the flavour in their names, else the plain ones if they are of it.
    fn open(&mut self, flavour: Flavour) -> Result<Xtables, XtablesError> {
        let programs = match Programs::find(&self.search, flavour) {
            Ok(programs) => programs,
            Err(missing) => match Programs::find_plain(&self.search) {
                Ok(plain) if self.plain_flavour()? == Some(flavour) => plain,
                _ => return Err(missing),
            },
        };
        Ok(Xtables::new(flavour, programs, self.settings))
    }

    fn choose(&mut self) -> Result<Xtables, XtablesError> {
        let (nft, legacy) = (self.open(Flavour::Nft), self.open(Flavour::Legacy));
        let (mut nft, mut legacy) = match (nft, legacy) {
            (Ok(nft), Ok(legacy)) => (nft, legacy),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => return Ok(one),
            (Err(missing), Err(_)) => return Err(missing),
        };
        let holdings = [&mut nft, &mut legacy].map(|one| one.read().map(|t| Holdings::of(&t)));
        self.reads += nft.processes_started().reads + legacy.processes_started().reads;
        let [in_nft, in_legacy] = holdings;
        let preferred = prefer(in_nft?, in_legacy?);
        let flavour = match preferred {
            Some(flavour) => flavour,
            None => self.plain_flavour()?.unwrap_or(Flavour::Nft),
        };
        self.open(flavour)
    }

    /// The flavour of the program `iptables`; `None` without one.
    fn plain_flavour(&mut self) -> Result<Option<Flavour>, XtablesError> {
        let Some(program) = self.search.find("iptables") else { return Ok(None) };
        self.reads += 1;
        let object = program.display().to_string();
        let finished = command::run(&program, &["-V"], &[], VERSION_LIMITS)
            .map_err(|error| OpError::new(error.class(), &object, error))?;
        let version = String::from_utf8_lossy(&finished.stdout);
        if !finished.status.success() {
            let said = String::from_utf8_lossy(&finished.stderr);
            return Err(OpError::new(OpErrorClass::Invalid, object, said.trim()).into());
        }
        // Before there were two flavours, the version named none.
        let is_nft = version.contains(Flavour::Nft.version_mark());
        Ok(Some(if is_nft { Flavour::Nft } else { Flavour::Legacy }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_outweigh_the_rules_of_others() {
        let none = Holdings::default();
        let ours = Holdings { ours: true, foreign: false };
        let foreign = Holdings { ours: false, foreign: true };
        for (nft, legacy, expected) in [
            (none, none, None),
            (ours, none, Some(Flavour::Nft)),
            (none, ours, Some(Flavour::Legacy)),
            (foreign, ours, Some(Flavour::Legacy)),
            (none, foreign, Some(Flavour::Legacy)),
            (foreign, none, Some(Flavour::Nft)),
            (foreign, foreign, None),
            (ours, ours, None),
            (ours, foreign, Some(Flavour::Nft)),
        ] {
            assert_eq!(prefer(nft, legacy), expected, "{nft:?} {legacy:?}");
        }
    }
}
