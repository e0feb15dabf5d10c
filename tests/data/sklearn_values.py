#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what scikit-learn says into this folder: metrics.txt (scores, truth and scikit-learn's values of
the metrics) and two svmlight files. Needs scikit-learn: pip install scikit-learn. metrics.txt names the
version that it was made with."""
import pathlib

import numpy as np
import sklearn
from sklearn import metrics
from sklearn.datasets import dump_svmlight_file

here = pathlib.Path(__file__).parent
dice = np.random.default_rng(1)


def value(i, j):
    """As in make.py and the tests."""
    if i == 4 or (i * 7 + j * 13) % 5:
        return 0.0
    return ((i * 31 + j * 17) % 19 - 9) / 4.0 or 2.5


def numbers(array):
    return " ".join(f"{v:.17g}" for v in np.asarray(array, dtype=np.float64).ravel()) + "\n"


def top(scores, k):
    chosen = np.zeros(scores.shape, dtype=int)
    np.put_along_axis(chosen, np.argsort(-scores, axis=1)[:, :k], 1, axis=1)
    return chosen


with open(here / "metrics.txt", "w") as out:
    out.write(f"# made by sklearn_values.py with scikit-learn {sklearn.__version__}\n")
    for rows, cols in ((1, 2), (13, 5), (70, 9)):
        logits = dice.normal(size=(rows, cols)) * 2
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = dice.integers(0, cols, rows)
        out.write(f"classes {rows} {cols}\n" + numbers(logits) + numbers(labels))
        out.write(numbers([metrics.accuracy_score(labels, logits.argmax(axis=1)),
                           metrics.log_loss(labels, chances, labels=range(cols))]))
    for rows, cols, k in ((1, 3, 1), (9, 17, 5), (70, 30, 10), (6, 4, 4)):
        scores = dice.normal(size=(rows, cols))
        grades = dice.integers(1, 4, (rows, cols)) * (dice.random((rows, cols)) < 0.2)
        grades[np.arange(rows), dice.integers(0, cols, rows)] = 2
        truth = (grades > 0).astype(int)
        out.write(f"ranking {rows} {cols} {k}\n" + numbers(scores) + numbers(grades))
        out.write(numbers([metrics.precision_score(truth, top(scores, k), average="samples", zero_division=0),
                           metrics.recall_score(truth, top(scores, k), average="samples", zero_division=0),
                           metrics.ndcg_score(grades, scores, k=k, ignore_ties=True)]))
    for rows, cols in ((20, 1), (30, 6)):
        # One digit: many scores are equal.
        scores = dice.normal(size=(rows, cols)).round(1)
        truth = (dice.random((rows, cols)) < 0.4).astype(int)
        truth[0], truth[1] = 0, 1
        if cols > 1:
            truth[:, 0], truth[:, 1] = 0, 1
        mixed = truth.min(axis=1) != truth.max(axis=1)
        out.write(f"auc {rows} {cols}\n" + numbers(scores) + numbers(truth))
        out.write(numbers([
            metrics.roc_auc_score(truth.ravel(), scores.ravel()),
            np.mean([metrics.roc_auc_score(truth[:, c], scores[:, c]) for c in range(cols)
                     if truth[:, c].min() != truth[:, c].max()]),
            np.mean([metrics.roc_auc_score(truth[r], scores[r]) for r in np.flatnonzero(mixed)]) if mixed.any() else -1]))

x = np.array([[value(i, j) for j in range(11)] for i in range(17)])
dump_svmlight_file(x, np.arange(17) % 3 - 1, str(here / "sklearn.svm"), zero_based=False, comment="by scikit-learn",
                   query_id=np.arange(17) // 4)
sets = (np.add.outer(np.arange(17), np.arange(6)) % 4 == 0).astype(int)
dump_svmlight_file(x, sets, str(here / "sklearn_sets.svm"), zero_based=True, multilabel=True)
