//! `approve`: runs each scope of a server in throw-away children, shows what it shows and what changed, asks, and
//! has the broker keep it. Nothing is kept that an admin did not see, and nothing that holds a credential.

mod account;
mod apart;
mod changes;
mod child;
mod deliver;
mod look;
mod place;
mod record;
mod scope;
mod show;
mod strays;
mod talk;
mod ticket;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;

use hyper::Method;
use mcp_broker_proto::approval::{ApprovalInfo, ApprovalRequest};
use mcp_broker_proto::names::{Label, ServerName};
use mcp_broker_proto::paths;
use mcp_broker_proto::plan::Record;
use rustix::termios::{QueueSelector, tcflush};
use tokio::signal::unix::{SignalKind, signal};

use super::admin::Ask;
use super::report::{EXIT_CONFIG, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE};
use super::{Common, Report, admin};
use crate::clock::{Clock, SystemClock, shown as shown_time};
use crate::config::{Config, Scope, ServerDefinition, nearest};
use crate::package::definition_digest;
use account::Account;
use place::Place;
use scope::{Found, Setting, Wrong};
use ticket::{Channel, Held, NoTicket};

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the server
    #[arg(value_name = "SERVER")]
    server: ServerName,
    /// Mint each scope's credentials for the trial, and revoke them after it
    #[arg(long)]
    with_credentials: bool,
    /// Approve without asking
    #[arg(long)]
    yes: bool,
    /// Only show what the server shows and what changed; approve nothing
    #[arg(long, conflicts_with = "yes")]
    show: bool,
    /// Account that the server runs as in the trial, for root [default: nobody]; anybody else's runs as themselves
    #[arg(long = "as", value_name = "ACCOUNT")]
    account: Option<String>,
}

/// What a trial found, of all scopes.
struct Trial {
    record: Record,
    tools: BTreeMap<Label, BTreeSet<String>>,
    /// Whether the broker said that it has ended all credentials.
    given_back: bool,
}

/// `approve`.
pub(super) fn run(common: &Common, args: &Args) -> Report {
    approve(common, args).unwrap_or_else(|report| report)
}

fn approve(common: &Common, args: &Args) -> Result<Report, Report> {
    let config = common.load()?;
    let server = config.servers.get(&args.server).ok_or_else(|| unknown(&config, &args.server))?;
    let socket = &config.broker.admin_socket;
    let account = account::resolve(args.account.as_deref())?;
    let previous = previous(common, socket, &args.server)?;
    let trial = tried(common, args, server, socket, &account)?;

    let now = changes::things(&trial.record);
    let before = previous.as_ref().map(|previous| changes::things(&previous.record)).unwrap_or_default();
    let definition = definition_digest(server);
    let revisions = trial.record.variants.iter().map(|variant| variant.revision.as_str()).collect();
    let mut text = show::found(server, &before, &now, &trial.tools, &revisions);
    text.push_str(&show::changed(previous.as_ref(), &definition, &now));
    let note = if trial.given_back { "" } else { LATE };
    if args.show {
        return Ok(Report::success(text).after(note));
    }
    if !args.yes && !asked(&mut text)? {
        let what = format!("server `{}` was not approved", server.name);
        return Err(
            Report { out: text, ..Report::failure(EXIT_REFUSED, &what, "nothing was changed") }.after(note)
        );
    }
    let request = ApprovalRequest { server: server.name.clone(), definition, record: trial.record };
    // Serialising these types into memory cannot fail.
    let body = serde_json::to_vec(&request).unwrap_or_default();
    let ask = Ask { method: Method::POST, path: paths::ADMIN_APPROVALS, body };
    let info: ApprovalInfo = admin::answer(common, socket, ask)?;
    let tools: usize = info.tools.values().map(BTreeMap::len).sum();
    let tools = super::report::counted(tools, "tool");
    text.push_str(&format!("\napproved server {} at {}, with {tools}\n", info.server, info.approved_at));
    Ok(Report::success(text).after(note))
}

/// An answer is no longer than this, in bytes.
const MAX_REPLY: u64 = 64;

/// Said where the broker did not say in time that a trial's credentials are gone.
const LATE: &str = "mcp-broker: warning: the broker still ends the credentials of the trial\n\
                    hint: `mcp-broker leases` shows what is left\n";

/// What was approved before, where something was.
fn previous(common: &Common, socket: &Path, server: &ServerName) -> Result<Option<ApprovalRequest>, Report> {
    let get = |path| Ask { method: Method::GET, path, body: Vec::new() };
    let all: Vec<ApprovalInfo> = admin::answer(common, socket, get(paths::ADMIN_APPROVALS))?;
    if !all.iter().any(|info| info.server == *server) {
        return Ok(None);
    }
    admin::answer(common, socket, get(&format!("{}/{server}", paths::ADMIN_APPROVALS))).map(Some)
}

/// Runs the trial, and leaves nothing of it: no process, no file.
fn tried(
    common: &Common,
    args: &Args,
    server: &ServerDefinition,
    socket: &Path,
    account: &Account,
) -> Result<Trial, Report> {
    let failed = |why: String| {
        let what = format!("the trial of server `{}` cannot be set up: {why}", server.name);
        Report::failure(EXIT_CONFIG, &what, "see that the temporary directory and /dev/shm can be written to")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    let place = Place::make(&common.scratch(), account).map_err(|error| failed(error.to_string()))?;
    let inherited = common.inherited();
    let setting = Setting { server, place: &place, account, inherited: &inherited };
    strays::adopt();
    let tried = runtime.block_on(async {
        tokio::select! {
            tried = all_scopes(&setting, args.with_credentials, socket) => tried,
            number = interrupted() => Err(interruption(number)),
        }
    });
    // Drops what still runs, and with it every process group of the trial.
    runtime.shutdown_background();
    strays::end_all();
    place.remove();
    tried
}

async fn all_scopes(setting: &Setting<'_>, with_credentials: bool, socket: &Path) -> Result<Trial, Report> {
    let server = setting.server;
    let (mut shown, mut tools, mut given_back) = (BTreeMap::new(), BTreeMap::new(), true);
    for scope in &server.scopes {
        let found = if with_credentials && !scope.credentials.is_empty() {
            let ticket = Channel::ask(socket, &server.name, &scope.name).await;
            let (mut channel, held) = ticket.map_err(|no| no_ticket(server, &scope.name, &no))?;
            let found = tokio::select! {
                found = with_ticket(setting, scope, &held) => found,
                why = channel.lost() => Err(lost(server, &why)),
            };
            drop(held);
            given_back &= channel.give_back().await;
            found
        } else {
            setting.look_at(scope, None).await
        };
        let Found { shown: by_kind, tools: all } = found.map_err(wrong)?;
        shown.insert(scope.name.clone(), by_kind);
        tools.insert(scope.name.clone(), all);
    }
    let now = shown_time(SystemClock.now());
    let record = record::record(server, &shown, now).map_err(wrong)?;
    Ok(Trial { record, tools, given_back })
}

/// The trial of a scope with its credentials, none of which may be in what it finds.
async fn with_ticket(setting: &Setting<'_>, scope: &Scope, held: &Held) -> Result<Found, Wrong> {
    let (server, ticket) = (setting.server, held.ticket());
    // In a ticket the home is the admin's.
    let cwd = match server.cwd.strip_prefix("{home}") {
        Some(below) => ticket.cwd.ends_with(below),
        None => ticket.cwd == server.cwd,
    };
    let theirs = (&ticket.command, &ticket.env, &ticket.inject);
    if !cwd || theirs != (&server.command, &server.env, &scope.inject) {
        return Err(Wrong {
            what: format!(
                "the broker's definition of server `{}` is another one than the file's",
                server.name
            ),
            hint: "have the broker read its configuration again (SIGHUP), then approve the server again"
                .to_owned(),
        });
    }
    let mut found = setting.look_at(scope, Some(held)).await?;
    // Those that no pattern names are shown as well.
    found.tools = found.tools.iter().map(|tool| held.masked(tool)).collect();
    for shown in found.shown.values() {
        for (what, key, entries) in shown.lists() {
            let entry = entries.iter().flatten().find(|entry| held.shown_in(&entry.to_string()));
            if let Some(entry) = entry {
                let name = entry.get(key).and_then(serde_json::Value::as_str).unwrap_or("without a name");
                let where_ = scope::seemly(Some(held), &format!("{what} `{name}`"));
                return Err(shows_a_secret(server, &scope.name, &where_));
            }
        }
        if held.shown_in(&shown.discovery.to_string()) {
            return Err(shows_a_secret(server, &scope.name, "what it says of itself"));
        }
    }
    Ok(found)
}

fn shows_a_secret(server: &ServerDefinition, scope: &Label, where_: &str) -> Wrong {
    Wrong {
        what: format!("server `{}`, scope `{scope}`: {where_} holds a credential of the trial", server.name),
        hint: "such a server cannot be pinned: configure it so that it does not repeat its credentials, or leave \
               that out of the scope's patterns"
            .to_owned(),
    }
}

fn no_ticket(server: &ServerDefinition, scope: &Label, no: &NoTicket) -> Report {
    match no {
        NoTicket::Problem(problem) => Report::problem(problem),
        NoTicket::Channel(why) => {
            let what =
                format!("no credentials for the trial of server `{}`, scope `{scope}`: {why}", server.name);
            Report::failure(EXIT_UNAVAILABLE, &what, "see the broker's log, then run it again")
        }
    }
}

fn lost(server: &ServerDefinition, why: &str) -> Wrong {
    let what = format!("the trial of server `{}` was ended: {why}", server.name);
    Wrong { what, hint: "run it again".to_owned() }
}

fn wrong(Wrong { what, hint }: Wrong) -> Report {
    Report::failure(EXIT_CONFIG, &what, &hint)
}

fn unknown(config: &Config, server: &ServerName) -> Report {
    let near = nearest(server.as_str(), config.servers.keys().map(ServerName::as_str));
    let hint = near.map_or_else(
        || "write servers.d/NAME.toml for it first".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    Report::failure(EXIT_USAGE, &format!("no server `{server}` is defined"), &hint)
}

/// Ready when somebody wants this command to end; the number of the signal.
async fn interrupted() -> i32 {
    let watch = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_unwatched) => std::future::pending().await,
        }
        kind.as_raw_value()
    };
    tokio::select! {
        number = watch(SignalKind::interrupt()) => number,
        number = watch(SignalKind::terminate()) => number,
        number = watch(SignalKind::hangup()) => number,
    }
}

fn interruption(number: i32) -> Report {
    let code = u8::try_from(128 + number).unwrap_or(EXIT_CONFIG);
    Report::failure(code, "the trial was interrupted, and nothing was approved", "run it again")
}

/// Shows what was found and asks, where there is somebody to ask; what was shown is not shown again.
fn asked(text: &mut String) -> Result<bool, Report> {
    if !std::io::stdin().is_terminal() {
        let hint = "run it on a terminal, or say `--yes` after reading what it shows";
        let report =
            Report::failure(EXIT_USAGE, "there is no terminal to ask on, so nothing was approved", hint);
        return Err(Report { out: std::mem::take(text), ..report });
    }
    let mut terminal = std::io::stderr();
    let mut say = |text: &str| terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
    let said = say(&std::mem::take(text));
    // What was typed before the question was there is no answer to it.
    let said = said.and_then(|()| Ok(tcflush(std::io::stdin(), QueueSelector::IFlush)?));
    let said = said.and_then(|()| say("\nApprove? [y/N] "));
    let mut answer = String::new();
    let read = said.and_then(|()| std::io::stdin().lock().take(MAX_REPLY).read_line(&mut answer));
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
