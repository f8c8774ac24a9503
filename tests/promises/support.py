# SPDX-License-Identifier: MIT-0
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

import importlib.util
import json
import os
import re
import select
import signal
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from scripted_api import READ, Answer, Child, Connection, Finished, Request, ScriptedApi, event, frames, run

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


class Lambda:
    """A runtime at work, and the Lambda that gives it events while it is.

    `api` answers each `GET next` when the test calls `send`, and not before: `polls` are the connections that wait.
    """

    def __init__(self, **answers: Sequence[Answer]) -> None:
        self.polls: list[Connection] = []
        self._events: list[Answer] = []
        self._lock = threading.Lock()
        self.api = ScriptedApi([[READ, self._give]] * 1000, **answers)
        self.child: Child

    def _give(self, connection: Connection) -> None:
        """A step of the scripted API: wait for an event, or for the end of whoever asked for it."""
        with self._lock:
            self.polls.append(connection)
        try:
            while True:
                with self._lock:
                    if self._events:
                        self.polls.remove(connection)
                        steps = self._events.pop(0)[1:]  # without the READ
                        break
                if select.select([connection.sock], [], [], 0.005)[0]:
                    connection.hold()  # raises what there is to raise
        except BaseException:
            with self._lock, suppress(ValueError):
                self.polls.remove(connection)
            raise
        for step in steps:
            assert isinstance(step, bytes)
            connection.send(step)

    def send(self, *events: Answer) -> None:
        with self._lock:
            self._events += events

    def wait(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        """Wait until something holds; fails if it takes too long, or the runtime is gone."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or self.child.process.poll() is not None:
                state = f"{len(self.polls)} polls, {self.api.sent()}, {self.child.stdout!r}, {self.child.stderr!r}"
                raise AssertionError(f"it does not come: {state}")
            time.sleep(0.005)

    def ready(self, count: int, seconds: float = 30) -> None:
        """Wait until so many polls are open."""
        self.wait(lambda: len(self.polls) == count, seconds)

    def answers(self, count: int, seconds: float = 30) -> dict[str, Request]:
        """So many responses and errors, by request id."""
        self.wait(lambda: sum(one.complete for one in self.api.sent("response", "error")) >= count, seconds)
        return {one.request_id: one for one in self.api.sent("response", "error")}

    @property
    def log(self) -> str:
        return self.child.stdout.decode()

    def ended(self, seconds: float = 60) -> int | None:
        """The exit status, None if it lives on."""
        return self.child.wait(seconds)


def an_event(value: object, request_id: str = "", tenant: str | None = None, trace: str = "") -> Answer:
    headers = {"Lambda-Runtime-Aws-Tenant-Id": tenant, **({"Lambda-Runtime-Trace-Id": trace} if trace else {})}
    return event(json.dumps(value).encode(), headers, request_id or f"id-{value}")


def where(module: str) -> str:
    """The folder on our path that a module comes from: a function finds the module there, too."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return next(path for path in sys.path if path and spec.origin.startswith(os.path.join(path, module)))


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

    @contextmanager
    def running(
        self, source: str, count: int = 0, env: dict[str, str] | None = None, **answers: Sequence[Answer]
    ) -> Iterator[Lambda]:
        """A runtime for `count` invocations at once. Nothing that it started outlives the test."""
        self.app(source)
        running = Lambda(**answers)
        given = {"AWS_LAMBDA_MAX_CONCURRENCY": str(count)} if count else {}
        with running.api:
            environment = self.environment({"AWS_LAMBDA_RUNTIME_API": running.api.address, **given, **(env or {})})
            command = [sys.executable, str(RUNTIME), "app.handler"]
            with Child(command, environment, cwd=self.root) as running.child:
                yield running

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        """Wait until something holds; fails if it never does."""
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "it does not come")
            time.sleep(0.005)

    def until_told(self) -> str:
        """Source code: a handler that calls this goes on when the test calls `tell`."""
        return "import os, time\ndef until_told():\n    while not os.path.exists('told'): time.sleep(0.005)\n"

    def tell(self) -> None:
        self.write("told")
