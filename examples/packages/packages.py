#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn Debian's package index into svmlight files for the three examples in this folder.

  packages.py OUTDIR                 from `apt-cache dumpavail`
  packages.py OUTDIR --index FILE    from a file of the same form
  packages.py OUTDIR --made-up N     from N packages that do not exist, drawn from a fixed seed: for tests

It needs python3 and nothing else. What it writes (X is section or tags; files of one X belong together):

  X.train.svm, X.test.svm   a line a package: its section's number, or its tags' numbers with commas
                            between, then word:weight ... Weights are tf-idf, each line of length 1.
                            A tenth of the packages, by a hash of their source package's name, is for
                            testing, so that packages made from one source are not on both sides
  X.labels, X.words         what label 0, 1 ... and index 1, 2 ... stand for, a line each
  depends.svm               a line a package: a tenth of its dependencies, hidden, as labels; the others as
                            index:1. Label n and index n + 1 are the same package
  depends.items             what label 0, 1 ... and index 1, 2 ... stand for
"""
import argparse
import collections
import hashlib
import math
import os
import random
import re
import subprocess
import sys

WORD = re.compile(r"[a-z0-9+#]+")


def fail(text):
    print(f"packages.py: {text}", file=sys.stderr)
    sys.exit(1)


def read_index(lines):
    """Yield a dict a package: the fields that are used, continuation lines joined."""
    wanted = {"Package", "Source", "Description", "Description-en", "Section", "Tag", "Depends", "Pre-Depends"}
    package, field = {}, None
    for line in lines:
        if line == "\n":
            if package:
                yield package
            package, field = {}, None
        elif line[0] in " \t":
            if field and not field.startswith("Description"):
                package[field] += " " + line.strip()
        else:
            name, _, value = line.partition(":")
            field = name if name in wanted else None
            if field:
                package[field] = value.strip()
    if package:
        yield package


def hashed(text, parts):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % parts


def words_of(package):
    name = WORD.findall(package["Package"].lower())
    text = WORD.findall(package.get("Description", package.get("Description-en", "")).lower())
    # A word of the name says other things than one of the description; so does the name's first and last.
    return [f"name={w}" for w in name] + [f"first={name[0]}", f"last={name[-1]}"] * bool(name) + text


def write_words(out, what, packages, labels_of):
    """packages with at least one label -> train and test files."""
    rows = [(p, labels_of(p)) for p in packages]
    rows = [(p, labels) for p, labels in rows if labels]
    test = [hashed(p.get("Source", p["Package"]).split()[0], 10) == 0 for p, _ in rows]
    # Words and labels are those of the training packages; a word of a single package says nothing.
    seen, names = collections.Counter(), collections.Counter()
    for (p, labels), is_test in zip(rows, test):
        if not is_test:
            seen.update(set(words_of(p)))
            names.update(labels)
    words = {w: i + 1 for i, w in enumerate(sorted(w for w, n in seen.items() if n > 1))}
    labels_known = {name: i for i, name in enumerate(sorted(n for n, c in names.items() if c >= 5))}
    train_count = test.count(False)
    weight = {w: math.log(train_count / seen[w]) + 1 for w in words}
    files = [open(os.path.join(out, f"{what}.{part}.svm"), "w") for part in ("train", "test")]
    for (p, labels), is_test in zip(rows, test):
        numbers = sorted(labels_known[name] for name in labels if name in labels_known)
        if not numbers:
            continue
        counts = collections.Counter(w for w in words_of(p) if w in words)
        entries = sorted((words[w], (1 + math.log(n)) * weight[w]) for w, n in counts.items())
        length = math.sqrt(sum(v * v for _, v in entries)) or 1
        files[is_test].write(",".join(map(str, numbers)) + "".join(f" {i}:{v / length:.6g}" for i, v in entries) + "\n")
    for f in files:
        f.close()
    for name, table in (("labels", labels_known), ("words", words)):
        with open(os.path.join(out, f"{what}.{name}"), "w") as f:
            f.writelines(f"{entry}\n" for entry in table)
    print(f"{what}: {train_count} packages to train, {test.count(True)} to test, {len(words)} words, "
          f"{len(labels_known)} labels")


def section_of(package):
    section = package.get("Section", "").split("/")[-1]
    return [section] if section else []


def tags_of(package):
    tags = []
    # "a::{b,c}" is a::b and a::c.
    for tag in re.findall(r"[^,\s{]+(?:\{[^}]*\})?", package.get("Tag", "")):
        stem, brace, rest = tag.partition("{")
        tags += [stem + name.strip() for name in rest.rstrip("}").split(",")] if brace else [stem]
    return sorted({t for t in tags if "::" in t})


def dependencies_of(package):
    """The first of each group of alternatives, without versions."""
    text = ",".join(package[f] for f in ("Pre-Depends", "Depends") if package.get(f))
    first = (group.split("|")[0].split("(")[0].split(":")[0].strip() for group in text.split(","))
    return sorted({name for name in first if name})


def write_depends(out, packages, seed, least_uses, least_row):
    rows = [(p["Package"], dependencies_of(p)) for p in packages]
    uses = collections.Counter(name for _, row in rows for name in row)
    items = {name: i for i, name in enumerate(sorted(n for n, c in uses.items() if c >= least_uses))}
    count = 0
    with open(os.path.join(out, "depends.svm"), "w") as f:
        for name, row in rows:
            row = [items[d] for d in row if d in items]
            if len(row) < least_row:
                continue
            # Each package has dice of its own, so that one more package changes no other.
            dice = random.Random(f"{seed} {name}")
            hidden = set(dice.sample(row, max(1, len(row) // 10)))
            f.write(",".join(map(str, sorted(hidden))))
            f.write("".join(f" {i + 1}:1" for i in sorted(row) if i not in hidden) + "\n")
            count += 1
    with open(os.path.join(out, "depends.items"), "w") as f:
        f.writelines(f"{name}\n" for name in items)
    print(f"depends: {count} packages, {len(items)} of them or others depended on")


def made_up(count):
    """Packages of a world with 12 sections, words that go with each, tags and libraries that go together."""
    dice = random.Random(1)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    invent = lambda: "".join(dice.choice(syllables) for _ in range(dice.randint(2, 4)))
    common = [invent() for _ in range(200)]
    sections = [{"name": invent(), "words": [invent() for _ in range(40)], "tags": [f"use::{invent()}" for _ in range(6)],
                 "libraries": [f"lib{invent()}" for _ in range(10)]} for _ in range(12)]
    for i in range(count):
        s = dice.choice(sections)
        text = [dice.choice(s["words"] if dice.random() < 0.5 else common) for _ in range(dice.randint(4, 9))]
        needs = {"libc"} | set(dice.sample(s["libraries"], dice.randint(2, 6)))
        needs |= {dice.choice(dice.choice(sections)["libraries"])}
        yield {"Package": f"{dice.choice(s['words'])}-{i}", "Section": s["name"], "Description": " ".join(text),
               "Tag": ", ".join(dice.sample(s["tags"], dice.randint(1, 3))), "Depends": ", ".join(sorted(needs))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir")
    parser.add_argument("--index", metavar="FILE")
    parser.add_argument("--made-up", metavar="N", type=int)
    parser.add_argument("--seed", type=int, default=1, help="of which dependencies are hidden")
    o = parser.parse_args()
    if o.made_up:
        packages = list(made_up(o.made_up))
    elif o.index:
        with open(o.index, encoding="utf-8", errors="replace") as f:
            packages = list(read_index(f))
    else:
        try:
            text = subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            fail(f"apt-cache dumpavail: {error}; on a machine without APT give --index FILE")
        packages = list(read_index(text.decode("utf-8", "replace").splitlines(keepends=True)))
    unique = {}
    for p in packages:
        if "Package" in p:
            unique.setdefault(p["Package"], p)
    packages = [unique[name] for name in sorted(unique)]
    if len(packages) < 100:
        fail(f"{len(packages)} packages are too few: run apt-get update, or give --index FILE")
    os.makedirs(o.outdir, exist_ok=True)
    write_words(o.outdir, "section", packages, section_of)
    write_words(o.outdir, "tags", packages, tags_of)
    write_depends(o.outdir, packages, o.seed, 5, 3)


main()
