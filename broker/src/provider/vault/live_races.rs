//! Requests and revocations that meet.

use super::*;

/// The revocation of a child, then of a parent, waits for a request that is in flight; meanwhile another read
/// and another child are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_under_a_revocation() {
    let bao = Bao::start().await;
    bao.admin("POST", "kv/data/weather", json!({ "data": { "key": "s3cret" } })).await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let vault = bao.provider();
    for revoke_parent in [false, true] {
        let parent = session(&vault).await;
        let asked = request("kv/data/weather", "weather");
        let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
        let ended = if revoke_parent { &parent.handle } else { &prepared.handle }.clone();
        let flight = vault.begin(vec![held(&ended, &vault).accessor]).unwrap();
        let mut revocation = std::pin::pin!(vault.revoke(&ended));
        // One step is enough for it to have begun.
        tokio::select! {
            biased;
            done = &mut revocation => unreachable!("it waits for the request in flight: {done:?}"),
            () = std::future::ready(()) => {}
        }
        let read = vault.issue(&asked, prepared).await.map(drop);
        assert!(!blame(read, Blame::Refused, "is ending").is_passing());
        let child = vault.prepare(&asked, Some(&parent)).await.map(drop);
        if revoke_parent {
            assert!(!blame(child, Blame::Refused, "is ending").is_passing());
        } else {
            child.unwrap();
        }
        flight.land();
        assert_eq!(revocation.await.unwrap(), Revocation::Revoked(Proof::Token));
    }
}
