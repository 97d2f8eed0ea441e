//! What goes over the socket, byte for byte as a program of another version would see it: one golden file a
//! message in `fixtures/wire/REVISION/`. A message that changes without a new revision fails here; a new
//! revision gets its own folder with `E2E_BLESS=1`, which never overwrites a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use mcp_broker_proto::approval::{ApprovalInfo, ApprovalRequest, TrialRequest};
use mcp_broker_proto::call::{Answered, Ask, CallOutcome, CallReason, Change, Changed, Decision, Verdict};
use mcp_broker_proto::channel::{
    Containment, End, EndReason, GoneReason, Park, ParkReason, ToBroker, ToLauncher,
};
use mcp_broker_proto::launch::{
    AwsWay, Content, Injection, IssuedCredential, LaunchRequest, LaunchTicket, Refresh, SecretsTicket,
    SpawnedTicket,
};
use mcp_broker_proto::names::{CallId, Label, LaunchId, LeaseId, ServerName, SessionId};
use mcp_broker_proto::plan::{ClientRequest, Lists, Plan, Record, ScopePlan, Variant};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::{
    Confirmation, ConfirmationInfo, Health, LaunchInfo, LaunchState, LeaseInfo, LeaseState, LockCause,
    LockInfo, LoginInfo, ProviderInfo, Revocability, RevokeReport, RevokeRequest, RunningInfo, ScopeInfo,
    ServerInfo, SessionInfo, SessionState, Status,
};
use mcp_broker_proto::{PROTOCOL, Secret, paths};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The message is written exactly as the golden file says, and what the golden file says is read as the message.
#[track_caller]
fn check<T: Serialize + DeserializeOwned>(name: &str, message: &T) {
    let written = pretty(message);
    let path = folder().join(format!("{name}.json"));
    if std::env::var_os("E2E_BLESS").is_some() && !path.exists() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(written, golden, "{name} changed on the wire: raise PROTOCOL, then E2E_BLESS=1");
    let read: T = serde_json::from_str(&golden).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(pretty(&read), golden, "{name} is not read as it is written");
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/wire/{PROTOCOL}"))
}

/// With the order of the fields as they are written, which a `Value` would sort away.
fn pretty(message: &impl Serialize) -> String {
    serde_json::to_string_pretty(message).unwrap() + "\n"
}

const ID: &str = "0190f2a0-0000-7000-8000-000000000001";

fn launch() -> LaunchId {
    ID.parse().unwrap()
}
fn lease() -> LeaseId {
    ID.parse().unwrap()
}
fn call() -> CallId {
    ID.parse().unwrap()
}
fn session() -> SessionId {
    ID.parse().unwrap()
}
fn server() -> ServerName {
    "orders-db".parse().unwrap()
}
fn label(text: &str) -> Label {
    text.parse().unwrap()
}
fn time() -> String {
    "2026-11-24T06:00:00Z".into()
}

fn ticket() -> SecretsTicket {
    let fields = BTreeMap::from([
        ("password".to_owned(), Secret::new("not a secret".into())),
        ("username".to_owned(), Secret::new("v-user".into())),
    ]);
    let credential = IssuedCredential {
        lease: lease(),
        fields,
        plain: vec!["username".into()],
        expires_at: Some(time()),
        revocability: Revocability::Immediate,
    };
    let template = || "{db.username}:{db.password|url}".parse().unwrap();
    SecretsTicket {
        launch: launch(),
        instance: 3,
        server: server(),
        scope: label("read"),
        idle_secs: 900,
        command: vec!["/usr/bin/dbhub".into(), "--transport".into(), "stdio".into()],
        env: BTreeMap::from([("NODE_ENV".into(), "production".into())]),
        cwd: "/home/alice".into(),
        credentials: BTreeMap::from([(label("db"), credential)]),
        inject: vec![
            Injection::Env { name: "DSN".into(), value: template() },
            Injection::File {
                name: "DSN_FILE".into(),
                content: Content::Text(template()),
                reread: false,
                signal: None,
            },
            Injection::File {
                name: "ENV_FILE".into(),
                content: Content::Dotenv(BTreeMap::from([("DSN".into(), template())])),
                reread: true,
                signal: Some(1),
            },
            Injection::File {
                name: "JSON_FILE".into(),
                content: Content::Json(BTreeMap::from([("dsn".into(), template())])),
                reread: true,
                signal: None,
            },
            Injection::Fd { name: "DSN_FD".into(), value: template() },
            Injection::Aws { credential: label("db"), by: AwsWay::Endpoint },
            Injection::Aws { credential: label("db"), by: AwsWay::CredentialProcess },
            Injection::Kubeconfig {
                name: "KUBECONFIG".into(),
                credential: label("db"),
                server: "https://k8s.example.com:6443".into(),
                authority: Some("PEM".into()),
                namespace: Some("orders".into()),
            },
        ],
    }
}

#[test]
fn the_launch() {
    check(
        "launch-request",
        &LaunchRequest { protocol: PROTOCOL, server: server(), args: vec!["--ro".into()], want: true },
    );
    check("to-launcher.ticket", &ToLauncher::Ticket(Box::new(LaunchTicket::Secrets(ticket()))));
    let spawned = SpawnedTicket {
        launch: launch(),
        instance: 3,
        server: server(),
        scope: label("read"),
        idle_secs: 900,
        descriptors: 3,
    };
    check("to-launcher.ticket.spawned", &ToLauncher::Ticket(Box::new(LaunchTicket::Spawned(spawned))));
    let problem = Problem::new(ErrorCode::ProviderUnreachable, "`bao` does not answer", "try again");
    check("to-launcher.refused", &ToLauncher::Refused { scope: label("write"), problem });
    let refresh = Refresh { instance: 3, credentials: ticket().credentials };
    check("to-launcher.refresh", &ToLauncher::Refresh(Box::new(refresh)));
    check("to-launcher.renewed", &ToLauncher::Renewed { lease: lease(), expires_at: time() });
    check("to-launcher.beat", &ToLauncher::Beat);
    let end = End { reason: EndReason::Revoked, hint: "ask the admin".into() };
    check("to-launcher.end", &ToLauncher::End(end));
    for reason in [ParkReason::Locked, ParkReason::CredentialUnavailable] {
        let name = json!(reason).as_str().unwrap().to_owned();
        let park = Park { reason, what: "the screen is locked".into(), hint: "unlock it".into() };
        check(&format!("to-launcher.park.{name}"), &ToLauncher::Park(park));
    }
    check("to-launcher.resume", &ToLauncher::Resume);
    check("to-launcher.replace", &ToLauncher::Replace { instance: 3, within_secs: 30 });

    check("to-broker.beat", &ToBroker::Beat);
    for containment in [Containment::PidNamespace, Containment::SubReaper] {
        let name = json!(containment).as_str().unwrap().to_owned();
        let started = ToBroker::Started { instance: 3, scope: label("read"), pid: 4711, containment };
        check(&format!("to-broker.started.{name}"), &started);
    }
    check("to-broker.exited", &ToBroker::Exited { instance: 3, status: 137 });
    use GoneReason as G;
    for reason in [G::Exited, G::Idle, G::Replaced, G::Unusable] {
        let name = json!(reason).as_str().unwrap().to_owned();
        check(&format!("to-broker.gone.{name}"), &ToBroker::Gone { instance: 3, reason });
    }
    for failed in [None, Some("no room".to_owned())] {
        let name = if failed.is_some() { "to-broker.refreshed.failed" } else { "to-broker.refreshed" };
        check(name, &ToBroker::Refreshed { instance: 3, leases: vec![lease()], failed });
    }
    check("to-broker.want", &ToBroker::Want { scope: label("write") });
    check("to-broker.dead", &ToBroker::Dead);
}

fn record() -> Record {
    Record {
        approved_at: time(),
        items: vec![r#"{"protocolVersion":"2025-11-25"}"#.into(), r#"{"name":"execute_sql"}"#.into()],
        variants: vec![Variant {
            revision: "2025-11-25".into(),
            capable: true,
            discovery: 0,
            scopes: BTreeMap::from([(
                label("read"),
                Lists { tools: Some(vec![1]), resources: Some(vec![]), templates: None, prompts: None },
            )]),
        }],
    }
}

#[test]
fn the_plan() {
    use ClientRequest as R;
    let plan = |lazy, record| Plan {
        launch: launch(),
        server: server(),
        scopes: vec![ScopePlan {
            name: label("read"),
            revision: 2,
            tools: vec!["execute_sql".into(), "search_*".into()],
            resources: vec!["db://*".into()],
            prompts: vec!["explain".into()],
            result_bytes: 1 << 20,
            argument_bytes: 1 << 16,
            named: BTreeMap::from([("execute_*".into(), vec!["sql".into()])]),
            whole_arguments: true,
        }],
        client_requests: vec![R::Sampling, R::Elicitation, R::Roots],
        lazy,
        record,
    };
    check("to-launcher.plan", &ToLauncher::Plan(Box::new(plan(false, None))));
    check("to-launcher.plan.approved", &ToLauncher::Plan(Box::new(plan(true, Some(record())))));
}

#[test]
fn the_calls() {
    let ask = |named: &[(&str, &str)], whole: Option<&str>| Ask {
        call: 7,
        scope: label("read"),
        revision: 2,
        tool: "execute_sql".into(),
        size: 16,
        sha256: "ab".repeat(32),
        named: named.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
        whole: whole.map(Into::into),
        elicits: whole.is_none(),
    };
    check("to-broker.ask", &ToBroker::Ask(ask(&[], None)));
    let whole = r#"{"sql":"select 1"}"#;
    check("to-broker.ask.whole", &ToBroker::Ask(ask(&[("sql", r#""select 1""#)], Some(whole))));
    check("to-broker.confirmed", &ToBroker::Confirmed { call: 7, yes: true });
    let answered = |outcome, instance| {
        ToBroker::Answered(Answered { call: 7, outcome, instance, size: 512, millis: 12, masked: 1 })
    };
    check("to-broker.answered", &answered(CallOutcome::Result, Some(3)));
    check("to-broker.answered.not-sent", &answered(CallOutcome::NotSent, None));
    let tools = BTreeMap::from([
        ("drop_table".to_owned(), Change::Added),
        ("execute_sql".to_owned(), Change::Altered),
        ("search_objects".to_owned(), Change::Missing),
    ]);
    check("to-broker.changed", &ToBroker::Changed(Changed { scope: label("read"), tools }));
    check("to-broker.leaked", &ToBroker::Leaked { instance: 3, count: 2 });

    let decision = |verdict, reason, what: &str, hint: &str| {
        let decision =
            Decision { call: 7, id: call(), verdict, reason, what: what.into(), hint: hint.into() };
        ToLauncher::Decision(decision)
    };
    check("to-launcher.decision.allow", &decision(Verdict::Allow, CallReason::Allowed, "", ""));
    let (what, hint) = ("a person is asked", "say yes or no");
    let pending = decision(Verdict::Pending, CallReason::AwaitsConfirmation, what, hint);
    check("to-launcher.decision.pending", &pending);
    let (what, hint) = ("there were 30 calls within a minute", "wait a moment");
    check("to-launcher.decision.deny", &decision(Verdict::Deny, CallReason::TooManyPerMinute, what, hint));
    check("confirmation", &Confirmation { yes: false });
}

/// The words, in a list that must name every one: the match of each has no other arm.
#[test]
fn every_word_of_a_call() {
    use CallReason as R;
    let reasons = [
        R::Allowed,
        R::Confirmed,
        R::AwaitsConfirmation,
        R::Declined,
        R::NotConfirmed,
        R::SessionLocked,
        R::SessionOver,
        R::AccessLost,
        R::PlanChanged,
        R::NotInScope,
        R::Changed,
        R::TooManyPerMinute,
        R::TooManyAtOnce,
        R::ArgumentsTooLong,
        R::ArgumentRefused,
        R::AuditUnavailable,
    ];
    for reason in reasons {
        match reason {
            R::Allowed | R::Confirmed | R::AwaitsConfirmation | R::Declined | R::NotConfirmed => {}
            R::SessionLocked
            | R::SessionOver
            | R::AccessLost
            | R::PlanChanged
            | R::NotInScope
            | R::Changed => {}
            R::TooManyPerMinute | R::TooManyAtOnce | R::ArgumentsTooLong => {}
            R::ArgumentRefused | R::AuditUnavailable => {}
        }
    }
    check("call-reasons", &reasons.to_vec());
    use CallOutcome as O;
    let outcomes = [
        O::Result,
        O::ToolError,
        O::Error,
        O::Continued,
        O::Cancelled,
        O::ResultTooLong,
        O::NotSent,
        O::Unknown,
    ];
    for outcome in outcomes {
        match outcome {
            O::Result | O::ToolError | O::Error | O::Continued => {}
            O::Cancelled | O::ResultTooLong | O::NotSent | O::Unknown => {}
        }
    }
    check("call-outcomes", &outcomes.to_vec());
    check("verdicts", &vec![Verdict::Allow, Verdict::Deny, Verdict::Pending]);
    check("changes", &vec![Change::Added, Change::Altered, Change::Missing]);
}

#[test]
fn the_approval() {
    let request = TrialRequest { protocol: PROTOCOL, server: server(), scope: label("read") };
    check("trial-request", &request);
    check(
        "approval-request",
        &ApprovalRequest { server: server(), definition: "cd".repeat(32), record: record() },
    );
    let tools = BTreeMap::from([("execute_sql".to_owned(), vec!["ef".repeat(32)])]);
    check(
        "approvals",
        &vec![ApprovalInfo {
            server: server(),
            approved_at: time(),
            definition: "cd".repeat(32),
            current: true,
            tools: BTreeMap::from([(label("read"), tools)]),
        }],
    );
}

#[test]
fn every_end_reason() {
    use EndReason as R;
    let all = [
        R::LauncherGone,
        R::ServerExited,
        R::LauncherSilent,
        R::MintFailed,
        R::Revoked,
        R::Locked,
        R::LoggedOut,
        R::MaxAge,
        R::CredentialEnded,
        R::ParentLost,
        R::SessionClosed,
        R::Shutdown,
        R::Idle,
        R::Replaced,
        R::BrokerStopping,
        R::SecretLeaked,
        R::DefinitionChanged,
        R::TrialOver,
        R::Recovered,
    ];
    // A reason that is new must be added above: this match has no other arm.
    for reason in all {
        match reason {
            R::LauncherGone
            | R::ServerExited
            | R::LauncherSilent
            | R::MintFailed
            | R::Revoked
            | R::Locked => {}
            R::LoggedOut
            | R::MaxAge
            | R::CredentialEnded
            | R::ParentLost
            | R::SessionClosed
            | R::Shutdown
            | R::Idle
            | R::Replaced
            | R::BrokerStopping
            | R::Recovered => {}
            R::SecretLeaked | R::DefinitionChanged | R::TrialOver => {}
        }
    }
    check("end-reasons", &all.to_vec());
}

#[test]
fn every_problem() {
    use ErrorCode as C;
    let all = [
        C::BadRequest,
        C::NotFound,
        C::ProtocolVersion,
        C::UnknownServer,
        C::NoAccess,
        C::ArgumentsNotAllowed,
        C::NotBuilt,
        C::NotSignedIn,
        C::SessionLocked,
        C::NoLoginSession,
        C::LoginsUnseen,
        C::NothingThere,
        C::PeerGone,
        C::TooMany,
        C::Stopping,
        C::ProviderUnreachable,
        C::ProviderBusy,
        C::ProviderRefused,
        C::ProviderBroken,
        C::SecretMissing,
        C::StorageUnavailable,
        C::ConfigError,
        C::Internal,
    ];
    let mut table = BTreeMap::new();
    for code in all {
        // A code that is new must be added above: this match has no other arm.
        match code {
            C::BadRequest | C::NotFound | C::ProtocolVersion | C::UnknownServer | C::NoAccess => {}
            C::ArgumentsNotAllowed
            | C::NotBuilt
            | C::NotSignedIn
            | C::NothingThere
            | C::NoLoginSession
            | C::LoginsUnseen
            | C::SessionLocked
            | C::PeerGone => {}
            C::TooMany | C::Stopping | C::ProviderUnreachable | C::ProviderBusy | C::ProviderRefused => {}
            C::ProviderBroken | C::SecretMissing | C::StorageUnavailable | C::ConfigError | C::Internal => {}
        }
        let word = json!(code).as_str().unwrap().to_owned();
        check(&format!("problem.{word}"), &Problem::new(code, "what happened", "what to do"));
        table.insert(word, json!({ "status": code.status(), "exit": code.exit_code() }));
    }
    assert_eq!(table.len(), all.len());
    check::<BTreeMap<String, Value>>("problem-codes", &table);
}

fn lease_info() -> LeaseInfo {
    LeaseInfo {
        id: lease(),
        launch: launch(),
        session: session(),
        user: "alice".into(),
        server: server(),
        scope: label("read"),
        credential: label("db"),
        provider: label("bao"),
        state: LeaseState::RevocationPending,
        expires_at: Some(time()),
        valid_until: Some(time()),
        renews_at: Some(time()),
        delivered: vec!["aws endpoint".into(), "env".into()],
        detail: Some("policy packed to 12 %".into()),
        revocability: Revocability::Bounded { seconds: 900 },
        trouble: Some("`bao` does not answer".into()),
        withheld: false,
    }
}

/// One that was ended and lives on.
fn withheld() -> LeaseInfo {
    let delivered = vec![];
    LeaseInfo { valid_until: None, renews_at: None, delivered, trouble: None, withheld: true, ..lease_info() }
}

fn launch_info() -> LaunchInfo {
    LaunchInfo {
        id: launch(),
        session: session(),
        user: "alice".into(),
        server: server(),
        since: time(),
        state: LaunchState::Parked,
        parked: Some("the screen is locked".into()),
        launcher_pid: Some(4710),
        running: vec![RunningInfo {
            instance: 3,
            scope: label("read"),
            pid: 4711,
            containment: Containment::PidNamespace,
        }],
        approved: Some(time()),
        changed: vec![Changed {
            scope: label("read"),
            tools: BTreeMap::from([("execute_sql".into(), Change::Altered)]),
        }],
    }
}

/// One of a server that was not approved and shows nothing wrong.
fn plain_launch_info() -> LaunchInfo {
    LaunchInfo { parked: None, running: vec![], approved: None, changed: vec![], ..launch_info() }
}

fn confirmation_info() -> ConfirmationInfo {
    ConfirmationInfo {
        id: call(),
        launch: launch(),
        server: server(),
        scope: label("write"),
        tool: "write_rows".into(),
        until: time(),
    }
}

fn session_info() -> SessionInfo {
    SessionInfo {
        id: session(),
        state: SessionState::Locked,
        uid: 1000,
        user: "alice".into(),
        since: time(),
        ends_at: time(),
        lock: Some(LockInfo {
            cause: LockCause::LockedHint,
            since: time(),
            hint: "unlock the screen".into(),
        }),
        login: Some(LoginInfo { id: "3".into(), seat: Some("seat0".into()), remote: false }),
    }
}

#[test]
fn what_people_see() {
    check(
        "status",
        &Status {
            session: Some(session_info()),
            others: vec![SessionInfo { lock: None, login: None, ..session_info() }],
            launches: vec![launch_info()],
            leases: vec![lease_info()],
            confirmations: vec![confirmation_info()],
        },
    );
    let empty =
        Status { session: None, others: vec![], launches: vec![], leases: vec![], confirmations: vec![] };
    check("status.empty", &empty);
    check("sessions", &vec![session_info()]);
    check("launches", &vec![launch_info(), plain_launch_info()]);
    check("leases", &vec![lease_info(), LeaseInfo { trouble: None, ..lease_info() }]);
    check("leases.withheld", &vec![withheld()]);
    use LaunchState as L;
    check("launch-states", &vec![L::Starting, L::Running, L::Idle, L::Parked]);
    use LockCause as K;
    let causes = vec![
        K::ScreenLock,
        K::LockedHint,
        K::Inactive,
        K::Sleep,
        K::Command,
        K::ClockJump,
        K::BusLost,
        K::Found,
    ];
    check("lock-causes", &causes);
    check("session-states", &vec![SessionState::Active, SessionState::Locked, SessionState::Ended]);
    check("lease-states", &vec![LeaseState::Minting, LeaseState::Live, LeaseState::RevocationPending]);
    let kinds = vec![Revocability::Immediate, Revocability::Bounded { seconds: 1 }, Revocability::None];
    check("revocabilities", &kinds);
}

#[test]
fn what_may_be_launched_and_how_the_broker_does() {
    let server_info = |scopes: Vec<ScopeInfo>| ServerInfo {
        name: server(),
        description: "Orders database".into(),
        owner: "data-platform".into(),
        tier: "development".into(),
        allowed: !scopes.is_empty(),
        reasons: vec!["not in a group of its access list".into()],
        approved: (!scopes.is_empty()).then(time),
        scopes,
    };
    let scope = |words: &[&str]| ScopeInfo {
        name: label("read"),
        tools: vec!["execute_sql".into()],
        resources: words.iter().map(|word| (*word).into()).collect(),
        prompts: words.iter().map(|word| (*word).into()).collect(),
        credentials: words.iter().map(|word| (*word).into()).collect(),
        limits: words.iter().map(|word| (*word).into()).collect(),
    };
    check("servers", &vec![server_info(vec![]), server_info(vec![scope(&["word"]), scope(&[])])]);
    let provider = ProviderInfo {
        name: label("bao"),
        kind: "vault".into(),
        ok: false,
        detail: "sealed".into(),
        hint: Some("unseal it".into()),
    };
    let health = |providers| Health {
        version: "0.1.0".into(),
        protocol: PROTOCOL,
        mode: "user".into(),
        warnings: vec!["the key is in a file".into()],
        providers,
    };
    check("health", &health(vec![]));
    check("health.providers", &health(vec![provider]));
}

#[test]
fn the_kill_switch() {
    check(
        "revoke-requests",
        &vec![
            RevokeRequest::Launch(launch()),
            RevokeRequest::Session(session()),
            RevokeRequest::User("alice".into()),
            RevokeRequest::Server(server()),
            RevokeRequest::All,
        ],
    );
    let report = RevokeReport {
        launches: 2,
        still_running: 1,
        verified: 1,
        not_revocable: 0,
        expired: 0,
        pending: vec![lease_info()],
        unlisted_pending: 0,
        withheld: vec![],
    };
    check("revoke-report", &report);
    let bounded = RevokeReport { not_revocable: 1, pending: vec![], withheld: vec![withheld()], ..report };
    check("revoke-report.withheld", &bounded);
}

#[test]
fn the_paths() {
    let table = BTreeMap::from([
        ("health", paths::HEALTH),
        ("session", paths::SESSION),
        ("lock", paths::SESSION_LOCK),
        ("unlock", paths::SESSION_UNLOCK),
        ("servers", paths::SERVERS),
        ("launches", paths::LAUNCHES),
        ("confirmations", paths::CONFIRMATIONS),
        ("admin sessions", paths::ADMIN_SESSIONS),
        ("admin launches", paths::ADMIN_LAUNCHES),
        ("admin leases", paths::ADMIN_LEASES),
        ("admin revoke", paths::ADMIN_REVOKE),
        ("admin approvals", paths::ADMIN_APPROVALS),
        ("admin trials", paths::ADMIN_TRIALS),
        ("upgrade", paths::UPGRADE),
        ("system socket", paths::SYSTEM_SOCKET),
        ("system admin socket", paths::SYSTEM_ADMIN_SOCKET),
        ("variable", paths::SOCKET_VARIABLE),
    ]);
    check::<BTreeMap<String, String>>(
        "paths",
        &table.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    );
}

/// An unknown key or a missing one is refused, not guessed.
#[test]
fn what_is_not_understood_is_refused() {
    let read = |text: &str| serde_json::from_str::<LaunchRequest>(text).is_ok();
    assert!(read(r#"{"protocol": 3, "want": true, "server": "orders-db"}"#));
    for bad in [
        r#"{"protocol": 3, "want": true}"#,
        r#"{"server": "orders-db"}"#,
        r#"{"protocol": 3, "want": true, "server": "orders-db", "user": "root"}"#,
        r#"{"protocol": 3, "want": true, "server": "../etc"}"#,
        r#"{"protocol": 3, "want": true, "server": "status"}"#,
        r#"{"protocol": 3, "want": true, "server": "a", "server": "b"}"#,
        r#"{"protocol": -1, "server": "a"}"#,
    ] {
        assert!(!read(bad), "{bad}");
    }
    for bad in [
        r#"{"type": "ticket"}"#,
        r#"{"type": "shutdown"}"#,
        r"{}",
        r#"{"type": "end", "reason": "whim", "hint": ""}"#,
    ] {
        assert!(serde_json::from_str::<ToLauncher>(bad).is_err(), "{bad}");
    }
}
