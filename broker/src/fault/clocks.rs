//! Clocks that a test can move while the broker runs: `MCP_BROKER_FAULT_CLOCK` names a file that says by how many
//! seconds, `WALL BOOT`. A file that is not there, or cannot be read as that, moves nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::{Clock, SystemClock};

/// The machine's clocks, moved by what the file says at that moment.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    #[expect(clippy::disallowed_methods, reason = "not configuration: it exists in tests only")]
    match std::env::var_os("MCP_BROKER_FAULT_CLOCK") {
        Some(file) => Arc::new(Moved { file: file.into() }),
        None => Arc::new(SystemClock),
    }
}

struct Moved {
    file: PathBuf,
}

impl Moved {
    fn read(&self) -> (i64, u64) {
        read(&std::fs::read_to_string(&self.file).unwrap_or_default()).unwrap_or_default()
    }
}

fn read(text: &str) -> Option<(i64, u64)> {
    let (wall, boot) = text.trim().split_once(' ')?;
    Some((wall.parse().ok()?, boot.parse().ok()?))
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        now.checked_add(SignedDuration::from_secs(self.read().0)).unwrap_or(now)
    }

    /// Only forwards, as a machine that slept: this clock never goes back.
    fn boot(&self) -> Duration {
        SystemClock.boot() + Duration::from_secs(self.read().1)
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests may, and their files are not private"
)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_follow_the_file() {
        let file = std::env::temp_dir().join(format!("mcp-clock-{}", std::process::id()));
        let clock = Moved { file: file.clone() };
        let far = |clock: &Moved| {
            let wall = clock.now().duration_since(SystemClock.now()).as_secs();
            (wall, clock.boot().saturating_sub(SystemClock.boot()).as_secs())
        };
        assert_eq!(far(&clock), (0, 0), "no file");
        std::fs::write(&file, "-86400 3600\n").unwrap();
        let (wall, boot) = far(&clock);
        assert!((-86_401..=-86_399).contains(&wall) && (3_599..=3_600).contains(&boot), "{wall} {boot}");
        std::fs::write(&file, "half a wo").unwrap();
        assert_eq!(far(&clock), (0, 0), "not readable");
        std::fs::remove_file(&file).unwrap();
    }
}
