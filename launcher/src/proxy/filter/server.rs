//! What an instance says, and whether that passes: answers, notices, and requests that its definition lets it make.

use mcp_broker_proto::plan::ClientRequest;

use super::{Filter, refusal};
use crate::proxy::message::{Kind, Message, Method};
use crate::proxy::rule::Drop;

/// What a line of an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Said<'m> {
    /// It answers the request of this id (raw JSON); a list has to be filtered.
    Answer(&'m str),
    /// It asks the client, under this id (raw JSON), and may.
    Asks(&'m str),
    /// It pings, under this id (raw JSON): the client may be asked.
    Ping(&'m str),
    /// It only tells.
    Tells,
    /// It may not ask that: this line goes back to the instance.
    Refused(String),
    /// It does not pass.
    Nothing(Drop),
}

impl Filter {
    /// What a line of an instance is. One that is no clean request, notification or response does not pass: a result
    /// beside a method, say, is refused by [`crate::proxy::rule::from_server`] before.
    pub fn said<'m>(&self, message: &Message<'m>) -> Said<'m> {
        let allowed = |request| self.plan.client_requests.contains(&request);
        let asks = |id, request, name| {
            if allowed(request) { Said::Asks(id) } else { Said::Refused(refusal::not_for_servers(id, name)) }
        };
        match (message.kind, message.method) {
            (Kind::Response(id), _) => Said::Answer(id),
            (Kind::Request(id), Method::Ping) => Said::Ping(id),
            (Kind::Request(id), Method::Sampling) => asks(id, ClientRequest::Sampling, "sampling"),
            (Kind::Request(id), Method::Elicitation) => asks(id, ClientRequest::Elicitation, "elicitation"),
            (Kind::Request(id), Method::Roots) => asks(id, ClientRequest::Roots, "roots"),
            // What it asks about the tasks that the client runs for it (MCP 2025-11-25).
            (Kind::Request(id), Method::Task | Method::TaskResult | Method::TaskList)
                if allowed(ClientRequest::Sampling) || allowed(ClientRequest::Elicitation) =>
            {
                Said::Asks(id)
            }
            (Kind::Request(id), _) => Said::Refused(refusal::not_for_servers(id, "that")),
            // A request without an id, that a lenient client might carry out.
            (
                Kind::Notification,
                Method::Sampling
                | Method::Elicitation
                | Method::Roots
                | Method::Task
                | Method::TaskResult
                | Method::TaskList,
            ) => Said::Nothing(Drop::Ambiguous),
            (Kind::Notification, _) => Said::Tells,
            (Kind::Other, _) => Said::Nothing(Drop::Ambiguous),
        }
    }
}
