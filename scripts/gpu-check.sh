#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build the CUDA module for this machine's GPU and run its tests on it, the sanitizers over a short list, and a short
# benchmark. Needs a compiler, CMake and CUDA; downloads nothing. Under 7 minutes on 16 cores.
#   OUT_DIR  where results go, as they appear (default build/gpu); record.md there is an entry for docs/gpu-record.md
#   COMMIT   what is checked (default: git's HEAD)
set -uo pipefail
source "$(dirname "$0")/gpu/common.sh"
heading gpu-check
stage build 200 bash -c "source scripts/gpu/common.sh && build gpu-tests gpu-bench" gpu-check
tests=build/gpu-alone/gpu-tests
if ! have_gpu; then
	say "gpu-check: there is no usable GPU here, so nothing was run; what is built is in build/gpu-alone"
	exit $((failed ? 1 : 77))
fi
stage tests 90 "$tests"
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [ -x "$sanitizer" ]; then
	for tool in memcheck racecheck; do
		for list in cuda_ptx own_products/tensor_cores_in own_products/patterns cuda_products/sddmm cuda_guest/captures; do
			stage "$tool $list" 25 "$sanitizer" --tool "$tool" --error-exitcode 9 "$tests" "$list"
		done
	done
else
	say "-- sanitizers: skipped, compute-sanitizer is not there"
fi
stage benchmark 60 build/gpu-alone/gpu-bench quick
{
	echo "## $(date -u +%Y-%m-%d), commit $COMMIT"
	echo
	sed -n 's/^device: /- Device, driver, memory: /p; s/^toolkit: /- Toolkit: /p' "$report"
	grep -E '^-- ' "$report" | sed 's/^-- /- /'
	grep -E '^[0-9]+ passed' "$report" | sed 's/^/- Tests: /' | head -1
	echo
	echo '```'
	sed -n '/^== benchmark/,$p' "$report" | grep -E '^(spmm|sddmm|RESULT|#)'
	echo '```'
} >"$OUT_DIR/record.md"
say "entry for docs/gpu-record.md: $OUT_DIR/record.md"
exit "$failed"
