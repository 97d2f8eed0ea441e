//! One line as a JSON-RPC message, borrowed and complete: the whole line is parsed, what the relay decides
//! by is kept as it stands there, and the rest is only checked. No name stands twice in an object that it
//! looks into.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use keys::{Key, Place};
use params::Members;

pub use ids::{asker, id_of};
pub use keys::{MAX_MEMBERS, Seen, same_but_for_case};
pub use params::{Params, Reference, members, place, text, trimmed};
pub use reply::Reply;
pub use skim::Skim;

mod ids;
mod keys;
mod params;
mod quick;
mod reply;
mod skim;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// It asks, and must be answered under this id (raw JSON).
    Request(&'a str),
    /// It only tells.
    Notification,
    /// It answers the request of this id (raw JSON).
    Response(&'a str),
    /// An object that is none of these: it passes where somebody is there to read it, and means nothing.
    Other,
}

/// The methods by which the relay decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// `initialize`.
    Initialize,
    /// `notifications/initialized`.
    Initialized,
    /// `ping`.
    Ping,
    /// `tools/call`.
    Call,
    /// `logging/setLevel`.
    SetLevel,
    /// `resources/subscribe`.
    Subscribe,
    /// `resources/unsubscribe`.
    Unsubscribe,
    /// `subscriptions/listen`.
    Listen,
    /// `notifications/subscriptions/acknowledged`.
    Acknowledged,
    /// `notifications/cancelled`.
    Cancelled,
    /// `notifications/progress`.
    Progress,
    /// `tasks/result`.
    TaskResult,
    /// `tasks/get`, `tasks/update` or `tasks/cancel`.
    Task,
    /// `tasks/list`.
    TaskList,
    /// `server/discover`.
    Discover,
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
    /// `prompts/get`.
    Prompt,
    /// `resources/read`.
    Read,
    /// `completion/complete`.
    Complete,
    /// `sampling/createMessage`.
    Sampling,
    /// `elicitation/create`.
    Elicitation,
    /// `roots/list`.
    Roots,
    /// `notifications/roots/list_changed`.
    RootsChanged,
    /// `notifications/tools/list_changed`.
    ToolsChanged,
    /// Any other, or none.
    #[default]
    Other,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// Its method.
    pub method: Method,
    /// Its parameters.
    pub params: Params<'a>,
    /// Whether it is a response that brings an error.
    pub failed: bool,
    /// What its result says of itself.
    pub reply: Reply<'a>,
}

impl<'a> Message<'a> {
    /// Parses a complete line.
    ///
    /// # Errors
    /// Where it is not exactly one JSON object; and, as an error of [`serde_json::error::Category::Data`], where it
    /// is ambiguous: a name stands twice in it, a value that counts is of the wrong kind, or it is a request and a
    /// response at once.
    pub fn parse(line: &'a str) -> Result<Self, serde_json::Error> {
        quick::fields(line).map_or_else(|| Fields::carefully(line), Ok)?.message()
    }

    /// Whether a server has to be there for it.
    #[must_use]
    pub fn needs_server(&self) -> bool {
        matches!(self.kind, Kind::Request(_)) && self.method != Method::Ping
    }
}

impl<'a> Fields<'a> {
    /// Those of a line, by the parser whose word counts.
    fn carefully(line: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let mut fields = Self::default();
        TopLevel { line, into: &mut fields }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(fields)
    }

    fn message(self) -> Result<Message<'a>, serde_json::Error> {
        let fields = self;
        let id = match fields.id {
            Some("null") | None => None,
            Some(id) if is_id(id) => Some(id),
            Some(_) => return Err(Error::custom("an id that is neither text nor number")),
        };
        let answers = fields.result || fields.error;
        let kind = match (fields.method, id) {
            (Some(_), _) if answers => return Err(Error::custom("request and response at once")),
            (None, _) if fields.result && fields.error => return Err(Error::custom("two answers at once")),
            (Some(_), Some(id)) => Kind::Request(id),
            (Some(_), None) => Kind::Notification,
            (None, Some(id)) if answers => Kind::Response(id),
            (None, _) => Kind::Other,
        };
        let method = fields.method.unwrap_or_default();
        Ok(Message { kind, method, params: fields.params, failed: fields.error, reply: fields.reply })
    }
}

/// Whether raw JSON is an id: text, or an integer (MCP, JSON-RPC 2.0 section 4). What one reader takes for another id
/// than the next one does, a number with an exponent or half of a surrogate pair, is none.
fn is_id(raw: &str) -> bool {
    if raw.starts_with('"') {
        return params::text(raw).is_some();
    }
    let (whole, zeros) = raw.split_once('.').unwrap_or((raw, "0"));
    whole.parse::<i64>().is_ok() && !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0')
}

#[derive(Default)]
#[cfg_attr(test, derive(Debug, PartialEq))]
struct Fields<'a> {
    id: Option<&'a str>,
    method: Option<Method>,
    params: Params<'a>,
    result: bool,
    reply: Reply<'a>,
    error: bool,
}

struct TopLevel<'f, 'a> {
    line: &'a str,
    into: &'f mut Fields<'a>,
}

impl<'a> DeserializeSeed<'a> for TopLevel<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for TopLevel<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let (fields, mut seen) = (self.into, Seen::new(Place::Message.names()));
        while let Some((key, _)) = seen.next(&mut map)? {
            match key {
                Key::Id => fields.id = Some(map.next_value::<&'a RawValue>()?.get()),
                Key::Method => fields.method = Some(map.next_value_seed(Lookup::NEW)?),
                Key::Params => {
                    let into = &mut fields.params;
                    map.next_value_seed(Members { line: self.line, place: Place::Params, into })?;
                }
                Key::Result => {
                    fields.reply = Reply::carefully(map.next_value::<&'a RawValue>()?.get());
                    fields.result = true;
                }
                Key::Error => {
                    map.next_value::<IgnoredAny>()?;
                    fields.error = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl Word for Method {
    fn of(text: &str) -> Self {
        match text {
            "initialize" => Self::Initialize,
            "notifications/initialized" => Self::Initialized,
            "ping" => Self::Ping,
            "tools/call" => Self::Call,
            "logging/setLevel" => Self::SetLevel,
            "resources/subscribe" => Self::Subscribe,
            "resources/unsubscribe" => Self::Unsubscribe,
            "subscriptions/listen" => Self::Listen,
            "notifications/subscriptions/acknowledged" => Self::Acknowledged,
            "notifications/cancelled" => Self::Cancelled,
            "notifications/progress" => Self::Progress,
            "tasks/result" => Self::TaskResult,
            "tasks/get" | "tasks/update" | "tasks/cancel" => Self::Task,
            "tasks/list" => Self::TaskList,
            "server/discover" => Self::Discover,
            "tools/list" => Self::Tools,
            "prompts/list" => Self::Prompts,
            "resources/list" => Self::Resources,
            "resources/templates/list" => Self::Templates,
            "prompts/get" => Self::Prompt,
            "resources/read" => Self::Read,
            "completion/complete" => Self::Complete,
            "sampling/createMessage" => Self::Sampling,
            "elicitation/create" => Self::Elicitation,
            "roots/list" => Self::Roots,
            "notifications/roots/list_changed" => Self::RootsChanged,
            "notifications/tools/list_changed" => Self::ToolsChanged,
            _ => Self::Other,
        }
    }
}

/// A string that is only looked up: no copy of it is kept.
trait Word {
    fn of(text: &str) -> Self;
}

struct Lookup<T>(PhantomData<T>);

impl<T> Lookup<T> {
    const NEW: Self = Self(PhantomData);
}

impl<'de, T: Word> DeserializeSeed<'de> for Lookup<T> {
    type Value = T;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T: Word> Visitor<'_> for Lookup<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    #[inline]
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::of(text))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (line, want) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#, Kind::Request("7")),
            (r#" { "method" : "x" , "id" : "a\u0062" } "#, Kind::Request(r#""a\u0062""#)),
            (r#"{"id":9007199254740993,"method":"x","params":"text"}"#, Kind::Request("9007199254740993")),
            (r#"{"id":1.0,"method":"x","params":[1,{"name":2}]}"#, Kind::Request("1.0")),
            (r#"{"method":"x","params":null}"#, Kind::Notification),
            (r#"{"id":null,"method":"x","params":1e2}"#, Kind::Notification),
            (r#"{"id":1,"result":{}}"#, Kind::Response("1")),
            (r#"{"id":1,"error":{"code":1}}"#, Kind::Response("1")),
            (r#"{"id":null,"error":{}}"#, Kind::Other),
            (r#"{"id":1}"#, Kind::Other),
            ("{}", Kind::Other),
        ] {
            assert_eq!(Message::parse(line).unwrap().kind, want, "{line}");
        }
    }

    #[test]
    fn what_is_no_message() {
        let deep = format!("{}{}", "{\"params\":{\"a\":", "[".repeat(5000));
        for line in [
            "x",
            "[]",
            "[{\"id\":1,\"method\":\"x\"}]",
            "null",
            "{\"a\":01}",
            "{} {}",
            "\u{feff}{}",
            r#"{"method":"\ud800"}"#,
            &deep,
        ] {
            assert!(Message::parse(line).is_err(), "{line:.60}");
        }
    }

    /// An object is refused where two readers could understand it otherwise.
    #[test]
    fn what_is_ambiguous() {
        let many: String = (0..=MAX_MEMBERS + 10).map(|n| format!("\"k{n}\":1,")).collect();
        let many = format!("{{\"params\":{{\"arguments\":{{{many}\"z\":1}}}}}}");
        for line in [
            r#"{"id":1,"id":2}"#,
            r#"{"x":1,"x":1}"#,
            r#"{"x":1,"\u0078":1}"#,
            r#"{"\u0078":1,"x":1}"#,
            r#"{"\u0078":1,"\u0078":1}"#,
            r#"{"jsonrpc":"2.0","jsonrpc":"2.0"}"#,
            r#"{"method":"a","method":"b"}"#,
            r#"{"method":"a","\u006dethod":"b"}"#,
            r#"{"method":"a","Method":"b"}"#,
            r#"{"METHOD":"b"}"#,
            r#"{"paramſ":{}}"#,
            r#"{"params":{},"params":{}}"#,
            r#"{"params":{"name":"a","name":"b"}}"#,
            r#"{"params":{"name":"a","Name":"b"}}"#,
            r#"{"params":{"taſKId":"b"}}"#,
            r#"{"params":{"a":1,"a":1}}"#,
            r#"{"params":{"_meta":{},"_meta":{}}}"#,
            r#"{"params":{"_meta":{"a":1,"a":1}}}"#,
            r#"{"params":{"_meta":{"io.modelcontextprotocol/ProtocolVersion":1}}}"#,
            r#"{"params":{"arguments":{"a":1,"a":1}}}"#,
            r#"{"params":{"arguments":{"a":1,"\u0061":1}}}"#,
            r#"{"params":{"\u0061rguments":{"a":1,"a":1}}}"#,
            r#"{"params":{"ref":{"type":"x","type":"y"}}}"#,
            r#"{"result":1,"result":2,"id":1}"#,
            r#"{"result":1,"error":2,"id":1}"#,
            r#"{"id":1,"method":"x","result":{}}"#,
            r#"{"method":"x","error":{}}"#,
            r#"{"method":5}"#,
            r#"{"method":null,"id":1}"#,
            r#"{"id":{},"method":"x"}"#,
            r#"{"id":false,"result":{}}"#,
            r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"j":1}"#,
            r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"a":1}"#,
            &many,
        ] {
            let error = Message::parse(line).map(|_| ()).unwrap_err();
            assert_eq!(error.classify(), serde_json::error::Category::Data, "{line:.90}");
        }
    }

    /// Names that only look alike are no reason.
    #[test]
    fn what_is_not_ambiguous() {
        for line in [
            r#"{"id":1,"method":"x","params":{"arguments":{"Name":1,"name":2,"nested":{"a":1,"a":2}},"x":{"y":1,"y":2}}}"#,
            r#"{"id":1,"method":"x","params":{"ID":1,"METHOD":2}}"#,
            r#"{"id":1,"method":"x","params":{"_meta":{"Name":1,"name":2,"uri":3}}}"#,
            r#"{"id":1,"result":{"a":1,"a":2}}"#,
        ] {
            assert!(Message::parse(line).is_ok(), "{line}");
        }
    }

    /// The quick way and the careful one say the same, or the quick one says nothing; on valid messages that are
    /// damaged in one place.
    #[test]
    fn both_ways_agree() {
        let mut quick = 0;
        for good in [
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"q","arguments":{"a":1,"b":[{}]},"x":0}}"#,
            r#"{"id":"a","method":"x","params":{"_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2"},"progressToken":2}}"#,
            r#"{"params":{"ref":{"type":"ref/prompt","name":"p","uri":"u"},"arguments":"é"},"method":"completion/complete","id":-1}"#,
            r#"{"id":1,"result":{"content":[{"text":"a \"b\" \u00e9\\"}],"isError":false}}"#,
            r#"{"id":null,"error":{"code":1e3}}"#,
        ] {
            for at in 0..=good.len() {
                for with in [
                    "",
                    "\"",
                    "\\",
                    "0",
                    ",",
                    ":",
                    "}",
                    "{",
                    "]",
                    "\t",
                    " ",
                    "a",
                    "\"a\":1,",
                    "\"id\":1,",
                    "\"Id\":1,",
                    "null",
                    "\u{e9}",
                ] {
                    for width in 0..4 {
                        let (Some(before), Some(after)) = (good.get(..at), good.get(at + width..)) else {
                            continue;
                        };
                        let line = format!("{before}{with}{after}");
                        let Some(fields) = quick::fields(&line) else { continue };
                        assert_eq!(Fields::carefully(&line).unwrap(), fields, "{line}");
                        quick += 1;
                    }
                }
            }
            assert!(quick::fields(good).is_some(), "{good}");
        }
        assert!(quick > 1000, "{quick}");
    }

    #[test]
    fn arguments_are_kept_as_they_stand() {
        for raw in [
            "{}",
            "{ }",
            r#"{"a":1}"#,
            "{ \"a\" : [ 1 , { \"b\" : \"}\" } ] \t}",
            r#"{"\u0061":"\"","b":{}}"#,
            "null",
            "[1]",
            r#""text""#,
            "5",
        ] {
            for (name, gap) in [("arguments", ""), ("argument\\u0073", ""), ("arguments", " \t")] {
                for after in ["", r#","name":"q""#, r#" , "_meta":{"arguments":{}}"#] {
                    let line = format!(r#"{{"params":{{"x":"ä","{name}"{gap}:{gap}{raw}{gap}{after}}}}}"#);
                    assert_eq!(Message::parse(&line).unwrap().params.arguments, Some(raw), "{line}");
                }
            }
        }
    }

    #[test]
    fn parameters() {
        let line = r#"{"id":1,"method":"tools/call","params":{"arguments":{"name":"inner","uri":1},"name":"q",
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","name":"z"}}}"#;
        let got = Message::parse(line).unwrap();
        assert_eq!((got.method, got.params.name), (Method::Call, Some("\"q\"")));
        assert_eq!((got.params.version, got.params.uri), (Some("\"2026-07-28\""), None));
        let arguments = r#"{"name":"inner","uri":1}"#;
        assert_eq!((got.params.arguments, text(r#""\u0071""#)), (Some(arguments), Some("q".into())));
        assert!(got.needs_server());
        let line = r#"{"method":"notifications/cancelled","params":{"requestId":"x","_meta":5}}"#;
        let got = Message::parse(line).unwrap();
        assert_eq!((got.method, got.params.request_id), (Method::Cancelled, Some("\"x\"")));
        let line = r#"{"id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p","uri":"u"},
            "cursor":"","protocolVersion":"x","capabilities":{},"_meta":{"name":1,"io.modelcontextprotocol/clientCapabilities":{"a":1}}}}"#;
        let got = Message::parse(line).unwrap().params;
        let reference = Reference { kind: Some("\"ref/prompt\""), name: Some("\"p\""), uri: Some("\"u\"") };
        assert_eq!((got.reference, got.name), (reference, None));
        assert_eq!(
            (got.cursor, got.revision, got.capabilities, got.client_capabilities),
            (Some("\"\""), Some("\"x\""), Some("{}"), Some("{\"a\":1}"))
        );
        let nested = format!("{{\"params\":{{\"a\":{}{}}}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(Message::parse(&nested).is_ok(), "depth is no reason");
    }
}
