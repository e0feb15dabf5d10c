# SPDX-License-Identifier: Apache-2.0
import os

import numpy as np
import pytest

# Two threads and no more, whatever the machine has: what is tested is not speed.
os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture
def rng(request):
    seed = int(os.environ.get("SEED", 0)) or abs(hash(request.node.nodeid)) % 2**31
    print(f"SEED={seed}")
    return np.random.default_rng(seed)


def close(got, want, magnitude, terms, dtype=np.float32):
    """|got - want| <= (terms + 8) eps sum|a||b|, elementwise, `want` and `magnitude` being of float64."""
    eps = np.finfo(dtype).eps / 2
    bound = (terms + 8) * eps * np.asarray(magnitude, np.float64) + np.finfo(dtype).tiny
    excess = np.abs(np.asarray(got, np.float64) - want) - bound
    assert not np.any(excess > 0), f"off by {excess.max()} more than allowed, of {np.size(got)} elements"
    assert np.shape(got) == np.shape(want)
