#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build the CUDA module and run on a GPU what CI runs on the fake one. The report goes to
# build/gpu-check.log and, where OUT names a folder, there too; its heading is what docs/gpu-record.md wants.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset release -DSPARSELAYER_CUDA=ON >/dev/null
cmake --build --preset release -j "$(nproc)" >build/gpu-build.log 2>&1 || { tail -40 build/gpu-build.log >&2; exit 1; }
if build/release/tools/sparselayer devices | grep -q '^cuda.*not usable'; then
	build/release/tools/sparselayer devices >&2
	echo "gpu-check: there is no usable GPU here, so nothing was checked" >&2
	exit 1
fi
report=build/gpu-check.log
status=0
{
	echo "# gpu-check of $(git rev-parse --short HEAD 2>/dev/null || echo 'an export')"
	nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
	build/release/tools/sparselayer devices
	build/release/tests/fake_cuda/gpu_cuda_module
} >"$report" 2>&1 || status=$?
cat "$report"
if [ -n "${OUT:-}" ]; then cp "$report" "$OUT/"; fi
exit "$status"
