//! Random rules of nftables, which no lowering makes, and what packets come to among them.

use smartnat_core::ops::{Domain, Kernel as _, NetworkOp, NftOp, Transaction};
use smartnat_linux::NftClient;
use smartnat_sim::walk::{Outcome, Step};
use smartnat_tests::Ruleset;
use smartnat_tests::random_nft::RandomNft;

use crate::packets::{self, Dice, Memory};
use crate::scene::Scene;
use crate::{number, told, wire};

/// Packets of one ruleset.
const PACKETS_A_ROUND: usize = 40;
/// Packets unless told otherwise: some seconds.
const PACKETS: u64 = 1500;
/// Elements of one ruleset.
const ELEMENTS: usize = 60;

/// What the packets of all rounds came to.
#[derive(Default)]
struct Tally {
    carried: u64,
    /// Not modelled.
    refused: u64,
    dropped: u64,
    translated: u64,
    marked: u64,
}

/// A table of random sets, chains and rules, in batches that the kernels take or refuse alike.
fn ruleset(random: &mut RandomNft) -> Vec<Vec<NftOp>> {
    let elements = (0..ELEMENTS).map(|_| vec![random.element()]).collect::<Vec<_>>();
    let chains = random.ruleset().into_iter().map(|op| vec![op]);
    std::iter::once(random.furniture()).chain(elements).chain(chains).collect()
}

/// Commits a batch on both kernels; they take it, or refuse it for the same class of reason.
fn commit(scene: &mut Scene, batch: &[NftOp]) {
    let change = || NftClient::open()?.apply(batch);
    let linux = scene.lab().run("gateway", change).expect("the gateway's namespace");
    let ops = batch.iter().cloned().map(NetworkOp::Nft).collect();
    let simulated = scene.kernel().apply(&Transaction { domain: Domain::Nftables, ops });
    let class = |outcome: &Result<(), smartnat_core::ops::OpError>| {
        outcome.as_ref().copied().map_err(|error| error.class)
    };
    assert_eq!(class(&simulated), class(&linux), "{batch:?}: {simulated:?} {linux:?}");
}

fn count(tally: &mut Tally, trace: &smartnat_sim::walk::Trace) {
    use smartnat_sim::walk::NftAction::{ConnectionMarked, Marked, Masqueraded, Translated};
    tally.carried += 1;
    tally.dropped += u64::from(matches!(trace.outcome, Outcome::Dropped { .. }));
    let actions = trace.steps.iter().filter_map(|step| match step {
        Step::NftRule { actions, .. } => Some(actions),
        _ => None,
    });
    for action in actions.flatten() {
        match action {
            Translated { .. } | Masqueraded => tally.translated += 1,
            Marked(_) | ConnectionMarked(_) => tally.marked += 1,
            _ => {}
        }
    }
}

/// Whatever rules there are, both kernels do the same with a packet.
#[test]
fn among_any_rules_of_nftables() {
    if !smartnat::lab::available() {
        return;
    }
    wire::stay_on_one_processor(1);
    let (wanted, seed) = (number("PACKETS", PACKETS), number("PARITY_SEED", 1));
    let mut scene = Scene::build(Ruleset::Nftables);
    scene.without_gateway();
    let (mut tally, mut rounds) = (Tally::default(), 0);
    while tally.carried < wanted {
        let chance = seed.wrapping_mul(1_000_033).wrapping_add(rounds);
        rounds += 1;
        scene.forget();
        let (mut random, mut dice) = (RandomNft::tame(chance), Dice::new(chance));
        for batch in ruleset(&mut random) {
            commit(&mut scene, &batch);
        }
        let (mut memory, mut story) = (Memory::default(), Vec::new());
        for _ in 0..PACKETS_A_ROUND {
            let (interface, packet) = packets::packet(&mut dice, &memory);
            let Some(found) = scene.exchange_modelled(interface, &packet) else {
                tally.refused += 1;
                continue;
            };
            story.push(format!("{interface}: {packet} ttl {}", packet.ttl));
            assert!(
                found.agree,
                "round {rounds} of PARITY_SEED={seed}\n{}\n{}\nLinux: {}\nsimulated:\n{}",
                scene.table_text(),
                story.join("\n"),
                told(&found.linux),
                found.trace
            );
            count(&mut tally, &found.trace);
            memory.keep(interface, packet, &found.linux);
            if found.unseen_choice {
                break;
            }
        }
    }
    let Tally { carried, refused, dropped, translated, marked } = tally;
    println!(
        "parity of rules: {carried} packets among {rounds} rulesets agree, {dropped} dropped, \
         {translated} translations, {marked} marks; {refused} not modelled"
    );
    assert!(refused < carried, "too little is modelled: {refused} of {carried} packets are not");
    assert!(dropped > 0 && translated > 0 && marked > 0, "the rules do too little");
}
