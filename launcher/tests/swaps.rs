//! How long a replaced instance may work on: as long as its credentials live, and no longer. And how often a
//! broker that keeps dying is asked.
#![expect(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::time::{Duration, Instant};

use scene::running;
use serde_json::json;

mod scene;

#[test]
fn credentials_end_before_another_instance_came() {
    let (_broker, mut channel, mut client) = running("expired", 0);
    client.call(1, "hang");
    channel.send(&json!({ "type": "replace", "instance": 0, "within_secs": 1 }));
    channel.expect("want");
    channel.refuse("all", "provider_busy");
    // The tries in between are refused as well.
    loop {
        let frame = channel.frame();
        if frame["type"] == "gone" {
            assert_eq!((&frame["instance"], &frame["reason"]), (&json!(0), &json!("replaced")));
            break;
        }
        assert_eq!(frame["type"], "want");
    }
    let text = client.text(1);
    assert!(text.contains("credentials have ended") && text.contains("executed: unknown"), "{text}");
    client.call(2, "whoami");
    client.silent();
    channel.ticket(1, 0);
    channel.expect("started");
    client.lists_changed();
    assert_eq!(client.text(2), "i1 yes ");
}

/// A broker that answers a launch and dies at once is not asked ever more often.
#[test]
fn a_broker_that_keeps_dying_is_asked_ever_less_often() {
    let (mut broker, channel, _client) = running("keeps-dying", 0);
    drop(channel);
    broker.restart();
    let mut times = 0;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        if broker.is_asked() {
            drop(broker.accept());
            times += 1;
        }
    }
    assert!(times < 20, "{times} times in four seconds");
}
