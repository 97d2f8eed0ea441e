//! The broker under test as a process: started until it says that it is ready, ended in each way, started again.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::eventually::{PATIENCE, eventually};
use crate::process::{Collected, Exit, Process, spawn};
use crate::view::View;

/// A running broker.
pub struct Broker {
    /// The process.
    pub process: Process,
    stdout: Collected,
    log: PathBuf,
}

impl Broker {
    /// Starts it and waits until it is ready: it says so by its first line.
    ///
    /// # Panics
    /// When it ends or says nothing instead.
    #[must_use]
    #[track_caller]
    pub fn start(command: Command, view: View, log: PathBuf) -> Self {
        let broker = Self::spawn(command, view, log);
        let ready = broker.stdout.line(&mut 0, PATIENCE);
        assert!(ready.is_some(), "the broker ended instead of being ready:\n{}", broker.log());
        broker
    }

    /// Starts it without waiting.
    #[must_use]
    pub fn spawn(mut command: Command, view: View, log: PathBuf) -> Self {
        let open = || -> File {
            OpenOptions::new().create(true).append(true).open(&log).expect("the log can be opened")
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(open());
        let mut process = spawn(command, view);
        let stdout = Collected::from(process.child.stdout.take().expect("it is piped"));
        Self { process, stdout, log }
    }

    /// What it logged, over all its runs in this world.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log holds a text.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        eventually(&format!("the log says `{text}`"), || self.log().contains(text).then_some(()));
    }

    /// What it printed.
    #[must_use]
    pub fn printed(&self) -> String {
        self.stdout.text()
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn term(&mut self) -> Exit {
        self.process.signal(libc::SIGTERM);
        self.process.wait()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGHUP: it reads its configuration again.
    pub fn reload(&self) {
        self.process.signal(libc::SIGHUP);
    }
}
