# SPDX-License-Identifier: Apache-2.0
"""How do I put a sparsely connected layer into Keras? Three layers, each as it is first written, which does not train, as it can
be repaired with TensorFlow's own sparse ops, and as it is here; the latter two trained on the same data, with the time of a step.

1. Sparse weights. A SparseTensor cannot be a variable, so it stays a constant; its values can be one.
2. Sparse inputs, sparse weights, L1. There is no product of two SparseTensors, and the gradient of the one of
   CSRSparseMatrix leaves out entries that are zero, so that it does not fit the values: the weights are made dense for
   each call. A regularizer takes the values, not the SparseTensor.
3. Chunked: the batch in pieces, so that what is in between is as large as a piece. How many pieces is not known when the
   layer is traced, so the loop must be one of the graph.

    KERAS_BACKEND=tensorflow python three_layers.py [--small]
"""
import os
import sys
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import scipy.sparse
import tensorflow as tf

from sparselayer.keras import ChunkedSparseDense, SparseBatches, SparseDense


class FirstSparse(keras.layers.Layer):
    """Layer 1 as it is first written: the weights are no variables."""

    def __init__(self, units, density=0.1, chunk=None):
        super().__init__()
        self.units, self.density, self.chunk = units, density, chunk

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.kernel = tf.sparse.from_dense(tf.where(tf.random.uniform(shape) < self.density, tf.random.normal(shape), 0))

    def call(self, x):
        return tf.nn.relu(tf.sparse.sparse_dense_matmul(x, self.kernel))


class FirstChunked(FirstSparse):
    """Layer 3 as it is first written: a loop of Python's over a size that is not known yet."""

    def call(self, x):
        return tf.concat([super(FirstChunked, self).call(x[i:i + self.chunk]) for i in range(0, x.shape[0], self.chunk)], 0)


def first_attempts(inputs=20, units=8):
    """What becomes of each layer as it is first written: {name: text}."""
    x = tf.ones((4, inputs))
    layer = FirstSparse(units)
    layer(x)
    found = {"weights": f"{len(layer.trainable_weights)} trainable weights"}

    def try_out(name, attempt):
        try:
            attempt()
            found[name] = ""
        except Exception as error:
            found[name] = type(error).__name__

    try_out("weights_as_variable", lambda: tf.Variable(layer.kernel))
    try_out("inputs_and_weights", lambda: layer(tf.sparse.from_dense(x)))
    try_out("l1", lambda: keras.regularizers.L1(0.01)(layer.kernel))
    try_out("chunked", lambda: keras.Sequential([keras.Input((inputs,)), FirstChunked(units, chunk=2)]))
    return found


class OpsSparse(keras.layers.Layer):
    """Layer 1 by TensorFlow's ops: relu(x W + b), W [inputs, units] a SparseTensor with trainable values."""

    def __init__(self, units, pattern, regularizer=None):
        super().__init__()
        self.units, self.pattern = units, pattern
        self.regularizer = keras.regularizers.get(regularizer)
        # By rows of Wᵀ, as the pattern has them: sparse_dense_matmul() wants the sparse matrix on the left.
        self.indices = np.stack([pattern.rows, pattern.indices], 1).astype(np.int64)

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(self.pattern.nnz,), initializer="glorot_uniform",
                                      regularizer=self.regularizer)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def weights_transposed(self):
        return tf.SparseTensor(self.indices, tf.convert_to_tensor(self.kernel), self.pattern.shape)

    def call(self, x):
        y = tf.transpose(tf.sparse.sparse_dense_matmul(self.weights_transposed(), x, adjoint_b=True))
        return tf.nn.relu(y + self.bias)


class OpsSparseBoth(OpsSparse):
    """Layer 2: sparse x too."""

    def call(self, x):
        weights = tf.sparse.to_dense(self.weights_transposed())
        return tf.nn.relu(tf.sparse.sparse_dense_matmul(x, weights, adjoint_b=True) + self.bias)

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], self.units))


class OpsChunked(OpsSparse):
    """Layer 3: `chunk` rows of the batch at a time, in a loop of the graph: the batch is not known when it is traced."""

    def __init__(self, units, pattern, chunk):
        super().__init__(units, pattern)
        self.chunk = chunk

    def call(self, x):
        count = (tf.shape(x)[0] + self.chunk - 1) // self.chunk
        one = super().call
        _, pieces = tf.while_loop(
            lambda i, _: i < count,
            lambda i, pieces: (i + 1, pieces.write(i, one(x[i * self.chunk:(i + 1) * self.chunk]))),
            (0, tf.TensorArray(tf.float32, size=count, infer_shape=False)))
        return tf.ensure_shape(pieces.concat(), (None, self.units))

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], self.units))


def model(layer, inputs, sparse=False):
    keras.utils.set_random_seed(1)
    made = keras.Sequential([keras.Input((inputs,), sparse=sparse), layer, keras.layers.Dense(4)])
    made.compile(keras.optimizers.Adam(0.003), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def compare(name, ops, here, fit, epochs, steps):
    """Train both from the same weights; (seconds a step of each, their last losses)."""
    ops.set_weights(here.get_weights())
    seconds, losses = [], []
    for contender in (ops, here):
        fit(contender, 1)  # tracing
    ops.set_weights(here.get_weights())
    for contender in (ops, here):
        began = time.perf_counter()
        losses.append(fit(contender, epochs).history["loss"][-1])
        seconds.append((time.perf_counter() - began) / epochs / steps)
    print(f"{name}: TensorFlow's ops {seconds[0] * 1e3:.2f} ms a step, here {seconds[1] * 1e3:.2f} ms; "
          f"losses {losses[0]:.4f} and {losses[1]:.4f}", flush=True)
    print(f"RESULT keras.question.{name}.speedup {seconds[0] / seconds[1]:.3g}", flush=True)
    return losses


def main(small):
    inputs, units, samples, batch, epochs = (60, 40, 256, 64, 3) if small else (2000, 1000, 2560, 256, 3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, inputs)).astype(np.float32)
    labels = np.argmax(x @ rng.standard_normal((inputs, 4)), 1)
    steps = samples // batch
    results = []

    layer = SparseDense(units, density=0.05, activation="relu", seed=1)
    here = model(layer, inputs)
    dense_fit = lambda m, epochs: m.fit(x, labels, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
    results.append(compare("weights", model(OpsSparse(units, layer.pattern), inputs), here, dense_fit, epochs, steps))

    sparse_x = scipy.sparse.random(samples, inputs, 0.01, format="csr", dtype=np.float32, random_state=rng)
    matrix = SparseBatches(sparse_x, labels, batch_size=batch, shuffle=False)
    layer = SparseDense(units, density=0.05, activation="relu", kernel_regularizer="l1", seed=1)
    here = model(layer, inputs, sparse=True)
    sparse_fit = lambda m, epochs: m.fit(matrix, epochs=epochs, shuffle=False, verbose=0)
    results.append(compare("inputs_and_weights_l1", model(OpsSparseBoth(units, layer.pattern, "l1"), inputs, sparse=True),
                           here, sparse_fit, epochs, steps))

    layer = ChunkedSparseDense(units, chunk_size=batch // 4, density=0.05, activation="relu", seed=1)
    here = model(layer, inputs)
    results.append(compare("chunked", model(OpsChunked(units, layer.pattern, batch // 4), inputs), here, dense_fit, epochs,
                           steps))
    return results


if __name__ == "__main__":
    for name, problem in first_attempts().items():
        print(f"as first written, {name}: {problem}")
    main("--small" in sys.argv)
