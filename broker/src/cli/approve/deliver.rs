//! The ways in which the credentials of a trial reach a child. A trial is short and its child alone with them, so what
//! a launch would hand out again and again is handed over as it is.

use std::collections::BTreeMap;

use mcp_broker_proto::Secret;
use mcp_broker_proto::launch::Injection;
use mcp_broker_proto::names::Label;
use zeroize::Zeroizing;

use super::place::Room;

/// The environment of a child.
pub(super) type Environment = BTreeMap<String, Zeroizing<Vec<u8>>>;
type Fields = BTreeMap<String, Secret>;

/// Hands over what one injection says.
///
/// # Errors
/// Where it does not fit the credentials, or a file cannot be written.
pub(super) fn deliver(
    injection: &Injection,
    credentials: &BTreeMap<Label, Fields>,
    environment: &mut Environment,
    room: &Room,
) -> Result<(), String> {
    let fields =
        |name: &Label| credentials.get(name).ok_or_else(|| format!("there is no credential `{name}`"));
    match injection {
        Injection::Env { name, value } => {
            let value = value.render(credentials).map_err(|error| error.to_string())?;
            set(environment, name, &value);
        }
        Injection::File { name, content, .. } => {
            let content = content.render(credentials).map_err(|error| error.to_string())?;
            file(environment, room, name, &content)?;
        }
        Injection::Fd { name, value } => {
            let content = value.render(credentials).map_err(|error| error.to_string())?;
            file(environment, room, name, &content)?;
        }
        Injection::Aws { credential, .. } => aws(fields(credential)?, environment)?,
        Injection::Kubeconfig { name, credential, server, authority, namespace } => {
            let user = kubernetes_user(fields(credential)?)?;
            let config = kubeconfig(server, authority.as_deref(), namespace.as_deref(), &user)?;
            file(environment, room, name, &config)?;
        }
    }
    Ok(())
}

fn set(environment: &mut Environment, name: &str, value: &Secret) {
    // EXPOSE: the environment of a child of the trial, in a buffer that is wiped.
    let bytes = value.expose(|text| Zeroizing::new(text.as_bytes().to_vec()));
    environment.insert(name.to_owned(), bytes);
}

fn file(environment: &mut Environment, room: &Room, name: &str, content: &Secret) -> Result<(), String> {
    // EXPOSE: a private file of a child of the trial, in memory, removed after it.
    let path = content.expose(|text| room.secret_file(name, text.as_bytes()));
    let path = path.map_err(|error| error.to_string())?;
    environment.insert(name.to_owned(), Zeroizing::new(path.to_string_lossy().into_owned().into_bytes()));
    Ok(())
}

/// The variables that every SDK looks at first (AWS SDKs and Tools Reference Guide, "AWS access keys").
fn aws(fields: &Fields, environment: &mut Environment) -> Result<(), String> {
    for (variable, names) in AWS {
        let value = names.iter().find_map(|name| fields.get(*name));
        match value {
            Some(value) => set(environment, variable, value),
            // Keys that do not end have none.
            None if *variable == "AWS_SESSION_TOKEN" => {}
            None => return Err(format!("the credential has no field `{}`", names.first().unwrap_or(&""))),
        }
    }
    // Nothing but these.
    environment.insert("AWS_EC2_METADATA_DISABLED".to_owned(), Zeroizing::new(b"true".to_vec()));
    Ok(())
}

/// Variable, and the names of its field; the second is what the AWS engine of Vault calls it.
const AWS: &[(&str, &[&str])] = &[
    ("AWS_ACCESS_KEY_ID", &["access_key_id", "access_key"]),
    ("AWS_SECRET_ACCESS_KEY", &["secret_access_key", "secret_key"]),
    ("AWS_SESSION_TOKEN", &["session_token", "security_token"]),
];

/// The entry of the user in JSON, which is YAML too (YAML 1.2.2 section 1.3).
fn kubernetes_user(fields: &Fields) -> Result<Secret, String> {
    let quoted = |name: &str| fields.get(name).map(|value| quote(value, false));
    let packed = |name: &str| fields.get(name).map(|value| quote(value, true));
    if let Some(token) = quoted("token") {
        return Ok(joined(&[plain("{\"token\":"), token, plain("}")]));
    }
    match (packed("client_certificate"), packed("client_key")) {
        (Some(certificate), Some(key)) => Ok(joined(&[
            plain("{\"client-certificate-data\":"),
            certificate,
            plain(",\"client-key-data\":"),
            key,
            plain("}"),
        ])),
        _ => Err("the credential has neither `token` nor `client_certificate` and `client_key`".to_owned()),
    }
}

/// A kubeconfig with one cluster, one user and one context.
fn kubeconfig(
    server: &str,
    authority: Option<&str>,
    namespace: Option<&str>,
    user: &Secret,
) -> Result<Secret, String> {
    use base64::Engine;
    let mut cluster = serde_json::json!({ "server": server });
    if let (Some(pem), Some(cluster)) = (authority, cluster.as_object_mut()) {
        let data = base64::engine::general_purpose::STANDARD.encode(pem);
        cluster.insert("certificate-authority-data".to_owned(), data.into());
    }
    let mut context = serde_json::json!({ "cluster": "mcp", "user": "mcp" });
    if let (Some(namespace), Some(context)) = (namespace, context.as_object_mut()) {
        context.insert("namespace".to_owned(), namespace.into());
    }
    let head = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "mcp",
        "clusters": [{ "name": "mcp", "cluster": cluster }],
        "contexts": [{ "name": "mcp", "context": context }],
    })
    .to_string();
    let open = head.strip_suffix('}').ok_or("a kubeconfig cannot be written")?;
    let parts = [plain(open), plain(",\"users\":[{\"name\":\"mcp\",\"user\":")];
    let [head, users] = parts;
    // EXPOSE: copied into the content, which is a Secret itself.
    let user = user.expose(plain);
    Ok(joined(&[head, users, user, plain("}]}")]))
}

fn plain(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// A JSON string of the value, or of its base64.
fn quote(value: &Secret, packed: bool) -> Secret {
    let filter = if packed { "base64" } else { "json" };
    let name: Result<Label, _> = "x".parse();
    let template = format!("\"{{x.v|{filter}}}\"").parse::<mcp_broker_proto::template::Template>();
    let (Ok(name), Ok(template)) = (name, template) else { return plain("\"\"") };
    // EXPOSE: copied for the template, into a Secret again.
    let value = value.expose(plain);
    let credentials = BTreeMap::from([(name, BTreeMap::from([("v".to_owned(), value)]))]);
    template.render(&credentials).unwrap_or_else(|_unknown| plain("\"\""))
}

/// All of them in a row, in a buffer of its full size from the start.
fn joined(parts: &[Secret]) -> Secret {
    let mut text = String::with_capacity(parts.iter().map(Secret::len).sum());
    for part in parts {
        // EXPOSE: the content, which is a Secret itself.
        part.expose(|part| text.push_str(part));
    }
    Secret::new(text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]
mod tests {
    use super::*;

    fn fields(of: &[(&str, &str)]) -> Fields {
        of.iter().map(|(name, value)| ((*name).to_owned(), plain(value))).collect()
    }

    #[test]
    fn keys_of_aws_are_variables() {
        for names in [
            ["access_key_id", "secret_access_key", "session_token"],
            ["access_key", "secret_key", "security_token"],
        ] {
            let mut environment = Environment::new();
            aws(&fields(&[(names[0], "a"), (names[1], "b"), (names[2], "c")]), &mut environment).unwrap();
            let of = |name: &str| environment[name].as_slice().to_vec();
            let got = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(of);
            assert_eq!(got, [b"a", b"b", b"c"].map(|text| text.to_vec()));
        }
        let lacking = aws(&fields(&[("access_key_id", "a")]), &mut Environment::new()).unwrap_err();
        assert!(lacking.contains("secret_access_key"), "{lacking}");
    }

    #[test]
    fn a_kubeconfig_has_its_credential_in_it() {
        let of = |of: &[(&str, &str)]| {
            let user = kubernetes_user(&fields(of)).unwrap();
            let made = kubeconfig("https://k:6443", Some("PEM"), Some("team"), &user).unwrap();
            made.expose(|text| serde_json::from_str::<serde_json::Value>(text).unwrap())
        };
        let token = of(&[("token", "a\"b")]);
        assert_eq!(token["users"][0]["user"]["token"], "a\"b");
        assert_eq!(token["clusters"][0]["cluster"]["server"], "https://k:6443");
        assert_eq!(token["clusters"][0]["cluster"]["certificate-authority-data"], "UEVN");
        assert_eq!(token["contexts"][0]["context"]["namespace"], "team");
        let pair = of(&[("client_certificate", "c"), ("client_key", "k")]);
        assert_eq!(pair["users"][0]["user"]["client-certificate-data"], "Yw==");
        assert_eq!(pair["users"][0]["user"]["client-key-data"], "aw==");
        assert!(kubernetes_user(&fields(&[("password", "p")])).is_err());
    }
}
