# SPDX-License-Identifier: Apache-2.0
"""sparse_linear against JAX's own autodiff over the dense weight."""
import gc
import resource

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp
import jax.experimental.sparse as jsp

import sparselayer as s
from conftest import in_threads, without_hints
import sparselayer.jax as sj
from sparselayer._tensor import view

ACTIVATIONS = {None: lambda t: t, "relu": jax.nn.relu, "tanh": jnp.tanh}


@pytest.fixture
def case():
    p = s.Pattern.random(30, 50, 0.2, seed=1)
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    return p, jax.random.normal(keys[0], (20, 50)), sj.init(3, p), jax.random.normal(keys[1], (30,))


def dense(p, v):
    return jnp.zeros(p.shape).at[p.rows, p.indices].set(v)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(case, activation, jit):
    p, x, v, b = case
    wrap = jax.jit if jit else lambda f: f
    ours = lambda x, v, b: jnp.sum(jnp.sin(sj.sparse_linear(x, v, p, b, activation)))
    want = lambda x, v, b: jnp.sum(jnp.sin(ACTIVATIONS[activation](jnp.dot(x, dense(p, v).T, precision="highest") + b)))
    for got, ref in zip(wrap(jax.grad(ours, (0, 1, 2)))(x, v, b), jax.grad(want, (0, 1, 2))(x, v, b)):
        # Sums of at most 50 terms of magnitude below 10.
        assert jnp.abs(got - ref).max() < 58 * 2**-24 * 10 * 2
    assert np.allclose(wrap(ours)(x, v, b), want(x, v, b), rtol=1e-5, atol=1e-4)


def test_what_is_not_wanted_is_not_computed(case):
    p, x, v, b = case
    text = str(jax.make_jaxpr(jax.grad(lambda v: sj.sparse_linear(x, v, p, b).sum()))(v))
    assert "f32[0] " in text and "sparselayer_backward" in text


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sparse_inputs(case, activation, jit):
    """BCOO, with padding and entries out of order, against the dense product; gradients of values and bias."""
    p, x, v, b = case
    x = jnp.where(jnp.abs(x) > 1, x, 0)
    full = jsp.BCOO.fromdense(x)
    order = np.random.default_rng(0).permutation(full.nse)
    padded = jsp.BCOO((jnp.pad(full.data[order], (0, 5)), jnp.pad(full.indices[order], ((0, 5), (0, 0)), constant_values=99)),
                      shape=x.shape)
    wrap = jax.jit if jit else lambda f: f
    ours = lambda x, v, b: jnp.sum(jnp.sin(sj.sparse_linear(x, v, p, b, activation)))
    want = jax.grad(lambda v, b: ours(x, v, b), (0, 1))(v, b)
    for matrix in (full, padded, jsp.BCSR.from_bcoo(full)):
        assert np.allclose(wrap(lambda x: sj.sparse_linear(x, v, p, b, activation))(matrix),
                           sj.sparse_linear(x, v, p, b, activation), rtol=1e-5, atol=1e-5)
        for got, ref in zip(wrap(jax.grad(ours, (1, 2)))(matrix, v, b), want):
            assert jnp.abs(got - ref).max() < 58 * 2**-24 * 10 * 2
    assert sj.sparse_linear(jsp.BCOO.fromdense(x[:0]), v, p, b).shape == (0, 30)
    with pytest.raises(s.UnsupportedError, match="sparse x"):
        jax.grad(lambda d: ours(jsp.BCOO((d, full.indices), shape=x.shape), v, b))(full.data)
    with pytest.raises(s.ShapeError):
        sj.sparse_linear(jsp.BCOO.fromdense(x[:, :10]), v, p)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_inputs(case, dtype):
    """16-bit products of float32 parameters: each rounding is relative to the magnitude of the sum."""
    p, x, v, b = case
    x = x.astype(dtype)
    eps = 2**-8 if dtype == "bfloat16" else 2**-11
    # No activation: a ReLU may open for the one and not for the other where its sum is within a rounding of 0.
    y, gradient = jax.vjp(lambda x, v, b: sj.sparse_linear(x, v, p, b), x, v, b)
    wide = x.astype("float32")
    want, reference = jax.vjp(lambda x, v, b: jnp.dot(x, dense(p, v).T, precision="highest") + b, wide, v, b)
    size = jnp.abs(wide) @ jnp.abs(dense(p, v)).T + jnp.abs(b)
    assert y.dtype == dtype and (jnp.abs(y.astype("float32") - want) <= 3 * eps * size).all()
    dx, dv, db = gradient(jnp.ones(y.shape, dtype))
    assert dx.dtype == dtype and dv.dtype == db.dtype == "float32"
    for got, ref in zip((dx, dv, db), reference(jnp.ones(y.shape))):
        assert jnp.abs(got.astype("float32") - ref).max() <= 4 * eps * (jnp.abs(ref).max() + 5)


def test_vmap_and_shapes(case):
    p, x, v, b = case
    want = sj.sparse_linear(x, v, p, b)
    # Batches of 5 and of 20 run on other kernels, which add in another order.
    got = jax.vmap(lambda x: sj.sparse_linear(x, v, p, b))(x.reshape(4, 5, 50)).reshape(20, 30)
    assert np.allclose(got, want, rtol=1e-5, atol=1e-5)
    assert np.array_equal(sj.sparse_linear(x.reshape(4, 5, 50), v, p, b).reshape(20, 30), want)
    assert sj.sparse_linear(x[:0], v, p, b).shape == (0, 30)


def test_errors(case):
    p, x, v, b = case
    for x_, v_, kind in [(x[:, :10], v, s.ShapeError), (x, v[:5], s.ShapeError), (x, v.astype(jnp.bfloat16), s.DtypeError),
                         (x.astype(jnp.int32), v, s.DtypeError)]:
        with pytest.raises(kind):
            sj.sparse_linear(x_, v_, p)
    with pytest.raises(s.ArgumentError, match="Pattern"):
        sj.sparse_linear(x, v, np.ones((30, 50)))


def test_threads(case):
    p, x, v, b = case
    step = jax.jit(lambda x, v, b: jax.grad(lambda v: sj.sparse_linear(x, v, p, b, "relu").sum())(v))
    want, wrong = step(x, v, b), []

    def work():
        for _ in range(100):
            if not np.array_equal(step(x, v, b), want):
                wrong.append(1)

    in_threads(*[work] * 4)
    assert not wrong


def test_numpy_side_borrows_arrays(case):
    """JAX's arrays go into products by DLPack; a result comes back as an array over the same memory."""
    p, x, v, b = case
    m = s.CSR.from_pattern(p, np.asarray(v))
    y = m @ x.T
    assert np.allclose(y, jnp.dot(dense(p, v), x.T, precision="highest"), rtol=1e-5, atol=1e-5)
    assert view(x).dense.data == x.unsafe_buffer_pointer()
    aligned = np.frombuffer(bytearray(4 * 64 + 64), np.uint8)
    aligned = aligned[-aligned.ctypes.data % 64:][:4 * 64].view(np.float32)  # XLA borrows what lies on 64 bytes
    assert jax.dlpack.from_dlpack(aligned).unsafe_buffer_pointer() == aligned.ctypes.data


@pytest.mark.parametrize("batch", ["dense", "sparse"])
def test_nothing_leaks(case, batch):
    p, x, v, b = case
    x = jsp.BCOO.fromdense(jnp.where(jnp.abs(x) > 1, x, 0)) if batch == "sparse" else x
    step = jax.jit(lambda v: v - 1e-3 * jax.grad(lambda v: sj.sparse_linear(x, v, p, b, "relu").sum())(v))
    for _ in range(1000):
        v = step(v)
    v.block_until_ready()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10000):
        v = step(v)
    v.block_until_ready()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8192  # KiB


def test_hints():
    assert not without_hints(sj)
