# SPDX-License-Identifier: Apache-2.0
"""Epochs of fit() on Fashion-MNIST, 784-1024-1024-10, batch 256: SparseDense against keras.layers.Dense on the backend
that KERAS_BACKEND names. With an argument: so many epochs of training, the rate going down to 0 by a cosine, and
the accuracies reached.

The sparse networks are d10 and d02: both hidden layers at that density, and an output layer that keeps all its weights
(density=1, as Erdos-Renyi allotments give it), each a SparseDense. In d10_dense_head and d02_dense_head the output layer
is a keras.layers.Dense. An epoch's time is taken inside fit(), so that what fit() does once (on TensorFlow: a copy of the data) is
not in it."""
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from data import fashion_mnist, spread

from sparselayer.keras import SparseDense

BATCH = 256
backend = keras.backend.backend()
(x, y), (x_test, y_test) = fashion_mnist()


def build(density, dense_head=False, jit="auto", steps=None):
    keras.utils.set_random_seed(1)
    if density == 1:
        layers = [keras.layers.Dense(1024, activation="relu") for _ in range(2)] + [keras.layers.Dense(10)]
    else:
        layers = [SparseDense(1024, density=density, activation="relu", kernel_initializer="he_uniform") for _ in range(2)]
        layers.append(keras.layers.Dense(10) if dense_head else SparseDense(10, density=1))
    model = keras.Sequential([keras.Input((784,)), *layers])
    # Adam's steps do not grow with the weights, and those of few connections are larger.
    rate = 0.0014 / density**0.5 if density < 1 else 0.001
    if steps:  # down to 0, so that the last step's weights are not a matter of luck
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(optimizer=keras.optimizers.Adam(rate), metrics=["accuracy"], jit_compile=jit,
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class EpochTimes(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


def speed(rounds, epochs=2):
    models = {"dense": build(1), "d10": build(0.1), "d02": build(0.02), "d10_dense_head": build(0.1, True),
              "d02_dense_head": build(0.02, True)}
    if backend == "tensorflow":
        models["dense_no_xla"] = build(1, jit=False)
    times = {name: [] for name in models}
    for turn in range(rounds + 1):  # the first warms up
        for name, model in models.items():
            clock = EpochTimes()
            model.fit(x, y, batch_size=BATCH, epochs=epochs if turn else 1, verbose=0, callbacks=[clock])
            times[name] += clock.seconds if turn else []
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in times.items():
        print(f"keras.{backend}.epoch_seconds.{name}: {spread(seconds)}")
        print(f"RESULT keras.{backend}.epoch_seconds.{name} {median[name]:.4g}")
    dense = min(seconds for name, seconds in median.items() if name in ("dense", "dense_no_xla"))
    for name in models:
        if name not in ("dense", "dense_no_xla"):
            print(f"RESULT keras.{backend}.epoch_speedup.{name} {dense / median[name]:.3g}")


def accuracy(epochs):
    for name, density in (("dense", 1), ("d10", 0.1), ("d02", 0.02)):
        model = build(density, steps=epochs * -(-len(x) // BATCH))
        model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
        print(f"RESULT keras.{backend}.accuracy.{name} {model.evaluate(x_test, y_test, batch_size=1000, verbose=0)[1]:.4f}",
              flush=True)


if len(sys.argv) > 1:
    accuracy(int(sys.argv[1]))
else:
    speed(int(os.environ.get("ROUNDS", 3)))
