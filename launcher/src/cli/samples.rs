//! Answers of a broker for the tests of the commands, written as they come over the wire.
#![expect(clippy::unwrap_used, reason = "a sample that is not what the wire says must fail its test")]

use mcp_broker_proto::session::{ConfirmationInfo, Status};

/// Identifiers of tests differ in their last digits.
pub(super) fn id(number: u32) -> String {
    format!("0199f3a8-0000-7000-8000-{number:012}")
}

/// A session as the broker writes it; `more` are further keys.
pub(super) fn session(number: u32, state: &str, more: &str) -> String {
    let id = id(number);
    format!(r#"{{"id":"{id}","state":"{state}","uid":7,"user":"alice","since":"T0","ends_at":"T8"{more}}}"#)
}

pub(super) fn launch(number: u32, session: u32, state: &str, more: &str) -> String {
    let (id, session) = (id(number), id(session));
    format!(
        r#"{{"id":"{id}","session":"{session}","user":"alice","server":"orders-db","since":"T0","state":"{state}",
        "launcher_pid":1,"running":[]{more}}}"#
    )
}

pub(super) fn lease(
    number: u32,
    session: u32,
    state: &str,
    expires: &str,
    revocability: &str,
    more: &str,
) -> String {
    let (id, session) = (id(number), id(session));
    format!(
        r#"{{"id":"{id}","launch":"{id}","session":"{session}","user":"alice","server":"orders-db","scope":"read",
        "credential":"db","provider":"bao","state":"{state}","expires_at":{expires},"revocability":{revocability}{more}}}"#
    )
}

/// A call that waits for the person.
pub(super) fn confirmation(number: u32, tool: &str) -> ConfirmationInfo {
    let (id, tool) = (id(number), serde_json::to_string(tool).unwrap());
    let text = format!(
        r#"{{"id":"{id}","launch":"{id}","server":"orders-db","scope":"write","tool":{tool},"until":"T2"}}"#
    );
    serde_json::from_str(&text).unwrap()
}

pub(super) fn status(own: Option<&str>, others: &[String], launches: &[String], leases: &[String]) -> Status {
    let text = format!(
        r#"{{"session":{},"others":[{}],"launches":[{}],"leases":[{}]}}"#,
        own.unwrap_or("null"),
        others.join(","),
        launches.join(","),
        leases.join(",")
    );
    serde_json::from_str(&text).unwrap()
}
