//! The broker's sockets: who may connect, which routes there are. A handler parses, calls the floor below
//! and maps the answer; decisions are not made here.

mod admin;
mod answer;
mod approvals;
mod channel;
mod confirmations;
mod health;
mod launch;
mod listener;
mod peer;
mod places;
mod routes;
mod serve;
mod servers;
mod session;
mod trials;

pub use listener::{ListenError, Listeners};
pub use peer::knows_peers_for_sure;
pub use routes::{Api, admin as admin_routes, person as person_routes};
pub use serve::{Door, serve};
