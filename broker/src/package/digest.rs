//! Digests of what is approved: of a definition, and of a tool as a server shows it. Both are SHA-256 (FIPS 180-4)
//! over a canonical form, so that two texts which mean the same count as the same.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use mcp_broker_proto::launch::Injection;
use mcp_broker_proto::names::Label;
use serde::Serialize;
use serde_json::Value;

use crate::config::ServerDefinition;

/// What of a definition changes what is run or shown. The order of its fields is its canonical form: a change of
/// it needs another [`FORM`], and asks for every approval again.
#[derive(Serialize)]
struct Definition<'a> {
    form: u32,
    command: &'a [String],
    extra_args: &'a [String],
    env: &'a BTreeMap<String, String>,
    cwd: &'a str,
    scopes: Vec<Scope<'a>>,
}

#[derive(Serialize)]
struct Scope<'a> {
    name: &'a Label,
    tools: &'a [String],
    resources: &'a [String],
    prompts: &'a [String],
    inject: &'a [Injection],
}

/// The revision of the canonical form of a definition.
const FORM: u32 = 1;

/// SHA-256 over what changes what is run or shown: command, arguments that may be added, variables, working
/// directory, and of each scope its name, its patterns and how values reach its instance. Limits, rules for
/// arguments and the credentials' own keys are not in it. In lower-case hexadecimal.
#[must_use]
pub fn definition_digest(server: &ServerDefinition) -> String {
    let scopes = server.scopes.iter().map(|scope| Scope {
        name: &scope.name,
        tools: &scope.tools,
        resources: &scope.resources,
        prompts: &scope.prompts,
        inject: &scope.inject,
    });
    let definition = Definition {
        form: FORM,
        command: &server.command,
        extra_args: &server.extra_args,
        env: &server.env,
        cwd: &server.cwd,
        scopes: scopes.collect(),
    };
    // Serialising these types into memory cannot fail.
    sha256(&serde_json::to_vec(&definition).unwrap_or_default())
}

/// A value as text with its keys sorted and no space between: the form that is stored and compared.
#[must_use]
pub fn canonical(value: &Value) -> String {
    // The map of a `Value` is sorted unless serde_json is built otherwise; a test holds that it is not.
    value.to_string()
}

/// SHA-256 of a tool's definition in its [`canonical`] form, in lower-case hexadecimal.
#[must_use]
pub fn tool_digest(canonical: &str) -> String {
    sha256(canonical.as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
