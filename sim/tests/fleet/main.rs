//! Several instances on one simulated API server: conflicts, lag, stale lists, lost events, lost
//! answers, outages, crashes and addresses that move.

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod deletion;
mod history;
mod leader;
mod news;
mod outage;
mod owner;
mod quiet;
mod setup;
mod story;
