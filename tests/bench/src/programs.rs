//! The programs that are measured, and the floor, which is compiled here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The target whose programs need no loader.
const STATIC: &str = concat!("x86_64", "-unknown-linux-musl");

/// The release build of the broker.
#[must_use]
pub fn broker() -> PathBuf {
    let built = target().join("release/mcp-broker");
    found("MCP_BROKER_BIN", built, "cargo build --release -p mcp-broker")
}

/// The static release build of the launcher.
#[must_use]
pub fn launcher() -> PathBuf {
    let built = target().join(STATIC).join("release/mcp-run");
    found("MCP_RUN_BIN", built, &format!("cargo build --release -p mcp-run --target {STATIC}"))
}

/// The optimised program of the launcher's counts.
#[must_use]
pub fn counts() -> PathBuf {
    let built = target().join("release/count-launcher");
    let cure =
        "cargo build --release -p counts --bin count-launcher --no-default-features --features launcher";
    found("COUNT_LAUNCHER_BIN", built, cure)
}

fn found(variable: &str, built: PathBuf, cure: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or(built, PathBuf::from);
    assert!(path.is_file(), "{} is missing; build it: {cure}", path.display());
    path
}

fn target() -> PathBuf {
    let bench = std::env::current_exe().expect("a program has a path");
    bench.parent().and_then(Path::parent).expect("it is in target/release").to_owned()
}

/// The floor program.
#[must_use]
pub fn floor() -> &'static Path {
    static FLOOR: OnceLock<PathBuf> = OnceLock::new();
    FLOOR.get_or_init(|| {
        let built = target().join("floor");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("floor/floor.rs");
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024", "--target", STATIC, "-O", "-C", "strip=symbols", "-o"]);
        let status = rustc.arg(&built).arg(&source).status().expect("rustc runs");
        assert!(status.success(), "the floor does not build; rustup target add {STATIC}");
        built
    })
}

/// The floor in one of its ways, for a command line.
#[must_use]
pub fn floor_words(words: &[&str]) -> Vec<String> {
    let mut all = vec![floor().display().to_string()];
    all.extend(words.iter().map(|word| (*word).to_owned()));
    all
}
