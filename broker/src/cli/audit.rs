//! `audit show` and `audit verify`: read the log from its file, so they work without a running broker.

use std::io::ErrorKind;
use std::path::Path;

use super::report::{counted, printable};
use super::{Common, Report, admin};
use crate::audit::{FILE_NAME, Line, Shape, Verdict, lines, verify};

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
        #[arg(long, value_name = "HASH", value_parser = parse_head)]
        head: Option<String>,
    },
}

/// `audit`.
pub(super) fn run(common: &Common, args: Args) -> Report {
    let path = match common.state_dir() {
        Ok(directory) => directory.join(FILE_NAME),
        Err(report) => return report,
    };
    let done = match args.what {
        What::Show { json, last } => show(&path, json, last, common.options()),
        What::Verify { json, head } => check(&path, json, head.as_deref()),
    };
    done.unwrap_or_else(|error| unreadable(common, &path, &error))
}

fn show(path: &Path, json: bool, last: Option<usize>, options: &str) -> std::io::Result<Report> {
    let all: Vec<Line> = lines(path)?.collect::<Result<_, _>>()?;
    let skip = last.map_or(0, |last| all.len().saturating_sub(last));
    let (mut out, mut err, mut bad) = (String::new(), String::new(), 0);
    for line in all.iter().skip(skip) {
        let number = line.number;
        match line.shape {
            Shape::Record => out.push_str(&if json { line.text.clone() } else { pretty(&line.text) }),
            Shape::NotARecord => {
                bad += 1;
                err.push_str(&format!("mcp-broker: line {number} is not a record\n"));
                let mark = if json { String::new() } else { format!("line {number} is not a record: ") };
                out.push_str(&format!("{mark}{}", printable(&line.text)));
            }
            Shape::Torn => {
                err.push_str(&format!("mcp-broker: {}\n", torn(number)));
                continue;
            }
        }
        out.push('\n');
    }
    if bad > 0 {
        let what = format!("{} of the log cannot be trusted", counted(bad, "line"));
        let hint = format!(
            "`mcp-broker audit verify{options}` says where the chain breaks; keep the file as evidence"
        );
        err.push_str(&Report::failure(1, &what, &hint).err);
    }
    Ok(Report { out, err, code: u8::from(bad > 0) })
}

/// Said of a last line without its end: this is no sign that anybody changed the log.
fn torn(line: u64) -> String {
    format!("line {line} is torn: a crash, or the broker is writing right now")
}

/// `time event key=value …`, in the order of the file.
fn pretty(line: &str) -> String {
    use serde_json::{Map, Value};
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(line) else { return printable(line) };
    let word = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or("?");
    let mut text = format!("{} {}", word("ts"), word("event"));
    for (key, value) in &fields {
        if !["seq", "ts", "prev", "event"].contains(&key.as_str()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!(" {key}={value}"));
        }
    }
    // Names come from people; a control character in one must not act on the terminal.
    printable(&text)
}

fn parse_head(text: &str) -> Result<String, &'static str> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a head is 64 hexadecimal digits, as `audit verify` prints it")
    }
}

fn check(path: &Path, json: bool, head: Option<&str>) -> std::io::Result<Report> {
    let (code, text, value) = match verify(path, head)? {
        Verdict::Intact { lines, head } => {
            let text = format!("intact: {lines} events\nhead: {head}\n");
            (0, text, serde_json::json!({"intact": true, "lines": lines, "head": head}))
        }
        Verdict::Torn { line, head } => {
            let text = format!(
                "intact up to line {}; {}\nhead: {head}\nhint: run it again; the next start of the broker mends a torn line\n",
                line - 1,
                torn(line)
            );
            let value = serde_json::json!({"intact": false, "line": line, "what": "torn", "head": head});
            (75, text, value)
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
    let report = if json { Report::json(&value) } else { Report::success(text) };
    Ok(Report { code, ..report })
}

fn unreadable(common: &Common, path: &Path, error: &std::io::Error) -> Report {
    if error.kind() == ErrorKind::PermissionDenied {
        return admin::forbidden("the audit log", path);
    }
    let what = format!("cannot read the audit log `{}`: {error}", path.display());
    let hint = format!(
        "see that the broker ran with this configuration (`mcp-broker check{}` names its state directory)",
        common.options()
    );
    Report::failure(69, &what, &hint)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests {
    use super::*;
    use crate::config::testing::TempDir;

    const RECORD: &str = r#"{"seq":1,"ts":"T","event":"e","prev":"p","user":"a\u001bb"}"#;

    fn shown(text: &str, json: bool) -> Report {
        let dir = TempDir::new();
        dir.write("log", text);
        show(&dir.path().join("log"), json, None, " --user").unwrap()
    }

    #[test]
    fn damaged_lines_are_marked_and_spelled_out() {
        let text = format!("{RECORD}\n\u{1b}[2J{{\n");
        let people = shown(&text, false);
        assert_eq!(people.out, "T e user=a\\u{1b}b\nline 2 is not a record: \\u{1b}[2J{\n");
        assert!(people.err.starts_with("mcp-broker: line 2 is not a record\n"), "{}", people.err);
        assert!(people.err.contains("hint: `mcp-broker audit verify --user` says"), "{}", people.err);
        let programs = shown(&text, true);
        assert_eq!(programs.out, format!("{RECORD}\n\\u{{1b}}[2J{{\n"));
        assert_eq!((people.code, programs.code), (1, 1));
    }

    #[test]
    fn a_torn_end_is_no_alarm() {
        let report = shown(&format!("{RECORD}\n{{\"seq\""), false);
        let want = "mcp-broker: line 2 is torn: a crash, or the broker is writing right now\n";
        assert_eq!((report.code, report.err.as_str()), (0, want));
        let dir = TempDir::new();
        dir.write("log", "{");
        let verified = check(&dir.path().join("log"), false, None).unwrap();
        assert_eq!(verified.code, 75);
        assert!(verified.out.starts_with("intact up to line 0; line 1 is torn"), "{}", verified.out);
    }

    #[test]
    fn heads() {
        assert_eq!(parse_head(&"AB".repeat(32)).unwrap(), "ab".repeat(32));
        for bad in ["abc", "", &"g".repeat(64), &"a".repeat(65)] {
            assert!(parse_head(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_log_of_another_account_is_a_refusal() {
        let report = unreadable(&Common::default(), Path::new("/l"), &ErrorKind::PermissionDenied.into());
        assert_eq!(report.code, 77);
        assert!(report.err.contains("sudo"), "{}", report.err);
    }
}
