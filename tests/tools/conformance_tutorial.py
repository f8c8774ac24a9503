# SPDX-License-Identifier: MIT-0
"""A part of the conformance tests: the runtimes of the tutorial, under AWS's own emulator."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

from conformance_emulators import Rie
from conformance_tools import PROJECT, Report, expect, new_folder

FOLDER = PROJECT / "tests" / "tutorial"
NO_PRICE = {"errorMessage": "division by zero", "errorType": "ZeroDivisionError"}
NO_MODULE = {"errorMessage": "No module named 'a_package_that_was_forgotten'", "errorType": "ModuleNotFoundError"}
# Step, handler, and each event with what the caller gets for it.
CASES: tuple[tuple[str, str, tuple[tuple[Any, Any], ...]], ...] = (
    ("step0.sh", "app.hello", (({"name": "Ada"}, {"shell got": {"name": "Ada"}}),)),
    ("step1.py", "app.hello", (({"name": "Ada"}, {"hello": "Ada"}), ({"name": "Grace"}, {"hello": "Grace"}))),
    ("step2.py", "app.fails", (({"total": 1, "count": 0}, NO_PRICE), ({"total": 1, "count": 2}, {"price": 0.5}))),
    ("step2.py", "broken.handler", (({}, NO_MODULE),)),
    ("step3.py", "app.knows", (({}, re.compile(r'^\["[0-9a-f-]{36}", true, ".*"\]$')),)),
    ("step4.py", "app.counts", (({}, "0\n1\n2\n"), ({}, "0\n1\n2\n"))),
    ("step4.py", "app.breaks", (({}, "one\n"), ({}, "one\n"))),
)


def tutorial(report: Report) -> None:
    for step, handler, events in CASES:
        if step.endswith(".sh") and not shutil.which("curl"):
            report.skip(f"tutorial: {step}", "curl is not installed")
            continue
        with report.check(f"tutorial: {step} with {handler}"), new_folder() as folder:
            shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
            source = (FOLDER / "app.py").read_text(encoding="utf-8")
            with Rie(folder, source, bootstrap=folder / step, handler=handler) as rie:
                for event, expected in events:
                    _, body = rie.invoke(event)
                    text = body.decode()
                    expect(json.loads(text) if isinstance(expected, dict) else text, expected)
