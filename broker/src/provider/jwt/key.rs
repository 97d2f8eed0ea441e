//! One signing key: made, written as text, read again, used, and shown as a public JWK (RFC 7517, RFC 8037).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// How tokens are signed (RFC 8037 section 3.1, RFC 7518 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "ES256")]
    Es256,
}

impl Algorithm {
    /// As `alg` says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }
}

/// A key that signs.
enum Pair {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
}

/// A new private key, PKCS #8. `None`: the system gives no randomness.
pub(super) fn fresh(algorithm: Algorithm) -> Option<Zeroizing<Vec<u8>>> {
    let random = SystemRandom::new();
    let document = match algorithm {
        Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random),
        Algorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random),
    };
    document.ok().map(|document| Zeroizing::new(document.as_ref().to_vec()))
}

fn pair(algorithm: Algorithm, pkcs8: &[u8]) -> Option<Pair> {
    match algorithm {
        Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).ok().map(Pair::Ed),
        Algorithm::Es256 => {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok().map(Pair::Ec)
        }
    }
}

/// The public half under its id.
pub(super) fn public(algorithm: Algorithm, pkcs8: &[u8], kid: &str) -> Option<Value> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (use_, alg) = ("sig", algorithm.word());
    match pair(algorithm, pkcs8)? {
        Pair::Ed(pair) => {
            let x = text(pair.public_key().as_ref());
            Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": use_, "alg": alg }))
        }
        Pair::Ec(pair) => {
            // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
            let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
            let (x, y) = (text(x), text(y));
            Some(json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": use_, "alg": alg }))
        }
    }
}

/// The signed form of `claims` (RFC 7515 section 3.1).
pub(super) fn sign(
    algorithm: Algorithm,
    pkcs8: &[u8],
    kid: &str,
    claims: &Value,
) -> Option<Zeroizing<String>> {
    let head = json!({ "alg": algorithm.word(), "typ": "JWT", "kid": kid });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut text = Zeroizing::new(format!("{}.{}", part(&head), part(claims)));
    let signature = match pair(algorithm, pkcs8)? {
        Pair::Ed(pair) => pair.sign(text.as_bytes()),
        Pair::Ec(pair) => pair.sign(&SystemRandom::new(), text.as_bytes()).ok()?,
    };
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Some(text)
}
