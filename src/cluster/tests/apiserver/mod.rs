//! A real API server for tests, if there is one.

mod steady;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

type Failure = Box<dyn std::error::Error>;

/// An API server, stopped when dropped if this test started it.
pub(crate) struct ApiServer {
    /// The file that says how to reach it with all rights.
    pub(crate) kubeconfig: PathBuf,
    /// The program that stops it.
    down: Option<PathBuf>,
}

impl ApiServer {
    /// The cluster of `SMARTNAT_TEST_KUBECONFIG`, or a new server of `KUBEBUILDER_ASSETS` or of
    /// `../shared/envtest/bin` beside the repository. `None`, and a word about it, without.
    pub(crate) fn find() -> Result<Option<Self>, Failure> {
        if let Some(kubeconfig) = env::var_os("SMARTNAT_TEST_KUBECONFIG") {
            return Ok(Some(Self { kubeconfig: kubeconfig.into(), down: None }));
        }
        let Some(assets) = assets() else {
            if env::var_os("SMARTNAT_REQUIRE_APISERVER").is_some_and(|v| v == "1") {
                return Err("SMARTNAT_REQUIRE_APISERVER=1, but there is no API server: set \
                            KUBEBUILDER_ASSETS or SMARTNAT_TEST_KUBECONFIG"
                    .into());
            }
            eprintln!("skipped: no API server (KUBEBUILDER_ASSETS, SMARTNAT_TEST_KUBECONFIG)");
            return Ok(None);
        };
        let output = Command::new(assets.join("envtest-up")).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let kubeconfig = String::from_utf8(output.stdout)?.trim().into();
        Ok(Some(Self { kubeconfig, down: Some(assets.join("envtest-down")) }))
    }

    /// A client with all rights.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Ok(steady::steady(Client::try_from(read(&self.kubeconfig).await?)?))
    }
}

/// Where programs are that start and stop an API server.
pub(crate) fn assets() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let places = [
        env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from),
        Some(repository.join("../shared/envtest/bin")),
    ];
    places.into_iter().flatten().find(|p| p.join("envtest-up").is_file())
}

/// What a kubeconfig says.
pub(crate) async fn read(kubeconfig: &Path) -> Result<kube::Config, Failure> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(down) = &self.down {
            let stopped = Command::new(down).arg(&self.kubeconfig).status();
            if !stopped.is_ok_and(|status| status.success()) {
                eprintln!("the API server of {} may still run", self.kubeconfig.display());
            }
        }
    }
}
