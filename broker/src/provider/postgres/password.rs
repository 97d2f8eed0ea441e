//! A role's password, and the SCRAM verifier by which the server knows it. The password itself never goes there, so
//! that no log of the server can have it, whatever it logs.

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mcp_broker_proto::Secret;
use zeroize::Zeroizing;

/// Bytes of randomness in a password: 192 bits, 32 characters.
const PASSWORD_BYTES: usize = 24;
const SALT_BYTES: usize = 16;
/// The server's own default (`scram_iterations`). More would protect a weak password; this one is not.
const ITERATIONS: u32 = 4096;

/// A new password. `None`: the system gives no randomness.
pub(super) fn fresh() -> Option<Secret> {
    let mut bytes = Zeroizing::new([0; PASSWORD_BYTES]);
    rand::fill(bytes.as_mut()).ok()?;
    Some(Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
}

/// A tail of a name that nobody guesses or meets by chance: 16 hexadecimal digits.
pub(super) fn tail() -> Option<String> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).ok()?;
    Some(format!("{:016x}", u64::from_be_bytes(bytes)))
}

/// What `pg_authid.rolpassword` holds for it (PostgreSQL manual, section 53.8; RFC 5802 section 3, RFC 7677).
pub(super) fn verifier(password: &Secret) -> Option<String> {
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt).ok()?;
    // EXPOSE: the derivation below, which keeps nothing of it. SASLprep changes no ASCII.
    password.expose(|text| salted(text.as_bytes(), &salt, ITERATIONS))
}

fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Option<String> {
    let mut salted = Zeroizing::new([0; digest::SHA256_OUTPUT_LEN]);
    let rounds = std::num::NonZeroU32::new(iterations)?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, salted.as_mut());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let (salt, stored, server) = (STANDARD.encode(salt), STANDARD.encode(stored), STANDARD.encode(server));
    Some(format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Computed with Python's hashlib and hmac from RFC 5802's definitions, for RFC 7677's password and salt.
    #[test]
    fn verifiers_are_what_the_rfc_says() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(salted(b"pencil", &salt, 4096).unwrap(), KNOWN);
    }

    #[test]
    fn passwords_differ_and_need_no_quotes() {
        let (a, b) = (fresh().unwrap(), fresh().unwrap());
        // EXPOSE: passwords of nothing.
        let (a, b) = (a.expose(str::to_owned), b.expose(str::to_owned));
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert!(a.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{a}");
        assert_ne!(tail().unwrap(), tail().unwrap());
    }

    const KNOWN: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
}
