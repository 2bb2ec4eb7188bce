//! Configuration: flags before `SMARTNAT_*` before `SNCTRLR_*` (the Go version's
//! variables) before the configuration file before defaults.

mod catalogue;
mod layer;
mod problem;
mod read;

#[cfg(test)]
mod tests;

pub use catalogue::{ENV_PREFIX, LEGACY_PREFIX, SETTINGS, Setting};
pub use layer::{CONFIG_VARIABLE, Layer, Note, NoteLevel, Origin};
pub use problem::{Problem, Problems};

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use smartnat_core::model::{Backend, GatewayConfig, IptablesFlavour};

use read::Reader;
use smartnat_linux::sysctl::SYSCTL_DIR;

/// Where state files are kept unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/run/smartnat";
/// Where the last good snapshot of a cluster is kept unless told otherwise; unlike the state it
/// must survive a reboot (T23).
pub const DEFAULT_DATA_DIR: &str = "/var/lib/smartnat";
/// Namespace of the instances' Leases, unless told otherwise and unless a pod has its own.
pub const DEFAULT_NAMESPACE: &str = "smartnat-system";
/// How long the xtables lock is waited for unless told otherwise.
pub const DEFAULT_LOCK_WAIT: Duration = Duration::from_secs(10);

/// Where the health of a run can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorSettings {
    /// Address of this host; `::` for all of both families.
    pub address: IpAddr,
    /// TCP port; 0 serves nothing.
    pub port: u16,
}

impl Default for MonitorSettings {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), port: 8080 }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How a cluster is reached, and how instances share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// File that says where the API server is; absent: the usual places.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the instances' Leases.
    pub namespace: String,
    /// Duration of a Lease.
    pub lease: Duration,
    /// So long a lapsed instance holds up a deletion (T20).
    pub max_finalize_wait: Duration,
}

/// The configuration of a command.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What decisions depend on.
    pub gateway: GatewayConfig,
    /// The backend is the one that this host's kernel has: `crate::backend::chosen` finds it.
    /// Until then it is nftables.
    pub automatic_backend: bool,
    /// Directory of manifests.
    pub manifests: Option<PathBuf>,
    /// The cluster, where no directory of manifests is given.
    pub cluster: ClusterSettings,
    /// Where state files are kept.
    pub state_dir: PathBuf,
    /// Where the last good snapshot of a cluster is kept.
    pub data_dir: PathBuf,
    /// Where the kernel's settings are.
    pub sysctl_dir: PathBuf,
    /// Which iptables programs are used.
    pub flavour: IptablesFlavour,
    /// How long the xtables lock is waited for.
    pub lock_wait: Duration,
    /// Where health and metrics are served.
    pub monitor: MonitorSettings,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_level: tracing::Level,
    /// Remarks that stop nothing.
    pub notes: Vec<Note>,
    given: Layer,
}

impl Settings {
    /// Where the value of a setting was given; `None` for a default.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.given.get(key).map(|given| &given.origin)
    }

    /// Refuses a configuration without any uplink.
    pub fn require_uplinks(&self) -> Result<(), Problems> {
        let gateway = &self.gateway;
        if gateway.uplink_pattern.is_empty() && gateway.uplink_names.is_empty() {
            return Err(Problems(vec![Problem::missing(
                "no uplink is configured; name the external interfaces with --uplink-pattern REGEX \
                 or --uplink NAME (SMARTNAT_UPLINK_PATTERN, SMARTNAT_UPLINKS)",
            )]));
        }
        Ok(())
    }

    /// The directory of manifests, which must have been given.
    pub fn require_manifests(&self) -> Result<&Path, Problems> {
        self.manifests.as_deref().ok_or_else(|| {
            Problems(vec![Problem::missing(
                "no source of Mappings is configured; give a directory with --manifests DIR \
                 (SMARTNAT_MANIFESTS)",
            )])
        })
    }
}

/// Reads the whole configuration; reports everything that is wrong at once.
pub fn resolve(
    flags: Layer,
    config_file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    hostname: &str,
) -> Result<Settings, Problems> {
    let mut problems = Vec::new();
    let variables: Vec<(String, String)> = variables.into_iter().collect();
    let named = variables.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
    let file = config_file.map(Path::to_owned).or_else(|| named.map(|(_, path)| path.into()));
    let mut given = flags;
    let (ours, legacy, notes) = layer::from_environment(variables, &mut problems);
    given.fill_from(ours);
    given.fill_from(legacy);
    if let Some(file) = file {
        given.fill_from(layer::from_file(&file, &mut problems));
    }
    let settings = read_settings(given, notes, hostname, &mut problems);
    if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
}

fn read_settings(
    given: Layer,
    notes: Vec<Note>,
    hostname: &str,
    problems: &mut Vec<Problem>,
) -> Settings {
    let backend = Reader::new(&given, problems).choice("backend", BACKENDS);
    let named = backend.flatten();
    let (backend, automatic_backend) = (named.unwrap_or(Backend::Nftables), named.is_none());
    let gateway = GatewayConfig { backend, ..read_gateway(&given, hostname, problems) };
    let mut read = Reader::new(&given, problems);
    let monitor = MonitorSettings::default();
    let settings = Settings {
        gateway,
        automatic_backend,
        manifests: read.path("manifests"),
        cluster: ClusterSettings {
            kubeconfig: read.path("kubeconfig"),
            namespace: read.namespace("namespace").unwrap_or_else(own_namespace),
            lease: Duration::from_secs(read.number("leaseSeconds", 3..=600).unwrap_or(15)),
            max_finalize_wait: Duration::from_secs(
                read.number("maxFinalizeWaitMinutes", 0..=100_000).unwrap_or(60) * 60,
            ),
        },
        data_dir: read.path("dataDir").unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
        state_dir: read.path("stateDir").unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        sysctl_dir: read.path("sysctlDir").unwrap_or_else(|| SYSCTL_DIR.into()),
        flavour: read.choice("iptablesFlavour", FLAVOURS).unwrap_or_default(),
        lock_wait: read
            .number("lockWaitSeconds", 1..=600)
            .map_or(DEFAULT_LOCK_WAIT, Duration::from_secs),
        monitor: MonitorSettings {
            address: read.listen_address("monitorAddress").unwrap_or(monitor.address),
            port: read.number("monitorPort", 0..=u16::MAX).unwrap_or(monitor.port),
        },
        log_format: read.choice("logFormat", LOG_FORMATS).unwrap_or_default(),
        log_level: read.choice("logLevel", LOG_LEVELS).unwrap_or(tracing::Level::INFO),
        notes,
        given: Layer::default(),
    };
    let known_to_core = problems.is_empty().then(|| settings.gateway.problems());
    for error in known_to_core.into_iter().flatten() {
        problems.push(Problem::missing(error));
    }
    Settings { given, ..settings }
}

fn read_gateway(given: &Layer, hostname: &str, problems: &mut Vec<Problem>) -> GatewayConfig {
    let mut read = Reader::new(given, problems);
    let default = GatewayConfig::default();
    GatewayConfig {
        instance: read.name("instance").unwrap_or_else(|| hostname.to_owned()),
        uplink_pattern: read.pattern("uplinkPattern").unwrap_or(default.uplink_pattern),
        uplink_names: read.interfaces("uplinks"),
        default_interface: read.interface("defaultInterface"),
        cluster_interfaces: read.interfaces("clusterInterfaces"),
        gateways: read.gateways("gateways"),
        gateway_offset: read.offset("gatewayOffset").unwrap_or(default.gateway_offset),
        masquerade: read.boolean("masquerade").unwrap_or(default.masquerade),
        egress: read.boolean("egress").unwrap_or(default.egress),
        guard: read.boolean("guard").unwrap_or(default.guard),
        guard_default_interface: read
            .boolean("guardDefaultInterface")
            .unwrap_or(default.guard_default_interface),
        max_ports: read.number("maxPorts", 1..=65_535).unwrap_or(default.max_ports),
        mark_mask: read.mask("markMask", 5).unwrap_or(default.mark_mask),
        table_base: read.number("tableBase", 256..=0x7fff_0000).unwrap_or(default.table_base),
        rule_priority: read.number("rulePriority", 1..=32_000).unwrap_or(default.rule_priority),
        backend: default.backend,
    }
}

/// `None`: whichever the kernel has.
const BACKENDS: &[(&str, Option<Backend>)] = &[
    ("auto", None),
    ("nftables", Some(Backend::Nftables)),
    ("iptables", Some(Backend::Iptables)),
    ("simulated", Some(Backend::Simulated)),
];
const FLAVOURS: &[(&str, IptablesFlavour)] = &[
    ("auto", IptablesFlavour::Auto),
    ("nft", IptablesFlavour::Nft),
    ("legacy", IptablesFlavour::Legacy),
];
const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOG_LEVELS: &[(&str, tracing::Level)] = &[
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// The namespace of the pod, if this is one.
fn own_namespace() -> String {
    std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| DEFAULT_NAMESPACE.into())
}

/// The name of this host, for an instance that was given none.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| GatewayConfig::default().instance)
}
