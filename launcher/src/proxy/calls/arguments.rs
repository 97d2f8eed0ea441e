//! What the broker has to see of a call: the tool, and of its arguments their length, their hash, and those that
//! the plan names. Everything is taken from the bytes that the server would get.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mcp_broker_proto::MAX_AUDITED_ARGUMENTS;
use mcp_broker_proto::call::Ask;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::pattern;
use mcp_broker_proto::plan::ScopePlan;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::proxy::message::Message;

/// The longest name of a tool that is asked about, in bytes.
const MAX_TOOL: usize = 1 << 10;
/// The most that named arguments may come to, in bytes of JSON: a frame has to hold them.
const MAX_NAMED: usize = 128 << 10;

/// What is known of a call before it is asked about.
pub(super) struct Asked {
    scope: Label,
    revision: u32,
    tool: String,
    size: usize,
    sha256: String,
    named: BTreeMap<String, String>,
    whole: Option<String>,
}

impl Asked {
    /// Of a `tools/call`.
    ///
    /// # Errors
    /// Where it cannot be decided on, in words for the client: two peers could read its arguments differently, or
    /// what rules apply to is no part of an object or too long.
    pub(super) fn of(message: &Message<'_>, scope: &ScopePlan) -> Result<Self, String> {
        let tool = message.params.name.and_then(|raw| serde_json::from_str::<String>(raw).ok());
        let tool = tool.filter(|tool| tool.len() <= MAX_TOOL).ok_or("the tool's name is no name")?;
        // No name stands twice at their top level, or the line would be no message.
        let arguments = message.params.arguments.filter(|raw| *raw != "null");
        let text = arguments.unwrap_or_default();
        let short = u64::try_from(text.len()).is_ok_and(|length| length <= scope.argument_bytes);
        let wanted: BTreeSet<&str> = scope
            .named
            .iter()
            .filter(|(tools, _)| pattern::matches(tools, &tool))
            .flat_map(|(_, names)| names.iter().map(String::as_str))
            .collect();
        // What is too long is refused by the broker for that, whatever it holds.
        let named = match arguments {
            Some(text) if short && !wanted.is_empty() => named(text, &wanted)?,
            _ => BTreeMap::new(),
        };
        let whole = short && scope.whole_arguments && text.len() <= MAX_AUDITED_ARGUMENTS;
        Ok(Self {
            scope: scope.name.clone(),
            revision: scope.revision,
            tool,
            size: text.len(),
            sha256: hexadecimal(&Sha256::digest(text)),
            named,
            whole: arguments.filter(|_| whole).map(str::to_owned),
        })
    }

    /// The question for the broker.
    pub(super) fn frame(self, call: u64, elicits: bool) -> Ask {
        let Self { scope, revision, tool, size, sha256, named, whole } = self;
        Ask { call, scope, revision, tool, size: size as u64, sha256, named, whole, elicits }
    }
}

/// The arguments of these names as raw JSON, where they are there.
fn named(text: &str, wanted: &BTreeSet<&str>) -> Result<BTreeMap<String, String>, String> {
    let mut members = serde_json::Deserializer::from_str(text);
    let found = members.deserialize_map(Members { wanted }).map_err(|error| words(&error))?;
    if found.values().map(String::len).sum::<usize>() > MAX_NAMED {
        return Err("arguments that rules apply to are too long".into());
    }
    Ok(found)
}

/// Our own words out of an error of the parser; its own would quote the arguments.
fn words(error: &serde_json::Error) -> String {
    match error.to_string() {
        text if text.starts_with(TWICE) => TWICE.into(),
        _ => "the arguments are not an object, and rules apply to some".into(),
    }
}

const TWICE: &str = "an argument that a rule applies to stands there twice, or in other letters besides";

/// Reads the members of an object, and keeps the wanted ones.
struct Members<'a> {
    wanted: &'a BTreeSet<&'a str>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        let folded: BTreeSet<String> = self.wanted.iter().map(|name| fold(name)).collect();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if self.wanted.contains(key.as_ref()) {
                let value: &RawValue = map.next_value()?;
                if found.insert(key.into_owned(), value.get().to_owned()).is_some() {
                    return Err(A::Error::custom(TWICE));
                }
                continue;
            }
            // Some servers look their arguments up without regard to case (encoding/json of Go does), so a second
            // spelling could be what they read.
            if folded.contains(&fold(&key)) {
                return Err(A::Error::custom(TWICE));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

/// The same for all spellings of a name that differ in case only; `ſ` and the Kelvin sign count as their letters.
fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// In lower case, as the frame has it.
fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble });
    // Of its full size at once: every call has one.
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit));
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn scope(named: &str, argument_bytes: u64, whole: bool) -> ScopePlan {
        let text = format!(
            r#"{{"name":"write","revision":1,"tools":["*"],"resources":[],"prompts":[],"result_bytes":1,
            "argument_bytes":{argument_bytes},"named":{named},"whole_arguments":{whole}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn asked(params: &str, scope: &ScopePlan) -> Result<Ask, String> {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let message = Message::parse(&line).map_err(|_quotes| "not a message".to_owned())?;
        Asked::of(&message, scope).map(|asked| asked.frame(7, true))
    }

    const RULES: &str = r#"{"write_*":["path","mode"],"*_row":["id"],"read":["secret"]}"#;

    /// (parameters, named arguments by name)
    #[test]
    fn named_arguments() {
        let long = format!(r#"{{"name":"write_row","arguments":{{"path":"{}"}}}}"#, "x".repeat(2000));
        for (params, want) in [
            (r#"{"name":"write_row"}"#, &[][..]),
            (r#"{"name":"write_row","arguments":null}"#, &[]),
            (r#"{"name":"write_row","arguments":{}}"#, &[]),
            (r#"{"name":"write_row","arguments":{"path":"/a","other":{"path":1}}}"#, &[("path", r#""/a""#)]),
            (
                r#"{"arguments": {"id" : [1, 2] ,"mode":null,"path":"\u002fa"},"name":"write_row"}"#,
                &[("id", "[1, 2]"), ("mode", "null"), ("path", r#""\u002fa""#)],
            ),
            // Escapes in names are no way around a rule.
            (r#"{"name":"write\u005frow","arguments":{"p\u0061th":"/a"}}"#, &[("path", r#""/a""#)]),
            (r#"{"name":"other","arguments":{"path":"/a"}}"#, &[]),
            (r#"{"name":"other","arguments":[1]}"#, &[]),
            // What is too long is refused for that.
            (&long, &[]),
        ] {
            let named = asked(params, &scope(RULES, 1000, false)).unwrap().named;
            let got: Vec<_> = named.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(got, want, "{params:.80}");
        }
    }

    #[test]
    fn what_cannot_be_decided_on() {
        let huge = format!(r#"{{"name":"write_row","arguments":{{"path":"{}"}}}}"#, "x".repeat(MAX_NAMED));
        let name = format!(r#"{{"name":"{}"}}"#, "x".repeat(MAX_TOOL + 1));
        for (params, want) in [
            (r#"{"name":"write_row","arguments":{"path":"/a","path":"/b"}}"#, "not a message"),
            (r#"{"name":"write_row","arguments":{"path":"/a","p\u0061th":"/b"}}"#, "not a message"),
            (r#"{"name":"write_row","arguments":{"Path":"/b"}}"#, "other letters"),
            (r#"{"name":"write_row","arguments":{"path":"/a","PATH":"/b"}}"#, "other letters"),
            (r#"{"name":"write_row","arguments":{"mode":1,"\u017fecret":1,"MODE":2}}"#, "other letters"),
            (r#"{"name":"read","arguments":{"\u017fecret":1}}"#, "other letters"),
            (r#"{"name":"write_row","arguments":["path"]}"#, "not an object"),
            (r#"{"name":"write_row","arguments":"path"}"#, "not an object"),
            (r#"{"name":"write_row","arguments":{},"arguments":{}}"#, "not a message"),
            (r#"{"name":7}"#, "no name"),
            (r#"{"arguments":{}}"#, "no name"),
            (&name, "no name"),
            (&huge, "too long"),
        ] {
            let error = asked(params, &scope(RULES, 1 << 20, false)).unwrap_err();
            assert!(error.contains(want) && !error.contains("/b"), "{params:.80}: {error}");
        }
    }

    #[test]
    fn size_hash_and_the_whole() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hexadecimal(&Sha256::digest("abc")), abc);
        let text = r#"{ "a" : "\u0062" }"#;
        let params = format!(r#"{{"name":"t","arguments":{text}}}"#);
        let ask = asked(&params, &scope("{}", 100, true)).unwrap();
        assert_eq!((ask.size, ask.whole.as_deref()), (18, Some(text)));
        assert_eq!(ask.sha256, hexadecimal(&Sha256::digest(text)));
        assert_eq!((ask.call, ask.tool.as_str(), ask.elicits), (7, "t", true));
        assert_eq!(asked(&params, &scope("{}", 100, false)).unwrap().whole, None);
        assert_eq!(asked(&params, &scope("{}", 17, true)).unwrap().whole, None, "longer than allowed");
        let none = asked(r#"{"name":"t"}"#, &scope("{}", 100, true)).unwrap();
        assert_eq!((none.size, none.whole, none.sha256), (0, None, hexadecimal(&Sha256::digest(""))));
        let long = format!(r#"{{"name":"t","arguments":{{"a":"{}"}}}}"#, "x".repeat(MAX_AUDITED_ARGUMENTS));
        let ask = asked(&long, &scope("{}", 1 << 20, true)).unwrap();
        assert_eq!((ask.size, ask.whole), (MAX_AUDITED_ARGUMENTS as u64 + 8, None));
    }
}
