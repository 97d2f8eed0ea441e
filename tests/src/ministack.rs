//! An emulator of AWS that checks signatures, policies of roles and of sessions, and ends: MiniStack. It is set up by
//! a program that uses the SDK.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::eventually::{eventually, so};
use crate::http::{Ask, tcp};
use crate::parts;
use crate::pg::free_port;
use crate::process::{Process, spawn};
use crate::tempdir::TempDir;
use crate::view::View;

/// A running emulator with the buckets `notes` and `secret`, an object `a` in each, the queue `orders`, and a role that
/// may do everything with them.
pub struct Ministack {
    /// Where every service answers.
    pub url: String,
    /// The port of that on 127.0.0.1.
    pub port: u16,
    /// Keys of the user who may assume the role, and nothing else.
    pub access_key_id: String,
    /// The secret one.
    pub secret_access_key: String,
    /// That role.
    pub role_arn: String,
    _server: Process,
    _dir: TempDir,
}

impl Ministack {
    /// Starts it and sets it up.
    ///
    /// # Panics
    /// When it does not start, or refuses to be set up.
    #[must_use]
    pub fn start() -> Self {
        let (dir, port) = (TempDir::new("ministack"), free_port());
        let log = File::create(dir.path().join("log")).expect("the directory is ours");
        let mut command = python();
        command.arg(parts::folder().join("aws/bin/ministack"));
        command.env_clear().current_dir(dir.path()).env("HOME", dir.path()).env("TMPDIR", dir.path());
        command.env("PATH", "/usr/bin:/bin").env("BIND_HOST", Ipv4Addr::LOCALHOST.to_string());
        command
            .env("AUTH", "true")
            .env("GATEWAY_PORT", port.to_string())
            .env("SERVICES", "s3,sts,iam,sqs,sns,cloudtrail")
            .env("CLOUDTRAIL_RECORDING", "1");
        command.env("AWS_ACCESS_KEY_ID", "AKIAROOTROOTROOTROOT").env("AWS_SECRET_ACCESS_KEY", "rootsecret");
        command
            .env("SFTP_ENABLED", "0")
            .env("IOT_MTLS_ENABLED", "0")
            .env("DOCKER_HOST", "unix:///nonexistent");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("one more")).stderr(log);
        let server = spawn(command, View::new());
        let health = Ask { method: "GET", path: "/_ministack/health", headers: &[], body: None };
        eventually("the emulator of AWS answers", || {
            so(tcp(port, health).is_ok_and(|answer| answer.status == 200))
        });
        let url = format!("http://127.0.0.1:{port}");
        let made = set_up(&url);
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        let (access_key_id, secret_access_key) = (text("access_key_id"), text("secret_access_key"));
        Self {
            access_key_id,
            secret_access_key,
            role_arn: text("role_arn"),
            url,
            port,
            _server: server,
            _dir: dir,
        }
    }

    /// Its log of calls, oldest first: what AWS CloudTrail writes down.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        serde_json::from_str(&admin(&[&self.url, "log"], &[])).expect("it prints an array")
    }

    /// What whoever has these keys, with their token, reads in a bucket: `refused: CODE` where it may not.
    ///
    /// # Panics
    /// When the emulator does not answer.
    #[must_use]
    pub fn read(&self, keys: &[String; 3], bucket: &str) -> String {
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let environment: Vec<_> = names.into_iter().zip(keys.iter().map(String::as_str)).collect();
        admin(&[&self.url, "read", bucket], &environment)
    }
}

fn set_up(url: &str) -> Value {
    serde_json::from_str(&admin(&[url, "set-up"], &[])).expect("it prints an object")
}

/// What the administrator's program prints.
fn admin(words: &[&str], environment: &[(&str, &str)]) -> String {
    let program = parts::repository().join("tests/fixtures/aws_admin.py");
    let mut command = python();
    command.arg(program).args(words).env_clear().env("HOME", "/nowhere").stdin(Stdio::null());
    let done = command.envs(environment.iter().copied()).output().expect("Python starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("it prints text")
}

/// The Python that has the emulator and the SDK: scripts name the place where they were installed first.
fn python() -> Command {
    Command::new(parts::folder().join("aws/bin/python"))
}
