# SPDX-License-Identifier: Apache-2.0
"""The example scripts, on small cuts: both ways to write a layer train alike."""
import importlib.util
import os
import pathlib

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("scipy")

pytestmark = pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow",
                                reason="of the TensorFlow backend")


@pytest.fixture(scope="module")
def three_layers():
    path = pathlib.Path(__file__).parents[1] / "examples" / "three_layers.py"
    spec = importlib.util.spec_from_file_location("three_layers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_three_layers(three_layers):
    results = three_layers.main(small=True)
    assert len(results) == 3
    for ops, here in results:
        # The same weights, data and optimizer: sums in another order, some steps long.
        assert np.isclose(ops, here, rtol=2e-2)


def test_first_attempts(three_layers):
    """docs/python.md says what becomes of them."""
    found = three_layers.first_attempts()
    assert found.pop("weights") == "0 trainable weights"
    assert len(found) == 4 and all(found.values()), found
