# SPDX-License-Identifier: Apache-2.0
"""sparse_linear against JAX's own autodiff over the dense weight."""
import gc
import resource

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp

import sparselayer as s
import sparselayer.jax as sj

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
    for x_, v_, kind in [(x[:, :10], v, s.ShapeError), (x, v[:5], s.ShapeError), (x.astype(jnp.bfloat16), v, s.DtypeError),
                         (x.astype(jnp.int32), v, s.DtypeError)]:
        with pytest.raises(kind):
            sj.sparse_linear(x_, v_, p)
    with pytest.raises(s.ArgumentError, match="Pattern"):
        sj.sparse_linear(x, v, np.ones((30, 50)))


def test_nothing_leaks(case):
    p, x, v, b = case
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
