//! Whether logind can be heard at all: when the bus or logind is lost, or logind does not answer, a lock would
//! not be seen. A restart is passed over; what lasts longer locks. As soon as it is heard again, everything is
//! read again.

use std::time::Duration;

use mcp_broker_proto::session::LockCause;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::feed::News;
use super::{BoxFuture, Kind, Source};
use crate::clock::shown;

/// It may be unheard for so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// It is asked so often whether it answers.
const EVERY: Duration = Duration::from_secs(5);

pub(super) const KIND: Kind = Kind { name: "bus", needs_logind: true, run };

fn run(source: Source) -> BoxFuture<'static, ()> {
    Box::pin(async move { Ear { source, lock_at: None, asking: None }.follow().await })
}

struct Ear {
    source: Source,
    /// When to lock, while it is unheard.
    lock_at: Option<Instant>,
    /// Whether it answers, and when that was asked.
    asking: Option<(Instant, JoinHandle<bool>)>,
}

impl Ear {
    async fn follow(mut self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = self.source.news.recv() => match news {
                    // An answer that is still awaited says nothing about what comes now.
                    Some(News::Up) => {
                        self.asking = None;
                        self.heard(true);
                    }
                    Some(News::Down) => {
                        self.asking = None;
                        self.unheard(Instant::now());
                    }
                    Some(News::Event(_)) => {}
                    None => return,
                },
                answers = answer(&mut self.asking) => {
                    if let Some((asked, _)) = self.asking.take() {
                        if answers { self.heard(false) } else { self.unheard(asked) }
                    }
                }
                () = until(self.lock_at) => self.lock(),
                _ = ticks.tick(), if self.asking.is_none() => self.ask(),
            }
        }
    }

    fn ask(&mut self) {
        let Some(logind) = self.source.logind.clone() else { return };
        self.asking = Some((Instant::now(), tokio::spawn(async move { logind.answers().await })));
    }

    fn unheard(&mut self, since: Instant) {
        if self.lock_at.is_some() {
            return;
        }
        self.lock_at = Some(since + PATIENCE);
        let since = shown(self.source.watched.clock.now());
        self.source.notes.say(
            KIND.name,
            format!("logind is not heard since {since}: what is bound to a login session stays locked; `systemctl status systemd-logind dbus`"),
        );
    }

    /// Signals that fell while it was unheard are gone, so `anew` reads everything again also where the loss
    /// was not noticed; and so does an answer after a silence.
    fn heard(&mut self, anew: bool) {
        let lost = self.lock_at.take();
        if lost.is_some() {
            self.source.notes.take_back(KIND.name);
        }
        if anew || lost.is_some() {
            tokio::spawn(self.source.watched.sessions.look_again());
        }
    }

    /// Again and again while it lasts: whoever unlocks by hand meanwhile is not heard locking again.
    fn lock(&mut self) {
        self.lock_at = Some(Instant::now() + PATIENCE);
        // What follows goes on by itself, and is not waited for.
        drop(self.source.watched.sessions.lock_bound(LockCause::BusLost));
    }
}

async fn answer(asking: &mut Option<(Instant, JoinHandle<bool>)>) -> bool {
    match asking {
        Some((_, task)) => task.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
