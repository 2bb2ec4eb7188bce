//! What others do to our objects, and what does not work.

use super::*;

fn serving() -> Story {
    let mut story = Story::begin(&[], Some(record("1")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &["203.0.113.10"], false))));
    story
}

/// T15: connections must not end because somebody edits what the Lease tells.
#[test]
fn addresses_that_somebody_takes_out_of_the_lease_stay_published() {
    let mut story = serving();
    let published = story.published.len();
    story.version += 1;
    let lease = story.leases.get_mut(&instance("gw-a")).expect("it is written");
    lease.addresses.clear();
    lease.version = story.version.to_string();
    story.watch_leases();
    assert_eq!(story.published.len(), published, "the gateway hears of nothing");
    let lease = &story.leases[&instance("gw-a")];
    assert_eq!(lease.addresses, [address("203.0.113.10")].into(), "it is put right at once");
}

/// A Lease that the watch does not show, since it lacks our label, is there all the same.
#[test]
fn a_lease_that_can_not_be_made_is_told_of_and_tried_less_and_less_often() {
    let mut story = Story::new();
    story.it.handle_input(story.now, Input::Leases(BTreeMap::new()));
    let mut writes = 0;
    for _ in 0..600 {
        while let Some(output) = story.it.poll_output() {
            match output {
                Output::Write(id, _) => {
                    writes += 1;
                    let conflict = Err(WriteError::Conflict);
                    story.it.handle_input(story.now, Input::Written(id, conflict));
                }
                Output::Notice(notice) => story.notices.push(notice),
                _ => {}
            }
        }
        story.now = story.now.plus_millis(100);
        story.it.handle_input(story.now, Input::Tick);
    }
    assert!((6..=20).contains(&writes), "{writes} in a minute");
    let told = |n: &&Notice| matches!(n, Notice::WriteFailed(_, WriteError::Conflict));
    assert_eq!(story.notices.iter().filter(told).count(), 1);
}

#[test]
fn an_object_whose_status_is_not_known_to_the_server_is_told_of() {
    let mut story = serving();
    story.mapping = None;
    let changed = MappingRecord { generation: 1, ..record("900") };
    story.input(Input::Mappings([(key(), Some(changed))].into()));
    for _ in 0..40 {
        story.now = story.now.plus_millis(250);
        story.input(Input::Tick);
    }
    let told = |n: &&Notice| matches!(n, Notice::WriteFailed(_, WriteError::NotFound));
    assert!(story.notices.iter().any(|n| told(&n)), "{:?}", story.notices);
}

/// A connection of the watch that is dead without anybody noticing.
#[test]
fn a_watch_that_does_not_show_own_renewals_is_told_of() {
    let mut story = serving();
    for _ in 0..LEASE / 1_000 + 6 {
        story.now = story.now.plus_millis(1_000);
        story.input(Input::Tick);
    }
    assert!(story.notices.contains(&Notice::WatchBlind), "{:?}", story.notices);
}

/// T20: whoever waits should know for what.
#[test]
fn a_deletion_that_a_kernel_refuses_says_why() {
    let other = (instance("gw-b"), lease("gw-b_1", "7", &["203.0.113.10"]));
    let mut story = Story::begin(&[other], Some(record("1")));
    story.input(Input::Report(Box::new(report(&["203.0.113.10"], &[], false))));
    story.pass(HANDOVER_MILLIS / 1_000);
    story.delete();
    let mut refused = report(&["203.0.113.10"], &[], true);
    refused.read_back = false;
    let status = Arc::make_mut(refused.mappings.get_mut(&key()).expect("it is reported"));
    status.released = false;
    status.conditions[1].reason = reason::KERNEL_ERROR.into();
    status.conditions[1].message = "the kernel says no".into();
    story.input(Input::Report(Box::new(refused)));
    story.pass(PENDING_MILLIS / 1_000 + 1);
    let conditions = &story.mapping.as_ref().expect("it waits").summary.conditions;
    let programmed = records::condition(conditions, reason::PROGRAMMED).expect("told");
    assert!(programmed.message.contains("gw-a (the kernel says no)"), "{}", programmed.message);
}

/// The API server was restored from an older copy: its versions begin anew (T22).
#[test]
fn after_a_restore_older_versions_count_again() {
    let mut story = serving();
    story.it.handle_input(story.now, Input::Reset);
    let restored = MappingRecord { generation: 1, ..record("3") };
    story.mapping = Some(restored.clone());
    story.version = 3;
    story.input(Input::Mappings([(key(), Some(restored))].into()));
    let told = story.mapping.as_ref().expect("it is there");
    assert_eq!(told.entries.len(), 1, "its status is written to the restored object");
}
