//! From a process to its login session, on a real bus with a double of logind: what it must find, and all that
//! it must refuse. Where the processes are is recorded below a directory of the test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the real parts"
)]

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Instant;

use mcp_broker_proto::problem::ErrorCode;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::double::{Bus, Change, Double, Fake};
use super::{Logind, RUNNING};
use crate::session::login::{Caller, Login, Logins};

/// A process that does nothing, until it is not needed any more.
struct Idler(Child);

impl Idler {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn pidfd(&self) -> OwnedFd {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct World {
    bus: Bus,
    double: Double,
    logind: Arc<Logind>,
    caller: Idler,
    leader: Idler,
}

const UID: u32 = 1000;

impl World {
    async fn new() -> Self {
        let bus = Bus::start().await;
        let double = Double::start(&bus).await;
        let logind = Logind::connect_to(Some(bus.address()), bus.dir.join("proc"), false).await;
        assert!(logind.present());
        let world = Self { bus, double, logind, caller: Idler::new(), leader: Idler::new() };
        world.record(world.leader.pid(), "/user.slice/user-1000.slice/session-4.scope");
        world.double.state().sessions.push(Fake::new("4", UID, world.leader.pid()));
        world
    }

    /// What `/proc` says about a process.
    fn record(&self, pid: u32, group: &str) {
        let dir = self.bus.dir.join("proc").join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("cgroup"), format!("0::{group}\n")).unwrap();
        let stat = format!("{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {} 0 0\n", pid + 7);
        std::fs::write(dir.join("stat"), stat).unwrap();
    }

    fn asking(&self) -> Caller {
        Caller { uid: UID, pid: Some(self.caller.pid()), pidfd: Some(Arc::new(self.caller.pidfd())) }
    }

    async fn login(&self, group: &str) -> Result<Login, ErrorCode> {
        self.record(self.caller.pid(), group);
        let found = self.logind.login_of(&self.asking()).await;
        found.map(Option::unwrap).map_err(|problem| {
            assert!(!problem.hint.is_empty(), "{}", problem.title);
            problem.code
        })
    }

    async fn id(&self, group: &str) -> Result<String, ErrorCode> {
        self.login(group).await.map(|login| login.id)
    }
}

type Spoil = fn(&mut Fake);

const OWN: &str = "/user.slice/user-1000.slice/session-4.scope";
const MANAGER: &str = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-code-1.scope";
const NONE: Result<String, ErrorCode> = Err(ErrorCode::NoLoginSession);

#[tokio::test]
async fn a_process_in_a_session_is_bound_to_it() {
    let world = World::new().await;
    world.double.state().sessions.push(Fake::new("5", UID, world.leader.pid()));
    world.double.state().displays.insert(UID, "5");
    let login = world.login(OWN).await.unwrap();
    assert_eq!((login.id.as_str(), login.uid, login.since), ("4", UID, 1_700_000_000_000_000));
    assert_eq!(
        (login.path.as_str(), login.seat.as_deref()),
        (Fake::new("4", 0, 0).path().as_str(), Some("seat0"))
    );
    let pid = world.leader.pid();
    assert_eq!((login.leader.pid, login.leader.started, login.remote), (pid, u64::from(pid) + 7, false));
    assert_eq!(login, world.login(OWN).await.unwrap(), "the same again");
    world.double.state().sessions[0].since += 1;
    assert_ne!(login, world.login(OWN).await.unwrap(), "the same id, used again");
}

#[tokio::test]
async fn what_is_not_a_persons_own_session_is_refused() {
    let world = World::new().await;
    let refused: [(&str, Spoil); 9] = [
        ("greeter", |session| session.class = "greeter"),
        ("lock screen", |session| session.class = "lock-screen"),
        ("cron", |session| session.class = "background"),
        ("a service manager", |session| session.class = "manager"),
        ("not complete", |session| session.class = "user-incomplete"),
        ("on its way out", |session| session.state = "closing"),
        ("another's", |session| session.uid = UID + 1),
        ("no leader", |session| session.leader = 0),
        ("a leader that is gone", |session| session.leader = u32::MAX / 4),
    ];
    for (what, spoil) in refused {
        let good = world.double.state().sessions[0].clone();
        spoil(&mut world.double.state().sessions[0]);
        assert_eq!(world.id(OWN).await, NONE, "{what}");
        world.double.state().sessions[0] = good;
    }
    for class in ["user", "user-early", "user-light", "user-early-light"] {
        world.double.state().sessions[0].class = class;
        assert_eq!(world.id(OWN).await, Ok("4".into()), "{class}");
    }
    // By what the groups say alone.
    assert_eq!(world.id("/user.slice/user-1001.slice/session-4.scope").await, NONE, "another's slice");
    assert_eq!(world.id("/user.slice/user-1000.slice/session-6.scope").await, NONE, "unknown to logind");
    assert_eq!(world.id("/user.slice/user-1001.slice/user@1001.service/x.scope").await, NONE, "sudo");
    // The leader must be in the session, as far as groups show.
    world.record(world.leader.pid(), "/user.slice/user-1000.slice/session-5.scope");
    assert_eq!(world.id(OWN).await, NONE, "a leader's number that was given out again");
}

#[tokio::test]
async fn what_changes_between_two_looks_is_not_bound() {
    let world = World::new().await;
    let changes: [(&str, Change); 5] = [
        ("gone", Box::new(Vec::clear)),
        ("another of the same id", Box::new(|sessions| sessions[0].since += 1)),
        ("another leader", Box::new(|sessions| sessions[0].leader = 1)),
        ("closing", Box::new(|sessions| sessions[0].state = "closing")),
        ("another class", Box::new(|sessions| sessions[0].class = "user-light")),
    ];
    for (what, change) in changes {
        let good = world.double.state().sessions.clone();
        world.double.state().after = Some((1, change));
        assert_eq!(world.id(OWN).await, NONE, "{what}");
        world.double.state().sessions = good;
    }
    assert_eq!(world.id(OWN).await, Ok("4".into()));
    // Heard over one subscription and read over the next: what fell between was heard by nobody.
    let logind = Arc::clone(&world.logind);
    world.double.state().after = Some((1, Box::new(move |_| logind.hearing().number += 1)));
    assert_eq!(world.id(OWN).await, Err(ErrorCode::LoginsUnseen));
}

#[tokio::test]
async fn what_has_no_session_is_bound_to_the_persons_display() {
    let world = World::new().await;
    let second = |id| Fake::new(id, UID, world.leader.pid());
    let elsewhere = "/system.slice/cron.service";
    for group in [MANAGER, elsewhere, "/user.slice/user-1000.slice/user@1000.service/session-9.scope"] {
        assert_eq!(world.id(group).await, Ok("4".into()), "the only one: {group}");
    }
    world.double.state().sessions.push(second("5"));
    assert_eq!(world.id(MANAGER).await, NONE, "two, and no display");
    let problem = world.logind.login_of(&world.asking()).await.err().unwrap();
    assert!(problem.title.contains("(4, 5)"), "{}", problem.title);
    world.double.state().displays.insert(UID, "4");
    assert_eq!(world.id(MANAGER).await, Ok("4".into()), "the display");
    assert_eq!(world.id(elsewhere).await, Ok("4".into()), "the display");
    world.double.state().sessions[0].state = "closing";
    world.record(world.leader.pid(), "/user.slice/user-1000.slice/session-5.scope");
    assert_eq!(world.id(MANAGER).await, Ok("5".into()), "the other, as the display closes");
    world.double.state().sessions[1].class = "background";
    assert_eq!(world.id(MANAGER).await, NONE, "none left");
    world.double.state().sessions.clear();
    assert_eq!(world.id(MANAGER).await, NONE, "not logged in");
}

#[tokio::test]
async fn where_groups_say_nothing_logind_is_asked() {
    let world = World::new().await;
    world.double.state().sessions.push(Fake::new("5", UID, world.leader.pid()));
    world.double.state().sessions.push(Fake::new("6", UID + 1, world.leader.pid()));
    world.double.state().displays.insert(UID, "4");
    world.double.state().by_pid.insert(world.caller.pid(), "5");
    assert_eq!(world.id("/").await, Ok("5".into()));
    // Also when the leader is anywhere: such a machine's groups show nothing.
    world.record(world.leader.pid(), "/");
    assert_eq!(world.id("/").await, Ok("5".into()));
    world.double.state().by_pid.insert(world.caller.pid(), "6");
    assert_eq!(world.id("/").await, NONE, "another's session is not replaced by the person's own");
}

#[tokio::test]
async fn a_process_that_is_gone_is_bound_to_nothing() {
    let mut world = World::new().await;
    let asking = world.asking();
    world.record(world.caller.pid(), OWN);
    assert!(world.logind.login_of(&asking).await.is_ok());
    world.caller.0.kill().unwrap();
    world.caller.0.wait().unwrap();
    let code = |found: Result<Option<Login>, mcp_broker_proto::problem::Problem>| found.err().map(|p| p.code);
    assert_eq!(code(world.logind.login_of(&asking).await), Some(ErrorCode::PeerGone));
    let nobody = Caller { uid: UID, pid: None, pidfd: None };
    assert_eq!(code(world.logind.login_of(&nobody).await), Some(ErrorCode::PeerGone));
}

#[tokio::test]
async fn a_look_says_how_that_very_session_does() {
    let mut world = World::new().await;
    let login = world.login(OWN).await.unwrap();
    let look = async |world: &World| world.logind.look(&login).await.unwrap();
    let seen = look(&world).await.unwrap();
    assert_eq!((seen.locked_hint, seen.active, seen.closing), (false, true, false));
    world.double.state().sessions[0].locked = true;
    world.double.state().sessions[0].active = false;
    let seen = look(&world).await.unwrap();
    assert_eq!((seen.locked_hint, seen.active, seen.closing), (true, false, false));
    world.double.state().sessions[0].state = "closing";
    assert!(look(&world).await.unwrap().closing);
    world.double.state().sessions[0].state = "active";
    world.leader.0.kill().unwrap();
    world.leader.0.wait().unwrap();
    assert!(look(&world).await.unwrap().closing, "its leader has exited");
    world.double.state().sessions[0].since += 1;
    assert_eq!(look(&world).await, None, "another session of the same id");
    world.double.state().sessions.clear();
    assert_eq!(look(&world).await, None);
}

#[tokio::test]
async fn a_logind_that_hangs_is_unseen_within_its_time() {
    let world = World::new().await;
    world.double.state().hangs = true;
    let begun = Instant::now();
    assert_eq!(world.id(OWN).await, Err(ErrorCode::LoginsUnseen));
    assert!(begun.elapsed() < super::double::LONG / 2);
}

#[tokio::test]
async fn whether_there_is_a_logind_is_decided_at_the_start() {
    let mut bus = Bus::start().await;
    let connect = async |bus: &Bus, required| {
        Logind::connect_to(Some(bus.address()), PathBuf::from("/proc"), required).await
    };
    let caller = Caller { uid: UID, pid: Some(1), pidfd: None };
    let code = async |logind: &Logind| {
        logind.login_of(&caller).await.map(|login| login.is_some()).map_err(|p| p.code)
    };

    let (absent, required) = (connect(&bus, false).await, connect(&bus, true).await);
    assert!(!absent.present() && required.present());
    assert_eq!(code(&absent).await, Ok(false));
    assert_eq!(code(&required).await, Err(ErrorCode::LoginsUnseen));

    let double = Double::start(&bus).await;
    let present = connect(&bus, false).await;
    assert!(present.present() && present.heard());
    assert_eq!(code(&absent).await, Ok(false), "decided for good");

    let mut listener = present.listen().await.unwrap();
    drop(double.stop().await);
    assert_eq!(listener.next().await, Some(super::Event::Gone));
    assert_eq!(code(&present).await, Err(ErrorCode::LoginsUnseen), "once seen, it is never absent");
    bus.kill();
    assert_eq!(listener.next().await, None);
    drop(listener);
    assert!(present.listen().await.is_none());
    assert_eq!(code(&present).await, Err(ErrorCode::LoginsUnseen));

    let (absent, required) = (connect(&bus, false).await, connect(&bus, true).await);
    assert!(!absent.present() && required.present() && !required.heard());
    assert_eq!(code(&required).await, Err(ErrorCode::LoginsUnseen));
    let nowhere = format!("unix:path={}", bus.dir.join("nothing").display());
    assert!(!Logind::connect_to(Some(nowhere), PathBuf::from("/proc"), false).await.present());
    // What is there and does not speak is no proof of absence.
    let (mute, path) = (bus.dir.join("mute"), "unix:path=");
    let _listener = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    let logind =
        Logind::connect_to(Some(format!("{path}{}", mute.display())), PathBuf::from("/proc"), false).await;
    assert_eq!(code(&logind).await, Err(ErrorCode::LoginsUnseen));
    assert!(RUNNING.starts_with("/run/systemd/"));
}
