#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw docs/speedup.svg and docs/share.svg from a file of bench-ops -o: plot.py build/bench.tsv [FOLDER].
Geometric means over the cases of 512 and more on both sides and batches of 64 and more, one thread, all instruction
sets allowed."""
import collections
import math
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "sparselayer"
import matplotlib.pyplot as plt  # noqa: E402

COLUMNS = ("isa threads op shape batch density pattern nnz contender role variant median low high repetitions cold "
           "arithmetic bytes").split()
OPS = {"forward": "forward", "dx": "dX", "dw": "dW"}
SHOWN = {"sparselayer": "C0", "mkl": "C1", "torch": "C2", "scipy": "C3", "jax": "C4", "tensorflow": "C5"}


def read(path):
    """{(op, density): {contender: [(dense time / its time, its share of the dense rate)]}}"""
    cases = collections.defaultdict(dict)
    for line in open(path, encoding="utf-8"):
        row = dict(zip(COLUMNS, line.rstrip("\n").split("\t")))
        if line.startswith("#") or len(row) < len(COLUMNS) or row["isa"] != "best" or row["threads"] != "1":
            continue
        if int(row["repetitions"]) and min(map(int, row["shape"].split("x"))) >= 512 and int(row["batch"]) >= 64:
            cases[tuple(row[c] for c in ("op", "shape", "batch", "density", "pattern"))][row["contender"]] = row
    ratios = collections.defaultdict(lambda: collections.defaultdict(list))
    for (op, shape, _, density, _), rows in cases.items():
        dense = min((float(r["median"]) for r in rows.values() if r["role"] == "dense"), default=None)
        out, in_ = map(int, shape.split("x"))
        for name, row in rows.items():
            if dense and row["role"] != "dense":
                speed = dense / float(row["median"])
                ratios[op, float(density)][name].append((speed, speed * int(row["nnz"]) / (out * in_)))
    return ratios


def mean(numbers):
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def draw(ratios, which, title, path, logarithmic):
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True)
    for axis, (op, label) in zip(axes, OPS.items()):
        densities = sorted(density for o, density in ratios if o == op)
        for name, colour in SHOWN.items():
            points = [(d, mean([r[which] for r in ratios[op, d][name]])) for d in densities if ratios[op, d][name]]
            if points:
                axis.plot(*zip(*points), marker="o", markersize=3, color=colour, label=name,
                          linewidth=2 if name == "sparselayer" else 1)
        if logarithmic:
            axis.set_yscale("log")
            axis.axhline(1, color="grey", linewidth=0.8)
            axis.plot(densities, [1 / d for d in densities], color="grey", linestyle=":", label="1 / density")
        axis.set_xscale("log")
        axis.invert_xaxis()
        axis.set_xticks(densities, [f"{d:g}" for d in densities])
        axis.minorticks_off()
        axis.set_title(label)
        axis.set_xlabel("density")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(title)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    ratios = read(sys.argv[1])
    if not ratios:
        sys.exit(f"{sys.argv[1]}: no case of one thread in it")
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "docs")
    draw(ratios, 0, "speed-up over the fastest dense", folder / "speedup.svg", True)
    draw(ratios, 1, "share of the dense rate", folder / "share.svg", False)


main()
