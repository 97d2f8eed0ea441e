//! Looks at the bound login sessions again and again: logind sends no signal when one begins to close. A second
//! line behind its leader's end, and behind everything that a signal should have said.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{BoxFuture, Kind, Source};

/// So often.
const EVERY: Duration = Duration::from_secs(5);

pub(super) const KIND: Kind = Kind { name: "state", needs_logind: true, run };

fn run(source: Source) -> BoxFuture<'static, ()> {
    Box::pin(follow(source))
}

async fn follow(source: Source) {
    drop(source.news);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // While nobody can be asked, `bus` acts.
        if source.logind.as_ref().is_some_and(|logind| logind.heard()) {
            source.watched.sessions.look_again().await;
        }
    }
}
