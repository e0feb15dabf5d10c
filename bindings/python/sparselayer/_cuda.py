# SPDX-License-Identifier: Apache-2.0
"""Where the CUDA module's libraries are. The module is linked to cuSPARSE and cuBLAS by soname; the system's loader looks
in its own folders, but PyPI's CUDA wheels (nvidia-cusparse, nvidia-cublas, ...) and a toolkit under CUDA_HOME are not
there. A library that is loaded already counts as found, so they are loaded by path first."""
import ctypes
import glob
import os
import re
import sys

MODULE = "libsparselayer_cuda.so"


def folders():
    """Folders to look in, best first: CUDA_HOME and CUDA_PATH, PyPI's wheels, the toolkits of the system."""
    patterns = [os.path.join(os.environ[name], *rest) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)
                for rest in (("lib64",), ("targets", "*", "lib"))]
    # nvidia/cu13/lib of CUDA 13's wheels, nvidia/cusparse/lib and the like of CUDA 12's.
    patterns += [os.path.join(path, "nvidia", "*", "lib") for path in sys.path if path]
    patterns += ["/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/*/lib", "/opt/cuda*/lib64"]
    seen = []
    for pattern in patterns:
        for folder in sorted(glob.glob(pattern), reverse=True):
            if os.path.realpath(folder) not in map(os.path.realpath, seen):
                seen.append(folder)
    return seen


def _missing(error):
    """The library that a loader's message names as missing, and who wanted it."""
    found = re.match(r"(\S+?): cannot open shared object file", str(error))
    return found.group(1) if found else None


def _load(path, where, pending):
    """Load `path`, and before it, by path, what it needs and the loader does not find. The reason why not, or None."""
    while True:
        try:
            _kept.append(ctypes.CDLL(path))
            return None
        except OSError as error:
            name = _missing(error)
            if name is None or name == path or name in pending:
                return str(error)
            near = [os.path.join(folder, name) for folder in where if os.path.exists(os.path.join(folder, name))]
            if not near:
                return f"{name} was not found by the system's loader nor in {', '.join(where) or 'any CUDA folder'}"
            reason = _load(near[0], where, pending | {name})
            if reason:
                return reason


_kept = []  # handles, so that nothing is unloaded
_outcome = {}


def prepare(library):
    """Load what the module beside `library` (a path) needs, once. Returns why that cannot be, or None: also where there
    is no module, which the library itself says."""
    path = os.path.join(os.path.dirname(library), MODULE)
    if path not in _outcome:
        _outcome[path] = _load(path, folders(), frozenset()) if os.path.exists(path) else None
    return _outcome[path]
