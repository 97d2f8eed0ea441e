//! What the loop waits for, and what it learns by it.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::{IDLE, LEFT, Relay};

/// The most scopes of a server.
pub(super) const MAX_LANES: usize = 16;
/// The most instances at a time: one of each scope that works, one that comes up, and those whose last words are
/// read.
pub(super) const MAX_BACKENDS: usize = 2 * MAX_LANES + 4;
/// So many are waited for without a larger table.
const FEW: usize = 6;
/// Descriptors beside those of instances.
const FIXED: usize = 5;
/// Descriptors of an instance.
const EACH: usize = 5;

/// What is ready.
pub(super) struct Ready {
    /// The signals.
    pub signals: PollFlags,
    /// The way to the broker.
    pub link: PollFlags,
    /// The client's input, output and error.
    pub client: [PollFlags; 3],
    /// Of each instance in order: its tree, its input, output and error, its desk.
    pub instances: [[PollFlags; EACH]; MAX_BACKENDS],
}

impl Ready {
    const NOTHING: Self = Self {
        signals: PollFlags::empty(),
        link: PollFlags::empty(),
        client: [PollFlags::empty(); 3],
        instances: [[PollFlags::empty(); EACH]; MAX_BACKENDS],
    };
}

impl Relay {
    /// Waits for whatever comes first.
    pub(super) fn wait(&self) -> Ready {
        if self.backends.len() <= FEW {
            self.wait_with::<{ FIXED + EACH * FEW }>()
        } else {
            self.wait_with::<{ FIXED + EACH * MAX_BACKENDS }>()
        }
    }

    fn wait_with<const SLOTS: usize>(&self) -> Ready {
        let nothing = (self.signals.as_fd(), PollFlags::empty());
        let mut slots = [nothing; SLOTS].map(|(fd, events)| PollFd::from_borrowed_fd(fd, events));
        let wanted = self.client_wanted();
        let fixed = [
            Some((self.signals.as_fd(), PollFlags::IN)),
            self.link.poll(),
            self.client.poll(wanted),
            self.out.poll(&self.talk.to_client),
            self.err.poll(&self.words),
        ];
        let instances = self.backends.iter().take(MAX_BACKENDS).flat_map(|backend| {
            // A pidfd that was seen stays readable and would keep us awake.
            let tree = backend.alive().then(|| (backend.instance.pidfd().as_fd(), PollFlags::IN));
            let inbox = self.talk.waiting_for(backend.number);
            let stdin = inbox.and_then(|inbox| backend.stdin.poll(inbox));
            let stdout = backend.stdout.poll(self.talk.to_client.has_room());
            let desk = backend.asks().map(|fd| (fd, PollFlags::IN));
            [tree, stdin, stdout, backend.stderr.poll(self.words.has_room()), desk]
        });
        for (slot, want) in slots.iter_mut().zip(fixed.into_iter().chain(instances)) {
            if let Some((fd, events)) = want {
                *slot = PollFd::from_borrowed_fd(fd, events);
            }
        }
        let used = FIXED + EACH * self.backends.len().min(MAX_BACKENDS);
        let timeout = Timespec::try_from(self.next_time().saturating_duration_since(Instant::now())).ok();
        match poll(slots.get_mut(..used).unwrap_or_default(), timeout.as_ref()) {
            Ok(_) => seen(slots.get(..used).unwrap_or_default()),
            Err(_) => Ready::NOTHING,
        }
    }

    /// When the clock has something to say.
    fn next_time(&self) -> Instant {
        let buffers = self.holds_memory().then(|| self.moved_at + IDLE);
        let over = self.over.as_ref().map(|over| over.until);
        let holds = (0..self.life.count()).any(|lane| self.talk.holds(lane));
        let nothing = !holds && !self.calls.waits() && !self.backends.iter().any(super::Backend::alive);
        let left = self.left_at.filter(|_| nothing && self.life.is_first() && over.is_none());
        let times = [
            left.map(|at| at + LEFT),
            self.link.next(),
            self.calls.next_due(),
            self.listings.next(),
            self.talk.next_doubt(),
            self.life.next().filter(|_| over.is_none()),
            buffers,
            over,
        ];
        let instances = self.backends.iter().filter_map(super::Backend::next);
        let first = times.into_iter().flatten().chain(instances).min();
        first.unwrap_or_else(|| Instant::now() + IDLE)
    }
}

fn seen(slots: &[PollFd<'_>]) -> Ready {
    let mut ready = Ready::NOTHING;
    let mut events = slots.iter().map(PollFd::revents);
    let mut next = || events.next().unwrap_or(PollFlags::empty());
    ready.signals = next();
    ready.link = next();
    ready.client = [next(), next(), next()];
    let (theirs, _) = slots.get(FIXED..).unwrap_or_default().as_chunks();
    for (instance, slots) in ready.instances.iter_mut().zip(theirs) {
        *instance = slots.each_ref().map(PollFd::revents);
    }
    ready
}
