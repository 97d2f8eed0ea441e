//! The path of a secret, white-listed: what the URL library would drop or reinterpret (`..`, `?`, `%`) never
//! gets that far. Does not know what is behind a path, only what its shape says.

use std::fmt;
use std::str::FromStr;

/// Longest path taken, in bytes.
const MAX_PATH: usize = 512;

/// A path below `/v1/`, such as `database/creds/orders-ro`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretPath(String);

impl SecretPath {
    /// The path, without a leading slash.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first segment, which is the engine's mount unless that has several.
    pub(super) fn mount(&self) -> &str {
        self.0.split('/').next().unwrap_or("")
    }

    /// Whether the path has the shape of a KV version 2 read, `MOUNT/data/NAME`. A mount may have several
    /// segments, so `data` counts wherever something stands on both sides of it.
    pub(super) fn is_kv2(&self) -> bool {
        let segments: Vec<_> = self.0.split('/').collect();
        let inner = segments.len().saturating_sub(1);
        segments.iter().take(inner).skip(1).any(|segment| *segment == "data")
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a path of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPath {
    #[error("is not `MOUNT/…` made of segments of A-Z, a-z, 0-9, `_`, `.` and `-`")]
    Shape,
    #[error("begins with `v1/`, which the broker adds by itself")]
    Version,
    #[error("is below `sys/` or `auth/`, where no secrets are")]
    Reserved,
}

impl FromStr for SecretPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        let segments: Vec<_> = text.split('/').collect();
        if text.len() > MAX_PATH || segments.len() < 2 || !segments.iter().all(|s| is_segment(s)) {
            return Err(BadPath::Shape);
        }
        match segments.first().copied() {
            Some("v1") => Err(BadPath::Version),
            Some("sys" | "auth") => Err(BadPath::Reserved),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// Whether `text` may be one segment of a path: a mount, a role, a name.
pub(super) fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && !matches!(text, "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<(), BadPath>) {
        assert_eq!(text.parse::<SecretPath>().map(|_| ()), want, "{text:?}");
    }

    #[test]
    fn only_plain_segments_pass() {
        for good in ["database/creds/orders-ro", "secret/data/a.b_c", "a/b", "team/kv/data/x", "x/v1/sys"] {
            check(good, Ok(()));
        }
        let long = format!("a/{}", "b".repeat(MAX_PATH));
        for bad in [
            "",
            "a",
            "/a/b",
            "a/b/",
            "a//b",
            "a/../sys",
            "a/./b",
            "..",
            "a/b?x=1",
            "a/b#c",
            "a/%2e%2e/b",
            "a/b c",
            "a/b\n",
            "a/é",
            "a\\b/c",
            &long,
        ] {
            check(bad, Err(BadPath::Shape));
        }
        check("v1/secret/data/x", Err(BadPath::Version));
        check("sys/leases", Err(BadPath::Reserved));
        check("auth/token/create", Err(BadPath::Reserved));
    }

    #[test]
    fn shapes_are_recognised() {
        let table = [
            ("secret/data/x", true),
            ("team/kv/data/x/y", true),
            ("secret/data", false),
            ("data/x", false),
            ("database/creds/data", false),
        ];
        for (text, kv2) in table {
            assert_eq!(text.parse::<SecretPath>().unwrap().is_kv2(), kv2, "{text}");
        }
    }
}
