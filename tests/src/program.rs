//! Where the program `smartnat` is.
//!
//! Cargo tells its path only to tests of its own package. Here it is looked for in the build
//! directory that the running test is from. `cargo test -p smartnat-tests` does not build it, so that
//! it may be missing or older than its sources; then it is built once, in the same profile.
//! `SMARTNAT_PROGRAM` names another one, such as that of a package.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The program, up to date.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match env::var_os("SMARTNAT_PROGRAM") {
        Some(path) => path.into(),
        None => built(),
    })
}

fn built() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    // <target>/<profile>/deps/<test>
    let profile = test.ancestors().nth(2).expect("a test is in the build directory");
    let program = profile.join("smartnat");
    if !is_up_to_date(&program) {
        build(profile);
    }
    assert!(program.is_file(), "{} was not built", program.display());
    program
}

/// Whether it is newer than all its sources, which Cargo lists beside it as make's rules are written.
fn is_up_to_date(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let Some(made) = modified(program) else { return false };
    let Ok(list) = fs::read_to_string(program.with_extension("d")) else { return false };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let older = |source: &str| modified(Path::new(source)).is_some_and(|m: SystemTime| m <= made);
    !sources.is_empty() && sources.split_ascii_whitespace().all(older)
}

fn build(profile: &Path) {
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(name) => name,
    };
    let target = profile.parent().expect("the profile is in the target directory");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "smartnat", "--bin", "smartnat", "--profile", name])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "smartnat cannot be built: {status}");
}
