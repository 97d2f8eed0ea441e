//! Whether the server can be reached and lets the broker's login do its work.

use tokio_postgres::Client;

use super::Postgres;
use crate::provider::{Blame, Healthy, ProviderError};

const LOOKING: &str = "looking at it";

const LOGIN: &str = "SELECT current_setting('server_version'), rolsuper, rolcreaterole, \
     pg_has_role(current_user, 'pg_signal_backend', 'USAGE') FROM pg_roles WHERE rolname = current_user";

impl Postgres {
    pub(super) async fn look(&self) -> Result<Healthy, ProviderError> {
        let login = &self.settings.username;
        self.on_connection(&self.mints, LOOKING, async |client: Client| {
            let fault = |error| self.name.fault(&error, LOOKING);
            let row = client.query_one(LOGIN, &[]).await.map_err(fault)?;
            let version: String = row.try_get(0).map_err(fault)?;
            let right = |at: usize| row.try_get::<_, bool>(at).map_err(fault);
            let (everything, makes_roles, ends_sessions) = (right(1)?, right(2)?, right(3)?);
            if !everything && !makes_roles {
                let what = format!("does not let `{login}` make roles");
                return Err(self.name.error(
                    Blame::Identity,
                    &what,
                    format!("`ALTER ROLE {login} CREATEROLE`"),
                ));
            }
            let warning = if everything {
                let hint = "use one with CREATEROLE, pg_signal_backend, and ADMIN OPTION on what it grants";
                Some((format!("the broker's login `{login}` is a superuser"), hint.to_owned()))
            } else if !ends_sessions {
                let what = format!(
                    "the broker's login `{login}` may not end sessions, so roles in use are not dropped"
                );
                Some((what, format!("`GRANT pg_signal_backend TO {login}`")))
            } else {
                None
            };
            Ok(Healthy { detail: format!("PostgreSQL {version}"), warning })
        })
        .await
    }
}
