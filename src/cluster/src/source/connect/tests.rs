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
    let syntax: Is = |e| matches!(e, ConnectError::Syntax { at: Some(_), .. });
    let invalid: Is = |e| matches!(e, ConnectError::Invalid { .. });
    let certificates: Is = |e| matches!(e, ConnectError::Certificates { .. });
    for (text, is) in [
        (None, unreadable),
        (Some("[".to_owned()), syntax),
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

const SECRET: &str = "S3CR3T-of-this-test";

/// A kubeconfig whose user is so.
fn with_user(user: &str) -> String {
    kubeconfig("insecure-skip-tls-verify: true").replace("{token: t}", user)
}

async fn outcome(text: &str) -> Result<(), ConnectError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, text).unwrap();
    connect(Some(&path)).await.map(drop)
}

/// An exec entry of a command of this text.
fn command(script: &str) -> String {
    format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, \
         args: ['-c', '{script}', '{SECRET}'], env: [{{name: A, value: {SECRET}}}]}}}}"
    )
}

#[tokio::test]
async fn no_error_tells_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, format!("{SECRET}\n")).unwrap();
    let key = format!("-----BEGIN RSA PRIVATE KEY-----{SECRET}");
    let key_data = data_encoding::BASE64.encode(key.as_bytes());
    for (text, part) in [
        (with_user(&format!("{{token: {SECRET}")), "line "),
        (with_user(&format!("{{token: [{SECRET}]}}")), "line "),
        (format!("users:\n- name: u\n  user:\n    token: {SECRET}\n   client-key: x\n"), "line "),
        (with_user(&format!("{{token: \"a\\n{SECRET}\"}}")), "token"),
        (with_user(&format!("{{tokenFile: '{}'}}", token_file.display())), "tokenFile"),
        (
            with_user(&format!("{{client-certificate-data: '', client-key-data: '%{SECRET}'}}")),
            "check",
        ),
        (with_user(&format!("{{client-certificate-data: '', client-key: \"{key}\\n\"}}")), "check"),
        (
            with_user(&format!("{{client-certificate-data: '', client-key-data: {key_data}}}")),
            "check",
        ),
        (
            with_user(&command(&format!("echo {SECRET}; echo {SECRET} >&2; exit 3"))),
            "exit status: 3",
        ),
        (with_user(&command(&format!("echo \"[{SECRET}\""))), "the command sh"),
        (
            with_user(&command(&format!(
                r#"echo "{{\"status\": {{\"token\": \"{SECRET}\", \"expirationTimestamp\": \"{SECRET}\"}}}}""#
            ))),
            "expire",
        ),
        (kubeconfig(&format!("proxy-url: 'http://user:{SECRET}@proxy:3128'")), "proxy-url"),
    ] {
        let Err(error) = outcome(&text).await else { panic!("taken: {text}") };
        let (said, debug) = (error.to_string(), format!("{error:?}"));
        assert!(said.contains(part), "{part:?} is not in: {said}");
        assert!(!said.contains(SECRET), "{said}");
        assert!(!debug.contains(SECRET), "{debug}");
        let mut causes = std::error::Error::source(&error);
        while let Some(cause) = causes {
            assert!(!format!("{cause} {cause:?}").contains(SECRET), "{cause:?}");
            causes = cause.source();
        }
    }
}

#[tokio::test]
async fn a_line_break_around_a_token_does_not_count() {
    for user in ["{token: \"\\n  abc \\n\"}", "\n    token: |\n      abc\n", "{token: ''}"] {
        let text = format!(
            "apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:1'}}}}]
users:
- name: u
  user: {user}
"
        );
        assert!(outcome(&text).await.is_ok(), "{text}");
    }
}
