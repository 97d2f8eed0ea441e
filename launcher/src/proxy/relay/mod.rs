//! One loop over client, instances, broker, signals and clock that never waits on any of them: nothing that
//! one does, or does not do, keeps the others from being served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_broker_proto::channel::ToBroker;
use rustix::process::Pid;

use super::backend::Backend;
use super::backoff::Backoff;
use super::calls::Calls;
use super::filter::{self, Filter};
use super::life::{Life, State};
use super::lines::Long;
use super::outbox::Outbox;
use super::port::{Port, Standard};
use super::redact::Redactor;
use super::rule::{Drop, MAX_MESSAGE};
use super::signals::Signals;
use super::sink::Sink;
use super::source::Source;
use super::talk::{Otherwise, Talk};
use crate::client::{Dialer, LaunchChannel};
use crate::failure::Failure;
use crate::spawn::{Ended, Keeper};
use link::Link;
use listing::Listings;

mod broker;
mod calls;
mod client;
mod instances;
mod link;
mod listing;
mod over;
mod plan;
mod start;
mod streams;
mod wait;

/// How long the client may take to read what is left at the end, from its last read.
const DRAIN: Duration = Duration::from_secs(2);
/// The same, where the launch was ended by somebody else.
const DRAIN_HURRIED: Duration = Duration::from_millis(300);
/// The same in all, however slowly it reads.
const DRAIN_LONGEST: Duration = Duration::from_secs(30);
/// How long the very first instance is waited for where the client has left and asked for nothing: longer than a
/// refusal that passes is waited on.
const LEFT: Duration = Duration::from_secs(5);
/// How long the broker may take to read our last frames.
const FAREWELL: Duration = Duration::from_secs(1);
/// Buffers are given back after so long without a message.
const IDLE: Duration = Duration::from_secs(10);

/// A launch, until its end.
pub struct Relay {
    dialer: Arc<Dialer>,
    /// Where private files may lie.
    runtime: PathBuf,
    link: Link,
    /// What the launch is, as its plan says; the client is not read before that is known.
    filter: Option<Filter>,
    /// What is known of the client.
    shown: Option<filter::Client>,
    /// Whether the broker that is there has said its plan.
    planned: bool,
    redial: Backoff,
    signals: Signals,
    client: Source,
    out: Sink,
    err: Sink,
    /// What standard error is going to get: the servers' lines, and our own words between them.
    words: Outbox,
    talk: Talk,
    calls: Calls,
    life: Life,
    listings: Listings,
    redactor: Redactor,
    backends: Vec<Backend>,
    /// Instances that were started so far.
    count: u32,
    /// Started before credentials are asked for, one for each scope that they are asked for. They hold no secret.
    keepers: Vec<Keeper>,
    /// The broker waits for our word that nothing is alive.
    owes_dead: bool,
    /// The client has left, or a signal said that it is over.
    closing: Option<Closing>,
    /// When that was.
    left_at: Option<Instant>,
    over: Option<Over>,
    /// How the first scope's instance ended that was not told to.
    status: Option<u8>,
    /// Some process of an instance that is forgotten could not be ended.
    stuck: bool,
    /// Lines of servers that were dropped, of instances that are gone.
    past: [u64; Drop::COUNT],
    moved_at: Instant,
}

/// How the end was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// The client closed our input, or reads no more.
    Client,
    /// This signal came.
    Signal(i32),
}

/// The launch is over; what is left is to get the last words out.
struct Over {
    ended: Ended,
    why: Option<Failure>,
    until: Instant,
    latest: Instant,
}

/// How a launch ended.
pub struct Outcome {
    /// How the server ended; zero where none was left to end.
    pub ended: Ended,
    /// What ended it, where it was not the server or the client.
    pub why: Option<Failure>,
}

impl Relay {
    /// A launch whose credentials were asked for on `channel` just now, for a server between the client's
    /// standard streams.
    #[must_use]
    pub fn new(dialer: Dialer, runtime: PathBuf, channel: LaunchChannel, signals: Signals) -> Self {
        let [input, output, error] = [Standard::Input, Standard::Output, Standard::Error].map(Port::standard);
        let now = Instant::now();
        Self {
            dialer: Arc::new(dialer),
            runtime,
            link: Link::up(channel, now),
            filter: None,
            shown: None,
            planned: false,
            redial: Backoff::reconnects(),
            signals,
            client: Source::new(input, MAX_MESSAGE, Long::Drop),
            out: Sink::new(output, Some(Standard::Output)),
            err: Sink::new(error, None),
            words: Outbox::default(),
            talk: Talk::default(),
            calls: Calls::default(),
            life: Life::new(now),
            listings: Listings::default(),
            redactor: Redactor::default(),
            backends: Vec::new(),
            count: 0,
            keepers: Vec::new(),
            owes_dead: false,
            closing: None,
            left_at: None,
            over: None,
            status: None,
            stuck: false,
            past: [0; Drop::COUNT],
            moved_at: now,
        }
    }

    /// Relays until the launch is over and the client has what was said.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        // What the broker said early stands in a buffer already, where no poll would see it.
        self.hear(Instant::now());
        loop {
            let now = Instant::now();
            self.settle(now);
            if !self.flush(now) {
                self.settle(now);
            }
            let ready = self.wait();
            let now = Instant::now();
            // Instances first, as nothing has been added to them or taken away since they were polled; the
            // broker before the client, so that nothing is asked of what is to be ended.
            self.move_instances(&ready, now);
            self.serve_broker(ready.link, now);
            if !ready.signals.is_empty() {
                self.take_signals(now);
            }
            self.move_client(&ready, now);
            self.on_time(now);
            if self.is_finished(now) {
                return self.close();
            }
        }
    }

    /// What follows from what has just happened.
    fn settle(&mut self, now: Instant) {
        self.send_wants(now);
        for lane in 0..self.life.count() {
            if self.talk.holds(lane)
                && let Otherwise::Refuse(notice) = self.life.otherwise(lane)
            {
                let lost = self.talk.refuse_held(lane, &notice.clone());
                self.client.lost(lost);
            }
            // What was held for an instance that is gone brings up another one.
            if self.talk.holds_request(lane) && *self.life.state(lane) == State::Idle {
                self.life.asked(lane, now);
            }
        }
        self.unlist_rested();
        self.tend_listings(now);
        self.report_calls(now);
        self.report_leaks(now);
        self.retire_replaced(now);
        self.close_down(now);
        self.say_dead();
        self.tell_drops();
        self.write(now);
    }

    /// The broker hears that nothing is alive as soon as that is so.
    fn say_dead(&mut self) {
        let alive = !self.keepers.is_empty() || self.backends.iter().any(Backend::alive);
        if self.owes_dead && !alive && self.all_gone() {
            self.owes_dead = false;
            self.send(&ToBroker::Dead);
        }
    }

    fn all_gone(&self) -> bool {
        !self.stuck && self.backends.iter().all(|one| one.outcome().is_none_or(|ended| ended.gone))
    }

    /// The keepers that run, whose trees are not to be touched when another one is ended.
    fn spared(&self) -> Vec<Pid> {
        let instances = self.backends.iter().filter(|backend| backend.alive());
        instances
            .map(|backend| backend.instance.keeper())
            .chain(self.keepers.iter().map(Keeper::pid))
            .collect()
    }
}
