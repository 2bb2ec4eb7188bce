//! Listings of a table that changes meanwhile.

use smartnat_core::objects::nft::{
    NftData, NftElement, NftKey, NftName, NftTable, NftType, NftValue, NftVerdict,
};
use smartnat_core::ops::{NftOp, OpErrorClass};

use super::common::in_namespace;
use super::sample::{add, create, delete, exact};
use super::{apply, followed, observe, open};

/// So many elements take the kernel several messages to list.
const MANY: u32 = 5_000;
/// So many changes hit some listing in the middle.
const CHANGES: usize = 20;

fn key(number: u32) -> NftKey {
    NftKey::exact((0x0a00_0000 + number).to_be_bytes())
}

/// Every element with this verdict, in place of the other one.
fn all(verdict: &NftVerdict) -> Vec<NftOp> {
    let value = || NftValue::Verdict(verdict.clone());
    let deletes = (0..MANY).map(|number| delete("verdicts", key(number)));
    deletes.chain((0..MANY).map(|number| add("verdicts", key(number), value()))).collect()
}

#[test]
fn what_is_read_while_it_changes_is_of_its_states_or_an_error_to_try_again_after() {
    in_namespace(|| {
        let [drops, accepts] = [NftVerdict::Drop, NftVerdict::Accept].map(|v| all(&v));
        let begin =
            [NftOp::CreateTable, create("verdicts", exact(&[NftType::Ipv4], NftData::Verdict))];
        let first = [&begin[..], &drops[MANY as usize..]].concat();
        let (mut reader, mut writer) = (open(), open());
        apply(&mut writer, &first);
        let states: [NftTable; 2] =
            [&drops, &accepts].map(|ops| followed(&[&begin[..], &ops[..]].concat()));
        let quiet = {
            let before = reader.bytes();
            assert_eq!(observe(&mut reader), states[0]);
            reader.bytes() - before
        };
        let mut begun_anew = 0;
        std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                for _ in 0..CHANGES {
                    apply(&mut writer, &accepts);
                    apply(&mut writer, &drops);
                }
            });
            while !changes.is_finished() {
                let before = reader.bytes();
                match reader.observe() {
                    Ok(table) => {
                        let table = table.expect("it is there all the time");
                        assert!(elements(&table).all(|e| states.iter().any(|s| has(s, e))));
                    }
                    Err(error) => assert_eq!(error.class, OpErrorClass::Transient, "{error}"),
                }
                begun_anew += usize::from(reader.bytes() - before > quiet);
            }
        });
        assert!(begun_anew > 0, "nothing was interrupted");
        assert_eq!(observe(&mut reader), states[0], "the client is none the worse for it");
    });
}

type Element<'a> = (&'a NftName, &'a NftKey, &'a NftElement);

fn elements(table: &NftTable) -> impl Iterator<Item = Element<'_>> {
    table.sets.iter().flat_map(|(name, set)| set.elements.iter().map(move |(k, e)| (name, k, e)))
}

fn has(table: &NftTable, (set, key, element): Element<'_>) -> bool {
    table.sets.get(set).and_then(|set| set.elements.get(key)) == Some(element)
}
