//! May this person launch this server now: pure, no I/O, no clock.
