# SPDX-License-Identifier: Apache-2.0
# What gpu-check.sh and gpu-bench.sh share: stages with time limits, their output written as it appears.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
OUT_DIR=${OUT_DIR:-build/gpu}
COMMIT=${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}
mkdir -p "$OUT_DIR"
report=$OUT_DIR/$(basename "$0" .sh).txt
: >"$report"
failed=0

say() { echo "$*" | tee -a "$report"; }

# stage NAME SECONDS COMMAND...: 77 is skipped, 124 ran out of time.
stage() {
	local name=$1 seconds=$2 status=0
	shift 2
	say "== $name (at most $seconds s)"
	timeout "$seconds" "$@" 2>&1 | tee -a "$report" || status=${PIPESTATUS[0]}
	case $status in
	0) say "-- $name: passed" ;;
	77) say "-- $name: skipped" ;;
	124) say "-- $name: OUT OF TIME" && failed=1 ;;
	*) say "-- $name: FAILED ($status)" && failed=1 ;;
	esac
	return 0
}

have_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name --format=csv,noheader >/dev/null 2>&1; }

# This machine's architecture alone, so that compiling takes seconds; without a GPU, Hopper's.
architecture() {
	local cap=
	cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ') || true
	echo "${cap:-90}"
}

configure() {
	local cuda=${CUDA_HOME:-/usr/local/cuda} generator=()
	command -v ninja >/dev/null && generator=(-G Ninja)
	cmake "${generator[@]}" -S scripts/gpu -B build/gpu-alone -DCMAKE_CUDA_ARCHITECTURES="$(architecture)" \
		-DCMAKE_CUDA_COMPILER="$(command -v nvcc || echo "$cuda/bin/nvcc")" -DCUDAToolkit_ROOT="$cuda"
}

build() { configure && cmake --build build/gpu-alone -j "${JOBS:-$(nproc)}" --target "$@"; }

heading() {
	say "# $1, commit $COMMIT, $(date -u +%Y-%m-%d)"
	say "device: $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -1 || true)"
	say "toolkit: $("$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p' || true)"
}
