//! When a credential ends, by a clock that nobody sets back, and what an SDK is told of that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcp_broker_proto::KEEP_SECS;
use mcp_broker_proto::launch::IssuedCredential;
use mcp_broker_proto::session::Revocability;
use rustix::time::{ClockId, clock_gettime};

/// For so long an SDK may keep what the broker could revoke before its end: it lives on as long after another one has
/// taken its place. SDKs ask earlier by minutes of their own, so with most of them each call does.
const KEEP: Duration = Duration::from_secs(KEEP_SECS);

const DAY: u64 = 86_400;

/// The end of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// Where it has one.
    at: Option<At>,
    /// Nothing ends it before.
    surely: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At {
    /// Whole seconds since 1970.
    wall: u64,
    /// The same since the machine was started, sleep included (clock_gettime(2), `CLOCK_BOOTTIME`).
    boot: Duration,
}

impl Ends {
    /// Of a credential as the broker has it. Nothing where its time is none.
    pub(super) fn of(credential: &IssuedCredential, now: Now) -> Option<Self> {
        let at = match &credential.expires_at {
            Some(text) => Some(At::read(text, now)?),
            None => None,
        };
        Some(Self { at, surely: matches!(credential.revocability, Revocability::Bounded { .. }) })
    }

    /// It ends then instead. What is no time changes nothing.
    pub(super) fn put_off(&mut self, until: &str, now: Now) {
        self.at = At::read(until, now).or(self.at);
    }

    /// Whether it is over.
    pub(super) fn passed(self, now: Now) -> bool {
        self.at.is_some_and(|at| now.boot >= at.boot)
    }

    /// Until when an SDK may keep it (RFC 3339, whole seconds).
    pub(super) fn shown(self, now: Now) -> String {
        let end = self.at.map(|at| at.shown(now));
        let keep = (now.wall + KEEP).as_secs();
        text(match end {
            Some(end) if self.surely => end,
            Some(end) => end.min(keep),
            None => keep,
        })
    }
}

impl At {
    fn read(text: &str, now: Now) -> Option<Self> {
        let wall = seconds(text)?;
        Some(Self { wall, boot: now.boot + Duration::from_secs(wall).saturating_sub(now.wall) })
    }

    /// By the wall clock as it is now: whoever keeps it looks at that, and it may have been set meanwhile.
    fn shown(self, now: Now) -> u64 {
        let end = (now.wall + self.boot.saturating_sub(now.boot)).as_secs();
        // The two clocks are not read at the same moment.
        if end.abs_diff(self.wall) <= 1 { self.wall } else { end }
    }
}

/// The time by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Since 1970.
    pub(super) wall: Duration,
    /// Since the machine was started.
    pub(super) boot: Duration,
}

impl Now {
    /// By the kernel.
    pub(super) fn read() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = clock_gettime(ClockId::Boottime);
        Self { wall, boot: Duration::try_from(boot).unwrap_or_default() }
    }
}

/// Seconds since 1970 of a time in UTC (RFC 3339 section 5.6), a fraction cut off.
fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let number = |text: &str, digits: usize| -> Option<u64> {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain { text.parse().ok() } else { None }
    };
    number(fraction, fraction.len()).filter(|_| !fraction.is_empty())?;
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    // Second 60 is a leap second.
    if !fits || !(1..=length(year, month)).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).map(|month| length(year, month)).sum();
    Some((years + months + day - 1) * DAY + hour * 3600 + minute * 60 + second)
}

fn three(text: &str, at: char) -> Option<[&str; 3]> {
    let mut parts = text.split(at);
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

/// The same the other way round.
fn text(seconds: u64) -> String {
    let (mut days, rest) = (seconds / DAY, seconds % DAY);
    let (mut year, mut month) = (1970, 1);
    while days >= if leap(year) { 366 } else { 365 } {
        days -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    while days >= length(year, month) {
        days -= length(year, month);
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days of a month.
fn length(year: u64, month: u64) -> u64 {
    match month {
        2 if leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn times_there_and_back() {
        // By date(1): `date -u -d TIME +%s`.
        for (time, want) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-03-01T00:00:00Z", 1_709_251_200),
            ("2026-11-24T16:44:34Z", 1_795_538_674),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(seconds(time), Some(want), "{time}");
            assert_eq!(text(want), time);
        }
        assert_eq!(seconds("2026-11-24T16:44:34.987654Z"), Some(1_795_538_674));
    }

    #[test]
    fn what_is_no_time() {
        for bad in [
            "",
            "now",
            "2026-11-24",
            "2026-11-24T16:44:34",
            "2026-11-24T16:44:34+01:00",
            "2026-11-24 16:44:34Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T16:44:34.Z",
            "2026-11-24T16:44:34.1x Z",
            "1969-12-31T23:59:59Z",
            "20261-1-24T16:44:34Z",
            "2026-11-24-01T16:44:34Z",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    fn credential(expires: &str, revocability: &str) -> IssuedCredential {
        let lease = "0199f3a8-0000-7000-8000-000000000000";
        let text = format!(
            r#"{{"lease":"{lease}","fields":{{}},"expires_at":{expires},"revocability":{revocability}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const BOUNDED: &str = r#"{"bounded":{"seconds":900}}"#;
    const NOW: Now = Now { wall: Duration::from_millis(1_795_538_674_400), boot: Duration::from_secs(100) };

    fn after(seconds: u64) -> Now {
        let more = Duration::from_secs(seconds);
        Now { wall: NOW.wall + more, boot: NOW.boot + more }
    }

    #[test]
    fn what_ends_is_not_served_past_its_end() {
        for revocability in [BOUNDED, r#""immediate""#, r#""none""#] {
            let soon = credential(r#""2026-11-24T16:44:44.5Z""#, revocability);
            let mut ends = Ends::of(&soon, NOW).unwrap();
            assert!(!ends.passed(after(9)) && ends.passed(after(10)));
            assert_eq!(ends.shown(after(3)), "2026-11-24T16:44:44Z");
            ends.put_off("2026-11-24T16:44:54.9Z", after(9));
            assert!(!ends.passed(after(19)) && ends.passed(after(20)));
            assert_eq!(ends.shown(after(19)), "2026-11-24T16:44:54Z");
            ends.put_off("later", after(9));
            assert!(ends.passed(after(20)), "what is no time changes nothing");
        }
        let past = Ends::of(&credential(r#""2026-11-24T16:44:04Z""#, BOUNDED), NOW).unwrap();
        assert!(past.passed(NOW));
        assert!(Ends::of(&credential(r#""soon""#, BOUNDED), NOW).is_none());
    }

    /// The broker lets go of it so much later than another one took its place, at the earliest.
    #[test]
    fn what_can_be_revoked_is_not_to_be_kept_for_longer_than_it_lives_on() {
        assert!(Duration::from_secs(mcp_broker_proto::GRACE_SECS) > KEEP);
        for (expires, revocability, want) in [
            (r#""2026-11-24T17:44:34Z""#, r#""immediate""#, "2026-11-24T16:45:19Z"),
            (r#""2026-11-24T17:44:34Z""#, r#""none""#, "2026-11-24T16:45:19Z"),
            (r#""2026-11-24T17:44:34Z""#, BOUNDED, "2026-11-24T17:44:34Z"),
            ("null", r#""immediate""#, "2026-11-24T16:45:19Z"),
            ("null", BOUNDED, "2026-11-24T16:45:19Z"),
        ] {
            let ends = Ends::of(&credential(expires, revocability), NOW).unwrap();
            assert_eq!(ends.shown(NOW), want, "{expires} {revocability}");
            assert!(!ends.passed(after(3599)));
        }
    }

    #[test]
    fn a_clock_that_is_set_moves_the_end_along() {
        let ends = Ends::of(&credential(r#""2026-11-24T16:44:44Z""#, BOUNDED), NOW).unwrap();
        for (set, want) in [(3600, "2026-11-24T17:44:44Z"), (0, "2026-11-24T16:44:44Z")] {
            let now = Now { wall: after(4).wall + Duration::from_secs(set), ..after(4) };
            assert_eq!(ends.shown(now), want);
            assert!(!ends.passed(now));
        }
        let back = Now { wall: after(4).wall - Duration::from_secs(3600), ..after(4) };
        assert_eq!(ends.shown(back), "2026-11-24T15:44:44Z");
        assert!(ends.passed(Now { wall: back.wall, ..after(10) }));
    }
}
