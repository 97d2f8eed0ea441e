//! May this person launch this server now, and may this call of a tool go on: pure, no I/O, no clock. Whatever no
//! rule allows is denied, and only a [`Grant`] made here lets the rest of the broker mint.
#![forbid(unsafe_code)]

mod arguments;
mod call;
#[cfg(test)]
mod call_tests;
mod describe;
mod grant;
mod reason;
mod rule_words;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a name that does not parse must fail the test")]
pub(crate) mod testing;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use mcp_broker_proto::names::{Label, ServerName};
use mcp_broker_proto::problem::ErrorCode;

use crate::config::{ServerDefinition, nearest};

pub use call::{CallDecision, CallDenial, decide_call};
pub use describe::{ApprovedTools, approved_tools, describe, scope_of};
pub use grant::{Denial, Grant};
pub use reason::Reason;
pub use rule_words::limit_words;
pub use usage::{Meter, Usage};

/// Who asks, as the operating system knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Name of the account.
    pub user: String,
    /// Names of all groups of the account.
    pub groups: Vec<String>,
}

/// The answer. Both arms go into the audit log.
#[must_use]
#[derive(Debug)]
pub enum Decision {
    /// This launch, with these limits.
    Grant(Grant),
    /// No.
    Denial(Denial),
}

impl Decision {
    /// Each reason, in the order of the steps.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Grant(grant) => grant.reasons(),
            Self::Denial(denial) => &denial.reasons,
        }
    }
}

/// Decides whether `subject` may launch `server` with the extra arguments `args`. Every step is taken and
/// gives its reasons; one step that denies is enough, and none of them can undo another's denial.
pub fn decide(
    servers: &BTreeMap<ServerName, Arc<ServerDefinition>>,
    server: &ServerName,
    subject: &Subject,
    args: &[String],
) -> Decision {
    let Some(definition) = servers.get(server) else {
        return Decision::Denial(unknown(servers, server, subject));
    };
    let mut reasons = vec![Reason::KnownServer, Reason::TierAllowed { tier: definition.tier.as_str() }];
    reasons.extend(access(definition, subject));
    reasons.extend(extra_arguments(definition, args));
    match reasons.iter().find_map(Reason::denies) {
        Some(code) => Decision::Denial(Denial {
            code,
            reasons,
            server: server.clone(),
            user: subject.user.clone(),
            nearest: None,
        }),
        None => Decision::Grant(Grant::new(Arc::clone(definition), args.to_vec(), reasons)),
    }
}

/// The proof for a trial of one scope, where there is that scope. `[access]` has no say in it: an admin tries a
/// server before anybody may use it.
#[must_use]
pub fn trial(
    servers: &BTreeMap<ServerName, Arc<ServerDefinition>>,
    server: &ServerName,
    scope: &Label,
) -> Option<Grant> {
    let definition = servers.get(server)?;
    let reasons = vec![Reason::KnownServer, Reason::TierAllowed { tier: definition.tier.as_str() }];
    Grant::new(Arc::clone(definition), Vec::new(), reasons).of_scope(scope)
}

/// Names nothing that this person may not use.
fn unknown(
    servers: &BTreeMap<ServerName, Arc<ServerDefinition>>,
    server: &ServerName,
    subject: &Subject,
) -> Denial {
    let usable = servers.values().filter(|known| access(known, subject).iter().all(|r| r.denies().is_none()));
    let nearest = nearest(server.as_str(), usable.map(|known| known.name.as_str()));
    Denial {
        code: ErrorCode::UnknownServer,
        reasons: vec![Reason::UnknownServer],
        server: server.clone(),
        user: subject.user.clone(),
        nearest: nearest.map(str::to_owned),
    }
}

/// The reasons of `[access]`; never empty.
fn access(definition: &ServerDefinition, subject: &Subject) -> Vec<Reason> {
    let access = &definition.access;
    let mut reasons = Vec::new();
    if access.users.contains(&subject.user) {
        reasons.push(Reason::UserListed);
    }
    let listed = access.groups.iter().filter(|group| subject.groups.contains(group));
    reasons.extend(listed.map(|group| Reason::GroupListed { group: group.clone() }));
    if reasons.is_empty() {
        let nobody = access.users.is_empty() && access.groups.is_empty();
        reasons.push(if nobody { Reason::NobodyListed } else { Reason::NotListed });
    }
    reasons
}

/// One reason for the extra arguments, or one for each that is not allowed; never empty.
fn extra_arguments(definition: &ServerDefinition, args: &[String]) -> Vec<Reason> {
    if args.is_empty() {
        return vec![Reason::NoExtraArguments];
    }
    if definition.extra_args.is_empty() {
        return vec![Reason::ExtraArgumentsForbidden];
    }
    let allowed = |arg: &String| {
        definition.extra_args.iter().any(|pattern| mcp_broker_proto::pattern::matches(pattern, arg))
    };
    let positions = args.iter().enumerate().filter(|(_, arg)| !allowed(arg)).map(|(index, _)| index + 1);
    let refused: Vec<_> = positions.map(|position| Reason::ExtraArgumentNotAllowed { position }).collect();
    if refused.is_empty() { vec![Reason::ExtraArgumentsAllowed { count: args.len() }] } else { refused }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a decision of the wrong kind must fail the test")]
mod tests {
    use super::*;
    use crate::config::{Access, plain};

    type Servers = BTreeMap<ServerName, Arc<ServerDefinition>>;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn server(name: &str, users: &[&str], groups: &[&str], extra_args: &[&str]) -> ServerDefinition {
        let access = Access { users: strings(users), groups: strings(groups) };
        ServerDefinition { extra_args: strings(extra_args), access, ..plain::server(name) }
    }

    fn servers(all: impl IntoIterator<Item = ServerDefinition>) -> Servers {
        all.into_iter().map(|server| (server.name.clone(), Arc::new(server))).collect()
    }

    fn ask(servers: &Servers, name: &str, user: &str, groups: &[&str], args: &[&str]) -> Decision {
        let subject = Subject { user: user.to_owned(), groups: strings(groups) };
        decide(servers, &name.parse().unwrap(), &subject, &strings(args))
    }

    /// Server `s` with these lists, asked by `alice` of the groups `data` and `dev`.
    fn check(users: &[&str], groups: &[&str], patterns: &[&str], args: &[&str], want: Result<(), ErrorCode>) {
        let servers = servers([server("s", users, groups, patterns)]);
        let got = match ask(&servers, "s", "alice", &["data", "dev"], args) {
            Decision::Grant(grant) => {
                assert_eq!((grant.server().name.as_str(), grant.args()), ("s", &strings(args)[..]));
                Ok(())
            }
            Decision::Denial(denial) => Err(denial.code),
        };
        assert_eq!(got, want, "{users:?} {groups:?} {patterns:?} {args:?}");
    }

    #[test]
    fn table() {
        check(&[], &[], &[], &[], Err(ErrorCode::NoAccess));
        check(&["alice"], &[], &[], &[], Ok(()));
        check(&["bob", "alice"], &[], &[], &[], Ok(()));
        check(&["Alice", "alic", "alice "], &[], &[], &[], Err(ErrorCode::NoAccess));
        check(&["data"], &[], &[], &[], Err(ErrorCode::NoAccess));
        check(&[], &["alice"], &[], &[], Err(ErrorCode::NoAccess));
        check(&[], &["dev"], &[], &[], Ok(()));
        check(&["bob"], &["ops", "data"], &[], &[], Ok(()));
        check(&["alice"], &[], &[], &["x"], Err(ErrorCode::ArgumentsNotAllowed));
        check(&["alice"], &[], &["--db=*"], &["--db=x", "--db="], Ok(()));
        check(&["alice"], &[], &["--db=*"], &["--db=x", "--dc=x"], Err(ErrorCode::ArgumentsNotAllowed));
        check(&["alice"], &[], &["*"], &["x\0"], Err(ErrorCode::ArgumentsNotAllowed));
        check(&["bob"], &[], &["*"], &["x"], Err(ErrorCode::NoAccess));
        check(&["bob"], &[], &[], &["x"], Err(ErrorCode::NoAccess));
    }

    #[test]
    fn reasons_for_extra_arguments() {
        for (patterns, args, want) in [
            (&[][..], &[][..], Reason::NoExtraArguments),
            (&[], &["x"], Reason::ExtraArgumentsForbidden),
            (&["x"], &["x", "x"], Reason::ExtraArgumentsAllowed { count: 2 }),
            (&["x"], &["x", "y"], Reason::ExtraArgumentNotAllowed { position: 2 }),
        ] {
            let servers = servers([server("s", &["alice"], &[], patterns)]);
            let decision = ask(&servers, "s", "alice", &[], args);
            let tier = Reason::TierAllowed { tier: "development" };
            assert_eq!(decision.reasons(), [Reason::KnownServer, tier, Reason::UserListed, want]);
        }
    }

    #[test]
    fn no_server_means_no() {
        let Decision::Denial(denial) = ask(&Servers::new(), "s", "root", &["root"], &[]) else { panic!() };
        assert_eq!(
            (denial.code, denial.reasons.as_slice()),
            (ErrorCode::UnknownServer, &[Reason::UnknownServer][..])
        );
    }

    #[test]
    fn the_nearest_server_is_one_the_person_may_use() {
        let servers =
            servers([server("orders-db", &["alice"], &[], &[]), server("orders-dc", &["bob"], &[], &[])]);
        for (user, want) in [
            ("alice", "did you mean `orders-db`? `mcp-run servers` lists yours"),
            ("bob", "did you mean `orders-dc`? `mcp-run servers` lists yours"),
            ("eve", "`mcp-run servers` lists the servers that there are"),
        ] {
            let Decision::Denial(denial) = ask(&servers, "orders-dd", user, &[], &[]) else { panic!() };
            assert_eq!(denial.to_problem().hint, want);
        }
    }

    #[test]
    fn no_argument_is_repeated() {
        let servers = servers([server("s", &["alice"], &[], &["-a"])]);
        let Decision::Denial(denial) = ask(&servers, "s", "alice", &[], &["-a", "canary"]) else { panic!() };
        let problem = denial.to_problem();
        let said = format!("{:?} {} {}", denial.reasons, problem.title, problem.hint);
        assert!(!said.contains("canary"), "{said}");
        assert!(said.contains("position: 2"), "{said}");
    }

    /// Every combination of lists and callers, against the rule in other words.
    #[test]
    fn granted_only_where_every_step_agrees() {
        let names: [&[&str]; 4] = [&[], &["alice"], &["bob"], &["alice", "bob"]];
        let patterns: [&[&str]; 3] = [&[], &["a*"], &["a*", "b"]];
        let arguments: [&[&str]; 5] = [&[], &["ab"], &["b"], &["ab", "b"], &["c", "ab"]];
        let mut granted = 0;
        for users in names {
            for groups in names {
                for extra in patterns {
                    for args in arguments {
                        let servers = servers([server("s", users, groups, extra)]);
                        let listed = users.contains(&"alice") || groups.contains(&"bob");
                        let fits = |arg: &&str| {
                            extra.iter().any(|p| *p == *arg || (*p == "a*" && arg.starts_with('a')))
                        };
                        let want = listed && args.iter().all(fits);
                        let decision = ask(&servers, "s", "alice", &["bob"], args);
                        assert_eq!(
                            matches!(decision, Decision::Grant(_)),
                            want,
                            "{users:?} {groups:?} {extra:?} {args:?}"
                        );
                        let denied = decision.reasons().iter().any(|reason| reason.denies().is_some());
                        assert_eq!(denied, !want);
                        granted += u32::from(want);
                    }
                }
            }
        }
        assert!(granted > 0);
    }

    /// Adding a reason to deny to a request never turns a denial into a grant.
    #[test]
    fn a_reason_to_deny_never_grants() {
        let worse: [fn(&mut ServerDefinition, &mut Vec<&str>); 4] = [
            |server, _| server.access.users.clear(),
            |server, _| server.access.groups.clear(),
            |server, _| server.extra_args.clear(),
            |_, args| args.push("unlisted"),
        ];
        let mut turned = 0;
        for users in [&["alice"][..], &[]] {
            for groups in [&["data"][..], &[]] {
                for args in [vec![], vec!["-a"], vec!["-b"]] {
                    let before = server("s", users, groups, &["-a"]);
                    let granted = matches!(
                        ask(&servers([before.clone()]), "s", "alice", &["data"], &args),
                        Decision::Grant(_)
                    );
                    for change in worse {
                        let (mut after, mut args) = (before.clone(), args.clone());
                        change(&mut after, &mut args);
                        let still = matches!(
                            ask(&servers([after]), "s", "alice", &["data"], &args),
                            Decision::Grant(_)
                        );
                        assert!(granted || !still, "{before:?} {args:?}");
                        turned += u32::from(granted && !still);
                    }
                }
            }
        }
        assert!(turned > 0);
    }
}
