//! Injection by environment: the value is a variable of the server, and of whatever it starts.

use mcp_broker_proto::Secret;
use mcp_broker_proto::launch::Injection;
use zeroize::Zeroizing;

use super::{Building, Injector};
use crate::failure::Failure;

/// Sets a variable.
pub(super) struct Env;

impl Injector for Env {
    fn takes(&self, injection: &Injection) -> bool {
        matches!(injection, Injection::Env { .. })
    }

    fn inject(&self, name: &str, value: Secret, into: &mut Building<'_>) -> Result<(), Failure> {
        // EXPOSE: the server's environment, in a plan that wipes it when dropped, right after the start.
        let bytes = value.expose(|text| Zeroizing::new(text.as_bytes().to_vec()));
        into.plan.environment.insert(name.to_owned(), bytes);
        Ok(())
    }
}
