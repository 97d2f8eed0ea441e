//! Live secrets in what instances say: found in every form that is looked for, and masked. The only part of the
//! proxy that a secret reaches, and that only as bytes to look for; it hands none out, and wipes them when no
//! instance can say them any more.

use std::borrow::Cow;
use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// What stands in place of a secret.
pub const MASK: &str = "[masked]";
/// Shorter values are not looked for: they would be found everywhere.
pub const SHORTEST: usize = 4;

/// The secrets of one instance, to be looked for. Wiped when dropped.
#[derive(Default)]
pub struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl Secrets {
    /// Adds one. Values shorter than [`SHORTEST`] bytes are passed over.
    pub fn add(&mut self, secret: &[u8]) {
        if secret.len() >= SHORTEST {
            self.0.push(Zeroizing::new(secret.to_vec()));
        }
    }
}

/// A line after the search.
#[derive(Debug, PartialEq, Eq)]
pub struct Masked<'a> {
    /// The line; borrowed where nothing was found.
    pub text: Cow<'a, [u8]>,
    /// Secrets that were found.
    pub count: u64,
}

/// Looks for the secrets of all instances of a launch.
#[derive(Default)]
pub struct Redactor {
    secrets: BTreeMap<u32, Secrets>,
}

/// What is held back of the diagnostics of one instance, where a long line comes in pieces.
#[derive(Default)]
pub struct Across {
    held: Vec<u8>,
}

impl Redactor {
    /// Looks for these from now on; to be called before the instance can say anything.
    pub fn learn(&mut self, instance: u32, secrets: Secrets) {
        self.secrets.insert(instance, secrets);
    }

    /// Forgets what only this instance could say; to be called when nothing more comes from it.
    pub fn forget(&mut self, instance: u32) {
        self.secrets.remove(&instance);
    }

    /// Masks a line of JSON: it stays one.
    #[must_use]
    pub fn message<'a>(&self, line: &'a [u8]) -> Masked<'a> {
        self.plain(line)
    }

    /// Masks a line of diagnostics. Where it is as long as `piece` it may be the first part of a longer one: then
    /// its end is held back until the rest comes, and with a short one that is all of it.
    #[must_use]
    pub fn diagnostic<'a>(&self, across: &mut Across, line: &'a [u8], piece: usize) -> Option<Masked<'a>> {
        if across.held.is_empty() && line.len() < piece {
            return Some(self.plain(line));
        }
        let mut all = std::mem::take(&mut across.held);
        all.extend_from_slice(line);
        let masked = self.plain(&all);
        Some(Masked { text: masked.text.into_owned().into(), count: masked.count })
    }

    fn plain<'a>(&self, line: &'a [u8]) -> Masked<'a> {
        let mut out = Masked { text: line.into(), count: 0 };
        for secret in self.secrets.values().flat_map(|secrets| &secrets.0) {
            while let Some(at) = memchr::memmem::find(&out.text, secret) {
                out.text.to_mut().splice(at..at + secret.len(), MASK.bytes());
                out.count += 1;
            }
        }
        out
    }
}

impl Across {
    /// What is still held back when nothing more comes.
    #[must_use]
    pub fn rest(&mut self, redactor: &Redactor) -> Option<Masked<'static>> {
        let held = std::mem::take(&mut self.held);
        let masked = redactor.plain(&held);
        (!held.is_empty()).then(|| Masked { text: masked.text.into_owned().into(), count: masked.count })
    }
}
