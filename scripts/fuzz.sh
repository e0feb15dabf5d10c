#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzz each file reader for SECONDS_EACH (default 60) with libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang >/dev/null || { echo "fuzzing needs clang: apt-get install clang libclang-rt-14-dev" >&2; exit 1; }
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$(nproc)"
for target in build/fuzz/tests/fuzz/fuzz_*; do
	[ -x "$target" ] && [ -f "$target" ] || continue
	name=$(basename "$target")
	mkdir -p "build/corpus/$name"
	seeds=()
	[ -d tests/data ] && seeds=(tests/data)
	echo "== $name"
	"$target" -max_total_time="${SECONDS_EACH:-60}" -timeout=20 -rss_limit_mb=4096 -verbosity=0 -print_final_stats=1 \
		"build/corpus/$name" "${seeds[@]}"
done
