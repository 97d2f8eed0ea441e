//! The provider against a scripted HTTP double, not a real server: what it answers cannot be had from one
//! on demand. Proves what the broker does with such answers, not that a server gives them.

use super::*;

use super::super::gate::{Gate, Limits, Urgency};
use super::super::identity::Identity;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(super) const ALIVE: &str = "{\"data\":{\"ttl\":0,\"renewable\":false}}";

pub(super) fn response(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// What a double was asked: each request as it came.
pub(super) type Asked = Arc<std::sync::Mutex<Vec<String>>>;

/// Reads one request to the end of its body.
async fn heard(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let (mut text, mut some) = (String::new(), vec![0; 8192]);
    loop {
        let read = stream.read(&mut some).await.ok().filter(|read| *read > 0)?;
        text.push_str(&String::from_utf8_lossy(some.get(..read)?));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text);
        }
    }
}

/// Answers one request after the other with the script, the last for ever. Empty: never.
pub(super) async fn serve(script: Vec<String>) -> (ServerSettings, Asked, world::Dir) {
    serve_held(script, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))).await
}

/// The same, and makes a token only with a permit of `hold`.
async fn serve_held(script: Vec<String>, hold: Arc<Semaphore>) -> (ServerSettings, Asked, world::Dir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut left = script.into_iter().peekable();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(request) = heard(&mut stream).await else { continue };
            let makes_a_token = request.contains("/auth/token/create/");
            noted.lock().unwrap().push(request);
            if makes_a_token {
                hold.acquire().await.unwrap().forget();
            }
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

async fn lookup(script: &[String]) -> (Result<Complaint, ProviderError>, usize) {
    let (settings, asked, _dir) = serve(script.to_vec()).await;
    let vault = provider(settings);
    let answer =
        vault.identity.call(super::super::calls::lookup_self, super::super::gate::Urgency::Normal).await;
    let asked = asked.lock().unwrap().len();
    (answer.map(|answer| answer.complaint()), asked)
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

/// In one of the rounds the answer comes after its asker has gone, in the other it lies there unseen when the
/// asker goes.
#[tokio::test]
async fn a_child_that_nobody_takes_is_revoked() {
    let ok = response("200 OK", ALIVE);
    let auth = json!({ "client_token": "s.x", "accessor": "late", "lease_duration": 60, "renewable": true });
    let child = response("200 OK", &json!({ "auth": auth }).to_string());
    for unseen in [false, true] {
        let hold = Arc::new(Semaphore::new(0));
        let script = vec![ok.clone(), ok.clone(), child.clone(), ok.clone()];
        let (settings, asked, _dir) = serve_held(script, Arc::clone(&hold)).await;
        let vault = provider(settings);
        let held = Held { place: "/".into(), accessor: "above".into(), kind: Kind::Parent };
        let (token, period) = (Secret::new("s.parent".into()), Duration::from_secs(10));
        let parent = Parent { handle: held.to_handle(), token, period };
        let request = request(PATH, "orders-ro");
        let count = || asked.lock().unwrap().len();
        let mut prepare = Box::pin(vault.prepare(&request, Some(&parent)));
        // Until the double has the request, and holds the answer back.
        while count() < 3 {
            assert!(tokio::time::timeout(Duration::from_millis(5), &mut prepare).await.is_err(), "held");
        }
        if unseen {
            // The answer comes, and lies there, as the asker looks no more.
            hold.add_permits(1);
            assert!(vault.flights.settle("above", Duration::from_secs(5)).await);
            assert_eq!(count(), 3);
        }
        drop(prepare);
        hold.add_permits(1);
        let end = Instant::now() + Duration::from_secs(10);
        while count() < 4 {
            assert!(Instant::now() < end, "it is not revoked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let last = asked.lock().unwrap().pop().unwrap();
        assert!(last.starts_with("POST /v1/auth/token/revoke-accessor ") && last.contains("late"), "{last}");
    }
}

/// Whoever comes first for the login, a revocation may be waiting for it.
#[tokio::test]
async fn a_login_waits_among_the_revocations() {
    let (settings, _asked, _dir) = serve(vec![response("200 OK", ALIVE)]).await;
    let name = super::super::fault::ServerName { provider: "bao".into(), address: String::new() };
    let gate = Gate::new(Limits { all: 1, revocations: 1, others: 1 });
    let busy = gate.enter(Urgency::Normal).await;
    let identity = Identity::new(name, Arc::new(settings), Arc::clone(&gate), Arc::new(SystemClock));
    let call = identity.call(super::super::calls::lookup_self, Urgency::Normal);
    let mut call = std::pin::pin!(call);
    let end = Instant::now() + Duration::from_secs(5);
    while gate.urgent() == 0 {
        assert!(Instant::now() < end, "it waits among the others");
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut call).await.is_err());
    }
    drop(busy);
    assert!(call.await.is_ok());
}

#[tokio::test]
async fn many_who_ask_for_health_at_once_share_the_answer() {
    let role =
        json!({"orphan":false,"token_period":10,"token_no_default_policy":true,"ttl":0,"renewable":false});
    // Both roles have the same answer here, so that one of them is wrong.
    let body = json!({"initialized":true,"sealed":false,"version":"2.7.2","data":role}).to_string();
    let (settings, asked, _dir) = serve(vec![response("200 OK", &body)]).await;
    let clock = Arc::new(super::sign_in::Ahead(AtomicU64::new(0)));
    let vault = Arc::new(with_clock(settings, Arc::clone(&clock) as Arc<dyn Clock>));
    let questions = || asked.lock().unwrap().iter().filter(|request| request.contains("lookup-self")).count();
    let all: Vec<_> = (0..20)
        .map(|_| {
            let vault = Arc::clone(&vault);
            tokio::spawn(async move { vault.health().await })
        })
        .collect();
    for one in all {
        blame(one.await.unwrap().map(drop), Blame::Config, "orphan");
    }
    // One for the login by a token, one for the first look, one for all who came while it went on.
    assert!(questions() <= 3, "{}", questions());
    let before = questions();
    clock.0.store(1, Ordering::SeqCst);
    blame(vault.health().await.map(drop), Blame::Config, "orphan");
    assert_eq!(questions(), before + 1, "who asks later is not told what was");
}
