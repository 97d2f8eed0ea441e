//! A scripted HTTP proxy in front of the real OpenBao. It is a double only for what no real server can be
//! told to do: to be slow, to answer 500 or broken JSON, to lose an answer. Whatever no rule matches passes to
//! the real server unchanged, and every request is written down.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::http::{find, header};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The proxy answers itself; the real server never hears of it.
    Answer(u16, &'static str, &'static str),
    /// It passes after so long, or not at all where the caller has gone by then.
    Delay(Duration),
    /// It passes, and its answer comes back after so long: the work was done long before.
    DelayAnswer(Duration),
    /// It passes, and the connection is closed instead of an answer: the work was done, nobody knows.
    LoseAnswer,
    /// The connection is closed at once.
    Drop,
}

impl Fault {
    /// An error as OpenBao writes them.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(status, r#"{"errors":["scripted by the test, with s.canary-in-a-reply"]}"#, "")
    }

    /// A success whose body ends in the middle.
    #[must_use]
    pub fn broken_json() -> Self {
        Self::Answer(200, r#"{"data": {"username": "canary-in-a-reply", "pass"#, "")
    }
}

/// One request as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path without `/v1/`, with its query.
    pub path: String,
    /// Whether a rule caught it.
    pub caught: bool,
    /// The token that it was made with, to search for.
    pub token: Option<String>,
}

struct Rule {
    path: String,
    fault: Fault,
    left: usize,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    down: bool,
}

/// A running proxy. Its threads end with the test process.
pub struct FaultProxy {
    /// Its port on 127.0.0.1.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl FaultProxy {
    /// In front of the server on `upstream`.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || accept(listener, port, upstream, &shared));
        Self { port, state }
    }

    /// Every request whose path begins so (`*` for all) meets the fault, until [`Self::heal`].
    pub fn always(&self, path: &str, fault: Fault) {
        self.times(usize::MAX, path, fault);
    }

    /// The next `times` such requests meet it.
    pub fn times(&self, times: usize, path: &str, fault: Fault) {
        self.state.lock().unwrap().rules.push(Rule { path: path.to_owned(), fault, left: times });
    }

    /// Forgets all rules; connections are accepted again.
    pub fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.rules.clear();
        state.down = false;
        drop(state);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }

    /// Refuses connections from now on, as a server that is not there does.
    ///
    /// # Panics
    /// When the port stays open.
    pub fn down(&self) {
        self.state.lock().unwrap().down = true;
        crate::eventually("the proxy's port is closed", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err().then_some(())
        });
    }

    /// Every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Every token that was ever used.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        let mut tokens: Vec<String> = self.seen().into_iter().filter_map(|seen| seen.token).collect();
        tokens.sort();
        tokens.dedup();
        tokens
    }

    /// How many requests so far have a path that begins so.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| matches(path, &seen.path)).count()
    }
}

fn matches(prefix: &str, path: &str) -> bool {
    prefix == "*" || path.starts_with(prefix)
}

fn accept(mut listener: TcpListener, port: u16, upstream: u16, state: &Arc<Mutex<State>>) {
    loop {
        let accepted = listener.accept();
        if state.lock().unwrap().down {
            drop((accepted, listener));
            while state.lock().unwrap().down {
                sleep(Duration::from_millis(10));
            }
            listener = loop {
                match TcpListener::bind(("127.0.0.1", port)) {
                    Ok(listener) => break listener,
                    Err(_) => sleep(Duration::from_millis(10)),
                }
            };
            continue;
        }
        if let Ok((stream, _)) = accepted {
            let state = Arc::clone(state);
            // A caller that goes away in the middle is part of the game.
            std::thread::spawn(move || drop(serve(stream, upstream, &state)));
        }
    }
}

fn serve(mut client: TcpStream, upstream: u16, state: &Mutex<State>) -> io::Result<()> {
    let Some((head, body)) = request(&mut client)? else { return Ok(()) };
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let path = target.strip_prefix("/v1/").unwrap_or(target).to_owned();
    let token = header(&head, "x-vault-token").map(str::to_owned);
    let fault = {
        let mut state = state.lock().unwrap();
        let rule = state.rules.iter_mut().find(|rule| rule.left > 0 && matches(&rule.path, &path));
        let fault = rule.map(|rule| {
            rule.left -= usize::from(rule.left != usize::MAX);
            rule.fault.clone()
        });
        state.seen.push(Seen { method, path, caught: fault.is_some(), token });
        fault
    };
    match fault {
        None => client.write_all(&forward(&head, &body, upstream)?),
        Some(Fault::Answer(status, body, headers)) => answer(&mut client, status, body, headers),
        Some(Fault::Delay(time)) => {
            if waited_for(&client, time)? {
                client.write_all(&forward(&head, &body, upstream)?)?;
            }
            Ok(())
        }
        Some(Fault::DelayAnswer(time)) => {
            let reply = forward(&head, &body, upstream)?;
            if waited_for(&client, time)? {
                client.write_all(&reply)?;
            }
            Ok(())
        }
        Some(Fault::LoseAnswer) => forward(&head, &body, upstream).map(drop),
        Some(Fault::Drop) => Ok(()),
    }
}

/// Waits so long; whether the caller is still there then.
fn waited_for(client: &TcpStream, time: Duration) -> io::Result<bool> {
    client.set_read_timeout(Some(Duration::from_millis(50)))?;
    let end = Instant::now() + time;
    let mut byte = [0];
    while Instant::now() < end {
        match client.peek(&mut byte) {
            Ok(0) => return Ok(false),
            Ok(_) => sleep(Duration::from_millis(50)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

fn request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut raw = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        if let Some(end) = find(&raw, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&raw[..end]).into_owned();
            let length = header(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0usize);
            if raw.len() >= end + 4 + length {
                return Ok(Some((head, raw[end + 4..end + 4 + length].to_vec())));
            }
        }
        match client.read(&mut buffer)? {
            0 => return Ok(None),
            n => raw.extend_from_slice(&buffer[..n]),
        }
    }
}

fn forward(head: &str, body: &[u8], upstream: u16) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    let hop = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
    let kept: Vec<&str> = head.lines().filter(hop).collect();
    server.write_all(format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).as_bytes())?;
    server.write_all(body)?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    Ok(reply)
}

fn answer(client: &mut TcpStream, status: u16, body: &str, headers: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}
