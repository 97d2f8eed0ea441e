//! A double of GitHub's REST API, as far as an app needs it: it verifies the app's signed token with the public key,
//! narrows what it gives, and forgets tokens that revoke themselves. Rules: GitHub's documentation, "Generating a JSON
//! Web Token for a GitHub App" and "Create an installation access token for an app".

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::tempdir::TempDir;

/// The app's id.
pub const APP: &str = "31415";
/// The number of its installation.
pub const INSTALLATION: &str = "2718";

/// A running double.
pub struct Github {
    /// Its port on 127.0.0.1.
    pub port: u16,
    state: Arc<Mutex<State>>,
    dir: TempDir,
}

#[derive(Default)]
struct State {
    public_key: PathBuf,
    scratch: PathBuf,
    /// Tokens that are alive, with the body that asked for them.
    alive: BTreeMap<String, Value>,
    made: usize,
    generous: bool,
    calls: Vec<String>,
}

impl Github {
    /// Starts it with a new key of the app's.
    ///
    /// # Panics
    /// When openssl is not there.
    #[must_use]
    pub fn start() -> Self {
        let dir = TempDir::new("github");
        let (key, public_key) = (dir.path().join("key"), dir.path().join("public"));
        openssl(Command::new("openssl").args(["genpkey", "-quiet", "-algorithm", "RSA", "-out"]).arg(&key));
        openssl(
            Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public_key),
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State { public_key, scratch: dir.path().join("jwt"), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, state, dir }
    }

    /// The app's private key, PEM.
    #[must_use]
    pub fn key(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("key")).expect("it was made")
    }

    /// The tokens that are alive.
    #[must_use]
    pub fn alive(&self) -> Vec<String> {
        self.state.lock().expect("nobody panicked").alive.keys().cloned().collect()
    }

    /// What was asked for, in order: method, path and status.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().expect("nobody panicked").calls.clone()
    }

    /// Gives more than was asked for from now on.
    pub fn be_generous(&self) {
        self.state.lock().expect("nobody panicked").generous = true;
    }
}

fn openssl(command: &mut Command) {
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "openssl failed: {command:?}");
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut bearer, mut last) = (String::new(), 0, String::new(), false);
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "connection" => last = value == "close",
                "authorization" => bearer = value.strip_prefix("Bearer ").unwrap_or("").to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = path.split('?').next().unwrap_or("");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut state = state.lock().expect("nobody panicked");
        let (status, answer) = state.answer(method, path, &bearer, &body);
        state.calls.push(format!("{method} {path} {status}"));
        drop(state);
        let text = if status == 204 { String::new() } else { answer.to_string() };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        if reader.get_mut().write_all(format!("{head}{text}").as_bytes()).is_err() || last {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, method: &str, path: &str, bearer: &str, body: &Value) -> (u16, Value) {
        let tokens = format!("/app/installations/{INSTALLATION}/access_tokens");
        match (method, path) {
            ("GET", "/app") | ("POST", _) if !self.is_the_app(bearer) => {
                (401, json!({ "message": "Bad credentials" }))
            }
            ("GET", "/app") => (200, json!({ "slug": "broker" })),
            ("POST", path) if path == tokens => self.give(body),
            ("POST", _) => (404, json!({ "message": "Not Found" })),
            _ if !self.alive.contains_key(bearer) => (401, json!({ "message": "Bad credentials" })),
            ("DELETE", "/installation/token") => {
                self.alive.remove(bearer);
                (204, Value::Null)
            }
            ("GET", "/installation/repositories") => (200, self.alive[bearer]["repositories"].clone()),
            ("GET", path) => {
                let name = path.strip_prefix("/repos/acme/").and_then(|rest| rest.strip_suffix("/contents/"));
                let has = |name: &str| {
                    self.alive[bearer]["repositories"]
                        .as_array()
                        .is_some_and(|all| all.contains(&name.into()))
                };
                if name.is_some_and(has) {
                    (200, json!([]))
                } else {
                    (404, json!({ "message": "Not Found" }))
                }
            }
            _ => (403, json!({ "message": "Resource not accessible by integration" })),
        }
    }

    fn give(&mut self, body: &Value) -> (u16, Value) {
        let names = body["repositories"].as_array().cloned().unwrap_or_default();
        if names.iter().any(|name| name != "orders" && name != "pay") {
            return (422, json!({ "message": "There is at least one repository that does not exist" }));
        }
        self.made += 1;
        let token = format!("ghs_{}{}", uuid::Uuid::new_v4().simple(), self.made);
        self.alive.insert(token.clone(), body.clone());
        let mut permissions = body["permissions"].clone();
        permissions["metadata"] = "read".into();
        if self.generous {
            permissions["administration"] = "write".into();
        }
        let repositories: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        let end = Command::new("date").args(["-u", "-d", "1 hour", "+%Y-%m-%dT%H:%M:%SZ"]).output();
        let end = String::from_utf8(end.expect("date runs").stdout).expect("text");
        let answer = json!({
            "token": token, "expires_at": end.trim(), "permissions": permissions,
            "repository_selection": "selected", "repositories": repositories,
        });
        (201, answer)
    }

    /// Whether it is a token that the app signed, for ten minutes at most.
    fn is_the_app(&self, jwt: &str) -> bool {
        let Some((signed, signature)) = jwt.rsplit_once('.') else { return false };
        let Some((head, claims)) = signed.split_once('.') else { return false };
        let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap_or(Value::Null);
        let (head, claims) = (json(head), json(claims));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
        let time = |name: &str| claims[name].as_u64().unwrap_or(0);
        head["alg"] == "RS256"
            && claims["iss"] == APP
            && time("iat") <= now
            && time("exp") > now
            && time("exp") <= now + 600
            && self.verifies(signed, &decode(signature))
    }

    fn verifies(&self, signed: &str, signature: &[u8]) -> bool {
        let at = |end: &str| PathBuf::from(format!("{}.{end}", self.scratch.display()));
        std::fs::write(at("sig"), signature).expect("the directory is ours");
        std::fs::write(at("text"), signed).expect("the directory is ours");
        let check = |public: &Path| {
            let mut command = Command::new("openssl");
            command
                .args(["dgst", "-sha256", "-verify"])
                .arg(public)
                .arg("-signature")
                .arg(at("sig"))
                .arg(at("text"));
            command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        check(&self.public_key)
    }
}

/// base64url without padding (RFC 4648 section 5).
fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.chars().filter_map(|c| DIGITS.find(c)) {
        bits = bits << 6 | u32::try_from(digit).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}
