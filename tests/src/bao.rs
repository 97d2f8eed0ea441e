//! A real OpenBao, one a world: started in development mode, set up by the script that people use, and asked
//! directly for the ground truth about tokens and leases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::eventually::{eventually, so};
use crate::http::{Answer, Ask, find, tcp};
use crate::parts;
use crate::pg::{Pg, free_port};
use crate::process::{Process, spawn};
use crate::tempdir::{TempDir, write};
use crate::view::View;

/// The token that may everything.
pub const ROOT_TOKEN: &str = "root-token-of-the-test";

/// The period of a session's parent token, seconds, unless a test says otherwise: what a dead broker leaves alive
/// at most.
pub const DEAD_MAN_SECS: u32 = 60;

/// A running server.
pub struct Bao {
    /// Its port on 127.0.0.1; plain HTTP.
    pub port: u16,
    server: Process,
    dir: TempDir,
}

impl Bao {
    /// Starts one, unsealed and empty.
    #[must_use]
    pub fn start() -> Self {
        let dir = TempDir::new("bao");
        let port = free_port();
        let mut command = Command::new(parts::bao());
        command.args(["server", "-dev", "-dev-no-store-token", "-log-level=warn"]);
        command.arg(format!("-dev-root-token-id={ROOT_TOKEN}"));
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        let log = fs::File::create(dir.path().join("log")).expect("the directory is ours");
        command.env_clear().env("HOME", dir.path()).env("PATH", "/usr/bin:/bin").current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let server = spawn(command, View::new());
        let bao = Self { port, server, dir };
        eventually("OpenBao is unsealed", || so(bao.status_of("sys/health") == Some(200)));
        bao
    }

    fn status_of(&self, path: &str) -> Option<u16> {
        self.try_call("GET", path, None, ROOT_TOKEN).map(|answer| answer.status)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Asks with a token; `None` where it does not answer.
    #[must_use]
    pub fn try_call(&self, method: &str, path: &str, body: Option<&Value>, token: &str) -> Option<Answer> {
        let path = format!("/v1/{path}");
        tcp(self.port, Ask { method, path: &path, headers: &[("X-Vault-Token", token)], body }).ok()
    }

    /// Asks as root.
    ///
    /// # Panics
    /// When it does not answer or refuses.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.try_call(method, path, body, ROOT_TOKEN).expect("OpenBao answers");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.status < 400, "{method} {path}: {} {text}", answer.status);
        answer.json()
    }

    /// Reads as root.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.call("GET", path, None)
    }

    /// Writes as root.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Value {
        self.call("PUT", path, Some(body))
    }

    /// A policy.
    pub fn policy(&self, name: &str, text: &str) {
        self.put(&format!("sys/policies/acl/{name}"), &json!({ "policy": text }));
    }

    /// Seals it: it runs, and answers 503 to everything.
    pub fn seal(&self) {
        self.put("sys/seal", &json!({}));
    }

    /// Unseals it again with the key that it printed at its start.
    ///
    /// # Panics
    /// When it printed none.
    pub fn unseal(&self) {
        let key = eventually("OpenBao has printed its key", || {
            let log = fs::read_to_string(self.log()).expect("the log is readable");
            log.split_once("Unseal Key: ")
                .and_then(|(_, rest)| Some(rest.split_whitespace().next()?.to_owned()))
        });
        self.put("sys/unseal", &json!({ "key": key }));
        eventually("OpenBao is unsealed", || so(self.status_of("sys/health") == Some(200)));
    }

    /// Kills it: connections are refused from now on. What it knew is lost.
    pub fn kill(&mut self) {
        self.server.kill9();
    }

    /// The leases below a prefix, such as `database/creds/orders-ro`.
    #[must_use]
    pub fn leases(&self, prefix: &str) -> Vec<String> {
        let path = format!("sys/leases/lookup/{prefix}");
        let answer = self.try_call("LIST", &path, None, ROOT_TOKEN).expect("OpenBao answers");
        keys(&answer)
    }

    /// How many tokens there are, the test's own among them.
    #[must_use]
    pub fn tokens(&self) -> usize {
        keys(&self.try_call("LIST", "auth/token/accessors", None, ROOT_TOKEN).expect("OpenBao answers")).len()
    }

    /// A database engine on `pg` with a role whose users may read, idempotent statements and one hour of life.
    pub fn database(&self, pg: &Pg, role: &str, options: Value) {
        if self.try_call("GET", "database/config/pg", None, ROOT_TOKEN).is_none_or(|a| a.status != 200) {
            self.put("sys/mounts/database", &json!({ "type": "database" }));
            let url = format!(
                "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
                pg.port
            );
            self.put(
                "database/config/pg",
                &json!({
                    "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
                    "username": "vaultadmin", "password": pg.password, "max_open_connections": 4,
                }),
            );
        }
        let mut body = json!({
            "db_name": "pg", "creation_statements": [CREATE], "revocation_statements": [REVOKE],
            "default_ttl": "1h", "max_ttl": "24h",
        });
        for (key, value) in options.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.put(&format!("database/roles/{role}"), &body);
    }

    /// The same with users who may write; launches may be given the policy of both roles.
    pub fn writers(&self, pg: &Pg, role: &str, readers: &str) {
        let create = CREATE.replace("app_ro", "app_rw");
        self.database(pg, role, json!({ "creation_statements": [create] }));
        self.scope_policy(role);
        self.put("auth/token/roles/mcp-launch", &json!({ "allowed_policies": [readers, role] }));
    }

    /// Passwords from now on have characters that encodings change.
    pub fn odd_passwords(&self) {
        let policy = r#"length = 24
rule "charset" { charset = "abcdefghijkmnpqrstuvwxyz" min-chars = 6 }
rule "charset" { charset = "ABCDEFGHIJKLMNPQRSTUVWXYZ" min-chars = 2 }
rule "charset" { charset = "23456789" min-chars = 2 }
rule "charset" { charset = "/+%\"\\ <>&" min-chars = 8 }
"#;
        self.put("sys/policies/password/odd", &json!({ "policy": policy }));
        let mut config = self.get("database/config/pg")["data"]["connection_details"].clone();
        config["password_policy"] = "odd".into();
        config["plugin_name"] = "postgresql-database-plugin".into();
        config["allowed_roles"] = "*".into();
        config["verify_connection"] = false.into();
        self.put("database/config/pg", &config);
    }

    /// What the broker needs, by the script that people use: a control identity that is written into `out`, and
    /// launches that may be given the policy `scope`, which reads that database role's credentials.
    pub fn set_up_by_script(&self, scope: &str, out: &Path) {
        self.scope_policy(scope);
        let (period, out) = (format!("{DEAD_MAN_SECS}s"), out.to_str().expect("text"));
        let words = ["--launch-policies", scope, "--period", &period, "--out", out];
        self.script(&deployed("setup.sh"), &words, &[]);
    }

    /// The same from the same files, by a few calls instead of a minute of command lines. A test shows that the
    /// two leave the same server behind.
    pub fn set_up(&self, scope: &str, out: &Path) {
        self.set_up_with_period(scope, out, DEAD_MAN_SECS);
    }

    /// The same with another period of a session's parent token, in seconds.
    pub fn set_up_with_period(&self, scope: &str, out: &Path, period: u32) {
        self.scope_policy(scope);
        for name in ["mcp-broker", "mcp-session"] {
            let text =
                fs::read_to_string(deployed(&format!("policies/{name}.hcl"))).expect("the policy is there");
            self.policy(name, &text);
        }
        for (name, more) in [
            ("mcp-session", json!({ "token_period": period })),
            ("mcp-launch", json!({ "allowed_policies": [scope] })),
        ] {
            let text =
                fs::read_to_string(deployed(&format!("token-roles/{name}.json"))).expect("the role is there");
            let mut role: Value = serde_json::from_str(&text).expect("the role is JSON");
            role["token_explicit_max_ttl"] = "10h".into();
            for (key, value) in more.as_object().into_iter().flatten() {
                role[key] = value.clone();
            }
            self.put(&format!("auth/token/roles/{name}"), &role);
        }
        self.put("sys/auth/approle", &json!({ "type": "approle" }));
        let role = json!({ "token_policies": ["mcp-broker"], "token_type": "service", "token_period": "1h", "token_no_default_policy": true });
        self.put("auth/approle/role/mcp-broker", &role);
        let role_id = self.get("auth/approle/role/mcp-broker/role-id");
        let secret_id = self.put("auth/approle/role/mcp-broker/secret-id", &json!({}));
        for (file, value) in
            [("role_id", &role_id["data"]["role_id"]), ("secret_id", &secret_id["data"]["secret_id"])]
        {
            write(&out.join(file), value.as_str().expect("text"), 0o600, 0, 0);
        }
    }

    fn scope_policy(&self, scope: &str) {
        self.policy(scope, &format!(r#"path "database/creds/{scope}" {{ capabilities = ["read"] }}"#));
    }

    /// Runs a shell script as the root token, as a person would.
    ///
    /// # Panics
    /// When it fails.
    pub fn script(&self, script: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let bao = parts::bao();
        let folder = bao.parent().expect("a file has a folder");
        let mut command = Command::new("/bin/bash");
        command.arg(script).args(arguments).env_clear().env("HOME", self.dir.path());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display()));
        command.env("BAO_ADDR", self.address()).env("BAO_TOKEN", ROOT_TOKEN);
        command.env("VAULT_ADDR", self.address()).env("VAULT_TOKEN", ROOT_TOKEN);
        command.envs(variables.iter().copied()).stdin(Stdio::null()).current_dir(self.dir.path());
        let output = command.output().expect("bash runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} failed:\n{out}\n{err}", script.display());
        out.into_owned()
    }
}

fn deployed(name: &str) -> PathBuf {
    parts::repository().join("deploy/vault").join(name)
}

fn keys(answer: &Answer) -> Vec<String> {
    if answer.status == 404 || find(&answer.body, b"keys").is_none() {
        return Vec::new();
    }
    let body = answer.json();
    let keys = body["data"]["keys"].as_array().cloned().unwrap_or_default();
    keys.into_iter().filter_map(|key| key.as_str().map(str::to_owned)).collect()
}

const CREATE: &str =
    r#"CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_ro;"#;

/// Ends a user for good: no new session, no open one, no role. A role that is gone already is no error, or
/// its lease could never be revoked.
const REVOKE: &str = r#"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{{name}}') THEN
EXECUTE 'ALTER ROLE "{{name}}" NOLOGIN';
PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';
EXECUTE 'DROP ROLE "{{name}}"'; END IF; END $$;"#;
