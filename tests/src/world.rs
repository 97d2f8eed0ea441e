//! One world a test: directories, people, a broker with its configuration, and the real parts behind it. All
//! of it is gone when the world is dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mcp_broker_proto::session::{LaunchInfo, LeaseInfo};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::accounts::{self, ALICE, Account, PEOPLE, ROOT};
use crate::bao::{Bao, DEAD_MAN_SECS};
use crate::broker::Broker;
use crate::eventually::{eventually, so};
use crate::fault::FaultProxy;
use crate::mcp::{Client, Outcome};
use crate::parts::{self, seen};
use crate::pg::{self, Pg};
use crate::process::with_variable;
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
        let _ = dir.dir("runtime", 0o711, 0, 0);
        for person in PEOPLE.into_iter().chain([ROOT]) {
            let home = person.home(dir.path());
            let home = home.strip_prefix(dir.path()).expect("homes are in the world").to_str().expect("text");
            let _ = dir.dir(home, 0o700, person.uid, person.uid);
            let _ = dir.dir(&format!("runtime/{}", person.name), 0o700, person.uid, person.uid);
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
    pub fn vault_with(mut self, options: Value) -> Self {
        let bao = Bao::start();
        bao.database(pg::shared(), &self.role, options);
        let identity = bao.set_up(&self.role);
        let owner = self.owner().uid;
        write(&self.config_dir().join("secret-id"), &identity.secret_id, 0o600, owner, owner);
        write(&self.config_dir().join("role-id"), &identity.role_id, 0o600, owner, owner);
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

    /// A file system in memory of that size at a place that the broker sees; belongs to the broker's account.
    #[must_use]
    pub fn small_disk(mut self, at: PathBuf, size: &str) -> Self {
        let uid = self.owner().uid;
        self.mounts.push((at, format!("size={size},mode=700,uid={uid},gid={uid}")));
        self
    }

    /// Adds a server with the probe as its program and the world's credential in `DSN`.
    #[must_use]
    pub fn probe(self, name: &str, arguments: &[&str]) -> Self {
        let mut command = vec![seen::PROBE];
        command.extend(arguments);
        self.server(name, &command)
    }

    /// Adds a server with that command and the world's credential in `DSN`.
    #[must_use]
    pub fn server(self, name: &str, command: &[&str]) -> Self {
        let text = self.definition(command);
        self.file(name, &text)
    }

    /// Adds a server by the text of its file.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write_server(name, text);
        self
    }

    /// Writes a server's file as its owner.
    pub fn write_server(&self, name: &str, text: &str) {
        let owner = self.owner().uid;
        write(&self.config_dir().join("servers.d").join(format!("{name}.toml")), text, 0o644, owner, owner);
    }

    /// The text of a server's file: everybody in the group `data` may launch it.
    #[must_use]
    pub fn definition(&self, command: &[&str]) -> String {
        let dsn = format!(
            "postgres://{{db.username|url}}:{{db.password|url}}@127.0.0.1:{}/postgres?sslmode=disable",
            pg::shared().port
        );
        let (role, mark) = (&self.role, &self.mark);
        format!(
            r#"description = "Orders database"
owner = "data-platform"
tier = "development"
command = {command:?}
env = {{ E2E_MARK = "{mark}" }}

[access]
users = ["alice", "bob"]

[scope.read]
tools = ["*"]
credential.db = {{ provider = "bao", path = "database/creds/{role}", policies = ["{role}"], ttl = "15m" }}
inject = [{{ env = "DSN", value = "{dsn}" }}]
"#
        )
    }

    fn write_config(&self) {
        let mut text = String::new();
        if self.mode == Mode::System {
            text.push_str(&format!("[broker]\nstate_dir = {:?}\n\n", self.state_dir()));
        }
        text.push_str("[identity]\nsign_in = \"os\"\n");
        if let Some(proxy) = &self.proxy {
            let role_id = std::fs::read_to_string(self.config_dir().join("role-id")).expect("it was written");
            text.push_str(&format!(
                r#"
[provider.bao]
kind = "vault"
address = "http://127.0.0.1:{}"
auth = {{ method = "approle", mount = "approle", role_id = "{role_id}", secret_id_file = {:?} }}
session_role = "mcp-session"
launch_role = "mcp-launch"
dead_man = "{DEAD_MAN_SECS}s"
"#,
                proxy.port,
                self.config_dir().join("secret-id"),
            ));
        }
        text.push_str(&self.extra);
        let owner = self.owner().uid;
        write(&self.config_dir().join("broker.toml"), &text, 0o644, owner, owner);
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
            Mode::User => self.path().join("runtime/alice/mcp-broker"),
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
            view =
                view.dir(&at_run, 0o700, person.uid).bind(at(&format!("runtime/{}", person.name)), &at_run);
        }
        let programs = [
            (parts::node(), seen::NODE),
            (parts::probe(), seen::PROBE),
            (parts::launcher(), seen::LAUNCHER),
            (parts::broker(), seen::BROKER),
        ];
        for (from, at) in programs {
            view = view.file(at).bind_read_only(from, at);
        }
        for (at, options) in &self.mounts {
            view = view.tmpfs(at, options);
        }
        view.account(account)
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

    /// `mcp-run` with these arguments, started by that person's MCP client.
    #[must_use]
    pub fn run(&self, account: Account, arguments: &[&str]) -> Client {
        let mut command = self.command(account, seen::LAUNCHER);
        command.args(arguments);
        Client::start(command, self.view(account))
    }

    /// Launches a server that answers the handshake.
    #[track_caller]
    #[must_use]
    pub fn launch(&self, account: Account, server: &str) -> Client {
        let mut client = self.run(account, &[server]);
        let _ = client.initialize();
        client
    }

    /// `mcp-run` with these arguments to its end.
    #[track_caller]
    pub fn run_to_end(&self, account: Account, arguments: &[&str]) -> Outcome {
        let mut client = self.run(account, arguments);
        client.close();
        client.outcome()
    }

    /// A command line of `mcp-broker`, as that account, to its end. Commands that read the configuration are
    /// told where it is.
    #[track_caller]
    pub fn admin_as(&self, account: Account, arguments: &[&str]) -> Outcome {
        let mut command = self.broker_command(account);
        command.args(arguments);
        let mut client = Client::start(command, self.view(account));
        client.close();
        client.outcome()
    }

    /// The same as the broker's own account, with the words by which it finds this world.
    #[track_caller]
    pub fn admin(&self, arguments: &[&str]) -> Outcome {
        let mut words = arguments.to_vec();
        let config = self.config_dir();
        words.extend(["--config", config.to_str().expect("text")]);
        if self.mode == Mode::User {
            words.push("--user");
        }
        self.admin_as(self.owner(), &words)
    }

    /// The answer of an admin command with `--json`.
    #[track_caller]
    pub fn admin_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        let mut words = arguments.to_vec();
        words.push("--json");
        let outcome = self.admin(&words);
        outcome.assert_code(0);
        serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.text()))
    }

    fn broker_command(&self, account: Account) -> Command {
        let mut command = self.command(account, seen::BROKER);
        if self.mode == Mode::User {
            command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", account.uid));
        }
        command
    }

    fn serve(&self) -> Command {
        let mut command = self.broker_command(self.owner());
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
        self.broker = Some(Broker::start(self.serve(), self.view(self.owner()), self.log_path()));
    }

    /// Starts another broker on the same state, without waiting for it.
    #[must_use]
    pub fn another_broker(&self) -> Broker {
        Broker::spawn(self.serve(), self.view(self.owner()), self.path().join("another.log"))
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

    /// This world's minted users that exist now.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        self.pg().minted(&self.role)
    }

    /// The processes of this world's instances.
    #[must_use]
    pub fn instances(&self) -> Vec<u32> {
        with_variable("E2E_MARK", &self.mark)
    }

    /// The leases that are not settled.
    #[track_caller]
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseInfo> {
        self.admin_json(&["leases"])
    }

    /// The launches that are alive.
    #[track_caller]
    #[must_use]
    pub fn launches(&self) -> Vec<LaunchInfo> {
        self.admin_json(&["launches"])
    }

    /// Waits until nothing is left of any launch: no process, no database user, no open session of one, no
    /// lease in OpenBao, and, where a broker runs, none in its journal; and the audit log holds together.
    #[track_caller]
    pub fn assert_settled(&mut self) {
        let role = self.role.clone();
        eventually("every process of an instance is gone", || so(self.instances().is_empty()));
        eventually("every minted user is gone", || so(self.users().is_empty()));
        eventually("every session of one is cut", || so(self.pg().sessions(&role) == 0));
        let prefix = format!("database/creds/{role}");
        eventually("no lease is left in OpenBao", || so(self.bao().leases(&prefix).is_empty()));
        if self.broker.as_mut().is_some_and(|broker| broker.process.running()) {
            eventually("the journal is settled", || so(self.leases().is_empty()));
            eventually("no launch is left", || so(self.launches().is_empty()));
        }
        self.admin(&["audit", "verify"]).assert_code(0);
    }

    /// The audit log, one event each.
    #[track_caller]
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let outcome = self.admin(&["audit", "show", "--json"]);
        outcome.assert_code(0);
        let text = outcome.text();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

/// How long a lease may need to end by itself after everything else failed: the dead man's period and a little.
pub const DEAD_MAN: Duration = Duration::from_secs(DEAD_MAN_SECS as u64 + 5);
