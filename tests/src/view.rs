//! The machine as a process under test sees it: its own mount namespace with our accounts, a private `/run`
//! and the parts at fixed places, and the account that it runs as. All of it is done between fork and exec.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::accounts::Account;

/// One thing to do in the new mount namespace.
enum Step {
    Tmpfs { at: CString, options: CString, flags: libc::c_ulong },
    Dir { at: CString, mode: u32, uid: u32 },
    File { at: CString },
    Bind { from: CString, at: CString, read_only: bool },
}

/// A view under construction.
#[derive(Default)]
pub struct View {
    joined: Option<CString>,
    steps: Vec<Step>,
    account: Option<(u32, Vec<u32>)>,
    death: i32,
}

impl View {
    /// The machine as it is.
    #[must_use]
    pub fn new() -> Self {
        Self { death: libc::SIGKILL, ..Self::default() }
    }

    /// The mount namespace of a process that runs.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { joined: Some(c(format!("/proc/{pid}/ns/mnt"))), ..Self::new() }
    }

    /// An empty file system in memory, with mount options such as `mode=755,size=64k`, or `ro,…`.
    #[must_use]
    pub fn tmpfs(mut self, at: impl AsRef<Path>, options: &str) -> Self {
        let read_only = options.strip_prefix("ro,");
        let flags = if read_only.is_some() { libc::MS_RDONLY } else { 0 };
        self.steps.push(Step::Tmpfs { at: c(at), options: c(read_only.unwrap_or(options)), flags });
        self
    }

    /// A directory, where there is none yet.
    #[must_use]
    pub fn dir(mut self, at: impl AsRef<Path>, mode: u32, uid: u32) -> Self {
        self.steps.push(Step::Dir { at: c(at), mode, uid });
        self
    }

    /// An empty file, as something to bind over.
    #[must_use]
    pub fn file(mut self, at: impl AsRef<Path>) -> Self {
        self.steps.push(Step::File { at: c(at) });
        self
    }

    /// What is at `from` is seen at `at` as well.
    #[must_use]
    pub fn bind(mut self, from: impl AsRef<Path>, at: impl AsRef<Path>) -> Self {
        self.steps.push(Step::Bind { from: c(from), at: c(at), read_only: false });
        self
    }

    /// The same, but nothing can be written there.
    #[must_use]
    pub fn bind_read_only(mut self, from: impl AsRef<Path>, at: impl AsRef<Path>) -> Self {
        self.steps.push(Step::Bind { from: c(from), at: c(at), read_only: true });
        self
    }

    /// Runs as that account, for good.
    #[must_use]
    pub fn account(self, account: Account) -> Self {
        self.ids(account.uid, account.groups())
    }

    /// The same by numbers; the group is the user's own.
    #[must_use]
    pub fn ids(mut self, uid: u32, groups: Vec<u32>) -> Self {
        self.account = Some((uid, groups));
        self
    }

    /// The signal that ends it with the test process; SIGKILL unless said otherwise, 0 for none.
    #[must_use]
    pub fn death(mut self, signal: i32) -> Self {
        self.death = signal;
        self
    }

    /// Makes `command` start in this view. It must be started from a thread that lives as long as the test
    /// process: the signal of its end comes with the thread's (prctl(2), `PR_SET_PDEATHSIG`).
    pub fn apply(self, command: &mut Command) {
        // SAFETY: between fork and exec `enter` makes system calls only, on memory that was prepared before
        // the fork: it allocates nothing, takes no lock and cannot panic.
        unsafe { command.pre_exec(move || self.enter()) };
    }

    fn enter(&self) -> io::Result<()> {
        if let Some(namespace) = &self.joined {
            join(namespace)?;
        }
        if !self.steps.is_empty() {
            // SAFETY: no pointers but constants.
            check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            mount(c"none", c"/", None, flags, None)?;
        }
        for step in &self.steps {
            step.take()?;
        }
        if let Some((uid, groups)) = &self.account {
            // SAFETY: the pointer and the length are those of one slice that outlives the call.
            check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
            // SAFETY: plain numbers.
            check(unsafe { libc::setresgid(*uid, *uid, *uid) })?;
            // SAFETY: plain numbers.
            check(unsafe { libc::setresuid(*uid, *uid, *uid) })?;
        }
        // After the account: changing it clears the signal.
        // SAFETY: plain numbers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(self.death.unsigned_abs())) })
    }
}

impl Step {
    fn take(&self) -> io::Result<()> {
        match self {
            Self::Tmpfs { at, options, flags } => mount(c"tmpfs", at, Some(c"tmpfs"), *flags, Some(options)),
            Self::Dir { at, mode, uid } => {
                // SAFETY: the path is a C string that outlives the calls.
                let made = unsafe { libc::mkdir(at.as_ptr(), *mode) };
                if made != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EEXIST) {
                    return Err(io::Error::last_os_error());
                }
                // SAFETY: as above.
                check(unsafe { libc::chmod(at.as_ptr(), *mode) })?;
                // SAFETY: as above.
                check(unsafe { libc::chown(at.as_ptr(), *uid, *uid) })
            }
            Self::File { at } => {
                // SAFETY: the path is a C string that outlives the call.
                let fd = unsafe {
                    libc::open(at.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644)
                };
                check(fd)?;
                // SAFETY: the descriptor was just opened and nobody else knows it.
                check(unsafe { libc::close(fd) })
            }
            Self::Bind { from, at, read_only } => {
                mount(from, at, None, libc::MS_BIND, None)?;
                if *read_only {
                    mount(c"none", at, None, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY, None)?;
                }
                Ok(())
            }
        }
    }
}

fn join(namespace: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::open(namespace.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    check(fd)?;
    // SAFETY: a plain number; exec closes the descriptor.
    check(unsafe { libc::setns(fd, libc::CLONE_NEWNS) })
}

fn mount(
    source: &std::ffi::CStr,
    at: &std::ffi::CStr,
    kind: Option<&std::ffi::CStr>,
    flags: libc::c_ulong,
    options: Option<&std::ffi::CStr>,
) -> io::Result<()> {
    let or_null = |text: Option<&std::ffi::CStr>| text.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    // SAFETY: every pointer is null or a C string that outlives the call.
    check(unsafe { libc::mount(source.as_ptr(), at.as_ptr(), or_null(kind), flags, or_null(options).cast()) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn c(text: impl AsRef<Path>) -> CString {
    CString::new(text.as_ref().as_os_str().as_bytes()).expect("no NUL in a path")
}
