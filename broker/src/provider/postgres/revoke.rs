//! Ends a role: no login any more, its sessions ended, dropped, and looked for. Each step is harmless where it was
//! done before, so that a try that was cut off is simply made again.
//!
//! The broker's own way takes privileges away but gives owned objects to nobody: a function that a launch left
//! behind would otherwise run with the rights of the broker's login. Such a role stays, powerless, and is reported.

use std::time::Duration;

use tokio_postgres::Client;

use super::Postgres;
use super::connect::AS_THE_LOGIN;
use super::issue::is_there;
use super::role::{LOCK, Role};
use super::statement::identifier;
use crate::provider::{Blame, Handle, Proof, ProviderError, Revocation};

const DROPPING: &str = "dropping a role";

/// Sessions that were told to end are looked for so often, so long after each other.
const LOOKS: u32 = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Ends the sessions of a role and counts them. By the role's number: the name could be another's by then.
const END_SESSIONS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE usesysid = (SELECT oid FROM pg_roles WHERE rolname = $1)";

/// What hangs on a role (PostgreSQL manual, section 53.50): owned (`o`), or granted to it (anything else).
const OWNS: &str = "SELECT count(*) FILTER (WHERE deptype = 'o') FROM pg_shdepend \
     WHERE refclassid = 'pg_authid'::regclass AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1)";
const HANGS_ON: &str = "SELECT count(*) FROM pg_shdepend \
     WHERE refclassid = 'pg_authid'::regclass AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1) \
     AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";

impl Postgres {
    pub(super) async fn drop_role(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        let role = self.role(handle)?;
        self.on_connection(&self.ends, DROPPING, async |client: Client| self.drop_on(client, &role).await)
            .await
    }

    async fn drop_on(&self, mut client: Client, role: &Role) -> Result<Revocation, ProviderError> {
        let fault = |error| self.name.fault(&error, DROPPING);
        if !self.forbid_login(&mut client, role).await? {
            return Ok(Revocation::AlreadyGone(Proof::Object));
        }
        self.end_sessions(&client, role).await?;
        let transaction = client.transaction().await.map_err(fault)?;
        match role.drop_statements() {
            None => {
                let what = format!("has a role `{}` with a `drop` that is not understood", role.role);
                return Err(self.name.error(Blame::Config, &what, "drop the role by hand"));
            }
            Some(statements) if !statements.is_empty() => {
                transaction.batch_execute(AS_THE_LOGIN).await.map_err(fault)?;
                for statement in statements {
                    transaction.batch_execute(&statement).await.map_err(fault)?;
                }
            }
            Some(_) => {
                let name = identifier(&role.role);
                if count(&transaction, OWNS, &role.role).await.map_err(fault)? > 0 {
                    return Err(self.owner(role));
                }
                if count(&transaction, HANGS_ON, &role.role).await.map_err(fault)? > 0 {
                    // It owns nothing, so this takes privileges away and drops no object. Only a member may.
                    let shed = format!("GRANT {name} TO CURRENT_USER; DROP OWNED BY {name}");
                    transaction.batch_execute(&shed).await.map_err(fault)?;
                }
                transaction.batch_execute(&format!("DROP ROLE {name}")).await.map_err(fault)?;
            }
        }
        transaction.commit().await.map_err(fault)?;
        if is_there(&client, &role.role).await.map_err(fault)? {
            let what = format!("still has role `{}` after its `drop`", role.role);
            return Err(self.name.error(Blame::Config, &what, "end `drop` with `DROP ROLE {name}`"));
        }
        Ok(Revocation::Revoked(Proof::Object))
    }

    /// Waits for a transaction that is still making the role; `false` when there is none.
    async fn forbid_login(&self, client: &mut Client, role: &Role) -> Result<bool, ProviderError> {
        let fault = |error| self.name.fault(&error, DROPPING);
        let transaction = client.transaction().await.map_err(fault)?;
        transaction.query_one(LOCK, &[&role.role]).await.map_err(fault)?;
        let there = is_there(&transaction, &role.role).await.map_err(fault)?;
        if there {
            let forbid = format!("ALTER ROLE {} NOLOGIN", identifier(&role.role));
            transaction.batch_execute(&forbid).await.map_err(fault)?;
        }
        transaction.commit().await.map_err(fault)?;
        Ok(there)
    }

    async fn end_sessions(&self, client: &Client, role: &Role) -> Result<(), ProviderError> {
        let fault = |error| self.name.fault(&error, DROPPING);
        for _ in 0..LOOKS {
            if count(client, END_SESSIONS, &role.role).await.map_err(fault)? == 0 {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let what = format!("goes on with sessions of role `{}` that were told to end", role.role);
        Err(self.name.error(Blame::Broken, &what, "see pg_stat_activity"))
    }

    fn owner(&self, role: &Role) -> ProviderError {
        let what =
            format!("keeps role `{}`, without a login or a session, because it owns objects", role.role);
        let hint = format!(
            "`REASSIGN OWNED BY {0} TO OWNER; DROP OWNED BY {0}` in each database where it has some, after a look at \
             them; or write a `drop` for the credential",
            role.role
        );
        self.name.error(Blame::Config, &what, hint)
    }
}

async fn count(
    client: &impl tokio_postgres::GenericClient,
    statement: &str,
    name: &str,
) -> Result<i64, tokio_postgres::Error> {
    client.query_one(statement, &[&name]).await?.try_get(0)
}
