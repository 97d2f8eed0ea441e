//! What `deploy/vault/setup.sh` and the provider say of a server that is set up wrong.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_wrong_is_said_with_its_cure() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);

    let wrong_id = AuthMethod::AppRole {
        mount: "approle".into(),
        role_id: "nobody".into(),
        secret_id_file: bao.dir.path("out/secret_id"),
    };
    let wrong = provider(ServerSettings { auth: wrong_id, ..bao.settings() });
    blame(wrong.health().await, Blame::Identity, "role_id");
    let dead = AuthMethod::Token { token_file: bao.dir.secret("token", "s.nothing\n") };
    blame(
        provider(ServerSettings { auth: dead, ..bao.settings() }).health().await,
        Blame::Identity,
        "write a new one",
    );

    let five = provider(ServerSettings { dead_man: Duration::from_secs(300), ..bao.settings() });
    let error = five.health().await.unwrap_err();
    assert!(error.hint.contains("token_period=300s"), "{error:?}");
    blame(five.open_session(&tag()).await.map(drop), Blame::Config, "period of 10 s");
    let absent = provider(ServerSettings { launch_role: "absent".into(), ..bao.settings() });
    blame(absent.open_session(&tag()).await.map(drop), Blame::Identity, "absent");

    for (role, change, word) in [
        ("mcp-session", json!({ "orphan": false }), "orphan=true"),
        ("mcp-launch", json!({ "orphan": true }), "orphan=false"),
        ("mcp-launch", json!({ "token_no_default_policy": false }), "token_no_default_policy=true"),
    ] {
        bao.admin("POST", &format!("auth/token/roles/{role}"), change).await;
        blame(bao.provider().open_session(&tag()).await.map(drop), Blame::Config, word);
        let checked = bao.script("setup.sh", &["--check", "--period", "10s"]);
        assert!(!checked.status.success(), "{word}: {}", text_of(&checked));
        bao.set_up(&["--launch-policies", "weather"]);
        session(&bao.provider()).await;
    }
}

/// Launches that get certificates need a right of the broker's that others do not.
#[tokio::test(flavor = "multi_thread")]
async fn setup_finds_certificates_that_could_not_be_listed() {
    let bao = Bao::start().await;
    for engine in ["pki", "ssh"] {
        bao.admin("POST", &format!("sys/mounts/{engine}"), json!({ "type": engine })).await;
    }
    let check = || bao.script("setup.sh", &["--check", "--period", "10s"]);
    bao.policy("keys", "ssh/sign/host").await;
    bao.set_up(&["--launch-policies", "keys"]);
    let checked = check();
    assert!(
        checked.status.success() && !text_of(&checked).contains("revocation list"),
        "{}",
        text_of(&checked)
    );

    bao.policy("web", "pki/issue/*").await;
    // A set-up tells of it and is good: it is the step after it.
    bao.set_up(&["--launch-policies", "keys,web"]);
    let (checked, what) = (check(), "WRONG the broker may not use pki/revoke");
    assert!(!checked.status.success() && text_of(&checked).contains(what), "{}", text_of(&checked));
    let text = std::fs::read_to_string("../deploy/vault/policies/pki-revoke.hcl").unwrap();
    bao.admin("PUT", "sys/policies/acl/mcp-pki-revoke", json!({ "policy": text })).await;
    let own = json!({ "token_policies": "mcp-broker,mcp-pki-revoke" });
    bao.admin("POST", "auth/approle/role/mcp-broker", own).await;
    let checked = check();
    let what = "ok    the broker puts certificates of pki on the revocation list";
    assert!(checked.status.success() && text_of(&checked).contains(what), "{}", text_of(&checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_finds_tokens_that_read_too_much() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    bao.set_up(&[]);
    let wide = "path \"kv/*\" { capabilities = [\"read\"] }\npath \"auth/token/create\" { capabilities = [\"update\"] }";
    for (policy, who) in [("mcp-session", "a session may use"), ("mcp-broker", "the broker may use")] {
        let text = std::fs::read_to_string(format!("../deploy/vault/policies/{policy}.hcl")).unwrap();
        let body = json!({ "policy": format!("{text}{wide}") });
        bao.admin("PUT", &format!("sys/policies/acl/{policy}"), body).await;
        let checked = bao.script("setup.sh", &["--check", "--period", "10s"]);
        assert!(!checked.status.success() && text_of(&checked).contains(who), "{}", text_of(&checked));
    }
    let longer = bao.script("setup.sh", &["--check", "--period", "5m"]);
    assert!(text_of(&longer).contains("token_period is 10, not 300"), "{}", text_of(&longer));
}
