//! The simulated kernel and the real one answer the same operations alike: the class of
//! every result and the read-back after it are equal, on nftables and both iptables flavours.
//!
//! `PARITY_SEQUENCES` is the number of random sequences a ruleset, `PARITY_SEED` repeats one.

mod arms;
mod cases;
mod generate;
mod nftables;

use arms::{Arms, Step};
use generate::Generator;
use smartnat_core::ops::{Domain, NetworkOp, NftOp, Transaction};
use smartnat_tests::Ruleset;
use smartnat_tests::random_nft::RandomNft;

/// Sequences a ruleset without `PARITY_SEQUENCES`: the program stays under about 15 s.
const DEFAULT_SEQUENCES: u64 = 12;
/// Long enough for objects to refer to each other, short enough to read.
const STEPS: usize = 24;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text:?}: {e}")))
}

/// Random sequences, of which `steps` makes one from its seed.
fn compare_random_sequences(ruleset: Ruleset, steps: impl Fn(u64) -> Vec<Step>) {
    if !smartnat::lab::available() {
        return;
    }
    let seeds = match setting("PARITY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("PARITY_SEQUENCES").unwrap_or(DEFAULT_SEQUENCES),
    };
    let (mut total, mut refused) = (0, 0);
    for seed in seeds.clone() {
        let steps = steps(seed);
        let (done, failed) =
            arms::in_lab(ruleset, &format!("PARITY_SEED={seed}"), move |arms: &mut Arms| {
                for step in steps {
                    // Both may refuse it alike.
                    let _ = arms.step(&step);
                }
            });
        total += done;
        refused += failed;
    }
    eprintln!("{ruleset:?}: {seeds:?} agree in {total} steps, {refused} of them refused");
}

fn of_iptables(seed: u64) -> Vec<Step> {
    let mut generator = Generator::new(seed);
    (0..STEPS).map(|_| generator.step()).collect()
}

fn of_nftables(seed: u64) -> Vec<Step> {
    let mut random = RandomNft::new(seed);
    let first = random.furniture();
    let batches = (0..STEPS).map(|_| random.batch());
    std::iter::once(first).chain(batches).map(committed).collect()
}

fn committed(batch: Vec<NftOp>) -> Step {
    let ops = batch.into_iter().map(NetworkOp::Nft).collect();
    Step::Apply(Transaction { domain: Domain::Nftables, ops })
}

#[test]
fn random_operations_on_nftables_agree() {
    compare_random_sequences(Ruleset::Nftables, of_nftables);
}

#[test]
fn random_operations_on_nft_agree() {
    compare_random_sequences(Ruleset::IptablesNft, of_iptables);
}

#[test]
fn random_operations_on_legacy_agree() {
    compare_random_sequences(Ruleset::IptablesLegacy, of_iptables);
}
