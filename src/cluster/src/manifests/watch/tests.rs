use std::future::Future;

use tempfile::TempDir;

use super::*;

/// Long enough for a loaded machine; a test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened")
}

/// Waits until a look at `path` finds `text`; each look must be asked for by the watcher.
async fn seen(watcher: &mut ManifestWatcher, path: &Path, text: &str) {
    while fs::read_to_string(path).unwrap_or_default() != text {
        soon(watcher.changed()).await;
    }
}

#[test]
fn writes_renames_and_deletions_are_told() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    runtime().block_on(async {
        let mut watcher = ManifestWatcher::start(dir.path()).unwrap();
        fs::write(at("a.yaml"), "1").unwrap();
        soon(watcher.changed()).await;
        fs::write(at("new"), "2").unwrap();
        fs::rename(at("new"), at("a.yaml")).unwrap();
        soon(watcher.changed()).await;
        fs::remove_file(at("a.yaml")).unwrap();
        soon(watcher.changed()).await;
        fs::create_dir(at("sub")).unwrap();
        soon(watcher.changed()).await;
        fs::write(at("sub/b.yaml"), "1").unwrap();
        soon(watcher.changed()).await;
    });
}

#[test]
fn reading_is_no_change_and_many_changes_are_few_words() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.yaml"), "1").unwrap();
    runtime().block_on(async {
        let mut watcher = ManifestWatcher::start(dir.path()).unwrap();
        for i in 0..100 {
            fs::write(dir.path().join("b.yaml"), i.to_string()).unwrap();
        }
        soon(watcher.changed()).await;
        // Whatever is still told of the writes comes within the longest delay.
        while tokio::time::timeout(LONGEST, watcher.changed()).await.is_ok() {}
        fs::read_to_string(dir.path().join("a.yaml")).unwrap();
        fs::read_dir(dir.path()).unwrap().for_each(drop);
        let told = tokio::time::timeout(CHECK + LONGEST, watcher.changed()).await;
        assert!(told.is_err(), "reading was taken for a change");
    });
}

#[test]
fn changes_without_a_pause_are_told_all_the_same() {
    let dir = TempDir::new().unwrap();
    runtime().block_on(async {
        let mut watcher = ManifestWatcher::start(dir.path()).unwrap();
        let path = dir.path().join("busy.yaml");
        let busy = async {
            let mut pulse = interval(QUIET / 5);
            loop {
                pulse.tick().await;
                fs::write(&path, "x").unwrap();
            }
        };
        tokio::select! {
            () = soon(watcher.changed()) => {}
            () = busy => {}
        }
    });
}

#[test]
fn a_directory_that_goes_and_comes_back_is_watched_again() {
    let parent = TempDir::new().unwrap();
    let root = parent.path().join("manifests");
    let file = root.join("a.yaml");
    runtime().block_on(async {
        // It need not even be there at the start.
        let mut watcher = ManifestWatcher::start(&root).unwrap();
        for round in ["1", "2", "3"] {
            fs::create_dir(&root).unwrap();
            fs::write(&file, round).unwrap();
            soon(watcher.changed()).await;
            let later = format!("{round} later");
            fs::write(&file, &later).unwrap();
            seen(&mut watcher, &file, &later).await;
            if round == "2" {
                // Replaced rather than deleted.
                fs::rename(&root, parent.path().join("old")).unwrap();
            } else {
                fs::remove_dir_all(&root).unwrap();
            }
            soon(watcher.changed()).await;
        }
    });
}
