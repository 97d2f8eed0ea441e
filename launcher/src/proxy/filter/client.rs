//! What is known of the client: the revision of the protocol that it talks, and what a server may ask of it.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::proxy::message::{Message, Method, text};

/// The first revision without a handshake.
pub const STATELESS: &str = "2026-07-28";

/// A client as its `initialize` shows it, or a request of the stateless era.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The revision that it asks for, or talks.
    pub revision: Box<str>,
    /// What a server may ask of it.
    pub offers: Offers,
    /// Its capabilities, as raw JSON.
    pub capabilities: Box<str>,
    /// Whether each of its requests stands for itself (MCP 2026-07-28).
    pub stateless: bool,
}

/// What a client offers to servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// `sampling`.
    pub sampling: bool,
    /// `elicitation`.
    pub elicitation: bool,
    /// `roots`.
    pub roots: bool,
}

#[derive(Deserialize)]
struct Capabilities {
    sampling: Option<IgnoredAny>,
    elicitation: Option<IgnoredAny>,
    roots: Option<IgnoredAny>,
}

impl Client {
    /// As a message shows it; most messages of the handshake era show nothing.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Option<Self> {
        let params = &message.params;
        let (revision, capabilities, stateless) = match (message.method, params.version) {
            (Method::Initialize, _) => (text(params.revision?)?, params.capabilities, false),
            (_, Some(version)) => (text(version)?, params.client_capabilities, true),
            (_, None) => return None,
        };
        // An `initialize` that asks for the stateless revision is no handshake that a record knows.
        let fits = (revision.as_ref() >= STATELESS) == stateless;
        let capabilities = capabilities.unwrap_or("{}");
        fits.then(|| Self {
            revision: revision.as_ref().into(),
            offers: Offers::of(capabilities),
            capabilities: capabilities.into(),
            stateless,
        })
    }
}

impl Offers {
    /// Of raw capabilities.
    #[must_use]
    pub fn of(capabilities: &str) -> Self {
        let parsed = serde_json::from_str::<Capabilities>(capabilities);
        parsed.map_or_else(
            |_| Self::default(),
            |said| Self {
                sampling: said.sampling.is_some(),
                elicitation: said.elicitation.is_some(),
                roots: said.roots.is_some(),
            },
        )
    }

    /// Whether it offers everything that a client can offer.
    #[must_use]
    pub fn all(self) -> bool {
        self.sampling && self.elicitation && self.roots
    }

    /// Whether it offers nothing.
    #[must_use]
    pub fn none(self) -> bool {
        self == Self::default()
    }
}
