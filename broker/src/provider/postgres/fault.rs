//! What went wrong at the server, with its cure. Says the server's five-letter code and never its text, which may
//! quote a statement.

use tokio_postgres::error::SqlState;

use super::login::Refused;
use crate::provider::http::is_about_tls;
use crate::provider::{Blame, ProviderError};

/// The provider's name, for messages.
#[derive(Debug, Clone)]
pub(super) struct Name(pub(super) String);

impl Name {
    /// A failure: `what` goes on from the provider's name.
    pub(super) fn error(&self, blame: Blame, what: &str, hint: impl Into<String>) -> ProviderError {
        ProviderError::new(blame, format!("provider `{}` {what}", self.0), hint)
    }

    /// It took too long.
    pub(super) fn late(&self, doing: &str) -> ProviderError {
        self.error(
            Blame::Unreachable,
            &format!("did not answer in time when {doing}"),
            "see whether it is overloaded or held up by a lock",
        )
    }

    /// What `error` is about; `doing` goes on from "when".
    pub(super) fn fault(&self, error: &tokio_postgres::Error, doing: &str) -> ProviderError {
        if let Some(refused) = causes(error).find_map(refused) {
            return self.error(Blame::Identity, &format!("{refused}, when {doing}"), refused.hint());
        }
        let Some(code) = error.code() else { return self.lost(error, doing) };
        let (blame, what, hint) = known(code);
        self.error(blame, &format!("{what} when {doing} (SQLSTATE {})", code.code()), hint)
    }

    fn lost(&self, error: &tokio_postgres::Error, doing: &str) -> ProviderError {
        if causes(error).any(is_about_tls) {
            let what = format!("has a certificate that is not trusted, when {doing}");
            let hint =
                "check that `ca_file` holds the authority that signed it, and that `host` is a name in it";
            return self.error(Blame::Refused, &what, hint);
        }
        self.out_of_reach(doing)
    }

    /// No connection to it comes up.
    pub(super) fn out_of_reach(&self, doing: &str) -> ProviderError {
        let hint = "check that it runs, `host`, `port` and `tls`, and that it lets this machine in";
        self.error(Blame::Unreachable, &format!("cannot be reached when {doing}"), hint)
    }
}

/// What an error came from, the nearest first.
fn causes(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

/// The login that was cut off, where that is it.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<Refused> {
    error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref().copied()
}

/// Codes: PostgreSQL manual, appendix A.
fn known(code: &SqlState) -> (Blame, &'static str, &'static str) {
    match code {
        code if *code == SqlState::INVALID_PASSWORD
            || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
        {
            (
                Blame::Identity,
                "does not accept the broker's login",
                "check `username`, and the password where `password` says; pg_hba.conf must let it in",
            )
        }
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => (
            Blame::Refused,
            "does not allow the broker's login to do that",
            "it needs CREATEROLE, membership in pg_signal_backend, and ADMIN OPTION on each role that it grants",
        ),
        code if *code == SqlState::UNDEFINED_OBJECT || *code == SqlState::UNDEFINED_TABLE => (
            Blame::Config,
            "has no such role or object",
            "check the names in `grant`, `create` and `drop` of the credential",
        ),
        code if *code == SqlState::SYNTAX_ERROR => {
            (Blame::Config, "does not understand a statement", "check `create` and `drop` of the credential")
        }
        code if *code == SqlState::UNDEFINED_DATABASE => {
            (Blame::Config, "has no such database", "check `database` of the provider")
        }
        code if *code == SqlState::TOO_MANY_CONNECTIONS => (
            Blame::Busy(None),
            "has no connection left",
            "give the broker's login a reserved one, or raise max_connections",
        ),
        code if *code == SqlState::CANNOT_CONNECT_NOW || *code == SqlState::ADMIN_SHUTDOWN => {
            (Blame::Unreachable, "is starting or stopping", "wait for it")
        }
        code if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE => {
            (Blame::Unreachable, "took too long", "see what holds a lock on roles there")
        }
        code if *code == SqlState::DEPENDENT_OBJECTS_STILL_EXIST => (
            Blame::Refused,
            "cannot drop a role that something still hangs on",
            "revoke what others than the broker's login granted to it, or what hangs on it in other databases; or write a \
             `drop` for the credential; it has no login and no session any more",
        ),
        _ => (Blame::Refused, "refused a statement", "find the code in appendix A of the PostgreSQL manual"),
    }
}
