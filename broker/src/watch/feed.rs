//! Hands what logind says to every source, in order and completely, and finds it again when it is lost.
//! Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::logind::{Event, Listener, Logind};

/// While the bus is not there it is looked for so often.
const RETRY: Duration = Duration::from_millis(250);

/// What a source is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// logind is heard from now on. What was said before that and is not true any more, nobody will repeat.
    Up,
    /// It said something.
    Event(Event),
    /// It is not heard any more.
    Down,
}

/// Where the news go. Their queues have no bound, as none may hold up another: sources only pass things on,
/// and only logind fills them.
#[derive(Default)]
pub(super) struct Feed(Vec<mpsc::UnboundedSender<News>>);

impl Feed {
    pub(super) fn receiver(&mut self) -> mpsc::UnboundedReceiver<News> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.push(sender);
        receiver
    }

    /// For good.
    pub(super) async fn run(self, logind: Arc<Logind>) {
        loop {
            if let Some(mut listener) = logind.listen().await {
                self.follow(&mut listener).await;
            }
            self.tell(&News::Down);
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(&self, listener: &mut Listener) {
        if listener.has_logind() {
            self.tell(&News::Up);
        } else {
            self.tell(&News::Down);
        }
        while let Some(event) = listener.next().await {
            self.tell(&match event {
                Event::Gone => News::Down,
                Event::Back => News::Up,
                event => News::Event(event),
            });
        }
    }

    fn tell(&self, news: &News) {
        for source in &self.0 {
            // One that needs no news has dropped its end; one that ended is the concern of `guarded`.
            source.send(news.clone()).ok();
        }
    }
}
