//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use smartnat_core::model::IptablesFlavour;

use crate::cluster::MAX_MAPPINGS;
use crate::results::Settings;

/// Measures `SmartNat` on real packets in throw-away network namespaces, beside what one would use instead.
#[derive(Debug, Parser)]
#[command(name = "smartnat-bench", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub measure: Measure,
}

/// What only this program itself asks for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The gateway in its namespace.
    #[command(hide = true)]
    Worker {
        /// What to do, as JSON.
        order: String,
    },
}

/// What is measured, and how often.
#[derive(Debug, Args)]
pub(crate) struct Measure {
    /// Numbers of Mappings, each with two endpoints [default: 1,100,1000,10000,100000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MAPPINGS)))]
    sizes: Vec<u32>,
    /// Interleaved runs of traffic; the median counts [default: 7]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: Option<u32>,
    /// Runs of the control plane [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20))]
    control_runs: Option<u32>,
    /// New connections in a run [default: 2000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Option<u32>,
    /// Milliseconds of a stream in a run [default: 400]
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    stream_millis: Option<u32>,
    /// Changes of each kind [default: 30]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: Option<u32>,
    /// Pods that are replaced one after the other [default: 500]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pods: Option<u32>,
    /// Seconds that one part may take: the first sync, changes of one kind [default: 60]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: Option<u64>,
    /// Which iptables: nft or legacy
    #[arg(long, default_value = "nft", value_parser = flavour)]
    pub flavour: IptablesFlavour,
    /// A smoke run: few, small and short
    #[arg(long)]
    quick: bool,
    /// Directory for the report, its plots and results.json; the report goes to standard output without
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Directory where criterion left what a change costs the core
    #[arg(long)]
    pub criterion: Option<PathBuf>,
    /// Measures nothing and writes the report from an earlier run's results.json
    #[arg(long, conflicts_with_all = ["sizes", "runs", "quick"])]
    pub from: Option<PathBuf>,
}

fn flavour(text: &str) -> Result<IptablesFlavour, String> {
    match text {
        "nft" => Ok(IptablesFlavour::Nft),
        "legacy" => Ok(IptablesFlavour::Legacy),
        _ => Err("nft or legacy".into()),
    }
}

impl Measure {
    /// All settings, with what is the default or belongs to a smoke run.
    pub(crate) fn settings(&self) -> Settings {
        let pick = |normal, quick| if self.quick { quick } else { normal };
        let mut sizes = self.sizes.clone();
        if sizes.is_empty() {
            let all: &[u32] = &[1, 100, 1000, 10_000, MAX_MAPPINGS];
            sizes = all[..if self.quick { 2 } else { all.len() }].to_vec();
        }
        sizes.sort_unstable();
        sizes.dedup();
        Settings {
            sizes,
            runs: self.runs.unwrap_or(pick(7, 2)),
            control_runs: self.control_runs.unwrap_or(pick(3, 1)),
            connections: self.connections.unwrap_or(pick(2000, 100)),
            stream_seconds: f64::from(self.stream_millis.unwrap_or(pick(400, 30))) / 1e3,
            turns: self.turns.unwrap_or(pick(30, 3)),
            pods: self.pods.unwrap_or(pick(500, 5)),
            limit_seconds: self.limit.unwrap_or(if self.quick { 10 } else { 60 }),
            flavour: if self.flavour == IptablesFlavour::Legacy { "legacy" } else { "nft" }.into(),
            debug_build: cfg!(debug_assertions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connects::WARM_UP;
    use crate::network::Sources;

    fn settings(words: &str) -> Settings {
        let words = std::iter::once("smartnat-bench").chain(words.split_whitespace());
        Options::try_parse_from(words).unwrap().measure.settings()
    }

    #[test]
    fn a_smoke_run_is_small_and_what_is_said_outright_wins() {
        assert_eq!(settings("").sizes, [1, 100, 1000, 10_000, 100_000]);
        assert_eq!(settings("").runs, 7);
        assert_eq!(settings("--quick").sizes, [1, 100]);
        let both = settings("--quick --sizes 7,3,7 --runs 4");
        assert_eq!((both.sizes, both.runs, both.turns), (vec![3, 7], 4, settings("--quick").turns));
    }

    #[test]
    fn every_value_has_a_bound() {
        for words in ["--sizes 0", "--sizes 100001", "--runs 51", "--flavour ebtables", "--limit 0"]
        {
            let words = std::iter::once("smartnat-bench").chain(words.split_whitespace());
            assert!(Options::try_parse_from(words).is_err());
        }
    }

    #[test]
    fn the_longest_run_has_a_source_for_each_connection() {
        let most = settings("--runs 50 --connections 10000");
        // Two subjects share the network of the flat chain; stream and datagrams need one source each.
        let needed = 2 * most.runs * (most.connections + WARM_UP + 2);
        assert!(Sources::default().count() >= needed as usize);
    }
}
