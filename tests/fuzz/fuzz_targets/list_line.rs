//! Any line of a server: what it lists is shown as far as it is allowed, or not at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_run::proxy::filter::checks;

fuzz_target!(|bytes: &[u8]| {
    // A line as the relay gets it holds no line feed.
    if let Some(line) = std::str::from_utf8(bytes).ok().filter(|line| !line.contains('\n')) {
        checks::list_line(&checks::filter(), line);
    }
});
