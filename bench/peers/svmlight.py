#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reading rate of svmlight text beside scikit-learn's, in turns within one run.

  svmlight.py BENCH_SVMLIGHT [FILE]      FILE: default 30,000 lines of about 100 entries of 10^6 features

It needs scikit-learn: apt-get install python3-sklearn, or pip install scikit-learn. Prints the medians of 7 turns
and RESULT io.svmlight_over_sklearn (two threads) and io.svmlight_one_thread_over_sklearn."""
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import sklearn
    from sklearn.datasets import load_svmlight_file
except ImportError:
    sys.exit(__doc__)


def make(path):
    dice = random.Random(1)
    with open(path, "w") as f:
        for _ in range(30000):
            columns = sorted(dice.sample(range(1, 1000001), dice.randint(50, 150)))
            f.write(f"{dice.randrange(10)} " + " ".join(f"{c}:{dice.random():.6g}" for c in columns) + "\n")


def ours(program, path, threads):
    out = subprocess.run([program, path, str(threads), "5"], stdout=subprocess.PIPE, check=True, text=True).stdout
    lines = [line.split() for line in out.splitlines()]
    # A new process: its threads and memory warm up for two reads.
    return statistics.median(float(line[0]) for line in lines[2:]), tuple(int(v) for v in lines[-1][1:])


def peer(path):
    began = time.perf_counter()
    x, _ = load_svmlight_file(path)
    return time.perf_counter() - began, (*x.shape, x.nnz)


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        path = sys.argv[2] if len(sys.argv) > 2 else os.path.join(folder, "bench.svm")
        if len(sys.argv) < 3:
            make(path)
        contenders = {"sparselayer, 2 threads": lambda: ours(program, path, 2),
                      "sparselayer, 1 thread": lambda: ours(program, path, 1),
                      f"scikit-learn {sklearn.__version__}": lambda: peer(path)}
        times = {name: [] for name in contenders}
        shapes = set()
        for turn in range(8):
            for name, read in contenders.items():
                seconds, shape = read()
                shapes.add(shape)
                if turn:  # the first one warms up
                    times[name].append(seconds)
        if len(shapes) != 1:
            sys.exit(f"they read different things: {shapes}")
        size = os.path.getsize(path)
        medians = [statistics.median(t) for t in times.values()]
        for name, median in zip(times, medians):
            print(f"{name}: {median:.4f} s, {size / median / 1e6:.0f} MB/s")
        print(f"{size} bytes, {shapes.pop()[2]} entries")
        print(f"RESULT io.svmlight_over_sklearn {medians[2] / medians[0]:.2f}")
        print(f"RESULT io.svmlight_one_thread_over_sklearn {medians[2] / medians[1]:.2f}")


main()
