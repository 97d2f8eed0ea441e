//! What one instance may ask for while it runs: its credentials in the form that an AWS SDK or a `kubectl` takes. They
//! are served from memory, to processes of the instance's own tree, until they end or are withheld. Single threaded and
//! never waiting; it asks no broker and no person, and knows no MCP.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use mcp_broker_proto::launch::IssuedCredential;
use mcp_broker_proto::names::{Label, LeaseId};
use rustix::io::Errno;
use rustix::process::Pid;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::spawn::kin::Kin;
use crate::spawn::private::PrivateDir;
use door::{Door, Via};
use grant::Grant;
use guest::Answer;
use hall::Hall;
use refusal::Refusal;
use shelf::{Held, Shelf};

pub mod capability;
mod diag;
mod door;
mod ends;
mod grant;
mod guest;
mod hall;
mod refusal;
mod request;
mod shelf;

pub use door::COUNTER_HOST;
pub use shelf::Form;

/// File name of the unix socket; no variable, and so no other file, is called so.
const COUNTER: &str = "desk.socket";

/// The desk of one instance.
pub struct Desk {
    kin: Kin,
    shelf: Shelf,
    grants: Vec<Grant>,
    hall: Hall,
    /// Path of the unix socket.
    counter: std::path::PathBuf,
    withheld: bool,
}

/// Credentials that can take the place of those that the desk has.
pub struct Prepared(Vec<(Label, Held)>);

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
        let hall = Hall::open().map_err(failed)?;
        Ok(Self {
            kin: Kin::of(keeper),
            shelf: Shelf::default(),
            grants: Vec::new(),
            hall,
            counter: std::path::PathBuf::new(),
            withheld: false,
        })
    }

    /// Takes a credential. One that nothing here hands out may be put as well.
    ///
    /// # Errors
    /// Where it has not the fields that are handed out. Then the old one is served on.
    pub fn put(&mut self, name: &Label, credential: impl Borrow<IssuedCredential>) -> Result<(), Failure> {
        let held = self.held(name, credential.borrow())?;
        self.take(Prepared(vec![(name.clone(), held)]));
        Ok(())
    }

    /// Looks whether these can take the place of the old ones; nothing is handed out of them yet.
    ///
    /// # Errors
    /// Where one of them has not the fields that are handed out.
    pub fn prepare(&self, new: &BTreeMap<Label, IssuedCredential>) -> Result<Prepared, Failure> {
        let held = new.iter().map(|(name, new)| Ok((name.clone(), self.held(name, new)?)));
        held.collect::<Result<_, _>>().map(Prepared)
    }

    /// Puts them in the place of the old ones.
    pub fn take(&mut self, prepared: Prepared) {
        if !self.withheld {
            prepared.0.into_iter().for_each(|(name, held)| self.shelf.put(name, held));
        }
    }

    /// The broker says that the credential of this lease ends then, and no sooner.
    pub fn put_off(&mut self, lease: LeaseId, until: &str) {
        self.shelf.put_off(lease, until);
    }

    /// Opens the port for a credential.
    ///
    /// # Errors
    /// Where it is not one for AWS, or there is no port.
    pub fn endpoint(&mut self, credential: &Label) -> Result<Endpoint, Failure> {
        if self.hall.door(Via::Port).is_none() {
            self.hall.install(Door::port().map_err(failed)?).map_err(failed)?;
        }
        let host = self.hall.door(Via::Port).map(|door| door.host.clone()).unwrap_or_default();
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
        if self.hall.door(Via::Counter).is_none() {
            let (socket, path) = dir.listen(COUNTER, door::BACKLOG)?;
            self.counter = path;
            self.hall.install(Door::counter(socket)).map_err(failed)?;
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
        self.hall.close();
    }

    /// Wipes what it knows, in a copy of this process that is about to become something else. What the two share, such
    /// as sockets, is left alone.
    pub fn forget(&mut self) {
        self.shelf.clear();
        self.grants.clear();
        self.hall.guests = Vec::new();
    }

    /// What to poll for reading: readable where [`Self::serve`] has something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        (!self.withheld).then_some(self.hall.as_fd()).into_iter()
    }

    /// When the clock has something to do for [`Self::serve`].
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.hall.next()
    }

    /// Serves whoever is there, for a while. Never waits.
    pub fn serve(&mut self, now: Instant) {
        if self.withheld {
            return;
        }
        let (grants, shelf) = (&self.grants, &self.shelf);
        self.hall.serve(&mut self.kin, |head, door| answer(head, door, grants, shelf), now);
    }

    /// A credential, where it can be handed out in every form that it is asked for in.
    fn held(&self, name: &Label, credential: &IssuedCredential) -> Result<Held, Failure> {
        let forms = self.grants.iter().filter(|grant| grant.credential == *name).map(|grant| grant.form);
        Held::of(name, credential, forms)
    }

    fn grant(&mut self, credential: &Label, form: Form) -> Result<&Grant, Failure> {
        self.shelf.check(credential, form)?;
        let grant = Grant::new(credential, form).map_err(failed)?;
        Ok(self.grants.push_mut(grant))
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

fn failed(error: Errno) -> Failure {
    Failure::system("serve the server's credentials", error)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
