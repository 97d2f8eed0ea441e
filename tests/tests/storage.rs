//! Disks that are full, read-only or failing, a journal that is damaged or older than it should be, and two brokers
//! on one state: nothing is minted that is not written down, and revocation goes on. The disks are small file
//! systems in memory, which the broker alone sees.
//!
//! Not proved: a disk that lies about what it has written, and the loss of power.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use e2e::accounts::{ALICE, MALLORY};
use e2e::eventually::{so, within};
use e2e::tempdir::write;
use e2e::{World, eventually};

fn small() -> World {
    World::user().vault().probe("orders-db", &[]).disk("size=512k").start()
}

/// Fills the broker's disk to the last byte.
fn fill(world: &mut World) -> PathBuf {
    let state = world.state_dir();
    let path = world.inside(&state).join("filler");
    let mut file = fs::File::create(&path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

#[test]
fn a_full_disk_mints_nothing_and_revokes_all_the_same() {
    let mut world = small();
    let mut before = world.launch(ALICE, "orders-db");
    assert_eq!(world.users().len(), 1);
    let filler = fill(&mut world);
    // What is left of the last page of each file may hold a few records more.
    eventually("a launch is refused, and nothing was asked for that cannot be written down", || {
        let minted = world.proxy().count("database/creds/");
        let outcome = world.run_to_end(ALICE, &["orders-db"]);
        if outcome.code == 0 {
            return None;
        }
        outcome.assert_refused(69, &[]);
        assert_eq!(world.proxy().count("database/creds/"), minted);
        Some(())
    });

    assert_eq!(before.finish().code(), 0);
    eventually("the user is gone although nothing can be written", || so(world.users().is_empty()));

    fs::remove_file(filler).unwrap();
    let mut after = eventually("a launch works again", || {
        let mut client = world.run(ALICE, &["orders-db"]);
        let params =
            serde_json::json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
        client.try_request("initialize", params).map(|_| client)
    });
    assert_eq!(after.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_read_only_disk_is_told_at_the_start() {
    let mut world = World::user().vault().probe("orders-db", &[]).disk("ro,size=512k").start_anyway();
    let exit = world.broker().process.wait();
    assert!([69, 78].contains(&exit.code()), "{exit:?}: {}", world.broker().log());
    assert!(world.broker().log().contains("hint: "), "{}", world.broker().log());
    assert_eq!(world.broker().printed(), "", "it is not ready");
}

#[test]
fn a_second_broker_on_the_same_state_refuses() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let mut second = world.another_broker();
    let exit = second.process.wait();
    assert!([69, 75, 78].contains(&exit.code()), "{exit:?}: {}", second.log());
    assert!(second.log().contains("hint: "), "{}", second.log());
    assert_eq!(client.call("echo", serde_json::json!({})), "{}", "the first is not disturbed");
    assert_eq!(world.users().len(), 1);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_state_directory_that_is_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    assert_eq!(world.broker().term().code(), 0);
    fs::set_permissions(world.state_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut world = world.start_anyway();
    let exit = world.broker().process.wait();
    assert!([69, 78].contains(&exit.code()), "{exit:?}: {}", world.broker().log());
    assert!(world.broker().log().contains("hint: "));
}

/// A record in the middle was changed: the broker says so, and revokes all that it knows of.
#[test]
fn a_damaged_journal_is_told_and_settled() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let clients: Vec<_> = (0..3).map(|_| world.launch(ALICE, "orders-db")).collect();
    assert_eq!(world.users().len(), 3);
    world.broker().kill9();
    drop(clients);
    let journal = fs::read_dir(world.state_dir())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("journal")));
    let journal = journal.expect("the state directory has a journal");
    let mut bytes = fs::read(&journal).unwrap();
    let last_record =
        bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap_or(bytes.len() - 20);
    bytes.truncate(last_record + 6);
    fs::write(&journal, &bytes).unwrap();
    world.restart();
    eventually("a torn tail is repaired and all is settled", || so(world.users().is_empty()));
    world.assert_settled();
}

fn journal(world: &World) -> PathBuf {
    world.state_dir().join("journal")
}

/// A copy from before the launches was put back. What it does not tell of has nobody who renews it, and ends by
/// the dead man.
#[test]
fn an_older_journal_that_was_restored_keeps_nothing_alive() {
    let mut world = World::user().vault().probe("orders-db", &[]).dead_man(5).start();
    let first = world.launch(ALICE, "orders-db");
    let with_one = fs::read(journal(&world)).unwrap();
    let second = world.launch(ALICE, "orders-db");
    assert_eq!(world.users().len(), 2);
    let mut clients = vec![first, second];
    for (name, copy) in [("one that tells of the first launch", with_one), ("an empty one", Vec::new())] {
        world.broker().kill9();
        clients.drain(..).for_each(|mut client| client.process.kill9());
        fs::write(journal(&world), copy).unwrap();
        world.restart();
        within(Duration::from_secs(5 + 5), name, || so(world.users().is_empty()));
        world.assert_settled();
        clients.push(world.launch(ALICE, "orders-db"));
    }
    assert_eq!(clients.remove(0).finish().code(), 0);
    world.assert_settled();
}

/// The same under a broker that runs, into the file and in its place: it cannot know what stands there, and mints
/// nothing any more.
#[test]
fn an_older_journal_that_is_restored_under_the_broker_stops_minting() {
    for in_place in [true, false] {
        let mut world = World::user().vault().probe("orders-db", &[]).start();
        let empty = fs::read(journal(&world)).unwrap();
        let mut before = world.launch(ALICE, "orders-db");
        if in_place {
            fs::write(journal(&world), empty).unwrap();
        } else {
            fs::remove_file(journal(&world)).unwrap();
            write(&journal(&world), "", 0o600, ALICE.uid, ALICE.uid);
        }
        let minted = world.proxy().count("database/creds/");
        let outcome = world.run_to_end(ALICE, &["orders-db"]);
        outcome.assert_refused(69, &["journal"]);
        assert_eq!(world.proxy().count("database/creds/"), minted, "nothing that is not written down");
        assert_eq!(before.finish().code(), 0);
        eventually("what it knew is ended all the same", || so(world.users().is_empty()));
        world.restart();
        assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0);
        world.assert_settled();
    }
}

/// A sync that fails, of whichever file, at any time: from then on nothing is minted until a restart, and what is
/// there is ended.
#[test]
fn after_a_sync_that_failed_nothing_is_minted() {
    for passing in [2, 5, 8] {
        let mut world = World::user().vault().with_fault_points().probe("orders-db", &[]);
        world.set_variable("MCP_BROKER_FAULT", Some(format!("durable.sync:{passing}=fail")));
        let mut world = world.start();
        let mut kept = Vec::new();
        eventually("a launch is refused", || {
            let mut client = world.run(ALICE, &["orders-db"]);
            let params =
                serde_json::json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
            if client.try_request("initialize", params).is_some() {
                kept.push(client);
                return None;
            }
            client.outcome().assert_refused(69, &[]);
            Some(())
        });
        let minted = world.proxy().count("database/creds/");
        for _ in 0..2 {
            world.run_to_end(ALICE, &["orders-db"]).assert_refused(69, &[]);
        }
        assert_eq!(world.proxy().count("database/creds/"), minted, "sync {passing}: minted all the same");
        kept.iter_mut().for_each(|client| assert_eq!(client.finish().code(), 0));
        eventually("what is there is ended", || so(world.users().is_empty()));
        world.set_variable("MCP_BROKER_FAULT", None);
        world.restart();
        assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0);
        world.assert_settled();
    }
}

#[test]
fn an_audit_log_that_was_changed_is_found_out() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0);
    world.assert_settled();
    assert_eq!(world.broker().term().code(), 0);
    world.admin(&["audit", "verify"]).assert_code(0);
    let log = fs::read_dir(world.state_dir()).unwrap().flatten().map(|entry| entry.path());
    let log = log
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("audit")));
    let mut log = log.expect("the state directory has an audit log");
    if log.is_dir() {
        log = fs::read_dir(&log).unwrap().flatten().next().unwrap().path();
    }
    let text = fs::read_to_string(&log).unwrap();
    for (name, changed) in [
        ("an edit", text.replacen("alice", "carol", 1)),
        (
            "a deletion",
            text.lines()
                .enumerate()
                .filter(|(at, _)| *at != 1)
                .map(|(_, line)| format!("{line}\n"))
                .collect(),
        ),
        ("a swap", {
            let mut lines: Vec<_> = text.lines().collect();
            lines.swap(0, 1);
            lines.iter().map(|line| format!("{line}\n")).collect()
        }),
    ] {
        assert_ne!(changed, text, "{name}");
        fs::write(&log, &changed).unwrap();
        let outcome = world.admin(&["audit", "verify"]);
        assert_ne!(outcome.code, 0, "{name} was not found: {}", outcome.text());
    }
    fs::write(&log, &text).unwrap();
    world.admin(&["audit", "verify"]).assert_code(0);
}

#[test]
fn a_socket_path_that_is_a_symlink_is_not_followed() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    assert_eq!(world.broker().term().code(), 0);
    let target = world.runtime_dir(ALICE).join("precious");
    write(&target, "precious", 0o600, ALICE.uid, ALICE.uid);
    let _ = fs::remove_file(world.socket());
    symlink(&target, world.socket()).unwrap();
    let mut world = world.start_anyway();
    let exit = world.broker().process.wait();
    assert_ne!(exit.code(), 0);
    assert!(world.broker().log().contains("hint: "), "{}", world.broker().log());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn a_socket_directory_of_somebody_else_is_refused() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    assert_eq!(world.broker().term().code(), 0);
    std::os::unix::fs::chown(world.socket_dir(), Some(MALLORY.uid), Some(MALLORY.uid)).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(world.socket_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut world = world.start_anyway();
    let exit = world.broker().process.wait();
    assert_ne!(exit.code(), 0);
    assert!(world.broker().log().contains("hint: "), "{}", world.broker().log());
}
