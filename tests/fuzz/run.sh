#!/usr/bin/env bash
# Runs every fuzz target for the given number of seconds (default 600), one after the other; stops at the first finding.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
# libFuzzer's flags are unstable options of rustc; this lets the stable compiler take them.
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list --fuzz-dir .); do
    mkdir -p "corpus/$target"
    echo "== $target, $seconds s"
    cargo fuzz run --fuzz-dir . "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10
done
