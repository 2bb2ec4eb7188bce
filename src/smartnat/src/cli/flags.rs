//! Flags of settings. All are read as text, so that every problem of a
//! configuration is reported at once, whatever way a value came.

use clap::Args;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};

use crate::settings::Layer;

/// Shows what is allowed in help and completions, and leaves the check to the settings.
#[derive(Clone)]
struct Hinted(&'static [&'static str]);

impl TypedValueParser for Hinted {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

const BOOLEAN: Hinted = Hinted(&["true", "false"]);
const BACKEND: Hinted = Hinted(&["auto", "nftables", "iptables", "simulated"]);
const FLAVOUR: Hinted = Hinted(&["auto", "nft", "legacy"]);

/// Which interfaces are uplinks and what happens on them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayFlags {
    /// Name of this instance [default: the host's name]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Regular expression that the whole name of an uplink matches, such as `eth[1-9]`
    #[arg(long, value_name = "REGEX")]
    uplink_pattern: Option<String>,
    /// An uplink by its exact name; the only way to use the default route's interface as one
    #[arg(long, value_name = "INTERFACE")]
    uplink: Vec<String>,
    /// Interface of the host's default route, never an uplink by pattern [default: by its routes]
    #[arg(long, value_name = "INTERFACE")]
    default_interface: Option<String>,
    /// An interface that leads to endpoints, beside those found by routes
    #[arg(long, value_name = "INTERFACE")]
    cluster_interface: Vec<String>,
    /// Next hop of an uplink, such as `eth1=203.0.113.1`; once for each family
    #[arg(long, value_name = "INTERFACE=ADDRESS")]
    gateway: Vec<String>,
    /// Next hop of the other uplinks, counted from the start (1) or end (-1) of the subnet [default: 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    gateway_offset: Option<String>,
    /// Pods see the gateway's address instead of the client's [default: true]
    #[arg(long, value_name = "BOOL", value_parser = BOOLEAN)]
    masquerade: Option<String>,
    /// Pods leave the cluster with their Mapping's address [default: false]
    #[arg(long, value_name = "BOOL", value_parser = BOOLEAN)]
    egress: Option<String>,
    /// Drop what arrives on an uplink for this host itself [default: true]
    #[arg(long, value_name = "BOOL", value_parser = BOOLEAN)]
    guard: Option<String>,
    /// Guard also an uplink that is the default route's interface [default: false]
    #[arg(long, value_name = "BOOL", value_parser = BOOLEAN)]
    guard_default_interface: Option<String>,
    /// Most entries of spec.ports in one Mapping [default: 50]
    #[arg(long, value_name = "N")]
    max_ports: Option<String>,
}

impl GatewayFlags {
    /// Adds what was given.
    pub fn add_to(&self, layer: &mut Layer) {
        layer.flag("instance", self.instance.as_ref());
        layer.flag("uplinkPattern", self.uplink_pattern.as_ref());
        layer.flags("uplinks", &self.uplink);
        layer.flag("defaultInterface", self.default_interface.as_ref());
        layer.flags("clusterInterfaces", &self.cluster_interface);
        layer.flags("gateways", &self.gateway);
        layer.flag("gatewayOffset", self.gateway_offset.as_ref());
        layer.flag("masquerade", self.masquerade.as_ref());
        layer.flag("egress", self.egress.as_ref());
        layer.flag("guard", self.guard.as_ref());
        layer.flag("guardDefaultInterface", self.guard_default_interface.as_ref());
        layer.flag("maxPorts", self.max_ports.as_ref());
    }
}

/// What carries the dataplane, and how its objects are numbered.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Kernel")]
pub struct KernelFlags {
    /// What carries the dataplane; `auto` is nftables where the kernel has it, else iptables;
    /// `simulated` is a dry run that needs no root [default: auto]
    #[arg(long, value_name = "KIND", value_parser = BACKEND)]
    backend: Option<String>,
    /// Which iptables programs are used, never both [default: auto]
    #[arg(long, value_name = "FLAVOUR", value_parser = FLAVOUR)]
    iptables_flavour: Option<String>,
    /// How long the xtables lock is waited for [default: 10]
    #[arg(long, value_name = "SECONDS")]
    lock_wait_seconds: Option<String>,
    /// Bits of packet and connection marks that are ours [default: 0x00ff0000]
    #[arg(long, value_name = "MASK")]
    mark_mask: Option<String>,
    /// Routing tables of uplinks are numbered after this [default: 7000]
    #[arg(long, value_name = "N")]
    table_base: Option<String>,
    /// First of our five consecutive routing rule priorities [default: 20000]
    #[arg(long, value_name = "N")]
    rule_priority: Option<String>,
    /// Where the kernel's settings are, for a container, in which /proc/sys is read-only:
    /// mount the host's /proc/sys/net as net below it [default: /proc/sys]
    #[arg(long, value_name = "DIR")]
    sysctl_dir: Option<String>,
}

impl KernelFlags {
    /// Adds what was given.
    pub fn add_to(&self, layer: &mut Layer) {
        layer.flag("backend", self.backend.as_ref());
        layer.flag("iptablesFlavour", self.iptables_flavour.as_ref());
        layer.flag("lockWaitSeconds", self.lock_wait_seconds.as_ref());
        layer.flag("markMask", self.mark_mask.as_ref());
        layer.flag("tableBase", self.table_base.as_ref());
        layer.flag("rulePriority", self.rule_priority.as_ref());
        layer.flag("sysctlDir", self.sysctl_dir.as_ref());
    }
}

/// How a cluster is reached, and how instances share it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster (without --manifests)")]
pub struct ClusterFlags {
    /// Where the API server is [default: KUBECONFIG, the pod's account, ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Namespace of the instances' Leases [default: the pod's, else smartnat-system]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// An instance that has not renewed its Lease for so long counts as lapsed [default: 15]
    #[arg(long, value_name = "SECONDS")]
    lease_seconds: Option<String>,
    /// So long a lapsed instance holds up the deletion of a Mapping [default: 60]
    #[arg(long, value_name = "MINUTES")]
    max_finalize_wait_minutes: Option<String>,
    /// Where the last good snapshot is kept, to serve from it when the API server can't be reached
    /// after a restart or reboot [default: /var/lib/smartnat]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

impl ClusterFlags {
    /// Adds what was given.
    pub fn add_to(&self, layer: &mut Layer) {
        layer.flag("kubeconfig", self.kubeconfig.as_ref());
        layer.flag("namespace", self.namespace.as_ref());
        layer.flag("leaseSeconds", self.lease_seconds.as_ref());
        layer.flag("maxFinalizeWaitMinutes", self.max_finalize_wait_minutes.as_ref());
        layer.flag("dataDir", self.data_dir.as_ref());
    }
}

/// Where health and metrics are served.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Monitoring")]
pub struct MonitorFlags {
    /// Address for health, readiness and metrics over HTTP; '' for all addresses [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    monitor_address: Option<String>,
    /// Port for them; 0 serves nothing [default: 8080; of a dry run 0]
    #[arg(long, value_name = "PORT")]
    monitor_port: Option<String>,
}

impl MonitorFlags {
    /// Adds what was given.
    pub fn add_to(&self, layer: &mut Layer) {
        layer.flag("monitorAddress", self.monitor_address.as_ref());
        layer.flag("monitorPort", self.monitor_port.as_ref());
    }
}

/// Arguments of `demo`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "\
Examples:
  sudo smartnat demo                   real packets in network namespaces of its own
  smartnat demo --backend simulated    the same story on the simulated kernel, without root

Without root, iptables or ipset it runs on the simulated kernel by itself, and says so; -o json has
it as \"kernel\". Nothing outside its own namespaces is touched.")]
pub struct DemoArgs {
    /// What carries the packets [default: nftables, else iptables, where one can be used]
    #[arg(long, value_name = "KIND", value_parser = Hinted(&["nftables", "iptables", "simulated"]))]
    backend: Option<String>,
    /// Which iptables programs are used, never both [default: auto]
    #[arg(long, value_name = "FLAVOUR", value_parser = FLAVOUR)]
    iptables_flavour: Option<String>,
}

impl DemoArgs {
    /// Adds what was given.
    pub fn add_to(&self, layer: &mut Layer) {
        layer.flag("backend", self.backend.as_ref());
        layer.flag("iptablesFlavour", self.iptables_flavour.as_ref());
    }
}

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Common")]
pub struct CommonFlags {
    /// Configuration file (YAML); variable `SMARTNAT_CONFIG`
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<std::path::PathBuf>,
    /// Where status, statistics and the instance's lock are kept [default: /run/smartnat]
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<String>,
    /// How log lines on standard error look [default: text]
    #[arg(long, value_name = "FORMAT", global = true, value_parser = Hinted(&["text", "json"]))]
    log_format: Option<String>,
    /// Which log lines are written [default: info]
    #[arg(
        long,
        value_name = "LEVEL",
        global = true,
        value_parser = Hinted(&["error", "warn", "info", "debug", "trace"])
    )]
    log_level: Option<String>,
    /// How results on standard output look
    #[arg(short, long, value_name = "FORMAT", global = true, value_enum, default_value_t)]
    pub output: OutputFormat,
}

impl CommonFlags {
    /// Adds what was given.
    pub fn add_to(&self, layer: &mut Layer) {
        layer.flag("stateDir", self.state_dir.as_ref());
        layer.flag("logFormat", self.log_format.as_ref());
        layer.flag("logLevel", self.log_level.as_ref());
    }
}

/// How results look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}
