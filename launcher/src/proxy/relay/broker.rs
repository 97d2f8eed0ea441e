//! What the broker says and what it is told: frames, beats, its loss and its return.

use std::time::{Duration, Instant};

use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use mcp_broker_proto::launch::LaunchTicket;
use mcp_broker_proto::names::Label;
use rustix::event::PollFlags;
use rustix::rand::{GetRandomFlags, getrandom};

use super::Relay;
use super::link::Link;
use crate::client::NoLaunch;
use crate::desk::Desk;
use crate::failure::{AGAIN, Failure, UNAVAILABLE};
use crate::proxy::backend::Backend;
use crate::proxy::redact::Redactor;
use crate::proxy::talk::notice::{Kind, Notice};
use crate::run;
use crate::spawn::Keeper;

impl Relay {
    /// Acts on what poll(2) said about the way to the broker.
    pub(super) fn serve_broker(&mut self, events: PollFlags, now: Instant) {
        if events.is_empty() {
            return;
        }
        match &mut self.link {
            Link::Up { channel, .. } => {
                if events.contains(PollFlags::OUT) && channel.flush().is_err() {
                    return self.lose_broker("is gone", now);
                }
                if !events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    return;
                }
                // Behind the plan there may be a ticket, and no keeper yet.
                let read = if self.planned { channel.read() } else { channel.read_one() };
                let open = matches!(read, Ok(true));
                self.hear(now);
                if !open {
                    self.lose_broker("is gone", now);
                }
            }
            Link::Dialing(_) => self.take_dial(now),
            Link::Resting(_) | Link::Over => {}
        }
    }

    /// Takes every frame that was read.
    pub(super) fn hear(&mut self, now: Instant) {
        while let Link::Up { channel, heart } = &mut self.link {
            match channel.next_frame() {
                Ok(Some(frame)) => {
                    heart.heard(now);
                    // One that says its plan and dies at once is not asked more and more often.
                    if !matches!(frame, ToLauncher::Plan(_)) {
                        self.redial.reset();
                    }
                    self.frame(frame, now);
                }
                Ok(None) => return,
                Err(_) => self.lose_broker("says what cannot be understood", now),
            }
        }
    }

    fn frame(&mut self, frame: ToLauncher, now: Instant) {
        if self.over.is_some() {
            return;
        }
        match frame {
            ToLauncher::Beat => {}
            ToLauncher::Ticket(ticket) => match *ticket {
                LaunchTicket::Secrets(ticket) => self.start(ticket, now),
                LaunchTicket::Spawned(_) => {
                    let what = "the broker started the server itself, which this mcp-run cannot take over";
                    let hint = "install the mcp-run that belongs to this broker";
                    self.end_with(Failure::new(UNAVAILABLE, what, hint), now);
                }
            },
            ToLauncher::Plan(plan) => self.take_plan(&plan, now),
            ToLauncher::Decision(decision) => {
                let acts = self.calls.decided(&decision, now);
                self.act(acts, now);
            }
            ToLauncher::Refused { scope, problem } => {
                let lane = self.lane(&scope);
                if let Some(failure) = lane.and_then(|lane| self.life.refused(lane, &problem, random(), now))
                {
                    self.end_with(failure, now);
                }
            }
            ToLauncher::Park(park) => {
                let acts = self.calls.refuse_all(&Notice::from(&park));
                self.act(acts, now);
                self.kill_all(&Notice::from(&park));
                self.life.park(&park, random(), now);
                self.owes_dead = true;
                self.say(&format!("the server is parked: {}; {}", park.what, park.hint));
            }
            ToLauncher::Resume => self.life.resume(now),
            ToLauncher::Replace { instance, within_secs } => {
                let within = Duration::from_secs(within_secs);
                let named = |backend: &&mut Backend| backend.wire == instance && backend.alive();
                if let Some(backend) = self.backends.iter_mut().find(named) {
                    backend.lives_until(now + within);
                    self.life.replace(backend.number, now);
                }
            }
            ToLauncher::Refresh(refresh) => self.refresh(*refresh),
            ToLauncher::Renewed { lease, expires_at } => {
                let desks = self.backends.iter_mut().filter_map(Backend::desk);
                desks.for_each(|desk| desk.put_off(lease, &expires_at));
            }
            ToLauncher::End(end) => self.end_with(run::ended(&end), now),
        }
    }

    pub(super) fn end_with(&mut self, failure: Failure, now: Instant) {
        self.finish(failure.exit, Some(failure), now);
    }

    /// Tells the broker something, before anything is waited for; one that does not listen is gone.
    pub(super) fn send(&mut self, frame: &ToBroker) {
        if !self.link.queue(frame) {
            self.lose_broker("does not read", Instant::now());
        }
    }

    /// Sends what the broker is told, once the client and the instances have what is theirs: they wait for it, and
    /// the broker for nothing but questions. Whether it is still there.
    pub(super) fn flush(&mut self, now: Instant) -> bool {
        let there = self.link.flush();
        if !there {
            self.lose_broker("is gone", now);
        }
        there
    }

    /// Asks for credentials where they are wanted, each time with a keeper at hand. It is cloned before they are
    /// asked for, while no thread of ours lives and no part of another ticket was read: what it holds it holds for
    /// as long as its instance lives.
    pub(super) fn send_wants(&mut self, now: Instant) {
        let Link::Up { channel, .. } = &self.link else { return };
        if self.over.is_some() || self.by_signal() || !self.planned || channel.holds() {
            return;
        }
        let wanted = self.life.wanted().count();
        while self.keepers.len() < wanted {
            let spared = self.spared();
            let (redactor, backends) = (&mut self.redactor, &mut self.backends);
            let mut forget = || {
                *redactor = Redactor::default();
                backends.iter_mut().filter_map(Backend::desk).for_each(Desk::forget);
            };
            match Keeper::start(&spared, &mut forget) {
                Ok(keeper) => self.keepers.push(keeper),
                Err(failure) if self.life.is_first() => return self.end_with(failure, now),
                // Without one the ticket is given back, and asked for again.
                Err(_) => break,
            }
        }
        while self.link.is_up()
            && let Some(lane) = self.life.take_want()
        {
            let scope = self.filter.as_ref().and_then(|filter| filter.label(lane)).cloned();
            scope.into_iter().for_each(|scope| self.send(&ToBroker::Want { scope }));
        }
        while self.keepers.len() > self.life.wanted().count() {
            self.dismiss_keeper();
        }
    }

    /// The place of a scope in the plan.
    pub(super) fn lane(&self, scope: &Label) -> Option<usize> {
        self.filter.as_ref()?.lane_of(scope)
    }

    /// Without the broker nobody keeps the credentials alive or ends them in time.
    pub(super) fn lose_broker(&mut self, how: &str, now: Instant) {
        if !self.link.is_up() {
            return;
        }
        if self.over.is_some() {
            self.link = Link::Over;
            return;
        }
        self.link = Link::Resting(now + self.redial.next(random()));
        if self.life.is_first() {
            let failure = self.life.first_failure().unwrap_or_else(|| lost(how));
            self.link = Link::Over;
            return self.end_with(failure, now);
        }
        let what = format!("the broker {how}, so the server was ended");
        self.say(&format!("{what}; it comes back with the broker"));
        let notice = Notice::new(
            Kind::Unavailable,
            what,
            "call again in a few seconds; if it stays so, run `mcp-run doctor`",
        );
        self.kill_all(&notice);
        for backend in &mut self.backends {
            // The next broker counts anew, and knows nothing of these.
            backend.given_up = backend.given_up.take().map(|(_, notice)| (None, notice));
        }
        self.owes_dead = false;
        self.planned = false;
        self.life.lost(&notice);
        let acts = self.calls.lost();
        self.act(acts, now);
    }

    fn take_dial(&mut self, now: Instant) {
        let Link::Dialing(dial) = std::mem::replace(&mut self.link, Link::Over) else { return };
        match dial.finish() {
            Ok(_) if self.over.is_some() => {}
            Ok(channel) => {
                self.link = Link::up(channel, now);
                self.say("the broker is back");
                self.life.back(now);
                self.hear(now);
            }
            Err(NoLaunch::Refused(problem)) if !problem.code.is_passing() => {
                self.end_with(problem.into(), now);
            }
            Err(no) => {
                if let NoLaunch::Refused(problem) = no {
                    self.life.lost(&Notice::from(&problem));
                }
                self.link = Link::Resting(now + self.redial.next(random()));
            }
        }
    }

    /// Beats, listens for silence, looks for a broker.
    pub(super) fn tend_link(&mut self, now: Instant) {
        match &mut self.link {
            Link::Up { heart, .. } => {
                let (beat, silent) = (heart.beat(now), heart.silent(now));
                if beat {
                    self.send(&ToBroker::Beat);
                }
                if silent {
                    self.lose_broker("was silent for too long", now);
                }
            }
            Link::Resting(at) if now >= *at => {
                self.link = match self.dialer.begin() {
                    Ok(dial) => Link::Dialing(dial),
                    Err(_) => Link::Resting(now + self.redial.next(random())),
                };
            }
            Link::Resting(_) | Link::Dialing(_) | Link::Over => {}
        }
    }

    /// The broker did not answer a request for credentials.
    pub(super) fn unheard(&mut self, now: Instant) {
        if self.life.is_first() {
            let hint = "try again; if it stays so, run `mcp-run doctor`";
            let what = "the broker did not hand out the credentials in time";
            return self.end_with(Failure::new(AGAIN, what, hint), now);
        }
        if self.link.is_up() {
            return self.lose_broker("did not hand out the credentials in time", now);
        }
        // Nobody was asked: the next broker is.
        let hint = "call again in a few seconds; if it stays so, run `mcp-run doctor`";
        self.life.lost(&Notice::new(Kind::Unavailable, "the broker is gone", hint));
    }
}

/// For jitter: where the kernel has none there is none.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::NONBLOCK).unwrap_or_default();
    u32::from_ne_bytes(bytes)
}

fn lost(how: &str) -> Failure {
    let hint = "look at the broker's log, and run `mcp-run doctor`";
    Failure::new(UNAVAILABLE, format!("the broker {how}"), hint)
}
