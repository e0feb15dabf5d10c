# SPDX-License-Identifier: Apache-2.0
"""Matrices of any library as sl_dense, without a copy: NumPy's arrays, and whatever speaks DLPack."""
import ctypes as c

import numpy as np

from . import _native as n


class _Device(c.Structure):
    _fields_ = [("type", c.c_int32), ("index", c.c_int32)]


class _Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("device", _Device), ("ndim", c.c_int32), ("code", c.c_uint8),
                ("bits", c.c_uint8), ("lanes", c.c_uint16), ("shape", c.POINTER(c.c_int64)),
                ("strides", c.POINTER(c.c_int64)), ("byte_offset", c.c_uint64)]


_get_pointer = c.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = c.c_void_p, [c.py_object, c.c_char_p]
_DTYPES = {(2, 32): n.F32, (2, 64): n.F64, (2, 16): n.F16, (4, 16): n.BF16}
_DEVICES = {1: n.CPU, 2: n.CUDA, 3: n.CPU, 13: n.CUDA}


class View:
    """An sl_dense and whoever owns its memory."""
    __slots__ = ("dense", "owner", "vector")

    def __init__(self, data, dtype, shape, strides, device, index, owner, what):
        if len(shape) not in (1, 2):
            raise n.ShapeError(f"{what} has {len(shape)} dimensions; a matrix has 2, a vector 1", "SL_ERR_SHAPE")
        self.vector = len(shape) == 1
        self.owner = owner
        rows, cols = shape if len(shape) == 2 else (shape[0], 1)
        row, col = strides if len(strides) == 2 else (strides[0], 1)
        if (col == 1 or cols <= 1) and (row >= cols or rows <= 1) and row >= 0:
            order, ld = n.ROW_MAJOR, max(row if rows > 1 else cols, cols, 1)
        elif (row == 1 or rows <= 1) and (col >= rows or cols <= 1) and col >= 0:
            order, ld = n.COL_MAJOR, max(col if cols > 1 else rows, rows, 1)
        else:
            raise n.ArgumentError(f"{what} has strides {tuple(strides)} (in elements): neither its rows nor its columns "
                                  "lie close together; make a contiguous copy", "SL_ERR_LAYOUT")
        self.dense = n.Dense(data, dtype, order, device, index, rows, cols, ld)


def _from_numpy(array, what):
    name = array.dtype.name
    dtype = n.DTYPES.get(name)
    if dtype is None or dtype >= n.I32_DTYPE or not array.dtype.isnative:
        raise n.DtypeError(f"{what} is {array.dtype}; float32, float64, float16 or bfloat16 is needed", "SL_ERR_DTYPE")
    size = array.itemsize
    if any(s % size for s in array.strides):
        raise n.ArgumentError(f"{what} has strides that are no multiple of its elements", "SL_ERR_LAYOUT")
    return View(array.ctypes.data, dtype, array.shape, [s // size for s in array.strides], n.CPU, 0, array, what)


def view(tensor, what="the matrix"):
    """A View of an array of NumPy or of anything with __dlpack__ (PyTorch, JAX, TensorFlow, CuPy), CPU or CUDA."""
    if isinstance(tensor, np.ndarray):
        return _from_numpy(tensor, what)
    if not hasattr(tensor, "__dlpack__"):
        return _from_numpy(np.asarray(tensor), what)
    if getattr(tensor, "requires_grad", False):
        tensor = tensor.detach()
    capsule = tensor.__dlpack__()
    t = _Tensor.from_address(_get_pointer(capsule, b"dltensor"))
    shape = list(t.shape[:t.ndim])
    if t.strides:
        strides = list(t.strides[:t.ndim])
    else:
        strides = [shape[1], 1] if t.ndim == 2 else [1]
    dtype = _DTYPES.get((t.code, t.bits))
    if dtype is None or t.lanes != 1:
        raise n.DtypeError(f"{what} is {getattr(tensor, 'dtype', 'of another dtype')}; float32, float64, float16 or "
                           "bfloat16 is needed", "SL_ERR_DTYPE")
    device = _DEVICES.get(t.device.type)
    if device is None:
        raise n.DeviceError(f"{what} is on a device of DLPack's type {t.device.type}; CPU and CUDA are supported",
                            "SL_ERR_DEVICE")
    return View((t.data or 0) + t.byte_offset, dtype, shape, strides, device, t.device.index, (capsule, tensor), what)


def dtype_of(array, what):
    """An index dtype's number, for int32 and int64."""
    number = n.DTYPES.get(array.dtype.name)
    if number not in (n.I32_DTYPE, n.I64_DTYPE):
        raise n.DtypeError(f"{what} is {array.dtype}; int32 or int64 is needed", "SL_ERR_DTYPE")
    return number
