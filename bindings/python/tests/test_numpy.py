# SPDX-License-Identifier: Apache-2.0
"""Matrices, patterns and products with NumPy and SciPy alone."""
import gc
import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import scipy.sparse as sp

import sparselayer as s
from sparselayer import _tensor, topology
from conftest import close, in_threads, without_hints


def random_csr(rng, rows, cols, density, dtype=np.float32):
    m = sp.random(rows, cols, density, format="csr", dtype=np.float64, random_state=rng)
    m.data = rng.standard_normal(m.nnz)
    return m.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (37, 53, 20), (64, 64, 64), (65, 17, 1), (5, 300, 130), (0, 5, 3), (5, 0, 3),
                                   (5, 5, 0)])
def test_products(rng, shape, dtype):
    rows, cols, columns = shape
    a = random_csr(rng, rows, cols, 0.2, dtype)
    m = s.csr(a)
    x = rng.standard_normal((cols, columns)).astype(dtype)
    want, size = a.astype(np.float64) @ x.astype(np.float64), abs(a).astype(np.float64) @ abs(x)
    close(m @ x, want, size, cols, dtype)
    close(m @ np.asfortranarray(x), want, size, cols, dtype)
    out = np.full((rows, columns + 3), 7, dtype)
    m.matmul(x, out=out[:, :columns])
    close(out[:, :columns], want, size, cols, dtype)
    assert (out[:, columns:] == 7).all()
    y = rng.standard_normal((rows, columns)).astype(dtype)
    back, back_size = a.T.astype(np.float64) @ y.astype(np.float64), abs(a.T).astype(np.float64) @ abs(y)
    close(m.matmul(y, transpose=True), back, back_size, rows, dtype)
    close(m.T @ y, back, back_size, rows, dtype)
    close(y.T @ m, back.T, back_size.T, rows, dtype)
    close(m.matmul(x, out=want.astype(dtype), alpha=-2, beta=1), -want, 3 * size, cols, dtype)
    if columns:
        v = np.ascontiguousarray(x[:, 0])
        assert (m @ v).shape == (rows,)
        close(m @ v, want[:, 0], size[:, 0], cols, dtype)


def test_half(rng):
    dense = rng.standard_normal((30, 40)) * (rng.random((30, 40)) < 0.3)
    half = dense.astype(np.float16)  # SciPy has no sparse float16
    x = rng.standard_normal((40, 12)).astype(np.float16)
    exact = half.astype(np.float64) @ x.astype(np.float64)
    got = s.from_dense(half) @ x
    assert got.dtype == np.float16
    size = abs(half.astype(np.float64)) @ abs(x.astype(np.float64))
    assert (abs(got - exact) <= 2**-11 * abs(exact) + 48 * 2**-24 * size + 2**-24).all()


def test_sddmm(rng):
    pattern = s.Pattern.random(33, 21, 0.3, seed=4)
    a, b = rng.standard_normal((33, 50)).astype(np.float32), rng.standard_normal((50, 21)).astype(np.float32)
    got = s.sddmm(a, b, pattern)
    want, size = a.astype(np.float64) @ b, abs(a).astype(np.float64) @ abs(b)
    close(got.data, want[pattern.rows, pattern.indices], size[pattern.rows, pattern.indices], 50)


def test_borrowed_not_copied(rng):
    a = random_csr(rng, 20, 30, 0.2)
    m = s.csr(a)
    assert np.shares_memory(m.data, a.data) and np.shares_memory(m.indices, a.indices)
    assert np.shares_memory(m.indptr, a.indptr)
    x = np.eye(30, dtype=np.float32)
    a.data *= 2
    assert np.array_equal(m @ x, a.toarray())
    back = m.to_scipy()
    assert np.shares_memory(back.data, a.data)
    want = a.toarray()
    del a
    gc.collect()
    assert np.array_equal(back.toarray(), want) and np.array_equal(m.to_dense(), want)


@pytest.mark.parametrize("form", ["csc", "coo", "bsr", "lil", "dia", "dok"])
def test_formats(rng, form):
    a = random_csr(rng, 12, 18, 0.3)
    assert np.array_equal(s.csr(a.asformat(form)).to_dense(), a.toarray())


def test_unsorted_and_duplicates():
    indptr, indices, data = np.array([0, 3, 4]), np.array([2, 0, 2, 1]), np.array([1.0, 2.0, 4.0, 8.0])
    m = s.csr((data, indices, indptr), shape=(2, 3))
    assert np.array_equal(m.to_dense(), [[2, 0, 5], [0, 8, 0]])
    with pytest.raises(s.ArgumentError) as caught:
        s.Pattern.from_csr(indptr, indices, (2, 3))
    assert caught.value.status == "SL_ERR_STRUCTURE" and "row 0" in str(caught.value)


def test_dense_and_top_k(rng):
    d = rng.standard_normal((9, 14))
    d[abs(d) < 0.5] = 0
    assert np.array_equal(s.from_dense(d).to_dense(), d)
    assert np.array_equal(s.from_dense(d, threshold=1).to_dense(), np.where(abs(d) > 1, d, 0))
    best = s.top_k(d, 5)
    assert best.nnz == 5 and sorted(abs(best.data)) == sorted(np.sort(abs(d).ravel())[-5:])


def test_patterns():
    p = s.Pattern.random(50, 40, 0.1, seed=3)
    assert p.nnz == 200 and p == s.Pattern.random(50, 40, 0.1, seed=3) != s.Pattern.random(50, 40, 0.1, seed=4)
    assert p == pickle.loads(pickle.dumps(p)) and hash(p) == hash(pickle.loads(pickle.dumps(p)))
    assert s.Pattern.full(3, 4).nnz == 12 and s.Pattern.n_m(3, 8, 2, 4).nnz == 12
    mask = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 1]])
    assert np.array_equal(s.Pattern.from_mask(mask).indices, [1, 2, 0, 2])
    with pytest.raises(ValueError):
        p.indices[0] = 1
    order = p.transpose_order()
    assert np.array_equal(np.sort(order), np.arange(200))
    assert (np.diff(p.indices[order].astype(np.int64) * 50 + p.rows[order]) > 0).all()


def test_errors(rng):
    m = s.csr(random_csr(rng, 20, 30, 0.2))
    x = np.zeros((30, 4), np.float32)
    for bad, kind, part in [(x[:20], s.ShapeError, "30 rows, not 20"), (x.astype(np.float64), s.DtypeError, "f64"),
                            (x.astype(np.int32), s.DtypeError, "int32"), (x[None], s.ShapeError, "3 dimensions"),
                            (np.zeros((60, 8), np.float32)[::2, ::2], s.ArgumentError, "strides")]:
        with pytest.raises(kind) as caught:
            m @ bad
        assert part in str(caught.value), caught.value
    with pytest.raises(s.ArgumentError, match="density is 2"):
        s.Pattern.random(3, 4, 2)
    shared = np.zeros((30, 4), np.float32)
    with pytest.raises(s.ArgumentError, match="overlaps"):
        m.matmul(shared, out=shared[:20])
    with pytest.raises(s.ShapeError, match="entries"):
        s.CSR.from_pattern(m.pattern, np.zeros(3, np.float32))
    with pytest.raises(s.ArgumentError, match="device is 'tpu'"):
        s.Runtime(device="tpu")
    assert isinstance(caught.value, Exception) and issubclass(s.ShapeError, ValueError)
    assert m @ x is not None  # a failed call leaves nothing behind


def test_no_cuda_says_why():
    if any(d["device"] == "cuda" and d["usable"] for d in s.devices()):
        pytest.skip("there is a GPU")
    with pytest.raises(s.DeviceError) as caught:
        s.Runtime(device="cuda")
    assert len(str(caught.value)) > 20
    assert s.devices()[0]["device"] == "cpu" and s.devices()[0]["usable"]


def test_threads(rng):
    """Many threads on one runtime, and on runtimes of their own: the same bits."""
    a = random_csr(rng, 200, 150, 0.1)
    x = rng.standard_normal((150, 64)).astype(np.float32)
    m = s.csr(a)
    want = m @ x
    wrong = []

    def work(own):
        mine = s.csr(a, runtime=s.Runtime(threads=1)) if own else m
        for _ in range(50):
            if not np.array_equal(mine @ x, want):
                wrong.append(own)

    in_threads(*[lambda own=i % 2 == 0: work(own) for i in range(6)])
    assert not wrong


def test_gil_is_released(rng):
    """While one thread multiplies another one runs Python."""
    m = s.csr(random_csr(rng, 2000, 2000, 0.2))
    x = rng.standard_normal((2000, 512)).astype(np.float32)
    m @ x
    during, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            during[0] += 1

    t = threading.Thread(target=count)
    t.start()
    before = during[0]
    # One call into C: with the GIL held the counter could move only between calls.
    for _ in range(3):
        m @ x
    moved = during[0] - before
    stop.set()
    t.join()
    assert moved > 1000


def test_fork(rng):
    m = s.csr(random_csr(rng, 100, 80, 0.2))
    x = rng.standard_normal((80, 64)).astype(np.float32)
    want = m @ x
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(m @ x, want) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(m @ x, want)


def test_nothing_leaks(rng):
    a = random_csr(rng, 100, 80, 0.2)
    x = rng.standard_normal((80, 16)).astype(np.float32)

    def rounds(count):
        for _ in range(count):
            m = s.csr(a)
            m @ x
            m.T
            try:
                m @ x[:3]
            except s.ShapeError:
                pass

    rounds(500)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rounds(10000)
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB
    from sparselayer._sparse import _borrowed
    assert len(_borrowed) < 100


def test_devices_of_tensors(rng):
    """DLPack tensors that lie elsewhere: CUDA's are refused by a runtime of the CPU, others at all."""

    class Elsewhere(Foreign):
        def __init__(self, array, device):
            super().__init__(array)
            self.device = device

        def __dlpack__(self, *args, **options):
            capsule = self.array.__dlpack__()
            at = _tensor._get_pointer(capsule, b"dltensor")
            _tensor._Tensor.from_address(at).device.type = self.device
            return capsule

    m = s.csr(random_csr(rng, 20, 30, 0.2))
    x = rng.standard_normal((30, 8)).astype(np.float32)
    for device, part in [(2, "cuda"), (7, "type 7")]:
        with pytest.raises(s.DeviceError, match=f"(?i){part}"):
            m @ Elsewhere(x, device)
    assert np.array_equal(m @ Elsewhere(x, 1), m @ x)


class Foreign:
    """Any library's tensor: it speaks DLPack and nothing else."""

    def __init__(self, array):
        self.array = array
        self.dtype = array.dtype

    def __dlpack__(self, *args, **options):
        return self.array.__dlpack__(*args, **options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack(rng):
    a = random_csr(rng, 20, 30, 0.2)
    x = rng.standard_normal((30, 8)).astype(np.float32)
    m = s.csr(a)
    want = m @ x
    assert np.array_equal(m @ Foreign(x), want)
    assert np.array_equal(m @ Foreign(np.asfortranarray(x)), want)
    out = np.zeros((20, 8), np.float32)
    m.matmul(Foreign(x), out=Foreign(out))
    assert np.array_equal(out, want)
    for _ in range(1000):
        m @ Foreign(x)
    with pytest.raises(s.DtypeError):
        m @ Foreign(np.zeros((30, 8), np.int32))
    assert np.array_equal(np.from_dlpack(m.data), a.data)


def cells(p):
    return set((p.rows * p.shape[1] + p.indices).tolist())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_topology(rng, dtype):
    p = s.Pattern.random(60, 40, 0.1, seed=1)
    values = rng.standard_normal(p.nnz).astype(dtype)
    smallest = set((p.rows * 40 + p.indices)[np.argsort(np.abs(values))][:50].tolist())
    small = topology.prune(p, values, p.nnz - 50)
    kept = topology.entry_map(p, small)
    assert cells(small) == cells(p) - smallest
    assert np.array_equal(p.indices[kept], small.indices) and np.array_equal(p.rows[kept], small.rows)
    assert topology.prune(p, values, 0).nnz == 0 and topology.prune(p, values, p.nnz) == p

    drawn = [topology.regrow(p, values, 50, stream=i) for i in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    for grown in drawn:
        assert grown.nnz == p.nnz and cells(p) - cells(grown) == smallest
        carried = topology.entry_map(p, grown)
        assert (carried < 0).sum() == 50
        assert np.array_equal(topology.carry(values, carried)[carried >= 0], values[np.sort(carried[carried >= 0])])

    dz, x = rng.standard_normal((16, 60)).astype(dtype), rng.standard_normal((16, 40)).astype(dtype)
    gradient = np.abs(dz.T @ x)
    gradient[p.rows, p.indices] = -1
    grown = topology.regrow(p, values, 50, x, dz, spread=np.inf)
    assert cells(grown) - cells(p) == set(np.argsort(-gradient.ravel())[:50].tolist())
    assert cells(p) - cells(grown) == smallest
    bounded = topology.regrow(p, values, 50, x, dz, spread=1)
    assert np.bincount(bounded.rows[topology.entry_map(p, bounded) < 0]).max() <= 4  # the mean of a row
    full = s.Pattern.full(5, 4)
    assert topology.regrow(full, np.ones(20, dtype), 7) == full  # there is nowhere to grow
    values[3] = np.nan
    for edit in (lambda: topology.prune(p, values, 10), lambda: topology.regrow(p, values, 10),
                 lambda: topology.prune(p, values[1:], 10), lambda: topology.prune(p, values, p.nnz + 1)):
        with pytest.raises(ValueError):
            edit()
    with pytest.raises(s.ShapeError):
        topology.regrow(p, np.ones(p.nnz, dtype), 10, x, dz[:, :50])
    assert topology.cosine_fraction(0, 100) == 0.3 and topology.cosine_fraction(100, 100) == 0
    assert topology.cubic_density(0, 0, 10, 1, 0.1) == 1 and topology.cubic_density(10, 0, 10, 1, 0.1) == 0.1


CUDA_FAKES = {"libfakejit.so.1": ("int jit(void) { return 3; }", []),
              "libfakesparse.so.12": ("int jit(void); int product(void) { return jit() + 4; }", ["libfakejit.so.1"]),
              "libsparselayer_cuda.so": ("int product(void); int answer(void) { return product(); }", ["libfakesparse.so.12"])}


def build_cuda_fakes(folder):
    for name, (source, needs) in CUDA_FAKES.items():
        (folder / "fake.c").write_text(source)
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, folder / "fake.c",
                        *(folder / need for need in needs)], check=True)


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
@pytest.mark.parametrize("layout", ["site/nvidia/cu13/lib", "site/nvidia/fakesparse/lib", "home/lib64", "nowhere"])
def test_cuda_libraries_are_found_where_wheels_or_a_toolkit_have_them(tmp_path, layout):
    """A module that is linked as the CUDA module is, to libraries that the loader does not find by itself."""
    folder = tmp_path / layout
    package = tmp_path / "package"
    folder.mkdir(parents=True)
    package.mkdir()
    build_cuda_fakes(folder)
    (folder / "libsparselayer_cuda.so").rename(package / "libsparselayer_cuda.so")
    if layout == "site/nvidia/fakesparse/lib":  # CUDA 12's wheels: each library in a folder of its own
        (tmp_path / "site/nvidia/fakejit/lib").mkdir(parents=True)
        (folder / "libfakejit.so.1").rename(tmp_path / "site/nvidia/fakejit/lib/libfakejit.so.1")
    code = ("import ctypes, sys, sparselayer._cuda as cuda\n"
            "why = cuda.prepare(sys.argv[1] + '/libsparselayer.so')\n"
            "print(why or ctypes.CDLL(sys.argv[1] + '/libsparselayer_cuda.so').answer())")
    env = {**os.environ, "CUDA_HOME": str(tmp_path / "home"),
           "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])}
    got = subprocess.run([sys.executable, "-c", code, str(package)], env=env, check=True, capture_output=True, text=True)
    if layout == "nowhere":
        assert "libfakesparse.so.12 was not found" in got.stdout and str(tmp_path / "home") not in got.stdout
    else:
        assert got.stdout.strip() == "7"


def test_import_needs_numpy_alone():
    code = ("import sys, sparselayer; "
            "bad = {'scipy', 'torch', 'jax', 'tensorflow', 'keras'} & set(sys.modules); assert not bad, bad")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_is_worth_reading():
    import inspect
    missing = [f"{kind.__name__}.{name}" for kind in (s.CSR, s.Pattern, s.Runtime)
               for name, member in inspect.getmembers(kind)
               if not name.startswith("_") and not inspect.getdoc(member)]
    missing += [name for name in s.__all__ if not inspect.getdoc(getattr(s, name))]
    assert not missing


def test_hints():
    # What is made by the package itself is not for users to make.
    own = {"Pattern.__init__(handle)", "Pattern.__init__(runtime)", "CSR.__init__(handle)", "CSR.__init__(runtime)",
           "CSR.__init__(data)"}
    assert set(without_hints(s.CSR, s.Pattern, s.Runtime, s, topology)) <= own
