//! The bounds of the client against servers that keep to none: each answers what a test wrote, octet by octet.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

/// A server that sends these to whoever connects, and then keeps the connection open. Its address, and how often it
/// was asked.
fn server(answers: Vec<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for (stream, answer) in listener.incoming().flatten().zip(answers.into_iter().cycle()) {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut asked = [0; 4096];
                let _read = stream.read(&mut asked);
                // Whoever has heard enough goes away.
                let _written = stream.write_all(&answer);
                let _gone = stream.read(&mut asked);
            });
        }
    });
    (address, asked)
}

fn answer(head: &str, body: usize) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + body, b' ');
    bytes
}

async fn ask(address: &str) -> Result<Answer, ProviderError> {
    let http = Http::new("hub".to_owned(), None);
    http.send(|client| client.get(address)).await
}

#[tokio::test]
async fn an_answer_is_read_to_a_mebibyte_and_no_further() {
    let chunked = |size: usize| {
        let mut bytes = answer("200 OK\r\nTransfer-Encoding: chunked", 0);
        for _ in 0..size / 4096 {
            bytes.extend_from_slice(b"1000\r\n");
            bytes.resize(bytes.len() + 4096, b' ');
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    };
    let announced = |size: usize| answer(&format!("200 OK\r\nContent-Length: {size}"), size);
    for (bytes, want) in [
        (announced(MAX_ANSWER), Some(MAX_ANSWER)),
        (announced(MAX_ANSWER + 1), None),
        // Nothing of it was sent: what is announced is enough.
        (answer("200 OK\r\nContent-Length: 99999999999", 0), None),
        (chunked(MAX_ANSWER), Some(MAX_ANSWER)),
        (chunked(MAX_ANSWER + 4096), None),
    ] {
        let (address, _) = server(vec![bytes]);
        match (ask(&address).await, want) {
            (Ok(answer), Some(size)) => assert_eq!((answer.status, answer.body.len()), (200, size)),
            (Err(error), None) => assert!(error.what.contains("larger than 1 MiB"), "{error}"),
            (got, want) => unreachable!("{:?}, not {want:?}", got.map(|answer| answer.body.len()).err()),
        }
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let (elsewhere, asked) = server(vec![answer("200 OK\r\nContent-Length: 0", 0)]);
    for status in [301, 302, 303, 307, 308] {
        let head = format!("{status} Elsewhere\r\nLocation: {elsewhere}/\r\nContent-Length: 0");
        let (address, _) = server(vec![answer(&head, 0)]);
        assert_eq!(ask(&address).await.map(|answer| answer.status).ok(), Some(status));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// One that never ends its header, and one that never ends its body.
#[tokio::test]
async fn a_slow_answer_is_given_up() {
    for bytes in [b"HTTP/1.1 200 OK\r\nX-Slow: ".to_vec(), answer("200 OK\r\nContent-Length: 100", 50)] {
        let (address, _) = server(vec![bytes]);
        let began = Instant::now();
        let error = ask(&address).await.err().unwrap();
        assert!(error.what.ends_with("did not answer in time"), "{error}");
        assert_eq!(error.blame, Blame::Unreachable);
        assert!(began.elapsed() >= REQUEST_LIMIT, "not before its time");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it_within_reason() {
    for (head, want) in [
        ("429 Too Many\r\nRetry-After: 7", Some(7)),
        ("503 Busy\r\nRetry-After: 99999", Some(LONGEST_WAIT)),
        ("503 Busy\r\nRetry-After: tomorrow", None),
        ("429 Too Many", None),
    ] {
        let (address, _) = server(vec![answer(&format!("{head}\r\nContent-Length: 0"), 0)]);
        let error = ask(&address).await.err().unwrap();
        assert_eq!(error.blame, Blame::Busy(want.map(Duration::from_secs)), "{head}");
    }
}

#[test]
fn what_a_server_tells_is_spoken_to_where_it_is_safe() {
    for (text, good) in [
        ("https://id.example.com/token?tenant=1", true),
        ("http://127.0.0.1:8080/token", true),
        ("http://[::1]/token", true),
        ("http://localhost/token", true),
        ("http://id.example.com/token", false),
        ("http://127.0.0.1.example.com/token", false),
        ("https://user@id.example.com/token", false),
        ("https://id.example.com/token#x", false),
        ("file:///etc/passwd", false),
        ("/token", false),
    ] {
        assert_eq!(endpoint(text).is_some(), good, "{text}");
    }
}
