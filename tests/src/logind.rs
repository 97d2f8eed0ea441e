//! A private system bus with logind's double on it, one a world: people log in there, lock, unlock, switch, log
//! out and go to sleep, and the broker hears of it as it would on a real machine. What the double answers and
//! tells is in `fixtures/logind/double.py`; here is who drives it, and its bookkeeping over a restart.
//!
//! It authorizes nobody, and a real screen locker and a real suspend are not behind it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::accounts::{self, Account};
use crate::eventually::{PATIENCE, eventually, so};
use crate::parts;
use crate::process::{Collected, Process, spawn};
use crate::tempdir::{TempDir, write};
use crate::view::View;

/// logind's well-known name.
pub const NAME: &str = "org.freedesktop.login1";
/// The manager's object.
pub const MANAGER: &str = "/org/freedesktop/login1";

/// A bus with a logind.
pub struct Logind {
    inner: Mutex<Inner>,
    address: String,
    dir: TempDir,
}

struct Inner {
    // Dropped in this order: who talks on the bus before the bus.
    double: Option<Double>,
    bus: Option<Process>,
    sessions: Vec<Session>,
    outside: Vec<u32>,
}

/// What kind of session a person begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// At the machine's seat, with a desktop.
    Desktop,
    /// At the machine's seat, on a text console.
    Console,
    /// Over the network.
    Ssh,
}

struct Session {
    id: String,
    account: Account,
    kind: Kind,
    /// Microseconds since the epoch.
    since: u64,
    leader: Process,
    locked: bool,
    active: bool,
    closing: bool,
}

impl Logind {
    /// Starts a bus and a logind that knows of nobody.
    #[must_use]
    pub fn start() -> Self {
        let dir = TempDir::in_memory("bus");
        let address = format!("unix:path={}", dir.path().join("socket").display());
        let inner = Inner { double: None, bus: None, sessions: Vec::new(), outside: Vec::new() };
        let logind = Self { inner: Mutex::new(inner), address, dir };
        logind.start_bus();
        logind
    }

    /// What `DBUS_SYSTEM_BUS_ADDRESS` must be to see it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Everything that it was asked and that it told, one a line, over all its runs.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    // --- people ---

    /// A person logs in: a session with a leader of its own, active and not locked.
    pub fn log_in(&self, id: &str, account: Account, kind: Kind) {
        let mut command = Command::new("/bin/sleep");
        command.arg("infinity").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
        let leader = spawn(command, View::new().account(account));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let since = u64::try_from(since).expect("before the year 500000");
        let (id, locked, active, closing) = (id.to_owned(), false, true, false);
        let session = Session { id, account, kind, since, leader, locked, active, closing };
        let mut inner = self.lock_inner();
        inner.told(&session.added());
        inner.sessions.push(session);
    }

    /// `Lock`: the session is asked to lock its screen. No hint comes with it.
    pub fn lock(&self, id: &str) {
        self.lock_inner().told(&json!(["signal", id, "Lock"]));
    }

    /// `Unlock`.
    pub fn unlock(&self, id: &str) {
        self.lock_inner().told(&json!(["signal", id, "Unlock"]));
    }

    /// The desktop says whether its screen is locked; nothing is told where nothing changes.
    pub fn hint(&self, id: &str, locked: bool) {
        self.lock_inner()
            .change(id, |session| session.locked = locked)
            .told_if_there(&json!(["hint", id, locked]));
    }

    /// The desktop says so in turns, so often, and `last` at the end.
    pub fn flap(&self, id: &str, times: u32, last: bool) {
        self.lock_inner().change(id, |session| session.locked = last).told(&json!(["flap", id, times, last]));
    }

    /// It becomes the active session of its seat, or is not any more.
    pub fn active(&self, id: &str, active: bool) {
        self.lock_inner()
            .change(id, |session| session.active = active)
            .told_if_there(&json!(["active", id, active]));
    }

    /// Its state becomes `closing`, of which logind tells nobody.
    pub fn closing(&self, id: &str) {
        self.lock_inner().change(id, |session| session.closing = true).told_if_there(&json!(["closing", id]));
    }

    /// Its leader ends, of which logind tells nobody.
    pub fn leader_exits(&self, id: &str) {
        let _ = self.lock_inner().change(id, |session| session.leader.kill9());
    }

    /// It is over: the object is gone, `SessionRemoved` is told, its leader has ended.
    pub fn remove(&self, id: &str) {
        let mut inner = self.lock_inner();
        inner.told_if_there(&json!(["remove", id]));
        inner.sessions.retain(|session| session.id != id);
    }

    /// `UserRemoved`, and nothing else.
    pub fn remove_user(&self, account: Account) {
        self.lock_inner().told(&json!(["remove_user", account.uid]));
    }

    /// From now on this person's processes run under the service manager of the user: they belong to no session.
    pub fn run_outside(&self, account: Account) {
        let mut inner = self.lock_inner();
        inner.outside.push(account.uid);
        inner.told(&json!(["outside", account.uid, true]));
    }

    // --- the machine ---

    /// `PrepareForSleep`: true before, false after it.
    pub fn sleep(&self, before: bool) {
        self.lock_inner().told(&json!(["prepare", "PrepareForSleep", before]));
    }

    /// `PrepareForShutdown`.
    pub fn shutdown(&self, before: bool) {
        self.lock_inner().told(&json!(["prepare", "PrepareForShutdown", before]));
    }

    /// The inhibitors that are held right now: what, who, why, mode.
    #[must_use]
    pub fn inhibitors(&self) -> Vec<Value> {
        self.lock_inner().told(&json!(["inhibitors"])).as_array().cloned().unwrap_or_default()
    }

    /// Whether sleep is delayed by somebody right now.
    #[must_use]
    pub fn sleep_is_delayed(&self) -> bool {
        let delays = |row: &Value| row["mode"] == "delay" && row["what"].to_string().contains("sleep");
        self.inhibitors().iter().any(delays)
    }

    // --- enemies and accidents ---

    /// Somebody else than logind sends a signal of a session.
    pub fn forge_session(&self, id: &str, member: &str) {
        let mut inner = self.lock_inner();
        let path = inner.told(&json!(["path", id]));
        inner.told(&json!(["forge", path, format!("{NAME}.Session"), member, "", []]));
    }

    /// Somebody else sends `PropertiesChanged` with that hint.
    pub fn forge_hint(&self, id: &str, locked: bool) {
        let mut inner = self.lock_inner();
        let path = inner.told(&json!(["path", id]));
        let arguments = json!([format!("{NAME}.Session"), { "LockedHint": locked }, []]);
        let interface = "org.freedesktop.DBus.Properties";
        inner.told(&json!(["forge", path, interface, "PropertiesChanged", "sa{sv}as", arguments]));
    }

    /// Somebody else sends a signal of the manager.
    pub fn forge_manager(&self, member: &str, signature: &str, arguments: &Value) {
        let interface = format!("{NAME}.Manager");
        self.lock_inner().told(&json!(["forge", MANAGER, interface, member, signature, arguments]));
    }

    /// Somebody else tells that a session is over.
    pub fn forge_removed(&self, id: &str) {
        let path = self.lock_inner().told(&json!(["path", id]));
        self.forge_manager("SessionRemoved", "so", &json!([id, path]));
    }

    /// logind dies: its name has no owner, and its inhibitors are gone with it.
    pub fn kill(&self) {
        self.lock_inner().double = None;
    }

    /// logind starts again and knows what it knew, as its state is in files.
    pub fn restart(&self) {
        let mut inner = self.lock_inner();
        inner.double = None;
        inner.double = Some(Double::start(&self.address, &self.log_path()));
        inner.tell_all();
    }

    /// The bus dies, and logind's connection with it.
    pub fn kill_bus(&self) {
        let mut inner = self.lock_inner();
        inner.double = None;
        inner.bus = None;
        let _ = std::fs::remove_file(self.dir.path().join("socket"));
    }

    /// A bus at the same address, with a logind that knows what it knew.
    pub fn start_bus(&self) {
        let socket = self.dir.path().join("socket");
        let template = parts::repository().join("tests/fixtures/logind/bus.conf");
        let text = std::fs::read_to_string(template).expect("the bus's configuration is there");
        let config = self.dir.path().join("bus.conf");
        write(&config, &text.replace("SOCKET", socket.to_str().expect("text")), 0o644, 0, 0);
        let log = std::fs::File::create(self.dir.path().join("bus.log")).expect("the directory is ours");
        let mut command = Command::new("/usr/bin/dbus-daemon");
        command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--nopidfile"]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/");
        // A bus lets in whom it finds among the accounts.
        let at = |name: &str| self.dir.path().join(name);
        write(&at("passwd"), &accounts::passwd(self.dir.path()), 0o644, 0, 0);
        write(&at("group"), &accounts::group(), 0o644, 0, 0);
        let bus =
            spawn(command, View::new().bind(at("passwd"), "/etc/passwd").bind(at("group"), "/etc/group"));
        eventually("the bus listens", || so(std::os::unix::net::UnixStream::connect(&socket).is_ok()));
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
        self.lock_inner().bus = Some(bus);
        self.restart();
    }
}

impl Inner {
    #[track_caller]
    fn told(&mut self, command: &Value) -> Value {
        self.double.as_mut().expect("logind runs").command(command)
    }

    /// What happens while logind is away is found there when it is back, and was told to nobody.
    fn told_if_there(&mut self, command: &Value) {
        if let Some(double) = &mut self.double {
            let _ = double.command(command);
        }
    }

    #[track_caller]
    fn change(&mut self, id: &str, change: impl FnOnce(&mut Session)) -> &mut Self {
        change(self.sessions.iter_mut().find(|session| session.id == id).expect("the session is there"));
        self
    }

    fn tell_all(&mut self) {
        let mut commands: Vec<Value> = self.sessions.iter().map(Session::added).collect();
        commands.extend(self.outside.iter().map(|uid| json!(["outside", uid, true])));
        commands.push(json!(["serve"]));
        for command in commands {
            self.told(&command);
        }
    }
}

impl Session {
    fn added(&self) -> Value {
        let seat = if self.kind == Kind::Ssh { "" } else { "seat0" };
        let kind = if self.kind == Kind::Desktop { "wayland" } else { "tty" };
        let state = match (self.closing, self.active) {
            (true, _) => "closing",
            (_, true) => "active",
            (_, false) => "online",
        };
        let Account { name, uid, .. } = self.account;
        let leader = self.leader.pid();
        json!(["add", self.id, uid, name, leader, seat, kind, self.locked, self.active, state, self.since])
    }
}

/// The process that plays logind.
struct Double {
    _process: Process,
    stdin: ChildStdin,
    stdout: Collected,
    at: usize,
}

impl Double {
    fn start(address: &str, log: &std::path::Path) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-B").arg(parts::repository().join("tests/fixtures/logind/double.py"));
        command.arg(address).arg(log).env_clear().env("LANG", "C.UTF-8").current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = spawn(command, View::new());
        let stdin = process.child.stdin.take().expect("it is piped");
        let stdout = Collected::from(process.child.stdout.take().expect("it is piped"));
        let mut double = Self { _process: process, stdin, stdout, at: 0 };
        let _ = double.answer("start");
        double
    }

    #[track_caller]
    fn command(&mut self, command: &Value) -> Value {
        let text = command.to_string();
        self.stdin.write_all(format!("{text}\n").as_bytes()).expect("logind's double runs");
        self.answer(&text)
    }

    #[track_caller]
    fn answer(&mut self, to: &str) -> Value {
        let line = self.stdout.line(&mut self.at, PATIENCE);
        let line =
            line.unwrap_or_else(|| panic!("logind's double ended at {to}; is python3-dbusmock there?"));
        let mut answer: Value = serde_json::from_slice(&line).expect("the double answers in JSON");
        assert!(answer.get("error").is_none(), "{to}: {answer}");
        answer["ok"].take()
    }
}
