#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Import a wheel and compute with it in a folder that holds Python, the C and C++ runtimes and the wheels of this package
# and NumPy: no CUDA, no BLAS, no compiler, no library of the system's else. Then, where PYTHON's environment has NVIDIA's CUDA
# wheels (PyTorch brings them), once more with their libraries beside it, and once with the same as a toolkit's.
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
python3 scripts/wheel-licenses.py --check "$wheel"
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
import os, shutil, sys
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
module = os.path.exists(os.path.join(os.path.dirname(sparselayer.__file__), "lib", "libsparselayer_cuda.so"))
try:
    sparselayer.Runtime(device="cuda")
except sparselayer.Error as error:
    why = cuda[0]["detail"] if cuda else str(error).splitlines()[0]
else:
    raise SystemExit("a CUDA runtime where there is no CUDA")
# With CUDA's libraries the module loads, and CUDA itself says what is missing: a driver, a GPU.
assert not module or ("was not found" in why) == (sys.argv[1] == "bare"), why
print(f"{sys.argv[1]}: imports and computes; CUDA: {why}")
PYTHON
enter=(chroot)
[ "$(id -u)" -eq 0 ] || enter=(unshare -r chroot)
home=$("$python" -c 'import sys; print(sys.base_prefix)')
run() { # NAME VARIABLE=VALUE...
	env -i PYTHONHOME="$home" "${@:2}" "$(command -v "${enter[0]}")" "${enter[@]:1}" "$root" "$binary" -B /check.py "$1"
}
run bare PYTHONPATH=/site
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for file in "$site"/nvidia/*/lib/lib{cusparse,cublas,cublasLt,nvJitLink}.so.*; do
	[ -e "$file" ] || continue
	mkdir -p "$root/cuda/$(dirname "${file#"$site/"}")" "$root/toolkit/lib64"
	for place in "$root/cuda/${file#"$site/"}" "$root/toolkit/lib64"; do
		ln "$file" "$place" 2>/dev/null || cp "$file" "$place"
	done
done
if [ -e "$root/cuda" ]; then
	run "CUDA's wheels" PYTHONPATH=/site:/cuda
	run "a toolkit" PYTHONPATH=/site CUDA_HOME=/toolkit
fi
