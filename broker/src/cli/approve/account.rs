//! Whom a trial runs as: never root. Another account than one's own can only be had as root.

use nix::unistd::{Uid, User};

use super::super::Report;
use super::super::report::EXIT_USAGE;

/// Whom a trial of root's runs as where nothing else is said: an account that owns nothing.
const DEFAULT: &str = "nobody";

/// The account of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Its name.
    pub(super) name: String,
    /// Its ids, where the trial has to change to them.
    pub(super) change: Option<(u32, u32)>,
}

/// The account that is meant by `--as`.
///
/// # Errors
/// Where there is no such account, it is root, or it cannot be changed to.
pub(super) fn resolve(wanted: Option<&str>) -> Result<Account, Report> {
    let me = Uid::effective();
    let own = User::from_uid(me).ok().flatten();
    if !me.is_root() {
        let name = own.map_or_else(|| me.to_string(), |user| user.name);
        return match wanted {
            Some(other) if other != name => {
                let what = format!("only root can run a trial as `{other}`");
                Err(Report::failure(EXIT_USAGE, &what, "leave out `--as`: it runs as yourself"))
            }
            _ => Ok(Account { name, change: None }),
        };
    }
    let wanted = wanted.unwrap_or(DEFAULT);
    let found = User::from_name(wanted).ok().flatten();
    let user = found.ok_or_else(|| {
        let what = format!("there is no account `{wanted}` on this machine");
        Report::failure(EXIT_USAGE, &what, "name one that owns nothing by `--as ACCOUNT`")
    })?;
    if user.uid.is_root() {
        let what = "a server that nobody has approved is not run as root";
        return Err(Report::failure(
            EXIT_USAGE,
            what,
            "leave out `--as`, or name an account that owns nothing",
        ));
    }
    Ok(Account { name: user.name, change: Some((user.uid.as_raw(), user.gid.as_raw())) })
}
