//! How fast secrets are looked for in what servers say, beside the fastest search for one byte. The search is in the
//! program of counts, as the launcher's and the broker's allocators do not go into one program.

use std::hint::black_box;
use std::time::Instant;

use crate::measure::{Samples, micros};
use crate::programs;
use crate::table::{Goal, Row, Table};
use crate::world::command;

/// Bytes of the text, which has escapes and letters beyond ASCII.
const LENGTH: usize = 1 << 20;
/// Runs.
const ROUNDS: usize = 10;
/// Searches in a run.
const SEARCHES: usize = 200;

/// Measures: one core, the searches in turn.
pub fn masking(table: &mut Table) {
    let line = vec![b'x'; LENGTH];
    let (mut product, mut floor) = (Samples::default(), Samples::default());
    let rate = |searches: usize, took: f64| (searches * LENGTH) as f64 / took;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..SEARCHES {
            assert_eq!(memchr::memchr(0, black_box(&line)), None);
        }
        floor.push(rate(SEARCHES, micros(begin.elapsed())));
        // What both runs do beside the searches cancels out.
        let (none, all) = (run(0), run(SEARCHES));
        product.push(rate(SEARCHES, all - none));
    }
    table.row(
        Row::new("C", "masking, three secrets, 1 MiB without any", "MB/s", product.p50())
            .wants(Goal::Above(500.0))
            .note(format!("{}; memchr {}", product.spread(), floor.spread())),
    );
}

/// Wall time of a run with so many searches, microseconds.
fn run(searches: usize) -> f64 {
    let mut program = command(&programs::counts());
    let begin = Instant::now();
    let status = program.args(["redact-1m", &searches.to_string()]).status().expect("it starts");
    assert!(status.success(), "it searches");
    micros(begin.elapsed())
}
