# SPDX-License-Identifier: Apache-2.0
"""The Keras layers, on the backend that KERAS_BACKEND names: make test-python runs it on each."""
import contextlib
import os
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import pytest

keras = pytest.importorskip("keras")

import sparselayer as s
from conftest import in_threads
from sparselayer.keras import ChunkedSparseDense, SparseBatches, SparseDense, TopologyCallback, from_dense, sparse_batch

BACKEND = keras.backend.backend()
to_numpy = keras.ops.convert_to_numpy


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((512, 40)).astype("f")
    return x, np.argmax(x @ rng.standard_normal((40, 3)), 1)


def build(*layers, inputs=40, **compiled):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((inputs,)), *layers, keras.layers.Dense(3)])
    options = dict(optimizer=keras.optimizers.Adam(0.01), metrics=["accuracy"],
                   loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.compile(**{**options, **compiled})
    return model


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid", "gelu", "softmax"])
@pytest.mark.parametrize("layer", [SparseDense, ChunkedSparseDense])
def test_a_step_is_that_of_the_dense_layer(data, layer, activation):
    """One step of SGD is Dense's step on the entries of the pattern: forward and gradients agree."""
    x, y = data
    options = dict(chunk_size=10) if layer is ChunkedSparseDense else {}
    model = build(layer(24, density=0.3, activation=activation, seed=5, **options), optimizer=keras.optimizers.SGD(0.1))
    twin = build(keras.layers.Dense(24, activation=activation), optimizer=keras.optimizers.SGD(0.1))
    sparse = model.layers[0]
    twin.layers[0].kernel.assign(sparse.to_dense())
    twin.layers[0].bias.assign(to_numpy(sparse.bias))
    twin.layers[1].set_weights(model.layers[1].get_weights())
    assert np.allclose(model.predict(x, verbose=0), twin.predict(x, verbose=0), atol=2e-5)
    for m in (model, twin):
        m.fit(x[:64], y[:64], batch_size=64, shuffle=False, verbose=0)
    p = sparse.pattern
    want = to_numpy(twin.layers[0].kernel).T[p.rows, p.indices]
    assert np.allclose(to_numpy(sparse.kernel), want, atol=1e-5)
    assert np.allclose(to_numpy(sparse.bias), to_numpy(twin.layers[0].bias), atol=1e-5)


@pytest.mark.parametrize("method", ["set", "rigl", "prune"])
def test_callbacks(data, method):
    x, y = data
    model = build(SparseDense(64, density=0.3, activation="relu"), SparseDense(32, density=0.3))
    first = model.layers[0].pattern
    callback = TopologyCallback(method, every=10, end=30, final_density=0.1 if method == "prune" else None)
    history = model.fit(x, y, batch_size=64, epochs=6, verbose=0, callbacks=[callback]).history
    assert history["loss"][-1] < history["loss"][0] and callback.edits == 3
    for layer in model.layers[:2]:
        assert layer.pattern != first
        density = layer.pattern.nnz / np.prod(layer.pattern.shape)
        assert abs(density - (0.1 if method == "prune" else 0.3)) < 0.01
        assert (to_numpy(layer.kernel)[layer.pattern.nnz:] == 0).all()
    small = model.layers[0].compact()
    assert small.kernel.shape == (model.layers[0].pattern.nnz,)
    assert np.array_equal(to_numpy(small(x)), to_numpy(model.layers[0](x)))


def test_save_and_load(data, tmp_path):
    x, y = data
    model = build(SparseDense(64, density=0.3, activation="relu", kernel_regularizer="l1"),
                  ChunkedSparseDense(32, chunk_size=10, density=0.3, activation="gelu"))
    model.fit(x, y, batch_size=64, verbose=0, callbacks=[TopologyCallback("set", every=3)])
    want = model.predict(x, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert np.array_equal(loaded.predict(x, verbose=0), want) and loaded.layers[0].pattern == model.layers[0].pattern
    loaded.fit(x, y, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    other = build(SparseDense(64, density=0.3, activation="relu", seed=77),
                  ChunkedSparseDense(32, chunk_size=10, density=0.3, activation="gelu"))
    other.load_weights(tmp_path / "m.weights.h5")
    assert np.array_equal(other.predict(x, verbose=0), want)
    model.summary(print_fn=lambda *a, **k: None)
    assert model.evaluate(x, y, verbose=0)[0] > 0


def test_l1_means_what_it_means_in_keras(data):
    layer = SparseDense(16, density=0.5, kernel_regularizer=keras.regularizers.L1(0.01))
    layer.build((None, 40))
    assert np.isclose(float(layer.losses[0]), 0.01 * np.abs(to_numpy(layer.kernel)).sum(), rtol=1e-5)


@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal", "random_normal", "zeros", "ones", "orthogonal"])
def test_initializers(name):
    keras.utils.set_random_seed(1)
    layer = SparseDense(300, density=0.2, kernel_initializer=name)
    layer.build((None, 200))
    values = to_numpy(layer.kernel)
    fan_in, fan_out = 0.2 * 200, 0.2 * 300
    want = {"glorot_uniform": (2 / (fan_in + fan_out)) ** 0.5, "he_normal": (2 / fan_in) ** 0.5, "random_normal": 0.05,
            "zeros": 0, "ones": 0, "orthogonal": 300**-0.5}[name]
    assert abs(values.std() - want) <= 0.05 * want


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_policy(data, policy):
    """Products of 16 bits with float32 parameters: close to float32, given out in 16 bits, and it trains."""
    x, y = data
    half = policy.removeprefix("mixed_")
    layer = SparseDense(16, density=0.5, dtype=policy, seed=1)
    out = layer(x[:8])
    assert keras.backend.standardize_dtype(out.dtype) == half
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
    weights = layer.to_dense()
    eps = 2**-8 if half == "bfloat16" else 2**-11
    got = to_numpy(keras.ops.cast(out, "float32"))
    assert (np.abs(got - x[:8] @ weights) <= 4 * eps * (np.abs(x[:8]) @ np.abs(weights))).all()
    model = build(SparseDense(64, density=0.3, activation="relu", dtype=policy))
    losses = model.fit(x, y, batch_size=64, epochs=6, verbose=0, callbacks=[TopologyCallback("rigl", every=10)]).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def sparse_model(**options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((40,), sparse=True)
    outputs = keras.layers.Dense(3)(ChunkedSparseDense(32, chunk_size=16, density=0.4, kernel_regularizer="l1", **options)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def sparse_twin(model, x):
    layer, head = model.layers[1], model.layers[2]
    return (x @ layer.to_dense() + to_numpy(layer.bias)) @ to_numpy(head.kernel) + to_numpy(head.bias)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras hands no sparse batches to layers on PyTorch")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_sparse_input(data, policy):
    import scipy.sparse as sp
    x, y = data
    x = np.where(np.abs(x) > 1, x, 0)
    model = sparse_model(dtype=policy)
    model.fit(sp.coo_matrix(x), y, batch_size=64, verbose=0)
    model.fit(SparseBatches(sp.csr_matrix(x), y, batch_size=64), verbose=0, epochs=2)
    tolerance = 1e-4 if policy == "float32" else 0.05
    assert np.allclose(model.predict(sp.coo_matrix(x), verbose=0), sparse_twin(model, x), atol=tolerance)
    model.fit(SparseBatches(sp.csr_matrix(x), y, batch_size=64), verbose=0, callbacks=[TopologyCallback("rigl", every=4)])
    assert np.allclose(model.predict(sp.csr_matrix(x), verbose=0), sparse_twin(model, x), atol=tolerance)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras hands no sparse batches to layers on PyTorch")
def test_a_step_on_sparse_input_is_that_on_dense_input(data):
    import scipy.sparse as sp
    x, y = data
    x = np.where(np.abs(x) > 1, x, 0)[:64]
    a, b = sparse_model(seed=3, activation="tanh"), None
    weights = a.get_weights()
    a.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    a.fit(sp.csr_matrix(x), y[:64], batch_size=64, verbose=0)
    b = build(ChunkedSparseDense(32, chunk_size=16, density=0.4, kernel_regularizer="l1", seed=3, activation="tanh"),
              optimizer=keras.optimizers.SGD(0.1))
    b.set_weights(weights)
    b.fit(x, y[:64], batch_size=64, verbose=0)
    for got, want in zip(a.get_weights(), b.get_weights()):
        assert np.allclose(got, want, atol=1e-5)


def test_sparse_batches(data):
    """Of each row once an epoch, last and smaller batch included; the same training as on dense rows of that order."""
    import scipy.sparse as sp
    x, y = data
    x = np.where(np.abs(x) > 1, x, 0)[:150]
    batches = SparseBatches(sp.csr_matrix(x), y[:150], sample_weight=np.ones(150), batch_size=64, shuffle=False)
    assert len(batches) == 3 and batches[2][0].shape == (22, 40)
    options = dict(density=0.4, seed=3, activation="relu")
    inputs = keras.Input((40,), sparse=BACKEND != "torch")  # Keras declares no sparse inputs on PyTorch, but hands them on
    keras.utils.set_random_seed(1)
    model = keras.Sequential([inputs, SparseDense(32, **options), keras.layers.Dense(3)])
    twin = build(SparseDense(32, **options))
    twin.set_weights(model.get_weights())
    for m, samples in ((model, (batches,)), (twin, (x, y[:150]))):
        m.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        m.fit(*samples, batch_size=None if m is model else 64, shuffle=False, epochs=2, verbose=0)
    for got, want in zip(model.get_weights(), twin.get_weights()):
        assert np.allclose(got, want, atol=1e-5)
    seen = SparseBatches(sp.csr_matrix(np.arange(1.0, 151)[:, None]), batch_size=64)
    first = [to_numpy(keras.ops.sum(b[0], axis=None) if BACKEND != "jax" else b[0].data.sum()) for b in seen]
    assert np.isclose(np.sum(first), 150 * 151 / 2)
    with pytest.raises(s.ShapeError):
        SparseBatches(sp.csr_matrix(x), y[:10])


@pytest.mark.skipif(BACKEND != "torch", reason="a sparse tensor of PyTorch")
def test_sparse_tensor(data):
    import torch
    x = torch.from_numpy(np.where(np.abs(data[0]) > 1, data[0], 0))
    layer = SparseDense(16, density=0.5, activation="relu")
    want = layer(x)
    assert torch.allclose(layer(x.to_sparse()), want, atol=1e-5)
    assert torch.allclose(layer(x.to_sparse_csr()), want, atol=1e-5)


def test_jit(data):
    x, y = data
    model = build(SparseDense(32, density=0.3, activation="relu"), jit_compile="auto")
    model.fit(x, y, verbose=0)
    assert model.layers[0].supports_jit == (BACKEND != "tensorflow")
    if BACKEND == "torch" and not shutil.which("g++"):
        return  # its compiler needs one
    # On TensorFlow Keras says that the layer cannot be compiled, and goes on without.
    says = pytest.warns(UserWarning, match="jit_compile") if BACKEND == "tensorflow" else contextlib.nullcontext()
    with says:
        forced = build(SparseDense(32, density=0.3, activation="relu"), jit_compile=True)
    losses = forced.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and forced.jit_compile == (BACKEND != "tensorflow")


def test_from_dense():
    dense = keras.layers.Dense(20, activation="relu")
    dense.build((None, 30))
    sparse = from_dense(dense, density=1.0)
    x = np.random.default_rng(0).standard_normal((6, 30)).astype("f")
    assert np.allclose(to_numpy(sparse(x)), to_numpy(dense(x)), atol=1e-5)
    assert from_dense(dense, density=0.1).pattern.nnz == 60


def test_from_masks():
    """What pruning by masks leaves behind (tfmot's strip_pruning(), a mask kept beside the layer) gives the same outputs."""
    rng = np.random.default_rng(0)
    dense = keras.layers.Dense(20, activation="gelu", kernel_regularizer="l2")
    dense.build((None, 30))
    mask = rng.random((30, 20)) < 0.2
    mask[0, 0], mask[1, 1] = True, False
    kernel = np.where(mask, to_numpy(dense.kernel), 0)
    kernel[0, 0] = 0  # kept by the mask, zero by chance
    dense.kernel.assign(kernel)
    dense.bias.assign(rng.standard_normal(20))
    x = rng.standard_normal((6, 30)).astype("f")
    want = to_numpy(dense(x))
    by_zeros, by_mask = from_dense(dense), from_dense(dense, mask=mask)
    assert by_zeros.pattern.nnz == mask.sum() - 1 and by_mask.pattern.nnz == mask.sum()
    for layer in (by_zeros, by_mask):
        assert np.allclose(to_numpy(layer(x)), want, atol=1e-5)
        assert np.array_equal(layer.to_dense(), kernel)
    assert np.isclose(float(by_mask.losses[0]), 0.01 * np.square(kernel).sum(), rtol=1e-4)


def leak_step(layer, x):
    """One step of the layer with its gradient, as the backend compiles or runs it."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x, training=True))
            return tape.gradient(loss, layer.trainable_variables)
    elif BACKEND == "jax":
        import jax
        frozen = [v.value for v in layer.non_trainable_variables]
        gradient = jax.jit(jax.grad(lambda t: layer.stateless_call(t, frozen, x, training=True)[0].sum()))
        trained = [v.value for v in layer.trainable_variables]

        def step():
            return jax.block_until_ready(gradient(trained))
    else:
        def step():
            layer(x, training=True).sum().backward()
    return step


@pytest.mark.parametrize("batch", ["dense", "sparse", "chunked"])
def test_nothing_leaks(batch):
    """10,000 steps of the layer with its gradient."""
    import gc
    import resource
    import scipy.sparse as sp
    options = dict(density=0.2, activation="relu")
    layer = ChunkedSparseDense(40, chunk_size=5, **options) if batch == "chunked" else SparseDense(40, **options)
    layer.build((None, 60))
    if batch == "sparse":
        x = sparse_batch(sp.random(16, 60, 0.2, dtype=np.float32, random_state=1))
    else:
        x = keras.ops.convert_to_tensor(np.ones((16, 60), "f"))
    step = leak_step(layer, x)
    for _ in range(1000):
        step()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10000):
        step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8192  # KiB


def test_threads(data):
    x = keras.ops.convert_to_tensor(data[0])
    layer = SparseDense(64, density=0.3, activation="relu", seed=1)
    want, wrong = to_numpy(layer(x)), []

    def work():
        for _ in range(50):
            if not np.array_equal(to_numpy(layer(x)), want):
                wrong.append(1)

    in_threads(*[work] * 4)
    assert not wrong


def test_errors(data):
    for options, kind in [(dict(units=0), s.ArgumentError), (dict(units=4, density=2), s.ArgumentError),
                          (dict(units=4, chunk_size=-1), s.ArgumentError)]:
        with pytest.raises(kind):
            SparseDense(**options)
    layer = SparseDense(4, pattern=np.ones((3, 3)))
    with pytest.raises(s.ShapeError):
        layer.build((None, 40))
    layer = SparseDense(4, dtype="float16")
    with pytest.raises(s.DtypeError):
        layer.build((None, 40))
    layer = SparseDense(4)
    layer.build((None, 40))
    with pytest.raises(ValueError):
        layer(np.zeros((3, 41), "f"))
    with pytest.raises(s.ArgumentError):
        TopologyCallback("prune")
