//! What a token is narrowed to, and whether what came is no wider. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How far a permission goes; each includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Read,
    Write,
    Admin,
}

/// One credential's keys, and the body of the request for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Narrowed {
    /// Never empty.
    pub(super) repositories: Vec<String>,
    /// Never empty.
    pub(super) permissions: BTreeMap<String, Level>,
}

/// What GitHub says that it gave. What is missing counts as everything.
#[derive(Deserialize)]
pub(super) struct Given {
    permissions: Option<BTreeMap<String, Level>>,
    repositories: Option<Vec<Repository>>,
}

#[derive(Deserialize)]
struct Repository {
    name: String,
}

impl Narrowed {
    /// The first thing that goes beyond what was asked for. `metadata: read` comes with every token.
    pub(super) fn excess(&self, given: &Given) -> Option<String> {
        let Some(permissions) = &given.permissions else {
            return Some("permissions that are not told".into());
        };
        let Some(repositories) = &given.repositories else {
            return Some("repositories that are not told".into());
        };
        let wider = permissions.iter().find(|(name, level)| {
            let implied = name.as_str() == "metadata" && **level == Level::Read;
            !implied && self.permissions.get(*name).is_none_or(|asked| asked < *level)
        });
        if wider.is_some() {
            return Some("a permission that was not asked for".into());
        }
        let asked = |name: &str| self.repositories.iter().any(|asked| asked.eq_ignore_ascii_case(name));
        let foreign = repositories.iter().any(|repository| !asked(&repository.name));
        foreign.then(|| "a repository that was not asked for".into())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_wider_is_seen() {
        let asked = Narrowed {
            repositories: vec!["orders".into()],
            permissions: BTreeMap::from([("contents".into(), Level::Write)]),
        };
        for (given, good) in [
            (r#"{"permissions":{"contents":"write"},"repositories":[{"name":"orders"}]}"#, true),
            (
                r#"{"permissions":{"contents":"read","metadata":"read"},"repositories":[{"name":"Orders"}]}"#,
                true,
            ),
            (r#"{"permissions":{"contents":"admin"},"repositories":[{"name":"orders"}]}"#, false),
            (
                r#"{"permissions":{"contents":"read","issues":"read"},"repositories":[{"name":"orders"}]}"#,
                false,
            ),
            (r#"{"permissions":{"metadata":"write"},"repositories":[{"name":"orders"}]}"#, false),
            (
                r#"{"permissions":{"contents":"read"},"repositories":[{"name":"orders"},{"name":"pay"}]}"#,
                false,
            ),
            (r#"{"permissions":{"contents":"read"}}"#, false),
            (r#"{"repositories":[{"name":"orders"}]}"#, false),
        ] {
            assert_eq!(asked.excess(&serde_json::from_str(given).unwrap()).is_none(), good, "{given}");
        }
        assert!(serde_json::from_str::<Given>(r#"{"permissions":{"contents":"owner"}}"#).is_err());
    }
}
