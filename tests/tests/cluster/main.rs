//! The program as a member of a cluster: a real API server, real packets, one or more gateways.
//!
//! Each test has a server of its own. Without one, or without root, they print "skipped";
//! `SMARTNAT_REQUIRE_APISERVER=1` and `SMARTNAT_REQUIRE_PRIVILEGES=1` make that a failure.
//!
//! Some tests take numbers from the environment: `SMARTNAT_TEST_SEED` (what is done at random),
//! `SMARTNAT_TEST_KILLS` (200), `SMARTNAT_TEST_QUIET_SECONDS` (10) and
//! `SMARTNAT_TEST_ABSENCE_SECONDS` (longer than a Lease).

mod background;
mod fleet;
mod fresh;
mod objects;
mod requests;
#[allow(dead_code, reason = "these tests need some of the words of the program's")]
#[path = "../binary/station.rs"]
mod station;
mod variables;

mod c01_serving;
mod c02_deletion;
mod c03_conflict;
mod c04_outage;
mod c05_watches;
mod c06_bursts;
mod c06_rolling;
mod c07_kills;
mod c08_scale;
mod c09_bad_input;
mod c10_absence;
mod c11_handover;
mod c12_events;
mod c13_restart;
mod c14_several;
mod c90_account;
