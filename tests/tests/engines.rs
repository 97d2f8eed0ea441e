//! Credentials of other engines than databases of SQL, from the launch to after its end: a certificate in a file that
//! is on its issuer's revocation list afterwards, a one-time password for SSH that no host takes any more, and a user
//! of a Valkey database that is gone, its connection with it.
//!
//! Not proved here: the engines of AWS, Azure, Google and Kubernetes, and RabbitMQ, which have no server to be had
//! here (the provider's own tests have a double for them); Valkey itself, for which its ancestor Redis 7 stands; and
//! that anybody who is shown the certificate reads the list.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use e2e::accounts::ALICE;
use e2e::bao::{Bao, ROOT_TOKEN};
use e2e::eventually::so;
use e2e::parts::{repository, seen};
use e2e::pg::free_port;
use e2e::process::{Process, spawn};
use e2e::view::View;
use e2e::{World, eventually};
use serde_json::json;

/// The password of the server's own account.
const ADMIN: &str = "valkey-admin-of-the-test";

struct Valkey {
    port: u16,
    _server: Process,
}

impl Valkey {
    fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("/usr/bin/redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--requirepass",
            ADMIN,
        ]);
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        let valkey = Self { port, _server: spawn(command, View::new()) };
        eventually("the database answers", || so(valkey.connect("default", ADMIN).is_some()));
        valkey
    }

    /// A connection of that user; `None` where it is refused.
    fn connect(&self, user: &str, password: &str) -> Option<BufReader<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let mut stream = BufReader::new(stream);
        (ask(&mut stream, &format!("AUTH {user} {password}"))? == "+OK").then_some(stream)
    }

    fn has_user(&self, user: &str) -> bool {
        let mut admin = self.connect("default", ADMIN).expect("the admin may");
        ask(&mut admin, &format!("ACL GETUSER {user}")).is_some_and(|answer| !answer[1..].starts_with("-1"))
    }
}

/// The first line of the answer; `None` where the connection is cut.
fn ask(stream: &mut BufReader<TcpStream>, words: &str) -> Option<String> {
    stream.get_mut().write_all(format!("{words}\r\n").as_bytes()).ok()?;
    let mut line = String::new();
    (stream.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

fn set_up(world: &World, valkey: &Valkey) {
    let bao = world.bao();
    bao.put("sys/mounts/pki", &json!({ "type": "pki" }));
    bao.put("pki/root/generate/internal", &json!({ "common_name": "authority of the test", "ttl": "20h" }));
    let web = json!({ "allow_any_name": true, "max_ttl": "2h", "key_type": "ec", "key_bits": 256 });
    bao.put("pki/roles/web", &web);
    let mount = json!({ "type": "ssh", "config": { "default_lease_ttl": "10m" } });
    bao.put("sys/mounts/ssh", &mount);
    let host = json!({ "key_type": "otp", "default_user": "u", "cidr_list": "127.0.0.0/8" });
    bao.put("ssh/roles/host", &host);
    let config = json!({ "plugin_name": "valkey-database-plugin", "host": "127.0.0.1", "port": valkey.port,
        "username": "default", "password": ADMIN, "allowed_roles": "*" });
    bao.put("database/config/valkey", &config);
    let cache = json!({ "db_name": "valkey", "creation_statements": [r#"["~cache:*", "+@read", "+ping"]"#],
        "default_ttl": "10m", "max_ttl": "1h" });
    bao.put("database/roles/cache", &cache);
    for (policy, path) in
        [("web", "pki/issue/web"), ("host", "ssh/creds/host"), ("cache", "database/creds/cache")]
    {
        bao.policy(policy, &format!(r#"path "{path}" {{ capabilities = ["read", "update"] }}"#));
    }
    let policies = json!({ "allowed_policies": [world.role, "web", "host", "cache"] });
    bao.put("auth/token/roles/mcp-launch", &policies);
    let read = |name: &str| {
        let path = repository().join("deploy/vault/policies").join(name);
        std::fs::read_to_string(path).expect("the policy is there")
    };
    bao.policy("mcp-broker", &format!("{}\n{}", read("mcp-broker.hcl"), read("pki-revoke.hcl")));
}

fn definition(world: &World) -> String {
    let (program, mark) = (seen::PROBE, &world.mark);
    format!(
        r#"description = "Certificates, passwords, a cache"
owner = "platform"
tier = "development"
command = [{program:?}]
env = {{ E2E_MARK = "{mark}" }}

[access]
users = ["alice"]

[scope.all]
tools = ["*"]
credential.tls = {{ provider = "bao", path = "pki/issue/web", policies = ["web"], ttl = "15m", data = {{ common_name = "launch.test" }} }}
credential.host = {{ provider = "bao", path = "ssh/creds/host", policies = ["host"], ttl = "15m", data = {{ ip = "127.0.0.1" }}, wrap = "60s" }}
credential.cache = {{ provider = "bao", path = "database/creds/cache", policies = ["cache"], ttl = "5m" }}
inject = [
  {{ file = "TLS", value = "{{tls.private_key}}\n{{tls.certificate}}\n{{tls.ca_chain}}\n" }},
  {{ env = "SERIAL", value = "{{tls.serial_number}}" }},
  {{ env = "OTP", value = "{{host.key}}" }},
  {{ env = "CACHE", value = "{{cache.username}} {{cache.password}}" }},
]
"#
    )
}

fn openssl(arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("/usr/bin/openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a serial number is on the list that the issuer publishes.
fn is_listed(bao: &Bao, serial: &str) -> bool {
    let list = bao.try_call("GET", "pki/crl/pem", None, ROOT_TOKEN).expect("OpenBao answers").body;
    openssl(&["crl", "-noout", "-text"], &list).contains(&serial.replace(':', "").to_uppercase())
}

#[test]
fn credentials_of_every_engine_end_with_the_launch() {
    let valkey = Valkey::start();
    let world = World::user().vault();
    set_up(&world, &valkey);
    let text = definition(&world);
    let mut world = world.file("engines", &text).start();
    let mut client = world.launch(ALICE, "engines");
    let injected = |name: &str| world.injected(name).pop().unwrap_or_else(|| panic!("no {name}"));

    // What the launcher lets the tool say of it is masked, so it is read where the server sees it.
    let path = format!("/proc/{}/root{}", world.instances()[0], injected("TLS"));
    let pem = std::fs::read_to_string(path).expect("the file is there");
    assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----"));
    let serial = injected("SERIAL");
    let certificate = pem.find("-----BEGIN CERTIFICATE").map(|at| &pem[at..]).expect("a certificate");
    let shown = openssl(&["x509", "-noout", "-serial", "-subject"], certificate.as_bytes());
    assert!(
        shown.contains(&serial.replace(':', "").to_uppercase()) && shown.contains("launch.test"),
        "{shown}"
    );
    assert!(!is_listed(world.bao(), &serial));
    let cache = injected("CACHE");
    let (user, password) = cache.split_once(' ').expect("two words");
    let mut open = valkey.connect(user, password).expect("the user may sign in");
    assert_eq!(ask(&mut open, "PING").as_deref(), Some("+PONG"));
    let denied = ask(&mut open, "SET cache:x 1").expect("an answer");
    assert!(denied.starts_with("-NOPERM"), "it may only read: {denied}");
    let leases = world.leases();
    let tls = leases.iter().find(|lease| lease.credential.as_str() == "tls").expect("its lease");
    assert_eq!(tls.detail.as_deref(), Some(format!("serial number {serial}").as_str()));

    let otp = json!({ "otp": injected("OTP") });
    client.finish();
    world.assert_settled();
    eventually("the certificate is listed", || so(is_listed(world.bao(), &serial)));
    let verified = world.bao().try_call("POST", "ssh/verify", Some(&otp), ROOT_TOKEN).expect("an answer");
    assert_eq!(verified.status, 400, "a host still takes the password");
    eventually("the user is gone", || so(!valkey.has_user(user)));
    assert_eq!(ask(&mut open, "PING"), None, "its connection is cut");
    assert!(valkey.connect(user, password).is_none());
    for below in ["ssh/creds/host", "database/creds/cache"] {
        assert!(world.bao().leases(below).is_empty(), "{below}");
    }
}
