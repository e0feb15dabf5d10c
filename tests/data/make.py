#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the matrices that tests/unit/test_io.c reads, with SciPy and safetensors: the one matrix whose
entries both sides compute by themselves, in every format. Run by hand; the files are kept."""
import pathlib

import numpy
import scipy.io
import scipy.sparse
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
ROWS, COLS = 17, 11


def value(i, j):
    if i == 4 or (i * 7 + j * 13) % 5:
        return 0
    return ((i * 31 + j * 17) % 19 - 9) / 4 or 2.5


dense = numpy.array([[value(i, j) for j in range(COLS)] for i in range(ROWS)])
csr = scipy.sparse.csr_matrix(dense)
scipy.sparse.save_npz(HERE / "csr.npz", csr.astype("f4"))
scipy.sparse.save_npz(HERE / "csc.npz", csr.tocsc(), compressed=False)
coo = scipy.sparse.coo_array(dense * 4).astype("i8")
coo.row, coo.col = coo.row.astype("i8"), coo.col.astype("i8")
scipy.sparse.save_npz(HERE / "coo.npz", coo)
half = csr.astype("f4")
half.data = half.data.astype("f2")
scipy.sparse.save_npz(HERE / "half.npz", half)
scipy.sparse.save_npz(HERE / "bsr.npz", scipy.sparse.bsr_matrix(dense))
numpy.savez(HERE / "pickled.npz", format=numpy.array("csr"), shape=csr.shape, indices=csr.indices, indptr=csr.indptr,
            data=csr.data.astype(object))
# A megabyte of zeros in a kilobyte of zip: legal, and over a tight limit.
numpy.savez_compressed(HERE / "bomb.npz", format=b"csr", shape=(1, 1 << 20), indptr=numpy.zeros(2, "i4"),
                       indices=numpy.zeros(1 << 18, "i4"), data=numpy.zeros(1 << 18, "f4"))
scipy.io.mmwrite(HERE / "general.mtx", csr, comment="a comment\nof two lines")
scipy.io.mmwrite(HERE / "array.mtx", dense)
scipy.io.mmwrite(HERE / "pattern.mtx", csr, field="pattern")
scipy.io.mmwrite(HERE / "integer.mtx", (csr * 4).astype(int), field="integer")
square = dense[:COLS]
scipy.io.mmwrite(HERE / "symmetric.mtx", scipy.sparse.coo_matrix(square + square.T), symmetry="symmetric")
scipy.io.mmwrite(HERE / "skew.mtx", scipy.sparse.coo_matrix(square - square.T), symmetry="skew-symmetric")
(HERE / "matrix.smtx").write_text(
    f"{ROWS}, {COLS}, {csr.nnz}\n{' '.join(map(str, csr.indptr))}\n{' '.join(map(str, csr.indices))}\n")
save_file({"matrix.row_offsets": csr.indptr.astype("i8"), "matrix.col_indices": csr.indices.astype("i4"),
           "matrix.values": csr.data.astype("f4")}, HERE / "matrix.safetensors",
          {"format": "sparselayer.csr", "version": "1", "rows": str(ROWS), "cols": str(COLS)})
