//! `mcp-run servers`: what this person may launch, why not the others, and what the tools of each may do.

use mcp_broker_proto::session::{ScopeInfo, ServerInfo};

use super::text::{columns, fit, heading, json};
use super::{Call, Command};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "servers",
    arguments: "",
    about: "list the servers that you may launch and what their tools may do, and why not the others",
    json: true,
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let servers = call.broker()?.servers()?;
    if call.json {
        return json(&servers);
    }
    say::answer(&render(&servers));
    Ok(0)
}

fn render(servers: &[ServerInfo]) -> String {
    if servers.is_empty() {
        return "no server is defined\n".to_owned();
    }
    let mut rows = vec![heading(&["SERVER", "MAY LAUNCH", "TIER", "APPROVED", "OWNER", "DESCRIPTION"])];
    for server in servers {
        let may = match server.allowed {
            true => "yes".to_owned(),
            false => format!("no: {}", server.reasons.join("; ")),
        };
        let approved = server.approved.clone().unwrap_or_else(|| "no".to_owned());
        let (tier, owner, about) = (server.tier.clone(), server.owner.clone(), server.description.clone());
        rows.push(vec![server.name.to_string(), may, tier, approved, owner, about]);
    }
    let details = servers.iter().filter(|server| !server.scopes.is_empty()).map(detail);
    columns(&rows) + &details.collect::<String>()
}

/// What the tools of a server may do, scope by scope.
fn detail(server: &ServerInfo) -> String {
    let approved = match &server.approved {
        Some(at) => format!("approved since {at}"),
        None => format!(
            "not approved; whoever runs the broker does that with `mcp-broker approve {}`",
            server.name
        ),
    };
    let rows: Vec<_> = server.scopes.iter().flat_map(scope).collect();
    format!("\n{}: {approved}\n{}", server.name, columns(&rows))
}

/// A line for each thing that there is; the first one names the scope.
fn scope(scope: &ScopeInfo) -> Vec<Vec<String>> {
    let things = [
        ("tools", &scope.tools),
        ("resources", &scope.resources),
        ("prompts", &scope.prompts),
        ("credentials", &scope.credentials),
        ("limits", &scope.limits),
    ];
    let mut name = format!("  {}", scope.name);
    let lines = things.into_iter().filter(|(what, items)| *what == "tools" || !items.is_empty());
    lines.map(|(what, items)| vec![std::mem::take(&mut name), what.to_owned(), list(items)]).collect()
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(|item| fit(item)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn check(servers: &str, want: &str) {
        let servers: Vec<ServerInfo> = serde_json::from_str(servers).unwrap();
        assert_eq!(render(&servers), want);
    }

    const HEAD: &str = r#""owner":"data","tier":"development","description":"Orders""#;

    #[test]
    fn none() {
        check("[]", "no server is defined\n");
    }

    #[test]
    fn scopes_below_their_server() {
        let scopes = r#"[
            {"name":"read","tools":["execute_sql","search\u001b[2J"],"resources":["db://*"],"prompts":["ask_*"],
             "credentials":["db of bao"],"limits":["at most 60 calls a minute","results up to 1 MiB; 'x'"]},
            {"name":"write","tools":[]}]"#;
        let servers = format!(
            r#"[{{"name":"orders-db",{HEAD},"allowed":true,"reasons":[],"approved":"T1","scopes":{scopes}}},
            {{"name":"other",{HEAD},"allowed":true,"reasons":[],"scopes":[{{"name":"all","tools":["*"]}}]}},
            {{"name":"third",{HEAD},"allowed":false,"reasons":["not in a group","a tier"]}}]"#
        );
        check(
            &servers,
            "\
SERVER     MAY LAUNCH                  TIER         APPROVED  OWNER  DESCRIPTION
orders-db  yes                         development  T1        data   Orders
other      yes                         development  no        data   Orders
third      no: not in a group; a tier  development  no        data   Orders

orders-db: approved since T1
  read   tools        execute_sql, search\\u{1b}[2J
         resources    db://*
         prompts      ask_*
         credentials  db of bao
         limits       at most 60 calls a minute, results up to 1 MiB; 'x'
  write  tools        none

other: not approved; whoever runs the broker does that with `mcp-broker approve other`
  all  tools  *
",
        );
    }
}
