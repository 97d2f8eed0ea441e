//! Routes and default places, so that both programs spell them once.

use std::path::{Path, PathBuf};

/// `GET`: is the broker there, which version.
pub const HEALTH: &str = "/v1/health";
/// `GET` status, `POST` sign in, `DELETE` log out.
pub const SESSION: &str = "/v1/session";
/// `POST`: lock the session.
pub const SESSION_LOCK: &str = "/v1/session/lock";
/// `POST`: unlock the session.
pub const SESSION_UNLOCK: &str = "/v1/session/unlock";
/// `GET`: what the caller may launch.
pub const SERVERS: &str = "/v1/servers";
/// `POST` with [`UPGRADE`]: the launch channel.
pub const LAUNCHES: &str = "/v1/launches";

/// `POST` below it, with the id of a call: what the person says to it.
pub const CONFIRMATIONS: &str = "/v1/confirmations";

/// Admin socket, `GET`: all sessions.
pub const ADMIN_SESSIONS: &str = "/v1/admin/sessions";
/// Admin socket, `GET`: all launches.
pub const ADMIN_LAUNCHES: &str = "/v1/admin/launches";
/// Admin socket, `GET`: all leases that are not settled.
pub const ADMIN_LEASES: &str = "/v1/admin/leases";
/// Admin socket, `POST`: the kill switch.
pub const ADMIN_REVOKE: &str = "/v1/admin/revoke";
/// Admin socket, `GET`: what was approved, `POST`: approve a server as it showed itself.
pub const ADMIN_APPROVALS: &str = "/v1/admin/approvals";
/// Admin socket, `POST` with [`UPGRADE`]: credentials for a trial run.
pub const ADMIN_TRIALS: &str = "/v1/admin/trials";

/// Token of the `Upgrade` header (RFC 9110 section 7.8) for the launch channel.
pub const UPGRADE: &str = "mcp-broker-launch/1";

/// Variable that names the broker's socket to `mcp-run`.
pub const SOCKET_VARIABLE: &str = "MCP_BROKER_SOCKET";

/// The system broker's socket.
pub const SYSTEM_SOCKET: &str = "/run/mcp-broker/broker.sock";
/// The system broker's admin socket.
pub const SYSTEM_ADMIN_SOCKET: &str = "/run/mcp-broker/admin.sock";
/// The account that the system broker runs under.
pub const SYSTEM_ACCOUNT: &str = "_mcpbroker";

/// Name of the broker's directory below a base directory.
pub const DIRECTORY: &str = "mcp-broker";
/// Name of the socket below the broker's runtime directory.
pub const SOCKET_NAME: &str = "broker.sock";
/// Name of the admin socket below the broker's runtime directory.
pub const ADMIN_SOCKET_NAME: &str = "admin.sock";

/// The user broker's socket below a runtime directory (`XDG_RUNTIME_DIR`).
#[must_use]
pub fn user_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join(DIRECTORY).join(SOCKET_NAME)
}

/// The runtime directory of a user where `XDG_RUNTIME_DIR` is not set: MCP clients rarely hand it on.
#[must_use]
pub fn runtime_dir_of(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}"))
}
