//! Any bytes from a client: no server carries out a tool that was not decided on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_run::proxy::filter::checks;

fuzz_target!(|bytes: &[u8]| {
    checks::client_stream(&checks::filter(), bytes);
});
