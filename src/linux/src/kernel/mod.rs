//! The Linux kernel as the core's [`Kernel`].

mod netfilter;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::time::Duration;

use smartnat_core::explain::Foreign;
use smartnat_core::model::{Backend, Family, HostState, IptablesFlavour};
use smartnat_core::objects::{
    BuiltinChain, Flow, FlowFilter, FlowKey, KernelState, Netfilter as Scope, ObservationScope,
    SysctlKey, SysctlState, XtTable, XtTableId, XtTableState,
};
use smartnat_core::ops::{Domain, Kernel, NetworkOp, OpError, OpErrorClass, Transaction};
use thiserror::Error;

use crate::conntrack::ConntrackClient;
use crate::nft::{NftClient, OwnPort};
use crate::routing::Routing;
use crate::survey::{Survey, Uplinks, forwarding_users, obstacles, survey};
use crate::sysctl::{self, Sysctls};
use crate::xtables::{Flavour, Xtables, XtablesError, XtablesSettings};
use crate::{is_privileged, observe_host};

use netfilter::{Netfilter, Tables};
use record::{KeptSysctl, Record};
pub use record::{RecordError, StateDir};

/// How the kernel is opened.
#[derive(Clone, Debug)]
pub struct LinuxOptions {
    /// Which objects carry the dataplane: those of nftables, or else of iptables.
    pub backend: Backend,
    /// Which iptables programs are used.
    pub flavour: IptablesFlavour,
    /// Where what was there before us is kept.
    pub state_dir: StateDir,
    /// How long a program waits for the xtables lock.
    pub lock_wait_seconds: u64,
    /// The kernel's settings.
    pub sysctls: Sysctls,
    /// Told from where changes of nftables are ours.
    pub own_port: OwnPort,
}

impl Default for LinuxOptions {
    fn default() -> Self {
        Self {
            backend: Backend::Iptables,
            flavour: IptablesFlavour::Auto,
            state_dir: StateDir::default(),
            lock_wait_seconds: 10,
            sysctls: Sysctls::default(),
            own_port: OwnPort::default(),
        }
    }
}

/// Why the kernel could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// `CAP_NET_ADMIN` is missing.
    #[error(
        "no privilege to see and change netfilter and routing: the capability CAP_NET_ADMIN is \
         missing; run as root, or give it with AmbientCapabilities= of systemd or \
         securityContext.capabilities of the pod"
    )]
    NotPrivileged,
    /// iptables is missing or cannot be read.
    #[error(transparent)]
    Xtables(#[from] XtablesError),
    /// A part of the kernel is missing or fails.
    #[error(transparent)]
    Part(#[from] OpError),
    /// The routing socket cannot be opened.
    #[error("cannot open a routing socket: {0}")]
    Routing(#[source] io::Error),
    /// The record of what was there before us cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl OpenError {
    /// This host does not have the programs or the part of the kernel, so nothing of ours can be
    /// there.
    fn is_absent(&self) -> bool {
        match self {
            Self::Xtables(error) => matches!(error, XtablesError::Missing { .. }),
            Self::Part(error) => error.class == OpErrorClass::Invalid,
            _ => false,
        }
    }
}

/// The running kernel, in the network namespace of the thread that opened it.
///
/// It must be used on that thread: sysctls and child processes follow the calling thread's
/// namespace. All calls block.
pub struct LinuxKernel {
    netfilter: Netfilter,
    /// How iptables is called, also to look at what others have there.
    xtables_settings: XtablesSettings,
    routing: Routing,
    flows: ConntrackClient,
    record: Record,
    sysctls: Sysctls,
    baseline_settled: bool,
    /// Chains of iptables were removed: with the last of ours the baseline goes.
    removed_chains: bool,
    /// Changes that none of the parts counts: sysctls and built-in chains.
    own_writes: u64,
}

impl fmt::Debug for LinuxKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxKernel")
            .field("netfilter", &self.netfilter)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl LinuxKernel {
    /// Opens all parts. Reads, but changes nothing.
    #[allow(clippy::needless_pass_by_value, reason = "options are built in the call")]
    pub fn open(options: LinuxOptions) -> Result<Self, OpenError> {
        if !is_privileged() {
            return Err(OpenError::NotPrivileged);
        }
        let settings = XtablesSettings {
            lock_wait: Duration::from_secs(options.lock_wait_seconds),
            ..XtablesSettings::default()
        };
        let netfilter = Netfilter::open(options.backend, options.flavour, settings)?;
        if let Some(client) = netfilter.nft() {
            options.own_port.set(client.port());
        }
        Ok(Self {
            netfilter,
            xtables_settings: settings,
            routing: Routing::open().map_err(OpenError::Routing)?,
            flows: ConntrackClient::open()?,
            record: Record::open(&options.state_dir)?,
            sysctls: options.sysctls,
            baseline_settled: false,
            removed_chains: false,
            own_writes: 0,
        })
    }

    /// The host's links, addresses and routes.
    pub fn observe_host(&mut self) -> Result<HostState, OpError> {
        observe_host(&mut self.routing)
    }

    /// What is foreign and matters, given the uplinks.
    pub fn survey(&self, uplinks: &Uplinks) -> Survey {
        survey(self.flavour(), self.xtables_settings, uplinks)
    }

    /// What others have in the way of packets.
    pub fn obstacles(&self) -> Foreign {
        obstacles(self.flavour(), self.xtables_settings)
    }

    /// What of others needs the host to forward, for people, by family.
    pub fn forwarding_users(&self) -> BTreeMap<Family, Vec<String>> {
        forwarding_users(self.xtables_settings)
    }

    /// Changes begun so far: requests to the kernel, writing processes, sysctl writes.
    pub fn operations(&self) -> u64 {
        self.netfilter.writes()
            + self.routing.operations()
            + self.flows.deletions()
            + self.own_writes
    }

    /// Child processes started so far, those that only read included.
    pub fn processes_started(&self) -> u64 {
        let (reads, writes) = self.netfilter.processes();
        reads + writes
    }

    /// Bytes sent to nftables so far, questions included; none where the kernel has none.
    pub fn nftables_bytes(&self) -> Option<u64> {
        self.netfilter.nft().map(NftClient::bytes)
    }

    /// The iptables programs in use; none where nftables carries the dataplane.
    pub fn flavour(&self) -> Option<IptablesFlavour> {
        self.netfilter.flavour().map(Into::into)
    }

    /// Forgets which built-in chains were there before us. For the end of a complete
    /// clean-up: the next start finds its own beginning.
    pub fn forget_baseline(&mut self) -> Result<(), RecordError> {
        (self.baseline_settled, self.removed_chains) = (false, false);
        self.record.forget_builtins()
    }

    /// Records the built-in chains of the nft flavour before the first of ours is made.
    ///
    /// A recorded baseline is replaced when nothing of ours is left: it belongs to a
    /// life before the last clean-up, or to a namespace whose inode came back.
    fn settle_baseline(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        let removes = |op: &NetworkOp| {
            matches!(op, NetworkOp::DeleteChain { .. } | NetworkOp::DeleteEmptyBuiltin { .. })
        };
        self.removed_chains |= ops.iter().any(removes);
        if self.baseline_settled {
            return Ok(());
        }
        let Some(xtables) = self.netfilter.nft_flavour_mut() else { return Ok(()) };
        let creates = ops
            .iter()
            .any(|op| matches!(op, NetworkOp::PutChain { .. } | NetworkOp::InsertJump { .. }));
        let missing = self.record.builtins().is_none();
        if missing || (creates && xtables.observe()?.values().all(XtTableState::is_empty)) {
            self.record.keep_builtins(builtins(xtables)?).map_err(record_failure)?;
        }
        self.baseline_settled = creates;
        Ok(())
    }

    fn apply_xtables(
        &mut self,
        which: Tables,
        table: XtTableId,
        ops: &[NetworkOp],
    ) -> Result<(), OpError> {
        let flavour = self.netfilter.xtables_mut(which).map(|xtables| xtables.flavour());
        if flavour == Some(Flavour::Nft) {
            self.settle_baseline(ops)?;
        }
        let by_netlink = |op: &&NetworkOp| matches!(op, NetworkOp::DeleteEmptyBuiltin { .. });
        self.own_writes += ops.iter().filter(by_netlink).map(|_| 1).sum::<u64>();
        match self.netfilter.xtables_mut(which) {
            Some(xtables) => xtables.apply(table, ops),
            None => Err(misplaced(&ops[0], "a host without iptables")),
        }
    }

    /// What is ours in the tables of a flavour, and where others judge beside it.
    fn observe_xtables(&mut self, scope: Scope, which: Tables) -> Result<Held, OpError> {
        if !self.netfilter.reads_tables(scope, which) {
            return Ok(Held::default());
        }
        let required = self.netfilter.requires_tables(which);
        let Some(xtables) = self.netfilter.xtables_mut(which) else { return Ok(Held::default()) };
        let (mut tables, shared) = match xtables.observe_with_shared() {
            // What others made of tables that we do not use must not keep us from serving.
            Err(error) if !required && error.class == OpErrorClass::Invalid => {
                tracing::debug!("taken for a place without anything of ours: {error}");
                return Ok(Held::default());
            }
            read => read?,
        };
        let before = self.record.builtins().filter(|_| xtables.flavour() == Flavour::Nft);
        if let Some(before) = before {
            for chain in builtins(xtables)?.difference(before) {
                // What others use by now stays, so it is nothing to remove.
                if !shared.contains(chain) {
                    tables.entry(chain.table).or_default().created_builtins.insert(chain.hook);
                }
            }
            if tables.is_empty() && self.removed_chains {
                self.forget_baseline().map_err(record_failure)?;
            }
        }
        let judging = shared.into_iter().filter(|chain| chain.table.table == XtTable::Filter);
        Ok(Held { tables, contested: judging.collect() })
    }

    fn observe_sysctls(
        &mut self,
        scope: &ObservationScope,
    ) -> Result<BTreeMap<SysctlKey, SysctlState>, OpError> {
        self.forget_replaced_interfaces()?;
        let kept = self.record.sysctls();
        let keys: BTreeSet<_> = scope.sysctls.iter().chain(kept.keys()).collect();
        let mut found = BTreeMap::new();
        for key in keys {
            let original = kept.get(key).map(|kept| kept.value.clone());
            let value = self.sysctls.read(key)?;
            if value.is_some() || original.is_some() {
                // A setting that went with its interface has no value, but a record to forget.
                let value = value.unwrap_or_default();
                found.insert(key.clone(), SysctlState { value, original });
            }
        }
        Ok(found)
    }

    /// What is recorded of an interface that is gone while another has its name is never restored.
    fn forget_replaced_interfaces(&mut self) -> Result<(), OpError> {
        let keys: Vec<SysctlKey> = self.record.sysctls().keys().cloned().collect();
        for key in keys {
            if self.kept_sysctl(&key)?.is_none() {
                self.record.forget_sysctl(&key).map_err(record_failure)?;
            }
        }
        Ok(())
    }

    /// What is recorded of a setting, unless it is of an interface that is gone while another has its
    /// name. A record without an index is of whatever has the name.
    fn kept_sysctl(&self, key: &SysctlKey) -> Result<Option<&KeptSysctl>, OpError> {
        let Some(kept) = self.record.sysctls().get(key) else { return Ok(None) };
        let (recorded, present) = (kept.interface, sysctl::interface_index(key)?);
        let another = recorded.is_some() && present.is_some() && recorded != present;
        Ok((!another).then_some(kept))
    }

    fn apply_sysctl(&mut self, op: &NetworkOp) -> Result<(), OpError> {
        match op {
            NetworkOp::SetSysctl { key, value } => self.set_sysctl(key, value),
            NetworkOp::ForgetSysctl { key, value } => self.forget_sysctl(key, value.as_deref()),
            other => Err(misplaced(other, "sysctls")),
        }
    }

    fn set_sysctl(&mut self, key: &SysctlKey, value: &str) -> Result<(), OpError> {
        let before = self.sysctls.read(key)?.ok_or_else(|| {
            let object = format!("sysctl {key}");
            OpError::new(OpErrorClass::NotFound, object, "there is no such setting")
        })?;
        if self.kept_sysctl(key)?.is_none() {
            let along = self.sysctls.lost_with(key, &before)?;
            let before =
                KeptSysctl { value: before, interface: sysctl::interface_index(key)?, along };
            self.record.keep_sysctl(key, before).map_err(record_failure)?;
        }
        self.write_sysctl(key, value)
    }

    fn forget_sysctl(&mut self, key: &SysctlKey, value: Option<&str>) -> Result<(), OpError> {
        if let Some(value) = value
            && self.sysctls.read(key)?.is_some()
        {
            self.write_sysctl(key, value)?;
            for along in self.record.sysctls().get(key).into_iter().flat_map(|kept| &kept.along) {
                self.own_writes += 1;
                self.sysctls.undo(along)?;
            }
        }
        self.record.forget_sysctl(key).map_err(record_failure)
    }

    fn write_sysctl(&mut self, key: &SysctlKey, value: &str) -> Result<(), OpError> {
        self.own_writes += 1;
        self.sysctls.write(key, value)
    }

    fn delete_flows(&mut self, ops: &[NetworkOp]) -> Result<(), OpError> {
        let key = |op: &NetworkOp| match op {
            NetworkOp::DeleteFlow(key) => Ok(*key),
            other => Err(misplaced(other, "conntrack entries")),
        };
        let keys: Vec<FlowKey> = ops.iter().map(key).collect::<Result<_, _>>()?;
        self.flows.delete(&keys)
    }
}

impl Kernel for LinuxKernel {
    fn observe(&mut self, scope: &ObservationScope) -> Result<KernelState, OpError> {
        let own = self.observe_xtables(scope.netfilter, Tables::Own)?;
        let other = self.observe_xtables(scope.netfilter, Tables::Other)?;
        Ok(KernelState {
            xtables: own.tables,
            contested: own.contested,
            other_xtables: other.tables,
            other_contested: other.contested,
            sets: self.netfilter.sets(scope.netfilter)?,
            nft: self.netfilter.table(scope.netfilter)?,
            rules: self.routing.rules(scope)?,
            routes: self.routing.routes(scope)?,
            sysctls: self.observe_sysctls(scope)?,
        })
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<(), OpError> {
        let ops = transaction.ops.as_slice();
        match transaction.domain {
            Domain::Xtables(table) => self.apply_xtables(Tables::Own, table, ops),
            Domain::OtherXtables(table) => self.apply_xtables(Tables::Other, table, ops),
            Domain::Sets => self.netfilter.apply_sets(ops),
            Domain::Nftables => self.netfilter.apply_table(ops),
            Domain::Routing => self.routing.apply(ops),
            Domain::Sysctls => ops.iter().try_for_each(|op| self.apply_sysctl(op)),
            Domain::Flows => self.delete_flows(ops),
        }
    }

    fn flows(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>, OpError> {
        self.flows.flows(filter)
    }
}

/// What the tables of one flavour hold.
#[derive(Default)]
struct Held {
    tables: BTreeMap<XtTableId, XtTableState>,
    contested: BTreeSet<BuiltinChain>,
}

/// The built-in chains that exist.
fn builtins(xtables: &Xtables) -> Result<BTreeSet<BuiltinChain>, OpError> {
    let chains = |(table, hooks): (XtTableId, BTreeSet<_>)| {
        hooks.into_iter().map(move |hook| BuiltinChain { table, hook })
    };
    Ok(xtables.builtins()?.into_iter().flat_map(chains).collect())
}

fn misplaced(op: &NetworkOp, domain: &str) -> OpError {
    let detail = format!("holds an operation of another domain: {op:?}");
    OpError::new(OpErrorClass::Invalid, format!("transaction of {domain}"), detail)
}

fn record_failure(error: RecordError) -> OpError {
    let class = match &error {
        RecordError::File { source, .. } | RecordError::Proc(source) => match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpErrorClass::Denied
            }
            _ => OpErrorClass::Transient,
        },
    };
    OpError::new(class, "state file", error)
}
