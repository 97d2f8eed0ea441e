//! What a server's credentials are exposed to by the way in which they reach it, and which way would be better: notes
//! of `check`, one a server. A note is no warning, as many servers read nothing but variables.

use std::collections::BTreeSet;

use mcp_broker_proto::launch::Injection;

use crate::config::ServerDefinition;

/// The note on a server that gets credentials by its environment; nothing where it gets none.
pub(super) fn note(server: &ServerDefinition) -> Option<String> {
    let ways = server.scopes.iter().flat_map(|scope| &scope.inject);
    let exposed: Vec<_> =
        ways.filter(|way| matches!(way, Injection::Env { .. }) && !way.credentials().is_empty()).collect();
    let variables: BTreeSet<_> = exposed.iter().map(|way| format!("`{}`", way.name())).collect();
    let names = variables.into_iter().collect::<Vec<_>>().join(", ");
    let fields = exposed.iter().flat_map(|way| way.templates()).flat_map(|value| value.fields());
    let aws = fields.into_iter().any(|(_, field)| AWS_FIELDS.contains(&field));
    let better = if aws { AWS } else { FILE };
    (!exposed.is_empty()).then(|| format!("{names} {EXPOSED}; {better}"))
}

const AWS_FIELDS: &[&str] = &["secret_access_key", "session_token", "secret_key", "security_token"];
const EXPOSED: &str = "can be read by every program of the person (/proc/PID/environ) and by whatever the server \
    starts, and stays as it is until a new process takes the server's place";
const AWS: &str =
    "`{ aws = \"endpoint\" }` gives AWS SDKs credentials that refresh, and nothing in the environment";
const FILE: &str = "if the server can read a file, `{ file = \"VAR\", … }` refreshes while it runs";

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "what is not there must fail the test")]
mod tests {
    use super::*;
    use crate::config::testing::{BROKER, SERVER, load_files};

    fn check(inject: &str, want: &[&str]) {
        let text = format!(
            "{SERVER}[scope.a]\ntools = [\"x\"]\ncredential.c = {{ provider = \"any\" }}\ninject = [{inject}]\n"
        );
        let (config, found) = load_files(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]);
        let config = config.unwrap_or_else(|| panic!("{found:?}"));
        let note = note(config.servers.values().next().unwrap()).unwrap_or_default();
        assert_eq!(note.is_empty(), want.is_empty(), "{note}");
        assert!(want.iter().all(|part| note.contains(part)), "{note}");
    }

    #[test]
    fn notes() {
        check("{ file = \"A\", value = \"{c.x}\" }", &[]);
        check("{ aws = \"endpoint\" }", &[]);
        check("{ env = \"A\", value = \"{c.x}\" }", &["`A` can be read by", "`{ file = "]);
        check(
            "{ env = \"B\", value = \"{c.access_key_id}\" }, { env = \"A\", value = \"{c.secret_access_key}\" }",
            &["`A`, `B` can be read by", "`{ aws = \"endpoint\" }`"],
        );
    }
}
