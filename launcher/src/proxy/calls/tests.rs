//! The calls of a launch, event by event.
