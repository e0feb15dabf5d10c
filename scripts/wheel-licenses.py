#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Put into a wheel the licence texts of what it brings along, or (--check) fail where one is missing.

    wheel-licenses.py [--check] WHEEL

Of each library that auditwheel copied, and of what is compiled in, that is the Debian package's copyright file, and the texts in
/usr/share/common-licenses that it refers to. They go to the wheel's *.dist-info/licenses/third-party/PACKAGE/.
"""
import base64
import csv
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import zipfile

COMPILED_IN = ["libxxhash-dev", "libdlpack-dev", "libsimde-dev"]  # headers with code
# Where a CUDA toolkit may have its licence, which the CUDA module's static runtime is under.
TOOLKIT = ["/usr/local/cuda/EULA.txt", "/usr/local/cuda/doc/EULA.txt", "/usr/local/cuda/LICENSE"]


def libraries(wheel):
    """{file in the wheel: its name before auditwheel put a hash into it}"""
    names = [n for n in wheel.namelist() if ".libs/" in n and not n.endswith("/")]
    return {n: re.sub(r"-[0-9a-f]{8}(?=\.so)", "", n.rsplit("/", 1)[1]) for n in names}


def package_of(library):
    """The installed Debian package that has a library of this name."""
    found = subprocess.run(["dpkg-query", "-S", f"*/{library}"], capture_output=True, text=True).stdout
    packages = sorted({line.split(":")[0] for line in found.splitlines() if line.endswith("/" + library)})
    if len(packages) != 1:
        raise SystemExit(f"{library} is of {packages or 'no package'}; one package is needed, to have its licence from")
    return packages[0]


def texts(packages):
    """{path below third-party/: bytes}"""
    found = {}
    for package in packages:
        text = pathlib.Path("/usr/share/doc", package, "copyright").read_bytes()
        found[f"{package}/copyright"] = text
        for name in set(re.findall(rb"/usr/share/common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])", text)):
            found[f"common-licenses/{name.decode()}"] = pathlib.Path("/usr/share/common-licenses", name.decode()).read_bytes()
    return found


def record_line(name, content):
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return name, f"sha256={digest}", str(len(content))


def add(path):
    with zipfile.ZipFile(path) as wheel:
        packages = sorted({package_of(name) for name in libraries(wheel).values()} | set(COMPILED_IN))
        files = {info: wheel.read(info) for info in wheel.infolist()}
    found = texts(packages)
    if any(info.filename.endswith("libsparselayer_cuda.so") for info in files):
        eula = next((name for name in TOOLKIT if os.path.exists(name)), None)
        if eula:
            found["cuda/EULA.txt"] = pathlib.Path(eula).read_bytes()
        else:
            print("the CUDA toolkit has no licence text here; its static runtime is under NVIDIA's EULA", file=sys.stderr)
    folder = next(i.filename for i in files if i.filename.endswith(".dist-info/METADATA")).rsplit("/", 1)[0]
    new = {f"{folder}/licenses/third-party/{name}": text for name, text in found.items()}
    with zipfile.ZipFile(path + ".new", "w", zipfile.ZIP_DEFLATED) as wheel:
        record = None
        for info, content in files.items():
            if info.filename == f"{folder}/RECORD":
                record = list(csv.reader(io.StringIO(content.decode())))
                continue
            if info.filename == f"{folder}/METADATA":
                head, body = content.split(b"\n\n", 1)
                head += b"".join(b"\nLicense-File: " + b"third-party/" + name.encode() for name in sorted(found))
                content = changed = head + b"\n\n" + body
            wheel.writestr(info, content)
        for name, content in new.items():
            wheel.writestr(name, content)
        rows = [row for row in record if row[0] not in (f"{folder}/METADATA", f"{folder}/RECORD")]
        rows += [record_line(f"{folder}/METADATA", changed), *(record_line(n, c) for n, c in new.items())]
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([*rows, (f"{folder}/RECORD", "", "")])
        wheel.writestr(f"{folder}/RECORD", out.getvalue())
    os.replace(path + ".new", path)


def check(path):
    """Each library has the text of its package; METADATA and RECORD name what is there."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        folder = next(n for n in names if n.endswith(".dist-info/METADATA")).rsplit("/", 1)[0]
        metadata = wheel.read(f"{folder}/METADATA").decode().split("\n\n")[0].splitlines()
        copied = libraries(wheel)
        if not copied:
            raise SystemExit("the wheel brings no libraries: was it repaired?")
        for package in {package_of(name) for name in copied.values()} | set(COMPILED_IN):
            name = f"third-party/{package}/copyright"
            if f"{folder}/licenses/{name}" not in names or f"License-File: {name}" not in metadata:
                raise SystemExit(f"the wheel lacks the licence of {package}")
            if len(wheel.read(f"{folder}/licenses/{name}")) < 500:
                raise SystemExit(f"the licence of {package} is no text")
        for name, digest, _ in csv.reader(io.StringIO(wheel.read(f"{folder}/RECORD").decode())):
            if digest and record_line(name, wheel.read(name))[1] != digest:
                raise SystemExit(f"RECORD has another digest of {name}")
    print(f"licences of {', '.join(sorted(set(copied.values())))} are there")


if __name__ == "__main__":
    check(sys.argv[2]) if sys.argv[1] == "--check" else add(sys.argv[1])
