//! Whom the broker kills: the process that connected, as long as it is still that account's.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests may, and have a process of their own"
)]

use std::process::{Child, Command};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::*;
use crate::api::places::Places;

/// A process of this account, and it as a peer that connected as `uid`.
fn peer(uid: u32) -> (Child, Peer) {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    let place = Places::by_limit(100).take(uid).unwrap();
    let peer = Peer { uid, pid: Some(child.id()), pidfd: Some(Arc::new(pidfd)), _place: Arc::new(place) };
    (child, peer)
}

/// A program that a launcher became may belong to another account (set-user-id): its starter could not kill it, and
/// must not have the broker do it.
#[test]
fn only_what_is_still_of_the_account_is_killed() {
    let own = rustix::process::getuid().as_raw();
    let (mut child, other) = peer(own + 1);
    other.kill();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(other.alive(), "it became another account's");
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut child, same) = peer(own);
    same.kill();
    child.wait().unwrap();
    assert!(!same.alive());
}
