# SPDX-License-Identifier: Apache-2.0
"""Names for what functions take."""
from __future__ import annotations

from typing import Any, Protocol, Union, runtime_checkable

import numpy as np


@runtime_checkable
class SupportsDLPack(Protocol):
    """A tensor of PyTorch, JAX, TensorFlow, CuPy, ..."""

    def __dlpack__(self, *args: Any, **options: Any) -> Any: ...


@runtime_checkable
class SupportsToCSR(Protocol):
    """A sparse matrix or array of SciPy, of any format."""

    def tocsr(self) -> Any: ...


Matrix = Union[np.ndarray, SupportsDLPack]
"""Dense, 2-D or 1-D, on the CPU or a GPU."""
