//! `packages`: what was approved, when, and whether it is still in force.

use std::collections::BTreeMap;

use hyper::Method;
use mcp_broker_proto::approval::ApprovalInfo;
use mcp_broker_proto::paths;

use super::admin::Ask;
use super::report::EXIT_USAGE;
use super::table::table;
use super::{Common, Report, admin};

/// Arguments of `packages`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Verify each server's package against its approval
    #[arg(long)]
    verify: bool,
    /// Print JSON, each tool's digests too
    #[arg(long)]
    json: bool,
}

const HEAD: [&str; 4] = ["SERVER", "APPROVED AT", "IN FORCE", "TOOLS"];

/// `packages`.
pub(super) fn run(common: &Common, args: &Args) -> Report {
    if args.verify {
        let hint = "leave out `--verify`: each launch compares what its server shows with the approval";
        return Report::failure(EXIT_USAGE, "packages cannot be verified yet", hint);
    }
    let ask = Ask { method: Method::GET, path: paths::ADMIN_APPROVALS, body: Vec::new() };
    admin::ask(common, ask, |all: Vec<ApprovalInfo>, _| {
        if args.json {
            return Report::json(&all);
        }
        let rows: Vec<_> = all.iter().map(row).collect();
        Report::success(table(&HEAD, &rows))
    })
}

fn row(info: &ApprovalInfo) -> Vec<String> {
    let current = if info.current { "yes" } else { "no: the definition has changed, approve it again" };
    let tools: usize = info.tools.values().map(BTreeMap::len).sum();
    vec![info.server.to_string(), info.approved_at.clone(), current.to_owned(), tools.to_string()]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_in_force() {
        let digests = BTreeMap::from([("a".to_owned(), Vec::new()), ("b".to_owned(), Vec::new())]);
        let info = ApprovalInfo {
            server: "x".parse().unwrap(),
            approved_at: "2026-11-24T12:00:00Z".to_owned(),
            definition: String::new(),
            current: true,
            tools: [("read".parse().unwrap(), digests)].into(),
        };
        assert_eq!(row(&info), ["x", "2026-11-24T12:00:00Z", "yes", "2"]);
        let outdated = row(&ApprovalInfo { current: false, ..info });
        assert!(outdated.iter().any(|cell| cell.contains("approve it again")));
    }
}
