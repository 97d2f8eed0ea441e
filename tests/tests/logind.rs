//! The double of logind, without the programs under test: what it answers and tells is seen by busctl, which is
//! systemd's own, as it is of the real one.

use std::process::{Command, Stdio};

use e2e::accounts::{ALICE, BOB};
use e2e::eventually;
use e2e::eventually::so;
use e2e::logind::{Kind, Logind, MANAGER, NAME};
use e2e::process::{Collected, Process, spawn};
use e2e::view::View;
use serde_json::{Value, json};

fn busctl(logind: &Logind, words: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/busctl");
    command.env_clear().env("DBUS_SYSTEM_BUS_ADDRESS", logind.address());
    command.args(["--system", "--json=short"]).args(words).stdin(Stdio::null());
    command
}

/// What the manager answers, or the name of its error.
fn ask(logind: &Logind, words: &[&str]) -> Result<Value, String> {
    let words = [&["call", NAME, MANAGER, "org.freedesktop.login1.Manager"], words].concat();
    let output = busctl(logind, &words).output().expect("busctl runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut answer: Value = serde_json::from_slice(&output.stdout).expect("busctl prints JSON");
    Ok(answer["data"][0].take())
}

fn property(logind: &Logind, path: &str, interface: &str, name: &str) -> Result<Value, String> {
    let output =
        busctl(logind, &["get-property", NAME, path, interface, name]).output().expect("busctl runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice::<Value>(&output.stdout).expect("busctl prints JSON")["data"].take())
}

fn session(logind: &Logind, path: &str, name: &str) -> Result<Value, String> {
    property(logind, path, "org.freedesktop.login1.Session", name)
}

/// Sees every signal on the bus, whoever sends it.
struct Monitor {
    _process: Process,
    stdout: Collected,
}

impl Monitor {
    fn start(logind: &Logind) -> Self {
        let mut command = busctl(logind, &["monitor", "--match=type='signal'"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = spawn(command, View::new());
        let stdout = Collected::from(process.child.stdout.take().expect("it is piped"));
        let monitor = Self { _process: process, stdout };
        // It sees nothing before it has become a monitor.
        eventually("busctl monitors", || {
            logind.forge_manager("Ready", "", &json!([]));
            so(monitor.stdout.text().contains("Ready"))
        });
        monitor
    }

    fn signals(&self, member: &str) -> Vec<Value> {
        let text = self.stdout.text();
        let signals = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        signals.filter(|signal| signal["member"] == member).collect()
    }

    #[track_caller]
    fn wait(&self, member: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{member} is told");
        eventually(&what, || {
            self.signals(member).into_iter().find(|signal| holds(&signal["payload"]["data"]))
        })
    }
}

#[test]
fn a_session_has_what_a_real_one_has() {
    let logind = Logind::start();
    logind.log_in("3", ALICE, Kind::Desktop);
    logind.log_in("c7", BOB, Kind::Ssh);
    // An id that begins with a digit is escaped in a path.
    let path = ask(&logind, &["GetSession", "s", "3"]).unwrap();
    let path = path.as_str().unwrap();
    assert_eq!(path, "/org/freedesktop/login1/session/_33");
    assert_eq!(ask(&logind, &["GetSession", "s", "c7"]).unwrap(), "/org/freedesktop/login1/session/c7");
    let user = format!("/org/freedesktop/login1/user/_{}", ALICE.uid);
    for (name, value) in [
        ("Id", json!("3")),
        ("User", json!([ALICE.uid, user])),
        ("Name", json!("alice")),
        ("Class", json!("user")),
        ("State", json!("active")),
        ("Active", json!(true)),
        ("LockedHint", json!(false)),
        ("Remote", json!(false)),
        ("Seat", json!(["seat0", "/org/freedesktop/login1/seat/seat0"])),
        ("Type", json!("wayland")),
        ("Scope", json!("session-3.scope")),
    ] {
        assert_eq!(session(&logind, path, name).unwrap(), value, "{name}");
    }
    let leader = session(&logind, path, "Leader").unwrap().as_u64().unwrap();
    assert!(e2e::process::alive(u32::try_from(leader).unwrap()));
    assert!(session(&logind, path, "Timestamp").unwrap().as_u64().unwrap() > 1_700_000_000_000_000);
    assert_eq!(ask(&logind, &["GetUser", "u", &ALICE.uid.to_string()]).unwrap(), json!(user));
    let display = property(&logind, &user, "org.freedesktop.login1.User", "Display").unwrap();
    assert_eq!(display, json!(["3", path]));
    let rows = ask(&logind, &["ListSessions"]).unwrap();
    assert_eq!(rows[0], json!(["3", ALICE.uid, "alice", "seat0", path]));
    assert_eq!(rows[1], json!(["c7", BOB.uid, "bob", "", "/org/freedesktop/login1/session/c7"]));
    assert!(session(&logind, "/org/freedesktop/login1/session/c7", "Remote").unwrap() == true);
    for (words, told) in [
        (&["GetSession", "s", "9"][..], "No session '9' known"),
        (&["GetUser", "u", "1"], "not logged in"),
        (&["GetSessionByPID", "u", "1"], "does not belong to any known session"),
    ] {
        let error = ask(&logind, words).unwrap_err();
        assert!(error.contains(told), "{words:?}: {error}");
    }
    let error = session(&logind, "/org/freedesktop/login1/session/_39", "Id").unwrap_err();
    assert!(error.contains("Unknown object"), "{error}");
}

/// The bus is everybody's, as the real one is.
#[test]
fn other_people_may_ask_as_well() {
    let logind = Logind::start();
    logind.log_in("1", ALICE, Kind::Desktop);
    for who in [ALICE, BOB] {
        let mut command =
            busctl(&logind, &["call", NAME, MANAGER, "org.freedesktop.login1.Manager", "ListSessions"]);
        command.stdout(Stdio::null()).current_dir("/");
        assert_eq!(spawn(command, View::new().account(who)).wait().code(), 0, "{}", who.name);
    }
}

/// A process belongs to a session of its user: the one that it names, else the oldest, or none.
#[test]
fn a_process_is_found_in_its_session() {
    let logind = Logind::start();
    logind.log_in("1", ALICE, Kind::Desktop);
    logind.log_in("2", ALICE, Kind::Ssh);
    let sleeper = |session: &str| {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").env_clear().env("XDG_SESSION_ID", session).stdin(Stdio::null());
        spawn(command, View::new().account(ALICE))
    };
    let of = |process: &Process| ask(&logind, &["GetSessionByPID", "u", &process.pid().to_string()]);
    let (first, second, neither) = (sleeper("1"), sleeper("2"), sleeper("x"));
    eventually("the processes run", || so(of(&second).is_ok_and(|path| path.to_string().contains("_32"))));
    assert!(of(&first).unwrap().to_string().contains("_31"));
    assert!(of(&neither).unwrap().to_string().contains("_31"));
    logind.run_outside(ALICE);
    assert!(of(&first).unwrap_err().contains("does not belong"));
}

#[test]
fn everything_that_happens_is_told_as_logind_tells_it() {
    let logind = Logind::start();
    logind.log_in("1", ALICE, Kind::Desktop);
    let path = "/org/freedesktop/login1/session/_31";
    let monitor = Monitor::start(&logind);
    logind.lock("1");
    assert_eq!(monitor.wait("Lock", |_| true)["path"], path);
    assert_eq!(session(&logind, path, "LockedHint").unwrap(), false, "no hint comes with a lock");
    logind.unlock("1");
    let _ = monitor.wait("Unlock", |_| true);

    logind.hint("1", true);
    logind.hint("1", true);
    let _ = monitor.wait("PropertiesChanged", |data| data[1]["LockedHint"]["data"] == true);
    assert_eq!(session(&logind, path, "LockedHint").unwrap(), true);
    logind.active("1", false);
    let _ = monitor.wait("PropertiesChanged", |data| data[1]["Active"]["data"] == false);
    assert_eq!(session(&logind, path, "State").unwrap(), "online");
    logind.active("1", true);
    logind.sleep(true);
    let _ = monitor.wait("PrepareForSleep", |data| data[0] == true);
    logind.shutdown(true);
    let _ = monitor.wait("PrepareForShutdown", |data| data[0] == true);
    assert_eq!(monitor.signals("PropertiesChanged").len(), 3, "nothing is told where nothing changed");

    // A logout that leaves processes behind: not a word of it.
    let before = monitor.stdout.text().len();
    logind.closing("1");
    logind.leader_exits("1");
    assert_eq!(session(&logind, path, "State").unwrap(), "closing");
    assert_eq!(session(&logind, path, "Active").unwrap(), true);
    logind.forge_manager("Afterwards", "", &json!([]));
    let _ = monitor.wait("Afterwards", |_| true);
    let told =
        monitor.stdout.text()[before..].lines().filter(|line| line.contains("PropertiesChanged")).count();
    assert_eq!(told, 0);

    logind.remove("1");
    let _ = monitor.wait("SessionRemoved", |data| *data == json!(["1", path]));
    assert!(session(&logind, path, "Id").unwrap_err().contains("Unknown object"));
    logind.remove_user(ALICE);
    let _ = monitor.wait("UserRemoved", |data| data[0] == ALICE.uid);
}

#[test]
fn a_hint_that_flaps_ends_as_it_was_told() {
    let logind = Logind::start();
    logind.log_in("1", ALICE, Kind::Desktop);
    let monitor = Monitor::start(&logind);
    for last in [true, false] {
        let before = monitor.signals("PropertiesChanged").len();
        logind.flap("1", 1000, last);
        eventually("a thousand changes, or one less where the first is none", || {
            so(monitor.signals("PropertiesChanged").len() >= before + 999)
        });
        assert_eq!(session(&logind, "/org/freedesktop/login1/session/_31", "LockedHint").unwrap(), last);
    }
}

/// What somebody else sends looks the same but for its sender.
#[test]
fn a_forgery_comes_from_another_sender() {
    let logind = Logind::start();
    logind.log_in("1", ALICE, Kind::Desktop);
    let monitor = Monitor::start(&logind);
    logind.unlock("1");
    let real = monitor.wait("Unlock", |_| true);
    for (forge, member) in [
        (&(|| logind.forge_session("1", "Lock")) as &dyn Fn(), "Lock"),
        (&|| logind.forge_hint("1", false), "PropertiesChanged"),
        (&|| logind.forge_manager("PrepareForSleep", "b", &json!([true])), "PrepareForSleep"),
        (&|| logind.forge_removed("1"), "SessionRemoved"),
    ] {
        forge();
        let forged = monitor.wait(member, |_| true);
        assert!(real["sender"].is_string());
        assert_ne!(forged["sender"], real["sender"], "{forged}");
    }
    assert_eq!(ask(&logind, &["ListSessions"]).unwrap().as_array().unwrap().len(), 1);
}

#[test]
fn an_inhibitor_is_held_as_long_as_it_is_open() {
    let logind = Logind::start();
    assert_eq!(logind.inhibitors(), [json!(null); 0]);
    let mut command = Command::new("/usr/bin/systemd-inhibit");
    command.args(["--what=sleep:shutdown", "--mode=delay", "--who=test", "/bin/sleep", "1000"]);
    command.env_clear().env("DBUS_SYSTEM_BUS_ADDRESS", logind.address()).stdin(Stdio::null());
    let mut holder = spawn(command, View::new());
    eventually("it is held", || so(logind.sleep_is_delayed()));
    assert_eq!(logind.inhibitors()[0]["who"], "test");
    holder.signal(libc::SIGTERM);
    eventually("it is released", || so(!logind.sleep_is_delayed()));
    let _ = holder.wait();
}

#[test]
fn it_dies_and_knows_everything_when_it_is_back() {
    let logind = Logind::start();
    logind.log_in("1", ALICE, Kind::Desktop);
    logind.hint("1", true);
    logind.active("1", false);
    let path = "/org/freedesktop/login1/session/_31";
    let leader = session(&logind, path, "Leader").unwrap();
    let since = session(&logind, path, "Timestamp").unwrap();
    for whole_bus in [false, true] {
        if whole_bus {
            logind.kill_bus();
        } else {
            logind.kill();
        }
        assert!(ask(&logind, &["ListSessions"]).is_err());
        if whole_bus {
            logind.start_bus();
        } else {
            logind.restart();
        }
        for (name, value) in
            [("LockedHint", json!(true)), ("Active", json!(false)), ("State", json!("online"))]
        {
            assert_eq!(session(&logind, path, name).unwrap(), value, "{name}");
        }
        assert_eq!(session(&logind, path, "Leader").unwrap(), leader);
        assert_eq!(session(&logind, path, "Timestamp").unwrap(), since);
    }
    assert!(logind.log().contains("LockedHint"), "{}", logind.log());
}
