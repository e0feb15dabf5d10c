#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The full benchmark of the CUDA module on this machine's GPU, beside cuSPARSE's best algorithm with preprocessing, cuBLAS,
# and PyTorch where it is installed. Under 9 minutes. OUT_DIR and COMMIT as in gpu-check.sh.
set -uo pipefail
source "$(dirname "$0")/gpu/common.sh"
heading gpu-bench
stage build 120 bash -c "source scripts/gpu/common.sh && build gpu-bench" gpu-bench
if ! have_gpu; then
	say "gpu-bench: there is no usable GPU here, so nothing was timed; what is built is in build/gpu-alone"
	exit $((failed ? 1 : 77))
fi
stage products 270 build/gpu-alone/gpu-bench full
stage challenge 90 build/gpu-alone/gpu-bench challenge
if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
	stage torch 60 python3 bench/gpu/torch_step.py
else
	say "-- torch: skipped, PyTorch with CUDA is not installed"
fi
grep -E '^RESULT ' "$report" >"$OUT_DIR/results.txt" || true
exit "$failed"
