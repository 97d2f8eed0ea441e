//! The trial of one scope: a child for each kind of client, at most four at once, and the newest kinds twice, as a
//! server whose lists differ from run to run could never be told from one that was changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use mcp_broker_proto::names::Label;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::super::report::printable;
use super::account::Account;
use super::child::Plan;
use super::look::{CHILD_LIMIT, Failure, Shown, look};
use super::place::Place;
use super::talk::{Kind, STATELESS, Trouble};
use super::ticket::Held;
use crate::config::{Scope, ServerDefinition};

/// Revisions with a handshake, newest first.
const HANDSHAKES: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// So many children run at once.
const AT_ONCE: usize = 4;

/// So much of a server's own words is repeated, in characters.
const MAX_WORDS: usize = 300;

/// What a server shows of a scope, by kind of client.
pub(super) type ByKind = BTreeMap<Kind, Shown>;

/// What a trial of a scope found.
#[derive(Default)]
pub(super) struct Found {
    /// What its patterns name of what the server shows.
    pub(super) shown: ByKind,
    /// Every tool that the server has, named or not.
    pub(super) tools: BTreeSet<String>,
}

/// What all children of a trial have in common.
pub(super) struct Setting<'a> {
    pub(super) server: &'a ServerDefinition,
    pub(super) place: &'a Place,
    pub(super) account: &'a Account,
    /// What they inherit.
    pub(super) inherited: &'a BTreeMap<String, OsString>,
}

/// What went wrong in a scope, and what to do.
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) hint: String,
}

impl Setting<'_> {
    /// Looks at one scope as clients of every kind.
    ///
    /// # Errors
    /// Where the server does not start, does not answer, or answers differently from run to run.
    pub(super) async fn look_at(&self, scope: &Scope, held: Option<&Held>) -> Result<Found, Wrong> {
        let mut found = Found::default();
        let newest = Kind { revision: HANDSHAKES[0], capable: false };
        // Alone: a server that does not start is started once, and not ten times.
        self.take_in(scope, held, &mut found, vec![newest]).await?;
        let stateless = Kind { revision: STATELESS, capable: false };
        let mut kinds = vec![stateless, Kind { capable: true, ..newest }];
        for revision in HANDSHAKES.into_iter().skip(1) {
            kinds.extend([false, true].map(|capable| Kind { revision, capable }));
        }
        self.take_in(scope, held, &mut found, kinds).await?;
        // The newest of each era once more, as those are what clients speak.
        let mut again: Vec<_> =
            found.shown.keys().copied().filter(|kind| kind.revision == newest.revision).collect();
        if found.shown.contains_key(&stateless) {
            let capable = Kind { capable: true, ..stateless };
            again.extend([stateless, capable]);
            self.take_in(scope, held, &mut found, vec![capable]).await?;
        }
        self.take_in(scope, held, &mut found, again).await?;
        if found.shown.is_empty() {
            return Err(Wrong {
                what: format!("server `{}` answers no client, of no revision", self.server.name),
                hint: "see that `command` starts an MCP server that talks over its standard input and output"
                    .to_owned(),
            });
        }
        Ok(found)
    }

    /// Looks at the server as clients of these kinds. One that was looked at before must show the same.
    async fn take_in(
        &self,
        scope: &Scope,
        held: Option<&Held>,
        found: &mut Found,
        kinds: Vec<Kind>,
    ) -> Result<(), Wrong> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        // Dropped where one fails, and with it every child that still runs.
        let mut looks = JoinSet::new();
        for kind in kinds {
            let (plan, places) = (self.plan(held)?, Arc::clone(&places));
            looks.spawn(async move {
                let _place = places.acquire_owned().await;
                (kind, look(plan, kind).await)
            });
        }
        while let Some(done) = looks.join_next().await {
            let Ok((kind, looked)) = done else { continue };
            let looked = looked.map_err(|failure| self.wrong(scope, held, &failure))?;
            let Some(mut now) = looked else { continue };
            found.tools.extend(names(&now.tools, "name"));
            now.keep(scope);
            match found.shown.get(&kind) {
                Some(before) => same(before, &now)
                    .map_err(|differing| unstable(self.server, &scope.name, &seemly(held, &differing)))?,
                None => drop(found.shown.insert(kind, now)),
            }
        }
        Ok(())
    }

    fn plan(&self, held: Option<&Held>) -> Result<Plan, Wrong> {
        let failed = |why: String| Wrong {
            what: format!("the trial of server `{}` cannot be set up: {why}", self.server.name),
            hint: "see that the temporary directory and /dev/shm can be written to".to_owned(),
        };
        let room = self.place.room().map_err(|error| failed(error.to_string()))?;
        let cwd = room.working_directory(&self.server.cwd).map_err(|error| failed(error.to_string()))?;
        let text = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let path = |path: &std::path::Path| text(&path.to_string_lossy());
        let mut environment: BTreeMap<_, _> = self
            .inherited
            .iter()
            .map(|(name, value)| (name.clone(), Zeroizing::new(value.clone().into_vec())))
            .collect();
        environment.extend([
            ("HOME".to_owned(), path(&room.home)),
            ("TMPDIR".to_owned(), path(&room.temporary)),
            ("USER".to_owned(), text(&self.account.name)),
            ("LOGNAME".to_owned(), text(&self.account.name)),
            ("SHELL".to_owned(), text("/bin/sh")),
        ]);
        environment.extend(self.server.env.iter().map(|(name, value)| (name.clone(), text(value))));
        if let Some(held) = held {
            held.inject(&mut environment, &room).map_err(failed)?;
        }
        Ok(Plan { command: self.server.command.clone(), cwd, environment, account: self.account.clone() })
    }

    /// In words, with what the server said of it, and the cure.
    fn wrong(&self, scope: &Scope, held: Option<&Held>, failure: &Failure) -> Wrong {
        let why = match &failure.trouble {
            Trouble::Broken { asked, why } => format!("asked `{asked}`, {}", seemly(held, why)),
            Trouble::Slow(asked) => {
                format!("asked `{asked}`, it did not answer within {} s", CHILD_LIMIT.as_secs())
            }
            Trouble::Error { asked, code, message } => {
                format!("asked `{asked}`, it answered error {code}: {}", seemly(held, message))
            }
            Trouble::TooMuch(what) => seemly(held, what),
        };
        let mut what = format!("server `{}`, scope `{}`: {why}", self.server.name, scope.name);
        if let Some(ended) = &failure.ended {
            what.push_str(&format!(" ({})", ended.how));
            let said = String::from_utf8_lossy(&ended.stderr);
            let said = held.map_or_else(|| said.to_string(), |held| held.masked(&said));
            for line in said.lines().filter(|line| !line.trim().is_empty()) {
                what.push_str(&format!("\n  | {}", printable(line)));
            }
        }
        let hint = match (held, scope.credentials.is_empty()) {
            (None, false) => {
                "it may need its credentials to start: try `--with-credentials`, which mints them for the trial and \
                 revokes them after it"
            }
            _ => "see that `command` starts an MCP server for the account of the trial (`--as`)",
        };
        Wrong { what, hint: hint.to_owned() }
    }
}

/// The names in a list, or URIs.
fn names(list: &Option<Vec<Value>>, key: &str) -> Vec<String> {
    let entries = list.iter().flatten();
    entries.filter_map(|entry| entry.get(key)?.as_str().map(str::to_owned)).collect()
}

/// A server's own words, fit for a terminal: without secrets, then cut, so that none is cut in two, then spelled out.
pub(super) fn seemly(held: Option<&Held>, words: &str) -> String {
    let masked = held.map_or_else(|| words.to_owned(), |held| held.masked(words));
    printable(&masked.chars().take(MAX_WORDS).collect::<String>())
}

/// Two runs of the same kind must show the same, in whatever order.
///
/// # Errors
/// What differs, in words that are partly the server's own.
fn same(before: &Shown, now: &Shown) -> Result<(), String> {
    for ((what, key, before), (.., now)) in before.lists().into_iter().zip(now.lists()) {
        let (before, now) = (before.as_deref().unwrap_or_default(), now.as_deref().unwrap_or_default());
        let mut odd = before.iter().filter(|one| !now.contains(one));
        let mut odd_now = now.iter().filter(|one| !before.contains(one));
        if let Some(odd) = odd.next().or_else(|| odd_now.next()) {
            let name = odd.get(key).and_then(Value::as_str).unwrap_or("without a name");
            return Err(format!("{what} `{name}`"));
        }
    }
    match before.discovery == now.discovery {
        true => Ok(()),
        false => Err("what it says of itself".to_owned()),
    }
}

fn unstable(server: &ServerDefinition, scope: &Label, differing: &str) -> Wrong {
    Wrong {
        what: format!(
            "server `{}`, scope `{scope}`: {differing} is another one from run to run",
            server.name
        ),
        hint: "such a server cannot be pinned: configure it so that it shows the same each time, or leave that out \
               of the scope's patterns"
            .to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::plain::server;

    fn shown(tools: &[Value], said: &str) -> Shown {
        let (tools, none) = (Some(tools.to_vec()), || Some(Vec::new()));
        Shown {
            discovery: json!({ "instructions": said }),
            tools,
            resources: none(),
            templates: none(),
            prompts: none(),
        }
    }

    #[test]
    fn two_runs_must_show_the_same_in_any_order() {
        let (a, b) = (json!({ "name": "a", "description": "1" }), json!({ "name": "b" }));
        let before = shown(&[a.clone(), b.clone()], "hello");
        let check = |now: &Shown| same(&before, now).err();
        assert_eq!(check(&shown(&[b.clone(), a.clone()], "hello")), None);
        for (now, word) in [
            (shown(&[json!({ "name": "a", "description": "2" }), b.clone()], "hello"), "tool `a`"),
            (shown(std::slice::from_ref(&a), "hello"), "tool `b`"),
            (shown(&[a.clone(), b.clone(), json!({ "name": "c" })], "hello"), "tool `c`"),
            (shown(&[a, b], "hello again"), "what it says of itself"),
        ] {
            let what = check(&now).unwrap_or_default();
            assert!(what.contains(word), "`{word}` is not in: {what}");
        }
    }

    #[test]
    fn words_of_a_server_do_not_act_on_a_terminal() {
        assert_eq!(seemly(None, "a\u{1b}[2J\nApprove\u{202e}"), "a\\u{1b}[2J\\nApprove\\u{202e}");
        assert_eq!(seemly(None, &"x".repeat(MAX_WORDS + 1)).len(), MAX_WORDS);
    }

    #[test]
    fn what_patterns_do_not_name_is_forgotten() {
        let mut scope = server("x").scopes[0].clone();
        scope.tools = vec!["read_*".to_owned()];
        let mut now = shown(&[json!({ "name": "read_a" }), json!({ "name": "write" }), json!({})], "");
        now.resources = Some(vec![json!({ "uri": "a://b" })]);
        now.prompts = None;
        now.keep(&scope);
        assert_eq!(now.tools, Some(vec![json!({ "name": "read_a" })]));
        assert_eq!((now.resources, now.prompts), (Some(Vec::new()), None));
    }
}
