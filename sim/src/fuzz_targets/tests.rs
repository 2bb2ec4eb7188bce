//! Random bytes, so that the targets work where no fuzzer runs.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{admission, diff, history, read_back};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..512)
}

proptest! {
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
