//! Numbers that whoever runs the tests may choose.

use std::time::Duration;

/// Of the tests that do things at random.
const SEED: &str = "SMARTNAT_TEST_SEED";

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// Seconds from the environment, or this.
pub(crate) fn seconds(variable: &str, usual: u64) -> Duration {
    Duration::from_secs(number(variable).unwrap_or(usual))
}

/// The seed that was chosen, or another one each time; it is told.
pub(crate) fn seed() -> u64 {
    let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{SEED}={seed}");
    seed
}
