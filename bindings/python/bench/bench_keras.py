# SPDX-License-Identifier: Apache-2.0
"""Epochs of fit() on Fashion-MNIST, 784-1024-1024-10, batch 256: SparseDense against keras.layers.Dense on the backend
that KERAS_BACKEND names. With an argument: so many epochs of training and the accuracies reached."""
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from data import fashion_mnist, turns

from sparselayer.keras import SparseDense

BATCH = 256
backend = keras.backend.backend()
(x, y), (x_test, y_test) = fashion_mnist()


def build(density, jit="auto"):
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(1024, activation="relu") if density == 1 else
              SparseDense(1024, density=density, activation="relu", kernel_initializer="he_uniform") for _ in range(2)]
    model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])
    # Adam's steps do not grow with the weights, and those of few connections are larger.
    rate = 0.0014 / density**0.5 if density < 1 else 0.001
    model.compile(optimizer=keras.optimizers.Adam(rate), metrics=["accuracy"], jit_compile=jit,
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def speed(rounds):
    models = {"dense": build(1), "d10": build(0.1), "d02": build(0.02)}
    if backend == "tensorflow":
        models["dense_no_xla"] = build(1, jit=False)
    times = turns({name: lambda m=m: m.fit(x, y, batch_size=BATCH, epochs=1, verbose=0) for name, m in models.items()},
                  rounds)
    for name, seconds in times.items():
        print(f"RESULT keras.{backend}.epoch_seconds.{name} {seconds:.4g}")
    dense = min(seconds for name, seconds in times.items() if name.startswith("dense"))
    for name in ("d10", "d02"):
        print(f"RESULT keras.{backend}.epoch_speedup.{name} {dense / times[name]:.3g}")


def accuracy(epochs):
    for name, density in (("dense", 1), ("d10", 0.1), ("d02", 0.02)):
        model = build(density)
        model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
        print(f"RESULT keras.{backend}.accuracy.{name} {model.evaluate(x_test, y_test, batch_size=1000, verbose=0)[1]:.4f}",
              flush=True)


if len(sys.argv) > 1:
    accuracy(int(sys.argv[1]))
else:
    speed(int(os.environ.get("ROUNDS", 3)))
