//! Accepts connections and serves them: whoever may not be there is dropped before a byte is read, and
//! everything that a peer sends has a limit in size and time.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::peer::Peer;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everybody; the uid decides what they see.
    Everybody,
    /// One account.
    Only(u32),
}

/// So many connections may be open at once, launches among them.
const MAX_CONNECTIONS: usize = 4096;

/// A request's head must be there within this time, also on a kept connection.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// A request's head is no longer than this, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Serves `routes` until `stop` falls. Connections that are being served then are left to end.
pub async fn serve(listener: UnixListener, door: Door, routes: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // A place before the connection: at the limit, new ones wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
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
        let routes = routes.clone();
        tokio::spawn(async move {
            if let Some(peer) = admit(&stream, door) {
                converse(stream, routes.layer(Extension(peer))).await;
            }
            drop(place);
        });
    }
}

/// Anybody who may not be here is told nothing at all.
fn admit(stream: &UnixStream, door: Door) -> Option<Peer> {
    let peer = match Peer::of(stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::info!(%error, "a peer was gone before it could be known");
            return None;
        }
    };
    match door {
        Door::Everybody => Some(peer),
        Door::Only(uid) if peer.uid == uid => Some(peer),
        Door::Only(_) => {
            tracing::warn!(uid = peer.uid, "another account was turned away");
            None
        }
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
