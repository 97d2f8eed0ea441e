//! Engines that the pinned OpenBao has not, and a wrapping token that was opened before, against a scripted double:
//! its answers are those of the engines' API documentation. Proves what the broker makes of them, not that a server
//! gives them.

use super::*;

use super::engines::wrapped;
use super::fate::write;
use super::scripted::{ALIVE, response, serve};

fn parent() -> Parent {
    let held = Held { place: "/".into(), accessor: "above".into(), kind: Kind::Parent };
    Parent {
        handle: held.to_handle(),
        token: Secret::new("s.parent".into()),
        period: Duration::from_secs(10),
    }
}

fn child() -> String {
    let auth = json!({ "client_token": "s.x", "accessor": "a", "lease_duration": 3600, "renewable": true, "orphan": false });
    response("200 OK", &json!({ "auth": auth }).to_string())
}

/// Mints from a double that answers with `answers` once the token is made.
async fn minted(path: &str, wrap: bool, answers: &[Value]) -> (Result<Issued, ProviderError>, Vec<String>) {
    let ok = response("200 OK", ALIVE);
    let mut script = vec![ok.clone(), ok.clone(), child()];
    script.extend(answers.iter().map(|answer| match answer.get("errors") {
        Some(_) => response("400 Bad Request", &answer.to_string()),
        None => response("200 OK", &answer.to_string()),
    }));
    script.push(ok);
    let (settings, asked, _dir) = serve(script).await;
    let vault = provider(settings);
    let mut request = write(path, "p", &json!({}));
    request.spec.ttl = Duration::from_secs(3600);
    let request = if wrap { wrapped(request) } else { request };
    let prepared = vault.prepare(&request, Some(&parent())).await.unwrap();
    let issued = vault.issue(&request, prepared).await;
    let asked = asked.lock().unwrap().clone();
    (issued, asked)
}

async fn check(path: &str, lease: bool, data: Value, fields: &[&str], bounded: bool) {
    let renewable = !bounded;
    let lease = if lease { format!("{path}/1") } else { String::new() };
    let answer = json!({ "lease_id": lease, "lease_duration": 900, "renewable": renewable, "data": data });
    let (issued, _) = minted(path, false, &[answer]).await;
    let issued = issued.unwrap();
    assert_eq!(issued.fields.keys().map(String::as_str).collect::<Vec<_>>(), fields, "{path}");
    let got = matches!(issued.revocability, Revocability::Bounded { .. });
    assert_eq!(got, bounded, "{path}: {:?}", issued.revocability);
    assert!(issued.expires_at.is_some(), "{path}");
}

#[tokio::test]
async fn clouds_are_shown_as_what_they_are() {
    let user = json!({ "access_key": "AKIA", "secret_key": "S", "security_token": null });
    let names = ["access_key", "access_key_id", "secret_access_key", "secret_key"];
    check("aws/creds/user", true, user, &names, false).await;
    let sts =
        json!({ "access_key": "ASIA", "secret_key": "S", "security_token": "T", "arn": "arn:aws:sts::1:x" });
    let names = [
        "access_key",
        "access_key_id",
        "arn",
        "secret_access_key",
        "secret_key",
        "security_token",
        "session_token",
    ];
    check("aws/sts/deploy", true, sts, &names, true).await;
    let ends = SystemClock.now().as_second() + 1800;
    let token = json!({ "token": "ya29", "token_ttl": 1799, "expires_at_seconds": ends });
    let names = ["expires_at_seconds", "token", "token_ttl"];
    check("gcp/roleset/r/token", false, token, &names, true).await;
    let key = json!({ "private_key_data": "e30=", "key_algorithm": "KEY_ALG_RSA_2048", "key_type": "TYPE_GOOGLE_CREDENTIALS_FILE" });
    let names = ["key_algorithm", "key_json", "key_type", "private_key_data"];
    check("gcp/key/r", true, key, &names, false).await;
    let azure = json!({ "client_id": "c", "client_secret": "s" });
    check("azure/creds/r", true, azure, &["client_id", "client_secret"], false).await;
    let rabbit = json!({ "username": "u", "password": "p" });
    check("rabbitmq/creds/r", true, rabbit, &["password", "username"], false).await;
    let account = json!({ "service_account_name": "n", "service_account_namespace": "d", "service_account_token": "t" });
    let names = ["service_account_name", "service_account_namespace", "service_account_token"];
    check("kubernetes/creds/r", true, account, &names, true).await;
}

/// The broker is not the first to open the token; or it was made for something else.
#[tokio::test]
async fn a_wrapping_token_that_is_not_ours_alone_is_an_incident() {
    let closed =
        |path: &str| json!({ "wrap_info": { "token": "s.WRAPCANARY", "ttl": 60, "creation_path": path } });
    let known = |path: &str| json!({ "data": { "creation_path": path, "creation_ttl": 60 } });
    let used = json!({ "errors": ["wrapping token is not valid or does not exist"] });
    let path = "ssh/creds/host";
    let table = [
        (vec![closed(path), used.clone()], Blame::Incident, "opened before the broker"),
        (vec![closed(path), known(path), used], Blame::Incident, "opened before the broker"),
        (vec![closed(path), known("ssh/creds/other")], Blame::Broken, "wrapped something else"),
        (vec![closed("cubbyhole/x"), known(path)], Blame::Broken, "wrapped something else"),
        (vec![json!({ "lease_id": "l", "data": { "key": "k" } })], Blame::Broken, "did not wrap"),
    ];
    for (answers, want, word) in table {
        let (issued, asked) = minted(path, true, &answers).await;
        let error = blame(issued.map(drop), want, word);
        assert!(!format!("{error:?}").contains("WRAPCANARY"), "{error:?}");
        let read = asked.iter().find(|request| request.contains("/v1/ssh/creds/host")).unwrap();
        assert!(read.to_lowercase().contains("x-vault-wrap-ttl: 60s"), "{read}");
    }
}
