//! T23: the API server can't be reached.

use crate::fleet::{Fleet, external};

#[test]
fn the_dataplane_serves_on_and_catches_up_afterwards() {
    let Some(fleet) = Fleet::with_own_server(1) else { return };
    let run = fleet.serve_echo();
    fleet.plane.stop_server();
    run.wait_line(&["unreachable"]);
    fleet.wait_answer(1, Some("pod1"));
    fleet.plane.start_server();
    fleet.endpoints("default", &[2]);
    fleet.wait_answer(1, Some("pod2"));
    run.wait_line(&["followed again"]);
    fleet.delete("default", "echo");
    fleet.wait_gone("default", "echo");
    run.terminate();
}

#[test]
fn a_restart_in_an_outage_changes_nothing() {
    let Some(fleet) = Fleet::with_own_server(1) else { return };
    let run = fleet.serve_echo();
    run.terminate();
    fleet.plane.stop_server();
    let before = fleet.rules(1);
    let run = fleet.serve(1);
    assert_eq!(run.stats().operations, 0, "{}", run.log());
    fleet.wait_answer(1, Some("pod1"));
    assert_eq!(before.contains(&external(1)), fleet.rules(1).contains(&external(1)));
    // Deleted while nobody could tell the gateway: it hears of it at last.
    run.kill();
    fleet.plane.start_server();
    fleet.delete("default", "echo");
    fleet.plane.stop_server();
    let run = fleet.serve(1);
    fleet.wait_answer(1, Some("pod1"));
    fleet.plane.start_server();
    fleet.wait_gone("default", "echo");
    fleet.wait_answer(1, None);
    run.terminate();
}

/// A reboot leaves nothing in the kernel and nothing in `/run`; what is in `/var/lib` is served.
#[test]
fn a_reboot_in_an_outage_serves_what_is_remembered() {
    let Some(fleet) = Fleet::with_own_server(1) else { return };
    let run = fleet.serve_echo();
    run.terminate();
    fleet.plane.stop_server();
    fleet.station.finish_on("gw1", fleet.station.command(&["cleanup"])).expect(0);
    std::fs::remove_dir_all(fleet.station.state()).expect("the state directory");
    fleet.wait_answer(1, None);
    let run = fleet.serve(1);
    fleet.wait_answer(1, Some("pod1"));
    fleet.plane.start_server();
    run.wait_line(&["followed again"]);
    fleet.endpoints("default", &[3]);
    fleet.wait_answer(1, Some("pod3"));
    run.terminate();
}
