# SPDX-License-Identifier: Apache-2.0
"""SciPy's CSR times dense. One thread is all it has."""
import peer


def load():
    global sparse
    if peer.THREADS > 1:
        raise RuntimeError("SciPy's products have one thread")
    import numpy
    import scipy
    from scipy import sparse

    return f"SciPy {scipy.__version__}, NumPy {numpy.__version__}"


def prepare(case):
    w = sparse.csr_array((case.values, case.columns, case.offsets), shape=(case.out, case.in_))
    same = lambda result: result
    if case.op == "forward":
        return [("csr", lambda: w @ case.x, same)]
    if case.op == "dx":
        offsets, columns, values = case.turned()
        turned = sparse.csr_array((values, columns, offsets), shape=(case.in_, case.out))
        transposed = w.T
        return [("turned-csr", lambda: turned @ case.y, same), ("csc", lambda: transposed @ case.y, same)]
    return []


peer.serve(load, prepare)
