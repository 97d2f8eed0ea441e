//! Private directories that go with the test, even where it is killed: a shell that holds the other end of a
//! pipe removes what is left once the test process is gone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The directory of this test process, 0711: other accounts reach what is theirs below it, and list nothing.
/// Removed when the process has ended, however it ended.
pub fn root() -> &'static Path {
    &roots().disk
}

struct Roots {
    disk: PathBuf,
    memory: PathBuf,
    _janitor: Child,
}

fn roots() -> &'static Roots {
    static ROOTS: OnceLock<Roots> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let run = std::env::var("E2E_RUN").map_or(String::new(), |run| format!("{run}-"));
        let name = format!("e2e-{run}{}", uuid::Uuid::now_v7().simple());
        let (disk, memory) = (std::env::temp_dir().join(&name), Path::new("/dev/shm").join(&name));
        make(&disk, 0o711, 0, 0);
        make(&memory, 0o711, 0, 0);
        let script = r#"read -r _; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$@" 2>/dev/null && exit; sleep 0.3; done"#;
        let janitor = Command::new("/bin/sh")
            .args(["-c", script, "janitor"])
            .args([&disk, &memory])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the janitor starts");
        Roots { disk, memory, _janitor: janitor }
    })
}

/// A directory below [`root`], removed when dropped.
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes one that belongs to root.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::below(root(), name)
    }

    /// The same on a file system in memory, as runtime directories are.
    #[must_use]
    pub fn in_memory(name: &str) -> Self {
        Self::below(&roots().memory, name)
    }

    fn below(root: &Path, name: &str) -> Self {
        let path = root.join(format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]));
        make(&path, 0o711, 0, 0);
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a directory in it with exactly that mode and owner.
    #[must_use]
    pub fn dir(&self, name: &str, mode: u32, uid: u32, gid: u32) -> PathBuf {
        let path = self.0.join(name);
        make(&path, mode, uid, gid);
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What is still in use goes with the root directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn make(path: &Path, mode: u32, uid: u32, gid: u32) {
    let made = fs::DirBuilder::new().mode(mode).create(path).and_then(|()| own(path, mode, uid, gid));
    made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Writes a file with exactly that mode and owner.
///
/// # Panics
/// When it cannot be written.
pub fn write(path: &Path, text: &str, mode: u32, uid: u32, gid: u32) {
    let written = fs::write(path, text).and_then(|()| own(path, mode, uid, gid));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn own(path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    chown(path, Some(uid), Some(gid))
}
