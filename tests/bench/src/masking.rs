//! How fast secrets are looked for in what servers say, beside the fastest search for one byte.

use std::hint::black_box;
use std::time::Instant;

use mcp_run::proxy::redact::{Redactor, Secrets};

use crate::measure::{Samples, micros};
use crate::table::{Goal, Row, Table};

/// Bytes of each text.
const LENGTH: usize = 1 << 20;
/// Searches of each kind.
const ROUNDS: usize = 60;

/// Measures: one core, the searches in turn.
pub fn masking(table: &mut Table) {
    let (mut redactor, mut secrets) = (Redactor::default(), Secrets::default());
    for secret in
        ["v-mcp-orders-ro-5xT2v9", "aB3/x+9=Zq-17 k_Lm0", "postgres://v:aB3%2Fx@db.internal:5432/orders"]
    {
        secrets.add(secret.as_bytes());
    }
    redactor.learn(0, secrets);
    let prose = "The orders of last week came to 1,204 rows, and most of them were shipped on time. ";
    let escaped = r#"select o.id, o.total from \"orders\" o where o.city = 'Köln' and o.day > now() - 7;\n"#;
    let base64 = "QmFzZTY0IGlzIHdoYXQgaW1hZ2VzIGNvbWUgaW4sIGFuZCBpdCBoYXMgbm8gYmxhbmtz";
    for (name, text) in [("ordinary text", prose), ("text with escapes", escaped), ("base64", base64)] {
        let line = text.repeat(LENGTH / text.len()).into_bytes();
        let (mut product, mut floor) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            floor.push(rate(&line, |line| usize::from(memchr::memchr(0, line).is_some())));
            product.push(rate(&line, |line| usize::try_from(redactor.message(line).count).unwrap_or(1)));
        }
        table.row(
            Row::new("C", format!("masking, {name}"), "MB/s", product.p50())
                .wants(Goal::Above(500.0))
                .note(format!("{}; memchr {}", product.spread(), floor.spread())),
        );
    }
}

/// Megabytes a second, where nothing is to be found.
fn rate(line: &[u8], search: impl Fn(&[u8]) -> usize) -> f64 {
    let begin = Instant::now();
    assert_eq!(search(black_box(line)), 0, "nothing is there");
    line.len() as f64 / micros(begin.elapsed())
}
