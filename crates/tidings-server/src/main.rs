//! The binary `tidings`.
//!
//! Owns: nothing. Does not know: anything; see the library beside it.
//! Flow: the process → `tidings_server::main` → its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidings_server::main()
}
