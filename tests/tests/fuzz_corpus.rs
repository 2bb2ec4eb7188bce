//! Replays what fuzzing found worth keeping, on the stable toolchain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The corpus is for replay, not for an archive.
const MAX_CORPUS_BYTES: usize = 200 << 10;

type Target = fn(&[u8]);

fn targets() -> BTreeMap<String, Target> {
    let targets: [(&str, Target); 6] = [
        ("admission", smartnat_sim::fuzz_targets::admission),
        ("diff", smartnat_sim::fuzz_targets::diff),
        ("history", smartnat_sim::fuzz_targets::history),
        ("manifests", smartnat_cluster::fuzz_targets::manifests),
        ("netlink", smartnat_linux::fuzz_targets::netlink),
        ("read_back", smartnat_sim::fuzz_targets::read_back),
    ];
    targets.map(|(name, target)| (name.to_owned(), target)).into()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Files of a folder by name without extension.
fn entries(folder: &Path) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let path = entries.map(|entry| entry.expect("an entry is readable").path());
    path.map(|path| {
        let name = path.file_stem().expect("an entry has a name").to_string_lossy().into_owned();
        (name, path)
    })
    .collect()
}

#[test]
fn every_target_is_fuzzed_and_replayed() {
    let names: Vec<_> = targets().into_keys().collect();
    let fuzzed: Vec<_> = entries(&fuzz().join("fuzz_targets")).into_keys().collect();
    let with_corpus: Vec<_> = entries(&fuzz().join("corpus")).into_keys().collect();
    assert_eq!((fuzzed, with_corpus), (names.clone(), names));
}

#[test]
fn the_corpus_ends_well() {
    let mut bytes = 0;
    for (name, target) in targets() {
        let files = entries(&fuzz().join("corpus").join(&name));
        assert!(!files.is_empty(), "{name} has no corpus");
        for path in files.into_values() {
            let data = fs::read(&path).expect("a corpus file is readable");
            bytes += data.len();
            println!("{}", path.display());
            target(&data);
        }
    }
    assert!(bytes <= MAX_CORPUS_BYTES, "the corpus is too large: {bytes} bytes");
}
