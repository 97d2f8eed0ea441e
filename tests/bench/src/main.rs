//! Measures the programs beside floors of its own, in turns in one run, and prints ratios. Run by hand:
//!
//!   cargo run -p bench --release -- launch|proxy|endpoint|masking|broker|issue|lock|resume|journal|mem|growth|peers|all [--json FILE]
//!
//! The programs are the release builds (see `programs`); OpenBao and PostgreSQL are the tests' parts.

mod api;
mod endpoint;
mod http;
mod issue;
mod journal;
mod launch;
mod lock;
mod masking;
mod measure;
mod memory;
mod peers;
mod programs;
mod relay;
mod resume;
mod running;
mod table;
mod tree;
mod truth;
mod world;

use std::path::Path;
use std::process::ExitCode;

use table::Table;

/// A part of the bench.
type Part = fn(&mut Table);

const PARTS: &[(&str, Part)] = &[
    ("launch", launch::launch),
    ("proxy", relay::proxy),
    ("endpoint", endpoint::endpoint),
    ("masking", masking::masking),
    ("broker", api::broker),
    ("issue", issue::issue),
    ("lock", lock::lock),
    ("resume", resume::resume),
    ("journal", journal::journal),
    ("mem", memory::mem),
    ("growth", memory::growth),
    ("peers", peers::peers),
];

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, socket] = words.as_slice()
        && serve == "--serve"
    {
        return api::serve(Path::new(socket));
    }
    if let [ask, out] = words.as_slice()
        && ask == endpoint::ASK
    {
        return endpoint::ask(Path::new(out));
    }
    let json = words.iter().position(|word| word == "--json").map(|at| {
        let file = words.get(at + 1).cloned();
        words.drain(at..words.len().min(at + 2));
        file
    });
    let known = |word: &str| word == "all" || PARTS.iter().any(|(name, _)| *name == word);
    if words.is_empty() || json == Some(None) || !words.iter().all(|word| known(word)) {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("usage: bench {}|all [--json FILE]", names.join("|"));
        return ExitCode::from(64);
    }
    let mut table = Table::default();
    for (name, part) in PARTS {
        if words.iter().any(|word| word == "all" || word == name) {
            println!("-- {name}");
            part(&mut table);
        }
    }
    println!("{}", table.summary());
    if let Some(Some(file)) = json {
        std::fs::write(&file, format!("{:#}\n", table.json())).expect("the file can be written");
    }
    ExitCode::SUCCESS
}
