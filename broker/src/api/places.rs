//! Places for connections: so many in all, and so many for one account, so that nobody can take the
//! descriptors that revocation needs. A place is held until the connection is gone, launches included.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

/// Descriptors that one connection may need: the socket, its pidfd, and the copy that is watched.
const DESCRIPTORS_EACH: u64 = 3;

/// Descriptors that are kept for everything else: files, the admin's connections, providers.
const RESERVE: u64 = 256;

/// The most places, whatever the limit of descriptors.
const MAX_PLACES: usize = 4096;

/// Places at one socket.
pub(super) struct Places {
    taken: Mutex<HashMap<u32, usize>>,
    most: usize,
    most_of_one: usize,
}

/// One place; given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    /// As many as the limit of descriptors allows; one account may have `share` parts of a hundred.
    pub(super) fn by_limit(share: usize) -> Arc<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = limit.saturating_sub(RESERVE) / DESCRIPTORS_EACH;
        let most = usize::try_from(most).unwrap_or(MAX_PLACES).clamp(16, MAX_PLACES);
        Self::new(most, most * share / 100)
    }

    fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), most, most_of_one })
    }

    /// A place for a connection of `uid`, if there is one.
    pub(super) fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.most {
            return None;
        }
        let mine = taken.entry(uid).or_default();
        if *mine >= self.most_of_one {
            return None;
        }
        *mine += 1;
        Some(Place { places: Arc::clone(self), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = taken.get_mut(&self.uid) {
            *mine -= 1;
            if *mine == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_all() {
        let places = Places::new(4, 3);
        let mut mine: Vec<_> = (0..3).map(|_| places.take(7).unwrap()).collect();
        assert!(places.take(7).is_none());
        let other = places.take(8).unwrap();
        assert!(places.take(9).is_none(), "four in all");
        mine.pop();
        assert!(places.take(7).is_some());
        drop((mine, other));
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
