//! What a server may ask for while it runs: credentials for SDKs, from the launcher's memory, to its own processes alone.
//! The server is a real process that asks with sockets and commands of its own; the broker is scripted.
//!
//! A credential of a server is masked in what it says, so it says it spelled backwards.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use scene::{BARE, Broker, Channel, Client, LAUNCH};
use serde_json::{Value, json};

mod scene;

/// It evaluates what it is told.
const SERVER: &str = r#"
import collections, concurrent.futures, datetime, http.client, json, os, shlex, socket, subprocess, sys, urllib.parse

def ask(headers={}, method="GET", path=None, token=None):
    url = urllib.parse.urlparse(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    if token is None:
        token = open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.request(method, path or url.path, headers={"Authorization": token, **headers})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())

def many(count):
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        return dict(collections.Counter(status for status, _ in pool.map(lambda _: ask(), range(count))))

def run(words, shell=False):
    done = subprocess.run(words, shell=shell, capture_output=True, text=True)
    return [done.returncode, done.stdout[::-1], done.stderr]

def profile():
    lines = open(os.environ["AWS_CONFIG_FILE"]).read().split("\n")
    return [line.split(" = ", 1)[1] for line in lines if line.startswith("credential_process")][0]

def kube():
    config = json.load(open(os.environ["KUBECONFIG"]))
    exec_ = config["users"][0]["user"]["exec"]
    return config, [exec_["command"], *exec_["args"]]

for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message: continue
    if message["method"] == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}}
    else:
        try: text = json.dumps(eval(message["params"]["arguments"]["code"]))
        except Exception as error: text = json.dumps("failed: %r" % error)
        result = {"content": [{"type": "text", "text": text}]}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"#;

/// Another lease than the first one's.
const SECOND: &str = "019ab000-0000-7000-8000-000000000002";
const KEY: &str = "AKIDEXAMPLEONE";
const LATER: &str = "2999-01-01T00:00:00Z";

struct Scene {
    broker: Broker,
    channel: Channel,
    client: Client,
    count: u32,
}

impl Scene {
    fn start(name: &str, inject: Value, env: Value) -> Self {
        Self::start_by(name, Command::new(env!("CARGO_BIN_EXE_mcp-run")), inject, env)
    }

    fn start_by(name: &str, command: Command, inject: Value, env: Value) -> Self {
        let broker = Broker::start(name);
        let mut client = Client::start_by(command, &broker, true);
        let (mut channel, _) = broker.accept();
        let fields = json!({
            "access_key_id": KEY, "secret_access_key": "secret-number-one", "session_token": "session-number-one",
            "token": "kubernetes-token-one",
        });
        channel.send(&json!({
            "type": "ticket", "kind": "secrets", "launch": LAUNCH, "instance": 0, "server": "t", "scope": "all",
            "idle_secs": 0, "command": ["/usr/bin/python3", "-c", SERVER], "env": env, "cwd": "/", "inject": inject,
            "credentials": { "cloud": {
                "lease": LAUNCH, "fields": fields, "expires_at": LATER, "revocability": { "bounded": { "seconds": 900 } },
            } },
        }));
        channel.expect("started");
        client.open();
        Self { broker, channel, client, count: 0 }
    }

    /// What the server answers to a piece of Python.
    #[track_caller]
    fn eval(&mut self, code: &str) -> Value {
        self.count += 1;
        let params = json!({ "name": "eval", "arguments": { "code": code } });
        let id = self.count;
        self.client.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
        serde_json::from_str(&self.client.text(id)).unwrap()
    }

    fn text(&mut self, code: &str) -> String {
        self.eval(code).as_str().unwrap().to_owned()
    }

    /// Where its endpoint is, and the token: what a thief of the same account can read.
    fn stolen(&mut self) -> (String, String) {
        let url = self.text("os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI']");
        let file = self.text("os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']");
        (url, std::fs::read_to_string(file).unwrap())
    }
}

fn endpoint() -> Value {
    json!([{ "way": "aws", "credential": "cloud", "by": "endpoint" }])
}

fn process() -> Value {
    json!([{ "way": "aws", "credential": "cloud", "by": "credential_process" }])
}

/// Asks from this process, which is none of the server's. The status, and the code of a refusal.
fn ask_as_a_stranger(url: &str, token: &str) -> std::io::Result<(u16, Value)> {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host)?;
    stream.write_all(
        format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Ok((
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        serde_json::from_str::<Value>(body).unwrap()["code"].take(),
    ))
}

#[test]
fn an_sdk_finds_the_endpoint_and_nothing_else() {
    let env = json!({ "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "old", "AWS_PROFILE": "orders" });
    let mut scene = Scene::start("desk-env", endpoint(), env);
    let env =
        scene.eval("{name: value for name, value in os.environ.items() if 'AWS' in name or 'BOTO' in name}");
    let names: Vec<_> = env.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "AWS_CONFIG_FILE",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_DEFAULT_REGION",
            "AWS_EC2_METADATA_DISABLED",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_SDK_LOAD_CONFIG",
            "AWS_SHARED_CREDENTIALS_FILE",
            "BOTO_CONFIG",
        ]
    );
    assert_eq!(
        (&env["AWS_REGION"], &env["AWS_DEFAULT_REGION"]),
        (&json!("eu-central-1"), &json!("eu-central-1"))
    );
    assert_eq!(scene.eval("open(os.environ['AWS_CONFIG_FILE']).read()"), "[default]\n[profile orders]\n");
    assert_eq!(scene.eval("open(os.environ['AWS_SHARED_CREDENTIALS_FILE']).read()"), "");
    assert_eq!(
        scene.eval("oct(os.stat(os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']).st_mode)"),
        "0o100600"
    );
    let answer = scene.eval("(lambda a: [a[0], a[1]['AccessKeyId'][::-1], a[1]['Expiration']])(ask())");
    assert_eq!(answer, json!([200, KEY.chars().rev().collect::<String>(), LATER]));
    assert!(!scene.text("str(ask())").contains(KEY), "what is served is masked in what the server says");
}

#[test]
fn a_wrong_question_is_refused() {
    let mut scene = Scene::start("desk-wrong", endpoint(), json!({}));
    for (code, want) in [
        ("ask({'Host': 'localhost'})", 421),
        ("ask({'X-Forwarded-For': '127.0.0.1'})", 400),
        ("ask({'Via': '1.1 x'})", 400),
        ("ask(token='0' * 64)", 401),
        ("ask(method='POST')", 405),
        ("ask(path='/')", 404),
        ("ask()", 200),
    ] {
        assert_eq!(scene.eval(&format!("{code}[0]")), want, "{code}");
    }
}

/// Also where no namespace can be had, and for what the server starts and leaves behind.
#[test]
fn only_the_tree_of_the_server_is_answered() {
    let own = || Command::new(env!("CARGO_BIN_EXE_mcp-run"));
    let mut bare = Command::new("/usr/bin/unshare");
    bare.args(["--user", "--map-current-user", "--keep-caps", "/bin/sh", "-c", BARE])
        .arg(own().get_program());
    for (name, command) in [("desk-tree", own()), ("desk-bare", bare)] {
        let mut scene = Scene::start_by(name, command, endpoint(), json!({}));
        assert_eq!(scene.eval("ask()[0]"), 200, "{name}");
        let (url, token) = scene.stolen();
        assert_eq!(ask_as_a_stranger(&url, &token).unwrap(), (403, json!("NotOfThisServer")), "{name}");
        let orphan = "import http.client, sys, time; time.sleep(0.2); \
            c = http.client.HTTPConnection(sys.argv[1]); c.request('GET', sys.argv[2], headers={'Authorization': sys.argv[3]}); \
            open(sys.argv[4], 'w').write(str(c.getresponse().status))";
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let out = scene.broker.dir.join("orphan");
        let words =
            json!(["/usr/bin/python3", "-c", orphan, host, format!("/{path}"), token, out.to_str().unwrap()]);
        // Its parent ends at once, and it has a session of its own.
        scene.eval(&format!(
            "subprocess.run(['/bin/sh', '-c', 'setsid \"$@\" >/dev/null 2>&1 &', 'sh', *{words}]).returncode"
        ));
        let until = Instant::now() + scene::PATIENCE;
        while std::fs::read_to_string(&out).unwrap_or_default() != "200" {
            assert!(
                Instant::now() < until,
                "{name}: the orphan was refused: {:?}",
                std::fs::read_to_string(&out)
            );
            std::thread::sleep(scene::QUIET / 10);
        }
        assert_eq!(scene.eval("ask()[0]"), 200, "{name}");
    }
}

#[test]
fn a_thousand_at_once_cost_the_broker_nothing() {
    let mut scene = Scene::start("desk-many", endpoint(), json!({}));
    assert_eq!(scene.eval("many(1000)"), json!({ "200": 1000 }));
    assert!(scene.channel.frames.try_recv().is_err(), "the broker was asked for something");
}

/// New credentials for the server, told as one of another lease; why they were not taken.
fn refresh(scene: &mut Scene, fields: &Value, expires: &str) -> Option<String> {
    scene.channel.send(&json!({ "type": "refresh", "instance": 0, "credentials": { "cloud": {
        "lease": SECOND, "fields": fields, "expires_at": expires, "revocability": "immediate",
    } } }));
    let refreshed = scene.channel.expect("refreshed");
    refreshed.get("failed").and_then(Value::as_str).map(str::to_owned)
}

/// What has ended is not served, and what was renewed has not ended.
#[test]
fn an_end_is_kept_until_it_is_put_off() {
    let mut scene = Scene::start("desk-ends", endpoint(), json!({}));
    let fields = json!({ "access_key_id": "AKIDEXAMPLETWO", "secret_access_key": "secret-number-two" });
    assert_eq!(refresh(&mut scene, &fields, "2026-01-01T00:00:00Z"), None);
    assert_eq!(scene.eval("ask()[0]"), 503);
    // Of the one before: that changes nothing.
    for (lease, want) in [(LAUNCH, 503), (SECOND, 200)] {
        scene.channel.send(&json!({ "type": "renewed", "lease": lease, "expires_at": LATER }));
        // What comes next on the same way has the other behind it.
        assert!(refresh(&mut scene, &json!({}), LATER).is_some());
        assert_eq!(scene.eval("ask()[0]"), want, "{lease}");
    }
    // It can be revoked, so it is not to be kept for long, whenever it ends.
    let kept = "(datetime.datetime.fromisoformat(ask()[1]['Expiration'].replace('Z', '+00:00')) \
        - datetime.datetime.now(datetime.timezone.utc)).total_seconds()";
    let kept = scene.eval(kept).as_f64().unwrap();
    assert!(kept > 0.0 && kept <= mcp_broker_proto::KEEP_SECS as f64, "{kept}");
}

#[test]
fn what_cannot_be_served_takes_no_place() {
    let mut ways = endpoint();
    let file = json!({ "way": "file", "name": "F", "content": { "format": "text", "value": "{cloud.access_key_id}" }, "reread": true });
    ways.as_array_mut().unwrap().push(file);
    let mut scene = Scene::start("desk-whole", ways, json!({}));
    let failed = refresh(&mut scene, &json!({ "access_key_id": "AKIDEXAMPLETWO" }), LATER).unwrap();
    assert!(failed.contains("`cloud`"), "{failed}");
    let has = "[ask()[1]['AccessKeyId'][::-1], open(os.environ['F']).read()[::-1]]";
    let old: String = KEY.chars().rev().collect();
    assert_eq!(scene.eval(has), json!([old, old]), "neither the one nor the other");
}

#[test]
fn a_lock_ends_it_at_once() {
    let mut scene = Scene::start("desk-lock", endpoint(), json!({}));
    let (url, token) = scene.stolen();
    let dir = scene.text("os.path.dirname(os.environ['AWS_CONFIG_FILE'])");
    assert!(ask_as_a_stranger(&url, &token).is_ok());
    scene.channel.park("locked");
    scene.channel.expect("dead");
    let refused = ask_as_a_stranger(&url, &token).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
    assert!(!std::path::Path::new(&dir).exists(), "its files are gone");
}

/// Whoever holds the server's output keeps its launcher reading, and nobody is answered meanwhile.
#[test]
fn a_lock_ends_it_before_the_last_words_are_read() {
    let mut scene = Scene::start("desk-words", endpoint(), json!({}));
    let (url, token) = scene.stolen();
    let variable = format!(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE={}",
        scene.text("os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']")
    );
    let has = |process: &std::path::Path| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let server = processes.find(|process| has(process)).unwrap();
    let held = std::fs::File::options().write(true).open(server.join("fd/1")).unwrap();
    scene.channel.park("locked");
    scene.channel.expect("dead");
    let refused = ask_as_a_stranger(&url, &token).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
    drop(held);
}

#[test]
fn an_end_ends_it() {
    let mut scene = Scene::start("desk-end", endpoint(), json!({}));
    let (url, token) = scene.stolen();
    scene.client.close();
    assert_eq!(scene.client.wait(), 0);
    assert!(ask_as_a_stranger(&url, &token).is_err());
}

#[test]
fn a_credential_process() {
    let env = json!({ "AWS_PROFILE": "orders" });
    let mut scene = Scene::start("desk-process", process(), env);
    let want = json!({
        "Version": 1, "AccessKeyId": KEY, "SecretAccessKey": "secret-number-one", "SessionToken": "session-number-one",
        "Expiration": LATER,
    });
    // As Python's SDK starts it, and as those do that have a shell.
    for code in ["run(shlex.split(profile()))", "run(profile(), True)"] {
        let done = scene.eval(code);
        assert_eq!(done[0], 0, "{done}");
        let printed: String = done[1].as_str().unwrap().chars().rev().collect();
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), want, "{done}");
        assert_eq!((&done[0], &done[2]), (&json!(0), &json!("")));
    }
    let file = scene.text("shlex.split(profile())[4]");
    let run = |kind: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-run"));
        let done = command.args(["credential", kind, "--from", &file]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(
            done.stdout.is_empty() && said.starts_with("mcp-run: ") && said.contains("\nhint: "),
            "{said}"
        );
        (done.status.code(), said)
    };
    let (status, said) = run("aws");
    assert!(status == Some(77) && said.contains("only for the MCP server"), "{said}");
    assert_eq!(run("kubernetes").0, Some(78));
    scene.channel.park("locked");
    scene.channel.expect("dead");
    let (status, said) = run("aws");
    assert!(status == Some(77) && said.contains("withheld"), "{said}");
}

/// The way of client-go, by the fields that it reads.
#[test]
fn a_kubeconfig() {
    let inject = json!([{
        "way": "kubeconfig", "name": "KUBECONFIG", "credential": "cloud", "server": "https://k8s.example:6443",
        "authority": "-----BEGIN CERTIFICATE-----\n", "namespace": "orders",
    }]);
    let mut scene = Scene::start("desk-kube", inject, json!({}));
    let config = scene.eval("kube()[0]");
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://k8s.example:6443");
    assert_eq!(config["contexts"][0]["context"]["namespace"], "orders");
    let exec = &config["users"][0]["user"]["exec"];
    assert_eq!(exec["apiVersion"], "client.authentication.k8s.io/v1");
    assert_eq!(exec["interactiveMode"], "Never");
    let authority = scene.text("open(kube()[0]['clusters'][0]['cluster']['certificate-authority']).read()");
    assert!(authority.starts_with("-----BEGIN"));
    let done = scene.eval("run(kube()[1])");
    assert_eq!(done[0], 0, "{done}");
    let printed: String = done[1].as_str().unwrap().chars().rev().collect();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["kind"], "ExecCredential");
    assert_eq!(printed["status"], json!({ "expirationTimestamp": LATER, "token": "kubernetes-token-one" }));
}
