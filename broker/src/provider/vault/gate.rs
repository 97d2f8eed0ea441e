//! Lets four requests to one server through at a time: revocations first, everything else in the order it
//! came. OpenBao saturates at two to four connections; beyond eight its slowest answers take five to twenty
//! times as long. Knows nothing of what the requests are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many requests may be in flight at one server.
pub(super) const IN_FLIGHT: usize = 4;

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// What ends a credential, and what verifies that.
    Revocation,
    /// Everything else.
    Normal,
}

/// The gate of one server.
pub(super) struct Gate(Mutex<State>);

struct State {
    free: usize,
    revocations: VecDeque<oneshot::Sender<Pass>>,
    others: VecDeque<oneshot::Sender<Pass>>,
}

/// Leave to send one request; given back when dropped.
pub(super) struct Pass(Option<Arc<Gate>>);

impl Gate {
    /// A gate with so many passes.
    pub(super) fn new(passes: usize) -> Arc<Self> {
        let state = State { free: passes, revocations: VecDeque::new(), others: VecDeque::new() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Waits for a pass. Dropping the future gives up the place, and the pass if it was just handed over.
    pub(super) async fn enter(self: &Arc<Self>, urgency: Urgency) -> Pass {
        let place = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Pass(Some(Arc::clone(self)));
            }
            let (sender, receiver) = oneshot::channel();
            match urgency {
                Urgency::Revocation => state.revocations.push_back(sender),
                Urgency::Normal => state.others.push_back(sender),
            }
            receiver
        };
        // The sender lives in the gate, which `self` keeps alive, until it is used.
        place.await.unwrap_or(Pass(None))
    }

    /// How many wait to be let through before all others.
    #[cfg(test)]
    pub(super) fn urgent(&self) -> usize {
        self.state().revocations.len()
    }

    fn leave(self: Arc<Self>) {
        let mut pass = Pass(Some(Arc::clone(&self)));
        let mut state = self.state();
        loop {
            let next = match state.revocations.pop_front() {
                Some(next) => Some(next),
                None => state.others.pop_front(),
            };
            let Some(next) = next else { break };
            match next.send(pass) {
                Ok(()) => return,
                Err(refused) => pass = refused,
            }
        }
        state.free += 1;
        // Emptied, so that dropping it does not come back here.
        pass.0 = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn revocations_overtake_and_the_rest_keep_their_order() {
        let gate = Gate::new(1);
        let held = poll(pin!(gate.enter(Urgency::Normal)));
        let (mut first, mut second) = (pin!(gate.enter(Urgency::Normal)), pin!(gate.enter(Urgency::Normal)));
        let mut urgent = pin!(gate.enter(Urgency::Revocation));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        assert!(poll(urgent.as_mut()).is_none());
        drop(held);
        assert!(poll(first.as_mut()).is_none(), "the revocation goes first");
        drop(poll(urgent.as_mut()));
        assert!(poll(second.as_mut()).is_none(), "first come, first served");
        drop(poll(first.as_mut()));
        assert!(poll(second.as_mut()).is_some());
    }

    #[test]
    fn no_more_pass_than_there_are_passes() {
        let gate = Gate::new(IN_FLIGHT);
        let held: Vec<_> = (0..IN_FLIGHT).filter_map(|_| poll(pin!(gate.enter(Urgency::Normal)))).collect();
        assert_eq!(held.len(), IN_FLIGHT);
        assert!(poll(pin!(gate.enter(Urgency::Revocation))).is_none());
    }

    #[test]
    fn a_waiter_that_gave_up_loses_no_pass() {
        let gate = Gate::new(1);
        let held = poll(pin!(gate.enter(Urgency::Normal)));
        {
            let mut gone = pin!(gate.enter(Urgency::Normal));
            assert!(poll(gone.as_mut()).is_none());
        }
        {
            // Handed the pass, never polled again.
            let mut unlucky = pin!(gate.enter(Urgency::Normal));
            assert!(poll(unlucky.as_mut()).is_none());
            drop(held);
        }
        assert!(poll(pin!(gate.enter(Urgency::Normal))).is_some());
    }
}
