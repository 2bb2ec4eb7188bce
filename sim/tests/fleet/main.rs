//! Several instances on one simulated API server: T19 to T23 with conflicts, lag, stale lists,
//! lost events, lost answers, outages, crashes and addresses that move.

mod quiet;
mod setup;
