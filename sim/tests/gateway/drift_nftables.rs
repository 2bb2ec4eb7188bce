//! What others change in our table of nftables is put back as soon as the kernel tells of it (T17).

use smartnat_core::gateway::EventKind;
use smartnat_core::objects::nft::{
    NFT_TABLE, NftChain, NftData, NftElement, NftExpr, NftKey, NftRule, NftSetSpec, NftTable,
    NftType, NftValue, NftVerdict, fields,
};
use smartnat_core::ops::NftOp;
use smartnat_sim::SimKernel;
use smartnat_sim::kernel::XtFlavour;

use crate::common::*;

fn table(kernel: &SimKernel) -> NftTable {
    held(kernel).nft.expect("it is there")
}

/// The rules of a chain of ours become others.
fn put(kernel: &SimKernel, name: &str, change: impl FnOnce(&mut NftChain)) -> NftOp {
    let mut chain = table(kernel).chains[name].clone();
    change(&mut chain);
    NftOp::PutChain { name: name.into(), chain }
}

fn stray() -> NftRule {
    let expressions = vec![NftExpr::Verdict(NftVerdict::Accept)];
    NftRule { expressions, comment: Some("stray".into()) }
}

fn external(address: &str) -> NftKey {
    NftKey::exact(fields::address(ip(address)))
}

fn add(set: &str, key: NftKey, value: NftValue) -> NftOp {
    NftOp::AddElement { set: set.into(), key, element: NftElement { value, comment: None } }
}

fn delete(set: &str, key: NftKey) -> NftOp {
    NftOp::DeleteElement { set: set.into(), key }
}

type Interference = fn(&SimKernel) -> Vec<NftOp>;

/// Every kind of object, and every way to spoil it.
const INTERFERENCES: &[(&str, Interference)] = &[
    ("a chain is flushed", |k| vec![put(k, "guard", |chain| chain.rules.clear())]),
    ("a base chain is flushed", |k| vec![put(k, "forward", |chain| chain.rules.clear())]),
    ("a rule is deleted", |k| {
        vec![put(k, "leave-uplink", |chain| {
            chain.rules.pop();
        })]
    }),
    ("a rule is added", |k| vec![put(k, "input", |chain| chain.rules.push(stray()))]),
    ("a chain is added", |_| {
        let chain = NftChain { base: None, rules: vec![stray()] };
        vec![NftOp::PutChain { name: "stray".into(), chain }]
    }),
    ("a policy is set", |k| {
        vec![put(k, "input", |chain| {
            if let Some(base) = &mut chain.base {
                base.drops = true;
            }
        })]
    }),
    ("an element is removed", |_| vec![delete("external4", external(EXT1))]),
    ("an element is added", |_| {
        vec![add("external6", external("2001:db8::bad"), NftValue::Nothing)]
    }),
    ("an element has another value", |k| {
        let targets = table(k).sets["targets"].elements.clone();
        let key = targets.into_keys().next().expect("a chain");
        let value = NftValue::Verdict(NftVerdict::Accept);
        vec![delete("targets", key.clone()), add("targets", key, value)]
    }),
    ("a set is added", |_| {
        let spec = NftSetSpec::exact([NftType::Mark], NftData::Nothing);
        vec![NftOp::CreateSet { name: "stray".into(), spec }]
    }),
    ("a chain that an element leads to is added", |_| {
        let chain = NftChain::default();
        let key = NftKey::exact(fields::interface("stray"));
        let verdict = NftValue::Verdict(NftVerdict::Goto("stray".into()));
        vec![NftOp::PutChain { name: "stray".into(), chain }, add("guards", key, verdict)]
    }),
    ("the table is deleted", |_| vec![NftOp::DeleteTable]),
    ("the table is made anew", |_| vec![NftOp::DeleteTable, NftOp::CreateTable]),
];

#[test]
fn every_interference_is_repaired_once_the_kernel_tells_of_it() {
    on_nftables(|| {
        for (what, interference) in INTERFERENCES {
            let mut driver = settled(XtFlavour::Nft);
            let before = held(&driver.kernel);
            let ops = interference(&driver.kernel);
            driver.kernel.foreign_nft(NFT_TABLE, &ops);
            assert_ne!(held(&driver.kernel), before, "{what}");
            driver.kernel_changed();
            assert_eq!(held(&driver.kernel), before, "{what}: {}", report(&driver));
            assert_in_sync(&driver);
            let events = driver.take_events();
            assert_eq!(count(&events, EventKind::DriftRepaired), 1, "{what}: {events:?}");
            driver.kernel.take_log();
            driver.kernel_changed();
            assert!(driver.kernel.log().is_empty(), "{what}: {}", report(&driver));
        }
    });
}

#[test]
fn what_others_have_beside_our_table_is_no_drift() {
    on_nftables(|| {
        let mut driver = settled(XtFlavour::Nft);
        let base = table(&driver.kernel).chains["input"].base;
        let chain = NftChain { base, rules: vec![stray()] };
        let ops = [NftOp::CreateTable, NftOp::PutChain { name: "input".into(), chain }];
        driver.kernel.foreign_nft("others", &ops);
        let foreign = driver.kernel.foreign();
        driver.kernel_changed();
        driver.advance(10_000);
        assert_in_sync(&driver);
        assert!(driver.kernel.log().is_empty(), "{}", report(&driver));
        assert!(driver.events().is_empty(), "{:?}", driver.events());
        driver.clean_up();
        assert_eq!(held(&driver.kernel).nft, None);
        assert_eq!(driver.kernel.foreign(), foreign, "T14");
    });
}
