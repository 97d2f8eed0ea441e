//! What the control group of a process says about its login session. Only root can put a process into a
//! session's scope or make one, and a process in it can only leave it for its user's own service manager, below
//! which the user may make directories of any name; so only the exact shapes that systemd makes count.

/// A group file is a few hundred bytes; one that is longer than this says nothing.
pub(super) const MAX_TEXT: u64 = 64 * 1024;

/// An id is a number or a letter and a number.
const MAX_ID: usize = 64;

/// Where a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// In the scope of a login session.
    Session {
        /// Whose slice it is in.
        uid: u32,
        /// logind's id of the session.
        id: String,
    },
    /// Below a user's service manager, as desktop applications are: that has no session of its own.
    UserManager {
        /// Whose.
        uid: u32,
    },
    /// Anywhere else.
    Elsewhere,
}

/// Reads `/proc/PID/cgroup` (cgroups(7)). systemd keeps its tree in the unified hierarchy, or on a legacy or
/// hybrid machine in the one named `systemd`. Where both say something and not the same, neither is believed.
pub(super) fn scope(text: &[u8]) -> Scope {
    let mut unified = None;
    let mut named = None;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(line) = str::from_utf8(line) else { continue };
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(hierarchy), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            return Scope::Elsewhere;
        };
        match (number, hierarchy) {
            ("0", "") if unified.is_none() => unified = Some(path),
            (_, "name=systemd") if named.is_none() => named = Some(path),
            ("0", "") | (_, "name=systemd") => return Scope::Elsewhere,
            _ => {}
        }
    }
    match (unified, named) {
        (Some(path), None) | (None | Some("/"), Some(path)) => scope_of(path),
        (Some(one), Some(other)) if one == other => scope_of(one),
        _ => Scope::Elsewhere,
    }
}

fn scope_of(path: &str) -> Scope {
    let parts = || {
        let mut parts = path.strip_prefix("/user.slice/user-")?.split('/');
        let uid = parse_uid(parts.next()?.strip_suffix(".slice")?)?;
        let unit = parts.next()?;
        // Only root makes groups below a session's scope; logind itself is asked about those.
        if let Some(id) = unit.strip_prefix("session-").and_then(|unit| unit.strip_suffix(".scope")) {
            return (is_id(id) && parts.next().is_none()).then(|| Scope::Session { uid, id: id.to_owned() });
        }
        let owner = parse_uid(unit.strip_prefix("user@")?.strip_suffix(".service")?)?;
        (owner == uid).then_some(Scope::UserManager { uid })
    };
    parts().unwrap_or(Scope::Elsewhere)
}

/// A user id as systemd writes it: no sign, no zero in front, and neither of the two that mean nobody.
fn parse_uid(text: &str) -> Option<u32> {
    let uid: u32 = text.parse().ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    (plain && uid != u32::MAX && uid != 0xFFFF).then_some(uid)
}

/// What logind takes for an id (`session_id_valid`, systemd's login-util.c).
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(uid: u32, id: &str) -> Scope {
        Scope::Session { uid, id: id.to_owned() }
    }

    #[test]
    fn recorded_trees_are_read_as_systemd_makes_them() {
        let user = "/user.slice/user-1000.slice";
        let manager = Scope::UserManager { uid: 1000 };
        let cases: &[(&str, String, Scope)] = &[
            ("ssh login", format!("0::{user}/session-4.scope\n"), session(1000, "4")),
            ("login on a console", format!("0::{user}/session-c1.scope\n"), session(1000, "c1")),
            ("root's console", "0::/user.slice/user-0.slice/session-1.scope\n".into(), session(0, "1")),
            (
                "application of GNOME",
                format!("0::{user}/user@1000.service/app.slice/app-gnome-code-4711.scope\n"),
                manager.clone(),
            ),
            (
                "terminal of GNOME",
                format!(
                    "0::{user}/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-5e1b.scope\n"
                ),
                manager.clone(),
            ),
            (
                "tmux below the manager",
                format!("0::{user}/user@1000.service/tmux-spawn-1.scope\n"),
                manager.clone(),
            ),
            ("the manager itself", format!("0::{user}/user@1000.service/init.scope\n"), manager.clone()),
            ("the manager's own group", format!("0::{user}/user@1000.service\n"), manager.clone()),
            ("cron", "0::/system.slice/cron.service\n".into(), Scope::Elsewhere),
            ("docker", "0::/system.slice/docker-8f1c2e.scope\n".into(), Scope::Elsewhere),
            ("seen from inside a container", "0::/\n".into(), Scope::Elsewhere),
            ("outside of this container", "0::/../../user.slice/x\n".into(), Scope::Elsewhere),
            (
                "hybrid",
                format!("12:pids:{user}\n1:name=systemd:{user}/session-2.scope\n0::{user}/session-2.scope\n"),
                session(1000, "2"),
            ),
            (
                "legacy, unified mounted and not used",
                format!("5:cpu,cpuacct:/\n1:name=systemd:{user}/session-2.scope\n0::/\n"),
                session(1000, "2"),
            ),
            ("legacy alone", format!("1:name=systemd:{user}/session-2.scope\n"), session(1000, "2")),
            (
                "legacy, no systemd",
                "9:name=systemd:/\n4:memory:/process_api/064b\n0::/\n".into(),
                Scope::Elsewhere,
            ),
        ];
        for (what, text, expected) in cases {
            assert_eq!(scope(text.as_bytes()), *expected, "{what}");
        }
    }

    #[test]
    fn nothing_that_a_user_can_make_is_a_session() {
        let user = "/user.slice/user-1000.slice";
        let manager = Scope::UserManager { uid: 1000 };
        let cases: &[(&str, String, Scope)] = &[
            (
                "a scope made below the manager",
                format!("{user}/user@1000.service/session-5.scope"),
                manager.clone(),
            ),
            (
                "a whole tree made below the manager",
                format!("{user}/user@1000.service/app.slice/user.slice/user-1001.slice/session-5.scope"),
                manager,
            ),
            ("below a session's scope", format!("{user}/session-5.scope/session-6.scope"), Scope::Elsewhere),
            ("another's manager", format!("{user}/user@1001.service/x.scope"), Scope::Elsewhere),
            ("not the top", format!("/x{user}/session-5.scope"), Scope::Elsewhere),
            ("the scope is gone", format!("{user}/session-5.scope (deleted)"), Scope::Elsewhere),
            ("no id", format!("{user}/session-.scope"), Scope::Elsewhere),
            ("a path as id", format!("{user}/session-../5.scope"), Scope::Elsewhere),
            ("dots in the id", format!("{user}/session-5.scope.scope"), Scope::Elsewhere),
            ("a long id", format!("{user}/session-{}.scope", "7".repeat(65)), Scope::Elsewhere),
            ("a sign", "/user.slice/user-+1000.slice/session-5.scope".into(), Scope::Elsewhere),
            ("a zero in front", "/user.slice/user-01000.slice/session-5.scope".into(), Scope::Elsewhere),
            ("nobody", "/user.slice/user-4294967295.slice/session-5.scope".into(), Scope::Elsewhere),
            ("too large", "/user.slice/user-4294968296.slice/session-5.scope".into(), Scope::Elsewhere),
            ("no slice", "/user.slice/session-5.scope".into(), Scope::Elsewhere),
            ("a slash at the end", format!("{user}/session-5.scope/"), Scope::Elsewhere),
            ("machine of another service", "/machine.slice/session-5.scope".into(), Scope::Elsewhere),
        ];
        for (what, path, expected) in cases {
            assert_eq!(scope(format!("0::{path}\n").as_bytes()), *expected, "{what}");
        }
    }

    #[test]
    fn what_contradicts_itself_says_nothing() {
        let good = "/user.slice/user-1000.slice/session-5.scope";
        let other = "/user.slice/user-1000.slice/session-6.scope";
        let texts = [
            format!("1:name=systemd:{good}\n0::{other}\n"),
            format!("1:name=systemd:/\n0::{good}\n"),
            format!("0::{good}\n0::{other}\n"),
            format!("1:name=systemd:{good}\n2:name=systemd:{good}\n"),
            format!("0:name=other:{good}\n"),
            format!("7:cpu:{good}\n"),
            format!("7::{good}\n"),
            format!("no fields\n0::{good}\n"),
            String::new(),
        ];
        for text in texts {
            assert_eq!(scope(text.as_bytes()), Scope::Elsewhere, "{text}");
        }
        let mut bytes = b"3:x:/\xff\xfe\n0::".to_vec();
        bytes.extend_from_slice(good.as_bytes());
        assert_eq!(scope(&bytes), session(1000, "5"), "a name that is no text, in another hierarchy");
        assert_eq!(scope(b"0::/user.slice/user-1000.slice/session-\xff.scope\n"), Scope::Elsewhere);
    }
}
