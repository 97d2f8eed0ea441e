//! The route tables, one for each socket, and what a handler can reach.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use mcp_broker_proto::paths;
use tokio::sync::watch;

use super::{admin, answer, approvals, confirmations, health, launch, servers, session, trials};
use crate::config::Config;
use crate::package::Approvals;
use crate::session::Sessions;

/// What a handler can reach.
#[derive(Clone)]
pub struct Api {
    /// Sessions and launches.
    pub sessions: Arc<Sessions>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Things that are weaker than they could be, and broken reloads.
    pub warnings: watch::Receiver<Vec<String>>,
    /// What cannot be seen of login sessions right now.
    pub unseen: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What was approved.
    pub approvals: Arc<Approvals>,
    /// How the providers do, asked for one at a time.
    pub leases: Arc<crate::lease::Leases>,
}

/// No request is longer.
const MAX_BODY: usize = 64 * 1024;

/// The routes of `mcp-run`.
pub fn person(api: Api) -> Router {
    Router::new()
        .route(paths::HEALTH, get(health::show))
        .route(paths::SESSION, get(session::show).post(session::sign_in).delete(session::log_out))
        .route(paths::SESSION_LOCK, post(session::lock))
        .route(paths::SESSION_UNLOCK, post(session::unlock))
        .route(paths::SERVERS, get(servers::list))
        .route(paths::LAUNCHES, post(launch::open))
        .route(&format!("{}/{{id}}", paths::CONFIRMATIONS), post(confirmations::answer))
        .fallback(answer::no_such_route)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}

/// The routes of the admin commands.
pub fn admin(api: Api) -> Router {
    Router::new()
        .route(paths::HEALTH, get(health::show))
        .route(paths::ADMIN_SESSIONS, get(admin::sessions))
        .route(paths::ADMIN_LAUNCHES, get(admin::launches))
        .route(paths::ADMIN_LEASES, get(admin::leases))
        .route(paths::ADMIN_REVOKE, post(admin::revoke))
        .route(
            paths::ADMIN_APPROVALS,
            get(approvals::list).post(approvals::approve).layer(approvals::limit()),
        )
        .route(&format!("{}/{{server}}", paths::ADMIN_APPROVALS), get(approvals::show))
        .route(paths::ADMIN_TRIALS, post(trials::open))
        .fallback(answer::no_such_route)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}
