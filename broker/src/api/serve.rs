//! Accepts connections and serves them: whoever may not be there is dropped before a byte is read, and
//! everything that a peer sends has a limit in size and time.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::bad_request;
use super::peer::Peer;
use super::places::Places;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everybody; the uid decides what they see.
    Everybody,
    /// One account.
    Only(u32),
    /// One account and root: the machine's admin.
    OnlyOrRoot(u32),
}

/// A request's head must be there within this time, also on a kept connection.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// A request, its body included, must be answered within this time; a revocation takes the longest.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A request's head is no longer than this, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Serves `routes` until `stop` falls. Connections that are being served then are left to end.
pub async fn serve(listener: UnixListener, door: Door, routes: Router, stop: CancellationToken) {
    // With one account there is nobody to share with.
    let places = Places::by_limit(if door == Door::Everybody { 25 } else { 100 });
    let routes = routes.layer(from_fn(in_time));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Some(peer) = admit(&stream, door, &places) {
            let routes = routes.clone();
            tokio::spawn(converse(stream, routes.layer(Extension(peer))));
        }
    }
}

/// Anybody who may not be here is told nothing at all.
fn admit(stream: &UnixStream, door: Door, places: &Arc<Places>) -> Option<Peer> {
    let uid = match stream.peer_cred() {
        Ok(cred) => cred.uid(),
        Err(error) => {
            tracing::info!(%error, "a peer could not be known");
            return None;
        }
    };
    let welcome = match door {
        Door::Everybody => true,
        Door::Only(own) => uid == own,
        Door::OnlyOrRoot(own) => uid == own || uid == 0,
    };
    if !welcome {
        tracing::warn!(uid, "another account was turned away");
        return None;
    }
    let Some(place) = places.take(uid) else {
        tracing::warn!(uid, "an account was turned away: it has too many connections");
        return None;
    };
    match Peer::of(stream, place) {
        Ok(peer) => Some(peer),
        Err(error) => {
            tracing::info!(%error, "a peer was gone before it could be known");
            None
        }
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => bad_request("the request did not come to its end in time").into_response(),
    }
}

async fn converse(stream: UnixStream, routes: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
