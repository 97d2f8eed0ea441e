//! A session's tokens and leases made and ended by OpenBao's own calls, as the broker makes and ends them: what
//! the lock drill is compared with.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::bao::{Bao, ROOT_TOKEN};
use serde_json::{Value, json};

use crate::http::Kept;
use crate::truth::Truth;
use crate::world::ROLE;

/// Leases are revoked by so many clients at once, as the best of the strategies that were tried does.
const AT_ONCE: usize = 8;

/// One parent token with its children, and the leases that hang under them.
pub struct Tree {
    root: Kept<TcpStream>,
    port: u16,
    parent: String,
    leases: Vec<String>,
}

/// When the calls had returned, and when nothing was left, since the first of them.
pub struct Ended {
    /// The server has taken the revocation.
    pub accepted: Duration,
    /// The last of it is gone.
    pub verified: Duration,
}

fn root(port: u16) -> Kept<TcpStream> {
    let mut root = Kept::tcp(port);
    root.headers = format!("X-Vault-Token: {ROOT_TOKEN}\r\n");
    root
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

impl Tree {
    /// A parent with so many children, each of which has read `path`.
    #[must_use]
    pub fn grow(bao: &Bao, children: usize, path: &str) -> Self {
        let mut root = root(bao.port);
        let made = root.json("POST", "/v1/auth/token/create/mcp-session", "{}");
        let mut parent = Kept::tcp(bao.port);
        parent.headers = format!("X-Vault-Token: {}\r\n", text(&made["auth"]["client_token"]));
        let body = json!({ "policies": [ROLE], "ttl": "10h", "no_default_policy": true }).to_string();
        let mut child = Kept::tcp(bao.port);
        let mut leases = Vec::new();
        for _ in 0..children {
            let made = parent.json("POST", "/v1/auth/token/create/mcp-launch", &body);
            child.headers = format!("X-Vault-Token: {}\r\n", text(&made["auth"]["client_token"]));
            let read = child.json("GET", &format!("/v1/{path}"), "");
            leases.extend(read["lease_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned));
        }
        Self { root, port: bao.port, parent: text(&made["auth"]["accessor"]), leases }
    }

    fn revoke_parent(&mut self) {
        let body = json!({ "accessor": self.parent }).to_string();
        self.root.json("POST", "/v1/auth/token/revoke-accessor", &body);
    }

    /// Ends it in that way, watched from the first moment as the product is: the looks cost the server something.
    fn watched(mut self, truth: &Truth<'_>, end: impl FnOnce(&mut Self)) -> Ended {
        std::thread::scope(|scope| {
            let begin = Instant::now();
            let gone = scope.spawn(|| truth.gone());
            end(&mut self);
            let accepted = begin.elapsed();
            let gone = gone.join().expect("nothing stays");
            Ended { accepted, verified: gone.duration_since(begin) }
        })
    }

    /// One call that ends the parent; the server ends the rest by itself.
    #[must_use]
    pub fn end_by_parent(self, truth: &Truth<'_>) -> Ended {
        self.watched(truth, Self::revoke_parent)
    }

    /// Each lease by a call that returns when it is revoked, several at once, then the parent.
    #[must_use]
    pub fn end_by_leases(self, truth: &Truth<'_>) -> Ended {
        self.watched(truth, Self::revoke_leases)
    }

    fn revoke_leases(&mut self) {
        let (next, port) = (AtomicUsize::new(0), self.port);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(self.leases.len()) {
                scope.spawn(|| {
                    let mut client = root(port);
                    while let Some(lease) = self.leases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let body = json!({ "lease_id": lease, "sync": true }).to_string();
                        client.json("PUT", "/v1/sys/leases/revoke", &body);
                    }
                });
            }
        });
        self.revoke_parent();
    }
}
