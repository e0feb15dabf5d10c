# SPDX-License-Identifier: Apache-2.0
"""Patterns edited during fit()."""
import keras
import numpy as np
from keras import ops

from .. import topology
from . import backends
from .layers import SparseDense


def _sparse_layers(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, SparseDense) and layer.built]


def _slots(optimizer, variable):
    """(name, array) of the optimizer's arrays for one variable: moments, averages. They follow it through an edit."""
    while hasattr(optimizer, "inner_optimizer"):  # loss scaling
        optimizer = optimizer.inner_optimizer
    trained = getattr(optimizer, "_trainable_variables", [])
    index = next((i for i, v in enumerate(trained) if v is variable), None)
    if index is None:
        return []
    lists = {name: v for name, v in vars(optimizer).items()
             if isinstance(v, list) and len(v) == len(trained) and v is not trained}
    return [(name, v[index]) for name, v in lists.items()
            if isinstance(v[index], keras.Variable) and v[index] is not variable and v[index].shape == variable.shape]


class TopologyCallback(keras.callbacks.Callback):
    """Edits the patterns of a model's SparseDense layers between steps of fit().

    Args:
        method: "set": drop the smallest weights, grow as many at random (Mocanu et al. 2018); "rigl": grow those with
            the largest gradient (Evci et al. 2020); "prune": drop until `final_density` is reached, fast at first
            (Zhu and Gupta 2017).
        every: steps between edits.
        begin, end: first and last step of edits. For "set" and "rigl" the share that is exchanged falls from `fraction`
            to 0 at `end` by a cosine; for "prune" `final_density` is reached there. `end` None: those of "set" and
            "rigl" go on with `fraction` as it is; "prune" needs it.
        fraction: share of a layer's entries that an edit exchanges.
        final_density: for "prune".
        layers: names of the layers to edit; None: all.
        seed: of what is grown at random.
        spread: for "rigl": a neuron gains at most ceil(spread * mean connections of a neuron) in an edit.

    Edits are the C library's. The optimizer's moments are carried over. New weights are zero, and so are their moments but
    the second of Adam and its like, which begins with the mean of the layer's: from 0, their steps would be several times too
    large at first. No gradient is held densely: for "rigl" the batch before an edit is kept, and its gradient made some
    rows at a time.

    Attributes:
        edits: how many there were. `history`: for each, (step, layer, entries, exchanged).
    """

    def __init__(self, method: str = "rigl", every: int = 100, begin: int = 0, end: int | None = None,
                 fraction: float = 0.3, final_density: float | None = None, layers: list[str] | None = None, seed: int = 0,
                 spread: float = 1.0):
        super().__init__()
        if method not in ("set", "rigl", "prune"):
            raise backends.error(f"method is {method!r}; it is 'set', 'rigl' or 'prune'")
        if method == "prune" and (final_density is None or not 0 < final_density <= 1 or end is None):
            raise backends.error(f"pruning needs final_density in (0, 1] and end; they are {final_density} and {end}")
        if not 0 <= fraction <= 1 or every < 1:
            raise backends.error(f"fraction is {fraction} and every {every}; they lie in [0, 1] and from 1 up")
        self.method, self.every, self.begin, self.end = method, every, begin, end
        self.fraction, self.final_density, self.layers = fraction, final_density, layers
        self.seed, self.spread, self._draws = seed, spread, 0
        self.edits, self.history, self._step = 0, [], 0
        self._initial = {}

    def _chosen(self):
        found = [layer for layer in _sparse_layers(self.model) if self.layers is None or layer.name in self.layers]
        if not found:
            raise backends.error(f"the model has no SparseDense layer {'' if self.layers is None else self.layers}")
        return found

    def _due(self):
        step = self._step
        return step >= self.begin and step > 0 and step % self.every == 0 and (self.end is None or step <= self.end)

    def on_train_batch_begin(self, batch, logs=None):
        self._step += 1
        if self.method == "rigl" and self._due():
            for layer in self._chosen():
                layer._function.capture()

    def on_train_batch_end(self, batch, logs=None):
        if not self._due():
            return
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        for layer in self._chosen():
            self._edit(layer)
        self.edits += 1

    def _edit(self, layer):
        old = layer.pattern
        values = ops.convert_to_numpy(layer.kernel)[:old.nnz]
        if self.method == "prune":
            new = self._pruned(layer, old, values)
        else:
            new = self._exchanged(layer, old, values)
        if new is None or new == old:
            return
        carried = layer.set_pattern(new)
        for name, slot in _slots(self.model.optimizer, layer.kernel):
            before = ops.convert_to_numpy(slot)[:old.nnz]
            fresh = before.mean() if name == "_velocities" and old.nnz else 0
            moved = np.zeros(slot.shape, before.dtype)
            moved[:new.nnz] = topology.carry(before, carried, fresh)
            slot.assign(moved)
        self.history.append((self._step, layer.name, new.nnz, int((carried < 0).sum())))

    def _pruned(self, layer, old, values):
        cells = old.shape[0] * old.shape[1]
        initial = self._initial.setdefault(id(layer), old.density)
        density = topology.cubic_density(self._step, self.begin, self.end, initial, self.final_density)
        count = min(old.nnz, int(density * cells + 0.5))
        return topology.prune(old, values, count)

    def _exchanged(self, layer, old, values):
        fraction = self.fraction
        if self.end is not None:
            fraction = topology.cosine_fraction(self._step - self.begin, max(self.end - self.begin, 1), self.fraction)
        count = int(fraction * old.nnz)
        if self.method == "set":
            self._draws += 1
            return topology.regrow(old, values, count, stream=self.seed * 2**32 + self._draws)
        captured = layer._function.captured()
        if captured is None:  # the layer had no backward in this step
            return None
        return topology.regrow(old, values, count, *captured, spread=self.spread)
