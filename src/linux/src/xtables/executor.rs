//! Reads and changes the tables of one flavour.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use smartnat_core::model::Family;
use smartnat_core::objects::{BuiltinChain, BuiltinHook, XtTable, XtTableId, XtTableState};
use smartnat_core::ops::{NetworkOp, OpError, OpErrorClass};
use smartnat_core::xtables_text::{ForeignTable, SavedTables, parse_save, render_transaction};

use super::programs::{Flavour, Programs};
use super::{builtin, diagnose};
use crate::command::{self, Finished, Limits};

/// More than a million rules.
const MAX_SAVED_BYTES: usize = 512 << 20;

/// Bounds of what runs may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XtablesSettings {
    /// How long to wait for the lock of the legacy flavour, which others may hold; whole seconds.
    pub lock_wait: Duration,
    /// How long a program may take beside that.
    pub process_time: Duration,
}

impl Default for XtablesSettings {
    fn default() -> Self {
        Self { lock_wait: Duration::from_secs(10), process_time: Duration::from_mins(1) }
    }
}

/// How many child processes were started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// To read.
    pub reads: u64,
    /// To change something.
    pub writes: u64,
}

/// iptables of one flavour.
#[derive(Debug)]
pub struct Xtables {
    flavour: Flavour,
    programs: Programs,
    settings: XtablesSettings,
    counts: ProcessCounts,
}

impl Xtables {
    pub(super) fn new(flavour: Flavour, programs: Programs, settings: XtablesSettings) -> Self {
        Self { flavour, programs, settings, counts: ProcessCounts::default() }
    }

    /// The flavour.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The bounds.
    pub fn settings(&self) -> XtablesSettings {
        self.settings
    }

    /// Child processes started so far, those of the detection included.
    pub fn processes_started(&self) -> ProcessCounts {
        self.counts
    }

    pub(super) fn count_reads(&mut self, reads: u64) {
        self.counts.reads = self.counts.reads.saturating_add(reads);
    }

    /// What is ours; a table without anything of ours is absent. An error where a table cannot be
    /// read. Starts one process a family.
    pub fn observe(&mut self) -> Result<BTreeMap<XtTableId, XtTableState>, OpError> {
        self.observe_with_shared().map(|(ours, _)| ours)
    }

    /// The same, and the built-in chains that others use too.
    pub fn observe_with_shared(
        &mut self,
    ) -> Result<(BTreeMap<XtTableId, XtTableState>, BTreeSet<BuiltinChain>), OpError> {
        let (mut ours, mut shared) = (BTreeMap::new(), BTreeSet::new());
        for (family, saved) in self.read()? {
            require_readable(family, &saved)?;
            for (table, state) in saved.ours {
                ours.insert(XtTableId { family, table }, state);
            }
            for table in XtTable::ALL {
                let Some(foreign) = saved.foreign.get(table.name()) else { continue };
                let used = table.hooks().iter().filter(|hook| foreign.uses(**hook));
                let id = XtTableId { family, table };
                shared.extend(used.map(|hook| BuiltinChain { table: id, hook: *hook }));
            }
        }
        Ok((ours, shared))
    }

    /// What is not ours, by family and name of the table. Starts one process a family.
    pub fn foreign(&mut self) -> Result<BTreeMap<(Family, String), ForeignTable>, OpError> {
        let mut foreign = BTreeMap::new();
        for (family, saved) in self.read()? {
            let tables = saved.foreign.into_iter();
            foreign.extend(tables.map(|(name, table)| ((family, name), table)));
        }
        Ok(foreign)
    }

    /// Everything, ours and not. Starts one process a family; none for one without legacy tables,
    /// since reading would make them.
    pub fn read(&mut self) -> Result<BTreeMap<Family, SavedTables>, OpError> {
        Family::ALL.into_iter().map(|family| Ok((family, self.read_family(family)?))).collect()
    }

    fn read_family(&mut self, family: Family) -> Result<SavedTables, OpError> {
        if self.flavour == Flavour::Legacy && !legacy_tables_exist(family) {
            return Ok(SavedTables::default());
        }
        let object = format!("iptables-{} ({family})", self.flavour);
        let finished = self.save(family, &[], &object)?;
        if !finished.status.success() {
            let stderr = String::from_utf8_lossy(&finished.stderr);
            return Err(diagnose::failed_save(object, finished.status.code(), &stderr));
        }
        parse_save(family, &String::from_utf8_lossy(&finished.stdout))
            .map_err(|error| OpError::new(OpErrorClass::Invalid, &object, error))
    }

    /// Runs the `-save` program of a family.
    pub(super) fn save(
        &mut self,
        family: Family,
        arguments: &[&str],
        object: &str,
    ) -> Result<Finished, OpError> {
        let Some(programs) = self.programs.of(family).cloned() else {
            return Err(OpError::new(OpErrorClass::NotFound, object, "no program"));
        };
        self.count_reads(1);
        self.run(&programs.save, arguments, &[], object)
    }

    /// Executes the operations on one table by one process; on failure nothing of them is
    /// executed. Empty built-in chains are deleted after that, by netlink.
    pub fn apply(&mut self, id: XtTableId, ops: &[NetworkOp]) -> Result<(), OpError> {
        let input = render_transaction(id, ops);
        if !input.is_empty() {
            let object = diagnose::table_name(id);
            let Some(programs) = self.programs.of(id.family).cloned() else {
                return Err(OpError::new(OpErrorClass::NotFound, object, "no program"));
            };
            self.counts.writes = self.counts.writes.saturating_add(1);
            let wait = self.settings.lock_wait.as_secs().max(1).to_string();
            let arguments = ["--noflush", "-w", &wait];
            let finished =
                self.run(&programs.restore, &arguments, input.text.as_bytes(), &object)?;
            if !finished.status.success() {
                let stderr = String::from_utf8_lossy(&finished.stderr);
                let code = finished.status.code();
                return Err(diagnose::failed_restore(id, ops, &input, code, &stderr));
            }
        }
        for op in ops {
            if let NetworkOp::DeleteEmptyBuiltin { hook } = op
                && self.flavour == Flavour::Nft
            {
                builtin::delete_if_empty(id, *hook)?;
            }
        }
        Ok(())
    }

    /// The built-in chains that exist, by table; a table without any is absent. None of the legacy
    /// flavour, whose built-in chains come and stay with their table.
    pub fn builtins(&self) -> Result<BTreeMap<XtTableId, BTreeSet<BuiltinHook>>, OpError> {
        match self.flavour {
            Flavour::Nft => builtin::list(),
            Flavour::Legacy => Ok(BTreeMap::new()),
        }
    }

    fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        input: &[u8],
        object: &str,
    ) -> Result<Finished, OpError> {
        let time = self.settings.lock_wait.saturating_add(self.settings.process_time);
        let limits = Limits { time, output: MAX_SAVED_BYTES };
        command::run(program, arguments, input, limits)
            .map_err(|error| OpError::new(error.class(), object, error))
    }
}

/// A table that cannot be read may hold ours.
fn require_readable(family: Family, saved: &SavedTables) -> Result<(), OpError> {
    let unreadable = |table: &XtTable| saved.unreadable.contains(table.name());
    let Some(table) = XtTable::ALL.into_iter().find(unreadable) else { return Ok(()) };
    let object = diagnose::table_name(XtTableId { family, table });
    let detail = "holds rules that iptables-nft cannot read; whoever added them with nft should \
                  use a table of its own";
    Err(OpError::new(OpErrorClass::Invalid, object, detail))
}

/// Whether the calling thread's namespace has tables of the legacy flavour.
pub(super) fn legacy_tables_exist(family: Family) -> bool {
    !legacy_table_names(family).trim().is_empty()
}

/// Whether it has this table of the legacy flavour.
pub(super) fn legacy_table_exists(family: Family, table: XtTable) -> bool {
    legacy_table_names(family).lines().any(|name| name.trim() == table.name())
}

fn legacy_table_names(family: Family) -> String {
    let path = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // Without the module there is no such file, and no table.
    std::fs::read_to_string(path).unwrap_or_default()
}
