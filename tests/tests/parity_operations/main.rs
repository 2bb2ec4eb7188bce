//! The simulated kernel and the real one answer the same operations alike: the class of
//! every result and the read-back after it are equal, on both iptables flavours.
//!
//! `PARITY_SEQUENCES` is the number of random sequences a flavour, `PARITY_SEED` repeats one.

mod arms;
mod cases;
mod generate;

use arms::Arms;
use generate::Generator;
use smartnat_core::model::IptablesFlavour;

/// Sequences a flavour without `PARITY_SEQUENCES`: the program stays under about 15 s.
const DEFAULT_SEQUENCES: u64 = 12;
/// Long enough for objects to refer to each other, short enough to read.
const STEPS: usize = 24;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text:?}: {e}")))
}

fn compare_random_sequences(flavour: IptablesFlavour) {
    if !smartnat::lab::available() {
        return;
    }
    let seeds = match setting("PARITY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("PARITY_SEQUENCES").unwrap_or(DEFAULT_SEQUENCES),
    };
    let (mut steps, mut refused) = (0, 0);
    for seed in seeds.clone() {
        let (done, failed) =
            arms::in_lab(flavour, &format!("PARITY_SEED={seed}"), |arms: &mut Arms| {
                let mut generator = Generator::new(seed);
                for _ in 0..STEPS {
                    // Both may refuse it alike.
                    let _ = arms.step(&generator.step());
                }
            });
        steps += done;
        refused += failed;
    }
    eprintln!("{flavour:?}: {seeds:?} agree in {steps} steps, {refused} of them refused");
}

#[test]
fn random_operations_on_nft_agree() {
    compare_random_sequences(IptablesFlavour::Nft);
}

#[test]
fn random_operations_on_legacy_agree() {
    compare_random_sequences(IptablesFlavour::Legacy);
}
