#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hold the architecture: each room of src/ may include only the rooms below it, and nothing in
src/ but the registry names CUDA. Exits 1 naming each line that breaks a rule."""
import pathlib
import re
import sys

BELOW = {
    "api": {"api", "comm", "layers", "train", "stream", "io", "ops", "sparse", "core", "backend"},
    "comm": {"comm", "core", "backend"},
    "layers": {"layers", "comm", "stream", "ops", "sparse", "core", "backend"},
    "train": {"train", "comm", "layers", "stream", "ops", "sparse", "core", "backend"},
    "stream": {"stream", "ops", "sparse", "core", "backend"},
    "io": {"io", "train", "comm", "layers", "stream", "ops", "sparse", "core", "backend"},
    "ops": {"ops", "sparse", "core", "backend"},
    "sparse": {"sparse", "core", "backend"},
    "core": {"core", "backend"},
    "backend": {"backend"},
    "cpu": {"cpu", "backend", "core"},
}
# Of core, a backend sees only what needs no context.
CPU_CORE = {"core/checked.h", "core/half.h", "core/place.h", "core/rng.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
CUDA = re.compile(r"\b(cuda_runtime|cusparse|cublas|cudaError|cudaStream)", re.IGNORECASE)

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
faults, files = [], 0
for path in sorted((root / "src").rglob("*.[ch]")):
    room = path.relative_to(root / "src").parts[0]
    files += 1
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path.relative_to(root)}:{number}"
        found = INCLUDE.match(line)
        if found and "/" in found[1]:
            target = found[1].split("/")[0]
            if target in BELOW and target not in BELOW.get(room, set()):
                faults.append(f"{where}: {room} must not include {found[1]}")
            if room == "cpu" and target == "core" and found[1] not in CPU_CORE:
                faults.append(f"{where}: the backend must not include {found[1]}")
        if CUDA.search(line) and path.name != "registry.c":
            faults.append(f"{where}: names CUDA's libraries")
if files < 10:
    faults.append(f"only {files} files were found under {root / 'src'}")
print("\n".join(faults) or f"{files} files keep the architecture")
sys.exit(bool(faults))
