//! What the sources cannot see now, in words for people: one sentence a topic, until it is taken back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The sentences.
#[derive(Default)]
pub(super) struct Notes(Mutex<BTreeMap<&'static str, String>>);

impl Notes {
    /// Says it, in place of what was said about the topic before.
    pub(super) fn say(&self, topic: &'static str, sentence: impl Into<String>) {
        let sentence = sentence.into();
        let before = self.lock().insert(topic, sentence.clone());
        if before.as_ref() != Some(&sentence) {
            tracing::warn!(topic, "{sentence}");
        }
    }

    /// All is well with the topic.
    pub(super) fn take_back(&self, topic: &'static str) {
        if self.lock().remove(topic).is_some() {
            tracing::info!(topic, "all is well again");
        }
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
