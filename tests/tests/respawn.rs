//! A client that starts `mcp-run` again and again while the session is locked: nothing is minted, the broker hardly
//! works for it, each start is told why and what to do, and after the unlocking a launch works at once.

use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::accounts::ALICE;
use e2e::mcp::Client;
use e2e::{World, rounds};
use serde_json::json;

/// What a storm of starts begins every second.
const RATE: usize = 100;

/// The time that a process has had a processor for, itself and in the kernel (proc_pid_stat(5), fields 14 and 15).
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields = stat.rsplit_once(") ").expect("a name in brackets").1;
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    // SAFETY: a plain number.
    let second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).expect("ticks a second");
    Duration::from_millis(ticks * 1000 / second)
}

/// Starts `mcp-run` at the rate, with a client behind it that waits for an answer.
fn storm(world: &World, count: usize) -> Vec<Client> {
    let start = Instant::now();
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    (0..count)
        .map(|number| {
            let due = Duration::from_secs(1) * u32::try_from(number).expect("few") / RATE as u32;
            sleep(due.saturating_sub(start.elapsed()));
            let mut client = world.run(ALICE, &["orders-db"]);
            client.message(&initialize);
            client
        })
        .collect()
}

#[test]
fn a_storm_of_starts_while_locked_mints_nothing() {
    let mut world = World::user().with_logind().vault().probe("orders-db", &[]).start();
    let mut first = world.launch(ALICE, "orders-db");
    world.logind().lock("1");
    world.assert_dark();
    let intended = world.audited("credential_intended", "");
    let asked = world.proxy().count("database/creds/") + world.proxy().count("auth/token/create");
    let pid = world.broker().process.pid();
    let (before, start) = (processor_time(pid), Instant::now());

    let clients = storm(&world, rounds(2 * RATE, 10 * RATE));
    let mut codes = Vec::new();
    for mut client in clients {
        let outcome = client.outcome();
        // Locked, or, once there are too many of them, come back later.
        assert!([77, 75].contains(&outcome.code), "{outcome:?}");
        outcome.assert_refused(outcome.code, &[]);
        codes.push(outcome.code);
        if outcome.code == 77 {
            assert!(outcome.stderr.contains("locked"), "{}", outcome.stderr);
        }
    }
    let (worked, took) = (processor_time(pid).saturating_sub(before), start.elapsed());
    let locked = codes.iter().filter(|code| **code == 77).count();
    println!("{} starts, {locked} told of the lock; the broker worked {worked:?} of {took:?}", codes.len());
    assert!(locked > 0);
    // Unoptimized, it logs everything, and it shares the machine: half of one processor is a storm answered badly.
    assert!(worked < took / 2, "the broker worked {worked:?} of {took:?}");

    assert_eq!(world.audited("credential_intended", ""), intended, "something was minted");
    let after = world.proxy().count("database/creds/") + world.proxy().count("auth/token/create");
    assert_eq!(after, asked, "OpenBao was asked for something");
    assert_eq!(world.users(), [""; 0]);
    assert!(world.leases().is_empty());
    let lines = world.audited("launch_denied", "");
    assert!(lines <= 100, "{lines} lines of the audit log for one storm");

    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    world.assert_active(ALICE);
    // At once: the storm is no reason to make the person wait.
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(client.call("echo", json!({})), "{}");
    assert_eq!(client.finish().code(), 0);
    assert_eq!(first.finish().code(), 0);
    world.assert_settled();
}

/// The same client waits at the parked launch as well: it is none of the storm's.
#[test]
fn a_storm_of_starts_disturbs_no_parked_launch() {
    let mut world = World::user().with_logind().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    world.logind().lock("1");
    world.assert_dark();
    let clients = storm(&world, RATE);
    let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    e2e::eventually("the parked launch comes back", || {
        let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
        e2e::eventually::so(answer["result"]["isError"] != true)
    });
    drop(clients);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}
