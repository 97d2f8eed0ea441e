//! What holds the process tree of an instance, with and without a PID namespace, and what holds its secret
//! files: whichever of launcher and keeper is killed, and when, nothing of either is left.
//!
//! Not proved: a process of another account, which a sub-reaper cannot kill (a server that may run a setuid
//! program), and a kernel that has no PID namespaces at all; here their number is limited to none.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::process::{alive, kill};
use e2e::{World, eventually};
use serde_json::json;

/// Starts its arguments where neither a PID namespace nor a user namespace can be had, without privileges.
const BARE: &str = "echo 0 >/proc/sys/user/max_pid_namespaces && echo 0 >/proc/sys/user/max_user_namespaces && \
    exec setpriv --inh-caps=-all --ambient-caps=-all -- \"$0\" \"$@\"";

/// Goes on forking into sessions of their own while the probe serves, longer than a test waits for its end. It
/// stops by itself, so that a failed test does not fill the machine.
const FORKING: &str = "(trap '' TERM HUP INT; for i in $(seq 300); do setsid sleep 60 & sleep 0.1; done) \
    >/dev/null 2>&1 </dev/null & exec ";

fn forking_world() -> World {
    let script = format!("{FORKING}{}", seen::PROBE);
    World::user().vault().server("forking", &["/bin/sh", "-c", &script]).start()
}

/// A launch where no namespace can be had; its process id is the launcher's.
fn launch_bare(world: &World, server: &str) -> Client {
    let mut command = world.command(ALICE, "/usr/bin/unshare");
    command.args([
        "--user",
        "--map-current-user",
        "--keep-caps",
        "/bin/sh",
        "-c",
        BARE,
        seen::LAUNCHER,
        server,
    ]);
    let mut client = Client::start(command, world.view(ALICE));
    let _ = client.initialize();
    client
}

#[track_caller]
fn assert_contained(world: &World, words: &str) {
    let status = world.run_to_end(ALICE, &["status"]);
    assert!(status.assert_code(0).text().contains(words), "`{words}` is not in: {}", status.text());
}

/// The direct child of a launcher.
fn keeper(launcher: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(children.len(), 1, "a launcher has one child: its keeper");
    children[0]
}

#[track_caller]
fn wait_for_a_tree(world: &World) {
    // The shell's loop, the probe, and several that fled.
    eventually("the tree grows", || so(world.instances().len() >= 5));
    eventually("it has one user", || so(world.users().len() == 1));
}

#[test]
fn a_pid_namespace_holds_the_tree() {
    let mut world = forking_world();
    let mut client = world.launch(ALICE, "forking");
    assert_contained(&world, "PID namespace");
    wait_for_a_tree(&world);
    client.process.signal(libc::SIGKILL);
    client.outcome().assert_code(128 + libc::SIGKILL);
    world.assert_settled();
}

#[test]
fn a_sub_reaper_holds_the_tree_where_there_is_no_namespace() {
    let mut world = forking_world();
    let mut client = launch_bare(&world, "forking");
    assert_contained(&world, "sub-reaper");
    wait_for_a_tree(&world);
    client.process.signal(libc::SIGKILL);
    client.outcome().assert_code(128 + libc::SIGKILL);
    world.assert_settled();
}

/// The server ends by itself and leaves its tree behind.
#[test]
fn a_sub_reaper_ends_what_a_server_leaves() {
    let mut world = forking_world();
    let mut client = launch_bare(&world, "forking");
    wait_for_a_tree(&world);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// What the keeper held becomes the launcher's.
#[test]
fn a_sub_reaper_that_is_killed_is_replaced() {
    let mut world = forking_world();
    let mut client = launch_bare(&world, "forking");
    wait_for_a_tree(&world);
    let old = world.instances();
    kill(keeper(client.process.pid()), libc::SIGKILL);
    eventually("the whole tree is gone", || so(!old.iter().any(|pid| alive(*pid))));
    // That was the server's end, and not the conversation's.
    eventually("another one answers", || {
        let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
        so(answer["result"]["content"][0]["text"] == "{}")
    });
    wait_for_a_tree(&world);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

fn world_with_files() -> World {
    let world = World::user().vault().probe("orders-db", &[]);
    let text = world.definition(&[seen::PROBE]).replace("{ env = \"DSN\"", "{ file = \"DSN_FILE\"");
    world.file("by-file", &text).start()
}

/// The directories for secret files that are there.
fn directories(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.runtime_dir(ALICE)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("mcp-run-")).collect()
}

#[test]
fn a_launcher_killed_before_its_server_starts_leaves_no_secret_file() {
    let mut world = world_with_files();
    let log = ALICE.home(world.path()).join("calls");
    // The first such call gives the keeper its hold on the directory, the second begins the plan.
    let inject = "inject=sendmsg:signal=KILL:when=2";
    let mut command: Command = world.command(ALICE, "/usr/bin/strace");
    command.args(["-qq", "-e", "trace=openat,sendmsg", "-e", inject, "-o"]).arg(&log);
    command.args([seen::LAUNCHER, "by-file"]);
    Client::start(command, world.view(ALICE)).outcome().assert_code(128 + libc::SIGKILL);
    let calls = fs::read_to_string(log).unwrap();
    let written = calls.find("O_CREAT").expect("the file was made");
    assert!(
        calls[written..].contains("= ?\n+++ killed by SIGKILL"),
        "then it was killed in a call:\n{calls}"
    );
    assert!(calls[..written].contains("sendmsg("), "the keeper was told first:\n{calls}");
    eventually("the keeper removes the directory", || so(directories(&world).is_empty()));
    world.assert_settled();
}

#[test]
fn a_launch_sweeps_what_launchers_left_that_were_killed_with_their_keepers() {
    let mut world = world_with_files();
    let mut living = world.launch(ALICE, "by-file");
    let kept = directories(&world);
    assert_eq!(kept.len(), 1);
    let mut dead = world.launch(ALICE, "by-file");
    let pid = dead.process.pid();
    let keeper = keeper(pid);
    for victim in [pid, keeper] {
        kill(victim, libc::SIGSTOP);
    }
    for victim in [keeper, pid] {
        kill(victim, libc::SIGKILL);
    }
    dead.outcome().assert_code(128 + libc::SIGKILL);
    eventually("the keeper is gone", || so(!alive(keeper)));
    assert_eq!(directories(&world).len(), 2, "nobody was left to remove the second");

    // A launch that needs no file sweeps too, and leaves alone what is in use.
    assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0);
    assert_eq!(directories(&world), kept);
    let path = living.ask("env")["DSN_FILE"].as_str().expect("the path of the file").to_owned();
    // It reads all of the file, and may not say it.
    assert_eq!(living.call("read", serde_json::json!({ "path": path })), "[masked]");
    assert_eq!(living.finish().code(), 0);
    assert!(directories(&world).is_empty());
    world.assert_settled();
}
