//! The requests that the broker sends, one function each, as rustify endpoints: those that vaultrs lacks
//! (leases, generic reads that keep their lease) and those whose bodies it would copy about. Lease ids and
//! accessors go into the body, never into the path, where other policies would apply.

use std::collections::BTreeMap;
use std::time::Duration;

use mcp_broker_proto::Secret;
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::path::SecretPath;

/// One request, without its token. Not `Debug`: the body of a login is secret.
pub(super) struct Call {
    /// What it is for, in a word: for the log, and the fault points beside it.
    pub(super) name: &'static str,
    method: RequestMethod,
    path: String,
    query: Option<String>,
    body: Option<Zeroizing<Vec<u8>>>,
    /// Sent without the namespace's header, for what exists once a server.
    pub(super) outside_namespaces: bool,
    /// The answer is to be wrapped, in a token that lives so long.
    pub(super) wrap: Option<Duration>,
}

impl Endpoint for Call {
    /// Answers are read by [`super::answer`], which wipes them.
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn query(&self) -> Result<Option<String>, ClientError> {
        Ok(self.query.clone())
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.as_ref().map(|body| body.to_vec()))
    }
}

impl Call {
    fn get(name: &'static str, path: impl Into<String>) -> Self {
        let path = path.into();
        let (method, query, body) = (RequestMethod::GET, None, None);
        Self { name, method, path, query, body, outside_namespaces: false, wrap: None }
    }

    fn post(name: &'static str, path: impl Into<String>, body: &Value) -> Self {
        let body = Zeroizing::new(body.to_string().into_bytes());
        Self { method: RequestMethod::POST, body: Some(body), ..Self::get(name, path) }
    }

    /// The same call for another purpose.
    pub(super) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same call, its answer wrapped.
    pub(super) fn wrapped(self, wrap: Option<Duration>) -> Self {
        Self { wrap, ..self }
    }
}

/// A token that is made on a token role.
#[derive(Serialize)]
pub(super) struct NewToken {
    /// Never left out for a child: the server would grant the role's whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policies: Option<Vec<String>>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub(super) ttl: Option<Duration>,
    pub(super) meta: BTreeMap<&'static str, String>,
    pub(super) display_name: String,
    pub(super) no_default_policy: bool,
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn seconds<S: serde::Serializer>(ttl: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    format!("{}s", ttl.unwrap_or_default().as_secs()).serialize(serializer)
}

/// `POST auth/MOUNT/login` with one secret field.
pub(super) fn login(mount: &str, plain: (&str, &str), secret: Option<(&str, &Secret)>) -> Call {
    let mut head = json!({ plain.0: plain.1 }).to_string();
    let Some((field, secret)) = secret else {
        return Call {
            body: Some(Zeroizing::new(head.into_bytes())),
            ..Call::post("sign-in", login_path(mount), &Value::Null)
        };
    };
    head.pop();
    let body = secret_body(&head, field, secret);
    Call { body: Some(body), ..Call::post("sign-in", login_path(mount), &Value::Null) }
}

/// An object that is open at its end, and one more field of it.
fn secret_body(head: &str, field: &str, secret: &Secret) -> Zeroizing<Vec<u8>> {
    // Room for every byte escaped, so that the buffer does not grow and leave a copy.
    let mut body = Zeroizing::new(Vec::with_capacity(head.len() + field.len() + secret.len() * 6 + 16));
    body.extend_from_slice(head.as_bytes());
    let comma = if head.len() > 1 { "," } else { "" };
    body.extend_from_slice(format!("{comma}{}:", Value::from(field)).as_bytes());
    // EXPOSE: the body of a login or a look at a wrapping token, which goes to the server only and is wiped with the request.
    let written = secret.expose(|text| serde_json::to_writer(&mut *body, text));
    debug_assert!(written.is_ok(), "writing into a vector does not fail");
    body.push(b'}');
    body
}

fn login_path(mount: &str) -> String {
    format!("auth/{mount}/login")
}

/// `GET auth/token/lookup-self`.
pub(super) fn lookup_self() -> Call {
    Call::get("look-at-self", "auth/token/lookup-self")
}

/// `POST auth/token/renew-self`.
pub(super) fn renew_self() -> Call {
    Call::post("renew-self", "auth/token/renew-self", &json!({}))
}

/// `POST auth/token/create/ROLE`.
pub(super) fn create_token(role: &str, token: &NewToken) -> Call {
    // A parent has the policies of its role, a child those that it is given.
    let name = if token.policies.is_none() { "open-parent" } else { "prepare" };
    Call::post(name, format!("auth/token/create/{role}"), &json!(token))
}

/// `GET auth/token/roles/ROLE`.
pub(super) fn token_role(role: &str) -> Call {
    Call::get("read-role", format!("auth/token/roles/{role}"))
}

/// `POST auth/token/lookup-accessor`.
pub(super) fn lookup_accessor(accessor: &str) -> Call {
    Call::post("look-up-token", "auth/token/lookup-accessor", &json!({ "accessor": accessor }))
}

/// `POST auth/token/revoke-accessor`.
pub(super) fn revoke_accessor(accessor: &str) -> Call {
    Call::post("revoke-token", "auth/token/revoke-accessor", &json!({ "accessor": accessor }))
}

/// `PUT sys/leases/lookup`.
pub(super) fn lookup_lease(lease: &str) -> Call {
    let body = json!({ "lease_id": lease });
    Call { method: RequestMethod::PUT, ..Call::post("look-up-lease", "sys/leases/lookup", &body) }
}

/// `PUT sys/leases/renew`: the increment counts from now, and may shorten.
pub(super) fn renew_lease(lease: &str, increment: Duration) -> Call {
    let body = json!({ "lease_id": lease, "increment": increment.as_secs() });
    Call { method: RequestMethod::PUT, ..Call::post("renew", "sys/leases/renew", &body) }
}

/// `PUT sys/leases/revoke`. `sync` is always said: the documented default is not the one of the code.
pub(super) fn revoke_lease(lease: &str, sync: bool) -> Call {
    let body = json!({ "lease_id": lease, "sync": sync });
    let name = if sync { "revoke-lease" } else { "queue-lease" };
    Call { method: RequestMethod::PUT, ..Call::post(name, "sys/leases/revoke", &body) }
}

/// `GET PATH`, parameters in the query.
pub(super) fn read(path: &SecretPath, data: &Map<String, Value>) -> Call {
    let mut call = Call::get("issue", path.as_str());
    if !data.is_empty() {
        let mut url = reqwest::Url::parse("http://q").ok();
        if let Some(url) = &mut url {
            let mut pairs = url.query_pairs_mut();
            for (key, value) in data {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                pairs.append_pair(key, &text);
            }
        }
        call.query = url.and_then(|url| url.query().map(str::to_owned));
    }
    call
}

/// `POST PATH`, parameters in the body.
pub(super) fn write(path: &SecretPath, data: &Map<String, Value>) -> Call {
    Call::post("issue", path.as_str(), &Value::Object(data.clone()))
}

/// `POST sys/wrapping/lookup`: what a wrapping token holds, without opening it.
pub(super) fn look_up_wrapping(token: &Secret) -> Call {
    let body = secret_body("{", "token", token);
    Call { body: Some(body), ..Call::post("look-up-wrapping", "sys/wrapping/lookup", &Value::Null) }
}

/// `POST sys/wrapping/unwrap`, to be sent with the wrapping token itself.
pub(super) fn unwrap() -> Call {
    Call::post("unwrap", "sys/wrapping/unwrap", &json!({}))
}

/// `GET PATH`, for a secret of the broker itself.
pub(super) fn look_up_secret(path: &SecretPath) -> Call {
    Call::get("look-up-secret", path.as_str())
}

/// `GET MOUNT/cert/SERIAL`.
pub(super) fn look_up_certificate(mount: &str, serial: &str) -> Call {
    Call::get("look-up-certificate", format!("{mount}/cert/{serial}"))
}

/// `POST MOUNT/revoke`.
pub(super) fn revoke_certificate(mount: &str, serial: &str) -> Call {
    Call::post("revoke-certificate", format!("{mount}/revoke"), &json!({ "serial_number": serial }))
}

/// `GET sys/health`, answered with 200 whatever the state, so that the body can be read.
pub(super) fn health() -> Call {
    let query = "standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200&drsecondarycode=200";
    Call { query: Some(query.to_owned()), outside_namespaces: true, ..Call::get("health", "sys/health") }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn check(call: &Call, path: &str, query: Option<&str>, body: Option<Value>) {
        assert_eq!((call.path.as_str(), call.query.as_deref()), (path, query));
        let got = call.body.as_ref().map(|body| serde_json::from_slice::<Value>(body).unwrap());
        assert_eq!(got, body);
    }

    #[test]
    fn secrets_are_escaped_into_the_body() {
        let secret = Secret::new("a\"b\\\u{1}".into());
        let call = login("approle", ("role_id", "r\"1"), Some(("secret_id", &secret)));
        let want = json!({ "role_id": "r\"1", "secret_id": "a\"b\\\u{1}" });
        check(&call, "auth/approle/login", None, Some(want));
        check(
            &look_up_wrapping(&secret),
            "sys/wrapping/lookup",
            None,
            Some(json!({ "token": "a\"b\\\u{1}" })),
        );
        check(&login("cert", ("name", "web"), None), "auth/cert/login", None, Some(json!({ "name": "web" })));
    }

    #[test]
    fn parameters_go_where_they_belong() {
        let path: SecretPath = "pki/issue/web".parse().unwrap();
        let data = json!({ "common_name": "a&b=c", "days": 3 }).as_object().unwrap().clone();
        check(&read(&path, &data), "pki/issue/web", Some("common_name=a%26b%3Dc&days=3"), None);
        check(&read(&path, &Map::new()), "pki/issue/web", None, None);
        check(&write(&path, &data), "pki/issue/web", None, Some(Value::Object(data.clone())));
        check(
            &revoke_lease("a/b/c", true),
            "sys/leases/revoke",
            None,
            Some(json!({"lease_id":"a/b/c","sync":true})),
        );
    }

    #[test]
    fn a_child_names_its_policies_and_life() {
        let token = NewToken {
            policies: Some(vec!["orders-ro".into()]),
            ttl: Some(Duration::from_secs(90)),
            meta: BTreeMap::from([("lease", "1".to_owned())]),
            display_name: "mcp".into(),
            no_default_policy: true,
        };
        let want = json!({"policies":["orders-ro"],"ttl":"90s","meta":{"lease":"1"},"display_name":"mcp","no_default_policy":true});
        check(&create_token("mcp-launch", &token), "auth/token/create/mcp-launch", None, Some(want));
    }
}
