//! Throw-away network namespaces for tests.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::panic::resume_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use netns_rs::NetNs;

/// A named network namespace that goes when it is dropped.
struct Namespace(Option<NetNs>);

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(NetNs::remove) {
            eprintln!("a namespace stays behind: {error}");
        }
    }
}

/// Runs `test` on a thread of its own in a new network namespace, which is removed
/// afterwards, also when the test fails. Without privileges the test is skipped.
pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("snl-{}-{number}", std::process::id());
    let created = if smartnat_linux::is_privileged() {
        NetNs::new(name).map_err(|error| error.to_string())
    } else {
        Err("CAP_NET_ADMIN is missing".to_owned())
    };
    let namespace = match created {
        Ok(namespace) => Namespace(Some(namespace)),
        Err(error) => {
            let required = std::env::var_os("SMARTNAT_REQUIRE_PRIVILEGES");
            assert!(required.is_none_or(|v| v != "1"), "no network namespace: {error}");
            eprintln!("skipped: no network namespace: {error}");
            return;
        }
    };
    let outcome = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = namespace.0.as_ref().expect("not yet removed");
            namespace.enter().expect("entered");
            sh("ip link set lo up");
            test();
        });
        inside.join()
    });
    drop(namespace);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs a shell command that must succeed in the calling thread's namespace; its output.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().expect("a shell");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Waits for `condition`, at most 5 s.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "in 5 s it did not come true that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A pair of interfaces `eth1` and `far1`, both up, with addresses of both families on `eth1`.
pub(crate) fn add_uplink() {
    // Without duplicate detection no notification comes late.
    sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
        ip link add eth1 type veth peer name far1
        ip link set eth1 up; ip link set far1 up
        ip addr add 192.0.2.2/24 dev eth1
        ip addr add 2001:db8::2/64 dev eth1 nodad");
}
