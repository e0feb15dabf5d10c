#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What one would write in Python for a matrix that does not fit: read rows, multiply them, go on. Against bench-stream
on the same file, turn by turn, pages dropped from the cache before each.

usage: stream_scipy.py BENCH_STREAM FILE [BATCH [RUNS]]"""
import json
import os
import statistics
import subprocess
import sys
import time

import numpy
import scipy.sparse


def evict(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def places(path):
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
    return header, 8 + length


def multiply(path, x, y, rows_at_once):
    header, base = places(path)
    rows, cols = (int(header["__metadata__"][side]) for side in ("rows", "cols"))
    begin = {name: base + header["matrix." + name]["data_offsets"][0] for name in ("row_offsets", "col_indices", "values")}
    with open(path, "rb") as f:
        f.seek(begin["row_offsets"])
        offsets = numpy.fromfile(f, numpy.int64, rows + 1)
        for r in range(0, rows, rows_at_once):
            end = min(r + rows_at_once, rows)
            first, last = int(offsets[r]), int(offsets[end])
            f.seek(begin["col_indices"] + 4 * first)
            columns = numpy.fromfile(f, numpy.int32, last - first)
            f.seek(begin["values"] + 4 * first)
            values = numpy.fromfile(f, numpy.float32, last - first)
            local = (offsets[r : end + 1] - first).astype(numpy.int32)
            y[r:end] = scipy.sparse.csr_matrix((values, columns, local), shape=(end - r, cols)) @ x


bench, path = sys.argv[1:3]
batch = int(sys.argv[3]) if len(sys.argv) > 3 else 64
runs = int(sys.argv[4]) if len(sys.argv) > 4 else 3
header, _ = places(path)
rows, cols = (int(header["__metadata__"][side]) for side in ("rows", "cols"))
nnz = header["matrix.values"]["shape"][0]
x = numpy.random.default_rng(1).random((cols, batch), numpy.float32)
y = numpy.zeros((rows, batch), numpy.float32)
ours, theirs = [], []
for _ in range(runs):
    evict(path)
    begin = time.perf_counter()
    multiply(path, x, y, max(1, (4 << 20) * rows // nnz))
    theirs.append(time.perf_counter() - begin)
    ours.append(float(subprocess.run([bench, "forward", path, str(batch)], check=True, capture_output=True).stdout))
    print(f"forward, batch {batch}: SciPy {scipy.__version__} by row chunks {theirs[-1]:.2f} s, streamed {ours[-1]:.2f} s")
print(f"RESULT stream.vs_scipy {statistics.median(theirs) / statistics.median(ours):.2f}")
