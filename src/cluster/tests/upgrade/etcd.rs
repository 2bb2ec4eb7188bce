//! Objects as older API servers left them, which none accepts any more: they are put where it keeps them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::Failure;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The store of an API server.
pub(crate) struct Etcd {
    address: String,
}

impl Etcd {
    /// That of the server that a kubeconfig was written for; `None` where it is not the tests' own.
    pub(crate) fn of(kubeconfig: &Path) -> Result<Option<Self>, Failure> {
        match std::fs::read_to_string(kubeconfig.with_file_name("etcd.url")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            url => {
                let address = url?.trim().trim_start_matches("http://").to_owned();
                Ok(Some(Self { address }))
            }
        }
    }

    /// Stores an object.
    pub(crate) fn put(&self, key: &str, object: &Value) -> Result<(), Failure> {
        let (key, value) = (ByteString(key.into()), ByteString(object.to_string().into()));
        let body = json!({ "key": key, "value": value }).to_string();
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "POST /v3/kv/put HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(answer.into()) }
    }
}
