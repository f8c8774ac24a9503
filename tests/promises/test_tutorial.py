# SPDX-License-Identifier: MIT-0
"""The tutorial is so: its steps run, its bytes are those on the wire, its names exist, what kills it kills it."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import unittest
from contextlib import suppress
from pathlib import Path

from scripted_api import CLOSE, Answer, answer, event
from support import (  # which puts the emulator's folder on the path
    BOOTSTRAP,
    PROJECT,
    PYPY,
    RUNTIME,
    RuntimeTestCase,
    Served,
    an_event,
)

# isort: split
from function import Emulator

FOLDER = PROJECT / "tests" / "tutorial"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
STEPS = ["step0.sh", "step1.py", "step2.py", "step3.py", "step4.py"]
# A command, and the exchange that it shows.
SAMPLES = re.findall(r"```sh\nmake -s invoke (.*?)\n```\n\n```text\n([><].*?)\n```", README, re.DOTALL)
CHANGING = (  # from one run to the next
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>"),
    (r"(?<=Deadline-Ms: )\d{13}\b", "<ms>"),
    (r"(?<=Trace-Id: )Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};", "<trace>;"),
    (r"(?<=Host: 127\.0\.0\.1:)\d+", "<port>"),
    (r"(?<=User-Agent: )(curl|runtime\.py)/[^\\]+", r"\1/<version>"),
)


def local_lambda(step: str, handler: str) -> Emulator:
    return Emulator(str(FOLDER), handler, timeout=20, memory=512, bootstrap=str(FOLDER / step))


def needs_curl(step: str) -> None:
    if step.endswith(".sh") and not shutil.which("curl"):
        raise unittest.SkipTest("curl is not installed")


def constant(text: str) -> list[str]:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text.splitlines()


def lines_of_code(step: str) -> int:
    source = re.sub(r'^""".*?"""$', "", (FOLDER / step).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in source.splitlines())


class Steps(unittest.TestCase):
    """Each file on the local Lambda. A later step does what all before it do."""

    def run_steps(self, first: int, handler: str, event: object) -> dict[str, tuple[str, str]]:
        """What a handler's caller gets from each step that can serve it: the payload, and the error's type."""
        seen = {}
        for step in STEPS[first:]:
            with local_lambda(step, handler) as function:
                result = function.invoke(event)
                seen[step] = result.payload.decode(), result.error
        return seen

    def expect(self, first: int, handler: str, event: object, payload: str, error: str = "") -> None:
        self.assertEqual(self.run_steps(first, handler, event), dict.fromkeys(STEPS[first:], (payload, error)))

    def test_0_shell(self) -> None:
        needs_curl("step0.sh")
        with local_lambda("step0.sh", "app.hello") as function:
            for name in ("Ada", "Grace\n\\"):
                self.assertEqual(function.invoke({"name": name}).json(), {"shell got": {"name": name}})

    def test_1_results(self) -> None:
        self.expect(1, "app.hello", {"name": "Ada"}, '{"hello": "Ada"}')

    def test_2_errors(self) -> None:
        said = '{"errorMessage": "division by zero", "errorType": "ZeroDivisionError"}'
        self.expect(2, "app.fails", {"total": 1, "count": 0}, said, "Function.ZeroDivisionError")

    def test_2_the_process_survives_an_error(self) -> None:
        with local_lambda("step2.py", "app.fails") as function:
            function.invoke({"total": 1, "count": 0})
            again = function.invoke({"total": 1, "count": 2})
            self.assertEqual((again.json(), again.init_ms), ({"price": 0.5}, None))
            if not PYPY:  # it keeps what was written to standard error for a while
                self.assertIn("ZeroDivisionError: division by zero", function.log)

    def test_2_init_errors(self) -> None:
        said = (
            '{"errorMessage": "No module named \'a_package_that_was_forgotten\'", "errorType": "ModuleNotFoundError"}'
        )
        self.expect(2, "broken.handler", {}, said, "Function.ModuleNotFoundError")

    def test_3_context(self) -> None:
        for step, (payload, error) in self.run_steps(3, "app.knows", {}).items():
            request_id, in_time, trace = json.loads(payload)
            self.assertRegex(request_id, r"^[0-9a-f-]{36}$", step)
            self.assertRegex(trace, "^Root=1-", step)
            self.assertEqual((in_time, error), (True, ""), step)

    def test_4_streams(self) -> None:
        with local_lambda("step4.py", "app.counts") as function:
            for _ in range(2):
                result = function.invoke({})
                chunks = [chunk for _, chunk in result.chunks]
                self.assertEqual((chunks, result.error), ([b"0\n", b"1\n", b"2\n"], ""))
            self.assertIsNone(result.init_ms, "it should live on")

    def test_4_streams_that_fail(self) -> None:
        with local_lambda("step4.py", "app.breaks") as function:
            result = function.invoke({})
            self.assertEqual((result.payload, result.error), (b"one\n", "Function.ValueError"))
            self.assertEqual(json.loads(result.error_payload)["errorMessage"], "there is no two")
            self.assertIsNone(function.invoke({}).init_ms, "it should live on")


class Text(unittest.TestCase):
    maxDiff = None

    def test_the_bytes_are_those_on_the_wire(self) -> None:
        self.assertGreater(len(SAMPLES), 6)
        for command, sample in SAMPLES:
            words = dict(word.split("=", 1) for word in shlex.split(command.replace("\\\n", " ")))
            with self.subTest(words["ENV"], handler=words["HANDLER"]):
                needs_curl(words["ENV"])
                options = [f"--{name.lower().replace('_', '-')}={value}" for name, value in words.items()]
                done = subprocess.run(
                    [sys.executable, "-B", "tests/emulator", "invoke", "--timeout=20", "--memory=512", *options],
                    cwd=PROJECT, env={"PATH": os.environ["PATH"]}, capture_output=True,
                )  # fmt: skip
                shown = [line for line in constant(done.stderr.decode()) if re.match("[<>] ", line)]
                expected = constant(sample)
                starts = [at for at, line in enumerate(shown) if line == expected[0]]
                found = [shown[at : at + len(expected)] for at in starts]
                if expected not in found:
                    self.assertEqual(shown, expected)

    def test_one_sample_is_a_whole_conversation(self) -> None:
        whole = SAMPLES[0][1]
        self.assertRegex(
            whole, r"\A> GET .*/invocation/next (?s:.*)\n< HTTP/1\.1 202 (?s:.*)\n> GET .*/invocation/next "
        )

    def test_the_code_is_that_of_the_steps(self) -> None:
        sections = re.split(r"^## Step (\d)", README, flags=re.MULTILINE)
        blocks = []
        for number, section in zip(sections[1::2], sections[2::2]):
            source = (FOLDER / STEPS[int(number)]).read_text(encoding="utf-8")
            for block in re.findall(r"^```(?:python|sh)\n(?!make )(.*?)^```$", section, re.DOTALL | re.MULTILINE):
                self.assertIn(block, source, f"step {number}")
                blocks.append(block)
        self.assertGreater(len(blocks), 7)

    def test_lines_of_code(self) -> None:
        told = re.findall(r"^\| \[(step\d\.\w+)\]\(\1\) \|.*\| (\d+) \|$", README, re.MULTILINE)
        self.assertEqual(told, [(step, str(lines_of_code(step))) for step in STEPS])

    def test_names_of_the_runtime_exist(self) -> None:
        tree = ast.parse(RUNTIME.read_text(encoding="utf-8"))
        known = set()
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                known.add(node.name)
                for inner in node.body if isinstance(node, ast.ClassDef) else []:
                    targets = inner.targets if isinstance(inner, ast.Assign) else [inner]
                    known |= {f"{node.name}.{getattr(one, 'name', getattr(one, 'id', ''))}" for one in targets}
        paragraphs = re.findall(r"^In `runtime\.py`: (.*?)\n\n", README, re.DOTALL | re.MULTILINE)
        named = {name for paragraph in paragraphs for name in re.findall(r"`([A-Za-z_.]+)`", paragraph)}
        named |= set(re.findall(r"`((?:RuntimeAPI|PatientAPI|LambdaContext|Log|EventLoop)[._a-z]*)`", README))
        named |= set(re.findall(r"\(`(\w+)`\)", README.partition("the rest of `runtime.py` is for:")[2]))
        self.assertGreater(len(named), 25)
        self.assertEqual(named - known, set())

    def test_links(self) -> None:
        for link in re.findall(r"\]\(([^)#]+)\)", README):
            self.assertTrue(":" in link or (FOLDER / link).exists(), link)


class WhatKillsIt(RuntimeTestCase):
    """Each row of the table: what the tiny runtime does not survive, and what runtime.py does in its place."""

    TINY = str(FOLDER / "step4.py")

    def of_both(self, handler: str, *events: Answer) -> tuple[Served, Served]:
        shutil.copy(FOLDER / "app.py", self.root)
        env = {"_HANDLER": handler}
        tiny = self.serve(*events, argv=[sys.executable, self.TINY], env=env, tracebacks=True)
        return tiny, self.serve(*events, argv=[sys.executable, str(RUNTIME)], env=env)

    def test_a_stale_connection(self) -> None:
        """Lambda's end of it closes behind an event, as if it had done so while the process was frozen."""
        given = event(b'{"name": "Ada"}')
        tiny, real = self.of_both("app.hello", [*given, CLOSE])
        self.assertEqual((tiny.done.status, tiny.answers), (1, []))
        self.assertRegex(tiny.stderr, "RemoteDisconnected|ConnectionResetError|BrokenPipeError")
        self.assertEqual((self.results(real), real.done.status), ([{"hello": "Ada"}], None))

    def test_a_result_that_is_too_large(self) -> None:
        for bootstrap, dies in (self.TINY, True), (str(BOOTSTRAP), False):
            with Emulator(str(FOLDER), "app.large", timeout=30, memory=1024, bootstrap=bootstrap) as function:
                result = function.invoke({})
                self.assertEqual(result.error, "Function.ResponseSizeTooLarge")
                errors = [one.path for one in function.requests if one.path.endswith("/error")]
                self.assertEqual(errors, [], "nothing follows a 413")
                again = function.invoke({})
                self.assertEqual(again.init_ms is not None, dies, "a new process is needed only if the first one died")
                if dies:
                    self.assertRegex(function.log, r"\n(BrokenPipeError|ConnectionResetError)")

    def test_exit_in_the_handler(self) -> None:
        tiny, real = self.of_both("app.leaves", event())
        self.assertEqual((tiny.done.status, tiny.answers), (3, []))
        self.assertEqual((real.done.status, [one.endpoint for one in real.answers]), (3, ["error"]))

    def test_an_error_that_is_no_event(self) -> None:
        tiny, real = self.of_both("app.hello", answer(500, b'{"errorType": "InternalError"}'))
        self.assertEqual([(one.request_id, one.endpoint) for one in tiny.answers], [("None", "error")])
        self.assertEqual((real.done.status, real.answers), (1, []))


class Eight(RuntimeTestCase):
    @unittest.skipUnless(sys.platform == "linux", "only Linux tells")
    def test_processes_and_connections(self) -> None:
        for word, processes in ("def", 9), ("async def", 2):
            with self.subTest(word), self.running(f"{word} handler(event, context): return event", 8) as running:
                running.ready(8)
                self.assertEqual(len({poll.number for poll in running.polls}), 8)
                running.send(*(an_event(number) for number in range(8)))
                running.answers(8)
                self.assertEqual(processes_in(running.child.process.pid), processes)


def processes_in(group: int) -> int:
    count = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            count += int(path.read_text().rpartition(")")[2].split()[2]) == group
    return count


if __name__ == "__main__":
    unittest.main()
