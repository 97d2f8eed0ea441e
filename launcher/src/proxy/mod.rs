//! The relay: one loop over client, server, broker, signals and clock that never waits on a write.
//! Nothing that one of them does, or does not do, keeps the others from being served.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use rustix::event::{PollFd, PollFlags, poll};

use crate::client::LaunchChannel;
use crate::failure::{Failure, UNAVAILABLE};
use crate::run;
use crate::spawn::{Ended, Instance};
use heart::Heart;
use lane::{Lane, Moved};
use port::{Port, Standard};
use rule::{MAX_DIAGNOSTIC, MAX_MESSAGE, Rule};
use shutdown::{Shutdown, Step};
use signals::Signal;

pub mod flow;
pub mod heart;
pub mod lane;
pub mod port;
pub mod rule;
pub mod shutdown;
pub mod signals;

pub use signals::Signals;

/// How long the client may take to read what is left once the server is gone, from its last read.
const DRAIN: Duration = Duration::from_secs(2);
/// The same, where the launch was ended by somebody else.
const DRAIN_HURRIED: Duration = Duration::from_millis(300);
/// The same in all, however slowly it reads.
const DRAIN_LONGEST: Duration = Duration::from_secs(30);
/// A killed process that is still there after so long is stuck in the kernel.
const STUCK: Duration = Duration::from_secs(5);
/// How long the broker may take to read our last frames.
const FAREWELL: Duration = Duration::from_secs(1);
/// Buffers are given back after so long without a message.
const IDLE: Duration = Duration::from_secs(10);
/// What the loop waits for.
const SLOTS: usize = 9;

/// The conversation of one instance, until its end.
pub struct Relay<'a> {
    instance: Instance,
    number: u32,
    channel: &'a mut LaunchChannel,
    connected: bool,
    signals: Signals,
    /// Client to server.
    up: Lane,
    /// Server to client.
    down: Lane,
    /// The server's standard error, and our own words between its lines.
    words: Lane,
    shutdown: Shutdown,
    heart: Heart,
    moved_at: Instant,
    killed_at: Option<Instant>,
    ended: Option<(Ended, Instant)>,
    drain_until: Instant,
    why: Option<Failure>,
}

/// How a launch ended.
pub struct Outcome {
    /// How the instance ended.
    pub ended: Ended,
    /// What ended it, where it was not the server or the client.
    pub why: Option<Failure>,
}

impl<'a> Relay<'a> {
    /// Between the client's standard streams and the instance.
    ///
    /// # Errors
    /// Where the kernel refuses to make our own ends non-blocking.
    pub fn new(
        mut instance: Instance,
        number: u32,
        channel: &'a mut LaunchChannel,
        signals: Signals,
    ) -> io::Result<Self> {
        let own = |fd: Option<OwnedFd>| fd.ok_or(io::ErrorKind::BrokenPipe.into()).and_then(Port::own);
        let (stdin, stdout, stderr) =
            (own(instance.stdin.take())?, own(instance.stdout.take())?, own(instance.stderr.take())?);
        let [input, output, error] = [Standard::Input, Standard::Output, Standard::Error].map(Port::standard);
        let now = Instant::now();
        Ok(Self {
            instance,
            number,
            channel,
            connected: true,
            signals,
            up: Lane::new(Rule::FromClient { max_line: MAX_MESSAGE }, input, stdin, None),
            down: Lane::new(
                Rule::FromServer { max_line: MAX_MESSAGE },
                stdout,
                output,
                Some(Standard::Output),
            ),
            words: Lane::new(Rule::Diagnostics { max_line: MAX_DIAGNOSTIC }, stderr, error, None),
            shutdown: Shutdown::default(),
            heart: Heart::new(now),
            moved_at: now,
            killed_at: None,
            ended: None,
            drain_until: now,
            why: None,
        })
    }

    /// Relays until the tree is gone and the client has what it wrote.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        loop {
            let events = self.wait();
            let now = Instant::now();
            let [signals, tree, channel, up_from, up_to, down_from, down_to, words_from, words_to] = events;
            if !channel.is_empty() {
                self.hear(channel, now);
            }
            if !signals.is_empty() {
                self.take_signal(now);
            }
            self.move_up(up_from, up_to, now);
            self.move_down(down_from, down_to, now);
            self.move_words(words_from, words_to, now);
            if !tree.is_empty() && self.ended.is_none() {
                self.bury(self.instance.end(), now);
            }
            self.on_time(now);
            if let Some(ended) = self.finished(now) {
                return self.close(ended);
            }
        }
    }

    fn wait(&self) -> [PollFlags; SLOTS] {
        let nothing = (self.signals.as_fd(), PollFlags::empty());
        // A pidfd that was seen stays readable, a closed channel too: they would keep us awake.
        let tree = self.ended.is_none().then(|| (self.instance.pidfd().as_fd(), PollFlags::IN));
        let sending = if self.channel.waiting() { PollFlags::OUT } else { PollFlags::empty() };
        let channel = self.connected.then(|| (self.channel.as_fd(), PollFlags::IN | sending));
        let mut slots = [
            (self.signals.as_fd(), PollFlags::IN),
            tree.unwrap_or(nothing),
            channel.unwrap_or(nothing),
            self.up.source().unwrap_or(nothing),
            self.up.sink().unwrap_or(nothing),
            self.down.source().unwrap_or(nothing),
            self.down.sink().unwrap_or(nothing),
            self.words.source().unwrap_or(nothing),
            self.words.sink().unwrap_or(nothing),
        ]
        .map(|(fd, events)| PollFd::from_borrowed_fd(fd, events));
        let left = self.next_time().saturating_duration_since(Instant::now());
        let timeout = rustix::time::Timespec::try_from(left).ok();
        match poll(&mut slots, timeout.as_ref()) {
            Ok(_) => slots.map(|slot| slot.revents()),
            Err(_) => [PollFlags::empty(); SLOTS],
        }
    }

    /// When the clock has something to say.
    fn next_time(&self) -> Instant {
        let beat = self.connected.then(|| self.heart.next());
        let stuck = self.killed_at.filter(|_| self.ended.is_none()).map(|at| at + STUCK);
        let drain = self.ended.map(|_| self.drain_until);
        let holds = self.up.holds_memory() || self.down.holds_memory() || self.words.holds_memory();
        let idle = holds.then(|| self.moved_at + IDLE);
        let times = [beat, stuck, drain, idle, self.shutdown.next()];
        times.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn on_time(&mut self, now: Instant) {
        if self.connected && self.heart.beat(now) && self.channel.send(&ToBroker::Beat).is_err() {
            self.lose_broker("does not read");
        }
        if self.connected && self.heart.silent(now) {
            self.lose_broker("was silent for too long");
        }
        match self.shutdown.due(now) {
            Some(Step::Terminate) => self.instance.signal(libc::SIGTERM),
            Some(Step::Kill) => self.kill(),
            None => {}
        }
        if self.killed_at.is_some_and(|at| now >= at + STUCK) && self.ended.is_none() {
            self.bury(Ended { status: 128 + 9, gone: false }, now);
        }
        if now >= self.moved_at + IDLE {
            for lane in [&mut self.up, &mut self.down, &mut self.words] {
                lane.flow().release();
            }
        }
    }

    fn hear(&mut self, events: PollFlags, now: Instant) {
        if events.contains(PollFlags::OUT) && self.channel.flush().is_err() {
            return self.lose_broker("is gone");
        }
        if !events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let open = matches!(self.channel.read(), Ok(true));
        loop {
            match self.channel.next_frame() {
                Ok(Some(ToLauncher::Beat)) => self.heart.heard(now),
                Ok(Some(ToLauncher::End(end))) => {
                    if self.ended.is_none() {
                        self.why.get_or_insert_with(|| run::ended(&end));
                        self.kill();
                    }
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => {
                    return self.lose_broker("says what cannot be understood");
                }
            }
        }
        if !open {
            self.lose_broker("is gone");
        }
    }

    /// Without the broker nobody keeps the credentials alive or ends them in time.
    fn lose_broker(&mut self, how: &str) {
        self.connected = false;
        if self.ended.is_some() || self.killed_at.is_some() {
            return;
        }
        self.why = Some(Failure::new(
            UNAVAILABLE,
            format!("the broker {how}, so the server was ended"),
            "look at the broker's log, then start the server again from its client",
        ));
        self.kill();
    }

    fn take_signal(&mut self, now: Instant) {
        while let Some(signal) = self.signals.next_signal() {
            match signal {
                Signal::End => {
                    self.up.cut();
                    self.shutdown.hurry(now);
                    self.drain_until = self.drain_until.min(now + DRAIN_HURRIED);
                }
                Signal::Forward(number) => self.instance.signal(number),
            }
        }
    }

    fn move_up(&mut self, from: PollFlags, to: PollFlags, now: Instant) {
        let sink = self.up.sink_ready(to);
        let (source, hung_up) = self.up.source_ready(from);
        self.note_move(sink, now);
        self.note_move(source, now);
        if source == Moved::SourceEnded || (hung_up && !self.shutdown.begun()) {
            self.shutdown.client_left(now);
        }
        tell_news(&self.up, &mut self.words, "the client's input").into_iter().for_each(|i| self.up.told(i));
    }

    fn move_down(&mut self, from: PollFlags, to: PollFlags, now: Instant) {
        let sink = self.down.sink_ready(to);
        let (source, _) = self.down.source_ready(from);
        self.note_move(sink, now);
        self.note_move(source, now);
        if sink == Moved::Bytes || source == Moved::Bytes {
            self.shutdown.progress(now);
        }
        if sink == Moved::SinkGone || source == Moved::SinkGone {
            // The client reads no more: the server hears it as a broken pipe, and has to end.
            self.down.cut();
            self.up.cut();
            self.shutdown.client_left(now);
        }
        let told = tell_news(&self.down, &mut self.words, "the server's output");
        told.into_iter().for_each(|i| self.down.told(i));
    }

    fn move_words(&mut self, from: PollFlags, to: PollFlags, now: Instant) {
        let sink = self.words.sink_ready(to);
        let (source, _) = self.words.source_ready(from);
        self.note_move(sink, now);
        self.note_move(source, now);
    }

    fn note_move(&mut self, moved: Moved, now: Instant) {
        if moved != Moved::Nothing {
            self.moved_at = now;
            if let Some((_, since)) = self.ended.filter(|_| self.why.is_none()) {
                self.drain_until = self.drain_until.max((now + DRAIN).min(since + DRAIN_LONGEST));
            }
        }
    }

    fn kill(&mut self) {
        self.shutdown.kill();
        self.killed_at.get_or_insert_with(Instant::now);
        self.instance.kill();
    }

    /// The tree is gone: the broker hears it at once, the client gets what was written before.
    fn bury(&mut self, ended: Ended, now: Instant) {
        let hurried = self.why.is_some() || self.shutdown.begun();
        self.drain_until = now + if hurried { DRAIN_HURRIED } else { DRAIN };
        self.ended = Some((ended, now));
        self.up.cut();
        if !self.connected {
            return;
        }
        let exited = ToBroker::Exited { instance: self.number, status: ended.status };
        let mut sent = Ok(());
        if self.killed_at.is_none() {
            sent = self.channel.send(&exited);
        }
        if ended.gone {
            sent = sent.and_then(|()| self.channel.send(&ToBroker::Dead));
        }
        // A broker that is gone has seen the connection close, and revokes for that.
        self.connected = sent.is_ok();
    }

    fn finished(&self, now: Instant) -> Option<Ended> {
        let (ended, _) = self.ended?;
        let drained = self.down.idle() && self.words.idle();
        (drained || now >= self.drain_until).then_some(ended)
    }

    fn close(mut self, ended: Ended) -> Outcome {
        if self.connected && self.channel.waiting() {
            // What the broker does not read it learns from the closed connection.
            self.channel.drain(Instant::now() + FAREWELL).unwrap_or_default();
        }
        for (lane, whose) in [(&self.up, "the client's input"), (&self.down, "the server's output")] {
            if let Some(summary) = lane.summary() {
                self.words.flow().say(&format!("mcp-run: dropped from {whose} in all: {summary}"));
            }
        }
        self.words.write();
        Outcome { ended, why: self.why }
    }
}

/// Tells the first drop of a kind, once; the number of what was told.
fn tell_news(lane: &Lane, words: &mut Lane, whose: &str) -> Option<usize> {
    let (number, why) = lane.news()?;
    let line = format!("mcp-run: a line of {whose} was dropped: {why}; more of the kind are only counted");
    let told = words.flow().say(&line);
    words.write();
    told.then_some(number)
}
