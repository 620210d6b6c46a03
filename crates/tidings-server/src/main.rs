//! The binary `tidings`.
//!
//! Owns: nothing. Does not know: anything; see the library beside it.
//! Flow: the process → `tidings_server::main` → its exit code.

use std::process::ExitCode;

/// Streams live for hours among requests that live for milliseconds: an allocator that keeps sizes apart does not leave
/// holes between them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidings_server::main()
}
