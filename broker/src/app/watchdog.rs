//! Finds out whether the broker is alive, and tells those who must know: systemd, which kills a broker that
//! does not answer (sd_notify(3), `WATCHDOG=1`), and the leases, whose parents are renewed only while it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::lease::Leases;
use crate::session::Sessions;

/// How often the broker is looked at where nobody set a watchdog.
const USUAL: Duration = Duration::from_secs(10);

/// Looks at half the time that the watchdog allows, for ever.
pub(super) async fn watch(sessions: Arc<Sessions>, leases: Arc<Leases>) {
    let (told, every) = pace(sd_notify::watchdog_enabled());
    // That it ticks shows that the timers answer.
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !is_alive(&sessions, &leases).await {
            continue;
        }
        leases.beat();
        if told {
            // A datagram that does not get through is one of two that are sent in the time.
            drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog]));
        }
    }
}

/// Whether somebody is to be told, and how often to look.
fn pace(watchdog: Option<Duration>) -> (bool, Duration) {
    match watchdog {
        // Of no time at all there is no half.
        Some(limit) if limit > Duration::from_millis(1) => (true, limit / 2),
        _ => (false, USUAL),
    }
}

/// Takes the locks that every end needs, in a task of its own, as every launch is one. Where one of them is held
/// for ever this does not come back.
async fn is_alive(sessions: &Arc<Sessions>, leases: &Arc<Leases>) -> bool {
    let (sessions, leases) = (Arc::clone(sessions), Arc::clone(leases));
    tokio::spawn(async move { (sessions.sessions().len(), leases.unlisted_pending()) }).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_time_that_systemd_allows() {
        assert_eq!(pace(Some(Duration::from_secs(20))), (true, Duration::from_secs(10)));
        assert_eq!(pace(Some(Duration::ZERO)), (false, USUAL));
        assert_eq!(pace(None), (false, USUAL));
    }
}
