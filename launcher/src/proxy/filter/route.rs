//! Where a message of the client goes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Filter, Lane, List, refusal};
use crate::proxy::message::{Kind, Message, Method, Params, members, same_but_for_case, text};
use crate::proxy::rule::Drop;
use mcp_broker_proto::pattern;

/// Where a message of the client goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Route<'m> {
    /// A call of a tool: it has to be decided, and then goes to the instance of its lane.
    Call(Call<'m>),
    /// `initialize` or `server/discover`: answered from the record, else by lane 0.
    Discovery,
    /// A list: answered from the record, else by lane 0 through [`Filter::list`].
    List(List),
    /// To the instance of this lane, as it is.
    Lane(Lane),
    /// To every instance that there is, and those to come: `logging/setLevel` (whose answer is that of lane 0),
    /// `notifications/initialized`, `notifications/roots/list_changed`.
    Every,
    /// About a task (raw JSON): to the instance that runs it, else [`refusal::unknown_task`].
    Task(&'m str),
    /// `tasks/list`: to each instance that runs some, one page after the other, and the answers through
    /// [`super::list::tasks`].
    Tasks,
    /// `ping`: to lane 0, or answered by the relay.
    Ping,
    /// The client takes the request of this id (raw JSON) back: to where that went.
    Cancel(&'m str),
    /// Progress of what was asked of the client under this token (raw JSON).
    Progress(&'m str),
    /// The client's answer to the request of this id (raw JSON): to who asked.
    Answer(&'m str),
    /// It goes nowhere: the client gets this line.
    Refused(String),
    /// It goes nowhere, and nobody waits for an answer.
    Nowhere(Drop),
}

/// A call of a tool that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<'m> {
    /// The id of the request, as raw JSON.
    pub id: &'m str,
    /// The lane of the tool.
    pub lane: Lane,
    /// The tool.
    pub tool: Cow<'m, str>,
    /// Its arguments as raw JSON, where it has some. No name stands twice at their top level.
    pub arguments: Option<&'m str>,
}

impl Filter {
    /// Where a message of the client goes. It does not depend on any handshake.
    pub fn route<'m>(&self, message: &Message<'m>) -> Route<'m> {
        match message.kind {
            Kind::Request(id) => self.request(id, message),
            Kind::Response(id) => Route::Answer(id),
            Kind::Notification => notification(message),
            Kind::Other => Route::Nowhere(Drop::Ambiguous),
        }
    }

    /// The arguments of a call that the broker has to see, as JSON text by name ([`mcp_broker_proto::call::Ask`]).
    #[must_use]
    pub fn named_arguments(&self, call: &Call<'_>) -> BTreeMap<String, String> {
        let wanted = self.wanted(call.lane, &call.tool);
        if wanted.is_empty() {
            return BTreeMap::new();
        }
        let all = call.arguments.and_then(|raw| members(raw, &[])).unwrap_or_default();
        let kept = all.into_iter().filter(|(name, _)| wanted.contains(name.as_ref()));
        kept.map(|(name, value)| (name.into_owned(), value.to_owned())).collect()
    }

    /// Whether somebody has rules for arguments of a lane's tools.
    fn has_rules(&self, lane: Lane) -> bool {
        self.plan.scopes.get(lane).is_some_and(|scope| !scope.named.is_empty())
    }

    /// The names of arguments that somebody has rules for.
    fn wanted(&self, lane: Lane, tool: &str) -> BTreeSet<&str> {
        let named = self.plan.scopes.get(lane).map(|scope| scope.named.iter()).into_iter().flatten();
        let theirs = named.filter(|(tools, _)| pattern::matches(tools, tool));
        theirs.flat_map(|(_, names)| names.iter().map(String::as_str)).collect()
    }

    fn request<'m>(&self, id: &'m str, message: &Message<'m>) -> Route<'m> {
        let params = &message.params;
        match message.method {
            Method::Call => self.call(id, params),
            Method::Prompt => found(self.prompt_of(id, params.name)),
            // The stateless era has none of these (2026-07-28, changelog).
            Method::Ping | Method::Subscribe | Method::Unsubscribe if params.version.is_some() => {
                Route::Refused(refusal::unknown_method(id))
            }
            Method::Read | Method::Subscribe | Method::Unsubscribe => {
                found(self.resource_of(id, params.uri, params.version.is_some()))
            }
            Method::Complete => found(self.completion(id, params)),
            Method::Listen => found(self.listen(id, params)),
            Method::Initialize | Method::Discover => Route::Discovery,
            Method::SetLevel => Route::Every,
            Method::Task | Method::TaskResult => {
                params.task.map_or_else(|| Route::Refused(refusal::unknown_task(id)), Route::Task)
            }
            Method::TaskList => Route::Tasks,
            Method::Ping => Route::Ping,
            Method::Tools | Method::Prompts | Method::Resources | Method::Templates => {
                List::of(message.method).map_or(Route::Lane(0), Route::List)
            }
            _ => Route::Lane(0),
        }
    }

    fn call<'m>(&self, id: &'m str, params: &Params<'m>) -> Route<'m> {
        let Some(tool) = params.name.and_then(text) else {
            return Route::Refused(refusal::invalid_params(id, "the name of a tool is missing"));
        };
        let Some(lane) = self.tool(&tool) else {
            return Route::Refused(refusal::unknown_tool(id, &tool));
        };
        if self.has_rules(lane) {
            let wanted = self.wanted(lane, &tool);
            if params.arguments.is_some_and(|raw| disguised(raw, &wanted)) {
                let what = "an argument that has rules, in another case";
                return Route::Refused(refusal::invalid_params(id, what));
            }
        }
        Route::Call(Call { id, lane, tool, arguments: params.arguments })
    }

    /// A completion of an argument: as what it is for.
    fn completion(&self, id: &str, params: &Params<'_>) -> Result<Lane, String> {
        let of = &params.reference;
        match of.kind.and_then(text).as_deref() {
            Some("ref/prompt") => self.prompt_of(id, of.name),
            Some("ref/resource") => {
                let template = of.uri.and_then(text).and_then(|uri| self.template(&uri));
                template.map_or_else(|| self.resource_of(id, of.uri, params.version.is_some()), Ok)
            }
            _ => Err(refusal::invalid_params(id, "what is to be completed is missing")),
        }
    }

    /// A subscription of the stateless era: to the lane of the resources that it names, else to the first.
    fn listen(&self, id: &str, params: &Params<'_>) -> Result<Lane, String> {
        let unclear = |what| move || refusal::invalid_params(id, what);
        let Some(raw) = params.notifications else { return Ok(0) };
        let wanted =
            members(raw, &["resourceSubscriptions"]).ok_or_else(unclear("notifications are no object"))?;
        let uris = wanted.iter().find(|(name, _)| name == "resourceSubscriptions").map(|(_, uris)| *uris);
        let uris: Vec<Cow<'_, str>> = serde_json::from_str(uris.unwrap_or("[]"))
            .map_err(|_quotes| unclear("resourceSubscriptions are no list of URIs")())?;
        let mut lanes = BTreeSet::new();
        for uri in &uris {
            let unknown = || refusal::unknown_resource(id, uri, true);
            lanes.insert(self.resource(uri).ok_or_else(unknown)?);
        }
        match lanes.len() {
            0 | 1 => Ok(lanes.pop_first().unwrap_or(0)),
            _ => Err(unclear("resources of several scopes: listen to each scope on its own")()),
        }
    }

    fn prompt_of(&self, id: &str, name: Option<&str>) -> Result<Lane, String> {
        let name = name.and_then(text);
        let name = name.ok_or_else(|| refusal::invalid_params(id, "the name of a prompt is missing"))?;
        self.prompt(&name).ok_or_else(|| refusal::unknown_prompt(id, &name))
    }

    fn resource_of(&self, id: &str, uri: Option<&str>, stateless: bool) -> Result<Lane, String> {
        let uri = uri.and_then(text);
        let uri = uri.ok_or_else(|| refusal::invalid_params(id, "the URI of a resource is missing"))?;
        self.resource(&uri).ok_or_else(|| refusal::unknown_resource(id, &uri, stateless))
    }
}

/// Whether a name in these arguments is one of the wanted but for its case: some servers take it for that.
fn disguised(arguments: &str, wanted: &BTreeSet<&str>) -> bool {
    if wanted.is_empty() {
        return false;
    }
    let all = members(arguments, &[]).unwrap_or_default();
    let other = |name: &str| wanted.iter().any(|one| same_but_for_case(one, name));
    all.iter().any(|(name, _)| !wanted.contains(name.as_ref()) && other(name))
}

fn found<'m>(lane: Result<Lane, String>) -> Route<'m> {
    lane.map_or_else(Route::Refused, Route::Lane)
}

fn notification<'m>(message: &Message<'m>) -> Route<'m> {
    let params = &message.params;
    match message.method {
        Method::Initialized | Method::RootsChanged => Route::Every,
        Method::Cancelled => params.request_id.map_or(Route::Nowhere(Drop::Undelivered), Route::Cancel),
        Method::Progress => params.token.map_or(Route::Nowhere(Drop::Undelivered), Route::Progress),
        Method::ToolsChanged | Method::Other => Route::Lane(0),
        // A request that nobody could answer, and that a lenient server might carry out.
        _ => Route::Nowhere(Drop::Ambiguous),
    }
}
