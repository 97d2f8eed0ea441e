//! The way to the broker: there, being looked for, or to be looked for later.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use mcp_broker_proto::channel::ToBroker;
use rustix::event::PollFlags;

use crate::client::{Dial, LaunchChannel};
use crate::proxy::heart::Heart;

/// Where the connection stands.
pub(super) enum Link {
    /// It is there.
    Up {
        /// The frames.
        channel: LaunchChannel,
        /// The beats.
        heart: Heart,
    },
    /// The broker is being looked for.
    Dialing(Dial),
    /// It is looked for at this time.
    Resting(Instant),
    /// It is not needed any more.
    Over,
}

impl Link {
    /// Over a channel that is open.
    #[must_use]
    pub(super) fn up(channel: LaunchChannel, now: Instant) -> Self {
        Self::Up { channel, heart: Heart::new(now) }
    }

    /// Whether the broker can be told something.
    #[must_use]
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }

    /// What to poll.
    #[must_use]
    pub(super) fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Self::Up { channel, .. } => {
                let sending = if channel.waiting() { PollFlags::OUT } else { PollFlags::empty() };
                Some((channel.as_fd(), PollFlags::IN | sending))
            }
            Self::Dialing(dial) => Some((dial.as_fd(), PollFlags::IN)),
            Self::Resting(_) | Self::Over => None,
        }
    }

    /// Queues a frame; false where the broker reads nothing.
    pub(super) fn queue(&mut self, frame: &ToBroker) -> bool {
        match self {
            Self::Up { channel, .. } => channel.queue(frame).is_ok(),
            _ => true,
        }
    }

    /// Sends what is queued, as far as it goes; false where the broker is gone.
    pub(super) fn flush(&mut self) -> bool {
        match self {
            Self::Up { channel, .. } => channel.flush().is_ok(),
            _ => true,
        }
    }

    /// Sends what waits, at most until then. What the broker does not read it learns from the closed
    /// connection.
    pub(super) fn drain(&mut self, until: Instant) {
        if let Self::Up { channel, .. } = self
            && channel.waiting()
        {
            channel.drain(until).unwrap_or_default();
        }
    }

    /// When the clock has something to say.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        match self {
            Self::Up { heart, .. } => Some(heart.next()),
            Self::Resting(at) => Some(*at),
            Self::Dialing(_) | Self::Over => None,
        }
    }
}
