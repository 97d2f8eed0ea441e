//! One world a test: directories, people, a broker with its configuration, and the real parts behind it. All
//! of it is gone when the world is dropped.

mod ask;
mod config;

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::accounts::{self, ALICE, Account, PEOPLE, ROOT};
use crate::bao::{Bao, DEAD_MAN_SECS};
use crate::broker::Broker;
use crate::fault::FaultProxy;
use crate::parts::{self, seen};
use crate::pg::{self, Pg};
use crate::tempdir::{TempDir, write};
use crate::view::View;

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
    /// What `[session]` and other tables say, after what the world writes.
    extra: String,
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
            proxy: None,
            bao: None,
            mode,
            role: format!("w{}", &id[..7]),
            mark: id,
            extra: String::new(),
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
        self.vault_set_up(options, Bao::set_up)
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

    /// Adds text to `broker.toml`.
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

    /// The directory of the world.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of all runtime directories, in memory.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    /// A person's runtime directory, as the test sees it.
    #[must_use]
    pub fn runtime_dir(&self, account: Account) -> PathBuf {
        self.runtime.path().join(account.name)
    }

    /// The configuration directory.
    #[must_use]
    pub fn config_dir(&self) -> PathBuf {
        self.path().join("conf")
    }

    /// The state directory, as the test sees it.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        match self.mode {
            Mode::User => ALICE.home(self.path()).join(".local/state/mcp-broker"),
            Mode::System => self.path().join("state"),
        }
    }

    /// The socket's directory, as the test sees it.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        match self.mode {
            Mode::User => self.runtime_dir(ALICE).join("mcp-broker"),
            Mode::System => self.path().join("run"),
        }
    }

    /// The broker's socket, as the test sees it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket_dir().join("broker.sock")
    }

    /// The admin's socket, as the test sees it.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.socket_dir().join("admin.sock")
    }

    /// The machine as the world's processes see it, for an account.
    #[must_use]
    pub fn view(&self, account: Account) -> View {
        let at = |name: &str| self.path().join(name);
        let mut view = View::new()
            .bind(at("passwd"), "/etc/passwd")
            .bind(at("group"), "/etc/group")
            .tmpfs("/run", "mode=755")
            .dir("/run/user", 0o755, 0)
            .dir("/run/mcp-broker", 0o755, 0)
            .bind(at("run"), "/run/mcp-broker")
            .dir("/run/e2e", 0o755, 0)
            .dir(seen::BIN, 0o755, 0)
            .dir(seen::PARTS, 0o755, 0)
            .bind_read_only(parts::folder(), seen::PARTS)
            .dir(seen::CLIENTS, 0o755, 0)
            .bind_read_only(parts::repository().join("tests/clients"), seen::CLIENTS);
        for person in PEOPLE {
            let at_run = format!("/run/user/{}", person.uid);
            view = view.dir(&at_run, 0o700, person.uid).bind(self.runtime_dir(person), &at_run);
        }
        let programs = [
            (parts::node(), seen::NODE),
            (parts::probe(), seen::PROBE),
            (parts::launcher(), seen::LAUNCHER),
            (self.program.clone(), seen::BROKER),
        ];
        for (from, at) in programs {
            view = view.file(at).bind_read_only(from, at);
        }
        view.account(account)
    }

    /// What the broker sees: its small disk besides.
    fn broker_view(&self) -> View {
        let mut view = self.view(ROOT);
        for (at, options) in &self.mounts {
            view = view.tmpfs(at, options);
        }
        view.account(self.owner())
    }

    /// What an admin sees who works where the broker does.
    pub(super) fn admin_view(&self, account: Account) -> View {
        match &self.broker {
            Some(broker) if !self.mounts.is_empty() => View::of(broker.process.pid()).account(account),
            _ => self.view(account),
        }
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
