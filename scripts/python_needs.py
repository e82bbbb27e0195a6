#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whether this interpreter can run a Python test: prints two lines, the modules that are missing (imports at the
file's top level) and the number of optional ones that are there (imports inside try)."""
import ast
import importlib.util
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def names(node):
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module.split(".")[0]]
    return []


def is_ours(name):
    return any(os.path.exists(os.path.join(ROOT, folder, name + ".py"))
               for folder in ("tests", "tests/fixtures", "tests/support", "scripts"))


def is_there(name):
    return is_ours(name) or importlib.util.find_spec(name) is not None


with open(sys.argv[1], encoding="utf-8") as f:
    tree = ast.parse(f.read())
required = {n for node in tree.body for n in names(node)}
optional = {n for node in ast.walk(tree) for n in names(node)} - required
print(*sorted(n for n in required if not is_there(n)))
print(sum(is_there(n) for n in optional))
