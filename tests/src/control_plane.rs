//! A real API server: a test's own, or one that is there already.

#[path = "../../src/cluster/tests/apiserver/steady.rs"]
mod steady;

use std::env;
use std::fs;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
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

/// Only one test at a time may use a cluster that is there already: they claim the same addresses.
static SHARED: Mutex<()> = Mutex::new(());

/// An API server. One of the test's own is stopped when dropped; from any other, what the test
/// made is removed.
pub struct ControlPlane {
    origin: Origin,
    kubeconfig: PathBuf,
    client: Client,
    made: Mutex<Vec<Value>>,
    runtime: Runtime,
}

enum Origin {
    /// Started for this test.
    Own { directory: TempDir, assets: PathBuf },
    /// `SMARTNAT_TEST_KUBECONFIG`.
    Shared { _turn: MutexGuard<'static, ()> },
}

impl ControlPlane {
    /// The cluster of `SMARTNAT_TEST_KUBECONFIG`, or a new server of `KUBEBUILDER_ASSETS` or of
    /// `shared/envtest/bin` beside the repository, with the definition of the Mapping and a
    /// namespace for Leases. `None`, and a word about it, without; with
    /// `SMARTNAT_REQUIRE_APISERVER=1` that is a failure.
    pub fn start() -> Option<Self> {
        if let Some(kubeconfig) = env::var_os("SMARTNAT_TEST_KUBECONFIG") {
            let turn = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            return Some(Self::connect(Origin::Shared { _turn: turn }, kubeconfig.into()));
        }
        Self::start_own()
    }

    /// A new server in any case, for tests that stop it or need a second one.
    pub fn start_own() -> Option<Self> {
        let Some(assets) = assets() else {
            let required = env::var_os("SMARTNAT_REQUIRE_APISERVER").is_some_and(|v| v == "1");
            assert!(!required, "SMARTNAT_REQUIRE_APISERVER=1, but KUBEBUILDER_ASSETS is not set");
            eprintln!("skipped: no API server of its own (KUBEBUILDER_ASSETS)");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let kubeconfig = up(&assets, directory.path());
        Some(Self::connect(Origin::Own { directory, assets }, kubeconfig))
    }

    fn connect(origin: Origin, kubeconfig: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(async {
            let read = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await.expect("a config");
            steady::steady(Client::try_from(config).expect("a client"))
        });
        let made = Mutex::default();
        let plane = Self { origin, kubeconfig, client, made, runtime };
        plane.install();
        plane
    }

    fn install(&self) {
        let text = smartnat_cluster::api::crd_yaml().expect("the definition");
        self.apply(&serde_yaml_ng::from_str(&text).expect("YAML"));
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
        }));
        let mappings = Api::<smartnat_cluster::api::Mapping>::all(self.client.clone());
        let listed = wait_until(PATIENCE, || self.wait(mappings.list(&ListParams::default())).ok());
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

    /// Name or address of the server, and its port.
    fn authority(&self) -> String {
        let config = Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        let server = config.clusters[0].cluster.as_ref().and_then(|c| c.server.clone());
        let server = server.expect("an address");
        let authority = server.strip_prefix("https://").expect("a server with a certificate");
        authority.split('/').next().unwrap_or(authority).to_owned()
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        let addresses = self.authority().to_socket_addrs().expect("a name that resolves");
        addresses.into_iter().next().expect("an address")
    }

    /// A copy of the kubeconfig for whoever reaches the server at another address.
    pub fn kubeconfig_for(&self, server: SocketAddr, to: &Path) {
        let text = fs::read_to_string(&self.kubeconfig).expect("a kubeconfig");
        let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = json!(format!("https://{server}"));
        let authority = self.authority();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        cluster["tls-server-name"] = json!(host);
        fs::write(to, serde_json::to_vec(&config).expect("JSON")).expect("written");
    }

    /// Server-side apply of any object.
    pub fn apply(&self, object: &Value) -> DynamicObject {
        let (api, name) = self.api_of(object);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(json!({
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "metadata": { "name": name, "namespace": object["metadata"]["namespace"] },
        }));
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

    /// Writes a status as whoever does not know of server-side apply.
    pub fn merge_status(&self, object: &Value, status: &Value) {
        let (api, name) = self.api_of(object);
        let params =
            PatchParams { field_manager: Some("manager".into()), ..PatchParams::default() };
        let body = Patch::Merge(json!({ "status": status }));
        self.wait(api.patch_status(&name, &params, &body)).expect("the status is written");
    }

    /// A token of a service account.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let request = TokenRequest::default();
        let answer = self.wait(api.create_token_request(account, &PostParams::default(), &request));
        answer.expect("a token").status.expect("it was issued").token
    }

    /// Kills the server, which must be the test's own; its data stays.
    pub fn stop_server(&self) {
        let Origin::Own { directory, .. } = &self.origin else { panic!("not ours to stop") };
        let text = fs::read_to_string(directory.path().join("kube-apiserver.pid"));
        let id = text.expect("the server runs").trim().parse().expect("a process id");
        let id = Pid::from_raw(id);
        kill(id, Signal::SIGKILL).expect("the server is ours");
        let gone = wait_until(PATIENCE, || kill(id, None).is_err().then_some(()));
        assert!(gone.is_some(), "SIGKILL ends everything");
    }

    /// Starts it again, at the same address.
    pub fn start_server(&self) {
        let Origin::Own { directory, assets } = &self.origin else { panic!("not ours to start") };
        up(assets, directory.path());
    }

    /// Removes what a test made on a server that stays, Mappings without waiting for a gateway.
    fn remove_what_was_made(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let kept = ["CustomResourceDefinition", "Namespace"];
        for object in made.iter().rev().filter(|o| !kept.iter().any(|kind| o["kind"] == *kind)) {
            let (api, name) = self.api_of(object);
            // What is gone already is as good.
            let _ = self.wait(api.delete(&name, &DeleteParams::default()));
            let free = json!({ "metadata": { "finalizers": null } });
            let _ = self.wait(api.patch(&name, &PatchParams::default(), &Patch::Merge(free)));
        }
        let leases = Api::<Lease>::namespaced(self.client.clone(), NAMESPACE);
        let _ =
            self.wait(leases.delete_collection(&DeleteParams::default(), &ListParams::default()));
    }
}

/// Namespace of the Leases in tests.
pub const NAMESPACE: &str = "smartnat-system";

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let Origin::Own { assets, .. } = &self.origin else {
            self.remove_what_was_made();
            return;
        };
        let down = Command::new(assets.join("envtest-down")).arg(&self.kubeconfig).status();
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
