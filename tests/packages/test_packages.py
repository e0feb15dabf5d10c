#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""examples/packages from end to end: test_packages.py PACKAGES.PY FOLDER_OF_PROGRAMS. What the script makes of an
index that is written out here, that it does the same twice, and that the three programs learn from 1500 packages that
do not exist."""
import filecmp
import math
import pathlib
import re
import subprocess
import sys
import tempfile

SCRIPT, PROGRAMS = sys.argv[1:3]
NAMES = ["section.train.svm", "section.test.svm", "section.labels", "section.words", "tags.train.svm", "tags.test.svm",
         "tags.labels", "tags.words", "depends.svm", "depends.items"]


def run(*command):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{done.stdout}"
    return done.stdout


def index():
    """120 packages of every form that a field has."""
    text = ""
    for i in range(120):
        text += f"Package: tool{i}-{'doc' if i % 2 else 'dev'}\nVersion: 1\nSection: {'non-free/' if i % 3 else ''}s{i % 4}\n"
        text += f"Description: common Words+{i % 4} here\nTag: use::{{a,b}}, role::x,\n use::c{i % 2}\n"
        text += "Pre-Depends: libc6 (>= 2.3), liba | libother\nDepends: libb:any (<< 3),\n libc-x (= 1), libd\n\n"
    return text + "Package: tool1-doc\nSection: seen-twice\n\n"


def read_lines(folder, name):
    return pathlib.Path(folder, name).read_text().splitlines()


def check_index(folder):
    source = pathlib.Path(folder, "index")
    source.write_text(index())
    run("python3", SCRIPT, folder, "--index", source)
    assert read_lines(folder, "section.labels") == ["s0", "s1", "s2", "s3"]
    assert read_lines(folder, "tags.labels") == ["role::x", "use::a", "use::b", "use::c0", "use::c1"]
    assert read_lines(folder, "depends.items") == ["liba", "libb", "libc-x", "libc6", "libd"]
    words = read_lines(folder, "section.words")
    assert "words+2" in words and "name=doc" in words and "last=dev" in words and "name=tool7" not in words
    train, test = (read_lines(folder, f"section.{part}.svm") for part in ("train", "test"))
    assert len(train) + len(test) == 120 and 2 <= len(test) <= 30
    for line in train + test:
        label, *entries = line.split()
        pairs = [(int(i), float(v)) for i, v in (e.split(":") for e in entries)]
        assert 0 <= int(label) < 4 and [i for i, _ in pairs] == sorted({i for i, _ in pairs})
        assert 1 <= pairs[0][0] and pairs[-1][0] <= len(words)
        assert math.isclose(sum(v * v for _, v in pairs), 1, rel_tol=1e-4)
        assert words.index(f"words+{label}") + 1 in dict(pairs)
    assert all(line.split()[0] in ("0,1,2,3", "0,1,2,4") for line in read_lines(folder, "tags.train.svm"))
    for line in read_lines(folder, "depends.svm"):
        hidden, *visible = line.split()
        # One of five is hidden, and all five are there.
        assert sorted([int(hidden) + 1] + [int(v.split(":")[0]) for v in visible]) == [1, 2, 3, 4, 5]


def results(program, folder, *arguments):
    out = run(pathlib.Path(PROGRAMS, program), folder, *arguments)
    found = {name: float(value) for name, value in re.findall(r"^RESULT packages\.\w+\.(\S+) (\S+)$", out, re.M)}
    assert found and all(math.isfinite(v) for v in found.values()), out
    return found


def main():
    with tempfile.TemporaryDirectory() as folder:
        check_index(folder)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as again:
        for where in (folder, again):
            run("python3", SCRIPT, where, "--made-up", 1500)
        same, differing, missing = filecmp.cmpfiles(folder, again, NAMES, shallow=False)
        assert not differing and not missing, (differing, missing)
        section = results("section", folder, 2, 6)
        assert section["accuracy"] > 0.7, section  # the largest of 12 sections is about a tenth
        tags = results("tags", folder, 8)
        assert tags["network.ndcg10"] > tags["popularity.ndcg10"] + 0.1, tags
        depends = results("depends", folder, 12)
        assert depends["network.recall20"] > depends["popularity.recall20"], depends
        print(section, tags, depends)
        for program in ("section", "tags", "depends"):
            assert subprocess.run([pathlib.Path(PROGRAMS, program), again + "/none"], stderr=subprocess.PIPE).returncode == 1
            assert subprocess.run([pathlib.Path(PROGRAMS, program)], stderr=subprocess.PIPE).returncode == 2


main()
