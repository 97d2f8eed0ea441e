//! The name of a sealed value: parsed at the edge, printed freely, never a file name.

use std::fmt;
use std::str::FromStr;

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

impl SecretName {
    /// The longest name, in bytes.
    pub const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`, and begin with a letter or a digit")]
pub struct NotASecretName;

impl FromStr for SecretName {
    type Err = NotASecretName;
    fn from_str(text: &str) -> Result<Self, NotASecretName> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= Self::MAX && text.bytes().all(word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotASecretName)
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "GITHUB_TOKEN", "0", "team.db-1", &"x".repeat(64)] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a b", "a/b", "../x", "a\0", "a\n", "ä", &"x".repeat(65)] {
            assert_eq!(bad.parse::<SecretName>(), Err(NotASecretName), "{bad:?}");
        }
    }
}
