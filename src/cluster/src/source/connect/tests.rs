use std::fs;

use super::*;

fn surroundings(home: &Path) -> Surroundings {
    Surroundings { home: Some(home.to_owned()), ..Surroundings::default() }
}

fn kubeconfig(cluster: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u, namespace: gateways}}}}]
users: [{{name: u, user: {{token: t}}}}]
clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:6443', {cluster}}}}}]
"
    )
}

#[test]
fn the_nearest_place_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let default = home.path().join(".kube/config");
    fs::create_dir_all(default.parent().unwrap()).unwrap();
    fs::write(&default, kubeconfig("")).unwrap();
    let mut surroundings = surroundings(home.path());
    assert_eq!(locate(None, &surroundings).unwrap(), Place::Files(vec![default]));
    surroundings.in_cluster = true;
    assert_eq!(locate(None, &surroundings).unwrap(), Place::InCluster);
    surroundings.kubeconfig = Some("/a::/b".into());
    let both = vec![PathBuf::from("/a"), PathBuf::from("/b")];
    assert_eq!(locate(None, &surroundings).unwrap(), Place::Files(both));
    let explicit = Path::new("/c");
    let found = locate(Some(explicit), &surroundings).unwrap();
    assert_eq!(found, Place::Files(vec![explicit.to_owned()]));
}

#[test]
fn without_a_kubeconfig_the_error_says_where_it_was_looked_for() {
    let home = tempfile::tempdir().unwrap();
    let error = locate(None, &surroundings(home.path())).unwrap_err().to_string();
    for part in ["KUBECONFIG", "service account", ".kube/config"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[tokio::test]
async fn the_namespace_of_the_context_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, kubeconfig("insecure-skip-tls-verify: true")).unwrap();
    let (_, namespace) = connect(Some(&path)).await.unwrap();
    assert_eq!(namespace, DefaultNamespace("gateways".to_owned()));
}

type Is = fn(&ConnectError) -> bool;

#[tokio::test]
async fn a_broken_kubeconfig_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let missing = folder.path().join("missing.pem");
    let not_pem = folder.path().join("ca.pem");
    fs::write(&not_pem, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    let not_der = folder.path().join("other.pem");
    fs::write(&not_der, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();

    let unreadable: Is = |e| matches!(e, ConnectError::Unreadable { .. });
    let invalid: Is = |e| matches!(e, ConnectError::Invalid { .. });
    let certificates: Is = |e| matches!(e, ConnectError::Certificates { .. });
    for (text, is) in [
        (None, unreadable),
        (Some("[".to_owned()), invalid),
        (Some(kubeconfig("").replace("current-context: c", "current-context: d")), invalid),
        (Some(kubeconfig("certificate-authority-data: '%'")), certificates),
        (Some(kubeconfig(&format!("certificate-authority: {}", missing.display()))), certificates),
        (Some(kubeconfig(&format!("certificate-authority: {}", not_pem.display()))), certificates),
        (Some(kubeconfig(&format!("certificate-authority: {}", not_der.display()))), certificates),
    ] {
        let _ = fs::remove_file(&path);
        if let Some(text) = &text {
            fs::write(&path, text).unwrap();
        }
        let error = connect(Some(&path)).await.map(drop).unwrap_err();
        assert!(is(&error), "{text:?}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(message.contains("check"), "{message}");
    }
}
