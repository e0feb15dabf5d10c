# SPDX-License-Identifier: Apache-2.0
"""SparseLinear against PyTorch's own autodiff over the dense weight, in float32 within (terms + 8) eps sum|a||b|."""
import copy
import gc
import io
import pickle
import resource
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import torch.multiprocessing as mp
import torch.nn.utils.prune

import sparselayer as s
import sparselayer.torch
from conftest import in_threads, without_hints
from sparselayer._tensor import view
from sparselayer.torch import SparseLinear, from_linear, sparse_linear

ACTIVATIONS = {None: lambda t: t, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def values_of(layer, dense):
    p = layer.pattern
    return dense[torch.from_numpy(p.rows), torch.from_numpy(p.indices.astype(np.int64))]


@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize("batch", [1, 5, 20, 130])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(activation, batch, chunk):
    torch.manual_seed(batch)
    layer = SparseLinear(50, 30, density=0.2, activation=activation, chunk_size=chunk, seed=3)
    x = torch.randn(batch, 50, requires_grad=True)
    g = torch.randn(batch, 30)
    y = layer(x)
    y.backward(g)
    w, b, xd = (t.detach().double().requires_grad_() for t in (layer.to_dense(), layer.bias, x))
    z = ACTIVATIONS[activation](xd @ w.T + b)
    z.backward(g.double())
    for got, want in ((y, z), (x.grad, xd.grad), (layer.weight.grad, values_of(layer, w.grad)), (layer.bias.grad, b.grad)):
        # Sums of at most 130 terms, each below 10 in magnitude.
        assert (got.double() - want).abs().max() <= 138 * 2**-24 * 10 * batch**0.5 + 1e-6


def test_float64_gradcheck():
    layer = SparseLinear(12, 9, density=0.4, activation="tanh", dtype=torch.float64, seed=1)
    x = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    p = layer.pattern
    assert torch.autograd.gradcheck(lambda x, v, b: sparse_linear(x, v, p, b), (x, layer.weight, layer.bias))
    assert torch.autograd.gradcheck(lambda x: layer(x), (x,))


def test_stock_optimizers_learn():
    torch.manual_seed(0)
    x, target = torch.randn(64, 40), torch.randn(64, 8)
    for make in (lambda p: torch.optim.SGD(p, 0.05, momentum=0.9), lambda p: torch.optim.Adam(p, 0.01),
                 lambda p: torch.optim.AdamW(p, 0.01)):
        model = torch.nn.Sequential(SparseLinear(40, 64, density=0.3, activation="relu"), SparseLinear(64, 8, density=0.5))
        optimizer = make(model.parameters())
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = (model(x) - target).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]


def test_state_dict_pickle_and_copies():
    a, b = SparseLinear(30, 20, density=0.2, seed=1), SparseLinear(30, 20, density=0.3, seed=2)
    x = torch.randn(4, 30)
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x)) and a.pattern == b.pattern
    for other in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
        assert torch.equal(a(x), other(x))
    file = io.BytesIO()
    torch.save(a.state_dict(), file)
    file.seek(0)
    c = SparseLinear(30, 20, density=0.2, seed=5)
    c.load_state_dict(torch.load(file))
    assert torch.equal(a(x), c(x))


def test_errors():
    layer = SparseLinear(30, 20, density=0.2)
    for bad, kind, part in [(torch.zeros(4, 29), s.ShapeError, "30 inputs"),
                            (torch.zeros(4, 30, dtype=torch.float64), s.DtypeError, "float64"),
                            (torch.zeros(4, 30, device="meta"), s.DeviceError, "meta")]:
        with pytest.raises(kind, match=part):
            layer(bad)
    with pytest.raises(s.ArgumentError, match="density"):
        SparseLinear(3, 4, density=0)
    with pytest.raises(s.ShapeError, match="20x30"):
        SparseLinear(30, 20, pattern=np.ones((30, 20)))


def test_autocast_and_shapes():
    layer = SparseLinear(30, 20, density=0.2)
    x = torch.randn(2, 3, 30)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and layer.weight.grad.dtype == torch.float32
    size = x.abs() @ layer.to_dense().abs().T + layer.bias.abs()
    assert ((y.float() - layer(x)).abs() <= 3 * 2**-8 * size).all()
    assert layer(x).shape == (2, 3, 20) and layer(x[:0]).shape == (0, 3, 20)
    assert torch.allclose(layer(x.transpose(0, 1)).transpose(0, 1), layer(x))


@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.parametrize("layout", ["csr", "coo", "narrow"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_sparse_inputs(activation, layout, chunk):
    layer = SparseLinear(50, 30, density=0.2, activation=activation, chunk_size=chunk, seed=3)
    torch.manual_seed(1)
    x = torch.randn(40, 50) * (torch.rand(40, 50) < 0.2)
    g = torch.randn(40, 30)
    sparse = x.to_sparse_csr() if layout != "coo" else x.to_sparse()
    if layout == "narrow":
        sparse = torch.sparse_csr_tensor(sparse.crow_indices().int(), sparse.col_indices().int(), sparse.values(), x.shape)
    want = layer(x)
    want.backward(g)
    grads = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    y = layer(sparse)
    y.backward(g)
    # Sums of at most 50 terms of magnitude below 10.
    assert (y - want).abs().max() <= 58 * 2**-24 * 10
    for parameter, grad in zip(layer.parameters(), grads):
        assert (parameter.grad - grad).abs().max() <= 58 * 2**-24 * 20
    assert layer(x[:0].to_sparse()).shape == (0, 30)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(sparse), y)


def test_sparse_input_errors():
    layer = SparseLinear(50, 30, density=0.2)
    with pytest.raises(s.ShapeError):
        layer(torch.zeros(4, 49).to_sparse())
    with pytest.raises(s.UnsupportedError, match="requires a gradient"):
        layer(torch.ones(4, 50).to_sparse().requires_grad_())
    with pytest.raises(s.UnsupportedError, match="layout"):
        layer(torch.ones(4, 50).to_sparse_csc())
    # Entries twice count twice.
    twice = torch.sparse_coo_tensor([[0, 0, 1], [3, 3, 4]], [1.0, 2.0, 1.0], (2, 50))
    assert torch.allclose(layer(twice), layer(twice.to_dense()), atol=1e-5)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.skipif(
    not shutil.which("g++"), reason="inductor compiles with g++"))])
def test_compile(backend):
    layer = SparseLinear(30, 20, density=0.2, activation="relu", seed=1)
    x = torch.randn(8, 30)
    compiled = torch.compile(lambda x: layer(x).sum(), fullgraph=True, backend=backend)
    layer(x).sum().backward()
    want = layer.weight.grad.clone()
    layer.weight.grad = None
    compiled(x).backward()
    assert torch.allclose(layer.weight.grad, want, rtol=1e-5, atol=1e-6)


def test_set_pattern():
    layer = SparseLinear(30, 20, density=0.2, seed=1)
    before, weight = layer.to_dense(), layer.weight
    new = s.Pattern.random(20, 30, 0.2, seed=9)
    carried = layer.set_pattern(new)
    assert layer.weight is weight and layer.pattern == new
    kept = torch.from_numpy(carried >= 0)
    assert torch.equal(layer.weight.detach()[kept], values_of(layer, before)[kept])
    assert (layer.weight.detach()[~kept] == 0).all()


def test_from_masks():
    linear = torch.nn.Linear(30, 20)
    torch.nn.utils.prune.l1_unstructured(linear, "weight", amount=0.8)
    sparse = from_linear(linear)
    x = torch.randn(5, 30)
    assert sparse.weight.numel() == 120 and torch.allclose(sparse(x), linear(x), atol=1e-6)
    assert from_linear(torch.nn.Linear(30, 20), density=0.1).weight.numel() == 60


def test_threads():
    layer = SparseLinear(100, 80, density=0.2, seed=1)
    x = torch.randn(32, 100)
    want, wrong = layer(x).detach(), []

    def work():
        for _ in range(50):
            if not torch.equal(layer(x).detach(), want):
                wrong.append(1)

    in_threads(*[work] * 4)
    assert not wrong


def test_numpy_side_borrows_tensors():
    """Tensors go into products by DLPack, results come out into a tensor or as one over the same memory."""
    a = torch.randn(20, 30) * (torch.rand(20, 30) < 0.2)
    x, out = torch.randn(30, 8), torch.zeros(20, 8)
    parts = a.to_sparse_csr()
    m = s.csr((parts.values(), parts.col_indices().int(), parts.crow_indices()), shape=(20, 30))
    assert m.data.ctypes.data == parts.values().data_ptr()
    assert m.matmul(x, out=out) is out and torch.allclose(out, a @ x, atol=1e-5)
    assert view(x).dense.data == x.data_ptr()
    y = m @ x
    assert torch.from_dlpack(y).data_ptr() == y.ctypes.data
    assert torch.allclose(torch.from_dlpack(m.matmul(x.bfloat16().float())), a @ x.bfloat16().float(), atol=1e-5)


@pytest.mark.parametrize("batch", ["dense", "sparse", "compiled"])
def test_nothing_leaks(batch):
    layer = SparseLinear(60, 40, density=0.2, activation="relu")
    optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
    x = torch.randn(16, 60)
    x = (x * (x > 1)).to_sparse() if batch == "sparse" else x
    call = torch.compile(layer, fullgraph=True, backend="aot_eager") if batch == "compiled" else layer

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            call(x).sum().backward()
            optimizer.step()

    steps(1000)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps(10000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


def _rank(rank, folder):
    import torch.distributed as dist
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    layer = SparseLinear(30, 20, density=0.2, seed=rank)  # another pattern in each: rank 0's must win
    model = torch.nn.parallel.DistributedDataParallel(layer)
    torch.manual_seed(rank)
    x = torch.randn(8, 30)
    model(x).sum().backward()
    np.savez(f"{folder}/{rank}.npz", grad=layer.weight.grad, indices=layer.pattern.indices, x=x)
    dist.destroy_process_group()


def test_distributed_data_parallel(tmp_path):
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    a, b = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    assert np.array_equal(a["indices"], b["indices"]) and np.array_equal(a["grad"], b["grad"])
    layer = SparseLinear(30, 20, density=0.2, seed=0)
    sums = (a["x"].sum(0) + b["x"].sum(0)) / 2
    assert np.allclose(a["grad"], sums[layer.pattern.indices], atol=1e-5)


def test_hints():
    found = without_hints(SparseLinear, sparselayer.torch)
    assert set(found) == {"SparseLinear.extra_repr"}  # PyTorch's
