//! What a server is given besides variables: private files in their formats and sealed files in memory. New
//! credentials are put below the running server, all of them or none, and neither old nor new ones come back.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use scene::{BARE, Broker, Channel, Client, LAUNCH, PATIENCE};
use serde_json::{Value, json};

mod scene;

/// It tells check sums of what it has, and does to its files what servers do. A child of its own would not survive
/// a signal to the whole group.
const READS: &str = r#"
say() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
text() { say '"id":'"$id"',"result":{"content":[{"type":"text","text":"'"$1"'"}]}'; }
sum() { cksum <"$1" | cut -d' ' -f1; }
sleep 1000 </dev/null >/dev/null 2>&1 & kid=$!
trap 'hup=yes; say "\"method\":\"notifications/message\",\"params\":{\"data\":\"hup\"}"' HUP
while :; do
    IFS= read -r line
    code=$?
    if [ "$code" -ne 0 ]; then
        [ -n "$hup" ] || break
        hup=
        continue
    fi
    id=${line#*'"id":'}
    id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) say '"id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"t","version":"1"}}' ;;
    *'"sums"'*) text "$(sum "$A") $(sum "$B")" ;;
    *'"mode"'*) text "$(stat -c %a "$A") $(stat -c %a "${A%/*}") $(ls -A "${A%/*}" | wc -l)" ;;
    *'"tell"'*) text "$(cat "$A")" ;;
    *'"kid"'*) kill -0 "$kid" && text alive || text dead ;;
    *'"fd"'*) text "$(sum "$F") $(sum "$F") $( (printf x >"$F") 2>/dev/null && echo written || echo sealed)" ;;
    *'"unlink"'*) rm -f "$A"; text done ;;
    *'"replace"'*) rm -f "$A"; echo mine >"$A"; text done ;;
    *'"link"'*) rm -f "$A"; ln -s "$ELSEWHERE" "$A"; text done ;;
    *'"fill"'*) dd if=/dev/zero of="${A%/*/*}/fill" bs=1k >/dev/null 2>&1; text done ;;
    *'"where"'*) text "${A%/*/*}" ;;
    esac
done
"#;

/// The check sum that `cksum` prints of a text.
fn sum(text: &str) -> String {
    let mut command = Command::new("cksum");
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = String::from_utf8(running.wait_with_output().unwrap().stdout).unwrap();
    said.split(' ').next().unwrap().to_owned()
}

fn credentials(password: &str) -> Value {
    let fields = json!({ "username": "v-app", "password": password });
    json!({ "db": { "lease": LAUNCH, "fields": fields, "plain": ["username"], "expires_at": null, "revocability": "immediate" } })
}

/// Two files of two formats that refresh, the first of which the server is told of.
fn files() -> Value {
    let values = json!({ "USER_NAME": "{db.username}", "PASSWORD": "{db.password}" });
    json!([
        { "way": "file", "name": "A", "content": { "format": "text", "value": "pw={db.password}" }, "reread": true, "signal": 1 },
        { "way": "file", "name": "B", "content": { "format": "json", "value": values }, "reread": true },
    ])
}

/// Answers with what the launcher says of it.
fn ticket(channel: &mut Channel, inject: &Value, env: &Value) -> Value {
    channel.send(&json!({
        "type": "ticket", "kind": "secrets", "launch": LAUNCH, "instance": 0, "server": "t", "scope": "all",
        "idle_secs": 0, "command": ["/bin/sh", "-c", READS], "env": env, "cwd": "/",
        "credentials": credentials("first-hunter-1"), "inject": inject,
    }));
    channel.expect("started")
}

fn begun(broker: &Broker, mut client: Client, inject: &Value, env: &Value) -> (Channel, Client) {
    let (mut channel, _) = broker.accept();
    channel.beats();
    let _ = ticket(&mut channel, inject, env);
    client.open();
    (channel, client)
}

/// A launch with these ways.
fn given(name: &str, inject: &Value) -> (Broker, Channel, Client) {
    let broker = Broker::start(name);
    let elsewhere = broker.dir.join("elsewhere");
    std::fs::write(&elsewhere, "untouched").unwrap();
    let client = Client::start(&broker);
    let (channel, client) = begun(&broker, client, inject, &json!({ "ELSEWHERE": elsewhere }));
    (broker, channel, client)
}

/// The refresh of an instance; why it failed.
fn refresh(channel: &mut Channel, instance: u32, password: &str) -> Option<String> {
    channel.send(&json!({ "type": "refresh", "instance": instance, "credentials": credentials(password) }));
    let refreshed = channel.expect("refreshed");
    assert_eq!((&refreshed["instance"], &refreshed["leases"]), (&json!(instance), &json!([LAUNCH])));
    refreshed.get("failed").and_then(Value::as_str).map(str::to_owned)
}

/// What the files hold while the password is this one, as the server tells it.
fn sums(password: &str) -> String {
    let object = format!("{{\"PASSWORD\":\"{password}\",\"USER_NAME\":\"v-app\"}}\n");
    format!("{} {}", sum(&format!("pw={password}")), sum(&object))
}

#[track_caller]
fn asked(client: &mut Client, tool: &str) -> String {
    client.call(7, tool);
    client.text(7)
}

#[track_caller]
fn told(client: &mut Client) {
    assert_eq!(client.line()["params"]["data"], "hup");
}

#[test]
fn new_credentials_reach_a_running_server() {
    let (_broker, mut channel, mut client) = given("fresh", &files());
    assert_eq!(asked(&mut client, "sums"), sums("first-hunter-1"));
    assert_eq!(asked(&mut client, "mode"), "600 700 2");
    for password in ["second-hunter-2", "third-hunter-3"] {
        assert_eq!(refresh(&mut channel, 0, password), None);
        told(&mut client);
        assert_eq!(asked(&mut client, "sums"), sums(password));
    }
    assert_eq!(asked(&mut client, "mode"), "600 700 2", "nothing is left aside");
    assert_eq!(asked(&mut client, "kid"), "alive", "the signal was for the first process alone");
    let place = asked(&mut client, "tell");
    assert_eq!(place, "[masked]", "what it has now does not come back");
    assert!(refresh(&mut channel, 5, "x-hunter-x").unwrap().contains("has ended"));
    client.close();
    assert_eq!(client.wait(), 0);
}

/// What a server has kept of its first credential is masked as long as it runs.
#[test]
fn old_credentials_do_not_come_back_either() {
    let way = json!([{ "way": "file", "name": "A", "content": { "format": "text", "value": "{db.password}" }, "reread": true }]);
    let (broker, mut channel, mut client) = given("stale", &way);
    assert_eq!(refresh(&mut channel, 0, "second-hunter-2"), None);
    assert_eq!(asked(&mut client, "link"), "done");
    for old in ["first-hunter-1", "second-hunter-2"] {
        std::fs::write(broker.dir.join("elsewhere"), old).unwrap();
        assert_eq!(asked(&mut client, "tell"), "[masked]");
    }
    std::fs::write(broker.dir.join("elsewhere"), "v-app").unwrap();
    assert_eq!(asked(&mut client, "tell"), "v-app");
}

#[test]
fn a_server_that_deletes_or_replaces_its_file_gets_the_new_one() {
    let (broker, mut channel, mut client) = given("gone", &files());
    for (round, does) in ["unlink", "replace", "link"].into_iter().enumerate() {
        assert_eq!(asked(&mut client, does), "done");
        let password = format!("hunter-of-round-{round}");
        assert_eq!(refresh(&mut channel, 0, &password), None);
        told(&mut client);
        assert_eq!(asked(&mut client, "sums"), sums(&password), "{does}");
        assert_eq!(asked(&mut client, "mode"), "600 700 2", "{does}");
    }
    assert_eq!(std::fs::read_to_string(broker.dir.join("elsewhere")).unwrap(), "untouched");
}

#[test]
fn what_does_not_refresh_is_not_half_refreshed() {
    let mut ways = files();
    ways.as_array_mut().unwrap().push(json!({ "way": "env", "name": "E", "value": "{db.password}" }));
    let (_broker, mut channel, mut client) = given("fixed", &ways);
    let failed = refresh(&mut channel, 0, "second-hunter-2").unwrap();
    assert!(failed.contains("`db`") && !failed.contains("hunter"), "{failed}");
    assert_eq!(asked(&mut client, "sums"), sums("first-hunter-1"));
}

#[test]
fn a_memory_file_is_read_again_and_never_written() {
    let way = json!([{ "way": "fd", "name": "F", "value": "pw={db.password}" }]);
    let (_broker, mut channel, mut client) = given("memory", &way);
    let want = sum("pw=first-hunter-1");
    assert_eq!(asked(&mut client, "fd"), format!("{want} {want} sealed"));
    assert!(refresh(&mut channel, 0, "second-hunter-2").is_some());
}

/// So many memory files, named `F0` and so on; the last is `F`.
fn memory_files(count: usize) -> Value {
    let name = |number: usize| if number + 1 == count { "F".to_owned() } else { format!("F{number}") };
    (0..count).map(|number| json!({ "way": "fd", "name": name(number), "value": format!("{number}={{db.password}}") })).collect()
}

/// With a sub-reaper in the place of a PID namespace all of it is the same: files, memory files, and the signal to the
/// first process alone.
#[test]
fn all_of_it_reaches_a_server_without_a_namespace() {
    let broker = Broker::start("bare");
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "/bin/sh", "-c", BARE]);
    command.arg(env!("CARGO_BIN_EXE_mcp-run"));
    let mut client = Client::start_by(command, &broker, true);
    let (mut channel, _) = broker.accept();
    channel.beats();
    let mut ways = memory_files(32);
    let fixed = ways.as_array_mut().unwrap();
    fixed
        .iter_mut()
        .for_each(|way| way["value"] = way["value"].as_str().unwrap().replace("db.", "fixed.").into());
    fixed.extend(files().as_array().unwrap().iter().cloned());
    let mut both = credentials("first-hunter-1");
    both["fixed"] = credentials("fixed-hunter-0")["db"].take();
    channel.send(&json!({
        "type": "ticket", "kind": "secrets", "launch": LAUNCH, "instance": 0, "server": "t", "scope": "all",
        "idle_secs": 0, "command": ["/bin/sh", "-c", READS], "env": {}, "cwd": "/",
        "credentials": both, "inject": ways,
    }));
    assert_eq!(channel.expect("started")["containment"], "sub-reaper");
    client.open();
    let want = sum("31=fixed-hunter-0");
    assert_eq!(asked(&mut client, "fd"), format!("{want} {want} sealed"));
    assert_eq!(refresh(&mut channel, 0, "second-hunter-2"), None);
    told(&mut client);
    assert_eq!(asked(&mut client, "sums"), sums("second-hunter-2"));
    assert_eq!(asked(&mut client, "kid"), "alive", "the signal was for the first process alone");
    client.close();
    assert_eq!(client.wait(), 0);
}

#[test]
fn more_memory_files_than_there_is_room_for_start_no_server() {
    let broker = Broker::start("too-many");
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.send(&json!({
        "type": "ticket", "kind": "secrets", "launch": LAUNCH, "instance": 0, "server": "t", "scope": "all",
        "idle_secs": 0, "command": ["/bin/sh", "-c", READS], "env": {}, "cwd": "/",
        "credentials": credentials("first-hunter-1"), "inject": memory_files(33),
    }));
    channel.expect("dead");
    assert_eq!(client.wait(), 78, "the configuration is to be corrected");
}

/// What passes signals on may be so slow that no more of them can be sent: those that wait are enough, as the server
/// finds the newest credentials whenever it is told.
#[test]
fn a_server_is_told_though_a_signal_could_not_be_sent() {
    let broker = Broker::start("slow");
    let client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.beats();
    let started = ticket(&mut channel, &files(), &json!({}));
    let mut client = client;
    client.open();
    let keeper = keeper(u32::try_from(started["pid"].as_u64().unwrap()).unwrap());
    kill_process(keeper, Signal::STOP).unwrap();
    for round in 0..400 {
        assert_eq!(refresh(&mut channel, 0, &format!("hunter-of-round-{round}")), None);
    }
    kill_process(keeper, Signal::CONT).unwrap();
    told(&mut client);
    assert_eq!(sums_at_last(&mut client), sums("hunter-of-round-399"));
}

/// What the files hold once the server has nothing more to say of signals.
fn sums_at_last(client: &mut Client) -> String {
    client.call(7, "sums");
    loop {
        let line = client.line();
        if let Some(text) = line["result"]["content"][0]["text"].as_str() {
            return text.to_owned();
        }
        assert_eq!(line["params"]["data"], "hup", "{line}");
    }
}

/// The keeper of a server: what runs as `mcp-run` and is the server's own process or its parent.
fn keeper(pid: u32) -> Pid {
    let is_ours = |pid: u32| {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.ends_with("mcp-run"))
    };
    let parent = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        line.trim().parse().unwrap()
    };
    let found = if is_ours(pid) { pid } else { parent() };
    assert!(is_ours(found));
    Pid::from_raw(i32::try_from(found).unwrap()).unwrap()
}

/// `mcp-run` whose runtime directory is a small file system in memory of its own, made read-only once the file
/// `read-only` is there. What waits for that ends with the test's own directory.
fn in_small_room(broker: &Broker) -> Client {
    const ROOM: &str = "mkdir -p \"$ROOM/run\" && mount -t tmpfs -o size=64k,mode=700 tmpfs \"$ROOM/run\" || exit 1
        { until [ -e \"$ROOM/read-only\" ]; do [ -d \"$ROOM\" ] || exit 0; sleep 0.02; done; mount -o remount,ro \"$ROOM/run\" && touch \"$ROOM/is-so\"; } </dev/null >/dev/null 2>&1 &
        exec \"$0\" \"$@\"";
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "--mount", "/bin/sh", "-c", ROOM]);
    command.arg(env!("CARGO_BIN_EXE_mcp-run"));
    command.env("ROOM", &broker.dir).env("XDG_RUNTIME_DIR", broker.dir.join("run"));
    Client::start_by(command, broker, true)
}

#[test]
fn a_full_directory_keeps_what_the_server_has() {
    let broker = Broker::start("full");
    let client = in_small_room(&broker);
    let (mut channel, mut client) = begun(&broker, client, &files(), &json!({}));
    assert_eq!(asked(&mut client, "where"), broker.dir.join("run").display().to_string());
    assert_eq!(asked(&mut client, "fill"), "done");
    let failed = refresh(&mut channel, 0, "second-hunter-2").unwrap();
    assert!(failed.contains("No space left") && !failed.contains("hunter"), "{failed}");
    assert_eq!(asked(&mut client, "sums"), sums("first-hunter-1"));
    assert_eq!(asked(&mut client, "mode"), "600 700 2", "nothing is left aside");
    client.close();
    assert_eq!(client.wait(), 0);
}

#[test]
fn a_read_only_directory_keeps_what_the_server_has() {
    let broker = Broker::start("read-only");
    let client = in_small_room(&broker);
    let (mut channel, mut client) = begun(&broker, client, &files(), &json!({}));
    std::fs::write(broker.dir.join("read-only"), "").unwrap();
    let until = Instant::now() + PATIENCE;
    while !broker.dir.join("is-so").exists() {
        assert!(Instant::now() < until, "it is not made read-only");
        std::thread::sleep(Duration::from_millis(5));
    }
    let failed = refresh(&mut channel, 0, "second-hunter-2").unwrap();
    assert!(failed.contains("Read-only") && !failed.contains("hunter"), "{failed}");
    assert_eq!(asked(&mut client, "sums"), sums("first-hunter-1"));
}
