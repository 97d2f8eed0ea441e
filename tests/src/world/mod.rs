//! One world a test: directories, people, a broker with its configuration, and the real parts behind it. All
//! of it is gone when the world is dropped.

mod ask;
mod config;
mod places;
mod scopes;
mod told;

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::accounts::{self, ALICE, Account, BOB, PEOPLE, ROOT};
use crate::bao::{Bao, DEAD_MAN_SECS};
use crate::broker::Broker;
use crate::fault::FaultProxy;
use crate::logind::{Kind, Logind};
use crate::parts::{self, seen};
use crate::pg::{self, Pg};
use crate::tempdir::{TempDir, write};

pub use scopes::Scope;

/// For whom the broker of a world works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `--user`, as [`ALICE`].
    User,
    /// As root, for everybody.
    System,
}

/// A world.
pub struct World {
    // Dropped in this order: the broker before what it talks to, the directory last.
    broker: Option<Broker>,
    /// Who knows of login sessions; without one nobody does.
    logind: Option<Logind>,
    /// What stands between the broker and OpenBao.
    pub proxy: Option<FaultProxy>,
    /// OpenBao.
    pub bao: Option<Bao>,
    /// For whom the broker works.
    pub mode: Mode,
    /// Name of this world's role in OpenBao; a part of the names of the users that are minted from it.
    pub role: String,
    /// A value in the environment of every instance, by which its processes are found.
    pub mark: String,
    /// What `[session]` says after what the world writes.
    session: String,
    /// Other tables.
    extra: String,
    /// The period of a session's parent token, seconds.
    dead_man: u32,
    mounts: Vec<(PathBuf, String)>,
    /// The broker's program, as the test sees it.
    program: PathBuf,
    /// What else is in the broker's environment.
    variables: Vec<(&'static str, String)>,
    runtime: TempDir,
    dir: TempDir,
}

impl World {
    /// A user broker of [`ALICE`], not started, without providers.
    #[must_use]
    pub fn user() -> Self {
        Self::new(Mode::User)
    }

    /// The system's broker, not started, without providers.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Mode::System)
    }

    fn new(mode: Mode) -> Self {
        let dir = TempDir::new("world");
        write(&dir.path().join("passwd"), &accounts::passwd(dir.path()), 0o644, 0, 0);
        write(&dir.path().join("group"), &accounts::group(), 0o644, 0, 0);
        let _ = dir.dir("home", 0o711, 0, 0);
        let runtime = TempDir::in_memory("runtime");
        for person in PEOPLE.into_iter().chain([ROOT]) {
            let home = person.home(dir.path());
            let home = home.strip_prefix(dir.path()).expect("homes are in the world").to_str().expect("text");
            let _ = dir.dir(home, 0o700, person.uid, person.uid);
            let _ = runtime.dir(person.name, 0o700, person.uid, person.uid);
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let world = Self {
            broker: None,
            logind: None,
            proxy: None,
            bao: None,
            mode,
            role: format!("w{}", &id[..7]),
            mark: id,
            session: String::new(),
            extra: String::new(),
            dead_man: DEAD_MAN_SECS,
            mounts: Vec::new(),
            program: parts::broker(),
            variables: Vec::new(),
            runtime,
            dir,
        };
        let owner = world.owner().uid;
        let _ = world.dir.dir("conf", 0o755, owner, owner);
        let _ = world.dir.dir("conf/servers.d", 0o755, owner, owner);
        let _ = world.dir.dir("state", 0o700, owner, owner);
        let _ = world.dir.dir("run", 0o755, owner, owner);
        world.write_config();
        world
    }

    /// A new OpenBao with a database engine, and the control identity for the broker, behind a fault proxy.
    #[must_use]
    pub fn vault(self) -> Self {
        self.vault_with(json!({}))
    }

    /// The same with other options for the database role.
    #[must_use]
    pub fn vault_with(self, options: Value) -> Self {
        let period = self.dead_man;
        self.vault_set_up(options, |bao, scope, out| bao.set_up_with_period(scope, out, period))
    }

    /// The same, set up by the script that people use.
    #[must_use]
    pub fn vault_by_script(self) -> Self {
        self.vault_set_up(json!({}), Bao::set_up_by_script)
    }

    fn vault_set_up(mut self, options: Value, set_up: impl Fn(&Bao, &str, &Path)) -> Self {
        let bao = Bao::start();
        bao.database(pg::shared(), &self.role, options);
        set_up(&bao, &self.role, &self.config_dir());
        let owner = self.owner().uid;
        for file in ["role_id", "secret_id"] {
            chown(self.config_dir().join(file), Some(owner), Some(owner)).expect("it was written");
        }
        self.proxy = Some(FaultProxy::before(bao.port));
        self.bao = Some(bao);
        self.write_config();
        self
    }

    /// Another period of a session's parent token.
    #[must_use]
    pub fn dead_man(mut self, seconds: u32) -> Self {
        self.dead_man = seconds;
        if let Some(bao) = &self.bao {
            bao.put("auth/token/roles/mcp-session", &json!({ "token_period": seconds }));
        }
        self.write_config();
        self
    }

    /// A logind in which [`ALICE`] has the desktop session `1`, and [`BOB`], where the broker is the system's, a
    /// session `2` over the network.
    #[must_use]
    pub fn with_logind(self) -> Self {
        let logind = Logind::start();
        logind.log_in("1", ALICE, Kind::Desktop);
        if self.mode == Mode::System {
            logind.log_in("2", BOB, Kind::Ssh);
        }
        self.with_this_logind(logind)
    }

    /// That logind.
    #[must_use]
    pub fn with_this_logind(mut self, logind: Logind) -> Self {
        self.logind = Some(logind);
        self.write_config();
        self
    }

    /// Adds a line to `[session]`.
    #[must_use]
    pub fn session(mut self, line: &str) -> Self {
        self.session.push_str(line);
        self.session.push('\n');
        self.write_config();
        self
    }

    /// Adds tables to `broker.toml`.
    #[must_use]
    pub fn config(mut self, extra: &str) -> Self {
        self.extra.push_str(extra);
        self.write_config();
        self
    }

    /// Puts the state directory on a file system in memory with these mount options, which the broker alone sees.
    #[must_use]
    pub fn disk(mut self, options: &str) -> Self {
        let uid = self.owner().uid;
        let at = self.state_dir();
        let below = at.strip_prefix(self.path()).expect("the state is in the world").to_owned();
        let mut folder = self.path().to_owned();
        for part in below.components() {
            folder.push(part);
            if !folder.exists() {
                let name = folder.strip_prefix(self.path()).expect("it is below").to_str().expect("text");
                let _ = self.dir.dir(name, 0o700, uid, uid);
            }
        }
        self.mounts.push((at, format!("{options},mode=700,uid={uid},gid={uid}")));
        self
    }

    /// Whom the broker runs as.
    #[must_use]
    pub fn owner(&self) -> Account {
        if self.mode == Mode::User { ALICE } else { ROOT }
    }

    /// Starts the broker without waiting for it.
    #[must_use]
    pub fn start_anyway(mut self) -> Self {
        self.broker = Some(Broker::spawn(self.serve(), self.broker_view(), self.log_path()));
        self
    }

    /// A program with what an MCP client hands to a child, and nothing else.
    #[must_use]
    pub fn command(&self, account: Account, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", account.home(self.path())).env("USER", account.name);
        command
            .env("LOGNAME", account.name)
            .env("PATH", "/usr/bin:/bin")
            .env("SHELL", "/bin/sh")
            .env("TERM", "dumb");
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    pub(crate) fn broker_command(&self, account: Account) -> Command {
        let mut command = self.command(account, seen::BROKER);
        if self.mode == Mode::User {
            command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", account.uid));
        }
        command
    }

    fn serve(&self) -> Command {
        let mut command = self.broker_command(self.owner());
        // Everything that it may ever log, for the searches in what it logged.
        command.env("MCP_BROKER_LOG", "trace");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.arg("serve").arg("--config").arg(self.config_dir());
        if self.mode == Mode::User {
            command.arg("--user");
        }
        if let Some(logind) = &self.logind {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", logind.address());
        }
        command
    }

    /// Starts the broker.
    #[track_caller]
    #[must_use]
    pub fn start(mut self) -> Self {
        self.restart();
        self
    }

    /// Starts the broker again; one that runs is killed first.
    #[track_caller]
    pub fn restart(&mut self) {
        self.broker = None;
        self.broker = Some(Broker::start(self.serve(), self.broker_view(), self.log_path()));
    }

    /// Starts another broker on the same state, without waiting for it.
    #[must_use]
    pub fn another_broker(&self) -> Broker {
        Broker::spawn(self.serve(), self.broker_view(), self.path().join("another.log"))
    }

    /// The broker.
    pub fn broker(&mut self) -> &mut Broker {
        self.broker.as_mut().expect("the broker was started")
    }

    /// Where its log is.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.path().join("broker.log")
    }

    /// A path inside the broker's own mount namespace.
    pub fn inside(&mut self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.broker().process.pid()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Who knows of login sessions.
    #[must_use]
    pub fn logind(&self) -> &Logind {
        self.logind.as_ref().expect("the world has a logind")
    }

    /// How long a lease may need to end by itself in this world, after everything else failed.
    #[must_use]
    pub fn dead_man_and_a_little(&self) -> Duration {
        Duration::from_secs(u64::from(self.dead_man) + 5)
    }

    /// OpenBao.
    #[must_use]
    pub fn bao(&self) -> &Bao {
        self.bao.as_ref().expect("the world has an OpenBao")
    }

    /// The fault proxy.
    #[must_use]
    pub fn proxy(&self) -> &FaultProxy {
        self.proxy.as_ref().expect("the world has an OpenBao")
    }

    /// PostgreSQL.
    #[must_use]
    pub fn pg(&self) -> &'static Pg {
        pg::shared()
    }
}

/// How long a lease may need to end by itself after everything else failed: the dead man's period and a little.
pub const DEAD_MAN: Duration = Duration::from_secs(DEAD_MAN_SECS as u64 + 5);
