//! Every way in which OpenBao can fail a launch: a message with a cure, the right exit code, within seconds, and
//! no credential left. What a real server can be made to do is done to a real one; the rest is scripted in a
//! proxy before it, and is marked as the double that it is.

use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::fault::Fault;
use e2e::{PATIENCE, World, eventually};

/// How late a slow server answers.
const SLOW: Duration = Duration::from_secs(30);

struct Faulty {
    world: World,
}

impl Faulty {
    fn new() -> Self {
        Self { world: World::user().vault().probe("orders-db", &[]).start() }
    }

    /// Launches once while all is well, so that the broker has its identity and the session its parent.
    fn warm() -> Self {
        let faulty = Self::new();
        assert_eq!(faulty.world.launch(ALICE, "orders-db").finish().code(), 0);
        faulty
    }

    /// A launch fails with that code and these words.
    #[track_caller]
    fn assert_refused(&self, code: i32, words: &[&str]) {
        // The client stays: one that leaves is not waited for, nor told anything.
        let outcome = self.world.run(ALICE, &["orders-db"]).outcome_within(2 * PATIENCE);
        outcome.assert_refused(code, words);
        assert!(!outcome.stderr.contains("canary"), "a reply's text came through: {}", outcome.stderr);
    }

    /// A token is not revoked under a request that is in flight, so its user may live until the late answer has
    /// come, and not longer; the journal keeps it in mind as long.
    #[track_caller]
    fn assert_no_user_after_the_answer(&self) {
        let late = SLOW + PATIENCE;
        within(late, "the lease of the late answer is settled", || so(self.world.leases().is_empty()));
        assert_eq!(self.world.users(), [""; 0]);
    }

    /// Once the cause is gone a launch works again without anybody's help, and nothing of before is left.
    #[track_caller]
    fn assert_heals(&mut self) {
        let mut client = eventually("a launch works again", || {
            let mut client = self.world.run(ALICE, &["orders-db"]);
            let params =
                serde_json::json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
            client.try_request("initialize", params).map(|_| client)
        });
        assert_eq!(client.finish().code(), 0);
        self.world.assert_settled();
    }
}

#[test]
fn unreachable_from_the_start() {
    let mut faulty = Faulty::new();
    faulty.world.proxy().down();
    faulty.assert_refused(69, &["bao"]);
    faulty.world.proxy().heal();
    faulty.assert_heals();
}

#[test]
fn unreachable_later() {
    let mut faulty = Faulty::warm();
    faulty.world.proxy().down();
    faulty.assert_refused(69, &["bao"]);
    faulty.world.proxy().heal();
    faulty.assert_heals();
}

#[test]
fn sealed() {
    let mut faulty = Faulty::warm();
    faulty.world.bao().seal();
    faulty.assert_refused(69, &["bao", "sealed"]);
    faulty.world.bao().unseal();
    faulty.assert_heals();
}

/// Scripted: no real server can be told to be slow.
#[test]
fn slow_by_half_a_minute() {
    for path in ["auth/token/create/", "database/creds/"] {
        let mut faulty = Faulty::warm();
        faulty.world.proxy().always(path, Fault::Delay(SLOW));
        faulty.assert_refused(69, &["bao"]);
        faulty.assert_no_user_after_the_answer();
        faulty.world.proxy().heal();
        faulty.assert_heals();
    }
}

/// Scripted: the work is done, and its answer is half a minute late. The user that nobody was told of ends too.
#[test]
fn an_answer_that_is_late_leaves_no_user() {
    let mut faulty = Faulty::warm();
    faulty.world.proxy().times(1, "database/creds/", Fault::DelayAnswer(SLOW));
    // It is given up and asked again: the person sees nothing but the delay.
    assert_eq!(faulty.world.launch(ALICE, "orders-db").finish().code(), 0);
    faulty.assert_no_user_after_the_answer();
    faulty.assert_heals();
}

/// Scripted: the work is done, and its answer is lost.
#[test]
fn an_answer_that_is_lost_leaves_no_user() {
    let mut faulty = Faulty::warm();
    faulty.world.proxy().always("database/creds/", Fault::LoseAnswer);
    faulty.assert_refused(69, &["bao"]);
    eventually("the user that nobody was told of is gone", || so(faulty.world.users().is_empty()));
    faulty.world.proxy().heal();
    faulty.assert_heals();
}

/// Scripted answers, at each step of a mint.
#[test]
fn every_bad_answer_at_every_step() {
    let steps = ["auth/token/create/mcp-launch", "database/creds/", "sys/leases/renew"];
    let mut faulty = Faulty::warm();
    for step in steps {
        for (fault, codes) in [
            (Fault::status(403), [77, 69]),
            (Fault::status(500), [69, 69]),
            (Fault::status(503), [69, 75]),
            (Fault::status(429), [75, 69]),
            (Fault::broken_json(), [69, 69]),
        ] {
            let told = format!("{step}: {fault:?}");
            faulty.world.proxy().always(step, fault);
            let outcome = faulty.world.run_to_end(ALICE, &["orders-db"]);
            assert!(codes.contains(&outcome.code), "{told}: {outcome:?}");
            outcome.assert_refused(outcome.code, &["bao"]);
            assert!(!outcome.stderr.contains("canary"), "{told}: {}", outcome.stderr);
            faulty.world.proxy().heal();
            eventually(&told, || so(faulty.world.users().is_empty()));
        }
    }
    faulty.assert_heals();
}

/// Real: the role's policy allows nothing any more.
#[test]
fn a_role_without_permission() {
    let mut faulty = Faulty::warm();
    let (bao, role) = (faulty.world.bao(), faulty.world.role.clone());
    bao.policy(&role, "path \"secret/nothing\" { capabilities = [\"read\"] }");
    faulty.assert_refused(77, &["bao"]);
    bao.policy(&role, &format!("path \"database/creds/{role}\" {{ capabilities = [\"read\"] }}"));
    faulty.assert_heals();
}

/// Real: the database role does not exist.
#[test]
fn a_path_that_is_not_there() {
    let mut faulty = Faulty::warm();
    let role = faulty.world.role.clone();
    faulty.world.bao().call("DELETE", &format!("database/roles/{role}"), None);
    let outcome = faulty.world.run_to_end(ALICE, &["orders-db"]);
    assert!([69, 77, 78].contains(&outcome.code), "{outcome:?}");
    outcome.assert_refused(outcome.code, &["bao"]);
    faulty.world.bao().database(faulty.world.pg(), &role, serde_json::json!({}));
    faulty.assert_heals();
}

/// Real: the broker's own token is revoked under it; it signs in again by its AppRole.
#[test]
fn the_control_token_is_gone() {
    let mut faulty = Faulty::warm();
    let seen = faulty.world.proxy().seen();
    let create = seen.iter().find(|seen| seen.path.starts_with("auth/token/create/mcp-session"));
    let control = create.and_then(|seen| seen.token.clone()).expect("the control token makes the parent");
    faulty.world.bao().put("auth/token/revoke", &serde_json::json!({ "token": control }));
    faulty.assert_heals();
}

/// Real: the session's parent token is revoked under the broker.
#[test]
fn the_parent_token_is_gone() {
    let mut faulty = Faulty::warm();
    let seen = faulty.world.proxy().seen();
    let create = seen.iter().find(|seen| seen.path.starts_with("auth/token/create/mcp-launch"));
    let parent = create.and_then(|seen| seen.token.clone()).expect("the parent makes the children");
    faulty.world.bao().put("auth/token/revoke", &serde_json::json!({ "token": parent }));
    faulty.assert_heals();
}

/// Real: the secret of the AppRole is wrong.
#[test]
fn a_control_identity_that_is_refused() {
    let mut faulty = Faulty::new();
    let file = faulty.world.config_dir().join("secret_id");
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "00000000-0000-0000-0000-000000000000").unwrap();
    let outcome = faulty.world.run_to_end(ALICE, &["orders-db"]);
    assert!([69, 77, 78].contains(&outcome.code), "{outcome:?}");
    outcome.assert_refused(outcome.code, &["bao"]);
    assert!(!outcome.stderr.contains(right.trim()));
    std::fs::write(&file, right).unwrap();
    faulty.assert_heals();
}
