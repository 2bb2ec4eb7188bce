use std::os::unix::fs::PermissionsExt;

use smartnat_core::model::{ObjectKey, ObjectKind};
use tempfile::TempDir;

use super::*;
use crate::store::SourceKind;

/// A Mapping whose Service tells its versions apart.
fn mapping(name: &str, service: &str) -> String {
    format!(
        "---\napiVersion: smartnat.aureacentral.com/v1alpha1\nkind: Mapping\n\
         metadata: {{name: {name}}}\nspec: {{serviceName: \"{service}\"}}\n"
    )
}

/// Mappings that are told, as `name=service`, or `-name` for one that is gone.
fn told(reload: &Reload) -> Vec<String> {
    let tell = |object: &ClusterObject| match object {
        ClusterObject::Mapping(m) => format!("{}={}", m.key.name, m.spec.service_name),
        ClusterObject::Deleted(ObjectKind::Mapping, key) => format!("-{}", key.name),
        other => panic!("{other:?}"),
    };
    reload.changes.iter().map(tell).collect()
}

/// A directory with `files`, and what its first load says.
fn directory(files: &[(&str, &str)]) -> (TempDir, ManifestStore, Reload) {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        write(&dir, name, text);
    }
    let (store, reload) = ManifestStore::load(dir.path()).unwrap();
    (dir, store, reload)
}

fn write(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn adding_changing_and_deleting_files_is_told() {
    let (dir, mut store, first) = directory(&[("a.yaml", &mapping("a", "1"))]);
    assert_eq!(told(&first), ["a=1"]);
    assert_eq!(store.reload(), Reload::default());
    write(&dir, "b.yml", &(mapping("b", "1") + &mapping("c", "1")));
    assert_eq!(told(&store.reload()), ["b=1", "c=1"]);
    write(&dir, "b.yml", &(mapping("b", "2") + &mapping("c", "1")));
    assert_eq!(told(&store.reload()), ["b=2"], "c did not change");
    write(&dir, "b.yml", &mapping("b", "2"));
    assert_eq!(told(&store.reload()), ["-c"]);
    fs::remove_file(dir.path().join("b.yml")).unwrap();
    assert_eq!(told(&store.reload()), ["-b"]);
    assert_eq!(store.cluster_state().mappings.len(), 1);
}

#[test]
fn a_change_within_one_tick_of_the_clock_is_seen() {
    let (dir, mut store, _) = directory(&[("a.yaml", &mapping("a", "0"))]);
    for version in 1..50 {
        // The same size, in the same inode, at the same time as far as the clock can tell.
        write(&dir, "a.yaml", &mapping("a", &(version % 10).to_string()));
        assert_eq!(told(&store.reload()), [format!("a={}", version % 10)]);
    }
}

#[test]
fn replacing_and_renaming_files_is_no_deletion() {
    let (dir, mut store, _) = directory(&[("b.yaml", &mapping("b", "1"))]);
    let at = |name: &str| dir.path().join(name);
    // As editors save: a new file takes the name.
    write(&dir, ".b.yaml.tmp", &mapping("b", "2"));
    fs::rename(at(".b.yaml.tmp"), at("b.yaml")).unwrap();
    assert_eq!(told(&store.reload()), ["b=2"]);
    fs::rename(at("b.yaml"), at("a.yaml")).unwrap();
    assert_eq!(told(&store.reload()), [""; 0]);
    assert_eq!(
        store.sources().map(|s| s.file).collect::<Vec<_>>(),
        [at("a.yaml").to_string_lossy()]
    );
}

#[test]
fn a_broken_file_keeps_its_last_good_objects() {
    let good = mapping("a", "1") + &mapping("b", "1");
    for broken in
        ["", "spec: [", "apiVersion: v1\nki", "apiVersion: v1", "{", "\u{0}", "plain text"]
    {
        let (dir, mut store, _) = directory(&[("m.yaml", &good), ("z.yaml", &mapping("z", "1"))]);
        write(&dir, "m.yaml", broken);
        write(&dir, "z.yaml", &mapping("z", "2"));
        let reload = store.reload();
        assert_eq!(told(&reload), ["z=2"], "{broken:?}");
        assert_eq!(reload.new_problems.len(), 1, "{broken:?}");
        assert!(reload.problems[0].file.ends_with("m.yaml"));

        let again = store.reload();
        assert_eq!((again.problems.len(), again.new_problems.len()), (1, 0), "told once");

        write(&dir, "m.yaml", &mapping("a", "2"));
        let mended = store.reload();
        assert_eq!(told(&mended), ["a=2", "-b"], "{broken:?}");
        assert_eq!(mended.problems, []);
    }
}

#[test]
fn a_truncated_file_keeps_what_was_cut_off() {
    let first = mapping("a", "service-a");
    let good = first.clone() + &mapping("b", "service-b");
    for length in 0..good.len() {
        let (dir, mut store, _) = directory(&[("m.yaml", &good)]);
        write(&dir, "m.yaml", &good[..length]);
        let reload = store.reload();
        // A text that ends with a whole document may as well have been written so.
        let whole = good[..length].trim_end().trim_end_matches("---").trim_end();
        if length == 0 || (!whole.is_empty() && whole != first.trim_end()) {
            assert_eq!(store.cluster_state().mappings.len(), 2, "{length}: {:?}", reload.problems);
        }
    }
}

#[test]
fn a_broken_object_keeps_itself_and_no_other() {
    let three = mapping("a", "1") + &mapping("b", "1") + &mapping("c", "1");
    let (dir, mut store, _) = directory(&[("m.yaml", &three)]);
    // a is broken, b changed, c is gone.
    write(&dir, "m.yaml", &(mapping("a", "1").replace("\"1\"", "[]") + &mapping("b", "2")));
    let reload = store.reload();
    assert_eq!(told(&reload), ["b=2", "-c"]);
    assert_eq!(reload.problems[0].field.as_deref(), Some("spec.serviceName"));
    assert_eq!(reload.problems[0].document, Some(1));
    assert_eq!(store.cluster_state().mappings.len(), 2);
}

#[test]
fn of_two_files_the_first_by_name_counts() {
    let (dir, mut store, first) =
        directory(&[("b.yaml", &mapping("m", "b")), ("c/c.yaml", &mapping("m", "c"))]);
    assert_eq!(told(&first), ["m=b"]);
    assert_eq!(first.problems.len(), 1);
    let problem = &first.problems[0];
    assert!(problem.file.ends_with("c/c.yaml") && problem.message.contains("b.yaml"), "{problem}");

    write(&dir, "a.yaml", &mapping("m", "a"));
    let reload = store.reload();
    assert_eq!(told(&reload), ["m=a"]);
    assert_eq!(reload.problems.len(), 2);

    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    let reload = store.reload();
    assert_eq!((told(&reload), reload.problems), (vec!["m=c".to_owned()], vec![]));
}

#[test]
fn only_manifests_are_read() {
    let text = mapping("m", "1");
    let deep = "sub/".repeat(MAX_DEPTH_TEST);
    let (_dir, store, reload) = directory(&[
        ("m.txt", "spec: ["),
        ("m.yaml~", "spec: ["),
        (".m.yaml.swp", "spec: ["),
        (".hidden.yaml", "spec: ["),
        (".hidden/m.yaml", "spec: ["),
        ("yaml", "spec: ["),
        ("sub/dir/m.YAML", &text),
        (&format!("{deep}m.yaml"), &mapping("deep", "1")),
    ]);
    assert_eq!(told(&reload), ["m=1"]);
    assert_eq!(store.sources().count(), 1);
    assert_eq!(reload.problems.len(), 1);
    assert!(reload.problems[0].message.contains("deeper"), "{}", reload.problems[0]);
}

/// More than are followed.
const MAX_DEPTH_TEST: usize = 9;

#[test]
fn a_mounted_config_map_is_read_once_and_its_update_seen() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for version in ["1", "2"] {
        write(&dir, &format!("..{version}/m.yaml"), &mapping("m", version));
    }
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/m.yaml", at("m.yaml")).unwrap();
    std::os::unix::fs::symlink(".", at("circle")).unwrap();
    let (mut store, first) = ManifestStore::load(dir.path()).unwrap();
    assert_eq!((told(&first), first.problems.len()), (vec!["m=1".to_owned()], 0));
    std::os::unix::fs::symlink("..2", at("..tmp")).unwrap();
    fs::rename(at("..tmp"), at("..data")).unwrap();
    assert_eq!(told(&store.reload()), ["m=2"]);
}

#[test]
fn a_directory_that_is_gone_keeps_everything() {
    let (dir, mut store, _) = directory(&[("d/m.yaml", &mapping("m", "1"))]);
    let path = dir.path().to_owned();
    drop(dir);
    let reload = store.reload();
    assert_eq!(told(&reload), [""; 0]);
    assert!(reload.problems[0].message.contains("stays as it was"));
    assert_eq!(store.cluster_state().mappings.len(), 1);
    // It comes back with something else.
    fs::create_dir(&path).unwrap();
    fs::write(path.join("n.yaml"), mapping("n", "1")).unwrap();
    let reload = store.reload();
    assert_eq!((told(&reload), reload.problems), (vec!["-m".to_owned(), "n=1".to_owned()], vec![]));
    fs::remove_dir_all(&path).unwrap();
}

#[test]
fn what_may_not_be_read_keeps_its_objects() {
    // A link to itself fails for everybody, permissions do not bind root.
    let (dir, mut store, _) = directory(&[("m.yaml", &mapping("m", "1"))]);
    let path = dir.path().join("m.yaml");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("m.yaml", &path).unwrap();
    let reload = store.reload();
    assert_eq!(told(&reload), [""; 0]);
    assert!(reload.problems[0].message.contains("cannot be read"), "{:?}", reload.problems);
    assert_eq!(store.cluster_state().mappings.len(), 1);
}

#[test]
fn permissions_that_come_later_are_noticed() {
    let (dir, mut store, _) = directory(&[]);
    write(&dir, "m.yaml", &mapping("m", "1"));
    let path = dir.path().join("m.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let before = store.reload();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let after = store.reload();
    assert_eq!([told(&before), told(&after)].concat(), ["m=1"]);
    assert_eq!(after.problems, []);
}

#[test]
fn a_file_too_large_is_refused_and_a_missing_directory_too() {
    let (dir, mut store, _) = directory(&[("m.yaml", &mapping("m", "1"))]);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("m.yaml")).unwrap();
    file.set_len(MAX_FILE_BYTES + 1).unwrap();
    let reload = store.reload();
    assert_eq!(told(&reload), [""; 0]);
    assert!(reload.problems[0].message.contains("split it"));
    let error = ManifestStore::load(dir.path().join("missing")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn one_file_and_texts_are_sources_too() {
    let (dir, ..) = directory(&[("m.yaml", &mapping("m", "1")), ("n.yaml", &mapping("n", "1"))]);
    let path = dir.path().join("m.yaml");
    let (mut store, reload) = ManifestStore::load(&path).unwrap();
    assert_eq!(told(&reload), ["m=1"]);
    let places: Vec<_> = store.sources().map(|s| (s.file, s.document, s.line, s.id.kind)).collect();
    assert_eq!(places, [(path.display().to_string(), 1, 2, SourceKind::Mapping)]);
    fs::write(&path, mapping("m", "2")).unwrap();
    assert_eq!(told(&store.reload()), ["m=2"]);

    let text = mapping("m", "1") + &mapping("n", "1");
    let (store, reload) = ManifestStore::from_texts([("embedded.yaml", text.as_str())]);
    assert_eq!(told(&reload), ["m=1", "n=1"]);
    assert!(store.cluster_state().mappings.contains_key(&ObjectKey::new("default", "n")));
    assert_eq!(store.sources().map(|s| (s.file, s.line)).last(), Some(("embedded.yaml".into(), 7)));
}

#[test]
fn a_thousand_files_change_one_at_a_time() {
    let texts: Vec<_> =
        (0..1000).map(|i| (format!("{i}.yaml"), mapping(&format!("m{i}"), "1"))).collect();
    let files: Vec<_> = texts.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let (dir, mut store, first) = directory(&files);
    assert_eq!(first.changes.len(), 1000);
    write(&dir, "500.yaml", &mapping("m500", "2"));
    assert_eq!(told(&store.reload()), ["m500=2"]);
}
