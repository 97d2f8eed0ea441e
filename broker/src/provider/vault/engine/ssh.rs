//! Keys for SSH: a pair in OpenSSH's format where the definition gives no public key, and the end that is written in
//! a certificate. The private half exists in the launch's fields only.

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use mcp_broker_proto::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::super::answer::Answer;

pub(super) const SIGNED: &[&str] =
    &["private_key", "private_key_type", "public_key", "serial_number", "signed_key"];
pub(super) const SIGNED_PLAIN: &[&str] = &["private_key_type", "public_key", "serial_number", "signed_key"];
pub(super) const PASSWORD: &[&str] = &["ip", "key", "key_type", "port", "username"];
pub(super) const PASSWORD_PLAIN: &[&str] = &["ip", "key_type", "port", "username"];

const KEY_TYPE: &[u8] = b"ssh-ed25519";

/// A key pair in OpenSSH's forms.
pub(in super::super) struct Pair {
    /// `-----BEGIN OPENSSH PRIVATE KEY-----`, without a pass phrase.
    pub(in super::super) private: Secret,
    /// `ssh-ed25519 AAAA…`.
    pub(in super::super) public: String,
}

impl Pair {
    /// A new one; `None` where the system has no randomness.
    pub(in super::super) fn fresh() -> Option<Self> {
        let (mut seed, mut check) = (Zeroizing::new([0; 32]), [0; 4]);
        rand::fill(&mut *seed).ok()?;
        rand::fill(&mut check).ok()?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?;
        let public = pair.public_key().as_ref();
        let blob = [string(KEY_TYPE), string(public)].concat();
        let text = format!("ssh-ed25519 {}", BASE64_STANDARD.encode(&blob));
        Some(Self { private: private_key(&seed, public, &blob, check), public: text })
    }
}

/// The format of PROTOCOL.key of OpenSSH: one key, no cipher. Room is made at once, so that no buffer is left behind.
fn private_key(seed: &[u8; 32], public: &[u8], blob: &[u8], check: [u8; 4]) -> Secret {
    let mut inner = Zeroizing::new(Vec::with_capacity(256));
    inner.extend_from_slice(&check);
    inner.extend_from_slice(&check);
    inner.extend_from_slice(&string(KEY_TYPE));
    inner.extend_from_slice(&string(public));
    inner.extend_from_slice(&64_u32.to_be_bytes());
    inner.extend_from_slice(seed);
    inner.extend_from_slice(public);
    inner.extend_from_slice(&string(b""));
    // To whole blocks of eight bytes: 1, 2, 3, …
    let padding = (8 - inner.len() % 8) % 8;
    inner.extend((1..=8_u8).take(padding));
    let mut outer = Zeroizing::new(Vec::with_capacity(512));
    outer.extend_from_slice(b"openssh-key-v1\0");
    for part in [&b"none"[..], b"none", b""] {
        outer.extend_from_slice(&string(part));
    }
    outer.extend_from_slice(&1_u32.to_be_bytes());
    outer.extend_from_slice(&string(blob));
    outer.extend_from_slice(&length(inner.len()));
    outer.extend_from_slice(&inner);
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*outer));
    let mut text = String::with_capacity(1024);
    text.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for (at, c) in encoded.chars().enumerate() {
        if at > 0 && at % 70 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str("\n-----END OPENSSH PRIVATE KEY-----\n");
    Secret::new(text)
}

/// RFC 4251 section 5: a length, then the bytes. For what is not secret.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&length(bytes.len())[..], bytes].concat()
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// A certificate ends its line with a line feed, and a file of one needs it, but a template does not.
pub(super) fn finish(fields: &mut BTreeMap<String, Secret>) {
    let Some(key) = fields.get("signed_key") else { return };
    // EXPOSE: a certificate, which is public.
    let trimmed = key.expose(|text| text.trim_end().to_owned());
    fields.insert("signed_key".to_owned(), Secret::new(trimmed));
}

/// When the certificate in an answer ends.
pub(super) fn end(answer: &Answer) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Signed {
        signed_key: String,
    }
    let Signed { signed_key } = answer.data()?;
    let blob = BASE64_STANDARD.decode(signed_key.split_whitespace().nth(1)?).ok()?;
    Timestamp::from_second(i64::try_from(valid_before(&blob)?).ok()?).ok()
}

/// `valid before` of PROTOCOL.certkeys of OpenSSH; how many fields a public key has depends on its type.
fn valid_before(blob: &[u8]) -> Option<u64> {
    let mut rest = blob;
    let kind = take_string(&mut rest)?;
    let key_fields = match kind {
        b"ssh-ed25519-cert-v01@openssh.com" => 1,
        b"ssh-rsa-cert-v01@openssh.com" => 2,
        kind if kind.starts_with(b"ecdsa-sha2-") => 2,
        _ => return None,
    };
    // The nonce, and the key.
    for _ in 0..=key_fields {
        take_string(&mut rest)?;
    }
    // The serial number and the type.
    take(&mut rest, 12)?;
    // The key id and the principals.
    take_string(&mut rest)?;
    take_string(&mut rest)?;
    take(&mut rest, 8)?;
    Some(u64::from_be_bytes(take(&mut rest, 8)?.try_into().ok()?))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
    take(rest, usize::try_from(length).ok()?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A certificate of OpenBao 2.7.2 that was signed for 120 s, and its end as OpenSSH shows it.
    const SIGNED_KEY: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIF/A9lsn2BuM7PtEpwUQ6ArxJxOuE1GTWZizbguV3EXAAAAAIIgPkYBIr8FOidFcrEH+zKgY84cKfnV8o1UspTa68Xi+6DSAnqNdOpoAAAABAAAATHZhdWx0LXRva2VuLWJkNDU0YzJkMTc3MTE0NjIzMmQ3M2QyZDJjNjlkMDMzNGM4M2Q4MjFjMTdiZDRiNDI3NWNkN2UzOWVlY2ZkYWUAAAAFAAAAAXUAAAAAawXG1gAAAABrBcdsAAAAAAAAABIAAAAKcGVybWl0LXB0eQAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACDpffo8PCOzm5k7muLQJXicsbDKnnDo+1XhB8Xm66lSPQAAAFMAAAALc3NoLWVkMjU1MTkAAABAFts7IC7RVvUErYbZcyQASw3qwhxWnTPPfw243jEnhkpVc2HakGAdhof5jtbJtO5m7hLqydAWjOvUY1RwXv/SAg==";

    #[test]
    fn an_end_is_read_from_a_certificate() {
        let blob = BASE64_STANDARD.decode(SIGNED_KEY.split_whitespace().nth(1).unwrap()).unwrap();
        assert_eq!(valid_before(&blob), Some(0x6b05_c76c));
        for cut in [0, 3, 40, 100, 200] {
            assert_eq!(valid_before(blob.get(..cut).unwrap()), None, "{cut}");
        }
    }

    /// What OpenSSH itself makes of it is seen in the tests against a real server.
    #[test]
    fn every_pair_is_another() {
        let (one, other) = (Pair::fresh().unwrap(), Pair::fresh().unwrap());
        assert_ne!(one.public, other.public);
        assert!(one.public.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"), "{}", one.public);
        // EXPOSE: a key of this test.
        let text = one.private.expose(str::to_owned);
        assert!(text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 70), "{text}");
    }
}
