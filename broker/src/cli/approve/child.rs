//! One throw-away process of a server: started with nothing but what it is given, in a session of its own, read with
//! caps, and killed with everything in its group. The only place of the broker that starts a process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::account::Account;
use super::apart::set_apart;

/// The most that a server may say in one conversation, in bytes: several are held at once, each many times larger
/// once it is understood.
const MAX_SAID: usize = 8 << 20;

/// So much of what a server says on standard error is kept, from its end, in bytes.
const MAX_STDERR: usize = 8 << 10;

/// A process that closed its standard output is given so long to end by itself.
const ENDS_WITHIN: Duration = Duration::from_millis(500);

/// What is started.
pub(super) struct Plan {
    pub(super) command: Vec<String>,
    pub(super) cwd: PathBuf,
    pub(super) environment: BTreeMap<String, Zeroizing<Vec<u8>>>,
    pub(super) account: Account,
}

/// A process that runs.
pub(super) struct Running {
    child: Child,
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// So many bytes were read from it.
    said: usize,
    /// It closed its standard output.
    closed: bool,
    stderr: JoinHandle<Vec<u8>>,
}

/// How a process ended, in words, and the end of what it said on standard error.
pub(super) struct Ended {
    pub(super) how: String,
    pub(super) stderr: Vec<u8>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// Where the program cannot be started as that account in that directory.
    pub(super) fn start(plan: &Plan) -> io::Result<Self> {
        use std::os::unix::ffi::OsStringExt;
        let (program, arguments) = plan.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        #[expect(clippy::disallowed_methods, reason = "a trial is what this file is for")]
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir(&plan.cwd).kill_on_drop(true);
        set_apart(&mut command);
        let variables = plan.environment.iter();
        command.envs(variables.map(|(name, value)| (name, OsString::from_vec(value.to_vec()))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some((uid, gid)) = plan.account.change {
            // As root this takes all other groups away as well (std::os::unix::process::CommandExt::uid).
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let stderr = tokio::spawn(tail_of(stderr));
        Ok(Self { child, group, stdin, stdout: BufReader::new(stdout), said: 0, closed: false, stderr })
    }

    /// Says one line to it.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub(super) async fn say(&mut self, line: &str) -> io::Result<()> {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await?;
        self.stdin.flush().await
    }

    /// The next line that it says; `None` when it says nothing more. May not be dropped halfway.
    ///
    /// # Errors
    /// When it has said too much in all, or cannot be read.
    pub(super) async fn line(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let available = self.stdout.fill_buf().await?;
            if available.is_empty() {
                self.closed = true;
                return Ok(false);
            }
            let (taken, whole) = match available.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (available.len(), false),
            };
            into.extend_from_slice(available.get(..taken).unwrap_or_default());
            self.stdout.consume(taken);
            self.said = self.said.saturating_add(taken);
            if self.said > MAX_SAID {
                let what = format!("it said more than {MAX_SAID} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            if whole {
                return Ok(true);
            }
        }
    }

    /// Kills it with its whole group, and says how it had ended.
    pub(super) async fn end(self) -> Ended {
        let Self { mut child, group, mut stderr, stdin, stdout, said: _, closed } = self;
        // One that closed its output is mostly about to end, and how it does is what an admin has to know.
        let patience = if closed { ENDS_WITHIN } else { Duration::ZERO };
        let exited = timeout(patience, child.wait()).await.ok().and_then(Result::ok);
        drop((group, stdin, stdout));
        let how = match (exited, child.wait().await) {
            (Some(status), _) => status.to_string(),
            (None, _) => "it still ran".to_owned(),
        };
        // A grandchild outside the group may hold it open.
        let said = timeout(Duration::from_secs(1), &mut stderr).await;
        stderr.abort();
        Ended { how, stderr: said.ok().and_then(Result::ok).unwrap_or_default() }
    }
}

/// A process group that is killed when this is dropped, whatever became of its first process.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One whose every process is gone already is as good.
            kill_process_group(group, Signal::KILL).unwrap_or_default();
        }
    }
}

/// The last bytes that are said until the end.
async fn tail_of(mut stderr: tokio::process::ChildStderr) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count) = stderr.read(&mut piece).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(piece.get(..count).unwrap_or_default());
        let over = kept.len().saturating_sub(MAX_STDERR);
        kept.drain(..over);
    }
    kept
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests may")]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        let plan = Plan {
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            cwd: "/".into(),
            environment: BTreeMap::new(),
            account: Account { name: "me".to_owned(), change: None },
        };
        Running::start(&plan).unwrap()
    }

    #[tokio::test]
    async fn one_that_does_not_stop_talking_is_not_heard_out() {
        let mut running = shell("exec yes");
        let mut heard = 0;
        let error = loop {
            let mut line = Vec::new();
            match running.line(&mut line).await {
                Ok(more) => assert!(more),
                Err(error) => break error,
            }
            heard += line.len();
        };
        assert_eq!((heard, error.kind()), (MAX_SAID, io::ErrorKind::InvalidData));
        running.end().await;
    }

    #[tokio::test]
    async fn how_one_ended_is_known_though_its_output_ends_first() {
        let mut running = shell("exec >&-; sleep 0.05; exit 3");
        assert!(!running.line(&mut Vec::new()).await.unwrap());
        assert_eq!(running.end().await.how, "exit status: 3");
    }

    #[tokio::test]
    async fn a_child_has_a_session_of_its_own_and_no_terminal() {
        const SCRIPT: &str = "read -r pid name state parent group session rest < /proc/self/stat\n\
                              if (: < /dev/tty) 2> /dev/null; then tty=some; else tty=none; fi\n\
                              echo $pid $group $session $tty\n";
        let mut running = shell(SCRIPT);
        let mut line = Vec::new();
        assert!(running.line(&mut line).await.unwrap());
        let said = String::from_utf8(line).unwrap();
        let words: Vec<_> = said.split_whitespace().collect();
        let [pid, group, session, tty] = words.try_into().unwrap_or_else(|_| panic!("{said}"));
        assert_eq!((group, session, tty), (pid, pid, "none"), "{said}");
        running.end().await;
    }
}
