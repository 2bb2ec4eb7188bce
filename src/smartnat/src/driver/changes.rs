//! Log lines of what a new status tells and no event does.

use smartnat_core::model::ObjectKey;
use smartnat_core::status::{Condition, MappingStatus, StatusReport, UplinkStatus, reason};

/// Writes what is new since the last status.
pub(super) fn log_changes(before: &StatusReport, now: &StatusReport) {
    for (name, uplink) in &now.uplinks {
        if before.uplinks.get(name) != Some(uplink) {
            log_uplink(name, uplink);
        }
    }
    for name in before.uplinks.keys().filter(|name| !now.uplinks.contains_key(*name)) {
        tracing::warn!(uplink = name, "{name} is no uplink any more; nothing is served on it");
    }
    for (key, before, now) in now.changes_since(before) {
        if let Some(now) = now {
            log_mapping(key, before, now);
        } else {
            tracing::info!(mapping = %key, "{key}: removed");
        }
    }
}

fn log_uplink(name: &str, uplink: &UplinkStatus) {
    let UplinkStatus { number, addresses, gateways, guarded } = uplink;
    tracing::info!(uplink = name, number, ?addresses, ?gateways, guarded, "{name} is an uplink");
}

/// The first time that a Mapping is served is an event, a failure is a reason to be degraded.
fn log_mapping(key: &ObjectKey, before: Option<&MappingStatus>, now: &MappingStatus) {
    for remark in now.remarks.iter().filter(|r| before.is_none_or(|b| !b.remarks.contains(r))) {
        tracing::info!(mapping = %key, "{key}: {remark}");
    }
    let Some(programmed) = programmed(now) else { return };
    let last = before.and_then(self::programmed);
    if last == Some(programmed) {
        return;
    }
    let Condition { reason, message, .. } = programmed;
    match &**reason {
        reason::WAITING => tracing::info!(mapping = %key, "{key}: waits: {message}"),
        // Most Mappings of a cluster may be other instances'.
        reason::NO_INSTANCE => tracing::debug!(mapping = %key, "{key}: not here: {message}"),
        reason::SERVING if last.is_some_and(|last| last.reason == reason::WAITING) => {
            tracing::info!(mapping = %key, "{key}: waits no longer; all its ports are served");
        }
        _ => {}
    }
}

fn programmed(status: &MappingStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == reason::PROGRAMMED)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, MutexGuard};

    use super::*;

    /// Lines of one thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().expect("no panic")
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged, without times and fields.
    fn logged(before: &StatusReport, now: &StatusReport) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || log_changes(before, now));
        let text = String::from_utf8(lines.bytes().clone()).expect("text");
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn report(why: &'static str, message: &'static str) -> StatusReport {
        let condition = Condition {
            kind: reason::PROGRAMMED.into(),
            status: true,
            reason: why.into(),
            message: message.into(),
        };
        let mapping = MappingStatus {
            observed_generation: 1,
            uid: String::new(),
            invalid: "no".into(),
            service_vip: None,
            configured_addresses: std::iter::empty().collect(),
            conditions: vec![condition],
            ports: Vec::new(),
            pods: Vec::new(),
            released: false,
            remarks: Vec::new(),
        };
        let mappings =
            [(ObjectKey::new("default", "echo"), Arc::new(mapping))].into_iter().collect();
        StatusReport { mappings, ..StatusReport::default() }
    }

    #[test]
    fn a_mapping_that_waits_serves_again_or_goes_has_a_line_each_time_and_no_second_one() {
        let none = StatusReport::default();
        let waiting = report(reason::WAITING, "tcp/80: no endpoint");
        let serving = report(reason::SERVING, "served");
        let lines = logged(&none, &waiting);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("INFO default/echo: waits: tcp/80: no endpoint"), "{lines:?}");
        assert!(logged(&waiting, &waiting).is_empty());
        assert!(logged(&waiting, &serving)[0].contains("waits no longer"));
        assert!(logged(&none, &serving).is_empty(), "there is an event");
        assert!(logged(&serving, &none)[0].starts_with("INFO default/echo: removed"));
        assert!(logged(&none, &report(reason::NO_INSTANCE, "elsewhere")).is_empty());
    }

    #[test]
    fn uplinks_that_come_and_go_have_a_line() {
        let uplink = UplinkStatus {
            number: 1,
            addresses: vec!["203.0.113.10".parse().expect("an address")],
            gateways: Vec::new(),
            guarded: true,
        };
        let none = StatusReport::default();
        let one = StatusReport { uplinks: [("eth1".into(), uplink)].into(), ..none.clone() };
        let came = logged(&none, &one);
        assert!(came[0].starts_with("INFO eth1 is an uplink"), "{came:?}");
        assert!(came[0].contains("203.0.113.10"), "{came:?}");
        assert!(logged(&one, &none)[0].starts_with("WARN eth1 is no uplink any more"));
    }
}
