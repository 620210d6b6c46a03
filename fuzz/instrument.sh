#!/bin/sh
# Stands before rustc when the targets are built (`cargo xtask fuzz`): coverage counters and traced comparisons, as libFuzzer
# reads them, in our own crates. The flags are LLVM's and work on the stable toolchain. Other people's crates have none of
# them, so they are those that the workspace has built already.
case " $* " in
  *" --crate-name tidings"* | *" --crate-name any "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
