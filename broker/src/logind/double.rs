//! The real bus of the tests, from `dbus-daemon`, and a logind on it that says what a test wants it to say.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the real parts"
)]

use std::collections::{BTreeMap, HashMap};
use std::io::PipeReader;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::{Connection, Message, MessageStream, ObjectPath, Variant};

const SESSION: &str = "org.freedesktop.login1.Session";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/login1";

/// A test gives up after this.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A bus of the test's own.
pub(crate) struct Bus {
    child: Child,
    pub(crate) dir: PathBuf,
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

impl Bus {
    pub(crate) async fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("mcp-bus-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        let config = format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"#,
            dir.join("socket").display()
        );
        std::fs::write(dir.join("conf"), config).unwrap();
        let mut bus = Self { child: Self::daemon(&dir), dir };
        bus.up().await;
        bus
    }

    fn daemon(dir: &std::path::Path) -> Child {
        let mut daemon = Command::new("dbus-daemon");
        daemon.arg(format!("--config-file={}", dir.join("conf").display())).args(["--nofork", "--nopidfile"]);
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        daemon.spawn().expect("dbus-daemon (Debian: dbus)")
    }

    async fn up(&mut self) {
        let socket = self.dir.join("socket");
        eventually("the bus is up", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    pub(crate) async fn restart(&mut self) {
        self.kill();
        std::fs::remove_file(self.dir.join("socket")).ok();
        self.child = Self::daemon(&self.dir);
        self.up().await;
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.dir.join("socket").display())
    }

    pub(crate) async fn connect(&self) -> Connection {
        zbus::connection::Builder::address(self.address().as_str()).build().await.unwrap()
    }
}

/// A session that the double tells of.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) id: &'static str,
    pub(crate) uid: u32,
    pub(crate) leader: u32,
    pub(crate) class: &'static str,
    pub(crate) state: &'static str,
    pub(crate) active: bool,
    pub(crate) locked: bool,
    pub(crate) seat: &'static str,
    pub(crate) since: u64,
}

impl Fake {
    pub(crate) fn new(id: &'static str, uid: u32, leader: u32) -> Self {
        let (class, state) = ("user", "active");
        Self {
            id,
            uid,
            leader,
            class,
            state,
            active: true,
            locked: false,
            seat: "seat0",
            since: 1_700_000_000_000_000,
        }
    }

    pub(crate) fn path(&self) -> String {
        format!("/org/freedesktop/login1/session/_3{}", self.id)
    }
}

/// What happens to the sessions meanwhile.
pub(crate) type Change = Box<dyn FnOnce(&mut Vec<Fake>) + Send>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) sessions: Vec<Fake>,
    /// The display session of each user.
    pub(crate) displays: HashMap<u32, &'static str>,
    pub(crate) by_pid: HashMap<u32, &'static str>,
    pub(crate) delay_max: Duration,
    pub(crate) refuses: bool,
    /// Answers nothing.
    pub(crate) hangs: bool,
    /// Read ends of the inhibitors that were granted.
    inhibitors: Vec<PipeReader>,
    /// What is done to the sessions after so many descriptions of one were given.
    pub(crate) after: Option<(usize, Change)>,
}

/// A logind.
pub(crate) struct Double {
    pub(crate) bus: Connection,
    pub(crate) state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Double {
    pub(crate) async fn start(bus: &Bus) -> Self {
        let state = State { delay_max: Duration::from_secs(5), ..State::default() };
        Self::with(bus, Arc::new(Mutex::new(state))).await
    }

    pub(crate) async fn with(bus: &Bus, state: Arc<Mutex<State>>) -> Self {
        let bus = bus.connect().await;
        let mut stream = MessageStream::from(&bus);
        let (answering, known) = (bus.clone(), Arc::clone(&state));
        let task = tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| std::pin::Pin::new(&mut stream).poll_next(context)).await
            {
                if message.message_type() == Type::MethodCall {
                    answer(&answering, &known, &message).await;
                }
            }
        });
        bus.request_name("org.freedesktop.login1").await.unwrap();
        Self { bus, state, task }
    }

    /// Leaves the bus, and hands over what it knows to the next.
    pub(crate) async fn stop(self) -> Arc<Mutex<State>> {
        self.bus.release_name("org.freedesktop.login1").await.unwrap();
        Arc::clone(&self.state)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) async fn manager<B: serde::Serialize + zbus::DynamicType>(&self, signal: &str, body: &B) {
        emit(&self.bus, None, MANAGER_PATH, MANAGER, signal, body).await;
    }

    pub(crate) async fn session(&self, path: &str, signal: &str) {
        emit(&self.bus, None, path, SESSION, signal, &()).await;
    }

    pub(crate) async fn changed(&self, path: &str, values: &[(&str, Variant<'_>)], invalidated: &[&str]) {
        let values: BTreeMap<&str, Variant<'_>> =
            values.iter().map(|(k, v)| (*k, v.try_clone().unwrap())).collect();
        let body = (SESSION, values, invalidated);
        emit(&self.bus, None, path, "org.freedesktop.DBus.Properties", "PropertiesChanged", &body).await;
    }

    /// So many inhibitors were granted, and so many are still held.
    pub(crate) fn inhibitors(&self) -> (usize, usize) {
        let state = self.state();
        let held = |pipe: &PipeReader| {
            let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::empty())];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 0
        };
        (state.inhibitors.len(), state.inhibitors.iter().filter(|pipe| held(pipe)).count())
    }
}

/// A signal from whoever is connected, to everybody or to one; on its way when this returns.
pub(crate) async fn emit<B: serde::Serialize + zbus::DynamicType>(
    bus: &Connection,
    to: Option<&str>,
    path: &str,
    interface: &str,
    member: &str,
    body: &B,
) {
    bus.emit_signal(to, path, interface, member, body).await.unwrap();
    // The bus takes messages of one connection in order: with this answer the signal has gone out.
    bus.call_method(Some("org.freedesktop.DBus"), "/", Some("org.freedesktop.DBus"), "GetId", &())
        .await
        .unwrap();
}

async fn answer(bus: &Connection, state: &Mutex<State>, call: &Message) {
    let header = call.header();
    let (path, member) = (header.path().unwrap().as_str(), header.member().unwrap().as_str());
    if state.lock().unwrap().hangs {
        return;
    }
    let body = call.body();
    let done = match member {
        "Ping" => bus.reply(&header, &()).await,
        "GetSession" => {
            let id: String = body.deserialize().unwrap();
            let found = find(state, |session| session.id == id);
            session_path(bus, &header, found, "NoSuchSession").await
        }
        "GetSessionByPID" => {
            let pid: u32 = body.deserialize().unwrap();
            let id = state.lock().unwrap().by_pid.get(&pid).copied();
            let found = find(state, |session| Some(session.id) == id);
            session_path(bus, &header, found, "NoSessionForPID").await
        }
        "GetUser" => {
            let uid: u32 = body.deserialize().unwrap();
            if find(state, |session| session.uid == uid).is_none() {
                bus.reply_error(&header, "org.freedesktop.login1.NoSuchUser", &"x").await
            } else {
                bus.reply(&header, &object(&format!("/org/freedesktop/login1/user/_{uid}"))).await
            }
        }
        "Inhibit" if state.lock().unwrap().refuses => {
            bus.reply_error(&header, "org.freedesktop.DBus.Error.AccessDenied", &"x").await
        }
        "Inhibit" => {
            let (what, _, _, mode): (String, String, String, String) = body.deserialize().unwrap();
            assert_eq!((what.as_str(), mode.as_str()), ("sleep:shutdown", "delay"));
            let (reader, writer) = std::io::pipe().unwrap();
            state.lock().unwrap().inhibitors.push(reader);
            bus.reply(&header, &zbus::Fd::from(std::os::fd::OwnedFd::from(writer))).await
        }
        "Get" => {
            let micros = u64::try_from(state.lock().unwrap().delay_max.as_micros()).unwrap();
            bus.reply(&header, &Variant::from(micros)).await
        }
        "GetAll" => describe(bus, state, &header, path).await,
        other => unreachable!("{other}"),
    };
    done.ok();
}

async fn describe(
    bus: &Connection,
    state: &Mutex<State>,
    header: &zbus::message::Header<'_>,
    path: &str,
) -> zbus::Result<()> {
    if let Some(uid) = path.strip_prefix("/org/freedesktop/login1/user/_") {
        let uid: u32 = uid.parse().unwrap();
        let user = user(&state.lock().unwrap(), uid);
        return bus.reply(header, &user).await;
    }
    let Some(session) = find(state, |session| session.path() == path) else {
        return bus.reply_error(header, "org.freedesktop.DBus.Error.UnknownObject", &"x").await;
    };
    {
        let mut state = state.lock().unwrap();
        if let Some((left, then)) = state.after.take() {
            if left > 1 {
                state.after = Some((left - 1, then));
            } else {
                then(&mut state.sessions);
            }
        }
    }
    let named = |name: &str, path: &str| Variant::new((name.to_owned(), object(path)));
    let values = BTreeMap::from([
        ("Id", Variant::from(session.id)),
        (
            "User",
            Variant::new((session.uid, object(&format!("/org/freedesktop/login1/user/_{}", session.uid)))),
        ),
        ("Timestamp", Variant::from(session.since)),
        ("Leader", Variant::from(session.leader)),
        ("Class", Variant::from(session.class)),
        ("State", Variant::from(session.state)),
        ("Active", Variant::from(session.active)),
        ("LockedHint", Variant::from(session.locked)),
        ("Remote", Variant::from(false)),
        (
            "Seat",
            named(
                session.seat,
                if session.seat.is_empty() { "/" } else { "/org/freedesktop/login1/seat/seat0" },
            ),
        ),
        ("Display", Variant::from(":0")),
        ("VTNr", Variant::from(1u32)),
    ]);
    bus.reply(header, &values).await
}

fn user(state: &State, uid: u32) -> BTreeMap<&'static str, Variant<'static>> {
    let sessions = || state.sessions.iter().filter(move |session| session.uid == uid);
    let display = state.displays.get(&uid).copied().unwrap_or_default();
    let path = sessions().find(|session| session.id == display).map_or("/".to_owned(), Fake::path);
    let all: Vec<_> = sessions().map(|session| (session.id.to_owned(), object(&session.path()))).collect();
    BTreeMap::from([
        ("UID", Variant::from(uid)),
        ("Display", Variant::new((display.to_owned(), object(&path)))),
        ("Sessions", Variant::new(all)),
        ("Name", Variant::from("somebody")),
    ])
}

fn find(state: &Mutex<State>, wanted: impl Fn(&Fake) -> bool) -> Option<Fake> {
    state.lock().unwrap().sessions.iter().find(|session| wanted(session)).cloned()
}

async fn session_path(
    bus: &Connection,
    header: &zbus::message::Header<'_>,
    found: Option<Fake>,
    or: &str,
) -> zbus::Result<()> {
    match found {
        Some(session) => bus.reply(header, &object(&session.path())).await,
        None => bus.reply_error(header, format!("org.freedesktop.login1.{or}"), &"x").await,
    }
}

fn object(path: &str) -> ObjectPath<'static> {
    ObjectPath::try_from(path.to_owned()).unwrap()
}
