//! `mcp-broker explain`: the decision about one person and one server, or one tool of it, and each reason, without
//! minting anything or asking the running broker.

mod pins;
mod scopes;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests;

use std::fmt::Write;
use std::path::Path;

use mcp_broker_proto::names::ServerName;
use nix::unistd::User;

use super::report::{EXIT_OK, EXIT_REFUSED, EXIT_USAGE, Report};
use crate::config::{Config, KindReader, Mode, Places, load};
use crate::policy::{Decision, Subject, decide};
use crate::session::sign_in::os;

/// Arguments of the command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Name of the account
    #[arg(long, value_name = "U")]
    pub(crate) user: String,
    /// A group of the account, may be repeated; without one, the groups it has on this machine
    #[arg(long = "group", value_name = "G")]
    pub(crate) groups: Vec<String>,
    /// Name of the server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// Name of a tool of it, as its scopes may name it
    #[arg(value_name = "TOOL")]
    pub(crate) tool: Option<String>,
    /// Extra arguments, as after `mcp-run SERVER --`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// What the account database says of an account by its name; `None` where there is no such account.
pub(crate) trait Accounts {
    /// Names of its groups.
    fn groups(&self, user: &str) -> Option<Vec<String>>;
    /// Its uid.
    fn uid(&self, user: &str) -> Option<u32>;
}

/// The accounts of this machine.
pub(crate) struct OfMachine;

impl Accounts for OfMachine {
    fn groups(&self, user: &str) -> Option<Vec<String>> {
        os::groups_of_account(user)
    }

    fn uid(&self, user: &str) -> Option<u32> {
        Some(User::from_name(user).ok()??.uid.as_raw())
    }
}

/// Runs the command.
pub(crate) fn run(
    dir: &Path,
    mode: Mode,
    args: &Args,
    places: &Places,
    kinds: &[&KindReader],
    accounts: &dyn Accounts,
) -> Report {
    let config = match load(dir, mode, places, kinds) {
        Ok(config) => config,
        Err(found) => return Report::refused_configuration(&found),
    };
    let groups = if args.groups.is_empty() { accounts.groups(&args.user) } else { Some(args.groups.clone()) };
    let Some(groups) = groups else {
        let message = format!("there is no account `{}` on this machine", args.user);
        return Report::failure(EXIT_USAGE, &message, "name its groups with `--group G`");
    };
    let subject = Subject { user: args.user.clone(), groups };
    let decision = decide(&config.servers, &args.server, &subject, &args.args);
    // A person's own broker answers no other uid, whatever its rules say.
    let stranger = mode == Mode::User && accounts.uid(&args.user) != Some(places.uid);
    render(args, &config, &subject, &decision, stranger)
}

/// The answer as it grows, a line at a time.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _infallible: Result<(), std::fmt::Error> = writeln!(self.0, "{line}");
    }
}

fn render(args: &Args, config: &Config, subject: &Subject, decision: &Decision, stranger: bool) -> Report {
    let mut lines = Lines::default();
    let groups = if subject.groups.is_empty() { "none".to_owned() } else { subject.groups.join(", ") };
    lines.add(&format!("  groups: {groups}"));
    if stranger {
        lines.add("  no  in user mode a broker serves only the account that runs it");
    }
    for reason in decision.reasons() {
        let sign = if reason.denies().is_none() { "yes" } else { "no " };
        lines.add(&format!("  {sign} {reason}"));
    }
    let granted = match decision {
        _ if stranger => {
            lines.add("hint: let the account ask its own broker, or ask the machine's with `--mode system`");
            false
        }
        Decision::Grant(grant) => {
            let kept = pins::Pins::of(config, grant.server());
            scopes::explain(&mut lines, config, grant.server(), &kept, args.tool.as_deref())
        }
        Decision::Denial(denial) => {
            lines.add(&format!("hint: {}", denial.to_problem().hint));
            false
        }
    };
    let word = if granted { "allowed" } else { "denied" };
    let of_tool =
        args.tool.as_deref().map_or_else(String::new, |tool| format!("tool {} of ", scopes::shown(tool)));
    let head = format!("{word}: `{}` and {of_tool}server `{}`\n", subject.user, args.server);
    Report::data(head + &lines.0, if granted { EXIT_OK } else { EXIT_REFUSED })
}
