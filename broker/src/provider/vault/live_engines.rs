//! Engines of the real OpenBao: certificates, SSH keys, wrapped answers, and secrets of the broker itself.

use super::*;

use super::fate::write;
use crate::provider::MintRequest;

/// Certificates of roles with a lease, without one, and that are not stored; the broker may revoke them.
async fn with_pki(may_revoke: bool) -> (Bao, Vault) {
    let bao = Bao::start().await;
    bao.admin("POST", "sys/mounts/pki", json!({ "type": "pki" })).await;
    bao.admin("POST", "pki/root/generate/internal", json!({ "common_name": "root", "ttl": "20h" })).await;
    for (role, lease, no_store) in [("leased", true, false), ("plain", false, false), ("lost", false, true)] {
        let role_keys = json!({ "allow_any_name": true, "generate_lease": lease, "no_store": no_store,
            "max_ttl": "2h", "key_type": "ec", "key_bits": 256 });
        bao.admin("POST", &format!("pki/roles/{role}"), role_keys).await;
    }
    bao.policy("web", "pki/issue/*").await;
    bao.set_up(&["--launch-policies", "web"]);
    if may_revoke {
        grant(&bao, "pki-revoke").await;
    }
    let vault = bao.provider();
    (bao, vault)
}

/// Gives the broker another policy of `deploy/vault`.
async fn grant(bao: &Bao, policy: &str) {
    let read = |name: &str| std::fs::read_to_string(format!("../deploy/vault/policies/{name}.hcl")).unwrap();
    let text = format!("{}\n{}", read("mcp-broker"), read(policy));
    bao.admin("PUT", "sys/policies/acl/mcp-broker", json!({ "policy": text })).await;
}

async fn issue(vault: &Vault, parent: &Parent, asked: &MintRequest) -> Result<Issued, ProviderError> {
    let prepared = vault.prepare(asked, Some(parent)).await?;
    vault.issue(asked, prepared).await
}

fn certificate(role: &str) -> MintRequest {
    write(&format!("pki/issue/{role}"), "web", &json!({ "common_name": "a" }))
}

async fn revoked(bao: &Bao, serial: &str) -> bool {
    let known = bao.admin("GET", &format!("pki/cert/{serial}"), Value::Null).await;
    known.pointer("/data/revocation_time").unwrap().as_i64().unwrap() > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_on_the_list_after_its_launch() {
    let (bao, vault) = with_pki(true).await;
    let parent = session(&vault).await;
    for role in ["leased", "plain"] {
        let asked = certificate(role);
        assert_eq!(vault.revocability(&asked.spec), Revocability::Bounded { seconds: 900 });
        let issued = issue(&vault, &parent, &asked).await.unwrap();
        let serial = plain(issued.fields.get("serial_number").unwrap());
        assert_eq!(issued.detail, Some(format!("serial number {serial}")));
        assert!(plain(issued.fields.get("ca_chain").unwrap()).starts_with("-----BEGIN CERTIFICATE-----\n"));
        assert!(!issued.plain.contains(&"private_key") && issued.plain.contains(&"certificate"));
        let end = issued.expires_at.unwrap();
        let life = end.duration_since(SystemClock.now()).as_secs();
        assert!((880..=905).contains(&life) && !issued.renewable, "the credential's own ttl: {life}");
        assert_eq!(vault.hangs_on(&issued.handle), role == "plain", "without a lease nothing else names it");
        assert!(!revoked(&bao, &serial).await);
        for _ in 0..2 {
            assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::ExpiresAt(Some(end)));
            assert!(revoked(&bao, &serial).await, "{role}");
        }
    }
    let lost = issue(&vault, &parent, &certificate("lost")).await.unwrap();
    let end = lost.expires_at;
    assert_eq!(vault.revoke(&lost.handle).await.unwrap(), Revocation::ExpiresAt(end), "it cannot be listed");
}

/// Whoever asked went away before the answer came: the serial number is in no handle, and the certificate is listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_took_is_listed() {
    let (bao, vault) = with_pki(true).await;
    let parent = session(&vault).await;
    let asked = certificate("plain");
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    let handle = prepared.handle.clone();
    let mut issuing = Box::pin(vault.issue(&asked, prepared));
    // One step is enough for the request to be on its way.
    tokio::select! {
        biased;
        _ = &mut issuing => unreachable!("no answer can be there yet"),
        () = std::future::ready(()) => {}
    }
    let accessor = held(&handle, &vault).accessor;
    until("the answer comes", || vault.flights.remembered(&accessor).is_some()).await;
    drop(issuing);
    let Revocation::ExpiresAt(Some(_)) = vault.revoke(&handle).await.unwrap() else {
        unreachable!("it lives where nobody reads the list")
    };
    let list = bao.admin("LIST", "pki/certs", Value::Null).await;
    let mut listed = 0;
    for serial in list.pointer("/data/keys").unwrap().as_array().unwrap() {
        listed += usize::from(revoked(&bao, serial.as_str().unwrap()).await);
    }
    assert_eq!(listed, 1, "the one that was issued, not the root");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_said_with_its_line() {
    let (bao, vault) = with_pki(false).await;
    let parent = session(&vault).await;
    let issued = issue(&vault, &parent, &certificate("plain")).await.unwrap();
    let error = blame(vault.revoke(&issued.handle).await, Blame::Identity, "revoke certificates of `pki`");
    assert!(error.hint.contains("path \"pki/revoke\" { capabilities = [\"update\"] }"), "{}", error.hint);

    bao.admin("POST", "sys/mounts/secret2", json!({ "type": "kv", "options": { "version": "1" } })).await;
    let value = json!({ "id": "7", "pem": "s3cret", "n": 3 });
    bao.admin("POST", "secret2/app", value.clone()).await;
    bao.admin("POST", "secret/data/broker/github-app", json!({ "data": value })).await;
    let error =
        blame(vault.look_up("secret/data/broker/github-app").await.map(drop), Blame::Identity, "itself read");
    let line = "path \"secret/data/broker/github-app\" { capabilities = [\"read\"] }";
    assert!(error.hint.contains(line), "{}", error.hint);

    grant(&bao, "own-secret").await;
    let fields = vault.look_up("secret/data/broker/github-app").await.unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["id", "pem"], "texts only");
    assert_eq!(plain(fields.get("pem").unwrap()), "s3cret");
    blame(vault.look_up("auth/token/lookup-self").await.map(drop), Blame::Config, "is below");

    let wide =
        "path \"secret2/*\" { capabilities = [\"read\"] } path \"secret/*\" { capabilities = [\"read\"] }";
    let text = std::fs::read_to_string("../deploy/vault/policies/mcp-broker.hcl").unwrap();
    bao.admin("PUT", "sys/policies/acl/mcp-broker", json!({ "policy": format!("{text}{wide}") })).await;
    assert_eq!(vault.look_up("secret2/app").await.unwrap().len(), 2, "version 1");
    blame(vault.look_up("secret/data/absent").await.map(drop), Blame::Missing, "nothing at");
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_signs_a_key_of_this_launch() {
    let bao = Bao::start().await;
    bao.admin("POST", "sys/mounts/ssh", json!({ "type": "ssh" })).await;
    bao.admin("POST", "ssh/config/ca", json!({ "generate_signing_key": true, "key_type": "ed25519" })).await;
    let role = json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*", "default_user": "u", "max_ttl": "1h" });
    bao.admin("POST", "ssh/roles/s", role).await;
    bao.policy("s", "ssh/sign/s").await;
    bao.set_up(&["--launch-policies", "s"]);
    let vault = bao.provider();
    let parent = session(&vault).await;
    let issued = issue(&vault, &parent, &write("ssh/sign/s", "s", &json!({}))).await.unwrap();
    let text = |name: &str| plain(issued.fields.get(name).unwrap());
    // OpenSSH itself reads both, and they belong together.
    let key = bao.dir.secret("id", &text("private_key"));
    bao.dir.secret("id-cert.pub", &format!("{}\n", text("signed_key")));
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new("ssh-keygen").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", text_of(&done));
        text_of(&done)
    };
    let public = run(&["-y", "-f", &key.display().to_string()]);
    assert_eq!(public.trim(), text("public_key"));
    let shown = run(&["-L", "-f", &bao.dir.path("id-cert.pub").display().to_string()]);
    assert!(shown.contains("user certificate"), "{shown}");
    let end = issued.expires_at.unwrap();
    let life = end.duration_since(SystemClock.now()).as_secs();
    assert!((880..=905).contains(&life), "{life}");
    assert!(matches!(issued.revocability, Revocability::Bounded { .. }) && !issued.renewable);
    assert!(!issued.plain.contains(&"private_key"));
    assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::ExpiresAt(Some(end)));

    // A key of the definition: the broker has no private half.
    let asked = write("ssh/sign/s", "s", &json!({ "public_key": public.trim() }));
    let issued = issue(&vault, &parent, &asked).await.unwrap();
    assert!(!issued.fields.contains_key("private_key") && issued.fields.contains_key("signed_key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_answer_is_opened_at_once() {
    let bao = Bao::start().await;
    bao.admin("POST", "sys/mounts/ssh", json!({ "type": "ssh", "config": { "default_lease_ttl": "10m" } }))
        .await;
    let role = json!({ "key_type": "otp", "default_user": "u", "cidr_list": "127.0.0.0/8" });
    bao.admin("POST", "ssh/roles/host", role).await;
    bao.policy("host", "ssh/creds/host").await;
    bao.set_up(&["--launch-policies", "host"]);
    let vault = bao.provider();
    let parent = session(&vault).await;
    let asked = wrapped(write("ssh/creds/host", "host", &json!({ "ip": "127.0.0.1" })));
    let issued = issue(&vault, &parent, &asked).await.unwrap();
    assert_eq!(issued.revocability, Revocability::Immediate);
    assert_eq!(plain(issued.fields.get("username").unwrap()), "u");
    assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::Revoked(Proof::LeaseAndToken));
}

/// The same request, its answer to be wrapped.
pub(super) fn wrapped(mut asked: MintRequest) -> MintRequest {
    let settings =
        asked.spec.settings.downcast_ref::<super::super::credential::CredentialSettings>().unwrap();
    let settings = super::super::credential::CredentialSettings {
        wrap: Some(Duration::from_secs(60)),
        ..settings.clone()
    };
    asked.spec.settings = Arc::new(settings);
    asked
}
