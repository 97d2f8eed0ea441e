//! Ways to write a call of a hidden tool so that a relay and a server could read it differently, by name. Each one holds
//! such a call somewhere, or asks for something else that no scope names. Nothing is sent here.

use e2e::parts::seen;

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"e2e","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

/// The era of a server, and of what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Handshake,
    Stateless,
}

impl Era {
    pub(crate) const BOTH: [Self; 2] = [Self::Handshake, Self::Stateless];

    /// A server of it.
    pub(crate) fn command(self) -> [&'static str; 3] {
        let python = if self == Self::Handshake { seen::PYTHON_1 } else { seen::PYTHON_2 };
        [python, "-B", seen::TOOLS]
    }

    /// The parameters of a request, with what its era asks of them.
    fn params(self, inside: &str) -> String {
        match self {
            Self::Handshake => format!("{{{inside}}}"),
            Self::Stateless => format!("{{{inside},{META}}}"),
        }
    }

    /// A request, with the id as it is to be written.
    pub(crate) fn request(self, id: &str, method: &str, inside: &str) -> String {
        let params = self.params(inside);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    }

    /// A call, with the rest of its parameters.
    fn call(self, inside: &str) -> String {
        self.request("900", "tools/call", inside)
    }

    /// The call itself.
    pub(crate) fn hidden(self) -> String {
        self.call(r#""name":"hidden","arguments":{"text":"x"}"#)
    }

    fn ping(self) -> String {
        self.request("901", "ping", r#""none":0"#)
    }
}

type Attack = (&'static str, Vec<u8>);

/// All of them, each with its line feed.
pub(crate) fn attacks(era: Era) -> Vec<Attack> {
    let texts = [lines(era), names_twice(era), shapes(era), ids(era), names(era), others(era)].concat();
    let texts = texts.into_iter().map(|(name, text)| (name, text.into_bytes()));
    let all = texts.chain(bytes(era)).chain(nested(era));
    all.map(|(name, mut bytes)| {
        bytes.push(b'\n');
        (name, bytes)
    })
    .collect()
}

fn notification(inside: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"a":{inside}}}}}"#)
}

/// What ends a line for one reader, and for the other does not.
fn lines(era: Era) -> Vec<(&'static str, String)> {
    let (hidden, ping) = (era.hidden(), era.ping());
    let within = |before: &str, after: &str| notification(&format!("{before}{hidden}{after}"));
    vec![
        ("the call itself", hidden.clone()),
        ("a carriage return inside", within("\r", "\r")),
        ("a carriage return inside a request", era.request("902", "ping", &format!("\"a\":\r{hidden}\r"))),
        ("a carriage return before", format!("\r{hidden}")),
        ("a carriage return after", format!("{hidden}\r")),
        ("two, parted by a carriage return", format!("{ping}\r{hidden}")),
        ("many carriage returns", within("\r\r\r", "\r\r\r")),
        ("a line separator inside", within("\u{2028}", "\u{2028}")),
        ("a next line inside", within("\u{85}", "\u{85}")),
        ("a vertical tab inside", within("\u{b}", "\u{c}")),
        ("a file separator inside", within("\u{1c}", "\u{1e}")),
        ("a batch", format!("[{hidden}]")),
        ("a batch with another", format!("[{ping},{hidden}]")),
        ("two objects on a line", format!("{ping}{hidden}")),
        ("two objects with a space between", format!("{ping} {hidden}")),
        ("a byte order mark", format!("\u{feff}{hidden}")),
        ("a byte order mark and a batch", format!("\u{feff}[{hidden}]")),
    ]
}

/// Keys that are there twice: one reader takes the first, another the last.
fn names_twice(era: Era) -> Vec<(&'static str, String)> {
    let hidden = era.params(r#""name":"hidden","arguments":{}"#);
    let allowed = era.params(r#""name":"echo","arguments":{}"#);
    let methods = |first: &str, second: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":900,"method":"{first}","method":"{second}","params":{hidden}}}"#)
    };
    let params = |first: &str, second: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":900,"method":"tools/call","params":{first},"params":{second}}}"#)
    };
    let names = |first: &str, second: &str| era.call(&format!(r#"{first},"arguments":{{}},{second}"#));
    vec![
        ("the method twice, the call last", methods("ping", "tools/call")),
        ("the method twice, the call first", methods("tools/call", "ping")),
        (
            "the method twice, once escaped",
            methods("ping", "tools/call").replacen("method", r"m\u0065thod", 1),
        ),
        ("the name twice, the hidden one last", names(r#""name":"echo""#, r#""name":"hidden""#)),
        ("the name twice, the hidden one first", names(r#""name":"hidden""#, r#""name":"echo""#)),
        ("the name twice, once escaped", names(r#""name":"echo""#, r#""n\u0061me":"hidden""#)),
        ("the parameters twice, the hidden ones last", params(&allowed, &hidden)),
        ("the parameters twice, the hidden ones first", params(&hidden, &allowed)),
    ]
}

/// What is a message of one kind to one reader, and of another kind to the other.
fn shapes(era: Era) -> Vec<(&'static str, String)> {
    let hidden = era.params(r#""name":"hidden","arguments":{}"#);
    let with = |head: &str| format!(r#"{{{head},"method":"tools/call","params":{hidden}}}"#);
    vec![
        ("a result beside a method", with(r#""jsonrpc":"2.0","id":900,"result":{}"#)),
        ("an error beside a method", with(r#""jsonrpc":"2.0","id":900,"error":{"code":1,"message":""}"#)),
        ("a notification", with(r#""jsonrpc":"2.0""#)),
        ("no version", with(r#""id":900"#)),
        ("another version", with(r#""jsonrpc":"1.0","id":900"#)),
        ("a comment", era.hidden().replacen('{', "{/**/", 1)),
        ("a comma at the end", era.hidden().replace("}}}", "}},}")),
    ]
}

fn ids(era: Era) -> Vec<(&'static str, String)> {
    let with = |id: &str| era.hidden().replace("900", id);
    let wait = era.request("900", "tools/call", r#""name":"wait","arguments":{"seconds":0.1}"#);
    vec![
        ("a null for an id", with("null")),
        ("a fraction for an id", with("9e2")),
        ("a long number for an id", with("123456789012345678901234567890")),
        ("an object for an id", with(r#"{"a":1}"#)),
        ("a number that is none", with("NaN")),
        ("the id of an allowed call", format!("{wait}\n{}", era.hidden())),
    ]
}

fn names(era: Era) -> Vec<(&'static str, String)> {
    let hidden = r#""name":"hidden","arguments":{}"#;
    vec![
        ("an escaped name", era.call(r#""name":"h\u0069dden","arguments":{}"#)),
        ("an escaped method", era.request("900", r"tools\u002fcall", hidden)),
        ("an escaped slash", era.request("900", r"tools\/call", hidden)),
        ("the name in a list", era.call(r#""name":["hidden"],"arguments":{}"#)),
        ("white space about the name", era.call(r#""name":" hidden ","arguments":{}"#)),
        ("a NUL after the name", era.call(r#""name":"hidden\u0000","arguments":{}"#)),
        ("a star for a name", era.call(r#""name":"*","arguments":{}"#)),
        ("an allowed name in the arguments", era.call(r#""name":"hidden","arguments":{"name":"echo"}"#)),
        ("a lone surrogate", era.call(r#""name":"hidden","arguments":{"text":"\ud800"}"#)),
    ]
}

fn others(era: Era) -> Vec<(&'static str, String)> {
    vec![
        ("as a task", era.call(r#""name":"hidden","arguments":{},"task":{"ttl":60000}"#)),
        ("as a retry", era.call(r#""name":"hidden","arguments":{},"requestState":"x","inputResponses":{}"#)),
        ("a closed resource", era.request("900", "resources/read", r#""uri":"note://closed""#)),
        ("a closed prompt", era.request("900", "prompts/get", r#""name":"closed_prompt""#)),
    ]
}

/// What is no text.
fn bytes(era: Era) -> Vec<Attack> {
    let hidden = era.hidden().into_bytes();
    let broken =
        [br#"{"jsonrpc":"2.0","method":"x","params":{"a":"#, &b"\"\xff\xfe\""[..], b",\"b\":"].concat();
    vec![
        ("invalid UTF-8", [&broken[..], &hidden, b"}}"].concat()),
        ("invalid UTF-8 and a carriage return", [&broken[..], b"\r", &hidden, b"\r}}"].concat()),
        ("a NUL before", [&b"\0"[..], &hidden].concat()),
        ("UTF-16", era.hidden().encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ]
}

fn nested(era: Era) -> Vec<Attack> {
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let call = era.call(&format!(r#""arguments":{{"text":{open}{close}}},"name":"hidden""#));
    vec![
        ("deep in brackets", call.into_bytes()),
        ("deep in brackets that stay open", format!("{open}{}", era.hidden()).into_bytes()),
    ]
}
