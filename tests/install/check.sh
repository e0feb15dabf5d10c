#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install into a scratch prefix, then build and run a C and a C++ consumer against it, by
# find_package and by pkg-config.
set -euo pipefail
build=$1 consumer=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
cmake -S "$consumer" -B "$scratch/build" -DCMAKE_PREFIX_PATH="$scratch/prefix" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
cmake --build "$scratch/build" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
"$scratch/build/consumer_c"
"$scratch/build/consumer_cxx"
if command -v pkg-config >/dev/null; then
	pc=$(dirname "$(find "$scratch/prefix" -name sparselayer.pc)")
	# The prefix was given at install time, not at configure time.
	flags=$(PKG_CONFIG_PATH=$pc pkg-config --define-variable=prefix="$scratch/prefix" --cflags --libs sparselayer)
	# shellcheck disable=SC2086
	cc -std=c99 -Wall -Wextra -Wpedantic -Werror "$consumer/consumer.c" $flags -Wl,-rpath,"${pc%/pkgconfig}" -o "$scratch/by_pkgconfig"
	"$scratch/by_pkgconfig"
fi
# Nothing but sl_ symbols is exported.
library=$(find "$scratch/prefix" -name 'libsparselayer.so' | head -n 1)
if nm -D --defined-only "$library" | awk '{print $3}' | grep -v '^sl_'; then
	echo "the library exports symbols that do not begin with sl_" >&2
	exit 1
fi
