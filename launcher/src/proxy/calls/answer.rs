//! What kind of answer a call got, for the audit log.

use mcp_broker_proto::call::CallOutcome;

use crate::proxy::message::{Message, text};

/// How a call ended that got this answer.
pub(super) fn outcome(answer: &Message<'_>) -> CallOutcome {
    let reply = &answer.reply;
    // Of the stateless era: it is not complete.
    let continues = |kind: &str| text(kind).is_some_and(|kind| kind == "input_required" || kind == "task");
    let task = reply.task.is_some_and(|task| task != "null");
    match reply.is_error {
        _ if answer.failed => CallOutcome::Error,
        _ if task || reply.kind.is_some_and(continues) => CallOutcome::Continued,
        Some("true") => CallOutcome::ToolError,
        _ => CallOutcome::Result,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (answer, want) in [
            (r#""result":{"content":[]}"#, CallOutcome::Result),
            (r#""result":{"isError":false}"#, CallOutcome::Result),
            (r#""result":{"content":["\"isError\":true"]}"#, CallOutcome::Result),
            (r#""result":{"structuredContent":{"isError":true}}"#, CallOutcome::Result),
            (r#""result":{"isError":true}"#, CallOutcome::ToolError),
            (r#""result":{ "is\u0045rror" : true }"#, CallOutcome::ToolError),
            (r#""result":{"isError":"yes"}"#, CallOutcome::Result),
            (r#""result":[true]"#, CallOutcome::Result),
            (r#""result":{"task":{"taskId":"t"}}"#, CallOutcome::Continued),
            (r#""result":{"task":null}"#, CallOutcome::Result),
            (r#""result":{"resultType":"task","taskId":"t"}"#, CallOutcome::Continued),
            (r#""result":{"resultType":"input_required","isError":true}"#, CallOutcome::Continued),
            (r#""result":{"resultType":"input\u005frequired"}"#, CallOutcome::Continued),
            (r#""result":{"resultType":"complete","isError":true}"#, CallOutcome::ToolError),
            (r#""error":{"code":1,"isError":true}"#, CallOutcome::Error),
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#);
            assert_eq!(outcome(&Message::parse(&line).unwrap()), want, "{line}");
        }
    }
}
