//! A real API server of a test's own.

use std::env;
use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use smartnat::lab::wait_until;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longest wait for the server to start or end.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// An API server with its data; stopped when dropped.
pub struct ControlPlane {
    directory: TempDir,
    assets: PathBuf,
    kubeconfig: PathBuf,
    client: Client,
    runtime: Runtime,
}

impl ControlPlane {
    /// A new server of `KUBEBUILDER_ASSETS`, or of `shared/envtest/bin` beside the repository,
    /// with the definition of the Mapping and a namespace for Leases. `None`, and a word about
    /// it, without; with `SMARTNAT_REQUIRE_APISERVER=1` that is a failure.
    pub fn start() -> Option<Self> {
        let Some(assets) = assets() else {
            let required = env::var_os("SMARTNAT_REQUIRE_APISERVER").is_some_and(|v| v == "1");
            assert!(!required, "SMARTNAT_REQUIRE_APISERVER=1, but KUBEBUILDER_ASSETS is not set");
            eprintln!("skipped: no API server (KUBEBUILDER_ASSETS)");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let kubeconfig = up(&assets, directory.path());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(async {
            let read = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await.expect("a config");
            Client::try_from(config).expect("a client")
        });
        let plane = Self { directory, assets, kubeconfig, client, runtime };
        plane.install();
        Some(plane)
    }

    fn install(&self) {
        let text = smartnat_cluster::api::crd_yaml().expect("the definition");
        self.apply(&serde_yaml_ng::from_str(&text).expect("YAML"));
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
        }));
        let mappings = Api::<smartnat_cluster::api::Mapping>::all(self.client.clone());
        let listed = wait_until(PATIENCE, || {
            self.wait(mappings.list(&kube::api::ListParams::default())).ok()
        });
        assert!(listed.is_some(), "the definition is not established");
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs something to its end.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        let config = Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        let server = config.clusters[0].cluster.as_ref().and_then(|c| c.server.clone());
        let server = server.expect("an address");
        let port = server.rsplit(':').next().and_then(|port| port.parse().ok());
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("a port")))
    }

    /// A copy of the kubeconfig for whoever reaches the server at another address.
    pub fn kubeconfig_for(&self, server: SocketAddr, to: &Path) {
        let text = fs::read_to_string(&self.kubeconfig).expect("a kubeconfig");
        let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = json!(format!("https://{server}"));
        cluster["tls-server-name"] = json!("localhost");
        fs::write(to, serde_json::to_vec(&config).expect("JSON")).expect("written");
    }

    /// Server-side apply of any object.
    pub fn apply(&self, object: &Value) -> DynamicObject {
        let (api, name) = self.api_of(object);
        let params = PatchParams::apply("smartnat-test").force();
        let applied = wait_until(PATIENCE, || {
            self.wait(api.patch(&name, &params, &Patch::Apply(object))).ok()
        });
        applied.unwrap_or_else(|| {
            let error = self.wait(api.patch(&name, &params, &Patch::Apply(object))).err();
            panic!("{object} is not accepted: {error:?}")
        })
    }

    /// The API of an object's kind in its namespace, and its name.
    pub fn api_of(&self, object: &Value) -> (Api<DynamicObject>, String) {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let version = text(&object["apiVersion"]);
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let kind = text(&object["kind"]);
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let client = self.client.clone();
        let api = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        (api, text(&object["metadata"]["name"]))
    }

    /// A token of a service account.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let request = TokenRequest::default();
        let answer = self.wait(api.create_token_request(account, &PostParams::default(), &request));
        answer.expect("a token").status.expect("it was issued").token
    }

    /// Kills the server; its data stays.
    pub fn stop_server(&self) {
        let file = self.directory.path().join("kube-apiserver.pid");
        let text = fs::read_to_string(&file).expect("the server runs");
        let id = Pid::from_raw(text.trim().parse().expect("a process id"));
        kill(id, Signal::SIGKILL).expect("the server is ours");
        let gone = wait_until(PATIENCE, || kill(id, None).is_err().then_some(()));
        assert!(gone.is_some(), "SIGKILL ends everything");
    }

    /// Starts it again, at the same address.
    pub fn start_server(&self) {
        up(&self.assets, self.directory.path());
    }
}

/// Namespace of the Leases in tests.
pub const NAMESPACE: &str = "smartnat-system";

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let down = Command::new(self.assets.join("envtest-down")).arg(&self.kubeconfig).status();
        if !down.is_ok_and(|status| status.success()) {
            eprintln!("the API server of {} may still run", self.kubeconfig.display());
        }
    }
}

fn assets() -> Option<PathBuf> {
    let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/envtest/bin");
    given.into_iter().chain([beside]).find(|place| place.join("envtest-up").is_file())
}

fn up(assets: &Path, directory: &Path) -> PathBuf {
    let output = Command::new(assets.join("envtest-up")).arg("-d").arg(directory).output();
    let output = output.expect("envtest-up runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().into()
}
