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

use std::path::{Path, PathBuf};
use std::time::Duration;

use smartnat_core::model::{Backend, GatewayConfig, IptablesFlavour};

use read::Reader;
use smartnat_linux::sysctl::SYSCTL_DIR;

/// Where state files are kept unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/run/smartnat";
/// How long the xtables lock is waited for unless told otherwise.
pub const DEFAULT_LOCK_WAIT: Duration = Duration::from_secs(10);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The configuration of a command.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What decisions depend on.
    pub gateway: GatewayConfig,
    /// Directory of manifests.
    pub manifests: Option<PathBuf>,
    /// Where state files are kept.
    pub state_dir: PathBuf,
    /// Where the kernel's settings are.
    pub sysctl_dir: PathBuf,
    /// Which iptables programs are used.
    pub flavour: IptablesFlavour,
    /// How long the xtables lock is waited for.
    pub lock_wait: Duration,
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
    let gateway = read_gateway(&given, hostname, problems);
    let mut read = Reader::new(&given, problems);
    let settings = Settings {
        gateway,
        manifests: read.path("manifests"),
        state_dir: read.path("stateDir").unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        sysctl_dir: read.path("sysctlDir").unwrap_or_else(|| SYSCTL_DIR.into()),
        flavour: read.choice("iptablesFlavour", FLAVOURS).unwrap_or_default(),
        lock_wait: read
            .number("lockWaitSeconds", 1..=600)
            .map_or(DEFAULT_LOCK_WAIT, Duration::from_secs),
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
        backend: read.choice("backend", BACKENDS).unwrap_or(default.backend),
    }
}

const BACKENDS: &[(&str, Backend)] =
    &[("iptables", Backend::Iptables), ("simulated", Backend::Simulated)];
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

/// The name of this host, for an instance that was given none.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| GatewayConfig::default().instance)
}
