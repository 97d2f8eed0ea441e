//! The real parts of the tests next door: OpenBao from the binary that `BAO_BIN` names, PostgreSQL from the
//! distribution, set up with `deploy/vault`. Each test has its own; they end with it. Nothing is skipped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::credential::{CredentialSettings, Method};
use super::super::settings::{AuthMethod, ServerSettings};
use super::super::{BuildDeps, Vault};
use crate::clock::{Clock, SystemClock};
use crate::config::CredentialSpec;
use crate::provider::{MintRequest, SessionTag};

pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A private directory that goes with the test.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcp-live-{name}-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn secret(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A development server.
pub(super) struct Bao {
    child: Child,
    pub(super) dir: Dir,
    pub(super) address: String,
    http: reqwest::Client,
    bin: PathBuf,
}

impl Drop for Bao {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Bao {
    pub(super) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With TLS and an authority of its own, whose certificate is `vault-ca.pem`.
    pub(super) async fn start_tls() -> Self {
        Self::start_with(&["-dev-tls"]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        let bin = std::env::var_os("BAO_BIN")
            .map(PathBuf::from)
            .expect("BAO_BIN must name the bao binary: these tests run against a real OpenBao");
        let (dir, port) = (Dir::new("bao"), free_port());
        let log = std::fs::File::create(dir.path("log")).expect("a log");
        let tls = !more.is_empty();
        let mut command = Command::new(&bin);
        command.args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]);
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}")).args(more);
        if tls {
            command.arg(format!("-dev-tls-cert-dir={}", dir.0.display()));
        }
        command.env("HOME", &dir.0).current_dir(&dir.0).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("BAO_BIN must be a program that starts");
        let address = format!("{}://127.0.0.1:{port}", if tls { "https" } else { "http" });
        // The admin of the tests; the broker's own client is what is tried.
        let http = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
        let http = http.build().expect("a client");
        let bao = Self { child, dir, address, http, bin };
        let end = Instant::now() + Duration::from_secs(20);
        while bao.http.get(format!("{}/v1/sys/health", bao.address)).send().await.is_err() {
            assert!(Instant::now() < end, "the server does not come up");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        bao.admin("POST", "sys/mounts/kv", json!({"type":"kv","options":{"version":"2"}})).await;
        bao
    }

    /// Asks as the admin; a refusal fails the test.
    pub(super) async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.try_admin(method, path, body, "").await;
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    pub(super) async fn try_admin(
        &self,
        method: &str,
        path: &str,
        body: Value,
        namespace: &str,
    ) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.http.request(method, format!("{}/v1/{path}", self.address));
        let request = request.header("X-Vault-Token", "root").header("X-Vault-Namespace", namespace);
        let answer = request.json(&body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// Writes a policy that may read `path`.
    pub(super) async fn policy(&self, name: &str, path: &str) {
        let text = format!("path \"{path}\" {{ capabilities = [\"read\", \"update\"] }}");
        self.admin("PUT", &format!("sys/policies/acl/{name}"), json!({ "policy": text })).await;
    }

    /// Runs a script of `deploy/vault`.
    pub(super) fn script(&self, name: &str, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/vault").join(name);
        let tools = self.dir.path("tools");
        std::fs::create_dir_all(&tools).expect("a directory");
        std::os::unix::fs::symlink(&self.bin, tools.join("bao")).ok();
        let search = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.arg(script).args(arguments).env("PATH", search).env("HOME", &self.dir.0);
        command.env("BAO_ADDR", &self.address).env("BAO_TOKEN", "root").env("BAO_SKIP_VERIFY", "true");
        command.env_remove("VAULT_ADDR").output().expect("a shell")
    }

    /// Sets the server up as its documentation says.
    pub(super) fn set_up(&self, more: &[&str]) {
        let out = self.dir.path("out").display().to_string();
        let mut arguments = vec!["--out", &out, "--period", "10s"];
        arguments.extend(more);
        let done = self.script("setup.sh", &arguments);
        assert!(done.status.success(), "{}", text_of(&done));
    }

    pub(super) fn settings(&self) -> ServerSettings {
        let out = self.dir.path("out");
        let role_id = std::fs::read_to_string(out.join("role_id")).unwrap_or_default();
        ServerSettings {
            address: self.address.parse().expect("an address"),
            ca_file: None,
            namespace: None,
            auth: AuthMethod::AppRole {
                mount: "approle".into(),
                role_id: role_id.trim().into(),
                secret_id_file: out.join("secret_id"),
            },
            session_role: "mcp-session".into(),
            launch_role: "mcp-launch".into(),
            dead_man: Duration::from_secs(10),
        }
    }

    pub(super) fn provider(&self) -> Vault {
        provider(self.settings())
    }
}

pub(super) fn provider(settings: ServerSettings) -> Vault {
    with_clock(settings, Arc::new(SystemClock))
}

pub(super) fn with_clock(settings: ServerSettings, clock: Arc<dyn Clock>) -> Vault {
    let name = "bao".parse().expect("a label");
    Vault::new(
        settings,
        &BuildDeps { name, clock, state_dir: PathBuf::new(), peers: crate::provider::Peers::default() },
    )
}

pub(super) fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(super) fn tag() -> SessionTag {
    SessionTag { session: mcp_broker_proto::names::SessionId::fresh(), user: "alice".into() }
}

pub(super) fn request(path: &str, policy: &str) -> MintRequest {
    let settings = CredentialSettings {
        path: path.parse().expect("a path"),
        policies: vec![policy.to_owned()],
        method: Method::Read,
        data: serde_json::Map::new(),
        place: super::super::engine::place(&path.parse().expect("a path"), None),
        wrap: None,
    };
    MintRequest {
        lease: mcp_broker_proto::names::LeaseId::fresh(),
        launch: mcp_broker_proto::names::LaunchId::fresh(),
        session: mcp_broker_proto::names::SessionId::fresh(),
        user: "alice".into(),
        server: "orders-db".parse().expect("a name"),
        scope: "read".parse().expect("a name"),
        spec: CredentialSpec {
            name: "db".parse().expect("a name"),
            provider: "bao".parse().expect("a name"),
            ttl: Duration::from_secs(900),
            settings: Arc::new(settings),
        },
        delivered: Vec::new(),
        refreshes: false,
        horizon: Duration::from_secs(36_000),
    }
}

/// A PostgreSQL of its own.
pub(super) struct Postgres {
    dir: Dir,
    bin: PathBuf,
    port: u16,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.control(&["-m", "immediate", "stop"]);
    }
}

impl Postgres {
    pub(super) fn start() -> Self {
        let bin =
            ["17", "16", "15", "14"].iter().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
        let bin =
            bin.into_iter().find(|path| path.join("initdb").exists()).expect("PostgreSQL must be installed");
        let postgres = Self { dir: Dir::new("pg"), bin, port: free_port() };
        let root = rustix::process::geteuid().is_root();
        if root {
            let done = Command::new("chown").arg("postgres").arg(&postgres.dir.0).status().expect("chown");
            assert!(done.success());
        }
        std::fs::write(postgres.dir.path("pw"), "admin-pw").expect("a file");
        let data = postgres.dir.path("data").display().to_string();
        let pw = postgres.dir.path("pw").display().to_string();
        let made = postgres
            .run("initdb", &["-D", &data, "-A", "scram-sha-256", "--pwfile", &pw, "-U", "admin", "-N"]);
        assert!(made.status.success(), "{}", text_of(&made));
        postgres.up();
        postgres.sql("create table notes(id int); insert into notes values (1)");
        postgres
    }

    pub(super) fn up(&self) {
        let options = format!("-p {} -h 127.0.0.1 -k {} -c fsync=off", self.port, self.dir.0.display());
        let log = self.dir.path("log").display().to_string();
        assert!(self.control(&["-w", "-l", &log, "-o", &options, "start"]), "PostgreSQL does not start");
    }

    pub(super) fn down(&self) {
        assert!(self.control(&["-m", "fast", "-w", "stop"]));
    }

    /// As its own documentation says: `postgres.sql`, then `postgres-role.sh`.
    pub(super) fn serve(&self, bao: &Bao) {
        let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/vault/postgres.sql");
        let done =
            self.psql("admin", "admin-pw", &["-v", "password=vault-pw", "-f", &sql.display().to_string()]);
        assert!(done.status.success(), "{}", text_of(&done));
        let password = bao.dir.secret("pg-password", "vault-pw\n").display().to_string();
        let url = format!(
            "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        );
        let done =
            bao.script("postgres-role.sh", &["--url", &url, "--password-file", &password, "--ttl", "1h"]);
        assert!(done.status.success(), "{}", text_of(&done));
    }

    pub(super) fn sql(&self, text: &str) -> String {
        let done = self.psql("admin", "admin-pw", &["-Atc", text]);
        assert!(done.status.success(), "{}", text_of(&done));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// The users that were minted.
    pub(super) fn minted(&self) -> usize {
        self.sql("select count(*) from pg_roles where rolname like 'v-%'").parse().expect("a number")
    }

    pub(super) fn psql(&self, user: &str, password: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("psql");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            user,
            "-d",
            "postgres",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        command.args(arguments).env("PGPASSWORD", password).output().expect("psql must be installed")
    }

    /// A connection that stays open and sleeps.
    pub(super) fn sleeper(&self, user: &str, password: &str) -> Child {
        let mut command = Command::new("psql");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", user, "-d", "postgres", "-w"]);
        command.args(["-c", "select pg_sleep(60)"]).env("PGPASSWORD", password);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql must be installed")
    }

    fn control(&self, arguments: &[&str]) -> bool {
        let data = self.dir.path("data").display().to_string();
        let mut all = vec!["-D", &data, "-s"];
        all.extend(arguments);
        self.run("pg_ctl", &all).status.success()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let program = self.bin.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // Files, not pipes: the server inherits them and would hold a pipe open.
        let log = std::fs::File::create(self.dir.path("ctl")).expect("a log");
        command.args(arguments).current_dir(&self.dir.0).stdin(Stdio::null());
        let status = command.stdout(log.try_clone().expect("a log")).stderr(log).status().expect("a program");
        Output { status, stdout: std::fs::read(self.dir.path("ctl")).unwrap_or_default(), stderr: Vec::new() }
    }
}
