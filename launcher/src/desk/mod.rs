//! What one instance may ask for while it runs: its credentials in the form that an AWS SDK or a `kubectl` takes. They
//! are served from memory, to processes of the instance's own tree, until they end or are withheld. Single threaded and
//! never waiting; it asks no broker and no person, and knows no MCP.

use std::borrow::Borrow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mcp_broker_proto::launch::IssuedCredential;
use mcp_broker_proto::names::Label;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::time::Timespec;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::spawn::kin::Kin;
use crate::spawn::private::PrivateDir;
use door::{Door, Via};
use grant::Grant;
use guest::{Answer, Guest, Next};
use refusal::Refusal;
use shelf::Shelf;

pub mod capability;
mod diag;
mod door;
mod ends;
mod grant;
mod guest;
mod refusal;
mod request;
mod shelf;

pub use door::COUNTER_HOST;
pub use shelf::Form;

/// Connections at a time; the rest wait in the kernel's queue.
const MAX_GUESTS: usize = 64;
/// Connections that are taken, and answered, before others than this instance are served again.
const ROUND: usize = 32;
/// How long nobody new is let in where the kernel gives no descriptor for it.
const PAUSE: Duration = Duration::from_millis(100);
/// File name of the unix socket; no variable, and so no other file, is called so.
const COUNTER: &str = "desk.socket";
/// What the doors are known by to epoll(7); guests follow.
const DOORS: usize = 2;

/// The desk of one instance.
pub struct Desk {
    kin: Kin,
    shelf: Shelf,
    grants: Vec<Grant>,
    epoll: OwnedFd,
    doors: [Option<Door>; DOORS],
    guests: Vec<Option<Guest>>,
    /// Path of the unix socket.
    counter: std::path::PathBuf,
    /// Nobody new is let in until a place is free.
    full: bool,
    /// Nobody new is let in until then.
    shut: Option<Instant>,
    withheld: bool,
}

/// What an AWS SDK needs to find the endpoint.
pub struct Endpoint {
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub url: String,
    /// What the file of `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` holds.
    pub token: Zeroizing<String>,
}

impl Desk {
    /// For the tree of this keeper, with nothing on it, and no door open.
    ///
    /// # Errors
    /// Where the kernel gives no descriptor.
    pub fn open(keeper: Pid) -> Result<Self, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        Ok(Self {
            kin: Kin::of(keeper),
            shelf: Shelf::default(),
            grants: Vec::new(),
            epoll,
            doors: [None, None],
            guests: Vec::new(),
            counter: std::path::PathBuf::new(),
            full: false,
            shut: None,
            withheld: false,
        })
    }

    /// Takes a credential: at the start, and in the place of the old one at each refresh. One that nothing here hands
    /// out may be put as well. Where it does not fit the old one is served on.
    ///
    /// # Errors
    /// Where it has not the fields that are handed out.
    pub fn put(&mut self, name: &Label, credential: impl Borrow<IssuedCredential>) -> Result<(), Failure> {
        if self.withheld {
            return Ok(());
        }
        let forms = self.grants.iter().filter(|grant| grant.credential == *name).map(|grant| grant.form);
        self.shelf.put(name, credential.borrow(), forms)
    }

    /// Opens the port for a credential.
    ///
    /// # Errors
    /// Where it is not one for AWS, or there is no port.
    pub fn endpoint(&mut self, credential: &Label) -> Result<Endpoint, Failure> {
        if !self.has(Via::Port) {
            self.install(Door::port().map_err(failed)?).map_err(failed)?;
        }
        let host = self.door(Via::Port).map(|door| door.host.clone()).unwrap_or_default();
        let grant = self.grant(credential, Form::AwsEndpoint)?;
        Ok(Endpoint { url: format!("http://{host}{}", grant.path), token: grant.token().to_owned().into() })
    }

    /// Opens the unix socket for a credential; answers with the capability that is to be in a private file.
    ///
    /// # Errors
    /// Where the credential is of another kind, or the socket cannot be made.
    pub fn counter(
        &mut self,
        dir: &PrivateDir,
        credential: &Label,
        form: Form,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if !self.has(Via::Counter) {
            let (socket, path) = dir.listen(COUNTER, door::BACKLOG)?;
            self.counter = path;
            self.install(Door::counter(socket)).map_err(failed)?;
        }
        let socket = self.counter.clone();
        let grant = self.grant(credential, form)?;
        Ok(capability::write(&socket, &grant.path, grant.token()))
    }

    /// After a lock, a park or an end: from now on every answer is a refusal, and nobody new is let in.
    pub fn withhold(&mut self) {
        self.withheld = true;
        self.shelf.clear();
        self.grants.clear();
        for guest in self.guests.iter_mut().flatten() {
            // Whoever still waits for an answer gets this one, if it takes it at once.
            guest.refuse(Refusal::Withheld);
        }
        for slot in 0..self.guests.len() {
            self.dismiss(slot);
        }
        self.guests = Vec::new();
        for door in self.doors.iter_mut().filter_map(Option::take) {
            epoll::delete(&self.epoll, &door).unwrap_or_default();
        }
    }

    /// Wipes what it knows, in a copy of this process that is about to become something else. What the two share, such
    /// as sockets, is left alone.
    pub fn forget(&mut self) {
        self.shelf.clear();
        self.grants.clear();
        self.guests = Vec::new();
    }

    /// What to poll for reading: readable where [`Self::serve`] has something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        (!self.withheld).then_some(self.epoll.as_fd()).into_iter()
    }

    /// When the clock has something to do for [`Self::serve`].
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.guests.iter().flatten().map(|guest| guest.until).chain(self.shut).min()
    }

    /// Serves whoever is there, for a while. Never waits.
    pub fn serve(&mut self, now: Instant) {
        if self.withheld {
            return;
        }
        let mut events = Vec::with_capacity(ROUND);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&zero)).is_err() {
            events.clear();
        }
        for event in events {
            let Ok(number) = usize::try_from(event.data.u64()) else { continue };
            match number.checked_sub(DOORS) {
                None => self.admit(number, now),
                Some(slot) => self.attend(slot),
            }
        }
        self.hurry(now);
    }

    fn grant(&mut self, credential: &Label, form: Form) -> Result<&Grant, Failure> {
        self.shelf.check(credential, form)?;
        let grant = Grant::new(credential, form).map_err(failed)?;
        Ok(self.grants.push_mut(grant))
    }

    fn has(&self, via: Via) -> bool {
        self.door(via).is_some()
    }

    fn door(&self, via: Via) -> Option<&Door> {
        self.doors.iter().flatten().find(|door| door.via == via)
    }

    fn install(&mut self, door: Door) -> Result<(), Errno> {
        let (number, slot) =
            self.doors.iter_mut().enumerate().find(|(_, slot)| slot.is_none()).ok_or(Errno::MFILE)?;
        epoll::add(&self.epoll, &door, data(number), EventFlags::IN)?;
        *slot = Some(door);
        Ok(())
    }

    /// Takes those who wait at a door. A stranger hears why it is sent away, before it can say anything.
    fn admit(&mut self, number: usize, now: Instant) {
        for _ in 0..ROUND {
            let Some(slot) = self.place() else {
                self.full = true;
                return self.set_doors();
            };
            let Some(door) = self.doors.get(number).and_then(Option::as_ref) else { return };
            let (stream, known) = match door.accept(&mut self.kin) {
                Ok(accepted) => accepted,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.shut = Some(now + PAUSE);
                    return self.set_doors();
                }
            };
            let mut guest = Guest::new(stream, door.via, now);
            if !known {
                guest.refuse(Refusal::Stranger);
            }
            // The question is there already, as a rule.
            let next = guest.step(|head, _| answer(head, door, &self.grants, &self.shelf));
            if next != Next::Over
                && epoll::add(&self.epoll, &guest, data(DOORS + slot), EventFlags::IN).is_ok()
                && let Some(place) = self.guests.get_mut(slot)
            {
                *place = Some(guest);
                self.then(slot, next);
            }
        }
    }

    /// A free place for a guest.
    fn place(&mut self) -> Option<usize> {
        let free = self.guests.iter().position(Option::is_none);
        free.or_else(|| {
            (self.guests.len() < MAX_GUESTS).then(|| {
                self.guests.push(None);
                self.guests.len() - 1
            })
        })
    }

    /// Goes on with one guest.
    fn attend(&mut self, slot: usize) {
        let (grants, shelf, doors) = (&self.grants, &self.shelf, &self.doors);
        let Some(guest) = self.guests.get_mut(slot).and_then(Option::as_mut) else { return };
        let next = guest.step(|head, via| {
            let door = doors.iter().flatten().find(|door| door.via == via)?;
            answer(head, door, grants, shelf)
        });
        self.then(slot, next);
    }

    fn then(&mut self, slot: usize, next: Next) {
        let Some(guest) = self.guests.get(slot).and_then(Option::as_ref) else { return };
        let wanted = match next {
            Next::In => EventFlags::IN,
            Next::Out => EventFlags::OUT,
            Next::Over => return self.dismiss(slot),
        };
        if epoll::modify(&self.epoll, guest, data(DOORS + slot), wanted).is_err() {
            self.dismiss(slot);
        }
    }

    fn dismiss(&mut self, slot: usize) {
        if let Some(guest) = self.guests.get_mut(slot).and_then(Option::take) {
            // Explicitly: a copy of this process may hold the same connection for a moment (epoll(7)).
            epoll::delete(&self.epoll, &guest).unwrap_or_default();
        }
        if std::mem::take(&mut self.full) {
            self.set_doors();
        }
    }

    /// Gives up what takes too long, and opens the doors again.
    fn hurry(&mut self, now: Instant) {
        for slot in 0..self.guests.len() {
            let Some(guest) = self.guests.get_mut(slot).and_then(Option::as_mut) else { continue };
            if now < guest.until {
                continue;
            }
            if guest.is_reading() {
                guest.refuse(Refusal::Slow);
            }
            self.dismiss(slot);
        }
        if self.shut.is_some_and(|until| now >= until) {
            self.shut = None;
            self.set_doors();
        }
    }

    fn set_doors(&self) {
        let open = !self.full && self.shut.is_none();
        let flags = if open { EventFlags::IN } else { EventFlags::empty() };
        for (number, door) in self.doors.iter().enumerate() {
            if let Some(door) = door {
                epoll::modify(&self.epoll, door, data(number), flags).unwrap_or_default();
            }
        }
    }
}

/// What a question is answered with; nothing where it is not complete.
fn answer(head: &[u8], door: &Door, grants: &[Grant], shelf: &Shelf) -> Option<Answer> {
    let request = match request::parse(head, &door.host) {
        Ok(request) => request?,
        Err(refusal) => return Some(Err(refusal)),
    };
    let here = |grant: &&Grant| {
        grant.path == request.path && (grant.form == Form::AwsEndpoint) == (door.via == Via::Port)
    };
    let Some(grant) = grants.iter().find(here) else { return Some(Err(Refusal::Unknown)) };
    if !request.authorization.is_some_and(|shown| grant.opens(shown)) {
        return Some(Err(Refusal::Token));
    }
    Some(shelf.document(&grant.credential, grant.form))
}

fn data(number: usize) -> EventData {
    EventData::new_u64(number as u64)
}

fn failed(error: Errno) -> Failure {
    Failure::system("serve the server's credentials", error)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
