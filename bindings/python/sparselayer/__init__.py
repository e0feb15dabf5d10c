# SPDX-License-Identifier: Apache-2.0
"""Neural-network layers with sparse weights, at the speed of the C library `sparselayer`.

`sparselayer.csr(A) @ X` multiplies NumPy, SciPy and DLPack matrices. Layers are in `sparselayer.torch`,
`sparselayer.jax` and `sparselayer.keras`, which import their framework; this module needs NumPy alone.
"""
from ._native import (ArgumentError, DeviceError, DtypeError, Error, OutOfMemoryError, Runtime, ShapeError, StateError,
                      UnsupportedError, devices, runtime, version)
from ._sparse import CSR, Pattern, csr, from_dense, sddmm, top_k

__version__ = version
__all__ = ["ArgumentError", "CSR", "DeviceError", "DtypeError", "Error", "OutOfMemoryError", "Pattern", "Runtime",
           "ShapeError", "StateError", "UnsupportedError", "csr", "devices", "from_dense", "runtime", "sddmm", "top_k"]
