//! Three lines over the library, so that tests run the very same program.
fn main() -> std::process::ExitCode {
    mcp_run::main()
}
