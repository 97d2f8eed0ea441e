//! The register of sessions as the one who acts on what is seen.

use std::sync::Arc;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::session::LockCause;
use tokio::sync::mpsc;

use super::{BoxFuture, Watcher};
use crate::session::Sessions;
use crate::session::login::{Login, Sighting};

/// Hands everything on to the register.
pub struct Register(pub Arc<Sessions>);

impl Watcher for Register {
    fn sighted(&self, login_path: &str, sighting: Sighting) {
        self.0.sighted(login_path, sighting);
    }

    fn user_removed(&self, uid: u32) {
        self.0.user_removed(uid);
    }

    fn lock_all(&self, cause: LockCause) -> BoxFuture<'static, ()> {
        Box::pin(self.0.lock_all(cause))
    }

    fn lock_bound(&self, cause: LockCause) -> BoxFuture<'static, ()> {
        Box::pin(self.0.lock_bound(cause))
    }

    fn shut_down(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.0.stop(EndReason::Shutdown))
    }

    fn shutdown_called_off(&self) {
        self.0.go_on();
    }

    fn woke(&self) {
        self.0.woke();
    }

    fn look_again(&self) -> BoxFuture<'static, ()> {
        let sessions = Arc::clone(&self.0);
        Box::pin(async move { sessions.look_again().await })
    }

    fn newborn(&self) -> mpsc::UnboundedReceiver<Arc<Login>> {
        self.0.newborn()
    }
}
