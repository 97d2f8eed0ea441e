//! What is really alive: the users that PostgreSQL knows, and the tokens that OpenBao knows, asked over kept
//! connections so that asking often costs little.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use e2e::bao::{Bao, ROOT_TOKEN};
use e2e::pg::{self, Pg};

use crate::http::Kept;
use crate::world::ROLE;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// Nothing takes longer to be gone.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Tokens of OpenBao, beyond those that were there at first.
    Tokens,
    /// Users of the bench's database role.
    Users,
}

/// Somebody who looks.
pub struct Truth<'a> {
    what: What,
    users: &'a Mutex<Users>,
    tokens: Mutex<Kept<TcpStream>>,
    at_first: usize,
}

/// A psql that is asked again and again.
pub struct Users {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Users {
    /// Connects.
    #[must_use]
    pub fn connect() -> Mutex<Self> {
        let pg: &Pg = pg::shared();
        let mut psql = pg.psql(&pg.admin());
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql starts");
        let to = child.stdin.take().expect("piped");
        let from = BufReader::new(child.stdout.take().expect("piped"));
        Mutex::new(Self { child, to, from })
    }

    fn count(&mut self) -> usize {
        let ask = format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%-{ROLE}-%';\n");
        self.to.write_all(ask.as_bytes()).expect("psql reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("psql answers");
        line.trim().parse().unwrap_or_else(|_no_number| panic!("psql said: {line}"))
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().expect("it is our child");
    }
}

impl<'a> Truth<'a> {
    /// Looks now for what is there before anything is made.
    #[must_use]
    pub fn new(what: What, bao: &Bao, users: &'a Mutex<Users>) -> Self {
        let mut tokens = Kept::tcp(bao.port);
        tokens.headers = format!("X-Vault-Token: {ROOT_TOKEN}\r\n");
        let mut truth = Self { what, users, tokens: Mutex::new(tokens), at_first: 0 };
        truth.at_first = truth.count();
        truth
    }

    fn count(&self) -> usize {
        match self.what {
            What::Users => self.users.lock().expect("nobody panics").count(),
            What::Tokens => {
                let mut tokens = self.tokens.lock().expect("nobody panics");
                let list = tokens.json("LIST", "/v1/auth/token/accessors", "");
                list["data"]["keys"].as_array().map_or(0, Vec::len)
            }
        }
    }

    /// How many there are that were not there at first.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.count().saturating_sub(self.at_first)
    }

    /// Waits until nothing is left of what was not there at first, and says when that was.
    ///
    /// # Panics
    /// When something stays.
    pub fn gone(&self) -> Instant {
        let begin = Instant::now();
        while self.alive() > 0 {
            assert!(begin.elapsed() < PATIENCE, "{} {:?} stay", self.alive(), self.what);
            std::thread::sleep(PAUSE);
        }
        Instant::now()
    }
}
