//! What a server's process will be, as plain data: it crosses to the keeper as bytes, and could cross
//! to a privileged helper the same way. Values are wiped when dropped.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

use zeroize::Zeroizing;

/// The longest plan in bytes; the kernel takes no longer argument list in any case (execve(2)).
pub const MAX_PLAN: usize = 8 << 20;
/// Bytes of the counts that a plan begins with.
const COUNTS: usize = 8;

/// The number of the first file that is handed over; no program counts on any so high.
pub const FIRST_HANDED: usize = 200;
/// The most files that are handed over.
pub const MAX_HANDED: usize = 32;

/// Program, directory and environment.
#[derive(Default)]
pub struct ChildPlan {
    /// Absolute program, then its arguments.
    pub command: Vec<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// The whole environment; nothing is inherited beside it.
    pub environment: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Open files that it finds from [`FIRST_HANDED`] on; they go to the keeper before the plan.
    pub handed: Vec<OwnedFd>,
}

/// A text of the plan holds a zero byte, which no argument or variable can (execve(2)).
#[derive(Debug, PartialEq, Eq)]
pub struct ZeroByte;

impl ChildPlan {
    /// Two counts, then every text with a zero byte behind it.
    ///
    /// # Errors
    /// Where a text holds a zero byte itself, or the plan is longer than [`MAX_PLAN`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ZeroByte> {
        let environment = self.environment.iter().map(|(name, value)| name.len() + value.len() + 2);
        let texts = self.command.iter().map(|text| text.len() + 1);
        let size = COUNTS + self.cwd.len() + 1 + texts.chain(environment).sum::<usize>();
        // The exact size at once: growing would leave unwiped copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(size));
        for count in [self.command.len(), self.environment.len()] {
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        push(&mut out, &[self.cwd.as_bytes()])?;
        for text in &self.command {
            push(&mut out, &[text.as_bytes()])?;
        }
        for (name, value) in &self.environment {
            push(&mut out, &[name.as_bytes(), b"=", value])?;
        }
        Ok(out)
    }
}

fn push(out: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), ZeroByte> {
    for part in parts {
        if part.contains(&0) {
            return Err(ZeroByte);
        }
        out.extend_from_slice(part);
    }
    out.push(0);
    Ok(())
}

/// A plan as the keeper sees it: views into the bytes that it received.
pub struct Exec<'a> {
    /// Working directory.
    pub cwd: &'a CStr,
    /// Program and arguments.
    pub command: Vec<&'a CStr>,
    /// `NAME=value`.
    pub environment: Vec<&'a CStr>,
}

impl<'a> Exec<'a> {
    /// Reads what [`ChildPlan::encode`] wrote; nothing where it is something else.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (counts, mut rest) = bytes.split_at_checked(COUNTS)?;
        let mut counts = counts
            .chunks_exact(4)
            .map(|four| four.try_into().ok().and_then(|four| usize::try_from(u32::from_le_bytes(four)).ok()));
        let (command, environment) = (counts.next()??, counts.next()??);
        let mut next = || {
            let text = CStr::from_bytes_until_nul(rest).ok()?;
            rest = rest.get(text.count_bytes() + 1..)?;
            Some(text)
        };
        let cwd = next()?;
        let mut take = |count: usize| (0..count).map(|_| next()).collect::<Option<Vec<_>>>();
        Some(Self { cwd, command: take(command)?, environment: take(environment)? })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn plan(value: &[u8]) -> ChildPlan {
        ChildPlan {
            command: vec!["/bin/x".into(), String::new(), "b c".into()],
            cwd: "/tmp".into(),
            environment: BTreeMap::from([("K".into(), Zeroizing::new(value.to_vec()))]),
            handed: Vec::new(),
        }
    }

    #[test]
    fn there_and_back() {
        let bytes = plan(b"v=\xff").encode().unwrap();
        let exec = Exec::decode(&bytes).unwrap();
        assert_eq!(exec.cwd, c"/tmp");
        assert_eq!(exec.command, [c"/bin/x", c"", c"b c"]);
        assert_eq!(exec.environment.first().unwrap().to_bytes(), b"K=v=\xff");
        assert_eq!(bytes.len(), bytes.capacity(), "it was sized exactly, so nothing grew");
        for short in 0..bytes.len() {
            assert!(Exec::decode(bytes.get(..short).unwrap()).is_none(), "{short}");
        }
    }

    #[test]
    fn zero_bytes_are_refused() {
        assert_eq!(plan(b"a\0b").encode().map(|_| ()), Err(ZeroByte));
    }
}
