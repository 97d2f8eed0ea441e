//! `GET /v1/health`: is the broker there, and with `?providers=true`, do its providers answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use mcp_broker_proto::PROTOCOL;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::session::{Health, ProviderInfo};
use tokio::time::timeout;

use super::Api;
use crate::provider::Provider;

/// A provider is given so long to answer.
const PROVIDER_LIMIT: Duration = Duration::from_secs(5);

#[derive(serde::Deserialize)]
pub(super) struct Ask {
    #[serde(default)]
    providers: bool,
}

pub(super) async fn show(State(api): State<Api>, Query(ask): Query<Ask>) -> Json<Health> {
    let config = Arc::clone(&api.config.borrow());
    let mut providers = Vec::new();
    if ask.providers {
        let asked: Vec<_> = api
            .leases
            .providers()
            .into_iter()
            .filter_map(|(name, provider)| Some((config.providers.get(&name)?.kind, name, provider)))
            .map(|(kind, name, provider)| tokio::spawn(check(kind, name, provider)))
            .collect();
        for answer in asked {
            // A panic in a provider is its own trouble, and in the log.
            providers.extend(answer.await.ok());
        }
    }
    Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        mode: config.mode.as_str().to_owned(),
        warnings: warnings(&api),
        providers,
    })
}

/// The standing ones, and what is not in any list of leases.
fn warnings(api: &Api) -> Vec<String> {
    let mut warnings = api.warnings.borrow().clone();
    warnings.extend((api.unseen)());
    warnings.extend(api.approvals.warnings());
    let lost = api.sessions.lost_records();
    if lost > 0 {
        warnings.push(format!("{lost} records of the audit log could not be written: see the broker's log"));
    }
    let pending = api.leases.unlisted_pending();
    if pending > 0 {
        warnings.push(format!(
            "{pending} tokens above credentials, or credentials that a damaged journal could not name, are being revoked and not verified yet"
        ));
    }
    warnings
}

async fn check(kind: &'static str, name: Label, provider: Arc<dyn Provider>) -> ProviderInfo {
    let (ok, detail, hint) = match timeout(PROVIDER_LIMIT, provider.health()).await {
        Ok(Ok(healthy)) => match healthy.warning {
            None => (true, healthy.detail, None),
            Some((warning, hint)) => (true, format!("{}; {warning}", healthy.detail), Some(hint)),
        },
        Ok(Err(error)) => (false, error.what, Some(error.hint)),
        Err(_elapsed) => {
            let detail = format!("no answer within {} s", PROVIDER_LIMIT.as_secs());
            (false, detail, Some("see whether it can be reached from this machine".to_owned()))
        }
    };
    ProviderInfo { name, kind: kind.to_owned(), ok, detail, hint }
}
