//! What is written is read back, and nft can read it too.

use super::common::in_namespace;
use super::{apply, followed, listing, observe, open, sample};

#[test]
fn what_is_written_is_read_back_and_listed_by_nft() {
    in_namespace(|| {
        let mut client = open();
        assert_eq!(client.observe().expect("observed"), None);
        let ops = sample::everything();
        apply(&mut client, &ops);
        let (observed, expected) = (observe(&mut client), followed(&ops));
        for (name, set) in &expected.sets {
            assert_eq!(observed.sets.get(name), Some(set), "set {name}");
        }
        for (name, chain) in &expected.chains {
            assert_eq!(observed.chains.get(name), Some(chain), "chain {name}");
        }
        assert_eq!(observed, expected);
        println!("{}", listing());
    });
}
