//! Sleep and shutdown: holds logind's delay inhibitor (systemd.io/INHIBITOR_LOCKS), locks or ends everything
//! when one is announced, and lets go when that is done or its time is over.

use std::time::Duration;

use mcp_broker_proto::session::LockCause;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use super::feed::News;
use super::{BoxFuture, Kind, Source};
use crate::logind::{Event, Inhibitor, NotDelayed};

/// No winding up is waited for any longer.
const LONGEST: Duration = Duration::from_secs(4);

/// So long before logind goes on by itself, it is let go.
const MARGIN: Duration = Duration::from_secs(1);

/// An inhibitor that is missing is asked for again so often.
const RETRY: Duration = Duration::from_secs(10);

pub(super) const KIND: Kind = Kind { name: "sleep", needs_logind: true, run };

fn run(source: Source) -> BoxFuture<'static, ()> {
    let delay = Delay { source, held: None, taking: None, under_way: false, waking: false };
    Box::pin(delay.follow())
}

type Taken = Result<Inhibitor, NotDelayed>;

struct Delay {
    source: Source,
    held: Option<Inhibitor>,
    taking: Option<BoxFuture<'static, Taken>>,
    /// A sleep or shutdown was announced, and nothing came of it yet.
    under_way: bool,
    /// To be told as soon as the next inhibitor was asked for, and was granted or not.
    waking: bool,
}

impl Delay {
    async fn follow(mut self) {
        // The first one is asked for when logind is heard.
        let mut ticks = interval_at(Instant::now() + RETRY, RETRY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // News first: an announcement is not to wait for anything.
                biased;
                news = self.source.news.recv() => match news {
                    Some(news) => self.take_in(news),
                    None => return,
                },
                taken = taken(&mut self.taking) => {
                    self.taking = None;
                    self.have(taken);
                }
                _ = ticks.tick() => {
                    if self.held.is_none() && self.taking.is_none() && !self.under_way {
                        self.ask();
                    }
                }
            }
        }
    }

    fn take_in(&mut self, news: News) {
        match news {
            // A new logind knows nothing of what an earlier one granted.
            News::Up => {
                self.held = None;
                self.waking |= self.under_way;
                self.over();
            }
            News::Event(Event::Sleep(true)) => {
                let winding = self.source.watched.sessions.lock_all(LockCause::Sleep);
                self.let_go_after(winding);
            }
            News::Event(Event::Shutdown(true)) => {
                let winding = self.source.watched.sessions.shut_down();
                self.let_go_after(winding);
            }
            News::Event(Event::Sleep(false)) => {
                self.slept();
                self.waking = true;
                self.over();
            }
            News::Event(Event::Shutdown(false)) => {
                self.source.watched.sessions.shutdown_called_off();
                self.over();
            }
            News::Event(_) | News::Down => {}
        }
    }

    /// The inhibitor is closed when the winding up is done, or its time is over: that goes on by itself. One
    /// that was asked for already may be granted yet, and counts as well.
    fn let_go_after(&mut self, winding: BoxFuture<'static, ()>) {
        self.under_way = true;
        let (announced, winding) = (Instant::now(), tokio::spawn(winding));
        let (held, taking) = (self.held.take(), self.taking.take());
        tokio::spawn(async move {
            let held = match (held, taking) {
                (None, Some(taking)) => taking.await.ok(),
                (held, _) => held,
            };
            let budget = held.as_ref().map_or(LONGEST, |held| budget(held.delay_max));
            if timeout_at(announced + budget, winding).await.is_err() {
                tracing::warn!(
                    "not everything was wound up before the machine sleeps; the rest goes on after it"
                );
            }
            drop(held);
        });
    }

    /// The next one is asked for before anything else is done about the waking.
    fn over(&mut self) {
        self.under_way = false;
        self.ask();
    }

    /// Whoever unlocked between the announcement and the sleep is locked again; after that `jump` need not
    /// lock for the same sleep, maybe after the person has come back.
    fn slept(&self) {
        if let Some(apart) = self.source.watched.slept.unaccounted() {
            tokio::spawn(self.source.watched.sessions.lock_all(LockCause::Sleep));
            self.source.watched.slept.account(apart);
        }
    }

    fn ask(&mut self) {
        let Some(logind) = self.source.logind.clone() else { return };
        self.taking = Some(Box::pin(async move { logind.inhibit().await }));
    }

    fn have(&mut self, taken: Taken) {
        if std::mem::take(&mut self.waking) {
            self.source.watched.sessions.woke();
        }
        match taken {
            Ok(inhibitor) => {
                self.held = Some(inhibitor);
                self.source.notes.take_back(KIND.name);
            }
            Err(error) => {
                let cure = match error {
                    NotDelayed::Refused => {
                        "allow the broker's account `org.freedesktop.login1.inhibit-delay-sleep` and `…-shutdown` in polkit"
                    }
                    NotDelayed::Unheard => "it is asked again by itself",
                };
                self.source.notes.say(
                    KIND.name,
                    format!("sleep is not delayed until credentials are revoked, as {error}; {cure}"),
                );
            }
        }
    }
}

/// What is left of logind's patience.
fn budget(delay_max: Duration) -> Duration {
    delay_max.saturating_sub(MARGIN).max(delay_max / 2).min(LONGEST)
}

async fn taken(taking: &mut Option<BoxFuture<'static, Taken>>) -> Taken {
    match taking {
        Some(taking) => taking.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_ends_before_loginds_patience() {
        let cases = [(0, 0), (1_000, 500), (1_500, 750), (2_000, 1_000), (5_000, 4_000), (30_000, 4_000)];
        for (max, expected) in cases {
            assert_eq!(budget(Duration::from_millis(max)), Duration::from_millis(expected), "{max}");
        }
    }
}
