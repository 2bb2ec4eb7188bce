//! This host, or a host as described by a file.

use std::path::Path;

use smartnat_core::model::{Family, HostState};
use smartnat_linux::{Routing, observe_host};

use crate::error::CommandError;

/// A host has some hundred interfaces at most.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Reads this host.
pub fn this_host() -> Result<HostState, CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::Failed(format!("this host's interfaces can't be read: {error}"))
    };
    let mut routing = Routing::open().map_err(|error| failed(&error))?;
    observe_host(&mut routing).map_err(|error| failed(&error))
}

/// Reads a file that `smartnat host` printed, in YAML or JSON.
pub fn from_file(path: &Path) -> Result<HostState, CommandError> {
    let wrong = |error: &dyn std::fmt::Display| {
        CommandError::Usage(format!(
            "--host {}: {error}; make such a file with `smartnat host`",
            path.display()
        ))
    };
    let length = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
    if length > MAX_FILE_BYTES {
        return Err(wrong(&format!("it has {length} bytes, at most {MAX_FILE_BYTES} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let mut host: HostState = serde_yaml_ng::from_str(&text).map_err(|error| wrong(&error))?;
    if host.families.is_empty() {
        // A file written by hand need not say what every kernel has.
        host.families = Family::ALL.to_vec();
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HostState, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("host.yaml");
        std::fs::write(&path, text).expect("written");
        from_file(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn what_host_prints_is_read_back() {
        let host = read(
            "links:\n  eth1:\n    index: 2\n    up: true\n    addresses:\n    \
             - {address: 203.0.113.10/24}\nroutes:\n\
             - {destination: 0.0.0.0/0, gateway: 10.0.0.1, interface: eth0}\n",
        )
        .expect("valid");
        assert_eq!(host.families, Family::ALL);
        assert_eq!(host.links["eth1"].addresses.len(), 1);
        for text in [
            serde_yaml_ng::to_string(&host).expect("YAML"),
            serde_json::to_string(&host).expect("JSON"),
        ] {
            assert_eq!(read(&text), Ok(host.clone()));
        }
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_mend() {
        let error = read("link: {}\n").expect_err("an unknown field");
        assert!(error.contains("unknown field `link`"), "{error}");
        assert!(error.contains("make such a file with `smartnat host`"), "{error}");
        let missing = from_file(Path::new("/no/such.yaml")).expect_err("there is none");
        assert!(missing.to_string().contains("/no/such.yaml"), "{missing}");
    }
}
