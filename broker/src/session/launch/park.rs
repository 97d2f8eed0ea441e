//! The two ways in which the instances of a launch are killed: it is parked, or it ends. Kill first, then revoke.

use std::time::Duration;

use mcp_broker_proto::channel::{End, EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::session::LaunchState;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Launch;
use crate::audit::Event;
use crate::fault;
use crate::session::park::Why;
use crate::session::words;

/// A launcher has so long to say that nothing of the launch is alive; then it is killed.
const DEATH_LIMIT: Duration = Duration::from_millis(500);

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Has every instance killed and its credentials revoked, and keeps the launcher.
    pub(super) async fn park(&mut self, why: Why) -> Result<(), EndReason> {
        let park = why.frame();
        let what = park.what.clone();
        self.seat.show(|info| {
            (info.state, info.parked) = (LaunchState::Parked, Some(what.clone()));
            info.running.clear();
        });
        let gone = self.have_killed(&ToLauncher::Park(park)).await;
        fault::passing("launch.killed").await;
        let (launch, reason, dead) = (self.seat.launch, why.reason(), std::mem::take(&mut self.dead));
        self.sessions.leases.end(self.instances.clear(), reason);
        for mint in self.wants.take().chain(self.refreshes.take()) {
            // Bounded by the mint itself: 2 s after the fence it gives up.
            drop(mint.void(&self.sessions, reason));
        }
        self.parked = Some(what);
        self.show();
        self.sessions.audit.note(Event::LaunchParked { launch, reason, dead });
        fault::passing("launch.parked").await;
        self.seat.stilled();
        if gone {
            return Err(EndReason::LauncherGone);
        }
        if matches!(why, Why::Locked(..)) { self.drop_all_waiting().await } else { Ok(()) }
    }

    /// Fence, kill, revoke: in this order, whatever the reason.
    pub(super) async fn finish(mut self, reason: EndReason) {
        self.seat.fence_off();
        if self.unheard {
            self.peer.kill();
        }
        let gone = matches!(reason, EndReason::LauncherGone) || self.dead;
        if !gone {
            let frame = match reason {
                EndReason::BrokerStopping => ToLauncher::Park(Why::BrokerStopping.frame()),
                _ => ToLauncher::End(End { reason, hint: words::after_end(reason).to_owned() }),
            };
            self.have_killed(&frame).await;
        }
        self.sessions.leases.end(self.instances.clear(), reason);
        let mints = self.wants.take().chain(self.refreshes.take());
        let voided: Vec<_> = mints.map(|mint| mint.void(&self.sessions, reason)).collect();
        for void in voided {
            // A mint that panicked has nothing that is not in the book.
            drop(void.await);
        }
        self.abandon_calls();
        let (launch, dead) = (self.seat.launch, self.dead);
        self.sessions.audit.note(Event::LaunchEnded { launch, reason, dead });
        tracing::info!(%launch, ?reason, dead, "launch ended");
    }

    /// Has the launcher kill its instances, and kills the launcher when it does not say so in time. Answers
    /// whether it is gone.
    async fn have_killed(&mut self, frame: &ToLauncher) -> bool {
        let dying = async {
            if self.writer.send(frame).await.is_err() {
                return true;
            }
            // Its end of the stream closes when it is done, also where it says nothing.
            while let Ok(Some(said)) = self.reader.next().await {
                match said {
                    ToBroker::Dead => {
                        self.dead = true;
                        return false;
                    }
                    ToBroker::Exited { instance, status } => self.instances.exited(instance, status),
                    ToBroker::Answered(answered) => self.answered(&answered),
                    // Overtaken by what it was just told.
                    _ => {}
                }
            }
            true
        };
        let gone = timeout(DEATH_LIMIT, dying).await;
        if gone.is_err() {
            self.peer.kill();
        }
        self.heard = Instant::now();
        gone.unwrap_or(true)
    }
}
