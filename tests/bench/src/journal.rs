//! B3: a durable step of the journal, beside one write and one sync of a file on the same disk.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use e2e::tempdir::TempDir;
use mcp_broker::lease::{Book, journal};
use mcp_broker_proto::names::LeaseId;

use crate::measure::Samples;
use crate::table::{Goal, Row, Table};

/// Steps one after the other, of each kind.
const ALONE: usize = 400;
/// Who writes at once, and how often each.
const ISSUERS: usize = 64;
const STEPS: usize = 60;
/// About the length of a journal's line.
const LINE: usize = 400;

/// Opens an entry, and waits until it is on the disk. The book's own tests hold what it means.
async fn step(book: &Book) {
    let what = serde_json::from_str(
        r#"{"kind":"parent","session":"019ab000-0000-7000-8000-000000000001","provider":"bao"}"#,
    );
    book.intend(LeaseId::fresh(), what.expect("an entry")).durable().await.expect("the disk takes it");
}

/// Measures.
pub fn journal(table: &mut Table) {
    let dir = TempDir::new("journal");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let found = journal::open(dir.path()).expect("the directory is ours");
    let book = Arc::new(Book::open(found).expect("a thread"));
    let mut file = OpenOptions::new().create(true).append(true).open(dir.path().join("floor")).expect("ours");
    let mut sync = |samples: &mut Samples| {
        let begin = Instant::now();
        file.write_all(&[b'x'; LINE]).expect("there is room");
        file.sync_data().expect("the disk works");
        samples.push_time(begin.elapsed());
    };
    let (mut least, mut again, mut product) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ALONE {
        sync(&mut least);
        let begin = Instant::now();
        runtime.block_on(step(&book));
        product.push_time(begin.elapsed());
        sync(&mut again);
    }
    let check = again.p50() / least.p50();
    table.row(
        Row::new("B3", "a durable step against one sync, p50", "us", product.p50())
            .floor(least.p50())
            .check(check)
            .wants(Goal::AtMost(1.3))
            .note(format!("{} against {}", product.spread(), least.spread())),
    );
    let begin = Instant::now();
    runtime.block_on(async {
        let issuers: Vec<_> = (0..ISSUERS)
            .map(|_| {
                let book = Arc::clone(&book);
                tokio::spawn(async move {
                    for _ in 0..STEPS {
                        step(&book).await;
                    }
                })
            })
            .collect();
        for issuer in issuers {
            issuer.await.expect("no issuer fails");
        }
    });
    let rate = (ISSUERS * STEPS) as f64 / begin.elapsed().as_secs_f64();
    table.row(
        Row::new("B3", "steps of 64 issuers, grouped, against alone", "1/s", rate)
            .floor(1e6 / least.p50())
            .check(check)
            .wants(Goal::AtLeast(15.0)),
    );
}
