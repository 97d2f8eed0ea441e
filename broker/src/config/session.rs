//! Reads `[session]`: how long a session lasts, what a lock does, what brings it back, and whether login
//! sessions must be seen. What is not written depends on the mode and on nothing else.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::broker_toml::OIDC_REASON;
use super::limits::number;
use super::model::{Mode, Tier};
use super::reader::Reader;
use super::sections::{LogindUse, OnLock, Resume, SessionSection};

/// How people sign in, as far as it matters for what brings a session back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignIn {
    /// Being logged in is enough.
    Os,
    /// At an identity provider: refused elsewhere, because it is not built yet.
    Oidc,
}

/// What holds where there is no `[session]`.
pub(super) fn defaults(mode: Mode) -> SessionSection {
    let logind = match mode {
        Mode::User => LogindUse::Optional,
        Mode::System => LogindUse::Required,
    };
    SessionSection {
        max_age: MAX_AGE_DEFAULT,
        idle: IDLE_DEFAULT,
        on_lock: OnLock::Park,
        logind,
        resume: Resume::Unlock,
        mints_per_minute: MINTS_DEFAULT,
    }
}

/// Reads the table.
pub(super) fn read(table: Reader<'_>, mode: Mode, sign_in: SignIn) -> SessionSection {
    let absent = defaults(mode);
    let max_age = table.duration_within("max_age", MAX_AGE, absent.max_age).unwrap_or(absent.max_age);
    // A session that ends sooner than the default needs no shorter one: it ends all the same.
    let idle = table.duration_within("idle", IDLE_LEAST..=max_age, absent.idle).unwrap_or(absent.idle);
    let on_lock = table.word("on_lock", &[("park", OnLock::Park), ("end", OnLock::End)]);
    let logind =
        table.word("logind", &[("required", LogindUse::Required), ("optional", LogindUse::Optional)]);
    resume(&table, sign_in);
    let mints = number(&table, "mints_per_minute", MINTS_MOST);
    table.finish();
    SessionSection {
        max_age,
        idle,
        on_lock: on_lock.unwrap_or(absent.on_lock),
        logind: logind.unwrap_or(absent.logind),
        resume: absent.resume,
        mints_per_minute: mints.unwrap_or(absent.mints_per_minute),
    }
}

/// One word for every tier, or a table with a word for each. All that can be accepted means the same.
fn resume(table: &Reader<'_>, sign_in: SignIn) {
    let by_tier = table.value("resume").is_some_and(|(value, _)| value.as_table().is_some());
    if !by_tier {
        if !needs_sign_in(table, "resume", sign_in) {
            let _only_one_way = table.word("resume", &[("unlock", Resume::Unlock)]);
        }
        return;
    }
    let Some(tiers) = table.table("resume") else { return };
    let development = Tier::Development.as_str();
    if !needs_sign_in(&tiers, development, sign_in) {
        let _only_one_way = tiers.word(development, &[("unlock", Resume::Unlock)]);
    }
    for tier in ["sensitive", "regulated"] {
        if tiers.holds(tier) && !needs_sign_in(&tiers, tier, sign_in) {
            let message = format!("`{}` must be \"sign-in\": {STRICT_REASON}", tiers.name(tier));
            tiers.error(tier, message, STRICT_HINT);
        }
        tiers.known(tier);
    }
    tiers.finish();
}

/// Refuses `sign-in` where it stands; says whether it did.
fn needs_sign_in(table: &Reader<'_>, key: &str, sign_in: SignIn) -> bool {
    if sign_in == SignIn::Oidc {
        return table.not_built_value(key, SIGN_IN, OIDC_REASON);
    }
    let written = table.value(key).is_some_and(|(value, _)| value.as_str() == Some(SIGN_IN));
    if written {
        let message = format!("`{} = \"{SIGN_IN}\"` can never be met: {NO_EVIDENCE}", table.name(key));
        table.error(key, message, NO_EVIDENCE_HINT);
    }
    written
}

const SIGN_IN: &str = "sign-in";
const NO_EVIDENCE: &str = "with `sign_in = \"os\"` there is nothing to ask a person for";
const NO_EVIDENCE_HINT: &str =
    "write \"unlock\", or remove it; signing in again needs `sign_in = \"oidc\"`, which is not supported yet";
const STRICT_REASON: &str = "other programs of the account can unlock, so an unlock proves too little here";
const STRICT_HINT: &str =
    "remove it: servers of that tier are refused, so that there is nothing to bring back";

/// How long a session may last.
const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 3600);
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(10 * 3600);

/// The shortest time without a request after which an instance is dropped; the longest is `max_age`.
const IDLE_LEAST: Duration = Duration::from_secs(1);
const IDLE_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// Each mint is some hundred bytes of audit log, and an object at the backend: a person at work needs a few a minute.
const MINTS_DEFAULT: u32 = 600;
const MINTS_MOST: u32 = 1_000_000;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a finding that is not there must fail the test")]
mod tests {
    use std::path::Path;

    use super::super::diagnostic::Sink;
    use super::super::load::with_top;
    use super::*;

    /// What the lines below `[session]` (from line 2) mean, and what is said of them, each with its cure.
    fn read_lines(lines: &str, mode: Mode, sign_in: SignIn) -> (SessionSection, Vec<String>) {
        let sink = Sink::new(Path::new("f"), format!("[session]\n{lines}"));
        let section = with_top(&sink, |top| read(top.table("session").unwrap(), mode, sign_in));
        (section, sink.into_found().iter().map(ToString::to_string).collect())
    }

    fn check_good(lines: &str, mode: Mode, want: SessionSection) {
        assert_eq!(read_lines(lines, mode, SignIn::Os), (want, Vec::new()), "{lines}");
    }

    /// Checks the one finding: where it stands and what it says, and a word of its cure.
    fn check_bad(lines: &str, want: &str, cure: &str) {
        let (_, found) = read_lines(lines, Mode::User, SignIn::Os);
        let [one] = found.as_slice() else { unreachable!("{lines}: {found:?}") };
        let (said, hint) = one.split_once("\n  hint: ").unwrap();
        assert_eq!(said, want, "{lines}");
        assert!(hint.contains(cure), "{lines}: {hint}");
    }

    #[test]
    fn accepted() {
        let section = |max_age, idle, on_lock, logind| SessionSection {
            max_age: Duration::from_secs(max_age),
            idle: Duration::from_secs(idle),
            on_lock,
            logind,
            resume: Resume::Unlock,
            mints_per_minute: 600,
        };
        check_good("", Mode::User, section(36_000, 900, OnLock::Park, LogindUse::Optional));
        check_good("", Mode::System, section(36_000, 900, OnLock::Park, LogindUse::Required));
        check_good(
            "idle = \"1s\"\nmax_age = \"1m\"\non_lock = \"end\"\nlogind = \"required\"\nresume = \"unlock\"",
            Mode::User,
            section(60, 1, OnLock::End, LogindUse::Required),
        );
        let by_tier = "logind = \"optional\"\nresume = { development = \"unlock\" }";
        check_good(by_tier, Mode::System, section(36_000, 900, OnLock::Park, LogindUse::Optional));
        check_good("resume = {}", Mode::User, section(36_000, 900, OnLock::Park, LogindUse::Optional));
        check_good(
            "max_age = \"2h\"\nidle = \"2h\"",
            Mode::User,
            section(7200, 7200, OnLock::Park, LogindUse::Optional),
        );
        // The default is longer than this session, and harms nothing.
        check_good("max_age = \"1m\"", Mode::User, section(60, 900, OnLock::Park, LogindUse::Optional));
    }

    #[test]
    fn lengths_of_time() {
        check_bad("idle = 15", "f:2:8: error: `session.idle` is a number, not a text such as \"10h\"", "10h");
        check_bad("idle = \"soon\"", "f:2:8: error: `session.idle` is not a length of time", "15m");
        for idle in ["0s", "999ms", "10h 1s", "-5m"] {
            let what = if idle.starts_with('-') { "is not a length of time" } else { "is out of range" };
            check_bad(
                &format!("\nidle = \"{idle}\""),
                &format!("f:3:8: error: `session.idle` {what}"),
                "write a",
            );
        }
        check_bad(
            "max_age = \"1h\"\nidle = \"61m\"",
            "f:3:8: error: `session.idle` is out of range",
            "1s and 1h",
        );
    }

    #[test]
    fn closed_sets_of_words() {
        let unknown =
            |key: &str, column| format!("f:2:{column}: error: `session.{key}` has a value that is not known");
        check_bad("on_lock = \"stop\"", &unknown("on_lock", 11), "\"park\" or \"end\"");
        check_bad("logind = \"yes\"", &unknown("logind", 10), "\"required\" or \"optional\"");
        check_bad("resume = \"never\"", &unknown("resume", 10), "\"unlock\"");
        check_bad("logind = true", "f:2:10: error: `session.logind` is true or false, not a text", "a text");
        check_bad("on_lok = \"end\"", "f:2:1: error: unknown key `session.on_lok`", "`on_lock`");
    }

    #[test]
    fn signing_in_again_has_no_evidence() {
        let refused = |at: &str, key: &str| {
            format!(
                "f:2:{at}: error: `session.{key} = \"sign-in\"` can never be met: with `sign_in = \"os\"` there is nothing to ask a person for"
            )
        };
        check_bad("resume = \"sign-in\"", &refused("10", "resume"), "\"unlock\"");
        check_bad(
            "resume = { development = \"sign-in\" }",
            &refused("26", "resume.development"),
            "\"unlock\"",
        );
        let both = "resume = { development = \"unlock\", sensitive = \"sign-in\" }";
        check_bad(both, &refused("48", "resume.sensitive"), "not supported yet");
        check_bad("resume.regulated = \"sign-in\"", &refused("20", "resume.regulated"), "oidc");
        let (_, found) = read_lines("resume = \"sign-in\"", Mode::User, SignIn::Oidc);
        assert!(found.len() == 1 && found.iter().all(|f| f.contains("not supported yet: ")), "{found:?}");
    }

    #[test]
    fn tiers() {
        for (word, at) in [("unlock", 24), ("x", 24)] {
            check_bad(
                &format!("resume = {{ sensitive = \"{word}\" }}"),
                &format!("f:2:{at}: error: `session.resume.sensitive` must be \"sign-in\": {STRICT_REASON}"),
                "remove it",
            );
        }
        check_bad(
            "resume = { developement = \"unlock\" }",
            "f:2:12: error: unknown key `session.resume.developement`",
            "did you mean `development`?",
        );
        check_bad(
            "resume = { secret = \"unlock\" }",
            "f:2:12: error: unknown key `session.resume.secret`",
            "`development`",
        );
        check_bad(
            "resume = { development = 1 }",
            "f:2:26: error: `session.resume.development` is a number, not a text",
            "a text",
        );
        check_bad("resume = [\"unlock\"]", "f:2:10: error: `session.resume` is a list, not a text", "a text");
    }
}
