#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Read with SciPy and safetensors what the command wrote, and compare. Usage: check.py COMMAND. Exits 77
(skipped) where SciPy is missing."""
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy
    import scipy.io
    import scipy.sparse
except ImportError:
    print("skipped: SciPy is not installed, so what we write was not read by it")
    sys.exit(77)
HERE = pathlib.Path(__file__).parent
wanted = scipy.sparse.load_npz(HERE / "csr.npz").toarray()
with tempfile.TemporaryDirectory() as folder:
    for name in ("out.npz", "out.mtx", "out.safetensors", "out.smtx"):
        path = pathlib.Path(folder) / name
        subprocess.run([sys.argv[1], "convert", HERE / "general.mtx", path], check=True)
        if name == "out.npz":
            got = scipy.sparse.load_npz(path)
            assert got.format == "csr" and got.has_canonical_format
            got = got.toarray()
        elif name == "out.mtx":
            got = scipy.io.mmread(path).toarray()
        elif name == "out.smtx":
            lines = path.read_text().splitlines()
            rows, cols, nnz = map(int, lines[0].split(","))
            offsets, columns = (numpy.array(list(map(int, line.split()))) for line in lines[1:])
            got = scipy.sparse.csr_matrix((numpy.ones(nnz), columns, offsets), (rows, cols)).toarray()
            assert (got == (wanted != 0)).all()
            continue
        else:
            try:
                from safetensors.numpy import load_file
            except ImportError:
                continue
            t = load_file(path)
            got = scipy.sparse.csr_matrix((t["matrix.values"], t["matrix.col_indices"], t["matrix.row_offsets"]),
                                          wanted.shape).toarray()
        assert (got == wanted).all(), name
print("what the command wrote reads back")
