//! Pauses between attempts.

use std::time::Duration;

use super::trouble::TroubleClass;

/// A blip costs no more than this.
const FIRST: Duration = Duration::from_millis(100);
/// A server that refuses is not asked more often than this in the long run.
const LONGEST: Duration = Duration::from_secs(30);
/// Soon enough after permissions or credentials were mended.
const LONGEST_REFUSED: Duration = Duration::from_secs(10);
/// Soon enough after the server came back or the definition was installed.
const LONGEST_ABSENT: Duration = Duration::from_secs(5);
/// A watch that opens and is cut again loses nothing, but what happens between two is told late.
const LONGEST_CUT: Duration = Duration::from_secs(1);

/// Doubling pauses, bounded by what went wrong.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The pause after a failure.
    pub(super) fn after(&mut self, class: &TroubleClass) -> Duration {
        self.up_to(match class {
            TroubleClass::Unreachable
            | TroubleClass::Certificate
            | TroubleClass::NotInstalled
            | TroubleClass::WrongVersion { .. }
            | TroubleClass::Stale => LONGEST_ABSENT,
            TroubleClass::Unauthorized | TroubleClass::Forbidden { .. } => LONGEST_REFUSED,
            TroubleClass::Gone | TroubleClass::Other { .. } => LONGEST,
        })
    }

    /// The pause after a watch that opened and ended early.
    pub(super) fn after_cut(&mut self) -> Duration {
        self.up_to(LONGEST_CUT)
    }

    /// All is well: the next pause is short again.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_of_what_went_wrong() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.after(&TroubleClass::Unreachable)).collect();
        let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        let other = TroubleClass::Other { code: Some(500) };
        assert_eq!(backoff.after(&other), Duration::from_secs(10));
        assert_eq!(backoff.after(&other), Duration::from_secs(20));
        assert_eq!(backoff.after(&other), LONGEST);
        assert_eq!(backoff.after_cut(), LONGEST_CUT);
        backoff.reset();
        assert_eq!(backoff.after(&other), FIRST);
    }
}
