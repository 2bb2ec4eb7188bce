//! Random bytes, so that the targets work where no fuzzer runs.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{admission, diff, history, read_back};

/// Few by default, since the fuzzer and its corpus do the work; `PROPTEST_CASES` for more.
fn few() -> ProptestConfig {
    let asked = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return asked;
    }
    // No file: bytes tell nobody anything, a finding becomes a test that reads like a story.
    ProptestConfig { cases: 32, failure_persistence: None, ..asked }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..512)
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn any_cluster_is_judged(data in bytes()) {
        admission(&data);
    }

    #[test]
    fn any_text_is_read(data in bytes()) {
        read_back(&data);
    }

    #[test]
    fn any_state_becomes_any_other(data in bytes()) {
        diff(&data);
    }

    #[test]
    fn any_history_ends_well(data in bytes()) {
        history(&data);
    }
}
