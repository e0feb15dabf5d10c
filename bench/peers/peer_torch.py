# SPDX-License-Identifier: Apache-2.0
"""PyTorch's CSR products, which are MKL's in PyPI's wheels, and sampled_addmm."""
import peer


def load():
    global torch
    import warnings

    import torch

    warnings.filterwarnings("ignore")  # that CSR is in beta
    torch.set_num_threads(peer.THREADS)
    torch.set_grad_enabled(False)
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"


def csr(offsets, columns, values, shape):
    tensors = torch.from_numpy(offsets), torch.from_numpy(columns), torch.from_numpy(values)
    return torch.sparse_csr_tensor(*tensors, size=shape)


def prepare(case):
    w = csr(case.offsets, case.columns, case.values, (case.out, case.in_))
    x, y = torch.from_numpy(case.x), torch.from_numpy(case.y)
    x_columns, y_columns = x.t().contiguous().t(), y.t().contiguous().t()  # as frameworks keep them: [batch, features]
    whole = lambda result: result.numpy()
    if case.op == "forward":
        return [("rows", lambda: w @ x, whole), ("columns", lambda: w @ x_columns, whole)]
    if case.op == "dx":
        turned = csr(*case.turned(), (case.in_, case.out))
        transposed = w.t()
        return [("turned-rows", lambda: turned @ y, whole), ("turned-columns", lambda: turned @ y_columns, whole),
                ("csc-rows", lambda: transposed @ y, whole), ("csc-columns", lambda: transposed @ y_columns, whole)]
    addmm = torch.sparse.sampled_addmm
    values = lambda result: result.values().numpy()
    return [("rows", lambda: addmm(w, y, x.t(), beta=0.0), values),
            ("columns", lambda: addmm(w, y_columns, x_columns.t(), beta=0.0), values)]


peer.serve(load, prepare)
