//! What kind of answer a call got, for the audit log: only as much of it is read as that takes.

use mcp_broker_proto::call::CallOutcome;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// How a call ended that got this answer; `failed` where it is an error of JSON-RPC.
pub(super) fn outcome(line: &str, failed: bool) -> CallOutcome {
    if failed {
        return CallOutcome::Error;
    }
    // Most answers have none of these words, and are not read a second time.
    let words = [&br#""isError""#[..], br#""resultType""#, br#""task""#];
    if !words.iter().any(|word| memchr::memmem::find(line.as_bytes(), word).is_some()) {
        return CallOutcome::Result;
    }
    let Ok(Answer { result }) = serde_json::from_str(line) else { return CallOutcome::Result };
    let continues = result.kind.is_some_and(|kind| kind == "input_required" || kind == "task");
    match (continues || result.task.is_some(), result.is_error) {
        (true, _) => CallOutcome::Continued,
        (false, Some(true)) => CallOutcome::ToolError,
        (false, _) => CallOutcome::Result,
    }
}

#[derive(Deserialize)]
struct Answer {
    result: Result,
}

#[derive(Deserialize)]
struct Result {
    #[serde(rename = "isError")]
    is_error: Option<bool>,
    /// Of the stateless era: whether it is complete.
    #[serde(rename = "resultType")]
    kind: Option<String>,
    /// The task that goes on instead (MCP 2025-11-25, tasks).
    task: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (line, failed, want) in [
            (r#"{"id":1,"result":{"content":[]}}"#, false, CallOutcome::Result),
            (r#"{"id":1,"result":{"isError":false}}"#, false, CallOutcome::Result),
            (r#"{"id":1,"result":{"content":["\"isError\":true"]}}"#, false, CallOutcome::Result),
            (r#"{"id":1,"result":{"structuredContent":{"isError":true}}}"#, false, CallOutcome::Result),
            (r#"{"id":1,"result":{"isError":true}}"#, false, CallOutcome::ToolError),
            (r#"{"id":1,"result":{"isError":"yes"}}"#, false, CallOutcome::Result),
            (r#"{"id":1,"result":{"task":{"taskId":"t"}}}"#, false, CallOutcome::Continued),
            (r#"{"id":1,"result":{"resultType":"task","taskId":"t"}}"#, false, CallOutcome::Continued),
            (
                r#"{"id":1,"result":{"resultType":"input_required","isError":true}}"#,
                false,
                CallOutcome::Continued,
            ),
            (r#"{"id":1,"result":{"resultType":"complete","isError":true}}"#, false, CallOutcome::ToolError),
            (r#"{"id":1,"error":{"code":1}}"#, true, CallOutcome::Error),
        ] {
            assert_eq!(outcome(line, failed), want, "{line}");
        }
    }
}
