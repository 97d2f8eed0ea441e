//! Sessions and the launches in them: who is signed in, what runs, what locks it, and the end of it. Fences live
//! here: a launch gets its seat, and an instance its pass, under the lock under which every fence falls, so that
//! nothing starts after an end was decided.

mod admit;
mod channel;
mod confirm;
mod end;
mod holder;
mod kill_switch;
mod launch;
mod lock;
pub mod login;
mod marks;
mod notices;
mod pace;
mod park;
mod plan;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
mod races;
#[cfg(test)]
mod register_tests;
mod registry;
#[cfg(test)]
mod scene;
mod seat;
pub mod sign_in;
mod supply;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]
mod testing;
mod trial;
mod uses;
mod watched;
mod winding;
mod words;

pub use admit::{Admitted, Asking};
pub use launch::{PeerWatch, run};
pub use marks::{FILE_NAME as MARKS_FILE, Marks};
pub use registry::{Needs, Sessions};
pub use seat::Seat;
pub use trial::{AdmittedTrial, run_trial};
