//! Names and identifiers as types: text becomes one of these at the edge or it is refused.
//! They never carry a secret, so all of them may be printed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Words that `mcp-run` takes as commands; no server may bear one.
pub const RESERVED: &[&str] = &[
    "approve",
    "completions",
    "credential",
    "doctor",
    "help",
    "lock",
    "login",
    "logout",
    "migrate",
    "scan",
    "servers",
    "status",
    "unlock",
    "version",
];

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadName {
    /// Not `[a-z0-9][a-z0-9-]{0,62}`.
    Shape,
    /// A command of `mcp-run`.
    Reserved,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "must be 1 to 63 of a-z, 0-9 and '-', and not begin with '-'",
            Self::Reserved => "is a command of mcp-run, so no server may bear it",
        })
    }
}

impl std::error::Error for BadName {}

/// The name under which the admin approved a server: `[a-z0-9][a-z0-9-]{0,62}` and not a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

/// The name of a provider, a scope or a credential in the configuration: the same shape, no word reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

fn shaped(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'-')
}

impl FromStr for ServerName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        if !shaped(text) {
            return Err(BadName::Shape);
        }
        if RESERVED.contains(&text) {
            return Err(BadName::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Label {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        // `_` is common in credential names, and harmless: labels never become file names.
        if shaped(&text.replace('_', "-")) { Ok(Self(text.to_owned())) } else { Err(BadName::Shape) }
    }
}

macro_rules! text_name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}
text_name!(ServerName);
text_name!(Label);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one: UUID version 7 (RFC 9562), so that ids sort by time.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}
id!(/// One login session of one person, signed in.
    SessionId);
id!(/// One run of one server by one `mcp-run`.
    LaunchId);
id!(/// One minted credential.
    LeaseId);
id!(/// One decision on a `tools/call`.
    CallId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names() {
        for good in ["a", "0", "orders-db", &"x".repeat(63)] {
            assert!(good.parse::<ServerName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "../x", "a\0", "a\n", "ä", &"x".repeat(64)] {
            assert_eq!(bad.parse::<ServerName>(), Err(BadName::Shape), "{bad:?}");
        }
        for word in RESERVED {
            assert_eq!(word.parse::<ServerName>(), Err(BadName::Reserved));
        }
    }
}
