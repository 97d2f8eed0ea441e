//! What the register makes of looks that come late, of sleep and shutdown, of launchers that do not do as they are
//! told, and of an account whose login sessions cannot be told apart.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may, and have a process of their own"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mcp_broker_proto::channel::{EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::{LockCause, RevokeRequest};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep, timeout};

use super::lock::Notice;
use super::login::{Look, Sighting};
use super::scene::{Scene, WELL, asking, login, until};
use crate::audit::ByWhom;

const SCREEN_LOCKED: Look = Look { locked_hint: true, ..WELL };

/// Longer than the shortest lock that a person unlocks.
const PERSON: Duration = Duration::from_millis(1_100);

/// Asks for a look that answers `then`, has `meanwhile` happen before it does, and lets later looks see `now`.
async fn late_look(scene: &Scene, then: Look, now: Look, meanwhile: impl FnOnce()) {
    scene.looks.permits.forget_permits(usize::MAX >> 4);
    *scene.looks.now.lock().unwrap() = then;
    let asked = scene.looks.asked.load(Ordering::SeqCst);
    let sessions = Arc::clone(&scene.sessions);
    let look = tokio::spawn(async move { sessions.look_again().await });
    until("the look is asked for", || scene.looks.asked.load(Ordering::SeqCst) > asked).await;
    *scene.looks.now.lock().unwrap() = now;
    meanwhile();
    scene.looks.permits.add_permits(1000);
    look.await.unwrap();
}

/// A look that was asked for before the screen was locked does not say that it is not.
#[tokio::test]
async fn a_look_that_is_older_than_a_lock_opens_nothing() {
    let scene = Scene::new();
    let login = login(1, 0);
    let session = scene.sessions.sign_in(&asking(&login)).await.unwrap();
    late_look(&scene, WELL, SCREEN_LOCKED, || {
        scene.sessions.sighted(&login.path, Sighting::Hint(true));
    })
    .await;
    let unlocked = scene.sessions.unlock_session(&asking(&login)).await;
    assert_eq!(unlocked.unwrap_err().code, ErrorCode::SessionLocked, "the screen is locked");
    assert_eq!(scene.locked(session), Some(LockCause::LockedHint));
}

/// One that was asked for before it was unlocked does not lock it again.
#[tokio::test]
async fn a_look_that_is_older_than_an_unlock_locks_nothing() {
    let scene = Scene::new();
    let login = login(1, 0);
    let session = scene.sessions.sign_in(&asking(&login)).await.unwrap();
    scene.sessions.sighted(&login.path, Sighting::Hint(true));
    sleep(PERSON).await;
    late_look(&scene, SCREEN_LOCKED, WELL, || {
        scene.sessions.sighted(&login.path, Sighting::Hint(false));
    })
    .await;
    assert_eq!(scene.locked(session), None);
}

/// Who begins while the machine is about to sleep begins locked, and opens only when it is awake.
#[tokio::test]
async fn a_session_that_begins_before_a_sleep_begins_locked() {
    let scene = Scene::new();
    let login = login(1, 0);
    scene.sessions.lock_all(LockCause::Sleep).await;
    let session = scene.sessions.sign_in(&asking(&login)).await.unwrap();
    assert_eq!(scene.locked(session), Some(LockCause::Sleep));
    let refused = scene.launch(asking(&login), 1 << 16).await.map(drop);
    assert_eq!(refused.unwrap_err().code, ErrorCode::SessionLocked);
    let asleep = scene.sessions.unlock_session(&asking(&login)).await;
    assert!(asleep.unwrap_err().title.contains("sleep"));
    scene.sessions.woke();
    assert_eq!(scene.locked(session), Some(LockCause::Sleep), "to wake up is no evidence");
    scene.sessions.unlock_session(&asking(&login)).await.unwrap();
    assert_eq!(scene.locked(session), None);
}

/// Its ticket does not fit into the stream: neither the lock nor the end of what it has waits for it.
#[tokio::test]
async fn a_launcher_that_does_not_read_is_killed() {
    let scene = Scene::new();
    let login = login(1, 0);
    let session = scene.sessions.sign_in(&asking(&login)).await.unwrap();
    let stream = scene.launch(asking(&login), 64).await.unwrap();
    until("its plan is being written", || !scene.sessions.launches().is_empty()).await;
    let begun = Instant::now();
    scene.sessions.notice(session, Notice::Lock(LockCause::Command), None).await;
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    assert!(scene.peer.kills.load(Ordering::SeqCst) > 0, "it was not killed");
    assert!(scene.sessions.launches().is_empty() && scene.leases.infos().is_empty());
    assert_eq!(scene.backend.alive(), 0);
    drop(stream);
}

/// A launcher that asks again and again, and gives nothing back, holds no more than it can use.
#[tokio::test]
async fn wants_have_an_end() {
    const MOST: usize = 4;
    let scene = Scene::new();
    let login = login(1, 0);
    let stream = scene.launch(asking(&login), 1 << 16).await.unwrap();
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let want = serde_json::to_string(&ToBroker::Want { scope: "all".parse().unwrap() }).unwrap() + "\n";
    let (mut tickets, mut refusals) = (0, 0);
    while refusals < 3 {
        let line = timeout(Duration::from_secs(10), lines.next_line()).await.unwrap().unwrap().unwrap();
        match serde_json::from_str(&line).unwrap() {
            ToLauncher::Ticket(_) => tickets += 1,
            ToLauncher::Refused { problem, .. } => {
                assert_eq!(problem.code, ErrorCode::TooMany);
                refusals += 1;
            }
            _ => continue,
        }
        assert!(tickets <= MOST, "{tickets} instances of one launch");
        write.write_all(want.as_bytes()).await.unwrap();
    }
    // Its credentials, and the parent above them.
    assert_eq!((tickets, scene.backend.alive()), (MOST, MOST + 1));
}

#[tokio::test]
async fn a_shutdown_can_be_called_off_and_a_stop_cannot() {
    let scene = Scene::new();
    let login = login(1, 0);
    scene.sessions.sign_in(&asking(&login)).await.unwrap();
    scene.sessions.stop(EndReason::Shutdown).await;
    assert!(scene.sessions.sessions().is_empty());
    let code = async || scene.sessions.sign_in(&asking(&login)).await.map_err(|problem| problem.code).err();
    assert_eq!(code().await, Some(ErrorCode::Stopping));
    scene.sessions.go_on();
    assert_eq!(code().await, None);
    assert!(scene.launch(asking(&login), 1 << 16).await.is_ok());
    scene.sessions.stop(EndReason::BrokerStopping).await;
    scene.sessions.go_on();
    assert_eq!(code().await, Some(ErrorCode::Stopping), "it is the broker that stops");
}

/// logind cannot be heard, so nobody can say which session a process belongs to: all of the account are meant, and
/// none of another's.
#[tokio::test]
async fn an_account_locks_and_ends_all_of_its_sessions_and_no_others() {
    let scene = Scene::new();
    let logins = [login(1, 7), login(2, 7), login(3, 8)];
    let mut sessions = Vec::new();
    for login in &logins {
        sessions.push(scene.sessions.sign_in(&asking(login)).await.unwrap());
        scene.launch(asking(login), 1 << 16).await.map(std::mem::forget).unwrap();
    }
    until("all are minted", || scene.backend.alive() == 6).await;
    scene.sessions.lock_account(&ByWhom { uid: 7, pid: None }).await;
    let locked: Vec<_> = sessions.iter().map(|session| scene.locked(*session)).collect();
    assert_eq!(locked, [Some(LockCause::Command), Some(LockCause::Command), None]);
    assert_eq!(scene.backend.alive(), 2, "the other account's");
    scene.sessions.log_out_account(7).await;
    let left: Vec<_> = scene.sessions.sessions().iter().map(|info| info.id).collect();
    assert_eq!(left, sessions[2..], "the other account's");
    assert_eq!(scene.backend.alive(), 2);
}

/// A launcher that cannot be killed runs on with what it started, whatever the register says.
#[tokio::test]
async fn a_launcher_that_cannot_be_killed_is_said_to_run() {
    let scene = Scene::new();
    let login = login(1, 0);
    for (outlives, want) in [(true, (0, 1)), (false, (1, 0))] {
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let asking =
            super::admit::Asking { by: ByWhom { uid: 0, pid: Some(process.id()) }, ..asking(&login) };
        let stream = scene.launch(asking, 1 << 16).await.unwrap();
        let launch = scene.sessions.launches()[0].id;
        if !outlives {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        let by = ByWhom { uid: 0, pid: None };
        let report = scene.sessions.revoke(RevokeRequest::Launch(launch), by).await.unwrap();
        assert_eq!((report.launches, report.still_running), want);
        assert!(report.pending.is_empty(), "what it had is revoked all the same");
        process.kill().unwrap_or_default();
        process.wait().unwrap();
        drop(stream);
    }
}
