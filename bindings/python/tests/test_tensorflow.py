# SPDX-License-Identifier: Apache-2.0
"""The ops of TensorFlow against its own autodiff over the dense weight, eagerly and in graphs."""
import gc
import os
import resource

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import sparselayer as s
import sparselayer.tensorflow
from conftest import in_threads, without_hints
from sparselayer.tensorflow import sparse_linear

ACTIVATIONS = {None: lambda t: t, "relu": tf.nn.relu, "tanh": tf.tanh, "sigmoid": tf.sigmoid}


@pytest.fixture
def case():
    p = s.Pattern.random(30, 50, 0.2, seed=1)
    rng = np.random.default_rng(0)
    x, v, b = (tf.constant(rng.standard_normal(shape), tf.float32) for shape in ((20, 50), (p.nnz,), (30,)))
    return p, x, v, b


def dense(p, v):
    return tf.scatter_nd(np.stack([p.rows, p.indices], 1).astype(np.int64), v, p.shape)


def gradients(function, *variables):
    with tf.GradientTape() as tape:
        tape.watch(variables)
        loss = tf.reduce_sum(tf.sin(function(*variables)))
    return tape.gradient(loss, variables)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(case, activation, graph):
    p, x, v, b = case
    ours = lambda x, v, b: sparse_linear(x, v, p, b, activation)
    want = lambda x, v, b: ACTIVATIONS[activation](tf.matmul(x, dense(p, v), transpose_b=True) + b)
    wrap = tf.function if graph else lambda f: f
    assert np.allclose(wrap(ours)(x, v, b), want(x, v, b), rtol=1e-5, atol=1e-4)
    for got, ref in zip(wrap(lambda *a: gradients(ours, *a))(x, v, b), gradients(want, x, v, b)):
        # Sums of at most 50 terms of magnitude below 10.
        assert np.abs(got - ref).max() < 58 * 2**-24 * 10 * 2


def test_float64(case):
    p, x, v, b = (tf.cast(t, tf.float64) if isinstance(t, tf.Tensor) else t for t in case)
    want = gradients(lambda x, v, b: tf.matmul(x, dense(p, v), transpose_b=True) + b, x, v, b)
    for got, ref in zip(gradients(lambda x, v, b: sparse_linear(x, v, p, b), x, v, b), want):
        assert np.allclose(got, ref, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sparse_inputs(case, activation, graph):
    p, x, v, b = case
    x = tf.where(tf.abs(x) > 1, x, 0)
    wrap = tf.function if graph else lambda f: f
    matrix = tf.sparse.from_dense(x)
    got = wrap(lambda v, b: gradients(lambda v, b: sparse_linear(matrix, v, p, b, activation), v, b))(v, b)
    for g, ref in zip(got, gradients(lambda v, b: sparse_linear(x, v, p, b, activation), v, b)):
        assert np.abs(g - ref).max() < 58 * 2**-24 * 10 * 2
    assert sparse_linear(tf.sparse.from_dense(x[:0]), v, p, b).shape == (0, 30)


def test_shapes(case):
    p, x, v, b = case
    want = sparse_linear(x, v, p, b)
    assert np.array_equal(tf.reshape(sparse_linear(tf.reshape(x, (4, 5, 50)), v, p, b), (20, 30)), want)
    assert sparse_linear(x[:0], v, p, b).shape == (0, 30)
    traced = tf.function(lambda x: sparse_linear(x, v, p, b), input_signature=[tf.TensorSpec((None, 50))])
    assert np.array_equal(traced(x), want) and traced(x[:3]).shape == (3, 30)
    assert traced.get_concrete_function().output_shapes == (None, 30)


def test_errors(case):
    p, x, v, b = case
    for x_, v_, b_, kind in [(x[:, :10], v, b, s.ShapeError), (x, v[:5], b, s.ShapeError), (x, v, b[:3], s.ShapeError),
                             (tf.cast(x, tf.float64), v, b, s.DtypeError), (tf.cast(x, tf.int32), v, b, s.DtypeError),
                             (x, tf.cast(v, tf.bfloat16), b, s.DtypeError)]:
        with pytest.raises(kind):
            sparse_linear(x_, v_, p, b_)
    with pytest.raises(s.ArgumentError, match="Pattern"):
        sparse_linear(x, v, np.ones((30, 50)))
    # What is known only when the graph runs.
    loose = tf.function(lambda x: sparse_linear(x, v, p, b), input_signature=[tf.TensorSpec((None, None))])
    with pytest.raises(tf.errors.InvalidArgumentError, match="50"):
        loose(x[:, :10])
    outside = tf.SparseTensor([[0, 60]], [1.0], (2, 50))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\(0, 60\)"):
        sparse_linear(outside, v, p, b)
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?i)compil"):
        tf.function(lambda x: sparse_linear(x, v, p, b), jit_compile=True)(x)


def test_threads(case):
    p, x, v, b = case
    step = tf.function(lambda x, v, b: gradients(lambda x, v, b: sparse_linear(x, v, p, b, "relu"), x, v, b))
    want, wrong = [g.numpy() for g in step(x, v, b)], []

    def work():
        for _ in range(50):
            if not all(np.array_equal(got, ref) for got, ref in zip(step(x, v, b), want)):
                wrong.append(1)

    in_threads(*[work] * 4)
    assert not wrong


@pytest.mark.parametrize("batch", ["dense", "sparse"])
def test_nothing_leaks(case, batch):
    p, x, v, b = case
    x = tf.sparse.from_dense(tf.where(tf.abs(x) > 1, x, 0)) if batch == "sparse" else x
    step = tf.function(lambda v: v - 1e-4 * gradients(lambda v: sparse_linear(x, v, p, b, "relu"), v)[0])
    for _ in range(1000):
        v = step(v)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10000):
        v = step(v)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8192  # KiB


def test_hints():
    assert not without_hints(sparselayer.tensorflow)
