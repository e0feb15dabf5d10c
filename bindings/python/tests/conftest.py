# SPDX-License-Identifier: Apache-2.0
import inspect
import os
import threading

import numpy as np
import pytest

# Two threads and no more, whatever the machine has: what is tested is not speed.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Nor are cores to be had for waiting: beside other work, ten thousand steps of spinning threads take minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


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


def without_hints(*things):
    """The public functions, methods and arguments of modules and classes that have no type hint."""
    found = []
    for thing in things:
        for name, member in inspect.getmembers(thing):
            function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            if not inspect.isfunction(function) or name.startswith("_") and name != "__init__":
                continue
            public = getattr(thing, "__all__", None)
            if inspect.ismodule(thing) and (name not in public if public else function.__module__ != thing.__name__):
                continue
            if not function.__module__.startswith("sparselayer"):
                continue
            signature = inspect.signature(function)
            found += [f"{thing.__name__}.{name}({p.name})" for p in signature.parameters.values()
                      if p.annotation is p.empty and p.name not in ("self", "cls")]
            if signature.return_annotation is signature.empty and name != "__init__":
                found.append(f"{thing.__name__}.{name}")
    return found


def in_threads(*works):
    """Run functions at once, each in a thread of its own, and wait for them."""
    threads = [threading.Thread(target=work) for work in works]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
