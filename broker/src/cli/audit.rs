//! `audit show` and `audit verify`: read the log from its file, so they work without a running broker.

use std::path::Path;

use super::{Common, Report};
use crate::audit::{FILE_NAME, Verdict, lines, verify};

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the log, one event a line
    Show {
        /// Print the lines as they stand in the file
        #[arg(long)]
        json: bool,
        /// Print only the last N events
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Check that no line was changed, removed or added
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// A head that an earlier `verify` printed: check also that the log still goes on from it
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

/// `audit`.
pub(super) fn run(common: &Common, args: Args) -> Report {
    let path = match common.state_dir() {
        Ok(directory) => directory.join(FILE_NAME),
        Err(report) => return report,
    };
    match args.what {
        What::Show { json, last } => show(&path, json, last),
        What::Verify { json, head } => check(&path, json, head.as_deref()),
    }
}

fn show(path: &Path, json: bool, last: Option<usize>) -> Report {
    let all = match lines(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(all) => all,
        Err(error) => return unreadable(path, &error),
    };
    let skip = last.map_or(0, |last| all.len().saturating_sub(last));
    let mut text = String::new();
    for line in all.iter().skip(skip) {
        text.push_str(&if json { line.text.clone() } else { pretty(&line.text) });
        text.push('\n');
    }
    Report::success(text)
}

/// `time event key=value …`, in the order of the file.
fn pretty(line: &str) -> String {
    use serde_json::{Map, Value};
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(line) else { return line.to_owned() };
    let word = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or("?");
    let mut text = format!("{} {}", word("ts"), word("event"));
    for (key, value) in &fields {
        if !["seq", "ts", "prev", "event"].contains(&key.as_str()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Names come from people; a control character in one must not act on the terminal.
            let value: String = value
                .chars()
                .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
                .collect();
            text.push_str(&format!(" {key}={value}"));
        }
    }
    text
}

fn check(path: &Path, json: bool, head: Option<&str>) -> Report {
    let verdict = match verify(path, head) {
        Ok(verdict) => verdict,
        Err(error) => return unreadable(path, &error),
    };
    let (code, text, value) = match verdict {
        Verdict::Intact { lines, head } => {
            let text = format!("intact: {lines} events\nhead: {head}\n");
            (0, text, serde_json::json!({"intact": true, "lines": lines, "head": head}))
        }
        Verdict::Broken { line, what } => {
            let text = format!(
                "broken at line {line}: {what}\nhint: compare with an exported copy; keep the file as evidence\n"
            );
            (1, text, serde_json::json!({"intact": false, "line": line, "what": what}))
        }
        Verdict::HeadMissing { lines } => {
            let text = format!(
                "the head is not in the log any more ({lines} events): its end was cut off or rewritten\nhint: compare with an exported copy; keep the file as evidence\n"
            );
            (1, text, serde_json::json!({"intact": false, "lines": lines, "what": "head missing"}))
        }
    };
    if json { Report { code, ..Report::json(&value) } } else { Report { code, ..Report::success(text) } }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Report {
    let what = format!("cannot read the audit log `{}`: {error}", path.display());
    Report::failure(
        69,
        &what,
        "see that the broker ran with this configuration; add `--user` or `--config DIR` as for the broker",
    )
}
