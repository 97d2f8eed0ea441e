//! People: accounts that exist only in the view that the programs under test have of the machine, so that
//! the machine's own account files stay as they are.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// One account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: &'static str,
    /// User id, and id of the group of the same name.
    pub uid: u32,
    /// Whether it is a member of the group [`DATA`].
    pub data: bool,
}

/// The system's administrator.
pub const ROOT: Account = Account { name: "root", uid: 0, data: false };
/// A person who is in the group [`DATA`].
pub const ALICE: Account = Account { name: "alice", uid: 64101, data: true };
/// Another person in the same group.
pub const BOB: Account = Account { name: "bob", uid: 64102, data: true };
/// A person who is in no group that is allowed anything.
pub const MALLORY: Account = Account { name: "mallory", uid: 64103, data: false };
/// Everybody but root.
pub const PEOPLE: [Account; 3] = [ALICE, BOB, MALLORY];

/// A group that definitions give access to: name and id.
pub const DATA: (&str, u32) = ("data", 64200);

impl Account {
    /// Its groups besides its own.
    #[must_use]
    pub fn groups(self) -> Vec<u32> {
        if self.data { vec![DATA.1] } else { Vec::new() }
    }

    /// Its home below a world's directory.
    #[must_use]
    pub fn home(self, world: &Path) -> PathBuf {
        if self == ROOT { world.join("home-root") } else { world.join("home").join(self.name) }
    }
}

/// The machine's account file with our people added.
#[must_use]
pub fn passwd(world: &Path) -> String {
    let mut text = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    for person in PEOPLE {
        let home = person.home(world);
        writeln!(text, "{0}:x:{1}:{1}::{2}:/bin/sh", person.name, person.uid, home.display()).unwrap();
    }
    text
}

/// The machine's group file with our groups added.
#[must_use]
pub fn group() -> String {
    let mut text = fs::read_to_string("/etc/group").expect("/etc/group is readable");
    let members: Vec<&str> = PEOPLE.iter().filter(|p| p.data).map(|p| p.name).collect();
    writeln!(text, "{}:x:{}:{}", DATA.0, DATA.1, members.join(",")).unwrap();
    for person in PEOPLE {
        writeln!(text, "{}:x:{}:", person.name, person.uid).unwrap();
    }
    text
}
