//! The points with the feature: what the environment asks for, counted and done.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::Side;
use super::points::POINTS;

/// How long `delay` waits.
pub const DELAY: Duration = Duration::from_secs(3);

/// A point.
pub fn at(point: &'static str) {
    if act(point) == Some(Action::Delay) {
        std::thread::sleep(DELAY);
    }
}

/// A point of something that can fail.
///
/// # Errors
/// Where the run was told to fail here.
pub fn io(point: &'static str) -> io::Result<()> {
    match act(point) {
        Some(Action::Fail) => Err(io::Error::other("told to fail")),
        Some(Action::Delay) => {
            std::thread::sleep(DELAY);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A point at which a task can be delayed.
pub async fn passing(point: &'static str) {
    if act(point) == Some(Action::Delay) {
        tokio::time::sleep(DELAY).await;
    }
}

/// A point beside the call of that name.
pub async fn call(name: &'static str, side: Side) {
    let side = if side == Side::Before { "before" } else { "after" };
    if act(&format!("backend.{name}.{side}")) == Some(Action::Delay) {
        tokio::time::sleep(DELAY).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Panic,
    Delay,
    Fail,
}

#[derive(Debug, PartialEq, Eq)]
struct Order {
    point: String,
    passing: u32,
    action: Action,
}

/// Counts a passing, and does what was asked for; what the caller has to do is handed back.
fn act(point: &str) -> Option<Action> {
    static PASSED: OnceLock<Mutex<HashMap<String, u32>>> = OnceLock::new();
    if !POINTS.contains(&point) {
        give_up(&format!("`{point}` is not in the table of points"));
    }
    let mut passed = PASSED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let passing = passed.entry(point.to_owned()).or_default();
    *passing += 1;
    let passing = *passing;
    drop(passed);
    tracing::trace!(point, passing, "a fault point");
    let action = orders().iter().find(|order| order.point == point && order.passing == passing)?.action;
    tracing::warn!(point, passing, ?action, "told so by MCP_BROKER_FAULT");
    match action {
        Action::Kill => {
            send(Signal::KILL);
            // Another thread may be the one that takes it.
            loop {
                std::thread::park();
            }
        }
        Action::Stop => send(Signal::STOP),
        #[expect(clippy::panic, reason = "asked for, by a test")]
        Action::Panic => std::panic::panic_any(format!("told to panic at `{point}`")),
        Action::Delay | Action::Fail => {}
    }
    Some(action)
}

fn send(signal: Signal) {
    if kill_process(getpid(), signal).is_err() {
        give_up("a signal to itself was refused");
    }
}

fn orders() -> &'static [Order] {
    static ORDERS: OnceLock<Vec<Order>> = OnceLock::new();
    ORDERS.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "not configuration: it exists in tests only")]
        let text = std::env::var("MCP_BROKER_FAULT").unwrap_or_default();
        let words = text.split(',').filter(|word| !word.is_empty());
        words.map(|word| order(word).unwrap_or_else(|| give_up(&format!("cannot read `{word}`")))).collect()
    })
}

/// Reads `POINT[:N][=ACTION]`.
fn order(text: &str) -> Option<Order> {
    let (place, action) = text.split_once('=').unwrap_or((text, "kill"));
    let (point, passing) = place.split_once(':').unwrap_or((place, "1"));
    let action = match action {
        "kill" => Action::Kill,
        "stop" => Action::Stop,
        "panic" => Action::Panic,
        "delay" => Action::Delay,
        "fail" => Action::Fail,
        _ => return None,
    };
    let passing = passing.parse().ok().filter(|passing| *passing > 0)?;
    POINTS.contains(&point).then(|| Order { point: point.to_owned(), passing, action })
}

/// A test that asks for what is not there must not pass.
fn give_up(why: &str) -> ! {
    tracing::error!("fault points: {why}");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let check = |text: &str, want: Option<(&str, u32, Action)>| {
            let got = order(text);
            let got = got.as_ref().map(|order| (order.point.as_str(), order.passing, order.action));
            assert_eq!(got, want, "{text}");
        };
        check("mint.begun", Some(("mint.begun", 1, Action::Kill)));
        check("mint.begun:3", Some(("mint.begun", 3, Action::Kill)));
        check("mint.begun:2=stop", Some(("mint.begun", 2, Action::Stop)));
        check("durable.sync=fail", Some(("durable.sync", 1, Action::Fail)));
        for wrong in ["mint.began", "mint.begun:0", "mint.begun:x", "mint.begun=die", ""] {
            check(wrong, None);
        }
    }

    #[test]
    fn no_point_is_listed_twice() {
        let mut names = POINTS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), POINTS.len());
    }
}
