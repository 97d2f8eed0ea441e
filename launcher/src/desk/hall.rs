//! Who waits at the doors of a desk: the doors and the guests under one epoll(7). It lets in, hurries and dismisses; what
//! a guest is answered with is for the desk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::door::{Door, Via};
use super::guest::{Answer, Guest, Next};
use super::refusal::Refusal;
use crate::spawn::kin::Kin;

/// Connections at a time; the rest wait in the kernel's queue.
pub(super) const MAX_GUESTS: usize = 64;
/// So many strangers are given the time to read their refusal; one more, and the first of them is cut off. They have
/// places of their own: whoever else is on the machine can connect, and must not keep the instance waiting.
pub(super) const MAX_STRANGERS: usize = 8;
/// Connections that are taken, and answered, before others than this instance are served again.
const ROUND: usize = 32;
/// How long nobody new is let in where the kernel gives no descriptor for it.
const PAUSE: Duration = Duration::from_millis(100);
/// What the doors are known by to epoll(7); guests follow.
const DOORS: usize = 2;

/// The doors, and who has come in.
pub(super) struct Hall {
    epoll: OwnedFd,
    doors: [Option<Door>; DOORS],
    pub(super) guests: Vec<Option<Guest>>,
    /// Nobody new is let in until a place is free.
    full: bool,
    /// Nobody new is let in until then.
    shut: Option<Instant>,
}

impl Hall {
    /// Without a door.
    ///
    /// # Errors
    /// Where the kernel gives no descriptor.
    pub(super) fn open() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, doors: [None, None], guests: Vec::new(), full: false, shut: None })
    }

    /// One more door.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub(super) fn install(&mut self, door: Door) -> Result<(), Errno> {
        let (number, slot) =
            self.doors.iter_mut().enumerate().find(|(_, slot)| slot.is_none()).ok_or(Errno::MFILE)?;
        epoll::add(&self.epoll, &door, data(number), EventFlags::IN)?;
        *slot = Some(door);
        Ok(())
    }

    /// The door of that sort.
    pub(super) fn door(&self, via: Via) -> Option<&Door> {
        self.doors.iter().flatten().find(|door| door.via == via)
    }

    /// Sends everybody away with a refusal, and closes the doors for good.
    pub(super) fn close(&mut self) {
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

    /// When the clock has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.guests.iter().flatten().map(|guest| guest.until).chain(self.shut).min()
    }

    /// Serves whoever is there and of the tree, for a while. Never waits.
    pub(super) fn serve(
        &mut self,
        kin: &mut Kin,
        answer: impl Fn(&[u8], &Door) -> Option<Answer>,
        now: Instant,
    ) {
        let mut events = Vec::with_capacity(ROUND);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&zero)).is_err() {
            events.clear();
        }
        for event in events {
            let Ok(number) = usize::try_from(event.data.u64()) else { continue };
            match number.checked_sub(DOORS) {
                None => self.admit(number, kin, &answer, now),
                Some(slot) => self.attend(slot, &answer),
            }
        }
        self.hurry(now);
    }

    /// Takes those who wait at a door. A stranger hears why it is sent away, before it can say anything.
    fn admit(
        &mut self,
        number: usize,
        kin: &mut Kin,
        answer: impl Fn(&[u8], &Door) -> Option<Answer>,
        now: Instant,
    ) {
        for _ in 0..ROUND {
            let Some(slot) = self.place() else {
                self.full = true;
                return self.set_doors();
            };
            let Some(door) = self.doors.get(number).and_then(Option::as_ref) else { return };
            let (stream, known) = match door.accept(kin) {
                Ok(accepted) => accepted,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.shut = Some(now + PAUSE);
                    return self.set_doors();
                }
            };
            let mut guest = Guest::new(stream, door.via, known, now);
            if !known {
                guest.refuse(Refusal::Stranger);
            }
            // The question is there already, as a rule.
            let next = guest.step(|head, _| answer(head, door));
            if next != Next::Over
                && epoll::add(&self.epoll, &guest, data(DOORS + slot), EventFlags::IN).is_ok()
                && let Some(place) = self.guests.get_mut(slot)
            {
                *place = Some(guest);
                self.then(slot, next);
                self.crowd();
            }
        }
    }

    /// Cuts the stranger off who came first, where there are too many.
    fn crowd(&mut self) {
        let guests = self.guests.iter().enumerate().filter_map(|(slot, guest)| Some((slot, guest.as_ref()?)));
        let strangers = guests.filter(|(_, guest)| !guest.known);
        if strangers.clone().count() > MAX_STRANGERS
            && let Some((slot, _)) = strangers.min_by_key(|(_, guest)| guest.until)
        {
            self.dismiss(slot);
        }
    }

    /// A free place for a guest.
    fn place(&mut self) -> Option<usize> {
        let free = self.guests.iter().position(Option::is_none);
        free.or_else(|| {
            (self.guests.len() < MAX_GUESTS + MAX_STRANGERS + 1).then(|| {
                self.guests.push(None);
                self.guests.len() - 1
            })
        })
    }

    /// Goes on with one guest.
    fn attend(&mut self, slot: usize, answer: impl Fn(&[u8], &Door) -> Option<Answer>) {
        let doors = &self.doors;
        let Some(guest) = self.guests.get_mut(slot).and_then(Option::as_mut) else { return };
        let next = guest.step(|head, via| answer(head, doors.iter().flatten().find(|door| door.via == via)?));
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

fn data(number: usize) -> EventData {
    EventData::new_u64(number as u64)
}

impl AsFd for Hall {
    /// Readable where [`Self::serve`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
