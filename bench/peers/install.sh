#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Put the libraries that the benchmarks compare with into build/bench-venv (some 7 GB, most of it PyTorch's), and
# Debian's where they are missing. Does nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${SL_BENCH_VENV:-build/bench-venv}
scripts/install-deps.sh bench
cmp -s bench/peers/requirements.txt "$venv/installed.txt" && exit 0
mkdir -p build
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
cp bench/peers/requirements.txt "$venv/installed.txt"
