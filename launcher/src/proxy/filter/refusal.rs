//! Errors that are answered here, as the protocol answers what is not there or is no request. Composed as whole
//! lines, without their line feed.

use serde_json::json;

use crate::proxy::talk::notice::Kind;

/// A request that is none (JSON-RPC 2.0 section 5.1).
const INVALID_REQUEST: i32 = -32600;
/// A method that is not there (JSON-RPC 2.0 section 5.1).
const NO_METHOD: i32 = -32601;
/// Parameters that cannot be (JSON-RPC 2.0 section 5.1).
const INVALID_PARAMS: i32 = -32602;
/// A resource that is not there (MCP 2025-11-25 and before; later [`INVALID_PARAMS`], SEP-2164).
const NOT_FOUND: i32 = -32002;

fn error(id: &str, code: i32, message: &str) -> String {
    let error = json!({ "code": code, "message": message });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// To a call of a tool that does not exist (MCP 2025-11-25, server/tools).
#[must_use]
pub fn unknown_tool(id: &str, name: &str) -> String {
    error(id, INVALID_PARAMS, &format!("Unknown tool: {}", shown(name)))
}

/// To a request for a prompt that does not exist.
#[must_use]
pub fn unknown_prompt(id: &str, name: &str) -> String {
    error(id, INVALID_PARAMS, &format!("Unknown prompt: {}", shown(name)))
}

/// To a request for a resource that does not exist.
#[must_use]
pub fn unknown_resource(id: &str, uri: &str, stateless: bool) -> String {
    let code = if stateless { INVALID_PARAMS } else { NOT_FOUND };
    let error = json!({ "code": code, "message": "Resource not found", "data": { "uri": shown(uri) } });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// To a request about a task that no instance runs for this client.
#[must_use]
pub fn unknown_task(id: &str) -> String {
    error(id, INVALID_PARAMS, "Task not found")
}

/// To a list request that the server knows as no method (JSON-RPC 2.0 section 5.1).
#[must_use]
pub fn unknown_method(id: &str) -> String {
    error(id, -32601, "Method not found")
}

/// To a cursor that nobody gave out.
#[must_use]
pub fn unknown_cursor(id: &str) -> String {
    error(id, INVALID_PARAMS, "Invalid cursor")
}

/// To a request whose id is that of another one which is open, or is kept for the relay.
#[must_use]
pub fn id_in_use(id: &str) -> String {
    error(id, INVALID_REQUEST, "a request of this id is open")
}

/// To `server/discover`, where the server that was approved knew no revision that has it.
#[must_use]
pub fn no_discovery(id: &str) -> String {
    error(id, NO_METHOD, "Method not found")
}

/// To a server whose request can be understood in two ways.
#[must_use]
pub fn ambiguous(id: &str) -> String {
    error(id, INVALID_REQUEST, "invalid request: a name stands there twice, or it is an answer as well")
}

/// To a request without what it needs.
#[must_use]
pub fn invalid_params(id: &str, what: &str) -> String {
    error(id, INVALID_PARAMS, what)
}

/// To the client, in place of an answer of a server that cannot be filtered.
#[must_use]
pub fn unclear_list(id: &str) -> String {
    own(
        id,
        "the server's list cannot be read",
        "tell the owner of the server; nothing of the list was passed on",
    )
}

/// To a server that asks the client what its definition does not let it ask.
#[must_use]
pub fn not_for_servers(id: &str, method: &str) -> String {
    let hint = "client_requests in the server's definition says what it may ask";
    own(id, &format!("this server may not ask the client for {method}"), hint)
}

fn own(id: &str, what: &str, hint: &str) -> String {
    let data = json!({ "reason": "refused", "hint": hint });
    let error = json!({ "code": Kind::Refused as i32, "message": what, "data": data });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// A name as far as it is said again: it may be as long as the line.
fn shown(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX_SHOWN)).unwrap_or(name)
}

/// The longest name that is said again, in bytes: as long as tools' names are (MCP 2025-11-25, server/tools), and URIs.
const MAX_SHOWN: usize = 1024;
