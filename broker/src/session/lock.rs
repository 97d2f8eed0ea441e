//! Whether a session is locked, as a machine that only sightings move. Any source locks; none unlocks by itself:
//! a session opens again only on evidence that came after everything that locked it, and only while nothing
//! speaks against it. Pure: it is told the time.

use std::time::Duration;

use mcp_broker_proto::session::LockCause;

use super::login::{Look, Sighting};
use crate::audit::Evidence;

/// A screen that was locked for a shorter time was not unlocked by a person, but by something that flaps.
const SHORTEST_LOCK: Duration = Duration::from_secs(1);

/// Something that bears on the lock, apart from what happens to the login session itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// Something happened to the login session.
    Seen(Sighting),
    /// Its state was read for the first time since the session is known.
    First(Look),
    /// Its state was read again: what changed meanwhile was not seen.
    Read(Look),
    /// Lock, for this reason.
    Lock(LockCause),
    /// The machine is awake again.
    Awake,
    /// `mcp-run unlock`.
    Unlock,
}

/// What a notice changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Stays,
    /// The first look found nothing that speaks against it.
    Begun,
    /// It was open and is locked now.
    Locked(LockCause),
    /// It was locked and is open now.
    Opened(Evidence),
}

/// Why `mcp-run unlock` does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A screen lock was seen, and its end was not.
    Screen,
    /// Somebody else is at the seat.
    Inactive,
    /// logind cannot be heard.
    Blind,
    /// The machine is going to sleep.
    Asleep,
}

/// The lock of one session.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    shut: Option<LockCause>,
    /// A screen lock whose end was not seen, and since when.
    screen: Option<Duration>,
    evidence: Option<Evidence>,
    hint: bool,
    active: bool,
    /// logind cannot be heard, or its login session was not looked at yet.
    blind: bool,
    asleep: bool,
}

impl Lock {
    /// An open one that nothing speaks against.
    #[must_use]
    pub(super) fn open() -> Self {
        Self {
            shut: None,
            screen: None,
            evidence: None,
            hint: false,
            active: true,
            blind: false,
            asleep: false,
        }
    }

    /// One that is locked; where that was for a locked screen, its unlocking is what opens it.
    #[must_use]
    pub(super) fn shut(cause: LockCause, screen: bool, at: Duration) -> Self {
        Self { shut: Some(cause), screen: screen.then_some(at), ..Self::open() }
    }

    /// What locked it, while it is.
    #[must_use]
    pub(super) fn cause(&self) -> Option<LockCause> {
        self.shut
    }

    /// Whether it takes the unlocking of a screen to open it.
    #[must_use]
    pub(super) fn waits_for_screen(&self) -> bool {
        self.screen.is_some()
    }

    /// The same, until its login session was looked at.
    #[must_use]
    pub(super) fn unlooked(mut self) -> Self {
        self.blind = true;
        self
    }

    /// Whether the desktop said last that its screen is locked.
    #[must_use]
    pub(super) fn is_hinted(&self) -> bool {
        self.hint
    }

    /// One that a desktop said that about.
    #[must_use]
    pub(super) fn hinted(mut self, hint: bool) -> Self {
        self.hint = hint;
        self
    }

    /// Takes a notice.
    pub(super) fn take(&mut self, notice: Notice, at: Duration) -> Turn {
        let before = self.shut;
        match notice {
            Notice::Seen(Sighting::Lock) => self.lock_screen(LockCause::ScreenLock, at),
            Notice::Seen(Sighting::Hint(true)) if !self.hint => {
                self.hint = true;
                self.lock_screen(LockCause::LockedHint, at);
            }
            Notice::Seen(Sighting::Hint(false)) if self.hint => {
                self.hint = false;
                self.unlock_screen(Evidence::LockedHint, at);
            }
            Notice::Seen(Sighting::Unlock) => self.unlock_screen(Evidence::Unlock, at),
            Notice::Seen(Sighting::Active(active)) => self.activate(active),
            Notice::Seen(Sighting::Hint(_) | Sighting::Closed) => {}
            Notice::First(look) => {
                self.read(look, at);
                // Nothing happened since it was found, and nothing was found.
                if self.shut == Some(LockCause::Found) && self.obstacle().is_none() {
                    self.shut = None;
                    return Turn::Begun;
                }
            }
            Notice::Read(look) => self.read(look, at),
            Notice::Lock(cause) => {
                self.blind |= cause == LockCause::BusLost;
                self.asleep |= cause == LockCause::Sleep;
                self.lock(cause);
            }
            Notice::Awake => self.asleep = false,
            Notice::Unlock if self.obstacle().is_none() => self.evidence = Some(Evidence::Command),
            Notice::Unlock => {}
        }
        self.open_on_evidence();
        match (before, self.shut) {
            (None, Some(cause)) => Turn::Locked(cause),
            (Some(LockCause::Found), Some(cause)) if cause != LockCause::Found => Turn::Locked(cause),
            (Some(_), None) => Turn::Opened(self.evidence.take().unwrap_or(Evidence::Command)),
            _ => Turn::Stays,
        }
    }

    /// What keeps `mcp-run unlock` from being evidence.
    #[must_use]
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        let obstacles = [
            (self.asleep, Obstacle::Asleep),
            (self.blind, Obstacle::Blind),
            (self.hint || self.screen.is_some(), Obstacle::Screen),
            (!self.active, Obstacle::Inactive),
        ];
        obstacles.into_iter().find_map(|(there, obstacle)| there.then_some(obstacle))
    }

    fn lock(&mut self, cause: LockCause) {
        self.evidence = None;
        if matches!(self.shut, None | Some(LockCause::Found)) {
            self.shut = Some(cause);
        }
    }

    fn lock_screen(&mut self, cause: LockCause, at: Duration) {
        self.screen = Some(at);
        self.lock(cause);
    }

    fn unlock_screen(&mut self, evidence: Evidence, at: Duration) {
        // `Unlock` asks the locker to unlock: as long as it shows itself, that has not happened.
        let lasted = self.screen.is_some_and(|since| at.saturating_sub(since) >= SHORTEST_LOCK);
        if lasted && !self.hint {
            self.screen = None;
            self.evidence = Some(evidence);
        }
    }

    fn activate(&mut self, active: bool) {
        if self.active && !active {
            self.lock(LockCause::Inactive);
        }
        self.active = active;
    }

    fn read(&mut self, look: Look, at: Duration) {
        self.blind = false;
        if look.locked_hint && !self.hint {
            self.lock_screen(LockCause::LockedHint, at);
        }
        if self.hint && !look.locked_hint {
            // It was unlocked unseen: that is no evidence, but the screen is no obstacle any more.
            self.screen = None;
        }
        self.hint = look.locked_hint;
        self.activate(look.active);
    }

    fn open_on_evidence(&mut self) {
        if self.evidence.is_some() && self.obstacle().is_none() {
            self.shut = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(1000);

    /// A word a step; each step is two seconds after the one before, `,` takes that back.
    fn walk(steps: &str) -> (Lock, Vec<Turn>) {
        let mut lock = Lock::open();
        let mut at = T;
        let mut turns = Vec::new();
        for step in steps.split_whitespace() {
            let (word, quick) = step.strip_prefix(',').map_or((step, false), |word| (word, true));
            at += Duration::from_millis(if quick { 10 } else { 2000 });
            let look = |locked_hint, active| Notice::Read(Look { locked_hint, active, closing: false });
            let notice = match word {
                "lock" => Notice::Seen(Sighting::Lock),
                "unlock" => Notice::Seen(Sighting::Unlock),
                "hint" => Notice::Seen(Sighting::Hint(true)),
                "nohint" => Notice::Seen(Sighting::Hint(false)),
                "away" => Notice::Seen(Sighting::Active(false)),
                "back" => Notice::Seen(Sighting::Active(true)),
                "sleep" => Notice::Lock(LockCause::Sleep),
                "awake" => Notice::Awake,
                "jump" => Notice::Lock(LockCause::ClockJump),
                "deaf" => Notice::Lock(LockCause::BusLost),
                "read" => look(false, true),
                "readhint" => look(true, true),
                "readaway" => look(false, false),
                "lockcmd" => Notice::Lock(LockCause::Command),
                "unlockcmd" => Notice::Unlock,
                other => unreachable!("no step {other}"),
            };
            turns.push(lock.take(notice, at));
        }
        (lock, turns)
    }

    #[test]
    fn what_opens_and_what_does_not() {
        use Evidence::{Command, LockedHint, Unlock};
        for (steps, want) in [
            ("lock unlock", Some(Unlock)),
            ("lock ,unlock", None),
            ("lock unlockcmd", None),
            ("lock hint unlock", None),
            ("lock hint unlock nohint", Some(LockedHint)),
            ("hint nohint", Some(LockedHint)),
            ("hint ,nohint", None),
            ("hint ,nohint unlock", Some(Unlock)),
            ("hint unlockcmd", None),
            ("lockcmd unlockcmd", Some(Command)),
            ("lockcmd unlock", None),
            ("lockcmd nohint", None),
            ("lockcmd lock unlock", Some(Unlock)),
            ("lockcmd hint nohint", Some(LockedHint)),
            ("lock lockcmd unlockcmd", None),
            ("sleep unlockcmd", None),
            ("sleep awake unlockcmd", Some(Command)),
            ("sleep awake unlock", None),
            ("sleep awake", None),
            ("hint sleep awake unlockcmd", None),
            ("hint sleep awake nohint", Some(LockedHint)),
            ("hint sleep nohint awake", Some(LockedHint)),
            ("hint nohint lock sleep awake", None),
            ("jump", None),
            ("jump unlockcmd", Some(Command)),
            ("away back", None),
            ("away unlockcmd", None),
            ("away back unlockcmd", Some(Command)),
            ("away hint nohint back", Some(LockedHint)),
            ("away hint back nohint", Some(LockedHint)),
            ("hint nohint away back", None),
            ("deaf unlockcmd", None),
            ("deaf read", None),
            ("deaf read unlockcmd", Some(Command)),
            ("hint deaf read", None),
            ("hint deaf read unlockcmd", Some(Command)),
            ("lock deaf read unlockcmd", None),
            ("deaf readhint unlockcmd", None),
            ("deaf readhint nohint", Some(LockedHint)),
            ("deaf readaway unlockcmd", None),
        ] {
            let (lock, turns) = walk(steps);
            let opened = match turns.last() {
                Some(Turn::Opened(evidence)) => Some(*evidence),
                _ => None,
            };
            assert_eq!((opened, lock.cause().is_none()), (want, want.is_some()), "{steps}: {turns:?}");
        }
    }

    #[test]
    fn the_first_cause_stays() {
        let (lock, turns) = walk("sleep lock lockcmd");
        assert_eq!(lock.cause(), Some(LockCause::Sleep));
        assert_eq!(turns, [Turn::Locked(LockCause::Sleep), Turn::Stays, Turn::Stays]);
    }

    #[test]
    fn a_hint_that_flaps_never_opens() {
        let (lock, turns) = walk(&",hint ,nohint ".repeat(1000));
        assert!(lock.cause().is_some());
        assert_eq!(turns.iter().filter(|turn| **turn != Turn::Stays).count(), 1, "locked once, never opened");
    }

    #[test]
    fn the_first_look() {
        let look = |locked_hint, active| Look { locked_hint, active, closing: false };
        let (ok, hinted, away) = (look(false, true), look(true, true), look(false, false));
        let cases: [(&[Notice], Look, Turn, Option<LockCause>); 9] = [
            (&[], ok, Turn::Begun, None),
            (&[], hinted, Turn::Locked(LockCause::LockedHint), Some(LockCause::LockedHint)),
            (&[], away, Turn::Locked(LockCause::Inactive), Some(LockCause::Inactive)),
            (&[Notice::Seen(Sighting::Lock)], ok, Turn::Stays, Some(LockCause::ScreenLock)),
            (&[Notice::Seen(Sighting::Active(false))], ok, Turn::Stays, Some(LockCause::Inactive)),
            (&[Notice::Seen(Sighting::Hint(true))], ok, Turn::Stays, Some(LockCause::LockedHint)),
            (&[Notice::Lock(LockCause::ClockJump)], ok, Turn::Stays, Some(LockCause::ClockJump)),
            // Evidence does not count before anything is known.
            (&[Notice::Unlock], hinted, Turn::Locked(LockCause::LockedHint), Some(LockCause::LockedHint)),
            (&[Notice::Unlock], ok, Turn::Begun, None),
        ];
        for (notices, first, turn, cause) in cases {
            let mut lock = Lock::shut(LockCause::Found, false, T).unlooked();
            for notice in notices {
                assert!(!matches!(lock.take(*notice, T), Turn::Opened(_) | Turn::Begun), "{notices:?}");
            }
            let after = T + Duration::from_secs(2);
            assert_eq!((lock.take(Notice::First(first), after), lock.cause()), (turn, cause), "{notices:?}");
        }
    }

    /// Every sequence of notices up to a length, against what must hold whatever happens.
    #[test]
    fn nothing_opens_without_evidence() {
        const STEPS: [&str; 14] = [
            "lock",
            "unlock",
            "hint",
            "nohint",
            ",nohint",
            "away",
            "back",
            "sleep",
            "awake",
            "jump",
            "deaf",
            "read",
            "lockcmd",
            "unlockcmd",
        ];
        let causes = ["lock", "hint", "away", "sleep", "jump", "deaf", "lockcmd"];
        let mut walked = 0_u32;
        for number in 0..STEPS.len().pow(4) {
            let digit = |place: u32| number / STEPS.len().pow(place) % STEPS.len();
            let steps: Vec<_> = (0..4).filter_map(|place| STEPS.get(digit(place)).copied()).collect();
            let (lock, turns) = walk(&steps.join(" "));
            if lock.cause().is_none() {
                assert_eq!(lock.obstacle(), None, "open against an obstacle: {steps:?}");
                let (mut hint, mut proven) = (false, true);
                for step in &steps {
                    // A hint that was there already is no new lock.
                    let lock = causes.contains(step) && !(hint && *step == "hint");
                    proven = !lock && (proven || ["unlock", "nohint", ",nohint", "unlockcmd"].contains(step));
                    hint = match *step {
                        "hint" => true,
                        "nohint" | ",nohint" | "read" => false,
                        _ => hint,
                    };
                }
                assert!(proven, "open without evidence after the last lock: {steps:?} {turns:?}");
            }
            walked += 1;
        }
        assert_eq!(walked, 38_416);
    }
}
