//! Sockets that a service manager made and hands over at start, as sd_listen_fds(3) describes: the broker
//! serves on them and leaves their files alone, and takes no half of the pair.
//!
//! Not proved: systemd itself; a shell does here what it would do.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use e2e::World;
use e2e::accounts::ALICE;
use e2e::parts::seen;
use e2e::process::{Collected, Process, spawn};

/// Takes the sockets from its standard input and error, says on the latter's new place what goes wrong, and
/// becomes the broker in the same process, as `LISTEN_PID` says.
const HAND_OVER: &str = "exec 3<&0 4<&2 </dev/null 2>&1; export LISTEN_PID=$$; exec \"$0\" \"$@\"";

struct Handed {
    process: Process,
    output: Collected,
}

/// The broker with these of its sockets at 3 and 4; one that is not named is not there for it.
fn start(world: &World, names: &str, count: usize) -> Handed {
    let folder = world.socket_dir();
    DirBuilder::new().mode(0o700).create(&folder).unwrap();
    chown(&folder, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    let [person, admin] = [world.socket(), world.admin_socket()].map(|path| listen(&path));
    let mut command = world.command(ALICE, "/bin/sh");
    command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", ALICE.uid));
    command.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names);
    command.args(["-c", HAND_OVER, seen::BROKER, "serve", "--user", "--config"]).arg(world.config_dir());
    command.stdin(Stdio::from(person)).stdout(Stdio::piped()).stderr(Stdio::from(admin));
    let mut process = spawn(command, world.view(ALICE));
    let output = Collected::from(process.child.stdout.take().unwrap());
    Handed { process, output }
}

fn listen(path: &Path) -> OwnedFd {
    let listener = UnixListener::bind(path).unwrap();
    chown(path, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    listener.into()
}

#[test]
fn sockets_that_are_handed_over_are_served_and_stay() {
    let mut world = World::user().vault().probe("orders-db", &[]);
    let mut broker = start(&world, "broker:admin", 2);
    // The connections wait in the sockets until the broker is ready.
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(world.leases().len(), 1, "the admin's socket is served");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();

    broker.process.signal(libc::SIGTERM);
    assert_eq!(broker.process.wait().code(), 0, "{}", broker.output.text());
    assert!(world.socket().exists() && world.admin_socket().exists(), "they are the service manager's");
}

/// The control for the test above: what the broker made itself, it removes.
#[test]
fn sockets_of_its_own_go_with_the_broker() {
    let mut world = World::user().start();
    assert!(world.socket().exists() && world.admin_socket().exists());
    assert_eq!(world.broker().term().code(), 0);
    assert!(!world.socket().exists() && !world.admin_socket().exists());
}

#[test]
fn half_of_the_pair_is_refused() {
    for (names, what) in [("broker", "only the first"), ("broker:other", "the second by a strange name")] {
        let world = World::user();
        let mut broker = start(&world, names, names.split(':').count());
        assert_eq!(broker.process.wait().code(), 78, "{what}: {}", broker.output.text());
        let said = String::from_utf8(broker.output.complete()).unwrap();
        assert!(said.contains("both sockets") && said.contains("hint: "), "{what}: {said}");
        assert!(world.socket().exists() && world.admin_socket().exists(), "{what}: the files stay");
    }
}
