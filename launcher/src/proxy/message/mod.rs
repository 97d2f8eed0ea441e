//! One line as a JSON-RPC message, borrowed and complete: the whole line is parsed, what the relay decides
//! by is kept as it stands there, and the rest is only checked. A key that it decides by may stand there
//! once: peers disagree on which of two counts, so neither is guessed.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub use params::{Params, Reference, text};

mod params;

/// Where a request of the stateless era names its revision (MCP 2026-07-28, `_meta`).
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// What the notifications of a `subscriptions/listen` bear.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

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
}

impl<'a> Message<'a> {
    /// Parses a complete line.
    ///
    /// # Errors
    /// Where it is not exactly one JSON object, where a key that counts stands there twice or has a value of
    /// the wrong kind, or where it claims to be a request and a response at once.
    pub fn parse(line: &'a str) -> Result<Self, serde_json::Error> {
        let fields: Fields<'a> = serde_json::from_str(line)?;
        let id = fields.id.filter(|id| *id != "null");
        let answers = fields.result || fields.error;
        let kind = match (fields.method, id) {
            (Some(_), _) if answers => return Err(Error::custom("request and response at once")),
            (Some(_), Some(id)) => Kind::Request(id),
            (Some(_), None) => Kind::Notification,
            (None, Some(id)) if answers => Kind::Response(id),
            (None, _) => Kind::Other,
        };
        let method = fields.method.unwrap_or_default();
        Ok(Self { kind, method, params: fields.params, failed: fields.error })
    }

    /// Whether a server has to be there for it.
    #[must_use]
    pub fn needs_server(&self) -> bool {
        matches!(self.kind, Kind::Request(_)) && self.method != Method::Ping
    }
}

/// The id of a line that is no message, as raw JSON: nothing where it has none, or several, or one that is neither
/// text nor number.
#[must_use]
pub fn id_of(line: &str) -> Option<&str> {
    let _ = line;
    None
}

#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a str>,
    method: Option<Method>,
    params: Params<'a>,
    result: bool,
    error: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TopLevel)
    }
}

struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        let mut has_params = false;
        while let Some(key) = map.next_key_seed(Lookup::<Key>::NEW)? {
            match key {
                Key::Id => raw(&mut map, &mut fields.id, "id")?,
                Key::Method => {
                    let method = map.next_value_seed(Lookup::NEW)?;
                    once(fields.method.replace(method).is_none(), "method")?;
                }
                Key::Params => {
                    once(!std::mem::replace(&mut has_params, true), "params")?;
                    fields.params = map.next_value()?;
                }
                Key::Result => {
                    map.next_value::<IgnoredAny>()?;
                    once(!std::mem::replace(&mut fields.result, true), "result")?;
                }
                Key::Error => {
                    map.next_value::<IgnoredAny>()?;
                    once(!std::mem::replace(&mut fields.error, true), "error")?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

fn once<E: Error>(first: bool, name: &'static str) -> Result<(), E> {
    if first { Ok(()) } else { Err(E::duplicate_field(name)) }
}

/// A value as it stands there.
fn raw<'de, A: MapAccess<'de>>(
    map: &mut A,
    into: &mut Option<&'de str>,
    name: &'static str,
) -> Result<(), A::Error> {
    let value: &'de RawValue = map.next_value()?;
    once(into.replace(value.get()).is_none(), name)
}

#[derive(Clone, Copy)]
enum Key {
    Id,
    Method,
    Params,
    Result,
    Error,
    Name,
    RequestId,
    Uri,
    Meta,
    Version,
    Subscription,
    Token,
    Task,
    Other,
}

impl Word for Key {
    fn of(text: &str) -> Self {
        match text {
            "id" => Self::Id,
            "method" => Self::Method,
            "params" => Self::Params,
            "result" => Self::Result,
            "error" => Self::Error,
            "name" => Self::Name,
            "requestId" => Self::RequestId,
            "uri" => Self::Uri,
            "_meta" => Self::Meta,
            VERSION => Self::Version,
            SUBSCRIPTION => Self::Subscription,
            "progressToken" => Self::Token,
            "taskId" => Self::Task,
            _ => Self::Other,
        }
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
            r#"{"id":1,"id":2}"#,
            r#"{"method":"a","method":"b"}"#,
            r#"{"method":"a","\u006dethod":"b"}"#,
            r#"{"params":{},"params":{}}"#,
            r#"{"params":{"name":"a","name":"b"}}"#,
            r#"{"params":{"_meta":{},"_meta":{}}}"#,
            r#"{"result":1,"result":2,"id":1}"#,
            r#"{"id":1,"method":"x","result":{}}"#,
            r#"{"method":"x","error":{}}"#,
            r#"{"method":5}"#,
            &deep,
        ] {
            assert!(Message::parse(line).is_err(), "{line:.60}");
        }
    }

    #[test]
    fn parameters() {
        let line = r#"{"id":1,"method":"tools/call","params":{"arguments":{"name":"inner","uri":1},"name":"q",
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","name":"z"}}}"#;
        let got = Message::parse(line).unwrap();
        assert_eq!((got.method, got.params.name), (Method::Call, Some("\"q\"")));
        assert_eq!((got.params.version, got.params.uri), (Some("\"2026-07-28\""), None));
        assert!(got.needs_server());
        let line = r#"{"method":"notifications/cancelled","params":{"requestId":"x","_meta":5}}"#;
        let got = Message::parse(line).unwrap();
        assert_eq!((got.method, got.params.request_id), (Method::Cancelled, Some("\"x\"")));
        let nested = format!("{{\"params\":{{\"a\":{}{}}}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(Message::parse(&nested).is_ok(), "depth is no reason");
    }
}
