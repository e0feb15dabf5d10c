# SPDX-License-Identifier: Apache-2.0
"""The C library through ctypes: loading, prototypes, statuses as exceptions. ctypes releases the GIL in each call."""
from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import _cuda

c = ctypes
I64, PTR, INT = c.c_int64, c.c_void_p, c.c_int

F32, F64, BF16, F16, I32_DTYPE, I64_DTYPE = 1, 2, 3, 4, 16, 17
ROW_MAJOR, COL_MAJOR = 0, 1
AUTO, CPU, CUDA = 0, 1, 2
DTYPES = {"float32": F32, "float64": F64, "bfloat16": BF16, "float16": F16, "int32": I32_DTYPE, "int64": I64_DTYPE}
ITEMSIZE = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
NAMES = {number: name for name, number in DTYPES.items()}
ACTIVATIONS = {None: 0, "linear": 0, "identity": 0, "relu": 1, "clipped_relu": 2, "relu6": 2, "leaky_relu": 3,
               "sigmoid": 4, "tanh": 5}


class Error(Exception):
    """A call into the library failed. `status` is its name there ("SL_ERR_SHAPE"), the text its message."""

    def __init__(self, message, status="SL_ERR_INTERNAL"):
        super().__init__(message)
        self.status = status


class ShapeError(Error, ValueError):
    """Shapes do not meet."""


class DtypeError(Error, TypeError):
    """A dtype, or a combination, that is not supported."""


class ArgumentError(Error, ValueError):
    """An argument has a value that is not allowed, or a structure is not valid."""


class DeviceError(Error, RuntimeError):
    """The device is not there, or data lies on another one."""


class OutOfMemoryError(Error, MemoryError):
    """Memory, or the budget, does not suffice."""


class StateError(Error, RuntimeError):
    """Called in a state that does not allow it."""


class UnsupportedError(Error, NotImplementedError):
    """Not supported by this backend or build."""


_KINDS = {"SL_ERR_SHAPE": ShapeError, "SL_ERR_DTYPE": DtypeError, "SL_ERR_ARGUMENT": ArgumentError,
          "SL_ERR_NULL": ArgumentError, "SL_ERR_LAYOUT": ArgumentError, "SL_ERR_ALIAS": ArgumentError,
          "SL_ERR_OVERFLOW": ArgumentError, "SL_ERR_STRUCTURE": ArgumentError, "SL_ERR_NONFINITE": ArgumentError,
          "SL_ERR_DEVICE": DeviceError, "SL_ERR_DEVICE_LOST": DeviceError, "SL_ERR_MEMORY": OutOfMemoryError,
          "SL_ERR_BUDGET": OutOfMemoryError, "SL_ERR_STATE": StateError, "SL_ERR_UNSUPPORTED": UnsupportedError}


class Dense(c.Structure):
    """sl_dense"""
    _fields_ = [("data", PTR), ("dtype", INT), ("order", INT), ("device", INT), ("device_index", INT), ("rows", I64),
                ("cols", I64), ("ld", I64)]


class Entries(c.Structure):
    """slb_entries"""
    _fields_ = [("batch", I64), ("count", I64), ("offsets", PTR), ("offset_dtype", INT), ("rows", PTR), ("columns", PTR),
                ("index_dtype", INT), ("stride", I64), ("values", PTR), ("padded", INT)]


class Edit(c.Structure):
    """slb_edit"""
    _fields_ = [("values", PTR), ("dtype", INT), ("keep", I64), ("exchange", I64), ("spread", c.c_double),
                ("stream", c.c_uint64), ("x", PTR), ("dz", PTR)]


class PatternArrays(c.Structure):
    """sl_pattern_arrays"""
    _fields_ = [("rows", I64), ("cols", I64), ("nnz", I64), ("row_offsets", PTR), ("offset_dtype", INT),
                ("col_indices", PTR)]


class BuildOptions(c.Structure):
    """sl_build_options"""
    _fields_ = [("struct_size", c.c_size_t), ("duplicates", INT), ("refuse_nonfinite", c.c_bool),
                ("drop_zeros", c.c_bool), ("dtype", INT)]


class DeviceInfo(c.Structure):
    """sl_device_info"""
    _fields_ = [("struct_size", c.c_size_t), ("device", INT), ("index", INT), ("usable", c.c_bool),
                ("name", c.c_char * 96), ("detail", c.c_char * 192), ("memory", c.c_uint64), ("units", INT)]


def library_folder():
    """Where the shared objects are: in the package, or where SPARSELAYER_LIBRARY_DIR says."""
    own = pathlib.Path(__file__).parent / "lib"
    return pathlib.Path(os.environ.get("SPARSELAYER_LIBRARY_DIR") or own)


def load(name, mode=c.DEFAULT_MODE):
    path = library_folder() / name
    if not path.exists():
        raise ImportError(f"{path} is missing: install the package (pip install .), or point "
                          "SPARSELAYER_LIBRARY_DIR at a build's bindings/python/lib")
    return c.CDLL(str(path), mode=mode)


bridge = load("libsparselayer_bridge.so")
# The library itself: the bridge is linked to it, so its symbols are found through the bridge's handle.
sl = bridge

RELEASE = c.CFUNCTYPE(None, PTR)

_PROTOTYPES = {
    "sl_version_string": (c.c_char_p, []),
    "sl_status_name": (c.c_char_p, [INT]),
    "sl_context_message": (c.c_char_p, [PTR]),
    "sl_context_describe": (c.c_char_p, [PTR]),
    "sl_context_threads": (INT, [PTR]),
    "sl_context_device": (INT, [PTR]),
    "sl_devices": (INT, [PTR, c.POINTER(INT)]),
    "sl_pattern_create": (INT, [PTR, PTR, I64, I64, I64, PTR, INT, PTR, INT]),
    "sl_pattern_wrap": (INT, [PTR, PTR, I64, I64, I64, PTR, INT, PTR, PTR, PTR]),
    "sl_pattern_random": (INT, [PTR, PTR, I64, I64, c.c_double, c.c_uint64]),
    "sl_pattern_n_m": (INT, [PTR, PTR, I64, I64, INT, INT, c.c_uint64]),
    "sl_pattern_full": (INT, [PTR, PTR, I64, I64]),
    "sl_pattern_get": (INT, [PTR, PTR, PTR]),
    "sl_pattern_transpose": (INT, [PTR, PTR, PTR, PTR, PTR]),
    "sl_pattern_hash": (INT, [PTR, PTR, PTR]),
    "sl_pattern_release": (None, [PTR]),
    "sl_pattern_retain": (PTR, [PTR]),
    "sl_csr_create": (INT, [PTR, PTR, I64, I64, I64, PTR, INT, PTR, INT, PTR, INT, PTR]),
    "sl_csr_create_coo": (INT, [PTR, PTR, I64, I64, I64, PTR, PTR, INT, PTR, INT, PTR]),
    "sl_csr_create_dense": (INT, [PTR, PTR, PTR, c.c_double, PTR]),
    "sl_csr_create_top_k": (INT, [PTR, PTR, PTR, I64, PTR]),
    "sl_csr_create_pattern": (INT, [PTR, PTR, PTR, INT]),
    "sl_csr_wrap": (INT, [PTR, PTR, PTR, PTR, INT, PTR, PTR]),
    "sl_csr_transpose": (INT, [PTR, PTR, PTR]),
    "sl_csr_pattern": (PTR, [PTR]),
    "sl_csr_values": (PTR, [PTR]),
    "sl_csr_dtype": (INT, [PTR]),
    "sl_csr_destroy": (None, [PTR]),
    "sl_csr_to_dense": (INT, [PTR, PTR, PTR]),
    "sl_dense_copy": (INT, [PTR, PTR, PTR]),
    "sl_spmm": (INT, [PTR, INT, c.c_double, PTR, PTR, c.c_double, PTR, PTR]),
    "sl_plan_spmm": (INT, [PTR, PTR, INT, PTR, PTR, PTR, PTR]),
    "sl_plan_run_spmm": (INT, [PTR, PTR, c.c_double, PTR, PTR, c.c_double, PTR, PTR]),
    "sl_plan_describe": (INT, [PTR, PTR, c.c_char_p, c.c_size_t]),
    "sl_plan_destroy": (None, [PTR]),
    "sl_sddmm": (INT, [PTR, c.c_double, PTR, PTR, c.c_double, PTR]),
    "slb_message": (c.c_char_p, []),
    "slb_library_path": (c.c_char_p, []),
    "slb_runtime_create": (INT, [PTR, INT, INT, INT, c.c_uint64, c.c_char_p]),
    "slb_runtime_destroy": (None, [PTR]),
    "slb_runtime_context": (PTR, [PTR]),
    "slb_lock": (None, [PTR]),
    "slb_unlock": (None, [PTR]),
    "slb_unlock_in_child": (None, [PTR]),
    "slb_function_create": (INT, [PTR, PTR, PTR, INT, INT, c.c_double, INT, I64]),
    "slb_function_destroy": (None, [I64]),
    "slb_function_set_pattern": (INT, [I64, PTR]),
    "slb_pattern_edit": (INT, [PTR, PTR, PTR, PTR]),
    "slb_map": (INT, [PTR, PTR, PTR, PTR]),
    "slb_capture": (INT, [I64, INT]),
    "slb_captured": (INT, [I64, PTR, PTR, PTR, PTR]),
    "slb_kept_bytes": (INT, [I64, I64, PTR]),
    "slb_forward_sparse": (INT, [I64, PTR, PTR, PTR, PTR]),
    "slb_backward_sparse": (INT, [I64, PTR, PTR, PTR, PTR, I64, PTR]),
    "slb_forward": (INT, [I64, I64, PTR, I64, PTR, PTR, PTR, I64, PTR]),
    "slb_backward": (INT, [I64, I64, PTR, I64, PTR, PTR, PTR, I64, PTR, PTR, PTR, I64, PTR]),
}
for _name, (_result, _arguments) in _PROTOTYPES.items():
    _function = getattr(sl, _name)
    _function.restype, _function.argtypes = _result, _arguments


def raise_status(status, message):
    name = sl.sl_status_name(status).decode()
    raise _KINDS.get(name, Error)(message.decode(errors="replace"), name)


def check_bridge(status):
    if status:
        raise_status(status, bridge.slb_message())


forward, backward = bridge.slb_forward, bridge.slb_backward
version = sl.sl_version_string().decode()


class Runtime:
    """Threads, a device and workspace for computing. `sparselayer.runtime()` is the one that is used where none is
    named; another one can have fewer threads or another device. Any thread may use it; calls take turns.

    Args:
        device: "cpu", "cuda", or "auto" (CUDA where it is complete, else the CPU).
        threads: how many, the caller's included; 0: all cores this process may use.
        seed: of random patterns.
        openmp: path or soname of a loaded OpenMP runtime whose threads do the work, or None for own threads.
    """

    def __init__(self, device: str = "cpu", threads: int = 0, seed: int = 0, device_index: int = 0,
                 openmp: str | None = None):
        self._handle = None
        kinds = {"auto": AUTO, "cpu": CPU, "cuda": CUDA}
        if device not in kinds:
            raise ArgumentError(f"device is {device!r}; it is one of {', '.join(map(repr, kinds))}", "SL_ERR_ARGUMENT")
        why = None if device == "cpu" else _cuda.prepare(bridge.slb_library_path().decode())
        handle = PTR()
        status = bridge.slb_runtime_create(c.byref(handle), kinds[device], device_index, threads, seed,
                                           openmp.encode() if openmp else None)
        if status and why:
            raise_status(status, bridge.slb_message() + f" ({why})".encode())
        check_bridge(status)
        self._handle = handle.value
        self.context = bridge.slb_runtime_context(handle)
        _runtimes.add(self)

    def __del__(self):
        if self._handle is not None:
            bridge.slb_runtime_destroy(self._handle)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the runtime: calls of other threads on it wait. Yields the sl_context."""
        bridge.slb_lock(self._handle)
        try:
            yield self.context
        finally:
            bridge.slb_unlock(self._handle)

    def call(self, function: Any, *arguments: Any) -> None:
        """function(context, *arguments), a status turned into an exception with the library's message."""
        with self.locked() as context:
            status = function(context, *arguments)
            if status:
                raise_status(status, sl.sl_context_message(context))

    def make(self, function: Any, *arguments: Any) -> int:
        """As call(), for functions that give an object: function(&object, context, *arguments)."""
        made = PTR()
        with self.locked() as context:
            status = function(c.byref(made), context, *arguments)
            if status:
                raise_status(status, sl.sl_context_message(context))
        return made.value

    @property
    def threads(self) -> int:
        """How many threads compute."""
        return sl.sl_context_threads(self.context)

    @property
    def device(self) -> str:
        """"cpu" or "cuda"."""
        return "cuda" if sl.sl_context_device(self.context) == CUDA else "cpu"

    def __repr__(self):
        return f"<sparselayer.Runtime {sl.sl_context_describe(self.context).decode()}>"


_runtimes = weakref.WeakSet()
_default = {}
_default_lock = threading.Lock()


def runtime(name: str = "", **options: Any) -> Runtime:
    """The process's runtime of a name, made on first use: "" is NumPy's, frameworks have their own."""
    found = _default.get(name)
    if found is None:
        with _default_lock:
            found = _default.get(name)
            if found is None:
                found = _default[name] = Runtime(**options)
    return found


def _before_fork():
    _forking[:] = list(_runtimes)
    for r in _forking:
        bridge.slb_lock(r._handle)


def _after_fork_in_parent():
    for r in reversed(_forking):
        bridge.slb_unlock(r._handle)
    del _forking[:]


def _after_fork_in_child():
    for r in _forking:
        bridge.slb_unlock_in_child(r._handle)
    del _forking[:]


# No thread may be inside a call while the process forks; after it the child's contexts make threads of their own.
_forking = []
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                    after_in_child=_after_fork_in_child)


def numpy_pointer(array):
    return array.ctypes.data


def address_view(address, count, dtype, owner):
    """A NumPy array over memory of the library; `owner` lives as long as it does."""
    if not count:
        return np.empty(0, dtype)
    dtype = np.dtype(dtype)
    holder = (c.c_char * (count * dtype.itemsize)).from_address(address)
    holder._owner = owner
    return np.frombuffer(holder, dtype=dtype, count=count)


def devices() -> list[dict[str, Any]]:
    """What could be computed on, and why not: a list of dicts with device, index, usable, name, detail, memory."""
    why = _cuda.prepare(bridge.slb_library_path().decode())
    count = INT(16)
    infos = (DeviceInfo * 16)()
    for info in infos:
        info.struct_size = c.sizeof(DeviceInfo)
    sl.sl_devices(infos, c.byref(count))
    return [dict(device={CPU: "cpu", CUDA: "cuda"}.get(i.device, "?"), index=i.index, usable=i.usable,
                 name=i.name.decode(), detail=why if why and i.device == CUDA else i.detail.decode(), memory=i.memory)
            for i in infos[:min(count.value, 16)]]
