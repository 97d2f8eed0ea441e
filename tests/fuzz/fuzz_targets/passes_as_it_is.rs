//! Any clean message, made of the bytes: it passes as it is, in whatever pieces it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_run::proxy::filter::checks::{self, Dice};

fuzz_target!(|bytes: &[u8]| {
    checks::any_message_passes(&checks::filter(), &mut Dice::of(bytes));
});
