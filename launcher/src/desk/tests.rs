//! The desk as a program sees it: sockets of this very process, which counts as one of the tree below its own parent.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::getppid;
use rustix::time::Timespec;
use serde_json::{Value, json};

use super::*;

fn name() -> Label {
    "aws".parse().unwrap()
}

fn credential(key: &str, expires: &str) -> IssuedCredential {
    serde_json::from_value(json!({
        "lease": "0199f3a8-0000-7000-8000-000000000000", "expires_at": expires,
        "fields": { "access_key_id": key, "secret_access_key": "s", "session_token": "t" },
        "revocability": { "bounded": { "seconds": 900 } },
    }))
    .unwrap()
}

const LATER: &str = "2999-01-01T00:00:00Z";

/// A desk with one credential, and where to ask for it.
fn opened(keeper: Pid) -> (Desk, Endpoint, SocketAddrV4) {
    let mut desk = Desk::open(keeper).unwrap();
    desk.put(&name(), credential("one", LATER)).unwrap();
    let endpoint = desk.endpoint(&name()).unwrap();
    let host = endpoint.url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let address = host.parse().unwrap();
    (desk, endpoint, address)
}

fn ours() -> (Desk, Endpoint, SocketAddrV4) {
    opened(getppid().unwrap())
}

fn request(address: &SocketAddrV4, token: &str, more: &str) -> String {
    format!("GET /v1/aws/aws HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\n{more}\r\n")
}

/// Serves until the desk has had nothing to do for a moment.
fn serve(desk: &mut Desk) {
    let moment = Timespec { tv_sec: 0, tv_nsec: 30_000_000 };
    loop {
        let ready = {
            let Some(fd) = desk.fds().next() else { return };
            poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&moment)).unwrap()
        };
        if ready == 0 {
            return;
        }
        desk.serve(Instant::now());
    }
}

fn answer(stream: &mut (impl Read + Write)) -> (u16, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// Asks once over the port.
fn ask(desk: &mut Desk, address: SocketAddrV4, text: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    serve(desk);
    answer(&mut stream)
}

#[test]
fn what_is_asked_for_rightly_is_answered() {
    let (mut desk, endpoint, address) = ours();
    assert_eq!(endpoint.url, format!("http://{address}/v1/aws/aws"));
    let text = request(&address, &endpoint.token, "Accept: */*\r\n");
    let (status, body) = ask(&mut desk, address, &text);
    let want = json!({ "AccessKeyId": "one", "SecretAccessKey": "s", "Token": "t", "Expiration": LATER });
    assert_eq!((status, body), (200, want));
    desk.put(&name(), credential("two", LATER)).unwrap();
    assert_eq!(ask(&mut desk, address, &text).1["AccessKeyId"], "two");
    assert!(desk.put(&name(), credential("", LATER)).is_err());
    assert_eq!(ask(&mut desk, address, &text).1["AccessKeyId"], "two", "what does not fit takes no place");
    desk.put(&name(), credential("old", "2020-01-01T00:00:00Z")).unwrap();
    let (status, body) = ask(&mut desk, address, &text);
    assert_eq!((status, &body["code"]), (503, &json!("CredentialEnded")));
    serve(&mut desk);
    assert!(desk.hall.guests.iter().all(Option::is_none), "nobody is left");
}

#[test]
fn what_is_asked_for_otherwise_is_refused() {
    let (mut desk, endpoint, address) = ours();
    let token = endpoint.token.as_str();
    let good = request(&address, token, "");
    for (text, want) in [
        (good.replace(token, &"0".repeat(64)), 401),
        (good.replace("Authorization", "X-Authorization"), 401),
        (good.replace(token, &format!("Bearer {token}")), 401),
        (good.replace("/v1/aws/aws", "/v1/aws/other"), 404),
        (good.replace("/v1/aws/aws", "/v1/aws/aws/"), 404),
        (good.replace("/v1/aws/aws", "/v1/aws/aws?x"), 404),
        (good.replace("/v1/aws/aws", "/v1/aws-process/aws"), 404),
        (good.replace("127.0.0.1", "localhost"), 421),
        (good.replace("GET", "PUT"), 405),
        (request(&address, token, "X-Forwarded-For: 127.0.0.1\r\n"), 400),
        (request(&address, token, "Content-Length: 2\r\n") + "{}", 400),
        (format!("{good}{good}"), 400),
        ("x".repeat(100_000), 400),
    ] {
        let (status, body) = ask(&mut desk, address, &text);
        assert_eq!(status, want, "{text:.200}");
        assert!(body["code"].is_string() && body["message"].is_string() && !body.to_string().contains(token));
    }
    assert_eq!(ask(&mut desk, address, &good).0, 200, "it goes on all the same");
}

/// With everything that the instance's own programs have.
#[test]
fn a_stranger_is_refused_with_the_right_token_too() {
    let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let keeper = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let (mut desk, endpoint, address) = opened(keeper);
    let (status, body) = ask(&mut desk, address, &request(&address, &endpoint.token, ""));
    assert_eq!((status, &body["code"]), (403, &json!("NotOfThisServer")));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn nothing_is_given_after_it_was_withheld() {
    let (mut desk, endpoint, address) = ours();
    let text = request(&address, &endpoint.token, "");
    let mut early = TcpStream::connect(address).unwrap();
    early.write_all(&text.as_bytes()[..20]).unwrap();
    serve(&mut desk);
    desk.withhold();
    let (status, body) = answer(&mut early);
    assert_eq!((status, &body["code"]), (403, &json!("CredentialWithheld")));
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
    desk.put(&name(), credential("late", LATER)).unwrap();
    assert!(desk.shelf.document(&name(), Form::AwsEndpoint).is_err(), "and nothing comes back");
    assert!(desk.fds().next().is_none() && desk.next().is_none());
    desk.serve(Instant::now());
}

#[test]
fn the_unix_socket_takes_another_token() {
    let dir = PrivateDir::make("/nonexistent".as_ref()).unwrap();
    let mut desk = Desk::open(getppid().unwrap()).unwrap();
    desk.put(&name(), credential("one", LATER)).unwrap();
    let [one, other] = [Form::AwsProcess; 2].map(|form| desk.counter(&dir, &name(), form).unwrap());
    assert!(desk.counter(&dir, &name(), Form::Kubernetes).is_err(), "it has no token");
    let endpoint = desk.endpoint(&name()).unwrap();
    assert_ne!(one, other);
    let read = capability::read(&one).unwrap();
    let mut ask = |path: &str, token: &str| {
        let mut stream = UnixStream::connect(&read.socket).unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nHost: mcp-run\r\nAuthorization: {token}\r\n\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        serve(&mut desk);
        answer(&mut stream)
    };
    let (status, body) = ask(read.path, read.token);
    assert_eq!((status, &body["Version"]), (200, &json!(1)));
    assert_eq!(ask(read.path, &endpoint.token).0, 401);
    assert_eq!(ask("/v1/aws/aws", &endpoint.token).0, 404, "that one is asked for at the port");
    let (status, body) = ask("/", read.token);
    assert!(status == 404 && body["hint"].is_string(), "{body}");
    dir.remove().unwrap();
}

#[test]
fn more_than_there_are_places_for_are_served_all_the_same() {
    let (mut desk, endpoint, address) = ours();
    let text = request(&address, &endpoint.token, "");
    // They hold every place, and say nothing.
    let silent: Vec<_> = (0..hall::MAX_GUESTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut more: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut more {
        stream.write_all(text.as_bytes()).unwrap();
    }
    serve(&mut desk);
    assert_eq!(desk.hall.guests.iter().flatten().count(), hall::MAX_GUESTS);
    let due = desk.next().unwrap();
    assert!(due <= Instant::now() + guest::PATIENCE);
    desk.serve(Instant::now() + guest::PATIENCE);
    serve(&mut desk);
    for mut stream in more {
        assert_eq!(answer(&mut stream).0, 200);
    }
    for mut stream in silent {
        assert_eq!(answer(&mut stream).0, 408);
    }
}

#[test]
fn a_copy_of_the_process_forgets() {
    let (mut desk, endpoint, address) = ours();
    let _open = TcpStream::connect(address).unwrap();
    serve(&mut desk);
    desk.forget();
    assert!(desk.grants.is_empty() && desk.hall.guests.is_empty());
    assert!(desk.shelf.document(&name(), Form::AwsEndpoint).is_err());
    assert!(TcpStream::connect(address).is_ok(), "what it shares with the original is left alone");
    drop(endpoint);
}
