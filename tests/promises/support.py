"""What the test files share: a task root with the user's files in it, and a runtime started upon it.

    class Example(RuntimeTestCase):
        def test_promise(self) -> None:
            self.app("def handler(event, context): return event")
            served = self.serve(event(b"1"), event(b"2"))
            self.assertEqual(self.results(served), [1, 2])

Each test has a folder of its own, and each `serve` is a real process against a Runtime API of its own, so that tests
may run in parallel. A process costs far more than an event: a table of promises is one process with an event for each
row wherever that can be.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import textwrap
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scripted_api import Answer, Finished, Request, ScriptedApi, event, frames, run

PROJECT = Path(__file__).resolve().parents[2]
RUNTIME = PROJECT / "runtime.py"
PYPY = sys.implementation.name == "pypy"  # where some things that tests ask for are not to be had
BOOTSTRAP = PROJECT / "bootstrap"

# Tests import the module from here. Its .pyc is not written: that would be what `bootstrap` starts from then on.
sys.dont_write_bytecode = True
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "emulator")]
import runtime as runtime  # noqa: E402, PLC0414 # for whoever needs it from here

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
PLAIN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


class Served(NamedTuple):
    """What a runtime did: the requests that it made, and what its process left."""

    requests: list[Request]
    done: Finished

    def sent(self, *endpoints: str) -> list[Request]:
        """The requests to these endpoints in order; without any: all that are not `GET next`."""
        return [one for one in self.requests if (one.endpoint in endpoints if endpoints else one.endpoint != "next")]

    @property
    def answers(self) -> list[Request]:
        """The responses and errors that were posted."""
        return self.sent("response", "error")

    @property
    def stdout(self) -> str:
        return self.done.stdout.decode()

    @property
    def stderr(self) -> str:
        return self.done.stderr.decode()

    @property
    def framed(self) -> list[str]:
        """The frames of the log as `type message`, the type's constant part left out."""
        return [f"{frame.type ^ 0xA55A0000:02x} {frame.message.decode()}" for frame in frames(self.done.log)]


class RuntimeTestCase(unittest.TestCase):
    maxDiff = None

    def setUp(self) -> None:
        self.root = self.folder()

    def folder(self) -> str:
        """One more folder for this test, as a child process sees it. Its name has a space, which nothing may mind."""
        folder = tempfile.TemporaryDirectory(prefix="runtime test ")
        self.addCleanup(folder.cleanup)
        return os.path.realpath(folder.name)

    def write(self, name: str, text: str = "", mode: int = 0o644) -> str:
        """Put a file into the task root, or wherever it says; indented text is moved to the left margin."""
        path = Path(self.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        path.chmod(mode)
        return str(path)

    def app(self, text: str) -> str:
        """Write the module of the default handler, app.handler."""
        return self.write("app.py", text)

    def environment(self, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """All of a child's environment: nothing of ours gets in, or tests would depend on who runs them.

        Bytecode is not written: a module that a test writes anew, as long as before and within the same second,
        would not be seen.
        """
        given = {
            "PATH": "/usr/bin:/bin",
            "LAMBDA_TASK_ROOT": self.root,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8" if PYPY else None,  # it takes file names for ASCII otherwise
            **(extra or {}),
        }
        return {name: value for name, value in given.items() if value is not None}

    def serve(
        self,
        *events: Answer,
        handler: str = "app.handler",
        argv: Sequence[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        address: str = "{}",
        cwd: str | None = None,
        framed: bool = False,
        end: signal.Signals | None = signal.SIGKILL,
        accept: Sequence[Answer] = (),
        tracebacks: bool = False,
        **answers: Sequence[Answer],
    ) -> Served:
        """Run a handler on events until it waits for one more, or ends; see scripted_api for the arguments.

        `argv` is the whole command if it is not `python3 runtime.py HANDLER`; in `address`, {} is the API's;
        `tracebacks` says that user code may print some.
        """
        command = [sys.executable, str(RUNTIME), handler] if argv is None else argv
        with ScriptedApi(events, accept=accept, **answers) as api:
            given = {"AWS_LAMBDA_RUNTIME_API": address.format(api.address), **(env or {})}
            done = run(command, api, self.environment(given), cwd=cwd or self.root, framed=framed, end=end)
        served = Served(api.requests, done)
        self.assertFalse(done.timed_out, f"it hangs; requests: {served.requests}, stderr: {served.stderr}")
        if not tracebacks:
            self.assertNotIn("Traceback", served.stderr, "what goes wrong is told in one line, never in a traceback")
        return served

    def results(self, served: Served) -> list[Any]:
        """The results of all invocations; an error among them fails the test."""
        for request in served.answers:
            self.assertEqual(request.endpoint, "response", request)
        return [json.loads(request.body) for request in served.answers]

    def evaluate(self, expression: str, setup: str = "", **options: Any) -> Any:
        """What an expression is for user code: one process, one event, the expression as result."""
        text = f"def handler(event, context):\n    return {expression}\n"
        self.app(textwrap.dedent(setup) + "\n" + text)
        (result,) = self.results(self.serve(event(), **options))
        return result

    def lines(self, text: str) -> list[str]:
        """A log's lines, each of which has to be whole; times become <time>, as nobody can know them."""
        self.assertTrue(not text or text.endswith("\n"), f"the last line is not whole: {text!r}")
        return PLAIN_TIME.sub("<time>", text).split("\n")[:-1]
