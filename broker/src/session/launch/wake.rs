//! Everything that can wake a launch, and what it does when somebody else decided something about it.

use std::io::ErrorKind;
use std::time::Duration;

use mcp_broker_proto::SILENCE_SECS;
use mcp_broker_proto::channel::{EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::names::Label;
use mcp_broker_proto::problem::Problem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Interval, sleep, sleep_until};

use super::Launch;
use super::rounds::Step;
use crate::audit::Event;
use crate::session::seat::Order;
use crate::session::supply::Supply;

/// What is being written when the launch is told to be still or to end has so long: a plan with a record is long, and
/// half of it would be of no use.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Everything that can wake a launch.
pub(super) enum Wake {
    /// Somebody decided something about it.
    Told(Order),
    /// The mint for a scope is done.
    Minted(Label, Result<Supply, Problem>),
    /// There is something to do for the refresh of that instance.
    Refresh(u32, Step),
    /// The launcher said something.
    Heard(ToBroker),
    /// Another configuration is in force.
    Reloaded,
    /// The launcher closed the stream.
    Gone,
    /// It broke the protocol.
    Broken,
    /// A person was asked about the call of that number, and did not answer in time.
    Unanswered(u64),
    /// It is time for a beat.
    Beat,
    /// Nothing was heard for too long.
    Silent,
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Waits for whatever comes first; `exited` is ready when the process at the other end has.
    pub(super) async fn wake(
        &mut self,
        beat: &mut Interval,
        exited: &mut (impl Future<Output = ()> + Send + Unpin),
    ) -> Wake {
        let silence = self.heard + Duration::from_secs(SILENCE_SECS);
        let due = self.book.next_due();
        let (unanswered, due) = due.map_or((None, silence), |(call, until)| (Some(call), until));
        tokio::select! {
            biased;
            order = self.seat.orders.recv() => {
                Wake::Told(order.unwrap_or(Order::End(EndReason::BrokerStopping)))
            }
            Ok(()) = self.asked.config.changed() => {
                // Looked at by whoever is woken.
                self.asked.config.mark_changed();
                Wake::Reloaded
            }
            (scope, minted) = self.wants.minted() => Wake::Minted(scope, minted),
            (instance, step) = self.refreshes.next() => Wake::Refresh(instance, step),
            // Before what the launcher says: a yes that comes later is none.
            () = sleep_until(due), if unanswered.is_some() => Wake::Unanswered(unanswered.unwrap_or_default()),
            frame = self.reader.next() => match frame {
                Ok(Some(frame)) => Wake::Heard(frame),
                Ok(None) => Wake::Gone,
                Err(_) => Wake::Broken,
            },
            () = exited => Wake::Gone,
            _ = beat.tick() => Wake::Beat,
            () = sleep_until(silence) => Wake::Silent,
        }
    }

    pub(super) async fn obey(&mut self, order: Order) -> Result<(), EndReason> {
        match order {
            Order::Park(why) => self.park(why).await,
            Order::Resume => {
                self.sessions.audit.note(Event::LaunchResumed { launch: self.seat.launch });
                self.parked = None;
                self.show();
                self.send(&ToLauncher::Resume).await
            }
            Order::Renewed { lease, until } => self.renewed(lease, until).await,
            Order::Ending { lease, within } => self.ending(lease, within).await,
            Order::Lost(lease) => self.lost(lease).await,
            Order::Answered { call, yes, by } => self.confirmed_by(call, yes, by).await,
            Order::End(reason) => Err(reason),
        }
    }

    /// A launcher that does not read holds up neither a lock nor an end for long: it is killed, as it cannot be told.
    pub(super) async fn send(&mut self, frame: &ToLauncher) -> Result<(), EndReason> {
        let rush = self.seat.rush();
        let sent = tokio::select! {
            biased;
            sent = self.writer.send(frame) => sent,
            () = async { rush.cancelled().await; sleep(LAST_WORDS).await } => Err(ErrorKind::TimedOut.into()),
        };
        sent.map_err(|error| {
            self.unheard = error.kind() == ErrorKind::TimedOut;
            EndReason::LauncherGone
        })
    }
}
