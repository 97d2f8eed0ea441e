//! What a decision hands on: a [`Grant`], which nobody outside `policy` can make, or a [`Denial`] with the
//! words for the person.

use std::sync::Arc;

use mcp_broker_proto::names::{Label, ServerName};
use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::reason::Reason;
use crate::config::{Scope, ServerDefinition};

/// The proof that one launch was decided on, with its limits.
#[derive(Debug, Clone)]
pub struct Grant {
    server: Arc<ServerDefinition>,
    /// Which of its scopes.
    scope: usize,
    args: Vec<String>,
    reasons: Vec<Reason>,
}

impl Grant {
    pub(super) fn new(server: Arc<ServerDefinition>, args: Vec<String>, reasons: Vec<Reason>) -> Self {
        Self { server, scope: 0, args, reasons }
    }

    /// The server as it was defined at the time of the decision, whatever a reload changes since.
    #[must_use]
    pub fn server(&self) -> &Arc<ServerDefinition> {
        &self.server
    }

    /// The same for another scope of the server, where there is that one.
    #[must_use]
    pub fn of_scope(mut self, name: &Label) -> Option<Self> {
        self.scope = self.server.scopes.iter().position(|scope| scope.name == *name)?;
        Some(self)
    }

    /// The scope that may be minted for: the first one, unless [`Self::of_scope`] chose another.
    ///
    /// # Panics
    /// Never: the reader refuses a server without a scope.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the place was found in the same list, which is never empty")]
    pub fn scope(&self) -> &Scope {
        &self.server.scopes[self.scope]
    }

    /// The extra arguments, each of them allowed.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Why.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What the first step that denied calls it.
    pub code: ErrorCode,
    /// The reasons of every step, those that spoke for it too.
    pub reasons: Vec<Reason>,
    pub(super) server: ServerName,
    pub(super) user: String,
    /// A server that the person may use and probably meant.
    pub(super) nearest: Option<String>,
}

impl Denial {
    /// The rendering for the person.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        Problem::new(self.code, self.title(), self.hint())
    }

    fn title(&self) -> String {
        let Self { server, user, .. } = self;
        match self.code {
            ErrorCode::UnknownServer => format!("no server `{server}` is approved"),
            ErrorCode::NoAccess => format!("`{user}` may not use server `{server}`"),
            ErrorCode::ArgumentsNotAllowed => {
                format!("server `{server}` does not allow these extra arguments")
            }
            _ => format!("server `{server}` was refused"),
        }
    }

    fn hint(&self) -> String {
        match (self.code, &self.nearest) {
            (ErrorCode::UnknownServer, Some(near)) => {
                format!("did you mean `{near}`? `mcp-run servers` lists yours")
            }
            (ErrorCode::UnknownServer, None) => {
                "`mcp-run servers` lists the servers that there are".to_owned()
            }
            (ErrorCode::ArgumentsNotAllowed, _) => {
                "leave out what follows `--`, or ask the admin for a pattern in `extra_args`".to_owned()
            }
            _ => "ask the admin to list you or a group of yours in [access] of the server".to_owned(),
        }
    }
}
