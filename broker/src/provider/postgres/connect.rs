//! Connections to the server: one a task, a few at once, each bounded in time on both ends. The broker's own password
//! is fetched for each, and forgotten when the login is over.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls};

use super::Postgres;
use super::login::Watched;
use super::tls::{Handshake, Tls};
use crate::provider::{Blame, ProviderError};

/// How long a connection may take to come up, TLS and login included.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);

/// Sent first on each connection. The server itself ends what takes longer than this, also when the broker is gone or
/// has dropped the connection. A mint may so go on for 5 s after the broker began to drop its role: the drop waits
/// for it by the lock on the role's name (`role::LOCK`), so that no role comes up behind it.
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
        config.dbname(&settings.database).user(&settings.username).application_name("mcp-broker");
        if let Some(source) = &settings.password {
            let password = source.fetch(&self.peers).await?;
            // EXPOSE: the client's own login, which answers the server's challenge with it; dropped with `config`.
            password.expose(|text| {
                config.password(text.as_bytes());
            });
        }
        let begun = match (&settings.ca_file, &settings.password) {
            (Some(path), _) => {
                let handshake = self.handshake(path).await?;
                begin(config.ssl_mode(SslMode::Require), self.reach_host(doing).await?, handshake).await
            }
            (None, password) => {
                let config = config.ssl_mode(SslMode::Disable);
                match (settings.is_on_a_socket(), password) {
                    (true, Some(_)) => {
                        let stream = Watched::by_password(self.reach_socket(doing).await?);
                        begin(config, stream, NoTls).await
                    }
                    (true, None) => {
                        let stream = Watched::by_account(self.reach_socket(doing).await?);
                        begin(config, stream, NoTls).await
                    }
                    (false, _) => {
                        let stream = Watched::by_password(self.reach_host(doing).await?);
                        begin(config, stream, NoTls).await
                    }
                }
            }
        };
        begun.map_err(|error| self.name.fault(&error, doing))
    }

    async fn handshake(&self, ca_file: &Path) -> Result<Handshake, ProviderError> {
        let path = ca_file.to_owned();
        let read = tokio::task::spawn_blocking(move || Tls::trusting(&path)).await;
        let mut tls = read.unwrap_or_else(|_panicked| Err(ErrorKind::Other.into())).map_err(|error| {
            let what = format!("cannot use `{}`: {error}", ca_file.display());
            self.name.error(Blame::Config, &what, "name a PEM file of certificates that the broker may read")
        })?;
        let handshake = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, &self.settings.host);
        handshake.map_err(|_no_name| {
            let what = "has a `host` that no certificate can be issued for";
            self.name.error(Blame::Config, what, "write the name or the address that is in its certificate")
        })
    }
}

/// Logs in; the connection ends when the client is dropped, or the server goes away.
async fn begin<S, T>(config: &Config, stream: S, tls: T) -> Result<Client, tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S, Stream: Send + 'static>,
{
    let (client, connection) = config.connect_raw(stream, tls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::super::KIND;
    use super::super::settings::Settings;
    use crate::clock::SystemClock;
    use crate::config::testing::TempDir;
    use crate::provider::{BuildDeps, Peers, Source};

    /// Has the server's port, and begins the login with `request`; answers with what it is sent after that.
    async fn impostor(request: &'static [u8]) -> (u16, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u32().await.unwrap();
            let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
            stream.read_exact(&mut startup).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut told = Vec::new();
            // A reset in place of an end is as good.
            drop(stream.read_to_end(&mut told).await);
            told
        });
        (port, told)
    }

    #[tokio::test]
    async fn an_impostor_is_told_nothing() {
        let dir = TempDir::new();
        dir.write("password", "canary\n");
        for (request, want) in [
            (b"R\0\0\0\x08\0\0\0\x03".as_slice(), "in clear text"),
            (b"R\0\0\0\x0c\0\0\0\x05salt", "an MD5 hash"),
            (b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", "without its password"),
        ] {
            let (port, told) = impostor(request).await;
            let settings = Settings {
                host: "127.0.0.1".to_owned(),
                port,
                database: "postgres".to_owned(),
                ca_file: None,
                username: "mint".to_owned(),
                password: Some(Source::File(dir.path().join("password"))),
            };
            let deps = BuildDeps {
                name: "db".parse().unwrap(),
                clock: Arc::new(SystemClock),
                state_dir: dir.path().to_owned(),
                peers: Peers::default(),
            };
            let error = (KIND.build)(&settings, &deps).unwrap().health().await.unwrap_err();
            assert!(error.what.contains(want), "{error:?}");
            assert_eq!(told.await.unwrap(), b"", "{want}");
        }
    }
}
