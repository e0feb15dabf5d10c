# SPDX-License-Identifier: Apache-2.0
"""The other end of bench/process.c: a Python library that takes part in bench-ops.

Questions come as lines on standard input, answers go as lines to standard output:
  hello                     ready VERSIONS | missing WHY
  case OP OUT IN BATCH      names of the variants; none: no such product
  result VARIANT            ok, after the file "result" was written
  time VARIANT SECONDS MOST seconds of each repetition
  finish                    ok
Matrices lie in the folder named on the command line as raw little-endian arrays: offsets and columns (int32), values,
x [in, batch], y [out, batch] (float32). A result is Y or dX, row-major, or dW as W's values."""
import gc
import os
import shutil
import sys
import time
import traceback

import numpy as np

THREADS = int(sys.argv[1])
FOLDER = sys.argv[2]
ROOM = 1 << 30  # most bytes that an intermediate of [nonzeros, batch] may take


class Case:
    """W as CSR, X and dY of one case. `dense_room` says whether [nnz, batch] floats are bearable."""

    def __init__(self, op, out, in_, batch):
        self.op, self.out, self.in_, self.batch = op, int(out), int(in_), int(batch)
        self.offsets = self.read("offsets", np.int32)
        self.columns = self.read("columns", np.int32)
        self.values = self.read("values", np.float32)
        self.x = self.read("x", np.float32).reshape(self.in_, self.batch)
        self.y = self.read("y", np.float32).reshape(self.out, self.batch)
        self.rows = np.repeat(np.arange(self.out, dtype=np.int32), np.diff(self.offsets))
        self.dense_room = self.values.size * self.batch * 4 <= ROOM

    @staticmethod
    def read(name, dtype):
        return np.fromfile(os.path.join(FOLDER, name), dtype)

    def turned(self):
        """W turned, as CSR: offsets, columns, values."""
        order = np.argsort(self.columns, kind="stable")
        offsets = np.zeros(self.in_ + 1, np.int32)
        np.cumsum(np.bincount(self.columns, minlength=self.in_), out=offsets[1:])
        return offsets, self.rows[order], self.values[order]


def settle():
    """Wait until no thread of this process spins any more."""
    for _ in range(200):
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0003:
            return


def time_block(call, budget, most):
    """As time_here() in bench/turns.c."""
    once = float("inf")
    for i in range(3):
        if i == 0 or once < budget:
            began = time.perf_counter()
            call()
            once = min(once, time.perf_counter() - began)
    if once > 4 * budget:
        return [once]
    inner = int(1e-5 / once) + 1 if once < 1e-5 else 1
    seconds = []
    start = time.perf_counter()
    while len(seconds) < most and (not seconds or time.perf_counter() - start < budget):
        began = time.perf_counter()
        for _ in range(inner):
            call()
        seconds.append((time.perf_counter() - began) / inner)
    return seconds


def serve(load, prepare, case=Case):
    """load() imports the library and returns its versions. prepare(case(words of the line)) returns variants (name, call,
    to_numpy): call() computes and waits; to_numpy(what call returned) is the result. A variant whose first call fails
    is left out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    variants = []

    def answer(text):
        answers.write(text + "\n")
        answers.flush()

    for line in sys.stdin:
        word, *rest = line.split()
        if word == "hello":
            try:
                answer("ready " + load())
            except Exception as error:  # pylint: disable=broad-except
                answer("missing " + " ".join(str(error).split()))
        elif word == "case":
            variants = []
            for variant in prepare(case(*rest)):
                try:
                    variant[1]()
                    variants.append(variant)
                except Exception as error:  # pylint: disable=broad-except
                    print(f"# {sys.argv[0]}: {variant[0]}: {error}"[:200], file=sys.stderr)
            answer(" ".join(name for name, _, _ in variants))
        elif word == "result":
            try:
                _, call, to_numpy = variants[int(rest[0])]
                np.ascontiguousarray(to_numpy(call()), np.float32).tofile(os.path.join(FOLDER, "result"))
                answer("ok")
            except Exception:  # pylint: disable=broad-except
                traceback.print_exc()
                answer("failed")
        elif word == "time":
            seconds = time_block(variants[int(rest[0])][1], float(rest[1]), int(rest[2]))
            settle()
            answer(" ".join(f"{s:.4g}" for s in seconds))
        elif word == "finish":
            variants = []
            gc.collect()
            settle()
            answer("ok")
    shutil.rmtree(FOLDER, ignore_errors=True)  # where the driver ended before it could
