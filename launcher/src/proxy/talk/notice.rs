//! What the relay answers by itself where no server can: a reason, the cure, and whether the request was
//! executed. Composed here and nowhere else.

use mcp_broker_proto::call::{CallReason, Decision};
use mcp_broker_proto::channel::{Park, ParkReason};
use mcp_broker_proto::names::CallId;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use serde_json::{Value, json};

use crate::failure::{AGAIN, REFUSED, UNAVAILABLE};

/// Kinds of reasons; the numbers are those of the JSON-RPC errors, outside of the range that the
/// specification reserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The session is locked.
    Locked = 1001,
    /// Policy, or whoever decides, says no.
    Refused = 1002,
    /// There is no credential now.
    Unavailable = 1003,
    /// The server is being started again, or cannot be.
    Restarting = 1004,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Refused => "refused",
            Self::Unavailable => "credential_unavailable",
            Self::Restarting => "server_restarting",
        }
    }

    /// The exit code of a launch that ends for it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Locked | Self::Refused => REFUSED,
            Self::Unavailable => AGAIN,
            Self::Restarting => UNAVAILABLE,
        }
    }
}

/// Whether a request was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// It reached no server.
    No,
    /// It reached one that ended before it answered, or whose answer did not come through.
    Unknown,
    /// It was answered, and the answer is not passed on.
    Yes,
}

/// Why a request is not answered by a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What kind of reason it is.
    pub kind: Kind,
    /// What happened: lower case, no full stop.
    pub what: String,
    /// What to do about it.
    pub hint: String,
    /// The reason in a word for programs, where there is a closer one than the kind's.
    reason: Option<String>,
    /// The decision of the broker that it tells of.
    decision: Option<CallId>,
}

/// What is known of the request that is answered.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Its id, as raw JSON.
    pub id: &'a str,
    /// The tool, where it is a call: raw JSON, or nothing where it named none.
    pub call: Option<&'a str>,
    /// Whether it is of the stateless era.
    pub modern: bool,
}

impl Notice {
    /// With its cure.
    #[must_use]
    pub fn new(kind: Kind, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: hint.into(), reason: None, decision: None }
    }

    /// The same, with a closer reason for programs.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_else(|| self.kind.word())
    }

    /// The answer to a request, as a line without its line feed.
    #[must_use]
    pub fn answer(&self, question: Question<'_>, executed: Executed) -> String {
        let (id, reason) = (question.id, self.reason());
        let executed = match executed {
            Executed::No => "no",
            Executed::Unknown => "unknown",
            Executed::Yes => "yes",
        };
        let Some(tool) = question.call else {
            let error = json!({
                "code": self.kind as i32,
                "message": self.what,
                "data": { "reason": reason, "hint": self.hint, "executed": executed },
            });
            return format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
        };
        let mut result = json!({
            "content": [{ "type": "text", "text": self.text(tool, executed) }],
            "isError": true,
            "_meta": {
                "mcp-run/reason": reason,
                "mcp-run/code": self.kind as i32,
                "mcp-run/hint": self.hint,
                "mcp-run/executed": executed,
            },
        });
        if let (true, Some(result)) = (question.modern, result.as_object_mut()) {
            result.insert("resultType".into(), "complete".into());
        }
        if let (Some(id), Some(meta)) =
            (self.decision, result.get_mut("_meta").and_then(Value::as_object_mut))
        {
            meta.insert("mcp-run/decision".into(), id.to_string().into());
        }
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
    }

    fn text(&self, tool: &str, executed: &str) -> String {
        let more = match executed {
            "no" => format!("the call of {tool} did not reach the server"),
            "yes" => format!("the server has carried the call of {tool} out; its answer was withheld"),
            _ => format!(
                "no answer to the call of {tool} came through; look at what the server did before you repeat it"
            ),
        };
        format!("{}\nhint: {}\nexecuted: {executed} ({more})", self.what, self.hint)
    }
}

/// A refusal, with the decision's id and its reason.
impl From<&Decision> for Notice {
    fn from(decision: &Decision) -> Self {
        let kind = match decision.reason {
            CallReason::SessionLocked => Kind::Locked,
            _ => Kind::Refused,
        };
        let reason = serde_json::to_value(decision.reason).ok();
        let reason = reason.as_ref().and_then(Value::as_str).map(str::to_owned);
        let notice = Self::new(kind, decision.what.as_str(), decision.hint.as_str());
        Self { reason, decision: Some(decision.id), ..notice }
    }
}

impl From<&Park> for Notice {
    fn from(park: &Park) -> Self {
        let kind = match park.reason {
            ParkReason::Locked => Kind::Locked,
            ParkReason::CredentialUnavailable => Kind::Unavailable,
        };
        Self::new(kind, park.what.as_str(), park.hint.as_str())
    }
}

impl From<&Problem> for Notice {
    fn from(problem: &Problem) -> Self {
        let kind = match problem.code {
            ErrorCode::SessionLocked => Kind::Locked,
            code if code.is_passing() => Kind::Unavailable,
            _ => Kind::Refused,
        };
        Self::new(kind, problem.title.as_str(), problem.hint.as_str())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn answer(call: Option<&str>, modern: bool, executed: Executed) -> Value {
        let notice = Notice::new(Kind::Locked, "the session is locked", "run `mcp-run unlock`");
        serde_json::from_str(&notice.answer(Question { id: "\"a\"", call, modern }, executed)).unwrap()
    }

    #[test]
    fn a_call_gets_a_result() {
        let got = answer(Some("\"q\""), false, Executed::No);
        let text = got["result"]["content"][0]["text"].as_str().unwrap();
        assert!(
            text.starts_with("the session is locked\nhint: run `mcp-run unlock`\nexecuted: no"),
            "{text}"
        );
        assert_eq!((&got["id"], &got["result"]["isError"]), (&json!("a"), &json!(true)));
        assert_eq!(got["result"]["_meta"]["mcp-run/executed"], "no");
        assert_eq!(got["result"].get("resultType"), None);
        let got = answer(Some("\"q\""), true, Executed::Unknown);
        assert_eq!(got["result"]["resultType"], "complete");
        assert_eq!(got["result"]["_meta"]["mcp-run/executed"], "unknown");
        assert!(got["result"]["content"][0]["text"].as_str().unwrap().contains("executed: unknown"));
    }

    #[test]
    fn a_decision_is_named() {
        let id = "0199f3a8-0000-7000-8000-000000000009";
        let text = format!(
            r#"{{"call":1,"id":"{id}","verdict":"deny","reason":"too_many_at_once","what":"busy","hint":"wait"}}"#
        );
        let notice = Notice::from(&serde_json::from_str::<Decision>(&text).unwrap());
        let question = Question { id: "1", call: Some("\"q\""), modern: false };
        let got: Value = serde_json::from_str(&notice.answer(question, Executed::No)).unwrap();
        let meta = &got["result"]["_meta"];
        assert_eq!(
            (&meta["mcp-run/decision"], &meta["mcp-run/reason"]),
            (&json!(id), &json!("too_many_at_once"))
        );
        let closer = notice.because("closer").answer(Question { call: None, ..question }, Executed::No);
        assert_eq!(serde_json::from_str::<Value>(&closer).unwrap()["error"]["data"]["reason"], "closer");
    }

    #[test]
    fn everything_else_gets_an_error() {
        let got = answer(None, true, Executed::Unknown);
        assert_eq!(
            (&got["error"]["code"], &got["error"]["message"]),
            (&json!(1001), &json!("the session is locked"))
        );
        let data = json!({ "reason": "locked", "hint": "run `mcp-run unlock`", "executed": "unknown" });
        assert_eq!(got["error"]["data"], data);
    }
}
