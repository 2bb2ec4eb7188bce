//! The command line.

mod flags;

#[cfg(test)]
mod tests;

pub use flags::{
    ClusterFlags, CommonFlags, DemoArgs, GatewayFlags, KernelFlags, MonitorFlags, OutputFormat,
};

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::{self, Layer, Problems, Settings};

/// Turns a Linux machine into a layer-4 gateway for a Kubernetes cluster.
#[derive(Parser, Debug)]
#[command(name = "smartnat", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every command.
    #[command(flatten)]
    pub common: CommonFlags,
}

const EXAMPLES: &str = "\
Examples:
  smartnat demo                                          see it work; real packets with sudo
  smartnat validate -f manifests/                        check Mappings before they are used
  smartnat plan --manifests manifests/ --uplink eth1     show what would change on this host
  smartnat run --manifests manifests/ --uplink eth1      serve them
  smartnat explain --from 198.51.100.7 --to 203.0.113.10:8080/tcp ...  why a packet does not arrive
  smartnat status                                        what the running instance does
  smartnat cleanup                                       remove everything of ours

Configuration: flags go before SMARTNAT_* variables, these before SNCTRLR_* variables (those of the
Go version), these before the file of --config. A flag --uplink-pattern is the variable
SMARTNAT_UPLINK_PATTERN (several values: SMARTNAT_UPLINKS=eth1,eth2) and the key uplinkPattern.

Exit code: 0 all is well, 1 rejected or failed, 2 wrong usage or configuration.";

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Keep this host in line with the Mappings
    Run(RunArgs),
    /// Check Mappings and say all that is wrong with them
    Validate(ValidateArgs),
    /// Show what would change on this host
    Plan(PlanArgs),
    /// Tell the way of a packet and of its reply, and who is responsible
    Explain(ExplainArgs),
    /// Show what the running instance does
    #[command(
        after_help = "Ends with 1 when no instance runs in this network namespace, or it is \
                            not in sync."
    )]
    Status,
    /// Remove everything of ours from this host
    Cleanup(CleanupArgs),
    /// Print this host's interfaces, addresses and routes as a file for --host
    Host,
    /// Print the definition of the Mapping resource
    Crd,
    /// Show the whole thing at work in throwaway network namespaces, or simulated without root
    Demo(DemoArgs),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  smartnat completions bash > /etc/bash_completion.d/smartnat"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Arguments of `run`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  smartnat run --uplink-pattern 'eth[1-9]'                          Mappings of the cluster
  smartnat run --kubeconfig admin.conf --uplink eth1                the same from outside it
  smartnat run --manifests /etc/smartnat/manifests --uplink-pattern 'eth[1-9]'
  smartnat run --manifests m/ --uplink eth1 --gateway eth1=203.0.113.1 --gateway eth1=2001:db8::1
  smartnat run --manifests m/ --uplink eth1 --backend simulated     a dry run without root
  SNCTRLR_INTERFACES_PATTERN='eth[1-9]' SNCTRLR_DEFAULT_GW_INTERFACE=eth0 smartnat run --manifests m/

Without --manifests it follows a cluster; each instance needs a name of its own (--instance), which
is the host's unless given. With --manifests, edit, add and delete files in the directory; the host
follows. SIGHUP reads everything anew. With --backend simulated nothing is written to the cluster.
SIGTERM and SIGINT end the program and leave the dataplane serving; `smartnat cleanup` removes it.

Over HTTP on 127.0.0.1:8080 unless told otherwise: /healthz, /readyz, /healthcheck, /metrics, and
/debug/snapshot for `smartnat explain --snapshot`.

Files in the state directory, named by the inode of the network namespace (`stat -Lc %i /proc/self/ns/net`):
  INODE.status.json   what `smartnat status` shows; with more than 256 Mappings a moment late
  INODE.stats.json    counters: operations, processes_started, syncs")]
pub struct RunArgs {
    /// Directory of YAML files with Mappings, Services and endpoints, instead of a cluster
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<String>,
    /// Create this file when the dataplane was read back and serves for the first time
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// Which interfaces are uplinks.
    #[command(flatten)]
    pub gateway: GatewayFlags,
    /// What carries the dataplane.
    #[command(flatten)]
    pub kernel: KernelFlags,
    /// How the cluster is reached.
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Where health and metrics are served.
    #[command(flatten)]
    pub monitor: MonitorFlags,
}

/// Arguments of `validate`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  smartnat validate -f mapping.yaml
  smartnat validate -f manifests/ -o json
  smartnat host > gw1.yaml; smartnat validate -f manifests/ --host gw1.yaml --uplink eth1

Ends with 1 when a Mapping is rejected or a file can't be read. Conflicts between Mappings are found
among the files given.")]
pub struct ValidateArgs {
    /// File or directory of manifests; can be repeated
    #[arg(short, long, value_name = "PATH", required_unless_present = "manifests")]
    pub file: Vec<PathBuf>,
    /// Directory of manifests, as for run
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// A host's file (see `smartnat host`): also says which addresses that host holds
    #[arg(long, value_name = "FILE")]
    pub host: Option<PathBuf>,
    /// Which interfaces are uplinks.
    #[command(flatten)]
    pub gateway: GatewayFlags,
}

/// Arguments of `plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  smartnat plan --manifests manifests/ --uplink eth1
  smartnat plan --manifests manifests/ --uplink eth1 --host gw1.yaml    offline, from nothing

Lines with + would be added, lines with - removed. Nothing is changed. With --host, neither root nor
the host is needed, and its kernel is taken to hold nothing of ours yet.")]
pub struct PlanArgs {
    /// Directory of YAML files with Mappings, Services and endpoints
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<String>,
    /// Plan for the host of this file (see `smartnat host`) instead of this one
    #[arg(long, value_name = "FILE")]
    pub host: Option<PathBuf>,
    /// Which interfaces are uplinks.
    #[command(flatten)]
    pub gateway: GatewayFlags,
    /// What carries the dataplane.
    #[command(flatten)]
    pub kernel: KernelFlags,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  smartnat explain --from 198.51.100.7 --to 203.0.113.10:8080/tcp --manifests manifests/ --uplink eth1
  smartnat explain --from '[2001:db8::7]:4711' --to '[2001:db8:1::10]:53/udp' --manifests m/ --uplink eth1
  smartnat explain --from 10.244.1.7 --to 192.0.2.1:443/tcp ...            a pod on its way out
  smartnat explain ... --host gw1.yaml                                     offline (see `smartnat host`)
  smartnat explain --manifests m/ --uplink eth1 --write-snapshot gw1.yaml  all that it depends on, as a file
  smartnat explain --snapshot gw1.yaml --from 198.51.100.7 --to 203.0.113.10:8080/tcp

Told is the first packet of a new connection. On this host, as root, rules of others are looked at too:
those that can be evaluated are, the others are a `?`. Nothing is changed and nothing is sent. A
snapshot has its own configuration; flags of the gateway do not count then.

Exit code: 0 a Mapping takes it to an endpoint and back, or out by egress; 1 not, or
not to every endpoint that chance may choose; 2 wrong usage.")]
pub struct ExplainArgs {
    /// Source address of the packet, with its port if that matters
    #[arg(long, value_name = "IP[:PORT]", required_unless_present = "write_snapshot")]
    pub from: Option<String>,
    /// Destination; the protocol is tcp (default), udp or sctp
    #[arg(long, value_name = "IP:PORT/PROTO", required_unless_present = "write_snapshot")]
    pub to: Option<String>,
    /// Where it arrives, or `lo` for this host's own packets [default: as its addresses tell]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Directory of YAML files with Mappings, Services and endpoints
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<String>,
    /// Explain for the host of this file (see `smartnat host`) instead of this one
    #[arg(long, value_name = "FILE")]
    pub host: Option<PathBuf>,
    /// Explain from a file of --write-snapshot alone
    #[arg(long, value_name = "FILE", conflicts_with_all = ["manifests", "host"])]
    pub snapshot: Option<PathBuf>,
    /// Write all that the explanation depends on into this file
    #[arg(long, value_name = "FILE")]
    pub write_snapshot: Option<PathBuf>,
    /// Which interfaces are uplinks.
    #[command(flatten)]
    pub gateway: GatewayFlags,
    /// What carries the dataplane.
    #[command(flatten)]
    pub kernel: KernelFlags,
}

/// Arguments of `cleanup`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  smartnat cleanup             after `smartnat run` has ended
  smartnat cleanup --legacy    before the first `smartnat run` on a host of the Go version

Goes on past a failure, reports all of them and ends with 1 then.")]
pub struct CleanupArgs {
    /// Remove what the Go version left in the kernel, and nothing else
    #[arg(long)]
    pub legacy: bool,
    /// What carries the dataplane.
    #[command(flatten)]
    pub kernel: KernelFlags,
}

impl Cli {
    /// The configuration that the flags, the environment and the configuration file give.
    pub fn settings(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, Problems> {
        let hostname = settings::hostname();
        settings::resolve(self.layer(), self.common.config.as_deref(), variables, &hostname)
    }

    fn layer(&self) -> Layer {
        let mut layer = Layer::default();
        self.common.add_to(&mut layer);
        match &self.command {
            Command::Run(args) => {
                layer.flag("manifests", args.manifests.as_ref());
                args.gateway.add_to(&mut layer);
                args.kernel.add_to(&mut layer);
                args.cluster.add_to(&mut layer);
                args.monitor.add_to(&mut layer);
            }
            Command::Validate(args) => args.gateway.add_to(&mut layer),
            Command::Plan(args) => {
                layer.flag("manifests", args.manifests.as_ref());
                args.gateway.add_to(&mut layer);
                args.kernel.add_to(&mut layer);
            }
            Command::Explain(args) => {
                layer.flag("manifests", args.manifests.as_ref());
                args.gateway.add_to(&mut layer);
                args.kernel.add_to(&mut layer);
            }
            Command::Cleanup(args) => args.kernel.add_to(&mut layer),
            Command::Demo(args) => args.add_to(&mut layer),
            Command::Status | Command::Host | Command::Crd | Command::Completions { .. } => {}
        }
        layer
    }
}
