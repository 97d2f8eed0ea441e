//! The part of the answer that is about pinning: whether the server was approved as it is defined now, and which of
//! its tools it showed then.

use mcp_broker_proto::names::Label;

use crate::config::{Config, ServerDefinition};
use crate::package::{Kept, look};

/// How a server stands, as far as its record can be read.
pub(super) enum Pins {
    /// It was never approved: nothing is pinned.
    Never,
    /// It was approved, and is defined otherwise now.
    Outdated {
        /// When it was approved.
        at: String,
    },
    /// It was approved as it is defined now.
    Current(Kept),
    /// The record cannot be read; the running broker's account may be able to.
    Unreadable(String),
}

impl Pins {
    /// Reads the record in the state directory.
    pub(super) fn of(config: &Config, server: &ServerDefinition) -> Self {
        match look(&config.broker.state_dir, server) {
            Ok(None) => Self::Never,
            Ok(Some(kept)) if kept.current => Self::Current(kept),
            Ok(Some(kept)) => Self::Outdated { at: kept.approved_at },
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }

    /// How the server stands, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Never => "nothing of it is pinned, as `mcp-broker approve` was not run".to_owned(),
            Self::Outdated { at } => {
                format!(
                    "nothing of it is pinned, as its definition has changed since it was approved at {at}"
                )
            }
            Self::Current(kept) => format!("its tools are pinned as it showed them at {}", kept.approved_at),
            Self::Unreadable(why) => format!("what is pinned of it cannot be read here: {why}"),
        }
    }

    /// How one tool stands, and whether a client can be shown it.
    pub(super) fn of_tool(&self, scope: &Label, tool: &str) -> (String, bool) {
        let Self::Current(kept) = self else { return (self.words(), true) };
        let at = &kept.approved_at;
        match kept.tools.get(scope).and_then(|tools| tools.get(tool)) {
            Some(digests) => {
                let digests: Vec<_> =
                    digests.iter().map(|digest| digest.get(..SHOWN).unwrap_or(digest)).collect();
                (format!("pinned as it was shown at {at}: SHA-256 {}…", digests.join("…, ")), true)
            }
            None => (
                format!("the server did not show the tool when it was approved at {at}, so it is hidden"),
                false,
            ),
        }
    }
}

/// So many digits of a digest tell two of a server apart; `mcp-broker packages` has all of them.
const SHOWN: usize = 12;
