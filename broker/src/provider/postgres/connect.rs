//! Connections to the server: one a task, a few at once, each bounded in time on both ends. The broker's own password
//! is fetched for each, and forgotten when the login is over.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::Postgres;
use super::tls::Tls;
use crate::provider::{Blame, ProviderError};

/// How long a connection may take to come up, TLS and login included.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// The server ends by itself what takes longer: also after the broker is gone. Less than the time after which an
/// intent whose fate is not known is revoked would be too short for a busy server; the lock on the role's name
/// (`role::LOCK`) covers what is in between.
const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '4s'; \
     SET idle_in_transaction_session_timeout = '5s'; SET search_path = pg_catalog";

/// An admin's own statements name tables as that login sees them; the broker's own never do.
pub(super) const AS_THE_LOGIN: &str = "SET LOCAL search_path TO DEFAULT";

/// How long what is done on a connection may take.
const WORK_LIMIT: Duration = Duration::from_secs(9);

impl Postgres {
    /// Does `work` on a connection of its own; `doing` says for messages what it is, after "when".
    pub(super) async fn on_connection<T>(
        &self,
        queue: &Semaphore,
        doing: &str,
        work: impl AsyncFnOnce(Client) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let all = async {
            let _pass = queue.acquire().await.map_err(|_closed| self.name.late(doing))?;
            let client = timeout(CONNECT_LIMIT, self.connect(doing)).await;
            let client = client.map_err(|_elapsed| self.name.late(doing))??;
            work(client).await
        };
        timeout(WORK_LIMIT, all).await.map_err(|_elapsed| self.name.late(doing))?
    }

    async fn connect(&self, doing: &str) -> Result<Client, ProviderError> {
        let client = self.log_in(doing).await?;
        client.batch_execute(SESSION).await.map_err(|error| self.name.fault(&error, doing))?;
        Ok(client)
    }

    /// What holds the password ends here; the connection does not keep it.
    async fn log_in(&self, doing: &str) -> Result<Client, ProviderError> {
        let settings = &self.settings;
        let mut config = Config::new();
        config.host(&settings.host).port(settings.port).dbname(&settings.database).user(&settings.username);
        config.application_name("mcp-broker").connect_timeout(CONNECT_LIMIT);
        if let Some(source) = &settings.password {
            let password = source.fetch(&self.peers).await?;
            // EXPOSE: the client's own login, which answers the server's challenge with it; dropped with `config`.
            password.expose(|text| {
                config.password(text.as_bytes());
            });
        }
        let fault = |error| self.name.fault(&error, doing);
        match &settings.ca_file {
            None => {
                let (client, connection) =
                    config.ssl_mode(SslMode::Disable).connect(NoTls).await.map_err(fault)?;
                // Ends when the client is dropped, or the server goes away.
                tokio::spawn(async move { drop(connection.await) });
                Ok(client)
            }
            Some(path) => {
                let tls = Tls::trusting(path).map_err(|error| {
                    let what = format!("cannot use `{}`: {error}", path.display());
                    self.name.error(
                        Blame::Config,
                        &what,
                        "name a PEM file of certificates that the broker may read",
                    )
                })?;
                let (client, connection) =
                    config.ssl_mode(SslMode::Require).connect(tls).await.map_err(fault)?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(client)
            }
        }
    }
}
