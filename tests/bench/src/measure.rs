//! Samples and their quantiles, CPU clocks of processes, memory of processes, and pinning.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::ClockId;
use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Measured values of one kind, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a time, as microseconds.
    pub fn push_time(&mut self, time: Duration) {
        self.push(micros(time));
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The value below which the part `at` of all values lies; NaN without any.
    #[must_use]
    pub fn quantile(&self, at: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (at * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// p10.
    #[must_use]
    pub fn p10(&self) -> f64 {
        self.quantile(0.1)
    }

    /// p50.
    #[must_use]
    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }

    /// p99.
    #[must_use]
    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    /// `p10 p50 p99`, for a note.
    #[must_use]
    pub fn spread(&self) -> String {
        format!("{:.0}/{:.0}/{:.0}", self.p10(), self.p50(), self.p99())
    }
}

/// Microseconds.
#[must_use]
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU that a process has used, microseconds (clock_getcpuclockid(3)); its children are not in it.
#[must_use]
pub fn cpu(pid: u32) -> f64 {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    let clock = ClockId::pid_cpu_clock_id(pid).expect("the process lives");
    micros(clock.now().expect("the process lives").into())
}

/// CPU of all children that were waited for, and of theirs, microseconds.
#[must_use]
pub fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it cannot fail");
    let parts = [usage.user_time(), usage.system_time()];
    parts.iter().map(|time| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64).sum()
}

/// Memory of a process, KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident.
    pub rss: f64,
    /// Resident, shared pages by their part.
    pub pss: f64,
}

/// Memory of a process (proc_pid_smaps_rollup(5)).
#[must_use]
pub fn memory(pid: u32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process lives");
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let number = value.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or(f64::NAN)
    };
    Memory { rss: field("Rss:"), pss: field("Pss:") }
}

/// A process and its descendants.
#[must_use]
pub fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// Keeps this thread, and what it starts from now on, on one processor until dropped.
pub struct Pinned(CpuSet);

impl Pinned {
    /// On the first processor that this thread may use.
    #[must_use]
    pub fn new() -> Self {
        let before = sched_getaffinity(None).expect("it cannot fail");
        let first = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).expect("there is a processor");
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).expect("a processor that was ours");
        Self(before)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.0).expect("what was before");
    }
}
