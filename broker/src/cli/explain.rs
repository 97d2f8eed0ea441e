//! `mcp-broker explain`: the decision about one person and one server, and each reason, without minting
//! anything or asking the running broker.

use std::fmt::Write;
use std::path::Path;

use mcp_broker_proto::names::ServerName;
use nix::unistd::User;

use super::report::{EXIT_OK, EXIT_REFUSED, EXIT_USAGE, Report};
use crate::config::{Config, CredentialSpec, KindReader, Mode, OnLock, Places, load, words};
use crate::policy::{Decision, Subject, decide};
use crate::provider::sealed;
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
    /// Name of a tool of it
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

fn render(args: &Args, config: &Config, subject: &Subject, decision: &Decision, stranger: bool) -> Report {
    let mut text = String::new();
    let mut line = |line: &str| {
        // Writing to a String cannot fail.
        let _infallible: Result<(), std::fmt::Error> = writeln!(text, "{line}");
    };
    let granted = matches!(decision, Decision::Grant(_)) && !stranger;
    let word = if granted { "allowed" } else { "denied" };
    line(&format!("{word}: `{}` and server `{}`", subject.user, args.server));
    let groups = if subject.groups.is_empty() { "none".to_owned() } else { subject.groups.join(", ") };
    line(&format!("  groups: {groups}"));
    if stranger {
        line("  no  in user mode a broker serves only the account that runs it");
    }
    for reason in decision.reasons() {
        let sign = if reason.denies().is_none() { "yes" } else { "no " };
        line(&format!("  {sign} {reason}"));
    }
    match decision {
        _ if stranger => {
            line("hint: let the account ask its own broker, or ask the machine's with `--mode system`");
        }
        Decision::Grant(grant) => {
            let scope = grant.scope();
            line(&format!("  scope `{}` answers {}", scope.name, tool_words(args.tool.as_deref())));
            scope.credentials.iter().for_each(|credential| line(&what_it_gets(config, credential)));
            line(&how_it_ends(config));
        }
        Decision::Denial(denial) => line(&format!("hint: {}", denial.to_problem().hint)),
    }
    Report::data(text, if granted { EXIT_OK } else { EXIT_REFUSED })
}

fn what_it_gets(config: &Config, credential: &CredentialSpec) -> String {
    let CredentialSpec { name, provider, ttl, .. } = credential;
    let kind = config.providers.get(provider).map(|section| section.kind);
    if kind == Some(sealed::KIND.reader.name) {
        return format!("  hands over `{name}` from provider `{provider}`, does not expire: a static value");
    }
    format!("  mints `{name}` from provider `{provider}`, {} s without renewal", ttl.as_secs())
}

/// What ends the instance and its credentials while the launch goes on, and what brings them back.
fn how_it_ends(config: &Config) -> String {
    let lock = match config.session.on_lock {
        OnLock::Park => "a lock ends it until the session is unlocked",
        OnLock::End => "a lock ends the launch",
    };
    let idle = words(config.session.idle);
    format!("  ends its instance after {idle} without a request, until the next one; {lock}")
}

fn tool_words(tool: Option<&str>) -> String {
    match tool {
        // Control characters of an argument are not passed on to the terminal.
        Some(tool) => format!("every tool of the server, `{}` too if there is one", tool.escape_debug()),
        None => "every tool of the server".to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::testing::{KINDS, TempDir, places};

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    const SERVER: &str = "tier = \"development\"\ncommand = [\"/bin/sh\"]\nextra_args = [\"-a\"]\n\
        access = { users = [\"alice\"], groups = [\"data\"] }\n[scope.all]\ntools = [\"*\"]\n\
        credential.db = { provider = \"p\", number = \"1\" }\ninject = [{ env = \"E\", value = \"{db.value}\" }]\n";

    /// `bob` has the group `data` on this machine and is who runs the tests; `carol` is somebody else.
    struct Two;

    impl Accounts for Two {
        fn groups(&self, user: &str) -> Option<Vec<String>> {
            ["bob", "carol"].contains(&user).then(|| vec!["data".to_owned()])
        }

        fn uid(&self, user: &str) -> Option<u32> {
            self.groups(user).map(|_| if user == "bob" { places().uid } else { places().uid + 1 })
        }
    }

    /// Runs the command with `words` behind `--config DIR`.
    fn check(words: &[&str], code: u8, want: &str) {
        check_in(Mode::System, words, code, want);
    }

    fn check_in(mode: Mode, words: &[&str], code: u8, want: &str) {
        let dir = TempDir::new();
        dir.write("broker.toml", "[provider.p]\nkind = \"fixed\"\n[provider.local]\nkind = \"sealed\"\n");
        dir.write("servers.d/orders-db.toml", SERVER);
        dir.write(
            "servers.d/static.toml",
            &SERVER.replace("\"p\", number = \"1\"", "\"local\", secret = \"A\""),
        );
        let words = [&["explain"], words].concat();
        let args = Cli::try_parse_from(words).unwrap().args;
        let kinds = [KINDS, &[&sealed::KIND.reader]].concat();
        let output = run(dir.path(), mode, &args, &places(), &kinds, &Two);
        assert_eq!((output.code, format!("{}{}", output.out, output.err).as_str()), (code, want));
    }

    #[test]
    fn allowed() {
        check(
            &["--user", "bob", "orders-db", "query"],
            0,
            "allowed: `bob` and server `orders-db`\n  groups: data\n  yes the server is approved\n  \
            yes tier `development` can be served\n  yes `access.groups` lists group `data`\n  \
            yes no extra arguments were given\n  \
            scope `all` answers every tool of the server, `query` too if there is one\n  \
            mints `db` from provider `p`, 900 s without renewal\n  ends its instance after 15m without a request, until the next one; \
            a lock ends it until the session is unlocked\n",
        );
    }

    #[test]
    fn denied() {
        check(
            &["--user", "bob", "--group", "dev", "--group", "ops", "orders-db", "--", "-b"],
            77,
            "denied: `bob` and server `orders-db`\n  groups: dev, ops\n  yes the server is approved\n  \
            yes tier `development` can be served\n  \
            no  [access] lists neither the account nor a group of it\n  \
            no  no pattern of `extra_args` matches extra argument 1\n\
            hint: ask the admin to list you or a group of yours in [access] of the server\n",
        );
        check(
            &["--user", "bob", "orders-bd"],
            77,
            "denied: `bob` and server `orders-bd`\n  groups: data\n  no  no server of that name is approved\n\
            hint: did you mean `orders-db`? `mcp-run servers` lists yours\n",
        );
    }

    #[test]
    fn a_static_value_has_no_ttl() {
        check(
            &["--user", "bob", "static"],
            0,
            "allowed: `bob` and server `static`\n  groups: data\n  yes the server is approved\n  \
            yes tier `development` can be served\n  yes `access.groups` lists group `data`\n  \
            yes no extra arguments were given\n  scope `all` answers every tool of the server\n  \
            hands over `db` from provider `local`, does not expire: a static value\n  ends its instance after 15m without a request, until the next one; \
            a lock ends it until the session is unlocked\n",
        );
    }

    #[test]
    fn a_users_broker_serves_that_user() {
        check_in(
            Mode::User,
            &["--user", "carol", "orders-db"],
            77,
            "denied: `carol` and server `orders-db`\n  groups: data\n  \
            no  in user mode a broker serves only the account that runs it\n  yes the server is approved\n  \
            yes tier `development` can be served\n  yes `access.groups` lists group `data`\n  \
            yes no extra arguments were given\n\
            hint: let the account ask its own broker, or ask the machine's with `--mode system`\n",
        );
        let dir = TempDir::new();
        dir.write("broker.toml", "[provider.p]\nkind = \"fixed\"\n");
        dir.write("servers.d/orders-db.toml", SERVER);
        let args = Cli::try_parse_from(["explain", "--user", "bob", "orders-db"]).unwrap().args;
        assert_eq!(run(dir.path(), Mode::User, &args, &places(), KINDS, &Two).code, 0);
    }

    #[test]
    fn unknown_account() {
        let want =
            "mcp-broker: there is no account `eve` on this machine\nhint: name its groups with `--group G`\n";
        check(&["--user", "eve", "orders-db"], 64, want);
    }

    #[test]
    fn bad_server_name() {
        assert!(Cli::try_parse_from(["explain", "--user", "u", "../x"]).is_err());
    }
}
