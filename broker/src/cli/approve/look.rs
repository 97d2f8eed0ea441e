//! What a server shows to a client of one kind: what it is discovered as, and its four lists, whole. Told apart from
//! the conversation below and from what many kinds have in common above.

use std::time::Duration;

use mcp_broker_proto::pattern::matches;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::child::{Ended, Plan, Running};
use super::talk::{Answer, Kind, Talk, Trouble};
use crate::config::Scope;

/// A server has so long for everything that it is asked in one go.
pub(super) const CHILD_LIMIT: Duration = Duration::from_secs(30);

/// Lists are read again once a server has said nothing for so long: some add tools right after the handshake.
const QUIET: Duration = Duration::from_millis(700);

/// So often lists are read again.
const ROUNDS: usize = 5;

/// The most entries of a list.
const MAX_ITEMS: usize = 4096;

/// The most pages of a list.
const MAX_PAGES: usize = 64;

/// What a server shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    /// The result of `initialize` or `server/discover`.
    pub(super) discovery: Value,
    /// `tools/list`, where it answers that.
    pub(super) tools: Option<Vec<Value>>,
    /// `resources/list`.
    pub(super) resources: Option<Vec<Value>>,
    /// `resources/templates/list`.
    pub(super) templates: Option<Vec<Value>>,
    /// `prompts/list`.
    pub(super) prompts: Option<Vec<Value>>,
}

impl Shown {
    /// The lists: what an entry is called, what names it, and the entries.
    pub(super) fn lists(&self) -> [(&'static str, &'static str, &Option<Vec<Value>>); 4] {
        [
            ("tool", "name", &self.tools),
            ("resource", "uri", &self.resources),
            ("resource template", "uriTemplate", &self.templates),
            ("prompt", "name", &self.prompts),
        ]
    }

    /// Forgets what the patterns of the scope do not name: for the client it does not exist.
    pub(super) fn keep(&mut self, scope: &Scope) {
        for (list, key, patterns) in [
            (&mut self.tools, "name", &scope.tools),
            (&mut self.resources, "uri", &scope.resources),
            (&mut self.templates, "uriTemplate", &scope.resources),
            (&mut self.prompts, "name", &scope.prompts),
        ] {
            let named = |entry: &Value| {
                let name = entry.get(key).and_then(Value::as_str);
                name.is_some_and(|name| patterns.iter().any(|pattern| matches(pattern, name)))
            };
            list.iter_mut().for_each(|entries| entries.retain(named));
        }
    }
}

/// Why it could not be looked at.
pub(super) struct Failure {
    /// What went wrong.
    pub(super) trouble: Trouble,
    /// How the server ended; nothing where it never started.
    pub(super) ended: Option<Ended>,
}

/// Starts the server once, as a client of that kind, and looks at what it shows. `None` where it does not take such
/// clients.
///
/// # Errors
/// Where it does not start, or does not answer as a server has to.
pub(super) async fn look(plan: Plan, kind: Kind) -> Result<Option<Shown>, Failure> {
    let child = Running::start(&plan).map_err(|error| {
        let why = format!("`{}` cannot be started: {error}", plan.command.first().map_or("", String::as_str));
        Failure { trouble: Trouble::Broken { asked: "to start", why }, ended: None }
    })?;
    drop(plan);
    let mut talk = Talk::new(child, kind, Instant::now() + CHILD_LIMIT);
    let shown =
        if kind.is_stateless() { stateless(&mut talk).await } else { handshake(&mut talk, kind).await };
    let ended = talk.end().await;
    shown.map_err(|trouble| Failure { trouble, ended: Some(ended) })
}

async fn handshake(talk: &mut Talk, kind: Kind) -> Result<Option<Shown>, Trouble> {
    let Answer::Result(discovery) = talk.ask("initialize", kind.handshake()).await? else { return Ok(None) };
    talk.tell("notifications/initialized").await?;
    let mut shown = lists(talk, discovery).await?;
    for _ in 0..ROUNDS {
        talk.rest(QUIET).await?;
        if !talk.take_changed() {
            return Ok(Some(shown));
        }
        shown = lists(talk, shown.discovery).await?;
    }
    Err(Trouble::TooMuch(format!("it changed its lists {ROUNDS} times in a row")))
}

/// One that ends or is silent when it is asked about this era does not know it, as one that answers with an error.
async fn stateless(talk: &mut Talk) -> Result<Option<Shown>, Trouble> {
    match talk.ask("server/discover", json!({})).await {
        Ok(Answer::Result(discovery)) => lists(talk, discovery).await.map(Some),
        Ok(Answer::Error { .. }) | Err(Trouble::Slow(_) | Trouble::Broken { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

async fn lists(talk: &mut Talk, discovery: Value) -> Result<Shown, Trouble> {
    // Forgotten before they are read, so that a change while they are counts.
    talk.take_changed();
    let has = |capability: &str| discovery.pointer(&format!("/capabilities/{capability}")).is_some();
    let (tools, resources, prompts) = (has("tools"), has("resources"), has("prompts"));
    Ok(Shown {
        tools: list(talk, "tools/list", "tools", tools).await?,
        resources: list(talk, "resources/list", "resources", resources).await?,
        templates: list(talk, "resources/templates/list", "resourceTemplates", false).await?,
        prompts: list(talk, "prompts/list", "prompts", prompts).await?,
        discovery,
    })
}

/// A whole list; `None` where the server does not answer that method and did not say that it would.
async fn list(
    talk: &mut Talk,
    method: &'static str,
    key: &'static str,
    declared: bool,
) -> Result<Option<Vec<Value>>, Trouble> {
    let (mut found, mut params) = (Vec::new(), json!({}));
    for _ in 0..MAX_PAGES {
        let answer = talk.ask(method, params).await?;
        let mut page = match answer {
            Answer::Result(page) => page,
            Answer::Error { .. } if !declared && found.is_empty() => return Ok(None),
            unknown if unknown.is_unknown() && found.is_empty() => return Ok(None),
            Answer::Error { code, message } => return Err(Trouble::Error { asked: method, code, message }),
        };
        let Some(Value::Array(entries)) = page.get_mut(key).map(Value::take) else {
            return Err(Trouble::Broken { asked: method, why: format!("its answer has no `{key}`") });
        };
        found.extend(entries);
        if found.len() > MAX_ITEMS {
            return Err(Trouble::TooMuch(format!("{method} has more than {MAX_ITEMS} entries")));
        }
        match page.get("nextCursor") {
            // The empty text is a cursor like any other (MCP, pagination).
            Some(Value::String(cursor)) => params = json!({ "cursor": cursor }),
            _ => return Ok(Some(found)),
        }
    }
    Err(Trouble::TooMuch(format!("{method} has more than {MAX_PAGES} pages")))
}
