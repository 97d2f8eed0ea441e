//! Makes a role in one transaction, and lengthens the life of its password. The end is reckoned by the server's
//! clock, which is the one that judges it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;
use tokio_postgres::{Client, GenericClient, Transaction};

use super::connect::AS_THE_LOGIN;
use super::credential::Credential;
use super::role::{LOCK, Role};
use super::statement::{Values, identifier};
use super::{Postgres, password};
use crate::provider::{Blame, Handle, Issued, MintRequest, Prepared, ProviderError, Renewed, own};

const MAKING: &str = "making a role";
const LENGTHENING: &str = "lengthening a role's life";

impl Postgres {
    /// Makes the role that `prepared` names.
    pub(super) async fn make_role(
        &self,
        request: &MintRequest,
        prepared: Prepared,
    ) -> Result<Issued, ProviderError> {
        let (role, credential): (_, &Credential) =
            (self.role(&prepared.handle)?, own::credential(&request.spec)?);
        let password = password::fresh().ok_or_else(|| self.no_randomness())?;
        let verifier = password::verifier(&password).ok_or_else(|| self.no_randomness())?;
        let life = request.spec.ttl.min(request.horizon).max(Duration::from_secs(1));
        let made = self.on_connection(&self.mints, MAKING, async |mut client: Client| {
            let fault = |error| self.name.fault(&error, MAKING);
            let transaction = client.transaction().await.map_err(fault)?;
            let until = end(&transaction, life).await.map_err(fault)?;
            let values = Values { name: &role.role, verifier: &verifier, until: &until };
            create(&transaction, credential, &values).await.map_err(fault)?;
            transaction.commit().await.map_err(fault)
        });
        made.await?;
        let expires_at = self.after(life);
        let fields = BTreeMap::from([
            ("username".to_owned(), Secret::new(role.role.clone())),
            ("password".to_owned(), password),
        ]);
        Ok(Issued {
            fields,
            plain: &["username"],
            expires_at: Some(expires_at),
            valid_until: None,
            detail: Some(format!("role {}, whose sessions only the broker ends", role.role)),
            renewable: expires_at < role.horizon,
            revocability: Revocability::Immediate,
            handle: prepared.handle,
        })
    }

    /// Moves `VALID UNTIL`, and reads it back.
    pub(super) async fn lengthen(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        let role = self.role(handle)?;
        let left = Duration::try_from(role.horizon.duration_since(self.clock.now())).unwrap_or_default();
        let life = ttl.min(left).max(Duration::from_secs(1));
        self.on_connection(&self.mints, LENGTHENING, async |client: Client| {
            let fault = |error| self.name.fault(&error, LENGTHENING);
            if !is_there(&client, &role.role).await.map_err(fault)? {
                let what = format!("no longer has role `{}`", role.role);
                return Err(self.name.error(
                    Blame::Refused,
                    &what,
                    "somebody dropped it; start the server again",
                ));
            }
            let until = end(&client, life).await.map_err(fault)?;
            let values = Values { name: &role.role, verifier: "", until: &until };
            let set = format!(
                "ALTER ROLE {} VALID UNTIL {}",
                identifier(values.name),
                super::statement::literal(values.until)
            );
            client.batch_execute(&set).await.map_err(fault)?;
            let row = client
                .query_one(
                    "SELECT rolvaliduntil = $2::text::timestamptz FROM pg_roles WHERE rolname = $1",
                    &[&role.role, &until],
                )
                .await
                .map_err(fault)?;
            match row.try_get::<_, Option<bool>>(0) {
                Ok(Some(true)) => Ok(()),
                _ => Err(self.name.error(Blame::Broken, "did not keep a role's new end", "see its log")),
            }
        })
        .await?;
        let expires_at = self.after(life);
        Ok(Renewed { expires_at, renewable: expires_at < role.horizon })
    }
}

async fn create(
    transaction: &Transaction<'_>,
    credential: &Credential,
    values: &Values<'_>,
) -> Result<(), tokio_postgres::Error> {
    transaction.query_one(LOCK, &[&values.name]).await?;
    transaction.batch_execute(AS_THE_LOGIN).await?;
    for statement in &credential.create {
        transaction.batch_execute(&statement.render(values)).await?;
    }
    for role in &credential.grant {
        let grant = format!("GRANT {} TO {}", identifier(role), identifier(values.name));
        transaction.batch_execute(&grant).await?;
    }
    Ok(())
}

/// When what lives for `life` from now ends, as the server's clock says it.
async fn end(client: &impl GenericClient, life: Duration) -> Result<String, tokio_postgres::Error> {
    let row = client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[]).await?;
    let now = Timestamp::from_millisecond(row.try_get(0)?).unwrap_or(Timestamp::MIN);
    let span = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
    Ok(now.checked_add(span).unwrap_or(Timestamp::MAX).to_string())
}

pub(super) async fn is_there(client: &impl GenericClient, name: &str) -> Result<bool, tokio_postgres::Error> {
    let row = client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&name]).await?;
    Ok(row.is_some())
}

impl Role {
    /// The statements that drop it; `None` where they are not what this version understands.
    pub(super) fn drop_statements(&self) -> Option<Vec<String>> {
        let values = Values { name: &self.role, verifier: "", until: "" };
        let render = |text: &String| Some(text.parse::<super::statement::Statement>().ok()?.render(&values));
        self.drop.iter().map(render).collect()
    }
}
