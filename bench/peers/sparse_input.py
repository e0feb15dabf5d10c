#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A training step of another library, timed for bench-sparse-input: forward, backward and update of 10^6 features into
256 units, batches of 256 samples with 100 entries. Each line read is a number of steps; the answer is seconds a step.
Usage: sparse_input.py torch|tf-embedding|tf-matmul sgd|adam THREADS"""
import os
import sys
import time

NAME, KIND, THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
FEATURES, SAMPLES, EACH, UNITS, BATCHES = 1000000, 256, 100, 256, 16
# The Python side starts nothing else on the cores it is given.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np


def batches():
    """The driver's: a 64-bit linear congruential generator."""
    count, state, mask = BATCHES * SAMPLES * EACH, 1, (1 << 64) - 1
    states = np.empty(count, np.uint64)
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & mask
        states[i] = state
    columns = ((states >> np.uint64(33)) % np.uint64(FEATURES)).astype(np.int64).reshape(BATCHES, -1)
    values = ((states >> np.uint64(40)).astype(np.float64) * 2.0**-24 + 0.5).astype(np.float32).reshape(BATCHES, -1)
    return columns, values


GRADIENT = ((np.arange(SAMPLES * UNITS) % 17 - 8) / 1024).astype(np.float32).reshape(SAMPLES, UNITS)


def torch_step():
    import torch
    torch.set_num_threads(THREADS)
    columns, values = batches()
    bag = torch.nn.EmbeddingBag(FEATURES, UNITS, mode="sum", sparse=True, _weight=torch.zeros(FEATURES, UNITS))
    kinds = {"sgd": lambda p: torch.optim.SGD(p, lr=0.001), "adam": lambda p: torch.optim.SparseAdam(p, lr=0.001)}
    optimizer = kinds[KIND](list(bag.parameters()))
    offsets = torch.arange(0, SAMPLES * EACH, EACH)
    inputs = [(torch.from_numpy(c), torch.from_numpy(v)) for c, v in zip(columns, values)]
    gradient = torch.from_numpy(GRADIENT)

    def step(i):
        optimizer.zero_grad()
        c, v = inputs[i % BATCHES]
        bag(c, offsets, per_sample_weights=v).backward(gradient)
        optimizer.step()
    return step, "torch %s, EmbeddingBag(mode='sum', sparse=True), %s" % (
        torch.__version__, {"sgd": "SGD", "adam": "SparseAdam"}[KIND])


def tensorflow_step(matmul):
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    columns, values = batches()
    weights = tf.Variable(tf.zeros((FEATURES, UNITS)))
    kinds = {"sgd": tf.keras.optimizers.SGD, "adam": tf.keras.optimizers.Adam}
    optimizer = kinds[KIND](0.001)
    optimizer.build([weights])
    rows = np.repeat(np.arange(SAMPLES, dtype=np.int64), EACH)
    inputs = [(tf.SparseTensor(np.stack([rows, c], 1), v, (SAMPLES, FEATURES)),
               tf.SparseTensor(np.stack([rows, np.tile(np.arange(EACH), SAMPLES)], 1), c, (SAMPLES, EACH)),
               tf.SparseTensor(np.stack([rows, np.tile(np.arange(EACH), SAMPLES)], 1), v, (SAMPLES, EACH)))
              for c, v in zip(columns, values)]
    gradient = tf.constant(GRADIENT)

    @tf.function
    def one(matrix, ids, scales):
        with tf.GradientTape() as tape:
            if matmul:
                y = tf.sparse.sparse_dense_matmul(matrix, weights)
            else:
                y = tf.nn.embedding_lookup_sparse(weights, ids, scales, combiner="sum")
        optimizer.apply_gradients([(tape.gradient(y, weights, output_gradients=gradient), weights)])
        return y[0, 0]

    def step(i):
        one(*inputs[i % BATCHES]).numpy()
    return step, "tensorflow %s, %s, %s" % (
        tf.__version__, "sparse_dense_matmul" if matmul else "embedding_lookup_sparse", type(optimizer).__name__)


def main():
    step, text = torch_step() if NAME == "torch" else tensorflow_step(NAME == "tf-matmul")
    for i in range(2 if NAME == "tf-matmul" else 5):
        step(i)
    print("ready " + text, flush=True)
    for line in sys.stdin:
        count = int(line)
        began = time.perf_counter()
        for i in range(count):
            step(i)
        print((time.perf_counter() - began) / count, flush=True)


main()
