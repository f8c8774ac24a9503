# SPDX-License-Identifier: MIT-0
"""What runtime.py and bootstrap cost whoever reads them; fails if that is over budget.

A line of code is one that is neither blank nor only a comment, and no part of a docstring.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LINES, CODE, BOOTSTRAP = 1250, 850, 60  # the budgets

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """The numbers of the lines of code."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            code.difference_update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return code


def main() -> int:
    source = (PROJECT / "runtime.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    code = code_lines(source, tree)
    functions = [node.lineno for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    lines = source.splitlines()
    total = len(lines)

    banners = [
        (number, match[1]) for number, line in enumerate(lines, 1) if (match := re.match(r"# ─+ (.+?) ─+$", line))
    ]
    starts = [(1, "head"), *banners, (total + 1, "")]
    rows = [(name, range(start, end)) for (start, name), (end, _) in zip(starts, starts[1:])]
    rows.append(("runtime.py", range(1, total + 1)))
    width = max(len(name) for name, _ in rows)
    print(f"{'':{width}}  lines   code  functions")
    for name, span in rows:
        counts = len(span), sum(number in span for number in code), sum(number in span for number in functions)
        print(f"{name:{width}}  {counts[0]:5}  {counts[1]:5}  {counts[2]:9}")

    bootstrap = len((PROJECT / "bootstrap").read_text(encoding="utf-8").splitlines())
    print(f"{'bootstrap':{width}}  {bootstrap:5}")
    over = [
        f"{name}: {count} lines{kind}, budget {budget}"
        for name, kind, count, budget in (
            ("runtime.py", "", total, LINES),
            ("runtime.py", " of code", len(code), CODE),
            ("bootstrap", "", bootstrap, BOOTSTRAP),
        )
        if count > budget
    ]
    print("\n".join(over), end="\n" if over else "", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
