//! Histories of a gateway: what the cluster, the host, others and chance do to it, in any order.

mod operation;
mod run;
mod verdict;

use super::choices::Choices;
use super::{host, objects};
use run::Run;

/// Operations of one history, at most.
const MAX_OPERATIONS: usize = 64;

/// Plays a history on the simulated kernel. It never panics, comes to rest, touches nothing
/// foreign; and once faults have stopped, the kernel holds what the cluster asks for (P14), as if
/// it had been built afresh (P9), serves nobody whom it should not (T10), and clean-up leaves
/// nothing (P10).
pub fn history(data: &[u8]) {
    let c = &mut Choices::new(data);
    let config = host::config(c);
    let kernel = host::kernel(c);
    let cluster = objects::cluster(c, 8);
    let mut run = Run::begin(config, kernel, cluster);
    for _ in 0..MAX_OPERATIONS {
        if c.is_over() {
            break;
        }
        operation::play(c, &mut run);
    }
    verdict::judge(run);
}
