//! Injection by environment: the value is a variable of the server, and of whatever it starts.

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

    fn inject(&self, injection: &Injection, mut into: Building<'_>) -> Result<(), Failure> {
        let Injection::Env { name, value } = injection else { return Ok(()) };
        let value = into.render(name, value)?;
        // EXPOSE: the server's environment, in a plan that wipes it when dropped, right after the start.
        let bytes = value.expose(|text| Zeroizing::new(text.as_bytes().to_vec()));
        into.set(name, bytes);
        Ok(())
    }
}
