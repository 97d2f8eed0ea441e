//! A sleep that nobody announced: the clock that goes on in a sleep jumps against the one that does not. Needs
//! neither bus nor logind. Whoever is about to admit something asks the same [`crate::clock::Slept`] first, so
//! that nothing gets in between the waking and the next look here.

use std::time::Duration;

use mcp_broker_proto::session::LockCause;
use tokio::time::{MissedTickBehavior, interval};

use super::{BoxFuture, Kind, Source};

/// So often.
const EVERY: Duration = Duration::from_secs(1);

pub(super) const KIND: Kind = Kind { name: "jump", needs_logind: false, run };

fn run(source: Source) -> BoxFuture<'static, ()> {
    Box::pin(follow(source))
}

async fn follow(source: Source) {
    drop(source.news);
    let (sessions, slept) = (&source.watched.sessions, &source.watched.slept);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(apart) = slept.unaccounted() else { continue };
        let winding = sessions.lock_all(LockCause::ClockJump);
        // After the fence: until then whoever asks is told of the sleep.
        slept.account(apart);
        sessions.woke();
        tokio::spawn(winding);
    }
}
