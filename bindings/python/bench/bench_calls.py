# SPDX-License-Identifier: Apache-2.0
"""What a call costs beside the C call itself, in microseconds: 8 x 64 through 64 x 64 at density 0.1, with bias and
ReLU, forward alone. Contenders take turns; medians. For TensorFlow also the other ways there are, a function that does
nothing, and a function of 16 layers one after the other: entering a tf.function costs the same whatever is in it, so
a layer's own cost is a sixteenth of what is beyond that."""
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np

import sparselayer
from sparselayer import _native as n
from sparselayer._function import Function

BATCH, SIZE, DENSITY, CHAIN = 8, 64, 0.1, 16
pattern = sparselayer.Pattern.random(SIZE, SIZE, DENSITY, seed=1)
rng = np.random.default_rng(0)
x = rng.standard_normal((BATCH, SIZE)).astype(np.float32)
values = rng.standard_normal(pattern.nnz).astype(np.float32)
bias = np.zeros(SIZE, np.float32)


def c_call():
    """The C function through ctypes, all its arguments at hand."""
    function = Function(pattern, n.runtime(), True, "relu")
    y = np.empty((BATCH, SIZE), np.float32)
    arguments = (function.number, BATCH, x.ctypes.data, 0, values.ctypes.data, bias.ctypes.data, y.ctypes.data, 0, None)
    forward = n.forward
    return lambda keep=(function, y): forward(*arguments)


def torch_calls():
    import torch
    from sparselayer.torch import SparseLinear
    layer = SparseLinear(SIZE, SIZE, pattern=pattern, activation="relu")
    tx = torch.from_numpy(x)

    def infer():
        with torch.no_grad():
            layer(tx)

    return {"torch": infer, "torch_autograd": lambda: layer(tx)}


def jax_calls():
    import jax
    from sparselayer.jax import sparse_linear
    ours = jax.jit(lambda x, v, b: sparse_linear(x, v, pattern, b, "relu"))
    nothing = jax.jit(lambda x, v, b: x)
    arrays = [jax.numpy.asarray(a) for a in (x, values, bias)]
    return {"jax": lambda: ours(*arrays).block_until_ready(), "jax_nothing": lambda: nothing(*arrays).block_until_ready()}


def tensorflow_calls():
    import tensorflow as tf
    from sparselayer.tensorflow import runtime, sparse_linear
    function = Function(pattern, runtime(), True, "relu")
    tx, tv, tb = (tf.constant(a) for a in (x, values, bias))

    def in_numpy(x, v, b):
        y = np.empty((BATCH, SIZE), np.float32)
        n.forward(function.number, BATCH, x.ctypes.data, 0, v.ctypes.data, b.ctypes.data, y.ctypes.data, 0, None)
        return y

    def chain(x, v, b):
        for _ in range(CHAIN):
            x = sparse_linear(x, v, pattern, b, "relu")
        return x

    def way(body):
        traced = tf.function(body).get_concrete_function(tx, tv, tb)
        return lambda: traced(tx, tv, tb)

    return {"tensorflow": way(lambda x, v, b: sparse_linear(x, v, pattern, b, "relu")),
            "tensorflow_chain": way(chain),
            "tensorflow_eager": lambda: sparse_linear(tx, tv, pattern, tb, "relu"),
            "tensorflow_nothing": way(lambda x, v, b: tf.identity(x)),
            "tensorflow_add": way(lambda x, v, b: x + 1),
            "tensorflow_numpy_function": way(lambda x, v, b: tf.numpy_function(in_numpy, (x, v, b), tf.float32)),
            "tensorflow_py_function": way(lambda x, v, b: tf.py_function(
                lambda x, v, b: in_numpy(x.numpy(), v.numpy(), b.numpy()), (x, v, b), tf.float32))}


def main(backend):
    calls = {"c": c_call(), **{"torch": torch_calls, "jax": jax_calls, "tensorflow": tensorflow_calls}[backend]()}
    times = {name: [] for name in calls}
    for turn in range(60):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(100):
                call()
            if turn >= 10:
                times[name].append((time.perf_counter() - began) * 1e4)
    median = {name: statistics.median(taken) for name, taken in times.items()}
    for name, us in median.items():
        print(f"RESULT python.call_us.{name} {us:.3g}")
    print(f"RESULT python.overhead_us.{backend} {median[backend] - median['c']:.3g}")
    for other, each in (("eager", 1), ("chain", CHAIN)):
        us = median.get(f"{backend}_{other}")
        if us is not None:
            us -= median[f"{backend}_nothing"] if each > 1 else 0
            print(f"RESULT python.overhead_us.{backend}_{other} {us / each - median['c']:.3g}")
    nothing = median.get(f"{backend}_nothing")
    if nothing is not None:
        print(f"RESULT python.overhead_us.{backend}_over_nothing {median[backend] - nothing - median['c']:.3g}")


main(sys.argv[1])
