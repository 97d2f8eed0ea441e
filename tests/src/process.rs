//! Child processes of a test: started from one thread that lives as long as the test process, ended when
//! dropped, and by the kernel where the test process is killed.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use crate::eventually::{eventually, within};
use crate::view::View;

type Job = Box<dyn FnOnce() + Send>;

/// Starts `command` in `view`.
///
/// # Panics
/// When it cannot be started.
pub fn spawn(mut command: Command, view: View) -> Process {
    static STARTER: OnceLock<Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (send, jobs) = channel::<Job>();
        std::thread::spawn(move || jobs.iter().for_each(|job| job()));
        send
    });
    let name = command.get_program().to_string_lossy().into_owned();
    view.apply(&mut command);
    let (answer, started) = channel();
    let job = move || answer.send(command.spawn()).expect("the test waits for it");
    starter.send(Box::new(job)).expect("the starter lives as long as the process");
    let child = started.recv().expect("the starter answers");
    let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    Process { child, name }
}

/// A running child; killed and reaped when dropped.
pub struct Process {
    /// The child, for its pipes.
    pub child: Child,
    name: String,
}

impl Process {
    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Whether it runs.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for its end with the usual patience.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> Exit {
        let what = format!("{} ends", self.name);
        Exit(eventually(&what, || self.child.try_wait().expect("it is our child")))
    }

    /// The same with another bound.
    #[track_caller]
    pub fn wait_within(&mut self, patience: Duration) -> Exit {
        let what = format!("{} ends", self.name);
        Exit(within(patience, &what, || self.child.try_wait().expect("it is our child")))
    }

    /// SIGKILL, and reaps it.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub ExitStatus);

impl Exit {
    /// The code as a shell shows it: 128 + n where signal n ended it.
    #[must_use]
    pub fn code(self) -> i32 {
        self.0.code().or_else(|| self.0.signal().map(|n| 128 + n)).unwrap_or(-1)
    }
}

/// Sends a signal; a process that is gone is no error.
pub fn kill(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a pid");
    // SAFETY: plain numbers.
    unsafe { libc::kill(pid, signal) };
}

/// Whether a process of that id exists and is not a zombie (proc_pid_stat(5), field 3).
#[must_use]
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Every process whose environment has `name=value`.
#[must_use]
pub fn with_variable(name: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{name}={value}").into_bytes();
    pids()
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == wanted)
        })
        .filter(|pid| alive(*pid))
        .collect()
}

/// The ids of every process.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// What a pipe brought so far, collected by a thread.
#[derive(Clone, Default)]
pub struct Collected(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Collected {
    /// Collects everything that `pipe` brings.
    pub fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let collected = Self::default();
        let shared = collected.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            loop {
                let read = match pipe.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(n) => n,
                    Err(_) => 0,
                };
                let (state, more) = &*shared.0;
                let mut state = state.lock().unwrap();
                state.bytes.extend_from_slice(&buffer[..read]);
                state.ended = read == 0;
                more.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        collected
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// The bytes so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.0.lock().unwrap().bytes.clone()
    }

    /// How many bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.0.lock().unwrap().bytes.len()
    }

    /// Whether nothing came so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the pipe ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.0.0.lock().unwrap().ended
    }

    /// Everything, once the pipe has ended.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    #[must_use]
    pub fn complete(&self) -> Vec<u8> {
        eventually("a pipe ends", || self.ended().then(|| self.bytes()))
    }

    /// The next line from byte `from` on, without its line feed; `None` at the end.
    ///
    /// # Panics
    /// When neither a line nor the end comes within `patience`.
    #[must_use]
    pub fn line(&self, from: &mut usize, patience: Duration) -> Option<Vec<u8>> {
        let (state, more) = &*self.0;
        let start = *from;
        let has = |s: &State| s.bytes.get(start..).and_then(|rest| rest.iter().position(|b| *b == b'\n'));
        let guard = state.lock().unwrap();
        let (guard, timeout) =
            more.wait_timeout_while(guard, patience, |s| has(s).is_none() && !s.ended).unwrap();
        match has(&guard) {
            Some(length) => {
                *from = start + length + 1;
                Some(guard.bytes[start..start + length].to_vec())
            }
            None if timeout.timed_out() && !guard.ended => panic!(
                "no line within {patience:?}; so far: {}",
                String::from_utf8_lossy(&guard.bytes[start.min(guard.bytes.len())..])
            ),
            None => None,
        }
    }
}
