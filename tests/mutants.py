"""Would a test notice?  `make mutants` puts small errors, one at a time, into a copy of the code.

Each meets the tests of its folder and those of bad input: the module's own first, then the fastest.
mutmut and cosmic-ray draw no sample; the one changes every message, the other imports torch anew.
"""

import ast
import csv
import io
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import tokenize
from collections import defaultdict
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path

import pytest

MODULES = "core/* worlds/world judging/rule engine/joint/* engine/evaluation engine/networks"
MODULES += " engine/runs engine/training"
IMPORTED_ONCE = "torch diffusers hypothesis ot pandas scipy.stats sklearn.neighbors"
SECONDS = 4  # a test that takes longer is left out
MEMORY = 8 << 30  # bytes: an error that asks for more has been noticed
SWAPS = "+ -,* /,** *,& |,== !=,< <=,> >=,< >=,> <=,and or,is is not,True False,min max,any all"
SWAPS += ",minimum maximum,argmin argmax,amin amax"
INSTEAD = defaultdict(list, {"not": [""], "~": [""], "//": ["/"], "@": ["*"]})
for one, other in (swap.split(" ", 1) for swap in SWAPS.split(",")):
    INSTEAD[one].append(other)
    INSTEAD[other].append(one)


def mutants(source):
    """Every change but of texts and type hints: its line, what becomes of that, the new source."""
    found, spared, lines = [], [], source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Assign([ast.Subscript()]):
                found.append((*ends(node), "pass"))
            case ast.keyword(arg="strict"):  # of zip: all lengths are equal
                spared.append(node)
            case ast.keyword():
                found.append((*ends(node), "*()"))  # nothing, in any place
            case ast.Call(func=ast.Name("require" | "refuse"), args=[_, *message]):
                spared += message
        spared += [getattr(node, "annotation", None), getattr(node, "returns", None)]
    spared = [ends(node) for node in spared if node]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        texts = INSTEAD[token.string]
        if token.type == tokenize.NUMBER:
            half = "." in token.string and float(token.string) > 0
            changes = "+ 1", "- 1", *["/ 2"] * half
            texts = [f"({token.string} {change})" for change in changes]
        found += [(token.start, token.end, text) for text in texts]
    for start, end, text in found:
        if not any(low <= start and end <= high for low, high in spared):
            a, b = (sum(map(len, lines[: row - 1])) + column for row, column in (start, end))
            changed = source[:a] + text + source[b:]
            yield start[0], changed.splitlines()[start[0] - 1].strip(), changed


def ends(node):
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


class Seconds(defaultdict):
    """How long every test takes; the last may have failed."""

    def pytest_runtest_logreport(self, report):
        self[report.nodeid] += report.duration


def tried(tests):
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    seconds = Seconds(float)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        failed = pytest.main(["-x", "-m", "not slow", "-p", "no:cacheprovider", *tests], [seconds])
    return failed, seconds


def tried_apart(tests, limit):
    """Whether one fails, and ``Seconds``: in a process that has imported no module of ours."""
    context = multiprocessing.get_context("fork")
    with suppress(multiprocessing.TimeoutError), context.Pool(1) as pool:
        return pool.apply_async(tried, (tests,)).get(limit)
    return True, {"time limit": limit}


def main(seed=0, count=150):
    folder = tempfile.TemporaryDirectory()  # gone when this ends
    copy = Path(folder.name, "copy")
    shutil.copytree(".", copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    os.chdir(copy)
    sys.path[0], sys.dont_write_bytecode = str(copy), True
    for name in IMPORTED_ONCE.split():
        import_module(name)
    paths = sorted(path for name in MODULES.split() for path in Path("gmmdiff").glob(f"{name}.py"))
    failed, seconds = tried_apart(sorted({f"tests/{path.parts[1]}" for path in paths}), 3600)
    assert not failed, f"without a change {[*seconds][-1]} fails"
    every = [(path, *mutant) for path in paths for mutant in mutants(path.read_text())]
    random.Random(int(seed)).shuffle(every)
    table, noticed = csv.writer(sys.stdout), []
    while len(noticed) < int(count):
        path, line, text, changed = every.pop()
        with suppress(SyntaxError):
            compile(changed, path, "exec")
            mirror, source = (f"tests/{path.parts[1]}/", "tests/core/test_bad"), path.read_text()
            tests = [t for t, took in seconds.items() if t.startswith(mirror) and took < SECONDS]
            tests.sort(key=lambda test: (f"/test_{path.stem}.py" not in test, seconds[test]))
            path.write_text(changed)
            failed, met = tried_apart(tests, 600)
            path.write_text(source)
            noticed.append(bool(failed))
            table.writerow((path, line, text, ["its import", *met][-1] if failed else "survived"))
    print(f"{sum(noticed)} of {len(noticed)} noticed", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
