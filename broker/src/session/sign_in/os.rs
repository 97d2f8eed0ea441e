//! Sign-in by the operating system: the kernel says which account asks, the account database says the rest.

use std::ffi::CString;
use std::time::Duration;

use mcp_broker_proto::problem::{ErrorCode, Problem};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::sync::Semaphore;

use super::Person;

/// So many lookups run at once.
static LOOKUPS: Semaphore = Semaphore::const_new(16);

/// The account database may be a directory on the network.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// The person behind a user id.
///
/// # Errors
/// When there is no such account, or the account database does not answer.
pub async fn person(uid: u32) -> Result<Person, Problem> {
    let slow = || refused(format!("the account database did not answer for user id {uid}"));
    let lookup = async {
        let place = LOOKUPS.acquire().await.ok()?;
        // The place goes along: a database that hangs must not take every thread that blocking work has.
        tokio::task::spawn_blocking(move || (look_up(uid), place).0).await.ok()
    };
    match tokio::time::timeout(LOOKUP_LIMIT, lookup).await {
        Ok(Some(Some(person))) => Ok(person),
        Ok(Some(None)) => Err(refused(format!("user id {uid} has no account"))),
        Ok(None) | Err(_) => Err(slow()),
    }
}

fn refused(title: String) -> Problem {
    Problem::new(ErrorCode::NotSignedIn, title, "see `getent passwd` on this machine")
}

fn look_up(uid: u32) -> Option<Person> {
    let account = User::from_uid(Uid::from_raw(uid)).ok()??;
    let groups = groups_of(&account.name, account.gid);
    Some(Person { uid, user: account.name, groups, home: account.dir })
}

/// Names of the groups of the account called `user`; `None` when there is no such account. Blocks.
#[must_use]
pub fn groups_of_account(user: &str) -> Option<Vec<String>> {
    let account = User::from_name(user).ok()??;
    Some(groups_of(&account.name, account.gid))
}

fn groups_of(user: &str, primary: Gid) -> Vec<String> {
    let Ok(name) = CString::new(user) else { return Vec::new() };
    let ids = getgrouplist(&name, primary).unwrap_or_default();
    ids.into_iter().filter_map(|id| Group::from_gid(id).ok()?).map(|group| group.name).collect()
}
