//! Tells whoever can deny a session centrally that one is to be denied: an admin's program, or a server. Both get
//! names and times, never a key; both have a time limit, and only a clear success counts.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use reqwest::{Url, redirect};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::handle::Held;
use super::settings::{Deny, DenyBy};
use crate::provider::{Blame, Denier, ProviderError};

/// Denies one session.
///
/// # Errors
/// Where it did not say that it is denied.
pub(super) async fn deny(deny: &Deny, provider: &str, held: &Held) -> Result<Denier, ProviderError> {
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
    guard(Path::new(program))?;
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
    let group = Group(child.id());
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read: everything is in its environment as well.
        drop(stdin.write_all(facts.to_string().as_bytes()).await);
    }
    let status = child.wait().await;
    drop(group);
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status
            .code()
            .map_or_else(|| "was ended by a signal".to_owned(), |code| format!("ended with status {code}"))),
        Err(error) => Err(format!("cannot be waited for: {}", error.kind())),
    }
}

/// What the program began ends with it.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(leader) = leader {
            // Where nothing is left of it, there is nothing to end.
            if let Err(error) = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL) {
                tracing::trace!(%error, "the deny command left nothing");
            }
        }
    }
}

/// Who can change the program can have the broker run anything.
fn guard(program: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(program).map_err(|error| format!("cannot be run: {}", error.kind()))?;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    if !ours || meta.mode() & 0o022 != 0 || !meta.is_file() {
        return Err("may be changed by others, so it is not run".to_owned());
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
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;

    async fn told(by: DenyBy, seconds: u64) -> Result<Denier, String> {
        let held = Held {
            call: "assume-role".into(),
            session_name: Some("mcp-1-a-2".into()),
            role_arn: Some("arn:aws:iam::123456789012:role/tool".into()),
            account: Some("123456789012".into()),
            until: Timestamp::UNIX_EPOCH,
        };
        let hook = Deny { by, timeout: Duration::from_secs(seconds) };
        deny(&hook, "aws", &held).await.map_err(|error| error.what)
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
        assert!(told(DenyBy::Command(vec![open]), 5).await.unwrap_err().contains("changed by others"));
    }
}
