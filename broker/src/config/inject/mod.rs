//! Reads how the credentials of a scope reach its instance: which way each takes, and that no variable is set by two
//! of them. What each way takes besides is read beside this. Renders nothing.

use std::collections::{BTreeMap, BTreeSet};

use mcp_broker_proto::launch::Injection;

use super::credential::Credential;
use super::reader::Reader;
use super::variables::check_variable;

mod authority;
mod choice;
mod cloud;
mod file;
#[cfg(test)]
mod tests;
mod value;

/// What the ways of one scope are read with.
struct Scene<'a> {
    /// `[env]` of the server.
    env: &'a BTreeMap<String, String>,
    credentials: &'a [Credential],
    /// Variables that have been given out, each with the way that has it.
    taken: BTreeMap<String, &'static str>,
}

/// One way: the key that asks for it, the other keys that it takes, and its reader.
struct Way {
    key: &'static str,
    takes: &'static [&'static str],
    read: fn(&Reader<'_>, &mut Scene<'_>) -> Option<Injection>,
}

const WAYS: &[Way] = &[
    Way { key: "env", takes: &["value"], read: env_way },
    Way { key: "file", takes: &["value", "values", "format", "reread", "signal"], read: file::file },
    Way { key: "fd", takes: &["value"], read: fd_way },
    Way { key: "aws", takes: &["credential"], read: cloud::aws },
    Way {
        key: "kubeconfig",
        takes: &["credential", "server", "authority", "namespace"],
        read: cloud::kubeconfig,
    },
];

/// Reads `inject` of a scope; mistakes are noted.
pub(super) fn inject(
    table: &Reader<'_>,
    env: &BTreeMap<String, String>,
    credentials: &[Credential],
) -> Vec<Injection> {
    let mut scene = Scene { env, credentials, taken: BTreeMap::new() };
    let mut ways = Vec::new();
    for one in table.tables("inject") {
        let asked: Vec<_> = WAYS.iter().filter(|way| one.has(way.key)).collect();
        if let [way] = asked.as_slice() {
            not_of_this_way(&one, way);
            ways.extend((way.read)(&one, &mut scene));
        } else {
            let message = format!("`{}` needs one of {}", one.path_of_table(), list(WAYS.iter()));
            one.error_at(&one.span(), message, INJECT_HINT);
            WAYS.iter().flat_map(|way| way.takes).for_each(|key| one.known(key));
        }
        one.finish();
    }
    ways
}

/// Refuses keys that only other ways take.
fn not_of_this_way(one: &Reader<'_>, way: &Way) {
    let others: BTreeSet<_> = WAYS.iter().flat_map(|way| way.takes).collect();
    for key in others.into_iter().filter(|key| !way.takes.contains(key)) {
        let of = list(WAYS.iter().filter(|way| way.takes.contains(key)));
        one.belongs_elsewhere(key, &format!("remove it: it goes with {of}, not with `{}`", way.key));
    }
}

fn list<'w>(ways: impl Iterator<Item = &'w Way>) -> String {
    let keys: Vec<_> = ways.map(|way| format!("`{}`", way.key)).collect();
    match keys.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn env_way(one: &Reader<'_>, scene: &mut Scene<'_>) -> Option<Injection> {
    let name = scene.variable(one, "env");
    let value = value::only(one, scene.credentials);
    Some(Injection::Env { name: name?, value: value? })
}

fn fd_way(one: &Reader<'_>, scene: &mut Scene<'_>) -> Option<Injection> {
    let name = scene.variable(one, "fd");
    let value = value::only(one, scene.credentials);
    Some(Injection::Fd { name: name?, value: value? })
}

impl Scene<'_> {
    /// The variable that `key` names; nothing else may set it.
    fn variable(&mut self, one: &Reader<'_>, key: &'static str) -> Option<String> {
        let name = one.text(key)?;
        if let Err(bad) = check_variable(&name) {
            one.error(key, format!("`{}` {}", one.name(key), bad.message()), bad.hint());
            return None;
        }
        self.take(one, key, &[&name]);
        Some(name)
    }

    /// The variables are set by the way `key`. One that is set by something else is told of; the first will do.
    fn take(&mut self, one: &Reader<'_>, key: &'static str, names: &[&str]) {
        let mut told = false;
        for &name in names {
            let other = self.taken.insert(name.to_owned(), key);
            let defined = self.env.contains_key(name);
            if told || !defined && other.is_none() {
                continue;
            }
            told = true;
            let place = if defined { "is set in [env] too" } else { "is injected twice" };
            let (what, hint) = match [Some(key), other].contains(&Some("aws")) {
                true => (format!("variable `{name}` is set besides `aws`"), AWS_HINT),
                false => (format!("variable `{name}` {place}"), "remove one of the two"),
            };
            one.error(key, what, hint);
        }
    }
}

const AWS_HINT: &str = "remove one of the two: `aws` alone says where SDKs find their credential";
const INJECT_HINT: &str = "write `{ env = \"VAR\", value = \"…\" }` or `{ file = \"VAR\", value = \"…\" }`; \
    `mcp-broker schema` describes the others";
