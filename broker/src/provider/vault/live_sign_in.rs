//! How the broker gets to the server and who it is there: TLS, certificate, JWT, a token that ended.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_authority_is_trusted() {
    let bao = Bao::start_tls().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let ca = std::fs::read_dir(bao.dir.path("")).unwrap().filter_map(|entry| entry.ok().map(|e| e.path()));
    let ca = ca.into_iter().find(|path| path.to_string_lossy().ends_with("-ca.pem")).expect("an authority");
    let trusting = provider(ServerSettings { ca_file: Some(ca), ..bao.settings() });
    let parent = session(&trusting).await;
    assert_eq!(trusting.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    blame(bao.provider().health().await, Blame::Config, "ca_file");
}

fn openssl(bao: &Bao, arguments: &str) {
    let done = std::process::Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(bao.dir.path(""))
        .output();
    let done = done.expect("openssl must be installed");
    assert!(done.status.success(), "{}", text_of(&done));
}

/// What a role of an auth method needs to say for the broker's token.
fn broker_role(more: Value) -> Value {
    let mut role = json!({"token_policies":"mcp-broker","token_period":"1h","token_no_default_policy":true});
    role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    role
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_signs_in_by_certificate() {
    let bao = Bao::start_tls().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1";
    openssl(
        &bao,
        &format!("{new} -keyout own.key -out own.pem -subj /CN=broker -addext extendedKeyUsage=clientAuth"),
    );
    openssl(
        &bao,
        &format!(
            "{new} -keyout other.key -out other.pem -subj /CN=other -addext extendedKeyUsage=clientAuth"
        ),
    );
    bao.admin("POST", "sys/auth/cert", json!({ "type": "cert" })).await;
    let trusted = std::fs::read_to_string(bao.dir.path("own.pem")).unwrap();
    bao.admin("POST", "auth/cert/certs/broker", broker_role(json!({ "certificate": trusted }))).await;
    let ca_file = Some(bao.dir.path("vault-ca.pem"));
    let with = |name: &str| {
        let (cert_file, key_file) =
            (bao.dir.path(&format!("{name}.pem")), bao.dir.path(&format!("{name}.key")));
        let auth = AuthMethod::Cert { mount: "cert".into(), role: "broker".into(), cert_file, key_file };
        provider(ServerSettings { auth, ca_file: ca_file.clone(), ..bao.settings() })
    };
    let vault = with("own");
    let parent = session(&vault).await;
    assert_eq!(vault.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    blame(with("other").health().await, Blame::Identity, "other.pem");
    blame(with("absent").health().await, Blame::Config, "absent.pem");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_signs_in_by_jwt() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    openssl(&bao, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out jwt.key");
    openssl(&bao, "pkey -in jwt.key -pubout -out jwt.pub");
    let public = std::fs::read_to_string(bao.dir.path("jwt.pub")).unwrap();
    bao.admin("POST", "sys/auth/jwt", json!({ "type": "jwt" })).await;
    bao.admin("POST", "auth/jwt/config", json!({ "jwt_validation_pubkeys": [public] })).await;
    let bounds = json!({"role_type":"jwt","user_claim":"sub","bound_audiences":["bao"]});
    bao.admin("POST", "auth/jwt/role/broker", broker_role(bounds)).await;
    let key = std::fs::read(bao.dir.path("jwt.key")).unwrap();
    let key = jsonwebtoken::EncodingKey::from_ec_pem(&key).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    let signed = |seconds: i64| {
        let exp = SystemClock.now().as_second() + seconds;
        let claims = json!({ "sub": "broker", "aud": "bao", "exp": exp, "iat": exp - 600 });
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let token_file = bao.dir.secret("jwt", &signed(-400));
    let auth = AuthMethod::Jwt { mount: "jwt".into(), role: "broker".into(), token_file };
    let vault = provider(ServerSettings { auth, ..bao.settings() });
    blame(vault.health().await, Blame::Identity, "fresh");
    // A new token in the file is found at the next login.
    bao.dir.secret("jwt", &signed(300));
    session(&vault).await;
}

/// Goes ahead of the machine's clock by so many milliseconds.
pub(super) struct Ahead(pub(super) AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now()
    }
    fn boot(&self) -> Duration {
        SystemClock.boot() + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

async fn broker_tokens(bao: &Bao) -> usize {
    let (status, answer) =
        bao.try_admin("LIST", "sys/leases/lookup/auth/approle/login", Value::Null, "").await;
    if status == 404 { 0 } else { answer.pointer("/data/keys").and_then(Value::as_array).unwrap().len() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_signs_in_again_by_itself() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let before = broker_tokens(&bao).await;
    let clock = Arc::new(Ahead(AtomicU64::new(0)));
    let vault = Arc::new(with_clock(bao.settings(), Arc::clone(&clock) as Arc<dyn Clock>));

    // Twenty at once share one login.
    let all: Vec<_> = (0..20)
        .map(|_| {
            let vault = Arc::clone(&vault);
            tokio::spawn(async move { vault.health().await.map(drop) })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(broker_tokens(&bao).await, before + 1);

    // Revoked at the server: a new login.
    bao.admin("PUT", "sys/leases/revoke-prefix/auth/approle/login", json!({ "sync": true })).await;
    let parent = session(&vault).await;
    assert_eq!(broker_tokens(&bao).await, 1);

    // Two thirds of the hour: renewed. Two hours asleep: a new login.
    clock.0.store(45 * 60 * 1000, Ordering::SeqCst);
    vault.health().await.unwrap();
    assert_eq!(broker_tokens(&bao).await, 1, "renewed, not had anew");
    clock.0.store(3 * 3600 * 1000, Ordering::SeqCst);
    vault.health().await.unwrap();
    assert_eq!(broker_tokens(&bao).await, 2);
    // The orphan parent outlives all of them.
    vault.renew_session(&parent).await.unwrap();
}
