#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Import a wheel and compute with it in a folder that holds Python, the C and C++ runtimes and the wheels of this package
# and NumPy: no CUDA, no BLAS, no compiler, no library of the system's else.
#   scripts/test-wheel.sh PYTHON WHEEL   (PYTHON: of a virtual environment)
set -euo pipefail
python=$1 wheel=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
copy() { # a file to the same place below the root, with the places its links go by
	for path in "$1" "$(readlink -f "$1")"; do
		mkdir -p "$root$(dirname "$path")"
		[ -e "$root$path" ] || cp -L "$path" "$root$path"
	done
}
binary=$("$python" -c 'import sys; print(sys._base_executable)')
library=$("$python" -c 'import os; print(os.path.dirname(os.__file__))')
mkdir -p "$root$library" "$root/tmp"
tar -C "$library" --exclude=site-packages --exclude=dist-packages --exclude=test --exclude=__pycache__ --exclude=ensurepip \
	--exclude='config-*' -cf - . | tar -C "$root$library" -xf -
binary=$(readlink -f "$binary")
copy "$binary"
for file in "$binary" "$library"/lib-dynload/*.so; do
	ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true
done | sort -u | while read -r needed; do copy "$needed"; done
# What every wheel may expect of the system, by the rules of manylinux.
ldconfig -p | grep -oE '/\S*(libstdc\+\+\.so\.6|libgcc_s\.so\.1|libz\.so\.1|librt\.so\.1|libdl\.so\.2|libpthread\.so\.0|libm\.so\.6)$' |
	sort -u | while read -r needed; do copy "$needed"; done
"$python" -m pip install -q --target "$root/site" "$wheel"
cat >"$root/check.py" <<'PYTHON'
import os, shutil
import numpy as np
import sparselayer
assert not shutil.which("cc") and not shutil.which("gcc") and not os.path.exists("/usr/local/cuda")
rng = np.random.default_rng(0)
for density in (0.05, 0.9):  # the second may run as a dense product
    dense = (rng.standard_normal((300, 200)) * (rng.random((300, 200)) < density)).astype(np.float32)
    x = rng.standard_normal((200, 64)).astype(np.float32)
    assert np.allclose(sparselayer.from_dense(dense) @ x, dense.astype(float) @ x, atol=1e-3)
cuda = [d for d in sparselayer.devices() if d["device"] == "cuda"]
assert not any(d["usable"] for d in cuda), cuda
try:
    sparselayer.Runtime(device="cuda")
except sparselayer.Error as error:
    print("imports and computes; CUDA:", str(error).splitlines()[0])
else:
    raise SystemExit("a CUDA runtime where there is no CUDA")
PYTHON
enter=(chroot)
[ "$(id -u)" -eq 0 ] || enter=(unshare -r chroot)
env -i PYTHONPATH=/site PYTHONHOME="$("$python" -c 'import sys; print(sys.base_prefix)')" "$(command -v "${enter[0]}")" "${enter[@]:1}" "$root" "$binary" -B /check.py
