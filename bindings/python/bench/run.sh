#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Python package's figures, in the environment that make test-python made.
#   run.sh "BACKENDS" "PARTS"   of torch, jax, tensorflow; of calls, epochs, accuracy, layers
# A part of one backend takes at most about a minute; accuracy some minutes.
set -euo pipefail
cd "$(dirname "$0")"
python=../../../build/test-python/bin/python
[ -x $python ] || { echo "make test-python makes the environment for it" >&2; exit 1; }
export TF_CPP_MIN_LOG_LEVEL=3
for part in $2; do
	case $part in
	calls) for backend in $1; do $python bench_calls.py "$backend"; done ;;
	epochs) for backend in $1; do KERAS_BACKEND=$backend $python bench_keras.py; done ;;
	accuracy) for backend in $1; do KERAS_BACKEND=$backend $python bench_keras.py 10; done ;;
	layers) $python ../examples/three_layers.py ;; # TensorFlow's
	*) echo "there is no part $part; there are calls, epochs, accuracy, layers" >&2; exit 1 ;;
	esac
done
