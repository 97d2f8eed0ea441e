//! What goes into the journal for a session of STS: names and times, no key.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::provider::{Blame, Handle, ProviderError};

/// A handle, read. The journal outlives the program: its form must stay readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Which call made it, or was to make it.
    pub(super) call: String,
    /// `RoleSessionName`, or `Name` of a federated user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) session_name: Option<String>,
    /// The role.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) role_arn: Option<String>,
    /// The account, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) account: Option<String>,
    /// When it ends at the latest: as STS said, or as it could have said.
    pub(super) until: Timestamp,
}

impl Held {
    /// Reads a handle of this kind of provider.
    pub(super) fn read(handle: &Handle, provider: &str) -> Result<Self, ProviderError> {
        Self::deserialize(&handle.0).map_err(|_error| {
            let what = format!("provider `{provider}` was given a handle that it did not make");
            let hint = "the journal was written by another version, or for another kind under this name";
            ProviderError::new(Blame::Broken, what, hint)
        })
    }

    /// Writes it.
    pub(super) fn to_handle(&self) -> Handle {
        Handle(serde_json::json!(self))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn forms_in_the_journal() {
        let held = Held {
            call: "assume-role".into(),
            session_name: Some("mcp-1-a-2".into()),
            role_arn: Some("arn:aws:iam::123456789012:role/tool".into()),
            account: Some("123456789012".into()),
            until: Timestamp::UNIX_EPOCH,
        };
        let json = serde_json::json!({"call": "assume-role", "session_name": "mcp-1-a-2",
            "role_arn": "arn:aws:iam::123456789012:role/tool", "account": "123456789012",
            "until": "1970-01-01T00:00:00Z"});
        assert_eq!(held.to_handle().0, json);
        assert_eq!(Held::read(&Handle(json), "x").unwrap(), held);
        let least = serde_json::json!({"call": "get-session-token", "until": "1970-01-01T00:00:00Z"});
        assert_eq!(Held::read(&Handle(least.clone()), "x").unwrap().to_handle().0, least);
    }
}
