//! The harness itself, without the programs under test: a test bed that cannot see a fault proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use e2e::accounts::{ALICE, BOB};
use e2e::eventually::{so, within};
use e2e::fault::Fault;
use e2e::http::{Ask, tcp};
use e2e::leaks::Search;
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::pipe::Pipe;
use e2e::process::{alive, kill};
use e2e::sdk::Sdk;
use e2e::tempdir::write;
use e2e::{World, eventually, pg};
use serde_json::json;

fn panics(work: impl FnOnce()) -> String {
    let caught = catch_unwind(AssertUnwindSafe(work)).expect_err("it must panic");
    let text = caught.downcast_ref::<String>().cloned();
    text.or_else(|| caught.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn waiting_ends() {
    let text = panics(|| within(Duration::from_millis(50), "pigs fly", || so(false)));
    assert!(text.contains("pigs fly"), "{text}");
}

#[test]
fn a_probe_sees_the_view_and_its_account() {
    let world = World::user();
    let mut probe = Client::start(world.command(ALICE, seen::PROBE), world.view(ALICE));
    let _ = probe.initialize();
    let environment = probe.ask("env");
    assert_eq!(environment["USER"], "alice");
    assert!(environment.get("CARGO").is_none(), "the test's own environment must not reach it");
    let mode = probe.call("stat", json!({ "path": format!("/run/user/{}", ALICE.uid) }));
    assert_eq!(mode, json!({ "mode": 0o700, "uid": ALICE.uid }).to_string());
    let closed = probe.call("read", json!({ "path": format!("{}/x", BOB.home(world.path()).display()) }));
    assert!(closed.contains("Permission denied"), "{closed}");
    assert_eq!(probe.finish().code(), 0);
}

#[test]
fn a_probe_misbehaves_on_request() {
    let world = World::user();
    let start = |argument: &str| {
        let mut command = world.command(ALICE, seen::PROBE);
        command.arg(argument);
        Client::start(command, world.view(ALICE))
    };
    assert_eq!(start("exit=7").process.wait().code(), 7);

    let mut rubbish = start("rubbish");
    assert_eq!(rubbish.line().unwrap(), b"Listening on stdio, have a nice day!");

    let mut deaf = start("deaf");
    let _ = deaf.initialize();
    deaf.process.signal(libc::SIGTERM);
    assert_eq!(deaf.call("echo", json!({"a": 1})), r#"{"a":1}"#);

    let mut parent = start("x");
    let _ = parent.initialize();
    let pid = parent.ask("spawn")["pid"].as_u64().unwrap();
    let pid = u32::try_from(pid).unwrap();
    drop(parent);
    assert!(alive(pid), "a grandchild outlives a plain parent: that is what the launcher must prevent");
    kill(pid, libc::SIGKILL);
    eventually("it is gone", || so(!alive(pid)));
}

#[test]
fn the_sdk_clients_talk_to_real_servers() {
    let world = World::user();
    for sdk in [Sdk::Two, Sdk::One] {
        let command = [seen::NODE, seen::EVERYTHING];
        let calls = [("echo", json!({ "message": "hello there" }))];
        let walk = sdk.start(&ALICE.home(world.path()), world.view(ALICE), &command, &calls).finish();
        assert!(walk.tools.iter().any(|tool| tool == "echo"), "{sdk:?}: {:?}", walk.tools);
        assert!(walk.calls[0].contains("hello there"), "{sdk:?}: {:?}", walk.calls);
    }
}

/// Without `mcp-run` between: what the two eras look like, and that the client tells all of it.
#[test]
fn a_conversation_goes_on_over_one_pipe() {
    let world = World::user().vault();
    let (user, password) = ("admin", world.pg().password.as_str());
    let dsn = world.pg().url(user, password);
    let script = format!("DSN='{dsn}' exec {} -B {}", seen::PYTHON_2, seen::STATELESS);
    for (sdk, protocol, kind) in [(Sdk::Two, "2026-07-28", Some("complete")), (Sdk::One, "2025-11-25", None)]
    {
        let home = ALICE.home(world.path());
        let mut pipe = Pipe::start(sdk, &home, world.view(ALICE), &["/bin/sh", "-c", &script]);
        assert_eq!(pipe.protocol, protocol);
        let slow = pipe.send("call", json!({ "name": "slow", "arguments": { "seconds": 0.5 } }));
        assert_eq!(pipe.must_call("whoami", json!({})), "admin");
        assert!(!pipe.is_answered(slow), "a call under way holds up no other");
        assert_eq!(pipe.tools(), ["whoami", "variable", "pid", "slow"]);
        let called = pipe.called(slow);
        assert_eq!((called.text.as_str(), called.kind.as_deref()), ("done", kind));
        assert!(pipe.call("nope", json!({})).failed);
        assert_eq!(pipe.ask("read", json!({ "uri": "note://hello" })), Ok(json!(["hello"])));
        let error = pipe.ask("read", json!({ "uri": "note://nothing" })).unwrap_err();
        assert_eq!(error["code"], -32602);
        assert_eq!(pipe.finish().code(), 0);
    }
    let command = [seen::NODE, seen::EVERYTHING];
    let mut pipe = Pipe::start(Sdk::One, &ALICE.home(world.path()), world.view(ALICE), &command);
    pipe.ask("ping", json!({})).unwrap();
    eventually("a notification comes", || {
        so(!pipe.notifications("notifications/tools/list_changed").is_empty())
    });
    pipe.ask("subscribe", json!({ "uri": "demo://resource/dynamic/text/1" })).unwrap();
    let _ = pipe.must_call("toggle-subscriber-updates", json!({}));
    eventually("the resource is updated", || {
        so(!pipe.notifications("notifications/resources/updated").is_empty())
    });
}

/// Most worlds are set up by calls, because the script takes its time; what they leave must be the same.
#[test]
fn the_script_and_the_calls_set_up_the_same_server() {
    let (by_calls, by_script) = (World::user().vault(), World::user().vault_by_script());
    let say = |world: &World, path: &str| {
        let mut data = world.bao().get(path)["data"].clone();
        if let Some(fields) = data.as_object_mut() {
            fields.remove("modified");
        }
        // Each world's policy has a name of its own.
        if data["allowed_policies"] == json!([world.role]) {
            data["allowed_policies"] = json!(["the scope's"]);
        }
        data
    };
    for path in [
        "sys/policies/acl/mcp-broker",
        "sys/policies/acl/mcp-session",
        "auth/token/roles/mcp-session",
        "auth/token/roles/mcp-launch",
        "auth/approle/role/mcp-broker",
    ] {
        let (calls, script) = (say(&by_calls, path), say(&by_script, path));
        assert!(script.is_object(), "{path}");
        assert_eq!(calls, script, "{path}");
    }
    // It can be run again, changes nothing then, and its own check finds nothing.
    let out = by_script.config_dir();
    let before = std::fs::read_to_string(out.join("secret_id")).unwrap();
    by_script.bao().set_up_by_script(&by_script.role, &out);
    assert_eq!(std::fs::read_to_string(out.join("secret_id")).unwrap(), before);
}

/// The token tree of the set-up, walked by hand: control, parent, child, lease.
#[test]
fn a_minted_user_works_and_dies() {
    let world = World::user().vault();
    let bao = world.bao();
    let saved = |name: &str| std::fs::read_to_string(world.config_dir().join(name)).unwrap();
    let login = json!({ "role_id": saved("role_id"), "secret_id": saved("secret_id") });
    let login = bao.put("auth/approle/login", &login);
    let as_token = |token: &serde_json::Value, path: &str, body: serde_json::Value| {
        let answer = bao.try_call("POST", path, Some(&body), token.as_str().unwrap()).unwrap();
        assert!(answer.status < 300, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    };
    let control = &login["auth"]["client_token"];
    let parent = as_token(control, "auth/token/create/mcp-session", json!({}));
    let parent = &parent["auth"]["client_token"];
    let child = as_token(parent, "auth/token/create/mcp-launch", json!({ "policies": [world.role] }));
    let path = format!("database/creds/{}", world.role);
    assert_eq!(bao.try_call("GET", &path, None, parent.as_str().unwrap()).unwrap().status, 403);
    let child = child["auth"]["client_token"].as_str().unwrap();
    let minted = bao.try_call("GET", &path, None, child).unwrap().json();
    let user = minted["data"]["username"].as_str().unwrap();
    assert_eq!(world.users(), [user]);
    assert_eq!(bao.leases(&path).len(), 1);

    let url = pg::shared().url(user, minted["data"]["password"].as_str().unwrap());
    let mut command = world.command(ALICE, seen::NODE);
    command.args([seen::DBHUB, "--transport", "stdio"]).env("DSN", &url);
    let mut dbhub = Client::start(command, world.view(ALICE));
    let _ = dbhub.initialize();
    let rows = dbhub.call("execute_sql", json!({ "sql": "SELECT body FROM notes" }));
    assert!(rows.contains("hello"), "{rows}");
    eventually("it holds a session", || so(world.pg().sessions(&world.role) > 0));

    as_token(control, "sys/leases/revoke", json!({ "lease_id": minted["lease_id"], "sync": true }));
    assert!(world.users().is_empty());
    assert_eq!(world.pg().sessions(&world.role), 0);
    assert!(!pg::shared().run(&url, "SELECT 1").status.success());
}

#[test]
fn the_proxy_plays_each_fault() {
    let world = World::user().vault();
    let proxy = world.proxy();
    let headers = [("X-Vault-Token", e2e::bao::ROOT_TOKEN)];
    let ask = || {
        let path = "/v1/auth/token/lookup-self";
        tcp(proxy.port, Ask { method: "GET", path, headers: &headers, body: None })
    };
    assert_eq!(ask().unwrap().json()["data"]["display_name"], "token");
    for status in [403, 500] {
        proxy.times(1, "auth/token/lookup-self", Fault::status(status));
        assert_eq!(ask().unwrap().status, status);
    }
    proxy.times(1, "*", Fault::broken_json());
    assert!(serde_json::from_slice::<serde_json::Value>(&ask().unwrap().body).is_err());
    proxy.times(1, "*", Fault::Drop);
    assert!(ask().is_err());
    proxy.times(1, "*", Fault::LoseAnswer);
    assert!(ask().is_err());
    proxy.times(1, "*", Fault::DelayAnswer(Duration::from_millis(100)));
    assert_eq!(ask().unwrap().status, 200);
    proxy.down();
    assert!(ask().is_err());
    proxy.heal();
    assert_eq!(eventually("it answers again", || ask().ok()).status, 200);
    assert_eq!(proxy.seen().iter().filter(|seen| seen.caught).count(), 6);
    assert!(proxy.count("auth/token/lookup-self") >= 8);

    world.bao().seal();
    assert_eq!(ask().unwrap().status, 503);
    world.bao().unseal();
    assert_eq!(ask().unwrap().status, 200);
}

#[test]
fn a_leak_is_found_in_every_kind_of_place() {
    let world = World::user();
    let secret = uuid::Uuid::new_v4().simple().to_string();
    let search = || Search::of(&[("the password", &secret)]).below(world.path());
    search().assert_clean();

    let text = panics(|| search().printed("a log", format!("x{secret}x")).assert_clean());
    assert!(text.contains("a log"), "{text}");

    let file = world.path().join("home/alice/.cache");
    write(&file, &secret, 0o600, ALICE.uid, ALICE.uid);
    let text = panics(|| search().assert_clean());
    assert!(text.contains(".cache") && !text.contains(&secret), "{text}");
    std::fs::remove_file(file).unwrap();

    let mut command = world.command(ALICE, seen::PROBE);
    command.env("PASSWORD", &secret);
    let mut holder = Client::start(command, world.view(ALICE));
    let _ = holder.initialize();
    let pid = holder.process.pid();
    let text = panics(|| search().assert_clean());
    assert!(text.contains(&format!("/proc/{pid}/environ")), "{text}");
    search().allow(pid).assert_clean();
}

#[test]
fn a_small_disk_fills_up_for_its_view_alone() {
    let world = World::user();
    let at = world.path().join("home/alice");
    let mut command = world.command(ALICE, "/bin/sh");
    command.args(["-c", "head -c 1000000 /dev/zero > \"$HOME/filler\""]);
    let view = e2e::view::View::new().tmpfs(&at, "size=64k,mode=777").account(ALICE);
    let mut filler = Client::start(command, view);
    let outcome = filler.outcome();
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("No space left"), "{}", outcome.stderr);
    assert!(!at.join("filler").exists(), "the machine's own disk is untouched");
}

/// A child of the harness ends with the test process, even where that is killed.
#[test]
fn nothing_outlives_a_killed_test() {
    if std::env::var_os("E2E_INNER").is_some() {
        let world = World::user();
        let probe = Client::start(world.command(ALICE, seen::PROBE), world.view(ALICE));
        println!("inner {} {}", probe.process.pid(), world.path().display());
        loop {
            std::thread::park();
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "harness::nothing_outlives_a_killed_test", "--nocapture"]).env("E2E_INNER", "1");
    let mut inner = Client::start(command, e2e::view::View::new());
    let line = std::iter::from_fn(|| inner.line()).find_map(|line| {
        let line = String::from_utf8_lossy(&line).into_owned();
        line.split_once("inner ").map(|(_, rest)| rest.to_owned())
    });
    let line = line.expect("the inner test says what it started");
    let (pid, path) = line.trim().split_once(' ').unwrap();
    let pid = pid.parse().unwrap();
    let memory = std::path::Path::new("/dev/shm")
        .join(std::path::Path::new(path).parent().unwrap().file_name().unwrap());
    assert!(alive(pid) && memory.exists());
    inner.process.kill9();
    eventually("the probe is gone", || so(!alive(pid)));
    eventually("the directory is gone", || so(!std::path::Path::new(path).exists() && !memory.exists()));
}
