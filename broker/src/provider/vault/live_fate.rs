//! Leases that are born not renewable: what was issued may live on when they are revoked, and they cannot be
//! shortened.

use super::*;

use super::super::credential::{CredentialSettings, Method};
use crate::provider::MintRequest;

pub(super) fn write(path: &str, policy: &str, data: &Value) -> MintRequest {
    let mut asked = request(path, policy);
    asked.spec.settings = Arc::new(CredentialSettings {
        path: path.parse().unwrap(),
        policies: vec![policy.to_owned()],
        method: Method::Write,
        data: data.as_object().unwrap().clone(),
        place: super::super::engine::place(&path.parse().unwrap(), None),
        wrap: None,
    });
    asked
}

fn seconds(end: jiff::Timestamp) -> i64 {
    end.duration_since(SystemClock.now()).as_secs()
}

async fn leases(bao: &Bao, below: &str) -> u16 {
    bao.try_admin("LIST", &format!("sys/leases/lookup/{below}"), Value::Null, "").await.0
}

/// Certificates live until their end wherever nobody reads the revocation list.
#[tokio::test(flavor = "multi_thread")]
async fn what_outlives_its_lease_is_said_to() {
    let bao = Bao::start().await;
    bao.admin("POST", "sys/mounts/pki", json!({ "type": "pki" })).await;
    bao.admin("POST", "pki/root/generate/internal", json!({ "common_name": "root", "ttl": "20h" })).await;
    let role = json!({ "allow_any_name": true, "generate_lease": true, "max_ttl": "2h", "key_type": "ec", "key_bits": 256 });
    bao.admin("POST", "pki/roles/web", role).await;
    bao.policy("web", "pki/issue/web").await;
    bao.set_up(&["--launch-policies", "web"]);
    let vault = bao.provider();
    let parent = session(&vault).await;
    let certificate = |ttl: &str| write("pki/issue/web", "web", &json!({ "common_name": "a", "ttl": ttl }));

    let asked = certificate("299s");
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    let issued = vault.issue(&asked, prepared).await.unwrap();
    let Revocability::Bounded { seconds: life } = issued.revocability else {
        unreachable!("{:?}", issued.revocability)
    };
    assert!((290..=300).contains(&life) && !issued.renewable, "{life}");
    let end = issued.expires_at.unwrap();
    assert!((285..=300).contains(&seconds(end)), "{end}");
    assert_eq!(vault.renew(&issued.handle, Duration::from_secs(900)).await.unwrap().expires_at, end);
    for _ in 0..2 {
        assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::ExpiresAt(Some(end)));
    }
    assert_eq!(leases(&bao, "pki/issue/web").await, 404, "the lease is revoked all the same");

    // Longer than its ttl of 900 s: refused, and the lease that was made ends with the handle of `prepare`.
    let asked = certificate("1h");
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    let handle = prepared.handle.clone();
    let refused = vault.issue(&asked, prepared).await.map(drop);
    let error = blame(refused, Blame::Config, "longer than the credential's ttl of 900 s");
    assert!(error.hint.contains("`data`"), "{}", error.hint);
    assert_eq!(leases(&bao, "pki/issue/web").await, 200);
    let Revocation::ExpiresAt(Some(end)) = vault.revoke(&handle).await.unwrap() else {
        unreachable!("the certificate lives on")
    };
    assert!((3500..=3600).contains(&seconds(end)), "{end}");
    assert_eq!(leases(&bao, "pki/issue/web").await, 404);

    // Short enough, but the session is shorter.
    let mut asked = certificate("299s");
    asked.horizon = Duration::from_secs(60);
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    blame(vault.issue(&asked, prepared).await.map(drop), Blame::Refused, "longer than the session");
}

/// The server itself is asked at each use of a one-time password.
#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_password_ends_with_its_lease() {
    let bao = Bao::start().await;
    let mount = json!({ "type": "ssh", "config": { "default_lease_ttl": "10m" } });
    bao.admin("POST", "sys/mounts/ssh", mount).await;
    let role = json!({ "key_type": "otp", "default_user": "u", "cidr_list": "127.0.0.0/8" });
    bao.admin("POST", "ssh/roles/host", role).await;
    bao.policy("host", "ssh/creds/host").await;
    bao.set_up(&["--launch-policies", "host"]);
    let vault = bao.provider();
    let parent = session(&vault).await;
    let asked = write("ssh/creds/host", "host", &json!({ "ip": "127.0.0.1" }));
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    let issued = vault.issue(&asked, prepared).await.unwrap();
    assert_eq!((issued.revocability, issued.renewable), (Revocability::Immediate, false));
    assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::Revoked(Proof::LeaseAndToken));
    let otp = plain(issued.fields.get("key").unwrap());
    let (status, _) = bao.try_admin("POST", "ssh/verify", json!({ "otp": otp }), "").await;
    assert_eq!(status, 400, "the password still works");
}
