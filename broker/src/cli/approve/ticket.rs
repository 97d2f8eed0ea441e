//! The credentials of a trial: asked for at the admin socket, held as long as the connection is, put into the
//! environment of each child as the definition says, and known by every form in which a server could show them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use mcp_broker_proto::approval::TrialRequest;
use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use mcp_broker_proto::launch::{Injection, LaunchTicket, SecretsTicket};
use mcp_broker_proto::names::{Label, ServerName};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::template::{FILTERS, Template};
use mcp_broker_proto::{MAX_FRAME, PROTOCOL, Secret, paths};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::deliver::{Environment, deliver};
use super::place::Room;

/// A mint answers within this time, whatever its provider does.
const TICKET_LIMIT: Duration = Duration::from_secs(60);

/// The broker is given so long to end what a trial had before this command says that it is over.
const OVER_LIMIT: Duration = Duration::from_secs(15);

/// No refusal is longer.
const MAX_PROBLEM: usize = 64 << 10;

/// What is shorter is no secret that could be told from other text.
const SHORTEST: usize = 6;

/// Why there are no credentials, or none any more.
pub(super) enum NoTicket {
    /// The broker says why.
    Problem(Box<Problem>),
    /// The channel does not work.
    Channel(String),
}

/// The connection that the credentials of one scope live as long as.
pub(super) struct Channel(BufReader<TokioIo<Upgraded>>);

/// The credentials of one scope.
pub(super) struct Held {
    ticket: SecretsTicket,
    credentials: BTreeMap<Label, BTreeMap<String, Secret>>,
    /// Every form of every secret.
    forms: Vec<Secret>,
}

impl Channel {
    /// Asks for the credentials of a scope.
    ///
    /// # Errors
    /// Where there are none.
    pub(super) async fn ask(
        socket: &Path,
        server: &ServerName,
        scope: &Label,
    ) -> Result<(Self, Held), NoTicket> {
        let channel = |error: String| NoTicket::Channel(error);
        let stream = open(socket, server, scope).await?;
        let mut stream = BufReader::new(TokioIo::new(stream));
        let waiting = async {
            loop {
                match frame(&mut stream).await? {
                    ToLauncher::Beat => beat(&mut stream).await?,
                    ToLauncher::Ticket(ticket) => return Ok(ticket),
                    ToLauncher::Refused { problem, .. } => return Err(NoTicket::Problem(Box::new(problem))),
                    ToLauncher::End(end) => {
                        return Err(channel(format!("the broker ended it: {}", end.hint)));
                    }
                    _ => {}
                }
            }
        };
        let ticket = timeout(TICKET_LIMIT, waiting).await;
        let ticket = ticket.map_err(|_elapsed| channel("the broker did not answer in time".to_owned()))??;
        let LaunchTicket::Secrets(mut ticket) = *ticket else {
            return Err(channel("the broker keeps the credentials to itself".to_owned()));
        };
        let credentials: BTreeMap<_, _> = std::mem::take(&mut ticket.credentials)
            .into_iter()
            .map(|(name, credential)| (name, credential.fields))
            .collect();
        let forms = forms(&credentials, &ticket.inject);
        Ok((Self(stream), Held { ticket, credentials, forms }))
    }

    /// Ready when the broker takes the credentials back before they are given back.
    pub(super) async fn lost(&mut self) -> String {
        loop {
            match frame(&mut self.0).await {
                Ok(ToLauncher::Beat) if beat(&mut self.0).await.is_ok() => {}
                Ok(ToLauncher::Beat) => return "the connection to the broker broke".to_owned(),
                Ok(ToLauncher::End(end)) => return format!("the broker ended the trial; {}", end.hint),
                Ok(_) => return "the broker took the credentials back".to_owned(),
                Err(_) => return "the connection to the broker broke".to_owned(),
            }
        }
    }

    /// Gives the credentials back, and waits until the broker has ended them, or says that it does not in time.
    pub(super) async fn give_back(self) -> bool {
        let Self(mut stream) = self;
        let over = async {
            say(&mut stream, &ToBroker::Dead).await?;
            let mut rest = Vec::new();
            loop {
                rest.clear();
                if stream.read_until(b'\n', &mut rest).await? == 0 {
                    return Ok::<_, std::io::Error>(());
                }
            }
        };
        timeout(OVER_LIMIT, over).await.is_ok()
    }
}

impl Held {
    /// What the broker would run, to compare with what is tried.
    pub(super) fn ticket(&self) -> &SecretsTicket {
        &self.ticket
    }

    /// Puts the credentials where the definition says.
    ///
    /// # Errors
    /// Where a template does not fit them, or a file cannot be written.
    pub(super) fn inject(&self, environment: &mut Environment, room: &Room) -> Result<(), String> {
        for injection in &self.ticket.inject {
            deliver(injection, &self.credentials, environment, room)
                .map_err(|why| format!("the value of `{}` cannot be made: {why}", injection.name()))?;
        }
        Ok(())
    }

    /// Whether a text shows a secret, in any of its forms.
    pub(super) fn shown_in(&self, text: &str) -> bool {
        // EXPOSE: compared in place, never copied.
        self.forms.iter().any(|form| form.expose(|form| text.contains(form)))
    }

    /// The text without its secrets.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut masked = Zeroizing::new(text.to_owned());
        for form in &self.forms {
            // EXPOSE: compared in place; the text before is wiped.
            masked = Zeroizing::new(form.expose(|form| masked.replace(form, "[masked]")));
        }
        std::mem::take(&mut *masked)
    }
}

async fn open(socket: &Path, server: &ServerName, scope: &Label) -> Result<Upgraded, NoTicket> {
    let channel = |error: &dyn std::fmt::Display| NoTicket::Channel(error.to_string());
    let stream = UnixStream::connect(socket).await.map_err(|error| channel(&error))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| channel(&error))?;
    tokio::spawn(connection.with_upgrades());
    let request = TrialRequest { protocol: PROTOCOL, server: server.clone(), scope: scope.clone() };
    // Serialising these types into memory cannot fail.
    let body = Full::new(Bytes::from(serde_json::to_vec(&request).unwrap_or_default()));
    let request = Request::post(paths::ADMIN_TRIALS)
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, paths::UPGRADE)
        .body(body)
        .map_err(|error| channel(&error))?;
    let response = sender.send_request(request).await.map_err(|error| channel(&error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return hyper::upgrade::on(response).await.map_err(|error| channel(&error));
    }
    let body = Limited::new(response.into_body(), MAX_PROBLEM).collect().await;
    let problem = body.ok().and_then(|body| serde_json::from_slice::<Problem>(&body.to_bytes()).ok());
    Err(problem.map_or_else(
        || channel(&"the broker did not answer as one of this version does"),
        |problem| NoTicket::Problem(Box::new(problem)),
    ))
}

/// Answers a beat: the broker ends the trial of a command that is silent.
async fn beat(stream: &mut BufReader<TokioIo<Upgraded>>) -> Result<(), NoTicket> {
    say(stream, &ToBroker::Beat).await.map_err(|error| NoTicket::Channel(error.to_string()))
}

async fn say(stream: &mut BufReader<TokioIo<Upgraded>>, frame: &ToBroker) -> std::io::Result<()> {
    // Serialising these frames into memory cannot fail.
    let mut line = serde_json::to_vec(frame).unwrap_or_default();
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// The next frame of the broker, wiped once it is understood.
async fn frame(stream: &mut BufReader<TokioIo<Upgraded>>) -> Result<ToLauncher, NoTicket> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_FRAME));
    let limit = u64::try_from(MAX_FRAME).unwrap_or(u64::MAX);
    let read = stream.take(limit).read_until(b'\n', &mut line).await;
    let read = read.map_err(|error| NoTicket::Channel(error.to_string()))?;
    if read == 0 {
        return Err(NoTicket::Channel("the broker closed the connection".to_owned()));
    }
    serde_json::from_slice(&line)
        .map_err(|_malformed| NoTicket::Channel("the broker's answer cannot be understood".to_owned()))
}

/// Each field as it is and through each filter of templates, each value as it is injected, and all that in hexadecimal.
fn forms(credentials: &BTreeMap<Label, BTreeMap<String, Secret>>, inject: &[Injection]) -> Vec<Secret> {
    let mut forms = Vec::new();
    for (credential, fields) in credentials {
        for field in fields.keys() {
            let plain = std::iter::once(format!("{{{credential}.{field}}}"));
            let filtered = FILTERS.iter().map(|filter| format!("{{{credential}.{field}|{filter}}}"));
            let templates = plain.chain(filtered).filter_map(|text| text.parse::<Template>().ok());
            forms.extend(templates.filter_map(|template| template.render(credentials).ok()));
        }
    }
    let templates = inject.iter().flat_map(Injection::templates);
    forms.extend(templates.filter_map(|template| template.render(credentials).ok()));
    forms.retain(|form| form.len() >= SHORTEST);
    // EXPOSE: spelled in hexadecimal, in buffers that are wiped.
    let digits: Vec<_> = forms.iter().flat_map(|form| form.expose(hexadecimal)).collect();
    forms.extend(digits);
    // The longest first, so that what holds others is masked as a whole.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms
}

/// A text's bytes in hexadecimal, in lower and in upper case.
fn hexadecimal(text: &str) -> [Secret; 2] {
    let spell = |digits: &str| {
        let digit = |nibble: u8| digits.chars().nth(usize::from(nibble)).unwrap_or_default();
        // Of its full size from the start, so that nothing is moved and left behind.
        let mut spelled = String::with_capacity(2 * text.len());
        spelled.extend(text.bytes().flat_map(|byte| [byte >> 4, byte & 15]).map(digit));
        Secret::new(spelled)
    };
    [spell("0123456789abcdef"), spell("0123456789ABCDEF")]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_in_every_form() {
        let id = "0199f3a8-0000-7000-8000-000000000000";
        let text = format!(
            r#"{{"launch":"{id}","instance":0,"idle_secs":0,"server":"s","scope":"read","command":["/bin/s"],"cwd":"/",
            "env":{{}},"credentials":{{"db":{{"lease":"{id}","fields":{{"pw":"p\"w /long","short":"abc"}},"expires_at":null,
            "revocability":"immediate"}}}},"inject":[{{"way":"env","name":"DSN","value":"x://{{db.pw|url}}@h"}}]}}"#
        );
        let mut ticket: SecretsTicket = serde_json::from_str(&text).unwrap();
        let credentials: BTreeMap<_, _> = std::mem::take(&mut ticket.credentials)
            .into_iter()
            .map(|(name, one)| (name, one.fields))
            .collect();
        let forms = forms(&credentials, &ticket.inject);
        let held = Held { ticket, credentials, forms };
        for shown in [
            "a p\"w /long b",
            "p%22w%20%2Flong",
            r#"{"a":"p\"w /long"}"#,
            "cCJ3IC9sb25n",
            "x://p%22w%20%2Flong@h",
            "702277202f6c6f6e67",
            "702277202F6C6F6E67",
        ] {
            assert!(held.shown_in(shown), "{shown}");
            let masked = held.masked(shown);
            assert!(masked.contains("[masked]") && !masked.contains("long"), "{masked}");
        }
        assert!(!held.shown_in("abc is too short to be told from other text"));
    }
}
