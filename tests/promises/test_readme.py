# SPDX-License-Identifier: MIT-0
"""What README says is so: its examples are the ones in tests/examples, its commands run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import unittest

from scripted_api import event
from support import PROJECT, RuntimeTestCase

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)


class Examples(RuntimeTestCase):
    def test_examples_are_those_that_can_be_run(self) -> None:
        for name in ("sse", "gather"):
            source = (PROJECT / "tests" / "examples" / name / "app.py").read_text(encoding="utf-8")
            self.assertIn(source.partition("MIT-0\n")[2].lstrip(), blocks("python"), name)

    def test_server_sent_events(self) -> None:
        self.app((PROJECT / "tests" / "examples" / "sse" / "app.py").read_text(encoding="utf-8"))
        (request,) = self.serve(event()).answers
        prelude, nuls, *items = [chunk.data for chunk in request.chunks]
        self.assertEqual((json.loads(prelude)["headers"]["content-type"], nuls), ("text/event-stream", bytes(8)))
        self.assertEqual([item.split(b"\n")[0] for item in items], [b"id: 0", b"id: 1", b"id: 2"])
        times = [chunk.arrived for chunk in request.chunks[2:]]
        self.assertGreater(times[2] - times[0], 0.3, "they came together, not as they were made")

    def test_gather(self) -> None:
        self.app((PROJECT / "tests" / "examples" / "gather" / "app.py").read_text(encoding="utf-8"))
        self.assertEqual(self.results(self.serve(event(b'{"names": ["a", "b"]}'))), [["a fetched", "b fetched"]])

    def test_first_handlers(self) -> None:
        plain, stream = [block for block in blocks("python") if block.startswith("def handler")]
        self.app(plain)
        self.assertEqual(self.results(self.serve(event(b'{"name": "Ada"}'))), [{"hello": "Ada"}])
        self.app(stream)
        (request,) = self.serve(event()).answers
        self.assertEqual(b"".join(chunk.data for chunk in request.chunks[2:]), b"one\nword\nat\na\ntime\n")


class Deployment(unittest.TestCase):
    def test_what_readme_shows_is_what_make_sam_tries(self) -> None:
        """Each block is a file of tests/sam, or lines of one. `make sam` itself tries README's AWS CLI commands."""
        files = [path for part in ("deploy", "images") for path in (PROJECT / "tests" / "sam" / part).iterdir()]
        tried = [path.read_text(encoding="utf-8") for path in files]
        shown = [block for language in ("dockerfile", "yaml", "hcl") for block in blocks(language)]
        shown += [block for block in blocks("python") if "aws_cdk" in block]
        self.assertTrue(shown)
        for block in shown:
            self.assertTrue(any(textwrap.dedent(block) in text for text in tried), block)


class Commands(RuntimeTestCase):
    @unittest.skipUnless(shutil.which("make"), "there is no make")
    def test_commands_run(self) -> None:
        clone = os.path.join(self.folder(), "clone")
        ignored = shutil.ignore_patterns(".*", "__pycache__", "test_*")
        shutil.copytree(PROJECT, clone, ignore=ignored)
        commands = "".join(blocks("sh")).splitlines()
        ours = re.compile(r"(echo .*\| )?make( -s)?( invoke|$)|make (layer|zip) |python3 -m zipfile")
        commands = [line for line in commands if ours.match(line) and "PYTHON" not in line]
        self.assertGreater(len(commands), 5)
        environment = {"PATH": os.environ["PATH"], "HOME": self.folder(), "PYTHON": sys.executable}
        for command in commands:
            with self.subTest(command):
                done = subprocess.run(
                    ["sh", "-c", command], cwd=clone, env=environment, capture_output=True, timeout=30, check=False
                )
                self.assertEqual(done.returncode, 0, done.stderr.decode())
                self.assertTrue(done.stdout or "zipfile" in command)


class Promises(unittest.TestCase):
    """The table from promises to tests: rows whose last column names some, as `test_file.Class` or a test in it."""

    def test_each_is_proven_by_a_test_that_exists(self) -> None:
        rows = re.findall(r"^\|.*\| ((?:`test_\w+\.[\w.]+`(?:, )?)+) \|$", README, re.MULTILINE)
        self.assertGreater(len(rows), 25, "README has no table of promises")
        exist = set()
        for path in (PROJECT / "tests" / "promises").glob("test_*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    exist.add(f"{path.stem}.{node.name}")
                    exist |= {f"{path.stem}.{node.name}.{getattr(inner, 'name', '')}" for inner in node.body}
        named = {name for row in rows for name in re.findall("`(.*?)`", row)}
        self.assertEqual(named - exist, set())


class Licence(unittest.TestCase):
    def test_every_source_file_names_it(self) -> None:
        tests = PROJECT / "tests"
        sources = [path for kind in ("py", "sh", "c") for path in tests.rglob(f"*.{kind}")]
        sources += [PROJECT / name for name in ("runtime.py", "bootstrap", "Makefile")]
        self.assertGreater(len(sources), 60)
        for path in sources:
            head = path.read_text(encoding="utf-8").split("\n", 3)[:3]
            self.assertIn("SPDX-License-Identifier: MIT-0", "\n".join(head), path)


if __name__ == "__main__":
    unittest.main()
