//! What a launcher is told of its launch: the plan, made from the definition that its grant holds.

use mcp_broker_proto::names::LaunchId;
use mcp_broker_proto::plan::{Plan, Record, ScopePlan};

use crate::config::{Scope, ServerDefinition, Start};

/// The plan of a launch, without the record: that is large, and shared until it is sent.
pub(super) fn of(launch: LaunchId, server: &ServerDefinition, record: Option<&Record>) -> Plan {
    Plan {
        launch,
        server: server.name.clone(),
        scopes: server.scopes.iter().map(scope).collect(),
        client_requests: server.client_requests.iter().copied().collect(),
        lazy: is_lazy(server, record.is_some()),
        record: None,
    }
}

/// Whether nothing of a server is started before a request needs it: what a client asks first must be known.
pub(super) fn is_lazy(server: &ServerDefinition, approved: bool) -> bool {
    approved && server.start == Start::Lazy
}

fn scope(scope: &Scope) -> ScopePlan {
    let named =
        |rules: &crate::config::ToolRules| (rules.tools.clone(), rules.rules.keys().cloned().collect());
    ScopePlan {
        name: scope.name.clone(),
        revision: 0,
        tools: scope.tools.clone(),
        resources: scope.resources.clone(),
        prompts: scope.prompts.clone(),
        result_bytes: scope.limits.result_size,
        argument_bytes: scope.limits.argument_size,
        named: scope.arguments.iter().map(named).collect(),
        whole_arguments: scope.audit_arguments,
    }
}
