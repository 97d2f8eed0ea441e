//! The keys of one issuer in the state directory: the one that signs, and the public halves of earlier ones for as
//! long as a token of theirs may live. The file is nobody's but the broker's, and replaced as a whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::key::{self, Algorithm};
use super::settings::Settings;
use crate::provider::files;

/// Longer files are refused.
const MAX_FILE: u64 = 256 << 10;
/// No token lives longer than the longest `ttl` of a credential, a day; an hour more for clocks that differ.
const LAST_TOKEN: Duration = Duration::from_secs(25 * 3600);

/// What the file holds. Not `Debug`.
#[derive(Serialize, Deserialize)]
pub(super) struct Keys {
    /// Names the key that signs.
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    made: Timestamp,
    /// PKCS #8, base64.
    #[serde(with = "wiped")]
    private: Zeroizing<String>,
    public: Value,
    retired: Vec<Retired>,
}

#[derive(Serialize, Deserialize)]
struct Retired {
    until: Timestamp,
    public: Value,
}

impl Keys {
    /// Reads the keys, or makes the first one.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or is not ours alone.
    pub(super) fn open(path: &Path, settings: &Settings, now: Timestamp) -> io::Result<Self> {
        let keys = match read(path) {
            Ok(keys) => keys,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Self::made(settings, now)?;
                keys.write(path)?;
                keys
            }
            Err(error) => return Err(error),
        };
        keys.publish(settings)?;
        Ok(keys)
    }

    fn made(settings: &Settings, now: Timestamp) -> io::Result<Self> {
        let algorithm = settings.algorithm;
        let no_key = || io::Error::other("no key could be made");
        let pkcs8 = key::fresh(algorithm).ok_or_else(no_key)?;
        let kid = uuid::Uuid::new_v4().simple().to_string();
        let public = key::public(algorithm, &pkcs8, &kid).ok_or_else(no_key)?;
        let private = Zeroizing::new(STANDARD.encode(&*pkcs8));
        Ok(Self { kid, algorithm, made: now, private, public, retired: Vec::new() })
    }

    /// Whether another key must sign from now on.
    pub(super) fn are_due(&self, settings: &Settings, now: Timestamp) -> bool {
        now >= after(self.made, settings.rotate) || self.algorithm != settings.algorithm
    }

    /// The keys with another one that signs. The private half of the earlier one is gone.
    ///
    /// # Errors
    /// Where they cannot be written or published: nothing is signed until that is mended.
    pub(super) fn rotated(&self, path: &Path, settings: &Settings, now: Timestamp) -> io::Result<Self> {
        let mut next = Self::made(settings, now)?;
        let old = self.retired.iter().filter(|old| old.until > now);
        next.retired = old.map(|old| Retired { until: old.until, public: old.public.clone() }).collect();
        next.retired.push(Retired { until: after(now, LAST_TOKEN), public: self.public.clone() });
        // Published before it signs, so that nobody meets a token whose key is not there.
        next.publish(settings)?;
        next.write(path)?;
        Ok(next)
    }

    /// The set of public keys (RFC 7517 section 5).
    pub(super) fn jwks(&self) -> Value {
        let all: Vec<_> =
            std::iter::once(&self.public).chain(self.retired.iter().map(|old| &old.public)).collect();
        json!({ "keys": all })
    }

    /// Signs; `None` where the key in the file is none.
    pub(super) fn sign(&self, claims: &Value) -> Option<Zeroizing<String>> {
        let pkcs8 = Zeroizing::new(STANDARD.decode(self.private.as_bytes()).ok()?);
        key::sign(self.algorithm, &pkcs8, &self.kid, claims)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec(self).map_err(io::Error::other)?);
        replace(path, &text, 0o600)
    }

    /// Writes what others need to verify a token, where the configuration says so.
    fn publish(&self, settings: &Settings) -> io::Result<()> {
        let Some(root) = &settings.publish else { return Ok(()) };
        let folder = root.join(".well-known");
        DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
        let text = |value: &Value| format!("{value:#}\n").into_bytes();
        replace(&folder.join("jwks.json"), &text(&self.jwks()), 0o644)?;
        for name in ["openid-configuration", "oauth-authorization-server"] {
            replace(&folder.join(name), &text(&discovery(settings)), 0o644)?;
        }
        Ok(())
    }
}

/// What is true of this issuer of what OpenID Connect Discovery 1.0 section 3 and RFC 8414 section 2 know: it signs
/// tokens, and has no endpoint for anybody.
fn discovery(settings: &Settings) -> Value {
    let issuer = &settings.issuer;
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "response_types_supported": [],
        "grant_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [settings.algorithm.word()],
    })
}

/// A text that is wiped, in a file that only the broker reads.
mod wiped {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }
}

/// Where an issuer's keys are kept.
pub(super) fn path(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(format!("jwt-{name}.json"))
}

/// Reads the keys.
///
/// # Errors
/// Where the file is not there, not ours alone, or not understood.
pub(super) fn read(path: &Path) -> io::Result<Keys> {
    let bytes = files::read_secret(path, MAX_FILE)?;
    serde_json::from_slice(&bytes)
        .map_err(|_damaged| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _removed_or_absent => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    // The process's mask takes away what the others of a public file need.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
}

fn after(at: Timestamp, life: Duration) -> Timestamp {
    at.checked_add(SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn settings(algorithm: Algorithm) -> Settings {
        let rotate = Duration::from_secs(3600);
        Settings { issuer: "https://b.example.com".to_owned(), algorithm, rotate, publish: None }
    }

    #[test]
    fn an_old_public_key_stays_until_its_last_token_ended() {
        let dir = std::env::temp_dir().join(format!("mcp-broker-jwt-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, settings) = (path(&dir, "own"), settings(Algorithm::EdDsa));
        let at = |hours: u64| after(Timestamp::UNIX_EPOCH, Duration::from_secs(3600 * hours));
        let first = Keys::open(&file, &settings, at(0)).unwrap();
        assert!(!first.are_due(&settings, at(0)) && first.are_due(&settings, at(1)));
        let second = first.rotated(&file, &settings, at(1)).unwrap();
        let kids = |keys: &Keys| -> Vec<String> {
            let all = keys.jwks()["keys"].as_array().unwrap().clone();
            all.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(kids(&second), [second.kid.clone(), first.kid.clone()]);
        let again = Keys::open(&file, &settings, at(2)).unwrap();
        assert_eq!(kids(&again), kids(&second), "it is read as it was written");
        let third = again.rotated(&file, &settings, at(40)).unwrap();
        assert_eq!(
            kids(&third),
            [third.kid.clone(), second.kid.clone()],
            "the first one's tokens have ended"
        );
        assert!(!third.jwks().to_string().contains("private"));
        let mut open = std::fs::metadata(&file).unwrap().permissions();
        assert_eq!(open.mode() & 0o777, 0o600);
        open.set_mode(0o640);
        std::fs::set_permissions(&file, open).unwrap();
        assert!(read(&file).is_err(), "others may read it");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    use std::os::unix::fs::PermissionsExt;
}
