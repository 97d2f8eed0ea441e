//! The provider against a scripted HTTP double, not a real server: what it answers cannot be had from one
//! on demand. Proves what the broker does with such answers, not that a server gives them.

use super::*;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ALIVE: &str = "{\"data\":{\"ttl\":0,\"renewable\":false}}";

fn response(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers one request after the other with the script, the last for ever. Empty: never.
async fn serve(script: Vec<String>) -> (ServerSettings, Arc<AtomicU64>, world::Dir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut left = script.into_iter().peekable();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8192];
            if stream.read(&mut request).await.unwrap_or(0) == 0 {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            let Some(answer) = left.next() else { continue };
            if left.peek().is_none() {
                left = vec![answer.clone()].into_iter().peekable();
            }
            if answer.is_empty() {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    drop(stream)
                });
            } else {
                stream.write_all(answer.as_bytes()).await.ok();
            }
        }
    });
    let dir = world::Dir::new("double");
    let settings = ServerSettings {
        address: address.parse().unwrap(),
        ca_file: None,
        namespace: None,
        auth: AuthMethod::Token { token_file: dir.secret("token", "s.double") },
        session_role: "mcp-session".into(),
        launch_role: "mcp-launch".into(),
        dead_man: Duration::from_secs(10),
    };
    (settings, asked, dir)
}

async fn lookup(script: &[String]) -> (Result<Complaint, ProviderError>, u64) {
    let (settings, asked, _dir) = serve(script.to_vec()).await;
    let vault = provider(settings);
    let answer =
        vault.identity.call(super::super::calls::lookup_self, super::super::gate::Urgency::Normal).await;
    (answer.map(|answer| answer.complaint()), asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn retry_after_is_obeyed_while_there_is_time() {
    let ok = response("200 OK", ALIVE);
    let later = |seconds: u32| response(&format!("429 Too Many Requests\r\nretry-after: {seconds}"), "{}");
    let began = Instant::now();
    // Login, health, then the call itself.
    let (answer, asked) = lookup(&[ok.clone(), ok.clone(), later(1), ok.clone()]).await;
    assert!(answer.is_ok() && asked == 4, "{asked}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it waited");
    let (answer, asked) = lookup(&[later(60)]).await;
    blame(answer, Blame::Busy(Some(Duration::from_secs(60))), "60 s");
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn bad_answers_are_refused_and_not_repeated() {
    let canary = "hvs.CANARY";
    let table = [
        (response("200 OK", &format!("{{\"data\":\"{canary}")), Blame::Broken),
        (response("200 OK", &"x".repeat(2 << 20)), Blame::Broken),
        (response("500 Oops", &format!("{{\"errors\":[\"{canary}\"]}}")), Blame::Broken),
        (response("307 Away\r\nlocation: http://127.0.0.1:1/", ""), Blame::Config),
        (response("403 No", &format!("{{\"errors\":[\"{canary}\"]}}")), Blame::Identity),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_owned(), Blame::Unreachable),
    ];
    for (answer, want) in table {
        let error = blame(lookup(std::slice::from_ref(&answer)).await.0, want, "provider `bao`");
        assert!(!format!("{error:?}").contains(canary), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let began = Instant::now();
    let (answer, _) = lookup(&[String::new()]).await;
    blame(answer, Blame::Unreachable, "in time");
    assert!(began.elapsed() < Duration::from_secs(20), "bounded");
}
