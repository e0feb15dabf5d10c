#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that make bench shows: run.sh FOLDER-OF-THE-PROGRAMS. Results go to build/bench.tsv as well, and from there
# into the plots of docs/. One thread and two, for on more the libraries' own threads are what one would compare.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$1 results=build/bench.tsv cases=bench/cases/acceptance.txt
threads=(1)
[ "$(nproc)" -lt 2 ] || threads+=(2)
rm -f "$results"
for count in "${threads[@]}"; do
	"$programs/bench-step" "$count"
	"$programs/bench-ops" -p all -o "$results" "$cases" "$count" 0.2
done
# Both sides held to AVX2.
SPARSELAYER_CPU=avx2 "$programs/bench-ops" -p dense -o "$results" "$cases" 1 0.2
"$programs/bench-bits" "$cases"
"${SL_BENCH_VENV:-build/bench-venv}/bin/python" bench/plot.py "$results" docs
