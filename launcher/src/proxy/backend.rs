//! One instance with its streams: the process, what is written to it and read from it, and the stages of its
//! end. It decides nothing about the launch.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mcp_broker_proto::channel::{GoneReason, ToBroker};
use mcp_broker_proto::launch::{Refresh, SecretsTicket};
use rustix::process::Pid;

use super::leaks::Leaks;
use super::lines::Long;
use super::port::Port;
use super::redact::Across;
use super::rule::{MAX_DIAGNOSTIC, MAX_MESSAGE};
use super::shutdown::{Shutdown, Step};
use super::sink::{Sink, Wrote};
use super::source::Source;
use super::talk::notice::Notice;
use crate::desk::Desk;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::inject::{self, delivered::Delivered};
use crate::say;
use crate::spawn::private::PrivateDir;
use crate::spawn::{Ended, Instance, Keeper};

/// How long what a dead instance has written may take to be read by the client, from its last read.
const DRAIN: Duration = Duration::from_secs(2);
/// The same, where it was told to end.
const DRAIN_HURRIED: Duration = Duration::from_millis(300);
/// The same in all, however slowly it is read.
const DRAIN_LONGEST: Duration = Duration::from_secs(30);
/// What reads no more and is still there after so long does not mean to end.
const DEAF: Duration = Duration::from_secs(1);
/// A killed process that is still there after so long is stuck in the kernel.
const STUCK: Duration = Duration::from_secs(5);

/// An instance and its streams.
pub struct Backend {
    /// Its number here: unlike the broker's it is never used again, whatever broker comes next.
    pub number: u32,
    /// Its number as the broker counts.
    pub wire: u32,
    /// The process.
    pub instance: Instance,
    /// Its standard input.
    pub stdin: Sink,
    /// Its standard output.
    pub stdout: Source,
    /// Its standard error.
    pub stderr: Source,
    /// Where its end stands.
    pub shutdown: Shutdown,
    /// What its open requests are told; nothing while it was not given up. And why, where the broker is to hear.
    pub given_up: Option<(Option<GoneReason>, Notice)>,
    /// It finishes what it was asked until then, while another has taken its place.
    pub finishes: Option<Instant>,
    /// What is held back of its diagnostics.
    pub across: Across,
    /// What was masked in what it said.
    pub leaks: Leaks,
    /// Its credentials end then.
    ends: Option<Instant>,
    delivered: Delivered,
    /// When its input was found closed by it, while it was not told to end.
    deaf_at: Option<Instant>,
    /// When it last said something, or took something.
    moved_at: Instant,
    killed_at: Option<Instant>,
    ended: Option<End>,
}

/// The end of an instance, and until when the rest of its words is waited for.
#[derive(Debug, Clone, Copy)]
struct End {
    how: Ended,
    until: Instant,
    latest: Instant,
}

/// Where a new instance starts from.
pub struct Ground<'a> {
    /// What may be inherited.
    pub environment: &'a Environment,
    /// Where private files may lie.
    pub runtime: &'a Path,
    /// The keepers of other instances.
    pub spared: &'a [Pid],
}

impl Backend {
    /// Its credentials end then: until that it must have finished what it was asked.
    pub fn lives_until(&mut self, ends: Instant) {
        self.ends = Some(ends);
        self.finishes = self.finishes.map(|_| ends);
    }

    /// Another has taken its place: it may finish what it was asked as long as its credentials live; until then
    /// where that is not known.
    pub fn finish_until(&mut self, until: Instant) {
        self.finishes = Some(self.ends.unwrap_or(until));
    }

    /// What came of writing to it. One that takes no more is about to end, as a rule.
    pub fn wrote(&mut self, wrote: Wrote, now: Instant) {
        match wrote {
            Wrote::Nothing => {}
            Wrote::Bytes => self.moved_at = now,
            Wrote::Gone => self.deaf_at = self.deaf_at.or(Some(now)),
        }
    }

    /// Whether it reads no more and does not end, though nobody told it to.
    #[must_use]
    pub fn deaf(&self, now: Instant) -> bool {
        self.deaf_until().is_some_and(|until| now >= until)
    }

    fn deaf_until(&self) -> Option<Instant> {
        let told = self.given_up.is_some() || self.shutdown.begun();
        self.deaf_at.filter(|_| self.alive() && !told).map(|at| at + DEAF)
    }

    /// When it last said something, or took something.
    #[must_use]
    pub fn moved_at(&self) -> Instant {
        self.moved_at
    }

    /// Whether its credentials have ended, and it was not given up.
    #[must_use]
    pub fn expired(&self, now: Instant) -> bool {
        self.alive() && self.given_up.is_none() && self.ends.is_some_and(|ends| now >= ends)
    }

    /// Starts an instance; answers it with the frame that says so.
    ///
    /// # Errors
    /// Where it cannot run, and whether nothing is left of it.
    pub fn start(
        number: u32,
        keeper: Keeper,
        ticket: SecretsTicket,
        ground: &Ground<'_>,
    ) -> Result<(Self, ToBroker), (Failure, bool)> {
        let (wire, scope) = (ticket.instance, ticket.scope.clone());
        let mut delivered = Delivered::default();
        let make_dir = || keeper.share(PrivateDir::make(ground.runtime)?);
        let planned = inject::plan(ticket, ground.environment, &mut delivered, &make_dir, keeper.pid());
        // The plan, and with it every secret that this process knows, is wiped at the end of this match.
        let spawned = match planned {
            Ok(plan) => keeper.spawn(&plan, ground.spared),
            Err(failure) => Err((failure, keeper.dismiss(ground.spared))),
        };
        match spawned {
            Ok(instance) => {
                let (pid, containment) = (instance.pid(), instance.containment());
                let started = ToBroker::Started { instance: wire, scope, pid, containment };
                Self::over(instance, [number, wire], delivered, ground.spared)
                    .map(|backend| (backend, started))
            }
            Err((failure, gone)) => {
                remove(&mut delivered);
                Err((failure, gone))
            }
        }
    }

    fn over(
        mut instance: Instance,
        [number, wire]: [u32; 2],
        mut delivered: Delivered,
        spared: &[Pid],
    ) -> Result<Self, (Failure, bool)> {
        let own = |fd: Option<OwnedFd>| fd.ok_or(io::ErrorKind::BrokenPipe.into()).and_then(Port::own);
        let pipes = own(instance.stdin.take())
            .and_then(|stdin| Ok((stdin, own(instance.stdout.take())?, own(instance.stderr.take())?)));
        match pipes {
            Ok((stdin, stdout, stderr)) => Ok(Self {
                number,
                wire,
                instance,
                stdin: Sink::new(stdin, None),
                stdout: Source::new(stdout, MAX_MESSAGE, Long::Drop),
                stderr: Source::new(stderr, MAX_DIAGNOSTIC, Long::Split),
                shutdown: Shutdown::default(),
                given_up: None,
                finishes: None,
                across: Across::default(),
                leaks: Leaks::default(),
                ends: None,
                delivered,
                deaf_at: None,
                moved_at: Instant::now(),
                killed_at: None,
                ended: None,
            }),
            Err(error) => {
                instance.kill();
                let gone = instance.end(spared).gone;
                remove(&mut delivered);
                Err((Failure::system("relay the conversation", error), gone))
            }
        }
    }

    /// What it has and can be given anew.
    #[must_use]
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// Gives it new credentials while it runs, and tells the server where it is to be told.
    ///
    /// # Errors
    /// Where they cannot be delivered; it has what it had then.
    pub fn refresh(&mut self, refresh: Refresh) -> Result<(), Failure> {
        for signal in self.delivered.refresh(refresh)? {
            // Where it cannot be sent the keeper has gone, and the server with it, or has as many before it as there is
            // room for: any of those comes later than the new credentials, and the server finds them.
            self.instance.signal_first(signal).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether it was killed by us.
    #[must_use]
    pub fn killed(&self) -> bool {
        self.killed_at.is_some()
    }

    /// Whether its process may still be alive.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Gives it up in peace: its input is closed, and what does not end is made to.
    pub fn retire(&mut self, reason: GoneReason, notice: Notice, now: Instant) {
        self.given_up.get_or_insert((Some(reason), notice));
        self.finishes = None;
        self.shutdown.client_left(now);
    }

    /// Kills it. Where it was given up before, that reason stays.
    pub fn kill(&mut self, reason: Option<GoneReason>, notice: &Notice) {
        if self.alive() {
            self.given_up.get_or_insert_with(|| (reason, notice.clone()));
            self.kill_now();
        }
    }

    fn kill_now(&mut self) {
        self.shutdown.kill();
        self.killed_at.get_or_insert_with(Instant::now);
        self.instance.kill();
        self.withhold();
    }

    /// Refuses from now on what it asks for.
    fn withhold(&mut self) {
        self.delivered.desk.iter_mut().for_each(Desk::withhold);
    }

    /// What it may ask for while it runs.
    pub fn desk(&mut self) -> Option<&mut Desk> {
        self.delivered.desk.as_mut()
    }

    /// Serves what it asks for, where the desk is ready or the clock says so.
    pub fn serve(&mut self, ready: bool, now: Instant) {
        if let Some(desk) =
            self.delivered.desk.as_mut().filter(|desk| ready || desk.next().is_some_and(|at| now >= at))
        {
            desk.serve(now);
        }
    }

    /// What shows that it asks for something.
    #[must_use]
    pub fn asks(&self) -> Option<BorrowedFd<'_>> {
        self.delivered.desk.as_ref()?.fds().next()
    }

    /// Does what the stages of its end ask for; answers whether it has to be counted as stuck.
    pub fn on_time(&mut self, now: Instant) -> bool {
        match self.shutdown.due(now) {
            Some(Step::Terminate) => self.instance.signal(libc::SIGTERM),
            Some(Step::Kill) => self.kill_now(),
            None => {}
        }
        self.alive() && self.killed_at.is_some_and(|at| now >= at + STUCK)
    }

    /// The tree is gone: reaps it, and removes what it had in files.
    pub fn bury(&mut self, spared: &[Pid], now: Instant) -> Ended {
        let how = self.instance.end(spared);
        self.ended_as(how, now)
    }

    /// The tree cannot be ended.
    pub fn give_up_stuck(&mut self, now: Instant) -> Ended {
        self.ended_as(Ended { status: 128 + 9, gone: false }, now)
    }

    fn ended_as(&mut self, how: Ended, now: Instant) -> Ended {
        let hurried = self.given_up.is_some() || self.shutdown.begun();
        let until = now + if hurried { DRAIN_HURRIED } else { DRAIN };
        // Whoever only left may read on as long as it reads.
        let latest = if self.given_up.is_some() { until } else { now + DRAIN_LONGEST };
        self.ended = Some(End { how, until, latest });
        self.stdin.close();
        self.withhold();
        remove(&mut self.delivered);
        how
    }

    /// Something it had written moved on.
    pub fn moved(&mut self, now: Instant) {
        self.moved_at = now;
        self.shutdown.progress(now);
        if let Some(end) = &mut self.ended {
            end.until = end.until.max((now + DRAIN).min(end.latest));
        }
    }

    /// Whether it is over with all that it had to say.
    #[must_use]
    pub fn finished(&self, now: Instant) -> bool {
        let said = self.stdout.ended() && self.stderr.ended();
        self.ended.is_some_and(|end| said || now >= end.until)
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Ended> {
        self.ended.map(|end| end.how)
    }

    /// When the clock has something to say about it.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let stuck = self.killed_at.filter(|_| self.alive()).map(|at| at + STUCK);
        let drained = self.ended.map(|end| end.until);
        let stages = self.shutdown.next().filter(|_| self.alive());
        let ends = self.ends.filter(|_| self.alive() && self.given_up.is_none());
        let desk = self.delivered.desk.as_ref().and_then(Desk::next);
        let times = [stuck, drained, stages, self.finishes, ends, self.leaks.next(), self.deaf_until(), desk];
        times.into_iter().flatten().min()
    }
}

fn remove(delivered: &mut Delivered) {
    delivered.remove().unwrap_or_else(|failure| say::failure(&failure));
}
