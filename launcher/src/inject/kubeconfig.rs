//! Injection by a kubeconfig: its user is a command that asks for the credential each time
//! (`client.authentication.k8s.io/v1`). The file itself opens nothing.

use mcp_broker_proto::launch::Injection;
use serde_json::json;

use super::{Building, Injector, command};
use crate::desk::Form;
use crate::failure::{CONFIG, Failure};

/// Writes the file and sets a variable to its path.
pub(super) struct Kubeconfig;

/// What cluster, user and context are called.
const NAME: &str = "mcp-run";

impl Injector for Kubeconfig {
    fn takes(&self, injection: &Injection) -> bool {
        matches!(injection, Injection::Kubeconfig { .. })
    }

    fn inject(&self, injection: &Injection, mut into: Building<'_>) -> Result<(), Failure> {
        let Injection::Kubeconfig { name, credential, server, authority, namespace } = injection else {
            return Ok(());
        };
        let (desk, dir) = into.desk_and_dir()?;
        let capability = desk.counter(dir, credential, Form::Kubernetes)?;
        let capability = text(into.write(&format!("{name}.capability"), &capability)?)?;
        let command = text(command::own()?.into_os_string().into_encoded_bytes().into())?;
        let mut cluster = json!({ "server": server });
        if let Some(authority) = authority {
            let path = text(into.write(&format!("{name}.authority"), authority.as_bytes())?)?;
            set(&mut cluster, "certificate-authority", path);
        }
        let mut context = json!({ "cluster": NAME, "user": NAME });
        if let Some(namespace) = namespace {
            set(&mut context, "namespace", namespace.clone());
        }
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": command,
            "args": ["credential", "kubernetes", "--from", capability], "provideClusterInfo": false,
        });
        // JSON is YAML, and needs no quoting of our own.
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": NAME,
            "clusters": [{ "name": NAME, "cluster": cluster }],
            "users": [{ "name": NAME, "user": { "exec": exec } }],
            "contexts": [{ "name": NAME, "context": context }],
        });
        let path = into.write(name, file.to_string().as_bytes())?;
        into.set(name, path);
        Ok(())
    }
}

fn set(object: &mut serde_json::Value, key: &str, value: String) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value.into());
    }
}

fn text(path: zeroize::Zeroizing<Vec<u8>>) -> Result<String, Failure> {
    String::from_utf8(path.to_vec()).map_err(|_not_text| {
        let what = "a path that a kubeconfig has to name is not UTF-8";
        Failure::new(
            CONFIG,
            what,
            "set XDG_RUNTIME_DIR to another directory, and install mcp-run at another place",
        )
    })
}
