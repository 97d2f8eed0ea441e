//! Tells whoever can deny a session centrally that one is to be denied: an admin's program, or a server. Both get
//! names and times, never a key; both have a time limit, and only a clear success counts.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Url, redirect};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::handle::Held;
use super::settings::{Deny, DenyBy};
use crate::provider::{Blame, Denier, ProviderError, files};

/// So many programs or requests of one provider at once: a lock may end hundreds of sessions in the same moment.
pub(super) const AT_ONCE: usize = 4;
/// So long one waits for its turn; then it is tried again later. With `settings::LONGEST` less than one try to revoke.
const TURN: Duration = Duration::from_secs(2);

/// Denies one session.
///
/// # Errors
/// Where it did not say that it is denied.
pub(super) async fn deny(
    deny: &Deny,
    turns: &Semaphore,
    provider: &str,
    held: &Held,
) -> Result<Denier, ProviderError> {
    let Ok(Ok(_turn)) = timeout(TURN, turns.acquire()).await else {
        let what = format!("the deny hook of provider `{provider}` is still busy with other sessions");
        let hint = "it is told again soon; a faster hook is told of more";
        return Err(ProviderError::new(Blame::Busy(None), what, hint));
    };
    let facts = json!({
        "provider": provider, "call": held.call, "session_name": held.session_name,
        "role_arn": held.role_arn, "account": held.account, "expires_at": held.until.to_string(),
    });
    let (by, what) = match &deny.by {
        DenyBy::Command(words) => (Denier::Command, timeout(deny.timeout, run(words, &facts)).await),
        DenyBy::Url(url) => (Denier::Url, timeout(deny.timeout, post(url, &facts)).await),
    };
    let fault = match what {
        Ok(Ok(())) => return Ok(by),
        Ok(Err(fault)) => fault,
        Err(_elapsed) => format!("did not end within {} s", deny.timeout.as_secs()),
    };
    let what = format!("the deny {} of provider `{provider}` {fault}", by.word());
    let hint = "look at its own log; it is told again until the credential has ended";
    Err(ProviderError::new(Blame::Refused, what, hint))
}

async fn run(words: &[String], facts: &Value) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Err("is empty".to_owned()) };
    guard(words)?;
    #[expect(clippy::disallowed_methods, reason = "an admin's program, named in broker.toml")]
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    for (name, key) in VARIABLES {
        command.env(name, facts.get(key).and_then(Value::as_str).unwrap_or_default());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be run: {}", error.kind()))?;
    let group = Group::of(&child);
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read: everything is in its environment as well.
        drop(stdin.write_all(facts.to_string().as_bytes()).await);
    }
    let unclear = |error: std::io::Error| format!("cannot be waited for: {}", error.kind());
    let exited = exited(&child).await;
    // Before it is reaped: afterwards its number may be that of another group.
    drop(group);
    exited.map_err(unclear)?;
    match child.wait().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status
            .code()
            .map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with status {code}"))),
        Err(error) => Err(unclear(error)),
    }
}

/// Waits until the program has exited, and leaves it to be reaped: its descriptor is readable then (pidfd_open(2)).
async fn exited(child: &Child) -> std::io::Result<()> {
    let program = number(child).ok_or(std::io::ErrorKind::NotFound)?;
    #[expect(
        deprecated,
        reason = "an OwnedFd keeps the same descriptor open, which is what the unsafe one asks for"
    )]
    let descriptor = AsyncFd::with_interest(pidfd_open(program, PidfdFlags::empty())?, Interest::READABLE)?;
    descriptor.readable().await.map(|_ready| ())
}

fn number(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// What the program began ends with it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(number(child))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Where nothing is left of it, there is nothing to end.
            if let Err(error) = kill_process_group(leader, Signal::KILL) {
                tracing::trace!(%error, "the deny command left nothing");
            }
        }
    }
}

/// Who can change the program, or a script that it is given, or a directory on the way to one of them, can have the
/// broker run anything. Every word is taken for a path, as the program may take it: in `/`, where it is started.
///
/// # Errors
/// With what is wrong, to follow its name.
pub(super) fn guard(words: &[String]) -> Result<(), String> {
    let program = words.first().map_or("", String::as_str);
    let meta = std::fs::metadata(program).map_err(|error| format!("cannot be run: {}", error.kind()))?;
    if !meta.is_file() {
        return Err("is no program".to_owned());
    }
    for word in words {
        files::way(&Path::new("/").join(word))
            .map_err(|at| format!("may be changed by others at `{}`, so it is not run", at.display()))?;
    }
    Ok(())
}

async fn post(url: &Url, facts: &Value) -> Result<(), String> {
    let client = reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy().build();
    let client = client.map_err(|_error| "cannot be asked: TLS does not start".to_owned())?;
    let answer = client.post(url.clone()).json(facts).send().await;
    let status = answer.map_err(|_error| "cannot be reached".to_owned())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("answered with status {}", status.as_u16())) }
}

/// The environment of the program, and where each value stands in the JSON.
const VARIABLES: [(&str, &str); 6] = [
    ("MCP_DENY_PROVIDER", "provider"),
    ("MCP_DENY_CALL", "call"),
    ("MCP_DENY_SESSION_NAME", "session_name"),
    ("MCP_DENY_ROLE_ARN", "role_arn"),
    ("MCP_DENY_ACCOUNT", "account"),
    ("MCP_DENY_EXPIRES_AT", "expires_at"),
];

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::string_slice, reason = "a test fails by panicking")]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::config::testing::TempDir;

    fn held() -> Held {
        Held {
            call: "assume-role".into(),
            session_name: Some("mcp-1-a-2".into()),
            role_arn: Some("arn:aws:iam::123456789012:role/tool".into()),
            account: Some("123456789012".into()),
            until: Timestamp::UNIX_EPOCH,
        }
    }

    async fn told(by: DenyBy, seconds: u64) -> Result<Denier, String> {
        let held = held();
        let hook = Deny { by, timeout: Duration::from_secs(seconds) };
        deny(&hook, &Semaphore::new(AT_ONCE), "aws", &held).await.map_err(|error| error.what)
    }

    fn shell(script: &str) -> DenyBy {
        DenyBy::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[tokio::test]
    async fn programs() {
        let told_all = "read -r all && test \"$MCP_DENY_SESSION_NAME\" = mcp-1-a-2 \
            && test \"$MCP_DENY_EXPIRES_AT\" = 1970-01-01T00:00:00Z && case $all in *'\"account\":\"123456789012\"'*) ;; *) exit 9;; esac";
        assert_eq!(
            told(shell(&format!("set -e; all=$(cat; echo); {}", &told_all["read -r all && ".len()..])), 10)
                .await,
            Ok(Denier::Command)
        );
        assert!(told(shell("exit 3"), 10).await.unwrap_err().contains("ended with status 3"));
        assert!(told(shell("sleep 60"), 1).await.unwrap_err().contains("did not end within 1 s"));
        assert!(
            told(DenyBy::Command(vec!["/nowhere/deny".into()]), 5)
                .await
                .unwrap_err()
                .contains("cannot be run")
        );
        let open = std::env::temp_dir().to_str().unwrap().to_owned();
        assert!(told(DenyBy::Command(vec![open]), 5).await.unwrap_err().contains("no program"));
    }

    /// Not only the program: a script that an interpreter is given, and the directories on the way.
    #[test]
    fn what_others_can_change_is_not_run() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new();
        for name in ["ours/deny", "ours/loose", "open/deny"] {
            dir.write(name, "exit 0\n");
        }
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let chmod = |name: &str, mode| {
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        chmod("ours/loose", 0o722);
        chmod("open", 0o777);
        for (words, want) in [
            (vec![at("ours/deny"), "--all".to_owned()], None),
            (vec!["/bin/sh".to_owned(), at("ours/deny")], None),
            (vec![at("ours/loose")], Some(at("ours/loose"))),
            (vec![at("open/deny")], Some(at("open"))),
            (vec!["/bin/sh".to_owned(), at("ours/loose")], Some(at("ours/loose"))),
            (vec!["/bin/sh".to_owned(), at("open/deny")], Some(at("open"))),
            (vec!["/bin/sh".to_owned(), at("open/deny")[1..].to_owned()], Some(at("open"))),
        ] {
            match (guard(&words), want) {
                (Ok(()), None) => {}
                (Err(fault), Some(at_fault)) => {
                    assert!(fault.contains(&format!("at `{at_fault}`")), "{fault}");
                }
                (got, want) => unreachable!("{words:?}: {got:?}, not {want:?}"),
            }
        }
    }

    /// Sessions that wait for their turn are told later, and nothing is started for them.
    #[tokio::test]
    async fn no_more_than_a_few_at_once() {
        let turns = Semaphore::new(AT_ONCE);
        let taken = turns.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
        let hook = Deny { by: shell("exit 0"), timeout: Duration::from_secs(5) };
        let late = deny(&hook, &turns, "aws", &held()).await.unwrap_err();
        assert!(late.blame == Blame::Busy(None) && late.what.contains("busy"), "{late:?}");
        drop(taken);
        assert!(deny(&hook, &turns, "aws", &held()).await.is_ok());
        assert_eq!(turns.available_permits(), AT_ONCE);
    }

    /// What the program left behind in its group is ended, and the program itself is told of as it exited.
    #[tokio::test]
    async fn what_it_began_ends_with_it() {
        let dir = TempDir::new();
        let mark = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; exit 7", mark.display());
        assert!(told(shell(&script), 10).await.unwrap_err().contains("ended with status 7"));
        let pid: i32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Nobody may have reaped it yet.
        let is_gone = || stat().split_whitespace().nth(2).is_none_or(|state| state == "Z" || state == "X");
        let ended = async {
            while !is_gone() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(Duration::from_secs(20), ended).await.is_ok(), "{}", stat());
    }
}
