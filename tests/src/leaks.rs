//! Looks for secrets where none may be: arguments and environments of processes, files, what programs printed.
//! A search proves nothing by itself, so each one also looks for a control that the test planted in every kind
//! of place, and fails where it does not find it.
//!
//! It does not look into the memory of processes, at swap, or at what the kernel keeps of closed sockets.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::eventually::{eventually, so};
use crate::http::find;
use crate::process::{Process, pids, spawn};
use crate::tempdir::{TempDir, write};
use crate::view::View;

/// What is searched for, and where it may be.
#[derive(Default)]
pub struct Search {
    needles: Vec<(String, Vec<u8>)>,
    folders: Vec<PathBuf>,
    texts: Vec<(String, Vec<u8>)>,
    allowed: BTreeSet<u32>,
    except: Vec<PathBuf>,
}

impl Search {
    /// For these values, each under a name that may be printed; also in the forms that encodings give them.
    #[must_use]
    pub fn of(secrets: &[(&str, &str)]) -> Self {
        let mut search = Self::default();
        for (name, value) in secrets {
            assert!(value.len() >= 8, "{name} is too short to be told from chance");
            search.add(name, value);
        }
        search
    }

    fn add(&mut self, name: &str, value: &str) {
        let forms = [
            ("", value.as_bytes().to_vec()),
            (" in base64", base64(value.as_bytes()).into_bytes()),
            (" in hex", hex(value.as_bytes()).into_bytes()),
            (" percent-encoded", percent(value).into_bytes()),
        ];
        for (form, bytes) in forms {
            if form.is_empty() || bytes != value.as_bytes() {
                self.needles.push((format!("{name}{form}"), bytes));
            }
        }
    }

    /// Below that folder; symbolic links are not followed.
    #[must_use]
    pub fn below(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// In what a program printed.
    #[must_use]
    pub fn printed(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.texts.push((name.to_owned(), bytes.into()));
        self
    }

    /// The environment of that process may hold it: it is the credential's own instance.
    #[must_use]
    pub fn allow(mut self, pid: u32) -> Self {
        self.allowed.insert(pid);
        self
    }

    /// But not below that folder, where the secret is at home.
    #[must_use]
    pub fn except(mut self, folder: impl Into<PathBuf>) -> Self {
        self.except.push(folder.into());
        self
    }

    /// Plants the control, searches, and takes the control away again.
    ///
    /// # Panics
    /// When a secret was found, or the control was not found everywhere.
    #[track_caller]
    pub fn assert_clean(mut self) {
        let control = Control::plant(self.folders.first());
        self.add(CONTROL, &control.value);
        self.folders.push(control.dir.path().to_owned());
        self.texts.push(("the control's text".into(), control.value.clone().into_bytes()));
        let found = self.run();
        let (control_hits, leaks): (Vec<Hit>, Vec<Hit>) =
            found.into_iter().partition(|hit| hit.name.starts_with(CONTROL));
        for place in control.places() {
            assert!(
                control_hits.iter().any(|hit| hit.place == place),
                "the search is blind for {place}: {control_hits:?}"
            );
        }
        assert!(leaks.is_empty(), "found where it may not be: {leaks:#?}");
    }

    fn run(&self) -> Vec<Hit> {
        let mut hits = Vec::new();
        for pid in pids().filter(|pid| *pid != std::process::id()) {
            let files: &[&str] =
                if self.allowed.contains(&pid) { &["cmdline"] } else { &["cmdline", "environ"] };
            for file in files {
                let place = format!("/proc/{pid}/{file}");
                self.look(&place, &fs::read(&place).unwrap_or_default(), &mut hits);
            }
        }
        for (name, bytes) in &self.texts {
            self.look(name, bytes, &mut hits);
        }
        for folder in &self.folders {
            self.walk(folder, &mut hits);
        }
        hits
    }

    fn walk(&self, folder: &Path, hits: &mut Vec<Hit>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if self.except.contains(&path) {
                continue;
            }
            let place = path.display().to_string();
            self.look(&format!("the name {place}"), entry.file_name().as_encoded_bytes(), hits);
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.walk(&path, hits);
            } else if kind.is_file() {
                self.look(&place, &fs::read(&path).unwrap_or_default(), hits);
            }
        }
    }

    fn look(&self, place: &str, bytes: &[u8], hits: &mut Vec<Hit>) {
        for (name, needle) in &self.needles {
            if find(bytes, needle).is_some() {
                hits.push(Hit { name: name.clone(), place: place.to_owned() });
            }
        }
    }
}

#[derive(Debug)]
struct Hit {
    name: String,
    place: String,
}

const CONTROL: &str = "the control";

/// A value that is no secret, planted in an argument, an environment, a file, a log and a printed text.
struct Control {
    value: String,
    dir: TempDir,
    process: Process,
    planted: Option<PathBuf>,
}

impl Control {
    fn plant(folder: Option<&PathBuf>) -> Self {
        let value = format!("control-{}", uuid::Uuid::new_v4().simple());
        let dir = TempDir::new("control");
        write(&dir.path().join("log"), &format!("before {value} after\n"), 0o600, 0, 0);
        write(&dir.path().join("encoded"), &base64(value.as_bytes()), 0o600, 0, 0);
        // One in the first searched folder itself shows that the right folder is searched.
        let planted = folder.map(|folder| folder.join("planted-control"));
        if let Some(path) = &planted {
            write(path, &value, 0o600, 0, 0);
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r _", &value]).env("CONTROL", &value).stdin(Stdio::piped());
        let process = spawn(command, View::new());
        let environ = format!("/proc/{}/environ", process.pid());
        eventually("the control runs", || {
            so(find(&fs::read(&environ).unwrap_or_default(), value.as_bytes()).is_some())
        });
        Self { value, dir, process, planted }
    }

    fn places(&self) -> Vec<String> {
        let pid = self.process.pid();
        let mut places = vec![
            format!("/proc/{pid}/cmdline"),
            format!("/proc/{pid}/environ"),
            self.dir.path().join("log").display().to_string(),
            self.dir.path().join("encoded").display().to_string(),
            "the control's text".to_owned(),
        ];
        places.extend(self.planted.iter().map(|path| path.display().to_string()));
        places
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(path) = &self.planted {
            let _ = fs::remove_file(path);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let _ = if plain { write!(out, "{}", char::from(byte)) } else { write!(out, "%{byte:02X}") };
        out
    })
}

/// Standard base64 without padding, so that it is found inside a longer text that begins with it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let whole = bytes.len() / 3 * 3;
    bytes[..whole].chunks(3).fold(String::new(), |mut out, chunk| {
        let word = u32::from(chunk[0]) << 16 | u32::from(chunk[1]) << 8 | u32::from(chunk[2]);
        for shift in [18, 12, 6, 0] {
            out.push(char::from(ALPHABET[(word >> shift & 63) as usize]));
        }
        out
    })
}
