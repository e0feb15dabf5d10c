#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build a wheel, try it in a bare environment, install it with the frameworks, pinned, into a fresh virtual environment, and
# test all of it: NumPy, PyTorch and JAX, then Keras on each of its backends. Downloads some gigabytes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=build/test-python
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install -q -r bindings/python/requirements-test.txt
scripts/python-wheel.sh build/dist
scripts/test-wheel.sh "$venv/bin/python" build/dist/*.whl
"$venv/bin/pip" install -q build/dist/*.whl
unset PYTHONPATH SPARSELAYER_LIBRARY_DIR
export TF_CPP_MIN_LOG_LEVEL=3
tests=bindings/python/tests
"$venv/bin/python" -m pytest -q -p no:cacheprovider $tests/test_numpy.py $tests/test_torch.py $tests/test_jax.py
"$venv/bin/python" -m pytest -q -p no:cacheprovider $tests/test_tensorflow.py
for backend in tensorflow jax torch; do
	echo "== Keras on $backend"
	KERAS_BACKEND=$backend "$venv/bin/python" -m pytest -q -p no:cacheprovider -W ignore::DeprecationWarning \
		$tests/test_keras.py $tests/test_examples.py
done
