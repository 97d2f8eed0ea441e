//! A throw-away PostgreSQL, one a test binary: its roles are the ground truth of what is alive. Worlds share
//! it and tell their roles apart by the name of their Vault role, which is part of the user's name.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::eventually::{eventually, so};
use crate::parts;
use crate::process::{Process, spawn};
use crate::tempdir::{TempDir, write};
use crate::view::View;

/// A running server.
pub struct Pg {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The password of its superuser `admin` and of `vaultadmin`, which OpenBao uses.
    pub password: String,
    /// The authority that signed its certificate, which is for 127.0.0.1 only, PEM.
    pub authority: String,
    _server: Process,
    dir: TempDir,
}

/// A port of 127.0.0.1 that was free just now.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}

/// The server of this test binary.
pub fn shared() -> &'static Pg {
    static SHARED: OnceLock<Pg> = OnceLock::new();
    SHARED.get_or_init(Pg::start)
}

/// The id of the account that Debian's package makes.
fn postgres_uid() -> u32 {
    let text = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let line = text
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("no account `postgres`; tests/run installs it");
    line.split(':').nth(2).and_then(|uid| uid.parse().ok()).expect("an account has an id")
}

impl Pg {
    fn start() -> Self {
        let uid = postgres_uid();
        let dir = TempDir::new("pg");
        let data = dir.dir("data", 0o700, uid, uid);
        let sockets = dir.dir("sockets", 0o700, uid, uid);
        let password = uuid::Uuid::new_v4().simple().to_string();
        let password_file = dir.path().join("password");
        write(&password_file, &password, 0o600, uid, uid);
        init(uid, &data, &password_file);
        let authority = certify(uid, &dir);
        let port = free_port();
        let log = fs::File::create(dir.path().join("log")).expect("the directory is ours");
        let mut command = Command::new(parts::postgres("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(&sockets).arg("-p").arg(port.to_string());
        command.args(["-h", "127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200", "-c", "ssl=on"]);
        for (name, file) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
            command.arg("-c").arg(format!("{name}={}", dir.path().join(file).display()));
        }
        // What it says of each login is how a test knows that it was encrypted.
        command.args(["-c", "log_connections=on"]);
        command.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        // SIGQUIT: the server ends its children and itself at once.
        let server = spawn(command, View::new().ids(uid, vec![]).death(libc::SIGQUIT));
        let pg = Self { port, password, authority, _server: server, dir };
        eventually("PostgreSQL answers", || so(pg.run(&pg.admin(), "SELECT 1").status.success()));
        pg.prepare();
        pg
    }

    /// Tables, a role that may read them and one that may write, and the account of OpenBao: no superuser, only
    /// what it needs.
    fn prepare(&self) {
        self.sql("CREATE ROLE app_ro");
        self.sql("CREATE TABLE notes (id int PRIMARY KEY, body text)");
        self.sql("INSERT INTO notes VALUES (1, 'hello')");
        self.sql("GRANT SELECT ON notes TO app_ro");
        self.sql("CREATE ROLE app_rw");
        self.sql("CREATE TABLE marks (body text, who text DEFAULT current_user)");
        self.sql("GRANT SELECT ON marks TO app_ro");
        self.sql("GRANT SELECT, INSERT ON marks TO app_rw");
        self.sql(&format!("CREATE ROLE vaultadmin LOGIN CREATEROLE PASSWORD '{}'", self.password));
        self.sql("GRANT app_ro, app_rw TO vaultadmin WITH ADMIN OPTION");
        self.sql("GRANT pg_signal_backend TO vaultadmin");
    }

    /// What it has logged so far.
    ///
    /// # Panics
    /// When its log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).expect("it is ours");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The superuser's address.
    #[must_use]
    pub fn admin(&self) -> String {
        self.url("admin", &self.password)
    }

    /// The address of a user.
    #[must_use]
    pub fn url(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Runs a statement as the superuser; rows a line, columns parted by `|`.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, statement: &str) -> String {
        let output = self.run(&self.admin(), statement);
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs a statement at an address.
    #[must_use]
    pub fn run(&self, url: &str, statement: &str) -> Output {
        self.psql(url).args(["-c", statement]).output().expect("psql runs")
    }

    /// A psql that is not started yet; the address goes by the environment, as it holds a password.
    #[must_use]
    pub fn psql(&self, url: &str) -> Command {
        let mut command = Command::new(parts::postgres("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]);
        command.arg(format!("postgres://127.0.0.1:{}/postgres?sslmode=disable&connect_timeout=5", self.port));
        let (user, password) = user_and_password(url);
        command.env_clear().env("PGUSER", user).env("PGPASSWORD", password).env("PGAPPNAME", "e2e");
        command.stdin(Stdio::null());
        command
    }

    /// The minted users of one Vault role that exist now.
    #[must_use]
    pub fn minted(&self, vault_role: &str) -> Vec<String> {
        let rows = self
            .sql(&format!("SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%-{vault_role}-%' ORDER BY 1"));
        rows.lines().map(str::to_owned).collect()
    }

    /// Sessions of users of one Vault role, or of users that exist no more.
    #[must_use]
    pub fn sessions(&self, vault_role: &str) -> usize {
        let statement =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'v-%-{vault_role}-%'");
        self.sql(&statement).parse().expect("a number")
    }

    /// Sessions whose user exists no more.
    #[must_use]
    pub fn orphaned_sessions(&self) -> usize {
        let statement = "SELECT count(*) FROM pg_stat_activity a WHERE usesysid IS NOT NULL AND usesysid NOT IN (SELECT oid FROM pg_roles)";
        self.sql(statement).parse().expect("a number")
    }
}

/// Makes an authority and has it sign a certificate for the server. The authority, PEM.
fn certify(uid: u32, dir: &TempDir) -> String {
    let at = |name: &str| dir.path().join(name);
    let openssl = |words: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(words).current_dir(dir.path()).stdin(Stdio::null());
        let done = command.output().expect("openssl runs");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let fresh = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority = ["-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&fresh[..], &authority].concat());
    openssl(&[&fresh[..], &["-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr"]].concat());
    fs::write(at("names"), "subjectAltName=IP:127.0.0.1\n").expect("the directory is ours");
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&sign[..], &["-days", "2", "-extfile", "names", "-out", "server.pem"]].concat());
    for file in ["server.key", "server.pem"] {
        std::os::unix::fs::chown(at(file), Some(uid), Some(uid)).expect("it was made");
    }
    fs::read_to_string(at("ca.pem")).expect("it was made")
}

fn init(uid: u32, data: &Path, password_file: &PathBuf) {
    let mut command = Command::new(parts::postgres("initdb"));
    command.arg("-D").arg(data).arg("--pwfile").arg(password_file);
    command.args(["-A", "scram-sha-256", "-U", "admin", "-N", "-E", "UTF8", "--locale", "C.UTF-8"]);
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let exit = spawn(command, View::new().ids(uid, vec![])).wait();
    assert_eq!(
        exit.code(),
        0,
        "initdb failed in {} (owner {:?})",
        data.display(),
        data.metadata().map(|m| m.uid())
    );
}

/// User and password of an address, percent-decoded.
///
/// # Panics
/// When the text is no such address.
#[must_use]
pub fn user_and_password(url: &str) -> (String, String) {
    let inside = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).expect("an address").0;
    let (user, password) = inside.split_once(':').expect("a user with a password");
    (decode(user), decode(password))
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = (byte == b'%').then(|| [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')]);
        let decoded =
            hex.map(|hex| u8::from_str_radix(&String::from_utf8_lossy(&hex), 16).expect("hex digits"));
        out.push(decoded.unwrap_or(byte));
    }
    String::from_utf8(out).expect("UTF-8")
}
