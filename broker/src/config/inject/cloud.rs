//! Reads the ways `aws` and `kubeconfig`, which hand over a whole credential to programs that know where to ask for it.

use std::net::IpAddr;

use mcp_broker_proto::launch::{AwsWay, Injection};
use reqwest::Url;

use super::Scene;
use super::authority::authority;
use super::choice::Needs;
use crate::config::reader::Reader;

/// Reads `aws`.
pub(super) fn aws(one: &Reader<'_>, scene: &mut Scene<'_>) -> Option<Injection> {
    let credential = AWS.choose(one, scene);
    let by = aws_way(one)?;
    scene.take(one, "aws", AWS_VARIABLES);
    Some(Injection::Aws { credential: credential?, by })
}

fn aws_way(one: &Reader<'_>) -> Option<AwsWay> {
    if let Some((value, span)) = one.value("aws")
        && value.as_bool().is_some()
    {
        one.wrong_type("aws", &span, value, "the text \"endpoint\" or \"credential_process\"");
        return None;
    }
    one.word("aws", &[("endpoint", AwsWay::Endpoint), ("credential_process", AwsWay::CredentialProcess)])
}

/// Reads `kubeconfig`.
pub(super) fn kubeconfig(one: &Reader<'_>, scene: &mut Scene<'_>) -> Option<Injection> {
    let name = scene.variable(one, "kubeconfig");
    let credential = KUBERNETES.choose(one, scene);
    let server = server(one);
    let (written, authority) = (one.has("authority"), authority(one));
    if written && authority.is_none() {
        return None;
    }
    let namespace = namespace(one)?;
    Some(Injection::Kubeconfig {
        name: name?,
        credential: credential?,
        server: server?,
        authority,
        namespace,
    })
}

/// The API server: clients send it the credential, so it is encrypted or on this machine.
fn server(one: &Reader<'_>) -> Option<String> {
    let text = one.required_text("server")?;
    let wrong = |what: &str, hint: &str| {
        one.error("server", format!("`{}` {what}", one.name("server")), hint);
        None
    };
    let Ok(url) = text.parse::<Url>() else { return wrong("is not a URL", SERVER_HINT) };
    if !["https", "http"].contains(&url.scheme()) {
        return wrong("is neither https nor http", SERVER_HINT);
    }
    let plain = url.username().is_empty() && url.password().is_none();
    if !plain || url.query().is_some() || url.fragment().is_some() || url.host_str().is_none() {
        return wrong("has more in it than a host, a port and a path", SERVER_HINT);
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        let hint = "use https; plain http is taken for 127.0.0.1, ::1 and localhost only";
        return wrong("is not encrypted", hint);
    }
    Some(text)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A DNS label (RFC 1123 section 2.1), as Kubernetes has names of namespaces. The outer nothing is a mistake.
fn namespace(one: &Reader<'_>) -> Option<Option<String>> {
    if !one.has("namespace") {
        return Some(None);
    }
    let text = one.text("namespace")?;
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = text.starts_with('-') || text.ends_with('-');
    if text.is_empty() || text.len() > 63 || ends || !text.bytes().all(inner) {
        let message = format!("`{}` is no name of a namespace", one.name("namespace"));
        one.error("namespace", message, "use a-z, 0-9 and `-` inside, 63 at most");
        return None;
    }
    Some(Some(text))
}

const AWS: Needs = Needs {
    fields: "`access_key_id` and `secret_access_key`",
    fit: |fields| {
        let has = |name: &str| fields.iter().any(|field| field == name);
        // What the AWS engine of Vault calls them besides.
        has("access_key_id") && has("secret_access_key") || has("access_key") && has("secret_key")
    },
};

const KUBERNETES: Needs = Needs {
    fields: "`token`, or `client_certificate` and `client_key`",
    // Vault's engines have names of their own for these.
    fit: |fields| {
        let has = |names: [&str; 2]| fields.iter().any(|field| names.contains(&field.as_str()));
        has(["token", "service_account_token"])
            || has(["client_certificate", "certificate"]) && has(["client_key", "private_key"])
    },
};

/// What the way sets, and what SDKs would look at before it (AWS SDKs and Tools Reference Guide, "Credential provider
/// chain"): neither may be set by anything else.
const AWS_VARIABLES: &[&str] = &[
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

const SERVER_HINT: &str = "write `https://HOST:PORT`, as `kubectl cluster-info` prints it";
