//! What logind says about login sessions: lock and unlock, the desktop's locked hint, not active, closing,
//! removed.

use super::feed::News;
use super::{BoxFuture, Kind, Source};
use crate::logind::{Event, Logind};
use crate::session::login::Sighting;

pub(super) const KIND: Kind = Kind { name: "signals", needs_logind: true, run };

fn run(source: Source) -> BoxFuture<'static, ()> {
    Box::pin(follow(source))
}

async fn follow(mut source: Source) {
    while let Some(news) = source.news.recv().await {
        let sessions = &source.watched.sessions;
        match news {
            News::Event(Event::Sighted { path, sighting }) => sessions.sighted(&path, sighting),
            News::Event(Event::UserRemoved(uid)) => sessions.user_removed(uid),
            News::Event(Event::Changed { path }) => {
                for sighting in read(source.logind.as_deref(), &path).await {
                    sessions.sighted(&path, sighting);
                }
            }
            _ => {}
        }
    }
}

/// What the signal left out. What cannot be read is taken for the worst that locks.
async fn read(logind: Option<&Logind>, path: &str) -> Vec<Sighting> {
    let Some(logind) = logind else { return Vec::new() };
    match logind.look_at(path).await {
        Ok(Some(look)) if look.closing => vec![Sighting::Closed],
        Ok(Some(look)) => vec![Sighting::Hint(look.locked_hint), Sighting::Active(look.active)],
        Ok(None) => vec![Sighting::Closed],
        Err(_unseen) => vec![Sighting::Lock],
    }
}
