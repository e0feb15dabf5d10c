#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each C block of README.md and docs/ is a quotation from examples/, and each link to a file leads to
one. Exits 1 naming what is not so."""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")


def plain(text):
    return "".join(text.split())


examples = [plain(path.read_text()) for path in sorted((root / "examples").glob("*.c"))]
pages = [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").rglob("*.md"))]
faults, blocks, links = [], 0, 0
for page in pages:
    text = page.read_text()
    name = page.relative_to(root)
    for block in re.findall(r"^```c\n(.*?)^```$", text, re.M | re.S):
        # "..." on a line of its own leaves something out.
        for part in re.split(r"^\s*\.\.\.\s*$", block, flags=re.M):
            blocks += 1
            if plain(part) and not any(plain(part) in example for example in examples):
                faults.append(f"{name}: not in any example: {plain(part)[:70]}")
    for target in re.findall(r"\]\(([^)#]+)", re.sub(r"```.*?```", "", text, flags=re.S)):
        links += 1
        if "://" not in target and not (page.parent / target).exists():
            faults.append(f"{name}: no such file: {target}")
if blocks < 3:
    faults.append(f"only {blocks} C blocks were found")
print("\n".join(faults) or f"{blocks} quotations and {links} links hold")
sys.exit(bool(faults))
