//! The store and the provider over real files, with a key file and with a credential. The keyring has its
//! own tests against a real daemon.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;
use mcp_broker_proto::Secret;
use mcp_broker_proto::names::{LaunchId, LeaseId, SessionId};

use super::testing::TempDir;
use super::*;
use crate::clock::SystemClock;
use crate::config::Mode;

fn store(dir: &Path, key: Option<Source>, credentials: &[&Path]) -> Store {
    let credentials = credentials.iter().map(|path| (*path).to_owned()).collect();
    let surroundings = Surroundings { credentials, bus: None };
    Store::new(dir, SealedConfig { mode: Mode::User, key }, surroundings)
}

fn credential() -> TempDir {
    let dir = TempDir::new();
    let path = dir.path().join("mcp-broker-sealed-key");
    let key = key::RootKey::generate().unwrap();
    std::fs::write(&path, key.to_line()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    dir
}

async fn set(store: &Store, name: &str, value: &str) -> Result<Source, ProviderError> {
    let name: SecretName = name.parse().unwrap();
    let value = Secret::new(value.to_owned());
    let put = |entries: &mut Entries| {
        entries.set(name, value, Timestamp::UNIX_EPOCH).unwrap();
        Ok(())
    };
    store.change(put).await.map(|((), source)| source)
}

async fn get(store: &Store, name: &str) -> Result<Option<String>, ProviderError> {
    let opened = store.read().await?;
    Ok(opened.and_then(|o| o.entries.take(&name.parse().unwrap())).map(|value| value.expose(str::to_owned)))
}

#[tokio::test]
async fn a_value_survives_and_a_key_file_is_made_once() {
    let dir = TempDir::new();
    let state = dir.path().join("not/there/yet");
    let store = store(&state, None, &[]);
    assert_eq!(get(&store, "A").await, Ok(None));
    assert_eq!(set(&store, "A", "one").await, Ok(Source::File));
    let key = std::fs::read(state.join("sealed.key")).unwrap();
    assert_eq!(set(&store, "B", "two").await, Ok(Source::File));
    assert_eq!(std::fs::read(state.join("sealed.key")).unwrap(), key);
    assert_eq!(get(&store, "A").await.unwrap().as_deref(), Some("one"));
    assert_eq!(get(&store, "B").await.unwrap().as_deref(), Some("two"));
    for name in ["sealed", "sealed.key", "sealed.lock"] {
        let mode = std::fs::metadata(state.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[tokio::test]
async fn a_credential_goes_before_a_key_file() {
    let (dir, credential) = (TempDir::new(), credential());
    let with = store(dir.path(), None, &[credential.path()]);
    assert_eq!(set(&with, "A", "one").await, Ok(Source::Credential));
    assert!(!dir.path().join("sealed.key").exists());
    assert!(with.weakness(Source::Credential).is_none());
    assert!(with.weakness(Source::File).is_some());
}

#[tokio::test]
async fn a_store_is_never_made_anew_when_its_key_is_not_there() {
    let (dir, credential) = (TempDir::new(), credential());
    let with = store(dir.path(), None, &[credential.path()]);
    set(&with, "A", "one").await.unwrap();
    let before = std::fs::read(dir.path().join("sealed")).unwrap();

    // Nothing is there; then another key is; then the configuration forbids the right one.
    let other = self::credential();
    std::fs::write(dir.path().join("sealed.key"), key::RootKey::generate().unwrap().to_line()).unwrap();
    std::fs::set_permissions(dir.path().join("sealed.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for (without, says) in [
        (store(dir.path(), None, &[]), "another key was found in the key file"),
        (store(dir.path(), None, &[other.path()]), "the system credential and the key file"),
        (store(dir.path(), Some(Source::File), &[credential.path()]), "allows the key file only"),
    ] {
        let error = get(&without, "A").await.unwrap_err();
        assert_eq!(error.blame, Blame::Config);
        assert!(error.what.contains(says), "{}", error.what);
        assert!(set(&without, "A", "two").await.is_err());
        assert_eq!(std::fs::read(dir.path().join("sealed")).unwrap(), before, "{says}");
    }
    assert_eq!(get(&with, "A").await.unwrap().as_deref(), Some("one"));
}

#[tokio::test]
async fn the_very_key_may_move_to_a_better_place() {
    let (dir, credential) = (TempDir::new(), TempDir::new());
    set(&store(dir.path(), None, &[]), "A", "one").await.unwrap();
    let place = credential.path().join("mcp-broker-sealed-key");
    std::fs::rename(dir.path().join("sealed.key"), &place).unwrap();
    let moved = store(dir.path(), None, &[credential.path()]);
    assert_eq!(get(&moved, "A").await.unwrap().as_deref(), Some("one"));
    assert_eq!(moved.read().await.unwrap().unwrap().source, Source::Credential);
    assert!(!dir.path().join("sealed.key").exists());
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused() {
    let dir = TempDir::new();
    let store = store(dir.path(), None, &[]);
    set(&store, "A", "one").await.unwrap();
    let key = dir.path().join("sealed.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = get(&store, "A").await.unwrap_err();
    assert!(error.what.contains("sealed.key"), "{}", error.what);
    assert!(error.hint.contains("chmod 0600"), "{}", error.hint);
    assert!(set(&store, "A", "two").await.is_err());
}

#[tokio::test]
async fn a_damaged_store_is_refused_with_its_path() {
    let dir = TempDir::new();
    let store = store(dir.path(), None, &[]);
    set(&store, "A", "one").await.unwrap();
    let path = dir.path().join("sealed");
    let good = std::fs::read(&path).unwrap();
    let newer = String::from_utf8_lossy(&good).replacen("sealed 1 ", "sealed 2 ", 1);
    for (bytes, says) in [
        (&b""[..], "is not a sealed store"),
        (good.split_last().unwrap().1, "is damaged"),
        (newer.as_bytes(), "has format 2"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = get(&store, "A").await.unwrap_err();
        assert!(error.what.contains(says) && error.what.contains("/sealed`"), "{}", error.what);
        assert!(set(&store, "A", "two").await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "left as it was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_lose_nothing() {
    let dir = TempDir::new();
    let mut writers = tokio::task::JoinSet::new();
    for i in 0..16 {
        let store = store(dir.path(), None, &[]);
        writers.spawn(async move {
            set(&store, &format!("n{i}"), "v").await.unwrap();
            // A reader in between always sees a whole store.
            assert!(store.read().await.unwrap().is_some());
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let opened = store(dir.path(), None, &[]).read().await.unwrap().unwrap();
    assert_eq!(opened.entries.count(), 16);
}

#[tokio::test]
async fn a_change_that_fails_changes_nothing() {
    let dir = TempDir::new();
    let store = store(dir.path(), None, &[]);
    set(&store, "A", "one").await.unwrap();
    let before = std::fs::read(dir.path().join("sealed")).unwrap();
    let name: SecretName = "B".parse().unwrap();
    assert_eq!(store.change(|_| Err::<(), _>(store.missing(&name))).await.unwrap_err().blame, Blame::Missing);
    assert_eq!(std::fs::read(dir.path().join("sealed")).unwrap(), before);
}

#[tokio::test]
async fn the_provider_hands_a_value_out_and_claims_nothing() {
    let dir = TempDir::new();
    let config = SealedConfig { mode: Mode::User, key: Some(Source::File) };
    let name = "local".parse().unwrap();
    let deps = BuildDeps {
        name,
        clock: Arc::new(SystemClock),
        state_dir: dir.path().to_owned(),
        peers: crate::provider::Peers::default(),
    };
    let provider = (KIND.build)(&config, &deps).unwrap();
    assert!(provider.health().await.unwrap().warning.unwrap().1.contains("secret set"));

    let request = request("A");
    assert_eq!(provider.revocability(&request.spec), Revocability::None);
    let prepared = provider.prepare(&request, None).await.unwrap();
    assert_eq!(prepared.handle, Handle(json!({ "secret": "A" })));
    let error = provider.issue(&request, prepared).await.err().unwrap();
    assert_eq!((error.blame, error.hint.as_str()), (Blame::Missing, "mcp-broker secret set A --user"));

    set(&store(dir.path(), None, &[]), "A", "one").await.unwrap();
    let prepared = provider.prepare(&request, None).await.unwrap();
    let issued = provider.issue(&request, prepared).await.unwrap();
    assert_eq!(issued.fields.get("value").map(|value| value.expose(str::to_owned)).as_deref(), Some("one"));
    assert_eq!((issued.expires_at, issued.renewable), (None, false));
    assert_eq!(provider.revoke(&issued.handle).await, Ok(Revocation::ExpiresAt(None)));
    let healthy = provider.health().await.unwrap();
    assert_eq!(healthy.detail, "1 value, key from the key file");
    assert!(healthy.warning.unwrap().0.contains("sealed.key"));
}

fn request(secret: &str) -> MintRequest {
    let settings = Arc::new(SealedCredential { secret: secret.parse().unwrap() });
    MintRequest {
        lease: LeaseId::fresh(),
        launch: LaunchId::fresh(),
        session: SessionId::fresh(),
        user: "alice".into(),
        server: "everything".parse().unwrap(),
        scope: "all".parse().unwrap(),
        spec: CredentialSpec {
            name: "token".parse().unwrap(),
            provider: "local".parse().unwrap(),
            ttl: Duration::from_secs(60),
            settings,
        },
        delivered: Vec::new(),
        refreshes: false,
        horizon: Duration::from_secs(60),
    }
}

/// The steps that the hint names, in its order: the store opens with the moved key before the file goes.
#[tokio::test]
async fn the_key_can_be_moved_as_the_hint_says() {
    let dir = TempDir::new();
    let before = store(dir.path(), Some(Source::File), &[]).asked_with(" --user --config /c");
    set(&before, "A", "value").await.unwrap();
    let (_, hint) = before.weakness(Source::File).unwrap();
    let steps = [
        "write `key = \"keyring\"` in place of \"file\"",
        "secret-tool store",
        "; then mv ",
        "secret list --user --config /c`",
        "shred -u ",
    ];
    let places: Vec<_> = steps.iter().map(|step| hint.find(step)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{hint}");
    let (_, auto) = store(dir.path(), None, &[]).weakness(Source::File).unwrap();
    assert!(!auto.contains("in place of"), "{auto}");

    // The same with the other place that a key can be moved to, which needs no daemon.
    let credentials = TempDir::new();
    let key = credentials.path().join("mcp-broker-sealed-key");
    std::fs::copy(dir.path().join("sealed.key"), &key).unwrap();
    std::fs::rename(dir.path().join("sealed.key"), dir.path().join("sealed.key.old")).unwrap();
    let after = store(dir.path(), Some(Source::Credential), &[credentials.path()]);
    let opened = after.read().await.unwrap().unwrap();
    assert_eq!((opened.source, opened.entries.count()), (Source::Credential, 1));
}
