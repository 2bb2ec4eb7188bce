//! Parity: what a packet comes to is the same on the simulated and on the Linux kernel: where it
//! leaves, to whom, with which headers, what is answered, what is refused in silence.
//!
//! `PACKETS` says how many packets each ruleset gets, `PARITY_SEED` where chance begins.

mod cases;
mod explained;
mod octets;
mod packets;
mod rules;
mod scene;
mod wire;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use smartnat_core::model::{ClusterObject, Family};
use smartnat_sim::walk::{Outcome, Packet};
use smartnat_tests::Ruleset;

use explained::{Begun, wrong_explanation};
use packets::{Dice, Memory};
use scene::{Comparison, Foreign, Scene};
use wire::Seen;

/// Packets of one gateway, so few that no connection expires in between.
const PACKETS_A_ROUND: usize = 250;
/// Packets of a ruleset unless told otherwise: some seconds.
const PACKETS: usize = 1500;

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

#[derive(Default)]
struct Tally(BTreeMap<(&'static str, Family), usize>);

impl Tally {
    fn count(&mut self, packet: &Packet, comparison: &Comparison) {
        let what = match &comparison.trace.outcome {
            Outcome::Left { .. } => "forwarded",
            Outcome::Delivered { .. } => "delivered",
            Outcome::Dropped { .. } if comparison.linux.is_empty() => "silent",
            Outcome::Dropped { .. } => "answered",
        };
        *self.0.entry((what, packet.family())).or_default() += 1;
    }

    fn told(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, ((what, family), number)| {
            let _ = write!(text, ", {number} {what} ({family})");
            text
        })
    }
}

/// What led to a disagreement, to be read from above.
struct Story<'a> {
    objects: &'a [ClusterObject],
    foreign: &'a [Foreign],
    lines: Vec<String>,
}

impl Story<'_> {
    fn told(&self) -> String {
        let mut text = String::new();
        for object in self.objects {
            let _ = writeln!(text, "  {object:?}");
        }
        for rule in self.foreign {
            let _ = writeln!(text, "  of others: {rule:?}");
        }
        let begin = self.lines.len().saturating_sub(40);
        for line in &self.lines[begin..] {
            let _ = writeln!(text, "  {line}");
        }
        text
    }
}

fn told(seen: &[Seen]) -> String {
    let mut text = String::from(if seen.is_empty() { "nothing leaves" } else { "" });
    for Seen { interface, next_hop, packet } in seen {
        let to = next_hop.map_or("an unknown station".to_owned(), |hop| hop.to_string());
        let _ = write!(text, "\n  leaves by {interface} to {to}: {packet} ttl {}", packet.ttl);
    }
    text
}

/// Whatever the gateway holds and whatever comes in, both kernels do the same with it.
fn every_packet_meets_the_same_fate(ruleset: Ruleset) {
    wire::stay_on_one_processor(usize::from(ruleset == Ruleset::IptablesLegacy));
    let (wanted, seed) = (number("PACKETS", PACKETS as u64), number("PARITY_SEED", 1));
    let mut scene = Scene::build(ruleset);
    let (mut carried, mut rounds, mut tally) = (0, 0, Tally::default());
    let mut explanations = 0;
    while carried < wanted {
        let mut dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(rounds));
        let (config, objects) = (packets::config(&mut dice), packets::cluster(&mut dice));
        let foreign = packets::foreign(&mut dice);
        scene.begin(&config, &objects, &foreign);
        rounds += 1;
        let (mut memory, mut begun) = (Memory::default(), Begun::default());
        let mut story = Story { objects: &objects, foreign: &foreign, lines: Vec::new() };
        for _ in 0..PACKETS_A_ROUND {
            if dice.one_in(60) {
                let change = packets::change(&mut dice);
                story.lines.push(format!("change: {change:?}"));
                scene.change(&change);
            }
            let (interface, packet) = packets::packet(&mut dice, &memory);
            let found = scene.exchange(interface, &packet);
            story.lines.push(format!("{interface}: {packet} ttl {}", packet.ttl));
            assert!(
                found.agree,
                "{ruleset:?}, round {rounds} of PARITY_SEED={seed}, {config:?}\n{}\nLinux: {}\nsimulated:\n{}",
                story.told(),
                told(&found.linux),
                found.trace
            );
            let asked = begun.question(interface, &packet, &found.trace);
            if let Some(question) = asked {
                explanations += 1;
                if let Some(told) = wrong_explanation(scene.explained(), &question, &found.linux) {
                    panic!(
                        "{ruleset:?}, round {rounds} of PARITY_SEED={seed}, {config:?}\n{}\nLinux: {}\nexplained: {told:#?}\nsimulated:\n{}",
                        story.told(),
                        self::told(&found.linux),
                        found.trace
                    );
                }
            }
            tally.count(&packet, &found);
            memory.keep(interface, packet, &found.linux);
            carried += 1;
            if found.unseen_choice {
                break;
            }
        }
    }
    println!(
        "parity {ruleset:?}: {carried} packets in {rounds} rounds agree{}; {explanations} explained as they went",
        tally.told()
    );
}

// P1, P2, P4, T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12, T13: the same on both kernels.
#[test]
fn nftables() {
    if smartnat::lab::available() {
        every_packet_meets_the_same_fate(Ruleset::Nftables);
    }
}

// P1, P2, P4, T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12, T13: the same on both kernels.
#[test]
fn nft() {
    if smartnat::lab::available() {
        every_packet_meets_the_same_fate(Ruleset::IptablesNft);
    }
}

// P1, P2, P4, T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11, T12, T13: the same on both kernels.
#[test]
fn legacy() {
    if smartnat::lab::available() {
        every_packet_meets_the_same_fate(Ruleset::IptablesLegacy);
    }
}
