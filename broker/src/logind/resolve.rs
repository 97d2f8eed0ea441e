//! From a process to the login session that it is bound to, so that nothing whose number was given out again
//! can match: a process id is believed only while its pidfd says that it lives, and a session only if logind
//! says the same about it before and after its leader was looked up.

use std::time::Duration;

use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::bus::{Calls, Fault, Session};
use super::cgroup::Scope;
use super::process::{self, Gone, Process};
use super::{Logind, unseen};
use crate::session::login::{Caller, Leader, Login, Look};

/// All that is asked about one process must be answered in this time.
const LIMIT: Duration = Duration::from_secs(5);

/// A person with more sessions than this has to say which one is meant, by asking from within it.
const MAX_SESSIONS: usize = 32;

/// A session that logind named, with its object.
struct Found {
    path: String,
    session: Session,
    /// The machine's control groups show where processes are, so they must show the leader in its session.
    by_groups: bool,
}

impl Session {
    pub(super) fn look(&self) -> Look {
        Look { locked_hint: self.locked_hint, active: self.active, closing: self.state == "closing" }
    }

    /// A person's own, and not on its way out. `user-early` is root's, `light` ones have no service manager;
    /// the others are greeters, lock screens, cron jobs, and service managers (pam_systemd(8), `class=`).
    fn is_persons(&self) -> bool {
        let classes = ["user", "user-early", "user-light", "user-early-light"];
        classes.contains(&self.class.as_str()) && self.state != "closing"
    }

    /// The same session at another moment.
    fn is_same(&self, other: &Self) -> bool {
        let who = |session: &Self| (session.user.0, session.timestamp, session.leader);
        self.id == other.id && who(self) == who(other) && self.class == other.class
    }
}

impl Logind {
    pub(super) async fn resolve(&self, calls: &Calls, caller: &Caller) -> Result<Login, Problem> {
        let resolving = async {
            let process = Process::of(caller, &self.proc).map_err(peer_gone)?;
            let found = self.find(calls, &process, caller.uid).await?;
            let login = self.bind(calls, found).await?;
            process.alive().map_err(peer_gone)?;
            Ok(login)
        };
        tokio::time::timeout(LIMIT, resolving).await.unwrap_or_else(|_elapsed| Err(unseen()))
    }

    /// The process's own session, or where it has none the one that stands for the person.
    async fn find(&self, calls: &Calls, process: &Process, uid: u32) -> Result<Found, Problem> {
        let own = match process.scope(&self.proc).map_err(peer_gone)? {
            Scope::Session { uid: owner, .. } | Scope::UserManager { uid: owner } if owner != uid => {
                return Err(another_persons());
            }
            Scope::Session { id, .. } => {
                let path = known(calls.session_path(&id).await)?.ok_or_else(over)?;
                let session = known(calls.session(&path).await)?.ok_or_else(over)?;
                if session.id != id {
                    return Err(over());
                }
                Some(Found { path: path.to_string(), session, by_groups: true })
            }
            Scope::UserManager { .. } => {
                return self.stands_for(calls, uid, true).await;
            }
            Scope::Elsewhere => {
                let path = calls.session_path_of(process.pid).await;
                process.alive().map_err(peer_gone)?;
                match known(path)? {
                    Some(path) => {
                        let session = known(calls.session(&path).await)?.ok_or_else(over)?;
                        Some(Found { path: path.to_string(), session, by_groups: false })
                    }
                    None => None,
                }
            }
        };
        let Some(found) = own else { return self.stands_for(calls, uid, false).await };
        if found.session.user.0 != uid {
            return Err(another_persons());
        }
        if found.session.is_persons() { Ok(found) } else { Err(not_a_persons(&found.session)) }
    }

    /// The display session of the person, or the only one there is.
    async fn stands_for(&self, calls: &Calls, uid: u32, by_groups: bool) -> Result<Found, Problem> {
        let user = known(calls.user(uid).await)?.filter(|user| user.uid == uid).ok_or_else(none)?;
        if user.sessions.len() > MAX_SESSIONS {
            return Err(several(&[]));
        }
        let mut eligible = Vec::new();
        for (id, path) in &user.sessions {
            let Some(session) = known(calls.session(path).await)? else { continue };
            if session.id == *id && session.user.0 == uid && session.is_persons() {
                eligible.push(Found { path: path.to_string(), session, by_groups });
            }
        }
        let display = eligible.iter().position(|found| found.session.id == user.display.0);
        match (display, eligible.len()) {
            (Some(at), _) => Ok(eligible.swap_remove(at)),
            (None, 1) => eligible.pop().ok_or_else(none),
            (None, 0) => Err(none()),
            (None, _) => Err(several(&eligible)),
        }
    }

    /// Takes hold of the session by its leader.
    async fn bind(&self, calls: &Calls, found: Found) -> Result<Login, Problem> {
        let Found { path, session, by_groups } = found;
        let (leader, scope) = process::leader(session.leader, &self.proc).map_err(|Gone| over())?;
        // Told again after the leader was opened: had its number been given out again before, logind would
        // have seen the session end.
        let again = known(calls.session(&path).await)?.ok_or_else(over)?;
        let at_home = !by_groups || scope == Scope::Session { uid: session.user.0, id: session.id.clone() };
        if !again.is_same(&session) || !again.is_persons() || !at_home || !process::is_alive(&leader.pidfd) {
            return Err(over());
        }
        let Session { id, user: (uid, _), timestamp, seat: (seat, _), remote, .. } = session;
        let seat = Some(seat).filter(|seat| !seat.is_empty());
        Ok(Login { id, path, uid, since: timestamp, seat, remote, leader })
    }

    /// How a session that was bound does; `None` when it is over, and also when another has its place.
    pub(super) async fn look_again(&self, login: &Login) -> Result<Option<Look>, Problem> {
        let (calls, _) = self.calls()?;
        let Some(session) = known(calls.session(&login.path).await)? else { return Ok(None) };
        let Leader { pid, pidfd, .. } = &login.leader;
        let same = session.id == login.id
            && (session.user.0, session.timestamp, session.leader) == (login.uid, login.since, *pid);
        let mut look = session.look();
        look.closing |= !process::is_alive(pidfd);
        Ok(same.then_some(look))
    }
}

/// What logind does not know is `None`; what cannot be asked is a problem.
fn known<T>(answer: Result<T, Fault>) -> Result<Option<T>, Problem> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Fault::Unknown) => Ok(None),
        Err(Fault::Refused | Fault::Unheard) => Err(unseen()),
    }
}

fn peer_gone(_: Gone) -> Problem {
    Problem::new(ErrorCode::PeerGone, "the process that asked is gone", "start it again")
}

fn refusal(title: impl Into<String>, hint: &str) -> Problem {
    Problem::new(ErrorCode::NoLoginSession, title, hint)
}

fn over() -> Problem {
    refusal("the login session of the process that asked is over", "log in again, and start the client there")
}

fn none() -> Problem {
    refusal(
        "this account has no login session on this machine",
        "log in at the desktop, on a console or by ssh, and start the client there",
    )
}

fn another_persons() -> Problem {
    refusal(
        "the process that asked runs in the login session of another account",
        "start the client in a login session of its own account, without sudo or su",
    )
}

fn not_a_persons(session: &Session) -> Problem {
    let title = if session.state == "closing" {
        format!("login session {} is being closed", session.id)
    } else {
        format!("session {} is of class `{}`, not one that a person works in", session.id, session.class)
    };
    refusal(title, "log in at the desktop, on a console or by ssh, and start the client there")
}

fn several(eligible: &[Found]) -> Problem {
    let mut ids: Vec<_> = eligible.iter().map(|found| found.session.id.as_str()).collect();
    ids.sort_unstable();
    let which = if ids.is_empty() { String::new() } else { format!(" ({})", ids.join(", ")) };
    refusal(
        format!(
            "this account has several login sessions{which}, and the process that asked is in none of them"
        ),
        "start the client from a terminal of the session that is meant, or log out of the others",
    )
}
