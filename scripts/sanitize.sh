#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run every suite's plain runner under ASan (with leaks) and UBSan, then under TSan. First show that
# each sanitizer catches a planted fault: a check that cannot fail is none.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
export UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1

must_fail() { # NAME COMMAND...
	local name=$1
	shift
	if "$@" >build/planted.log 2>&1; then
		echo "the planted $name was not caught" >&2
		exit 1
	fi
	grep -qE 'AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error' build/planted.log ||
		{ echo "the planted $name failed for another reason:" >&2; cat build/planted.log >&2; exit 1; }
	echo "planted $name: caught"
}
for preset in asan tsan; do
	cmake --preset $preset >/dev/null
	cmake --build --preset $preset -j "$jobs"
	plant=build/$preset/plant
	case $preset in
	asan)
		cc -g -fsanitize=address,undefined -fno-sanitize-recover=all tests/support/plant.c -o $plant -lpthread
		must_fail leak $plant leak
		must_fail overflow $plant overflow
		must_fail "undefined shift" $plant shift
		;;
	tsan)
		cc -g -fsanitize=thread tests/support/plant.c -o $plant -lpthread
		must_fail race $plant race
		;;
	esac
	# The install test builds consumers without the sanitizer; it belongs to the plain build.
	ctest --test-dir build/$preset --output-on-failure -j "$jobs" -E '^install/'
done
echo "sanitize: clean"
