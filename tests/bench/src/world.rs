//! A broker to measure: its configuration, its servers, and launches that are held without a launcher.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::bao::{Bao, DEAD_MAN_SECS};
use e2e::broker::Broker;
use e2e::pg;
use e2e::tempdir::{TempDir, write};
use e2e::view::View;
use serde_json::json;

use crate::http::Kept;
use crate::programs;

/// The database role, the policy of its scope, and the name of a value beside it.
pub const ROLE: &str = "bench";

/// A value that comes with a lease: its token stays, and no backend takes part in its end.
pub const LEASED: &str = "leased/bench";

/// A running broker of root's, with its directory.
pub struct World {
    /// The broker.
    pub broker: Broker,
    /// OpenBao, where the world has one.
    pub bao: Option<Bao>,
    dir: TempDir,
}

impl World {
    /// Whose state lies in memory, so that no disk is measured.
    #[must_use]
    pub fn in_memory(servers: &[(&str, String)]) -> Self {
        Self::start(TempDir::in_memory("bench"), None, servers)
    }

    /// The same with an OpenBao and a PostgreSQL behind it.
    #[must_use]
    pub fn with_bao(servers: &[(&str, String)]) -> Self {
        let bao = Bao::start();
        bao.database(pg::shared(), ROLE, json!({}));
        Self::start(TempDir::in_memory("bench"), Some(bao), servers)
    }

    fn start(dir: TempDir, bao: Option<Bao>, servers: &[(&str, String)]) -> Self {
        let at = |name: &str| dir.path().join(name);
        for (name, mode) in [("conf", 0o755), ("conf/servers.d", 0o755), ("state", 0o700), ("run", 0o755)] {
            let _ = dir.dir(name, mode, 0, 0);
        }
        let mut config = format!(
            "[broker]\nsocket = {:?}\nadmin_socket = {:?}\nstate_dir = {:?}\n\n[session]\nlogind = \"optional\"\nmints_per_minute = 1000000\n\n[provider.local]\nkind = \"sealed\"\nkey = \"file\"\n",
            at("run/broker.sock"),
            at("run/admin.sock"),
            at("state")
        );
        if let Some(bao) = &bao {
            bao.set_up(ROLE, &at("conf"));
            let paths = ["database/creds/bench", "secret/data/bench", LEASED];
            let rules = paths.map(|path| format!("path \"{path}\" {{ capabilities = [\"read\"] }}\n"));
            bao.policy(ROLE, &rules.concat());
            let kept = json!({
                "value": "not-secret", "access_key_id": "AKIDBENCH", "secret_access_key": "not-secret-either",
                "session_token": "nor-is-this",
            });
            bao.put("secret/data/bench", &json!({ "data": kept }));
            let options = json!({ "version": "1", "leased_passthrough": "true" });
            bao.put("sys/mounts/leased", &json!({ "type": "kv", "options": options }));
            // Shorter than what the server asks for: OpenBao 2.7.2 drops the connection of a renewal here.
            bao.put(LEASED, &json!({ "value": "not-secret", "ttl": "10m" }));
            let role_id = fs::read_to_string(at("conf/role_id")).expect("it was written");
            config.push_str(&format!(
                "\n[provider.bao]\nkind = \"vault\"\naddress = {:?}\nauth = {{ method = \"approle\", mount = \"approle\", role_id = \"{role_id}\", secret_id_file = {:?} }}\ndead_man = \"{DEAD_MAN_SECS}s\"\n",
                bao.address(),
                at("conf/secret_id")
            ));
        }
        write(&at("conf/broker.toml"), &config, 0o644, 0, 0);
        for (name, text) in servers {
            write(&at("conf/servers.d").join(format!("{name}.toml")), text, 0o644, 0, 0);
        }
        seal(&at("conf"));
        let mut serve = command(&programs::broker());
        serve.arg("serve").arg("--config").arg(at("conf"));
        let broker = Broker::start(serve, View::new(), at("log"));
        Self { broker, bao, dir }
    }

    /// The broker's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/broker.sock")
    }

    /// The broker's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.broker.process.pid()
    }

    /// `mcp-run SERVER`, not started yet.
    #[must_use]
    pub fn launcher(&self, server: &str) -> Command {
        let mut run = command(&programs::launcher());
        run.arg("--socket").arg(self.socket()).arg(server);
        run
    }

    /// Opens a launch, and waits for its ticket.
    #[must_use]
    pub fn launch(&self, server: &str) -> Launch {
        Launch::open(&self.socket(), server)
    }
}

/// A program with a small environment.
#[must_use]
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", "/root").env("USER", "root").env("PATH", "/usr/bin:/bin");
    command
}

fn seal(config: &Path) {
    let mut set = command(&programs::broker());
    set.args(["secret", "set", "BENCH", "--config"]).arg(config).stdin(Stdio::piped());
    let mut child = set.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the broker starts");
    child.stdin.take().expect("piped").write_all(b"not-secret").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "secret set: {}", String::from_utf8_lossy(&output.stderr));
}

/// A server with that many credentials from the sealed store, the first of them in `VALUE`.
#[must_use]
pub fn sealed_server(command: &[String], credentials: usize) -> String {
    let mut text = head(command);
    for number in 0..credentials {
        text.push_str(&format!("credential.c{number} = {{ provider = \"local\", secret = \"BENCH\" }}\n"));
    }
    text.push_str("inject = [{ env = \"VALUE\", value = \"{c0.value}\" }]\n");
    text
}

/// A server whose tools `a`, `b` and `c` are of a scope each.
#[must_use]
pub fn three_scopes(command: &[String]) -> String {
    let mut text = head(command).split_once("[scope.all]").expect("it has one").0.to_owned();
    for name in ["a", "b", "c"] {
        text.push_str(&format!(
            "[scope.{name}]\ntools = [{name:?}]\ncredential.one = {{ provider = \"local\", secret = \"BENCH\" }}\ninject = [{{ env = \"VALUE\", value = \"{{one.value}}\" }}]\n"
        ));
    }
    text
}

/// A server with a database user of its own.
#[must_use]
pub fn database_server(command: &[String]) -> String {
    head(command)
        + "credential.db = { provider = \"bao\", path = \"database/creds/bench\", policies = [\"bench\"], ttl = \"15m\" }\n\
           inject = [{ env = \"DSN\", value = \"postgres://{db.username|url}:{db.password|url}@h/d\" }]\n"
}

/// A server with a value of the key-value store.
#[must_use]
pub fn value_server(command: &[String]) -> String {
    head(command)
        + "credential.kv = { provider = \"bao\", path = \"secret/data/bench\", policies = [\"bench\"], ttl = \"15m\" }\n\
           inject = [{ env = \"VALUE\", value = \"{kv.value}\" }]\n"
}

/// A server whose credential AWS SDKs ask its launcher for.
#[must_use]
pub fn aws_server(command: &[String]) -> String {
    head(command)
        + "credential.kv = { provider = \"bao\", path = \"secret/data/bench\", policies = [\"bench\"], ttl = \"15m\" }\n\
           inject = [{ aws = \"endpoint\" }]\n"
}

/// A server with a token of its own, which holds a lease that costs nothing to end.
#[must_use]
pub fn token_server(command: &[String]) -> String {
    head(command)
        + "credential.kv = { provider = \"bao\", path = \"leased/bench\", policies = [\"bench\"], ttl = \"15m\" }\n\
           inject = [{ env = \"VALUE\", value = \"{kv.value}\" }]\n"
}

fn head(command: &[String]) -> String {
    format!(
        "description = \"bench\"\nowner = \"bench\"\ntier = \"development\"\ncommand = {command:?}\n\n[access]\nusers = [\"root\"]\n\n[scope.all]\ntools = [\"*\"]\n"
    )
}

/// A launch that is held open without a launcher; its credentials end when it is dropped.
pub struct Launch(BufReader<UnixStream>);

impl Launch {
    /// Opens it, and waits for its ticket.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn open(socket: &Path, server: &str) -> Self {
        Self::try_open(socket, server).unwrap_or_else(|said| panic!("refused: {said}"))
    }

    /// The same, where a refusal may come.
    ///
    /// # Errors
    /// What the broker said.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn try_open(socket: &Path, server: &str) -> Result<Self, String> {
        let mut http = Kept::unix(socket).expect("the broker listens");
        http.headers = "Connection: Upgrade\r\nUpgrade: mcp-broker-launch/1\r\n".into();
        let body =
            json!({ "protocol": mcp_broker_proto::PROTOCOL, "server": server, "want": true }).to_string();
        let (status, body) = http.ask("POST", "/v1/launches", &body).expect("the broker answers");
        if status != 101 {
            return Err(String::from_utf8_lossy(&body).into_owned());
        }
        let mut stream = http.upgraded();
        let mut line = String::new();
        while !line.contains("\"ticket\"") {
            line.clear();
            stream.read_line(&mut line).expect("the channel is open");
            if line.is_empty()
                || ["\"refused\"", "\"park\"", "\"end\""].iter().any(|word| line.contains(word))
            {
                return Err(line);
            }
        }
        Ok(Self(stream))
    }
}

/// Launches that are held for long: each is sent its beat.
#[derive(Default, Clone)]
pub struct Held(Arc<Mutex<Vec<Launch>>>);

impl Held {
    /// None yet; the beats go on until all clones of this are dropped.
    #[must_use]
    pub fn new() -> Self {
        let held = Self::default();
        let weak = Arc::downgrade(&held.0);
        std::thread::spawn(move || {
            while let Some(all) = weak.upgrade() {
                for Launch(stream) in all.lock().expect("no holder panics").iter_mut() {
                    stream
                        .get_mut()
                        .write_all(b"{\"type\":\"beat\"}\n")
                        .expect("the broker holds the launch");
                }
                drop(all);
                std::thread::sleep(Duration::from_secs(4));
            }
        });
        held
    }

    /// Adds one.
    pub fn push(&self, launch: Launch) {
        self.0.lock().expect("no holder panics").push(launch);
    }

    /// Closes all of them.
    pub fn end(self) {
        self.0.lock().expect("no holder panics").clear();
    }
}
