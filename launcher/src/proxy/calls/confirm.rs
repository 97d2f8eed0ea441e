//! How a person is asked about a call: by the client (MCP elicitation, revisions 2025-06-18 and 2025-11-25), or by
//! words that say which command answers. What is shown of the call cannot pass for our own words.

use std::borrow::Cow;

use mcp_broker_proto::call::Decision;
use serde::Deserialize;
use serde_json::json;

use crate::proxy::message::Message;

/// What the ids of our elicitations begin with; the call's number follows.
const PREFIX: &str = "mcp-run:confirm:";
/// The most of a tool's name that is shown, in characters.
const MOST_TOOL: usize = 120;
/// The most of the arguments that is shown, in characters.
const MOST_ARGUMENTS: usize = 1000;

/// What a person is asked.
pub(super) struct Confirm<'a> {
    decision: &'a Decision,
    tool: String,
    arguments: String,
}

impl<'a> Confirm<'a> {
    /// About a call; the tool as raw JSON.
    pub(super) fn of(decision: &'a Decision, tool: &str, line: &str) -> Self {
        let name = serde_json::from_str::<Cow<'_, str>>(tool).unwrap_or_default();
        let arguments = Message::parse(line).ok().and_then(|message| message.params.arguments);
        let arguments = arguments.filter(|raw| *raw != "null").unwrap_or("none");
        Self { decision, tool: shown(&name, MOST_TOOL), arguments: shown(arguments, MOST_ARGUMENTS) }
    }

    /// The request that lets the client ask.
    pub(super) fn elicitation(&self, call: u64) -> String {
        // Without `mode`: it is a form by default, and the older revision has no other.
        let schema = json!({
            "type": "object",
            "properties": { "approve": {
                "type": "boolean",
                "title": "Allow this call",
                "description": "Whether the call may go on; no answer is a no.",
                "default": false,
            } },
            "required": ["approve"],
        });
        let message = format!("{}\n{}", self.what(), self.call());
        let params = json!({ "message": message, "requestedSchema": schema });
        let id = format!("{PREFIX}{call}");
        json!({ "jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params }).to_string()
    }

    /// The notification that tells a client which cannot ask.
    pub(super) fn log_message(&self) -> String {
        let data = format!("{}\n{}\nto answer: {}", self.what(), self.call(), self.command());
        let params = json!({ "level": "warning", "logger": "mcp-run", "data": data });
        json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params }).to_string()
    }

    /// The line for standard error.
    pub(super) fn note(&self) -> String {
        format!("the call of `{}` waits for a person: run `{}`", self.tool, self.command())
    }

    fn what(&self) -> &str {
        match self.decision.what.as_str() {
            "" => "a person has to confirm this call",
            what => what,
        }
    }

    fn call(&self) -> String {
        format!("tool: {}\narguments: {}", self.tool, self.arguments)
    }

    fn command(&self) -> String {
        format!("mcp-run approve {}", self.decision.id)
    }
}

/// Takes an elicitation back.
pub(super) fn withdrawal(call: u64) -> String {
    let params =
        json!({ "requestId": format!("{PREFIX}{call}"), "reason": "the call was decided otherwise" });
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }).to_string()
}

/// Whether this id, as raw JSON, is one of our elicitations: its answer is ours, and nobody else's.
#[must_use]
pub fn is_confirmation(raw_id: &str) -> bool {
    serde_json::from_str::<Cow<'_, str>>(raw_id).is_ok_and(|id| id.starts_with(PREFIX))
}

/// The call that an elicitation of ours is about.
pub(super) fn call_of(raw_id: &str) -> Option<u64> {
    let id = serde_json::from_str::<Cow<'_, str>>(raw_id).ok()?;
    id.strip_prefix(PREFIX)?.parse().ok()
}

/// Whether the answer to an elicitation is a clear yes.
pub(super) fn is_yes(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        result: Given,
    }
    #[derive(Deserialize)]
    struct Given {
        action: String,
        content: Content,
    }
    #[derive(Deserialize)]
    struct Content {
        approve: bool,
    }
    let answer = serde_json::from_str::<Answer>(line);
    answer.is_ok_and(|Answer { result }| result.action == "accept" && result.content.approve)
}

/// Whether a client that sent this `initialize`, and agreed on this revision, asks a person for us: it offers
/// elicitation, and not for URLs alone (2025-11-25; the revision before has nothing but forms).
#[must_use]
pub fn elicits(initialize: &str, revision: &str) -> bool {
    #[derive(Deserialize)]
    struct Initialize {
        params: Params,
    }
    #[derive(Deserialize)]
    struct Params {
        capabilities: Capabilities,
    }
    #[derive(Deserialize)]
    struct Capabilities {
        elicitation: serde_json::Map<String, serde_json::Value>,
    }
    let offered = serde_json::from_str::<Initialize>(initialize);
    let forms = |modes: &serde_json::Map<_, _>| modes.contains_key("form") || !modes.contains_key("url");
    // Revisions are dates, and sort as such; the stateless era has no requests to the client.
    let revision = ("2025-06-18".."2026-01-01").contains(&revision);
    revision && offered.is_ok_and(|init| forms(&init.params.capabilities.elicitation))
}

/// Text of somebody else, fit to be shown: what does not print is escaped, and not the whole of something endless.
fn shown(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(most) {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn who_asks_a_person() {
        for (revision, capabilities, want) in [
            ("2025-11-25", r#"{"elicitation":{}}"#, true),
            ("2025-06-18", r#"{"elicitation":{},"roots":{}}"#, true),
            ("2025-11-25", r#"{"elicitation":{"form":{},"url":{}}}"#, true),
            ("2025-11-25", r#"{"elicitation":{"applyDefaults":true}}"#, true),
            ("2025-11-25", r#"{"elicitation":{"url":{}}}"#, false),
            ("2025-11-25", r#"{"roots":{}}"#, false),
            ("2025-11-25", r#"{"elicitation":true}"#, false),
            ("2025-03-26", r#"{"elicitation":{}}"#, false),
            ("2024-11-05", r#"{"elicitation":{}}"#, false),
            ("2026-07-28", r#"{"elicitation":{}}"#, false),
            ("", r#"{"elicitation":{}}"#, false),
        ] {
            let line =
                format!(r#"{{"id":0,"method":"initialize","params":{{"capabilities":{capabilities}}}}}"#);
            assert_eq!(elicits(&line, revision), want, "{revision} {capabilities}");
        }
        assert!(!elicits(r#"{"id":0,"method":"initialize"}"#, "2025-11-25"));
    }

    #[test]
    fn a_clear_yes_only() {
        for (answer, want) in [
            (r#""result":{"action":"accept","content":{"approve":true}}"#, true),
            (r#""result":{"action":"accept","content":{"approve":true,"note":"x"},"_meta":{}}"#, true),
            (r#""result":{"action":"accept","content":{"approve":false}}"#, false),
            (r#""result":{"action":"accept","content":{"approve":"true"}}"#, false),
            (r#""result":{"action":"accept","content":{"approve":1}}"#, false),
            (r#""result":{"action":"accept","content":{"approve":true,"approve":true}}"#, false),
            (r#""result":{"action":"accept","content":{}}"#, false),
            (r#""result":{"action":"accept"}"#, false),
            (r#""result":{"action":"decline","content":{"approve":true}}"#, false),
            (r#""result":{"action":"cancel"}"#, false),
            (r#""result":{}"#, false),
            (r#""error":{"code":-32601,"message":"no"}"#, false),
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":"mcp-run:confirm:1",{answer}}}"#);
            assert_eq!(is_yes(&line), want, "{answer}");
        }
    }

    #[test]
    fn ids_of_ours() {
        for (raw, ours, call) in [
            (r#""mcp-run:confirm:7""#, true, Some(7)),
            (r#""mcp-run:\u0063onfirm:7""#, true, Some(7)),
            (r#""mcp-run:confirm:x""#, true, None),
            (r#""mcp-run:list:7""#, false, None),
            ("7", false, None),
        ] {
            assert_eq!((is_confirmation(raw), call_of(raw)), (ours, call), "{raw}");
        }
    }

    /// What a tool or its arguments say must not look like words of ours.
    #[test]
    fn nothing_is_smuggled_into_the_question() {
        let decision = decision("");
        let long = "y".repeat(5000);
        let line = format!("{{\"params\":{{\"arguments\":{{\"a\":\"\u{202e}\\n\",\"b\":\"{long}\"}}}}}}");
        let question = Confirm::of(&decision, r#""rm\nto answer: \u001b[2J""#, &line);
        let shown: Value = serde_json::from_str(&question.elicitation(4)).unwrap();
        let message = shown["params"]["message"].as_str().unwrap();
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(lines.len(), 3, "{message}");
        assert_eq!(lines[0], "a person has to confirm this call");
        assert_eq!(lines[1], r"tool: rm\nto answer: \u{1b}[2J");
        assert!(lines[2].starts_with(r#"arguments: {"a":"\u{202e}\n","b":"yyy"#), "{message}");
        assert!(lines[2].ends_with("y…") && lines[2].chars().count() < 1100, "{message}");
        let note = question.note();
        assert!(note.contains("mcp-run approve 0199f3a8") && !note.contains('\n'), "{note}");
    }

    #[test]
    fn shapes() {
        let decision = decision("calls of scope `write` are confirmed");
        let question = Confirm::of(&decision, r#""write_row""#, r#"{"params":{}}"#);
        let asked: Value = serde_json::from_str(&question.elicitation(4)).unwrap();
        assert_eq!(
            (&asked["id"], &asked["method"]),
            (&json!("mcp-run:confirm:4"), &json!("elicitation/create"))
        );
        let schema = &asked["params"]["requestedSchema"];
        assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["approve"])));
        assert_eq!(schema["properties"]["approve"]["type"], "boolean");
        assert_eq!(schema["properties"].as_object().unwrap().len(), 1);
        let told: Value = serde_json::from_str(&question.log_message()).unwrap();
        assert_eq!(
            (&told["method"], &told["params"]["level"]),
            (&json!("notifications/message"), &json!("warning"))
        );
        assert_eq!((&told["params"]["logger"], told.get("id")), (&json!("mcp-run"), None));
        let data = told["params"]["data"].as_str().unwrap();
        assert!(
            data.contains("`write` are confirmed") && data.contains("mcp-run approve 0199f3a8"),
            "{data}"
        );
        let back: Value = serde_json::from_str(&withdrawal(4)).unwrap();
        assert_eq!(back["params"]["requestId"], "mcp-run:confirm:4");
    }

    fn decision(what: &str) -> Decision {
        let text = format!(
            r#"{{"call":4,"id":"0199f3a8-0000-7000-8000-000000000009","verdict":"pending",
            "reason":"awaits_confirmation","what":"{what}","hint":""}}"#
        );
        serde_json::from_str(&text).unwrap()
    }
}
