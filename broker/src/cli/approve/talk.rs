//! A conversation with a throw-away server, as a client of one kind: asks, waits for the answer, and tells whatever
//! the server asks in between that it cannot have it. Says nothing that a real client would not.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::child::{Ended, Running};

/// JSON-RPC's code for a method that there is not (JSON-RPC 2.0, section 5.1).
const NO_SUCH_METHOD: i64 = -32601;

/// A kind of client: the revision that it speaks, and whether it offers everything or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// The revision.
    pub(super) revision: &'static str,
    /// Whether it offers sampling, elicitation and roots.
    pub(super) capable: bool,
}

/// The revision whose requests stand alone.
pub(super) const STATELESS: &str = "2026-07-28";

impl Kind {
    /// Whether it shakes no hands.
    pub(super) fn is_stateless(self) -> bool {
        self.revision == STATELESS
    }

    fn capabilities(self) -> Value {
        match self.capable {
            true => json!({ "sampling": {}, "elicitation": {}, "roots": { "listChanged": true } }),
            false => json!({}),
        }
    }

    fn client() -> Value {
        json!({ "name": "mcp-broker", "version": env!("CARGO_PKG_VERSION") })
    }

    /// What `initialize` is asked with.
    pub(super) fn handshake(self) -> Value {
        json!({
            "protocolVersion": self.revision,
            "capabilities": self.capabilities(),
            "clientInfo": Self::client(),
        })
    }

    /// What every request of the stateless era carries (MCP 2026-07-28, basic).
    fn meta(self) -> Value {
        json!({
            "io.modelcontextprotocol/protocolVersion": self.revision,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities(),
            "io.modelcontextprotocol/clientInfo": Self::client(),
        })
    }
}

/// Why a conversation came to nothing.
pub(super) enum Trouble {
    /// The server ended, or cannot be understood, while it was asked this.
    Broken {
        /// What it was asked.
        asked: &'static str,
        /// What went wrong.
        why: String,
    },
    /// It did not answer in time.
    Slow(&'static str),
    /// It answered with an error where it has to answer.
    Error {
        /// What it was asked.
        asked: &'static str,
        /// Its code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// It has more than can be recorded, or its lists never come to rest.
    TooMuch(String),
}

/// What a server answered.
pub(super) enum Answer {
    Result(Value),
    Error { code: i64, message: String },
}

impl Answer {
    /// Whether it says that the method is not there.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Error { code, .. } if *code == NO_SUCH_METHOD)
    }
}

/// One conversation.
pub(super) struct Talk {
    child: Running,
    kind: Kind,
    next: u64,
    until: Instant,
    line: Vec<u8>,
    /// The server said that a list has changed, since that was last asked.
    changed: bool,
}

impl Talk {
    pub(super) fn new(child: Running, kind: Kind, until: Instant) -> Self {
        Self { child, kind, next: 1, until, line: Vec::new(), changed: false }
    }

    /// Kills the server.
    pub(super) async fn end(self) -> Ended {
        self.child.end().await
    }

    /// Whether a list has changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) async fn ask(&mut self, method: &'static str, mut params: Value) -> Result<Answer, Trouble> {
        if self.kind.is_stateless()
            && let Some(object) = params.as_object_mut()
        {
            object.insert("_meta".to_owned(), self.kind.meta());
        }
        let id = self.next;
        self.next += 1;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let broken = |error: io::Error| Trouble::Broken { asked: method, why: error.to_string() };
        self.child.say(&request.to_string()).await.map_err(broken)?;
        loop {
            let message = match timeout_at(self.until, self.hear()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => {
                    let why = "it closed its standard output".to_owned();
                    return Err(Trouble::Broken { asked: method, why });
                }
                Ok(Err(error)) => return Err(broken(error)),
                Err(_elapsed) => return Err(Trouble::Slow(method)),
            };
            if message.get("method").is_none() && message.get("id") == Some(&json!(id)) {
                return answer(method, message);
            }
        }
    }

    /// Tells it something.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub(super) async fn tell(&mut self, method: &'static str) -> Result<(), Trouble> {
        let said = self.child.say(&json!({ "jsonrpc": "2.0", "method": method }).to_string()).await;
        said.map_err(|error| Trouble::Broken { asked: method, why: error.to_string() })
    }

    /// Listens until it has said nothing for `quiet`. What it says then is nobody's answer.
    ///
    /// # Errors
    /// Where it ends, or does not stop talking.
    pub(super) async fn rest(&mut self, quiet: Duration) -> Result<(), Trouble> {
        loop {
            let until = (Instant::now() + quiet).min(self.until);
            match timeout_at(until, self.hear()).await {
                Err(_elapsed) if until == self.until => {
                    return Err(Trouble::Slow("notifications/initialized"));
                }
                Err(_elapsed) => return Ok(()),
                Ok(Ok(Some(_))) => {}
                Ok(other) => {
                    let why = match other {
                        Err(error) => error.to_string(),
                        Ok(_) => "it closed its standard output".to_owned(),
                    };
                    return Err(Trouble::Broken { asked: "notifications/initialized", why });
                }
            }
        }
    }

    /// The next message, after the server was told what it can have. May be dropped at any time: what was read of a
    /// line is kept.
    async fn hear(&mut self) -> io::Result<Option<Value>> {
        loop {
            if !self.child.line(&mut self.line).await? {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.line);
            // Some servers print other things there, too; a client passes them over.
            let Ok(message @ Value::Object(_)) = serde_json::from_slice::<Value>(&line) else { continue };
            let method = message.get("method").and_then(Value::as_str);
            match (method, message.get("id")) {
                (Some(method), Some(id)) => {
                    let reply = match method {
                        "ping" => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
                        _ => {
                            let error =
                                json!({ "code": NO_SUCH_METHOD, "message": "nobody is there in a trial" });
                            json!({ "jsonrpc": "2.0", "id": id, "error": error })
                        }
                    };
                    self.child.say(&reply.to_string()).await?;
                }
                (Some(method), None) => self.changed |= method.ends_with("/list_changed"),
                (None, _) => {}
            }
            return Ok(Some(message));
        }
    }
}

fn answer(asked: &'static str, mut message: Value) -> Result<Answer, Trouble> {
    if let Some(result) = message.get_mut("result").filter(|result| result.is_object()) {
        return Ok(Answer::Result(result.take()));
    }
    let Some(error) = message.get("error") else {
        return Err(Trouble::Broken { asked, why: "its answer is none".to_owned() });
    };
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    let words = error.get("message").and_then(Value::as_str).unwrap_or_default();
    Ok(Answer::Error { code, message: words.to_owned() })
}
