//! Lets a few requests to one server through at a time: what ends a credential first, then what verifies such an
//! end, and everything else in the order it came.
//! OpenBao saturates at two to four connections; beyond eight its slowest answers take five to twenty times as
//! long. Knows nothing of what the requests are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many requests may be in flight at one server.
pub(super) const LIMITS: Limits = Limits { all: 8, revocations: 7, others: 4 };

/// How many requests may be in flight, and of which kind. Where `revocations` is less than `all`, they leave
/// something for the others, however many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) all: usize,
    pub(super) revocations: usize,
    pub(super) others: usize,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// What ends a credential.
    Ending,
    /// What completes and verifies such an end.
    Revocation,
    /// Everything else.
    Normal,
}

/// The gate of one server.
pub(super) struct Gate {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Endings are counted among the revocations, and are let through before the rest of them.
    endings: Waiting,
    revocations: Lane,
    others: Lane,
}

type Waiting = VecDeque<oneshot::Sender<Pass>>;

#[derive(Default)]
struct Lane {
    up: usize,
    waiting: Waiting,
}

/// Leave to send one request; given back when dropped.
pub(super) struct Pass(Option<(Arc<Gate>, Urgency)>);

impl Gate {
    /// A gate with these limits.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Waits for a pass. Dropping the future gives up the place, and the pass if it was just handed over.
    pub(super) async fn enter(self: &Arc<Self>, urgency: Urgency) -> Pass {
        let place = {
            let mut state = self.state();
            if state.has_room(urgency, self.limits) {
                state.lane(urgency).up += 1;
                return Pass(Some((Arc::clone(self), urgency)));
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting(urgency).push_back(sender);
            receiver
        };
        // The sender lives in the gate, which `self` keeps alive, until it is used.
        place.await.unwrap_or(Pass(None))
    }

    /// How many wait to be let through before all others.
    #[cfg(test)]
    pub(super) fn urgent(&self) -> usize {
        let state = self.state();
        state.endings.len() + state.revocations.waiting.len()
    }

    fn leave(self: Arc<Self>, left: Urgency) {
        let mut state = self.state();
        state.lane(left).up -= 1;
        for urgency in [Urgency::Ending, Urgency::Revocation, Urgency::Normal] {
            while state.has_room(urgency, self.limits) {
                let Some(next) = state.waiting(urgency).pop_front() else { break };
                match next.send(Pass(Some((Arc::clone(&self), urgency)))) {
                    Ok(()) => state.lane(urgency).up += 1,
                    // Nobody waits there any more. Emptied, so that dropping it does not come back here.
                    Err(mut refused) => refused.0 = None,
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, urgency: Urgency) -> &mut Lane {
        match urgency {
            Urgency::Ending | Urgency::Revocation => &mut self.revocations,
            Urgency::Normal => &mut self.others,
        }
    }

    fn waiting(&mut self, urgency: Urgency) -> &mut Waiting {
        match urgency {
            Urgency::Ending => &mut self.endings,
            Urgency::Revocation => &mut self.revocations.waiting,
            Urgency::Normal => &mut self.others.waiting,
        }
    }

    fn has_room(&mut self, urgency: Urgency, limits: Limits) -> bool {
        let most = match urgency {
            Urgency::Ending | Urgency::Revocation => limits.revocations,
            Urgency::Normal => limits.others,
        };
        self.revocations.up + self.others.up < limits.all && self.lane(urgency).up < most
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((gate, urgency)) = self.0.take() {
            gate.leave(urgency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const ONE: Limits = Limits { all: 1, revocations: 1, others: 1 };

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_ends_goes_before_what_verifies() {
        let gate = Gate::new(ONE);
        let held = poll(pin!(gate.enter(Urgency::Normal)));
        let mut verifies = pin!(gate.enter(Urgency::Revocation));
        assert!(poll(verifies.as_mut()).is_none());
        let mut ends = pin!(gate.enter(Urgency::Ending));
        assert!(poll(ends.as_mut()).is_none());
        drop(held);
        assert!(poll(verifies.as_mut()).is_none(), "the one that came later goes first");
        drop(poll(ends.as_mut()));
        assert!(poll(verifies.as_mut()).is_some());
    }

    #[test]
    fn revocations_overtake_and_the_rest_keep_their_order() {
        let gate = Gate::new(ONE);
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

    /// How many of each kind get in, where so many of each come.
    fn let_in(revocations: usize, others: usize) -> (usize, usize) {
        let gate = Gate::new(LIMITS);
        let enter = |urgency, count| -> Vec<_> {
            (0..count).filter_map(|_| poll(pin!(gate.enter(urgency)))).collect()
        };
        let first = enter(Urgency::Normal, others);
        let second = enter(Urgency::Revocation, revocations);
        (second.len(), first.len())
    }

    #[test]
    fn each_kind_has_its_share() {
        for (come, want) in
            [((0, 9), (0, 4)), ((9, 0), (7, 0)), ((9, 9), (4, 4)), ((9, 1), (7, 1)), ((2, 9), (2, 4))]
        {
            assert_eq!(let_in(come.0, come.1), want, "{come:?}");
        }
    }

    /// A hundred credentials are being revoked, and a mint comes: it gets the pass that revocations do not take.
    #[test]
    fn a_flood_of_revocations_leaves_one_pass_for_the_others() {
        let gate = Gate::new(LIMITS);
        let held: Vec<_> =
            (0..LIMITS.revocations).filter_map(|_| poll(pin!(gate.enter(Urgency::Revocation)))).collect();
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(gate.enter(Urgency::Revocation))).collect();
        assert!(waiting.iter_mut().all(|place| poll(place.as_mut()).is_none()));
        for _ in 0..3 {
            let mut mint = pin!(gate.enter(Urgency::Normal));
            assert!(poll(mint.as_mut()).is_some());
        }
        drop(held);
        let through = waiting.iter_mut().filter_map(|place| poll(place.as_mut())).count();
        assert_eq!(through, 100, "each goes when one before it has");
    }

    #[test]
    fn a_waiter_that_gave_up_loses_no_pass() {
        let gate = Gate::new(ONE);
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
