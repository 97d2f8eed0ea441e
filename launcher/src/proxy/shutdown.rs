//! The end of a server in its stages: input closed, TERM, KILL. Pure: it is told the time and says the
//! next step. MCP's stdio transport asks for this order; clients give about two seconds a stage.

use std::time::{Duration, Instant};

/// After the client has left: time to finish, counted from the last sign of progress.
const POLITE: Grace = Grace { finish: Duration::from_secs(2), terminate: Duration::from_secs(2) };
/// After a signal: the client kills us about two seconds later.
const HURRIED: Grace = Grace { finish: Duration::from_millis(500), terminate: Duration::from_secs(1) };
/// However busy a server is, it ends so long after its input was closed.
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Grace {
    finish: Duration,
    terminate: Duration,
}

/// Where the end stands.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Running,
    Finishing { until: Instant, latest: Instant, grace: Grace },
    Terminating { until: Instant },
    Killed,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send TERM to the server's group.
    Terminate,
    /// Kill the tree.
    Kill,
}

/// The stage, and when it is over.
#[derive(Debug)]
pub struct Shutdown {
    stage: Stage,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { stage: Stage::Running }
    }
}

impl Shutdown {
    /// The client has closed our input, or reads no more.
    pub fn client_left(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Running) {
            self.stage =
                Stage::Finishing { until: now + POLITE.finish, latest: now + LONGEST, grace: POLITE };
        }
    }

    /// We were told to end by a signal.
    pub fn hurry(&mut self, now: Instant) {
        match self.stage {
            Stage::Running | Stage::Finishing { .. } => {
                let until = now + HURRIED.finish;
                self.stage = Stage::Finishing { until, latest: until, grace: HURRIED };
            }
            Stage::Terminating { until } => {
                self.stage = Stage::Terminating { until: until.min(now + HURRIED.terminate) };
            }
            Stage::Killed => {}
        }
    }

    /// The server still answers, so it gets the time to finish anew.
    pub fn progress(&mut self, now: Instant) {
        if let Stage::Finishing { until, latest, grace } = &mut self.stage {
            *until = (now + grace.finish).min(*latest).max(*until);
        }
    }

    /// It must be dead now.
    pub fn kill(&mut self) -> Step {
        self.stage = Stage::Killed;
        Step::Kill
    }

    /// Whether the server was told to end, in whatever way.
    #[must_use]
    pub fn begun(&self) -> bool {
        !matches!(self.stage, Stage::Running)
    }

    /// Whether it is asked to end, and not killed: a server that is killed must not see its input close first, as
    /// it would answer what it never did.
    #[must_use]
    pub fn is_polite(&self) -> bool {
        matches!(self.stage, Stage::Finishing { .. } | Stage::Terminating { .. })
    }

    /// When to ask [`Self::due`] again.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        match self.stage {
            Stage::Finishing { until, .. } | Stage::Terminating { until } => Some(until),
            Stage::Running | Stage::Killed => None,
        }
    }

    /// The step that is due.
    pub fn due(&mut self, now: Instant) -> Option<Step> {
        match self.stage {
            Stage::Finishing { until, grace, .. } if now >= until => {
                self.stage = Stage::Terminating { until: now + grace.terminate };
                Some(Step::Terminate)
            }
            Stage::Terminating { until } if now >= until => Some(self.kill()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Act = fn(&mut Shutdown, Instant);

    /// What happens at which millisecond, when `acts` happen at theirs.
    fn check(acts: &[(u64, Act)], want: &[(u64, Step)]) {
        let zero = Instant::now();
        let mut shutdown = Shutdown::default();
        let mut got = Vec::new();
        for ms in 0..60_000 {
            let now = zero + Duration::from_millis(ms);
            for (at, act) in acts {
                if *at == ms {
                    act(&mut shutdown, now);
                }
            }
            got.extend(shutdown.due(now).map(|step| (ms, step)));
        }
        assert_eq!(got, want);
        assert_eq!(shutdown.next(), None);
    }

    #[test]
    fn stages() {
        use Step::{Kill, Terminate};
        check(&[], &[]);
        check(&[(10, Shutdown::client_left)], &[(2010, Terminate), (4010, Kill)]);
        check(&[(10, Shutdown::hurry)], &[(510, Terminate), (1510, Kill)]);
        check(&[(0, Shutdown::client_left), (1500, Shutdown::hurry)], &[(2000, Terminate), (3000, Kill)]);
        check(&[(0, Shutdown::client_left), (2500, Shutdown::hurry)], &[(2000, Terminate), (3500, Kill)]);
        check(
            &[(0, Shutdown::client_left), (1000, Shutdown::progress), (2500, Shutdown::progress)],
            &[(4500, Terminate), (6500, Kill)],
        );
        let mut busy: Vec<(u64, Act)> = vec![(0, Shutdown::client_left)];
        busy.extend((0..50).map(|i| (i * 1000 + 1, Shutdown::progress as Act)));
        check(&busy, &[(30_000, Terminate), (32_000, Kill)]);
    }
}
