//! Sessions and the launches in them: who is signed in, what runs, and the end of it. Fences live here:
//! a launch gets its seat and loses it under one lock, so nothing starts after an end was decided.

mod admit;
mod channel;
mod end;
mod kill_switch;
mod launch;
pub mod lock;
pub mod login;
mod registry;
pub mod sign_in;

pub use admit::{Admitted, Asking};
pub use launch::{PeerWatch, run};
pub use registry::{Seat, Sessions};
