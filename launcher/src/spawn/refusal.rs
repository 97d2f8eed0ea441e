//! Why a server could not be started, for a person. Names of the definition only, never a value.

use std::io;

use rustix::io::Errno;

use super::plan::ChildPlan;
use super::report::Stage;
use crate::failure::{CONFIG, Failure};

/// An error of the server's start, with its cure.
pub(super) fn explain(plan: &ChildPlan, stage: Stage, errno: i32) -> Failure {
    let program = plan.command.first().map_or("", String::as_str);
    let error = io::Error::from_raw_os_error(errno);
    let owner = "ask the owner of the server to correct its definition, or install what is missing";
    let (what, hint) = match (stage, Errno::from_raw_os_error(errno)) {
        (Stage::Exec, Errno::NOENT) => (
            format!(
                "the server's program `{program}` was not found, or the interpreter that it names was not"
            ),
            owner,
        ),
        (Stage::Exec, Errno::ACCESS | Errno::PERM) => (
            format!("the server's program `{program}` may not be executed"),
            "check its mode and that of its directories",
        ),
        (Stage::Exec, Errno::NOEXEC) => (
            format!("the server's program `{program}` is not executable on this machine"),
            "a script must begin with `#!` and its interpreter",
        ),
        (Stage::Exec, Errno::TOOBIG) => (
            "the server's arguments and environment are longer than the kernel takes".to_owned(),
            "shorten the definition, or hand long values over as files",
        ),
        (Stage::Exec, _) => (format!("the server's program `{program}` cannot be started: {error}"), owner),
        (Stage::Directory, _) => (
            format!("the server's directory `{}` cannot be entered: {error}", plan.cwd),
            "make the directory, or correct `cwd` in the server's definition",
        ),
        (Stage::Contain | Stage::Fork, _) => return Failure::system("start the server's process", error),
    };
    Failure::new(CONFIG, what, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_errors_are_configuration_errors() {
        let plan =
            ChildPlan { command: vec!["/no/such".into()], cwd: "/nowhere".into(), ..Default::default() };
        for (stage, errno, exit, word) in [
            (Stage::Exec, libc::ENOENT, CONFIG, "/no/such"),
            (Stage::Exec, libc::EACCES, CONFIG, "may not be executed"),
            (Stage::Exec, libc::ENOEXEC, CONFIG, "not executable"),
            (Stage::Exec, libc::E2BIG, CONFIG, "longer than"),
            (Stage::Directory, libc::ENOENT, CONFIG, "/nowhere"),
            (Stage::Fork, libc::EAGAIN, 69, "process"),
        ] {
            let failure = explain(&plan, stage, errno);
            assert_eq!(failure.exit, exit, "{failure:?}");
            assert!(failure.what.contains(word), "{failure:?}");
        }
    }
}
