use super::*;

fn window() -> Window {
    Window::new(Duration::from_millis(50), Duration::from_secs(1))
}

/// When changes that come at these times (in ms) are handed on.
fn handed_on(
    window: &mut Window,
    start: Instant,
    changes: impl IntoIterator<Item = u64>,
) -> Vec<u128> {
    let mut told = Vec::new();
    let mut changes = changes.into_iter().map(|ms| start + Duration::from_millis(ms)).peekable();
    loop {
        match (window.due(), changes.peek()) {
            (Some(due), next) if next.is_none_or(|next| due <= *next) => {
                window.handed_on(due);
                told.push((due - start).as_millis());
            }
            (_, Some(_)) => window.changed(changes.next().unwrap()),
            (_, None) => return told,
        }
    }
}

#[test]
fn a_change_after_a_quiet_time_is_handed_on_at_once() {
    let changes = [0, 5_000, 10_000];
    assert_eq!(handed_on(&mut window(), Instant::now(), changes), [0, 5_000, 10_000]);
}

#[test]
fn a_second_change_waits_for_the_end_of_a_short_window() {
    assert_eq!(handed_on(&mut window(), Instant::now(), [0, 10, 20]), [0, 50]);
}

#[test]
fn a_rolling_update_of_500_pods_is_a_handful_of_events() {
    // 500 pods, each of which leaves and comes: a change every 5 ms for 5 s.
    let told = handed_on(&mut window(), Instant::now(), (0..1000).map(|i| i * 5));
    assert_eq!(told, [0, 50, 150, 350, 750, 1550, 2550, 3550, 4550, 5550]);
}

#[test]
fn after_a_quiet_time_windows_are_short_again() {
    let start = Instant::now();
    let mut window = window();
    handed_on(&mut window, start, (0..1000).map(|i| i * 5));
    let told = handed_on(&mut window, start, [20_000, 20_001, 20_060]);
    assert_eq!(told, [20_000, 20_050, 20_150]);
}

#[test]
fn a_slow_trickle_is_told_without_delay() {
    let told = handed_on(&mut window(), Instant::now(), (0..5).map(|i| i * 2_000));
    assert_eq!(told, [0, 2_000, 4_000, 6_000, 8_000]);
}
