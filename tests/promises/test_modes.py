# SPDX-License-Identifier: MIT-0
"""The other ways in which Lambda runs functions: several invocations at once, from a snapshot, told before they end."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import unittest
from contextlib import ExitStack, suppress
from typing import Any

from scripted_api import CLOSE, READ, Answer, Child, ScriptedApi, answer, event, http
from support import RUNTIME, RuntimeTestCase, Served, an_event


def gone(pid: int) -> bool:
    """Whether there is no such process, not even one that waits for its parent to notice that it ended."""
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True


class Workers(RuntimeTestCase):
    """An ordinary handler on Managed Instances: as many processes as there are invocations at once."""

    def source(self, text: str) -> str:
        return self.until_told() + text

    def test_as_many_as_wanted(self) -> None:
        """Each is a process of its own that imports the handler itself; all polls are open at once, and again."""
        source = self.source("IMPORTED_BY = os.getpid()\ndef handler(event, context):\n    until_told()\n")
        source += "    return [os.getpid(), os.getppid(), IMPORTED_BY, context.aws_request_id]\n"
        with self.running(source, 3) as function:
            function.ready(3)
            function.send(*(an_event(number) for number in range(3)))
            function.ready(0)  # all are in work before one is answered
            self.assertEqual(function.api.sent(), [])
            self.tell()
            results = {request_id: json.loads(one.body) for request_id, one in function.answers(3).items()}
            self.assertEqual([results[f"id-{number}"][3] for number in range(3)], ["id-0", "id-1", "id-2"])
            pids = {result[0] for result in results.values()}
            self.assertEqual(len(pids), 3, "one process each")
            self.assertEqual(pids, {result[2] for result in results.values()}, "it has imported the handler itself")
            self.assertEqual({result[1] for result in results.values()}, {function.child.process.pid})
            function.ready(3)

    def test_a_killed_worker_under_load(self) -> None:
        """Its invocation is lost, no other, and another worker takes its place within a second."""
        source = self.source(
            "def handler(event, context):\n    os.write(1, f'{event} {os.getpid()}\\n'.encode())\n    until_told()\n"
        )
        source += "    return os.getpid()\n"
        with self.running(source, 3) as function:
            function.ready(3)
            function.send(an_event("a"), an_event("b"), an_event("c"))
            function.wait(lambda: function.log.count("\n") == 3)
            pids = {name: int(pid) for name, pid in map(str.split, function.log.splitlines())}
            os.kill(pids["b"], signal.SIGKILL)
            function.ready(1)
            self.assertEqual(function.api.sent(), [], "nobody has spoken for the dead")
            self.tell()
            self.assertEqual(sorted(function.answers(2)), ["id-a", "id-c"])
            function.ready(3)
            function.send(an_event("d"), an_event("e"), an_event("f"))
            served_by = {int(one.body) for one in function.answers(5).values()}
            self.assertNotIn(pids["b"], served_by)
            warnings = [line for line in function.log.splitlines() if line.startswith("[WARNING]")]
            self.assertEqual(len(warnings), 1, warnings)
            self.assertIn(str(pids["b"]), warnings[0])
            self.assertIn("-9", warnings[0])
            self.assertEqual(function.child.stderr, b"")

    def test_a_killed_worker_whose_child_lives(self) -> None:
        """What it has forked holds its end of every pipe open, and must not keep us from noticing."""
        source = self.source(
            """
def handler(event, context):
    if event == "pid": return os.getpid()
    if not os.fork(): time.sleep(30)
    os.kill(os.getpid(), 9)
"""
        )
        with self.running(source, 1) as function:
            function.ready(1)
            function.send(an_event("die"), an_event("pid"))
            self.assertEqual(list(function.answers(1)), ["id-pid"])

    def test_a_crash_loop_does_not_spin(self) -> None:
        """Workers that die at once are replaced ever more seldom."""
        source = """
            import os
            print("start", flush=True)
            def handler(event, context): os._exit(3)
            """
        with self.running(source, 2) as function:
            function.send(*(an_event(number) for number in range(100)))
            began = time.monotonic()
            function.wait(lambda: time.monotonic() - began > 1 and function.log.count("start") >= 4)
            # Each that dies costs the next one twice the time: 10 a worker take half a minute, 1000 would be a storm.
            self.assertLess(function.log.count("start"), 20 + 2 * (time.monotonic() - began))
            self.assertIn("status 3", function.log)
            function.child.process.send_signal(signal.SIGTERM)
            self.assertEqual(function.ended(), 0, "and it can be ended at any moment")

    def test_sys_exit_costs_one_worker(self) -> None:
        source = """
            import os, sys
            def handler(event, context):
                if event == "exit": sys.exit(5)
                return os.getpid()
            """
        with self.running(source, 1) as function:
            function.send(an_event("a"), an_event("exit"), an_event("b"))
            answers = function.answers(3)
            self.assertEqual(
                [answers[name].endpoint for name in ("id-a", "id-exit", "id-b")], ["response", "error", "response"]
            )
            self.assertNotEqual(answers["id-a"].body, answers["id-b"].body)
            self.assertIn("status 5", function.log)

    def test_a_replaced_worker_leaves_nothing_open(self) -> None:
        """One descriptor for each would be the end of the parent after a thousand of them."""
        with self.running("import os\ndef handler(event, context): os._exit(3)", 1) as function:
            open_files: list[int] = []
            for number in (1, 2, 3):
                function.ready(1)
                function.send(an_event(number))
                function.wait(lambda: function.log.count("is replaced") > len(open_files) and function.polls)
                open_files.append(len(os.listdir(f"/proc/{function.child.process.pid}/fd")))
            self.assertEqual(open_files, open_files[:1] * 3)

    def test_no_worker_gets_through_its_init(self) -> None:
        """At most one report a worker, and a status that says so."""
        refused = answer(403, b'{"errorType": "Other"}')  # another worker was first
        for source in ("raise ValueError('no')", "import os; os._exit(7)", "import sys; sys.exit(0)"):
            for script in ([], [refused] * 9):
                with self.subTest(source, script=script), self.running(source, 3, init_error=script) as function:
                    self.assertEqual(function.ended(), 1)
                    self.assertLessEqual(len(function.api.sent("init_error")), 3)
                    self.assertEqual(bool(function.api.sent("init_error")), "_exit" not in source)
                    self.assertEqual(function.polls, [])
                    self.assertNotIn(b"Traceback", function.child.stderr)

    def test_no_events_to_be_had(self) -> None:
        """Each asks five times, with pauses, and then all end. Both kinds at once, as those pauses are long."""
        failing = [answer(500, b'{"errorType": "Container"}')] * 200
        self.write("plain.py", "def handler(event, context): pass")
        self.write("together.py", "async def handler(event, context): pass")
        with ScriptedApi(failing) as one, ScriptedApi(failing) as other, ExitStack() as stack:
            running = []
            for api, module in ((one, "plain"), (other, "together")):
                given = {"AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_MAX_CONCURRENCY": "3"}
                command = [sys.executable, str(RUNTIME), f"{module}.handler"]
                running.append((api, stack.enter_context(Child(command, self.environment(given), cwd=self.root))))
            for api, child in running:
                self.assertEqual(child.wait(60), 1)
                self.assertLessEqual(len(api.sent("next")), 15)
                self.assertIn(b"500", child.stderr)
                self.assertNotIn(b"Traceback", child.stderr)

    def test_refused_answers_are_only_logged(self) -> None:
        """5xx, too: other invocations are in work in this environment."""
        source = """
            import os
            def handler(event, context):
                if event % 2: raise ValueError(event)
                return os.getpid()
            """
        no = [answer(500), answer(413)]
        with self.running(source, 1, response=no, error=no) as function:
            function.send(*(an_event(number) for number in range(5)))
            answers = function.answers(5)
            self.assertEqual(answers["id-0"].body, answers["id-4"].body, "not the same process")
            function.ready(1)
            self.assertEqual(function.log.count("[WARNING]"), 4)
            for number in range(4):
                self.assertRegex(function.log, rf"\[WARNING\]\t\S+\tid-{number}\t.*(500|413)")

    def test_records_have_the_right_request_id(self) -> None:
        source = self.source(
            """
import logging
def handler(event, context):
    logging.warning("before %s", event)
    until_told()
    logging.warning("after %s", event)
"""
        )
        with self.running(source, 2, env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as function:
            function.send(an_event("a", tenant="A"), an_event("b", tenant="B"))
            function.wait(lambda: function.log.count("before") == 2)
            self.tell()
            function.answers(2)
            records = [json.loads(line) for line in function.log.splitlines()]
            self.assertEqual(
                sorted((record["requestId"], record["tenantId"], record["message"]) for record in records),
                [
                    ("id-a", "A", "after a"),
                    ("id-a", "A", "before a"),
                    ("id-b", "B", "after b"),
                    ("id-b", "B", "before b"),
                ],
            )

    def test_streams(self) -> None:
        with self.running("def handler(event, context):\n    yield 'a'\n    yield 'b'", 2) as function:
            function.send(an_event(1), an_event(2))
            for one in function.answers(2).values():
                self.assertEqual([chunk.data for chunk in one.chunks], [b"a", b"b"])

    def test_output_goes_to_the_provider(self) -> None:
        """Standard output and error of each worker, whoever writes there, to a connection of its own."""
        source = self.source(
            """
import logging, subprocess, sys
print("imported")
def handler(event, context):
    print("printed", context.aws_request_id)
    print("complained", file=sys.stderr, flush=True)
    logging.warning("logged")
    subprocess.call(["echo", "from a child"])
    until_told()
    if event == 1: raise ValueError("uncaught")
    return "_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET" in os.environ
"""
        )
        path = os.path.join(self.folder(), "provider")
        received: list[bytearray] = []

        def collect(connection: socket.socket, data: bytearray) -> None:
            with connection:
                while piece := connection.recv(4096):
                    data += piece

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = provider.accept()
                    received.append(bytearray())
                    threading.Thread(target=collect, args=(connection, received[-1]), daemon=True).start()

        with socket.socket(socket.AF_UNIX) as provider:
            provider.bind(path)
            provider.listen(8)
            threading.Thread(target=accept, daemon=True).start()
            with self.running(source, 2, env={"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET": path}) as function:
                function.ready(2)
                function.send(an_event(0), an_event(1))
                function.wait(lambda: b"".join(map(bytes, received)).count(b"from a child") == 2)
                self.tell()
                answers = function.answers(2)
                self.assertEqual(answers["id-0"].body, b"false")
                function.ready(2)
                self.assertEqual((function.child.stdout, function.child.stderr), (b"", b""))
            provider.shutdown(socket.SHUT_RDWR)
        logs = sorted((data.decode() for data in received), key=lambda data: "id-1" in data)
        for number, log in enumerate(logs):
            lines = self.lines(log)
            expected = ["imported", f"printed id-{number}", "complained", f"[WARNING]\t<time>\tid-{number}\tlogged"]
            self.assertEqual(lines[:5], [*expected, "from a child"])
            self.assertEqual(len(lines), 5 + number)
        self.assertIn("[ERROR] ValueError: uncaught\r", logs[1])

    def test_a_provider_that_is_not_there(self) -> None:
        """There is no log then, or another one; nothing that one could call a crash."""
        env = {"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET": os.path.join(self.root, "missing")}
        with self.running("def handler(event, context): return event", 2, env=env) as function:
            if function.ended(1) is None:
                function.send(an_event(1))
                function.answers(1)
            self.assertNotIn(b"Traceback", function.child.stderr)

    def test_a_parent_that_was_killed(self) -> None:
        """A worker that becomes ready then tells nobody else, such as the container's init, and ends."""
        source = self.source("os.write(1, f'imported {os.getpid()}\\n'.encode())\nuntil_told()\n")
        with self.running(source + "def handler(event, context): pass\n", 2) as function:
            function.wait(lambda: function.log.count("imported") == 2)
            pids = [int(pid) for pid in re.findall(r"imported (\d+)", function.log)]
            os.kill(function.child.process.pid, signal.SIGKILL)
            function.ended()
            self.tell()
            self.until(lambda: all(gone(pid) for pid in pids))
            self.assertEqual(function.polls, [])

    def test_any_status_of_the_users(self) -> None:
        """One worker's end, whatever it says, is that worker's: another takes its place."""
        source = "import sys\ndef handler(event, context): sys.exit(event)\n"
        with self.running(source, 2) as function:
            for status in (0, 1, 69, 75, 255):  # 69 and 75 are EX_UNAVAILABLE and EX_TEMPFAIL
                function.ready(2)
                function.send(an_event(status))
                function.answers(1)

                def replaced(told: str = f"ended with status {status}, and is replaced") -> bool:
                    return told in function.log

                function.wait(replaced)
            function.ready(2)


class Ending(RuntimeTestCase):
    """SIGTERM, for the parent alone as from a container's init, or for all at once as from AWS's emulator."""

    SOURCE = """
        import atexit, os, sys, time
        def say(text): print(f"{text} {os.getpid()}\\n", end="")  # one write: several processes do it at once
        atexit.register(say, "atexit")
        def handler(event, context):
            say("at work")
            try: time.sleep(60)
            finally: say("finally")
        """

    def check(self, source: str, count: int, workers: int, group: bool) -> None:
        with self.running(source, count) as function:
            function.ready(count)
            function.send(an_event(1))
            function.wait(lambda: "at work" in function.log)
            (busy,) = re.findall(r"at work (\d+)", function.log)
            pid = function.child.process.pid
            before = len(function.log)  # workers that were not needed may have come and gone
            (os.killpg if group else os.kill)(pid, signal.SIGTERM)
            self.assertEqual(function.ended(), 0)
            pids = re.findall(r"atexit (\d+)", function.log[before:])
            self.assertTrue(all(gone(int(one)) for one in pids), "the parent is the last to go")
            self.assertRaises(ProcessLookupError, os.killpg, pid, 0)  # nobody else either
            self.assertEqual((len(pids), len(set(pids))), (workers, workers), function.log)
            self.assertNotIn(str(pid), pids)
            self.assertEqual(re.findall(r"finally (\d+)", function.log), [busy])
            self.assertEqual(function.api.sent(), [], "the invocation in work is not reported: Lambda knows")
            self.assertEqual(function.child.stderr, b"")

    def test_workers(self) -> None:
        for group in (False, True):
            with self.subTest(group=group):
                self.check(self.SOURCE, 3, 3, group)

    def test_async(self) -> None:
        source = self.SOURCE.replace("def handler", "async def handler").replace("time.sleep", "await asyncio.sleep")
        source = source.replace("import atexit", "import asyncio, atexit")
        for group in (False, True):
            with self.subTest(group=group):
                self.check(source, 3, 1, group)

    def test_while_workers_are_starting(self) -> None:
        """At no moment is there a worker that nobody knows of."""
        for _ in range(3):
            with self.running("def handler(event, context): pass", 16) as function:
                function.wait(lambda: function.polls)
                function.child.process.send_signal(signal.SIGTERM)  # the first one is ready, others come one by one
                self.assertEqual(function.ended(), 0)
                self.assertRaises(ProcessLookupError, os.killpg, function.child.process.pid, 0)

    def test_a_worker_that_does_not_want_to(self) -> None:
        source = """
            import os, signal
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            def handler(event, context): pass
            """
        with self.running(source, 2) as function:
            function.ready(2)
            function.child.process.send_signal(signal.SIGTERM)
            self.assertEqual(function.ended(), 0)
            self.assertRaises(ProcessLookupError, os.killpg, function.child.process.pid, 0)


class Together(RuntimeTestCase):
    """An async handler on Managed Instances: all invocations in one process, on one event loop."""

    MEET = """
        import asyncio, contextvars, logging, os, sys, time
        here = []
        async def meet(count):
            "Wait until so many are here at the same time."
            here.append(1)
            while len(here) < count: await asyncio.sleep(0.002)
        """

    def source(self, text: str) -> str:
        return "\n".join(line[8:] for line in self.MEET.splitlines()) + "\n" + text

    def test_at_once_in_one_process(self) -> None:
        source = self.source(
            """
async def handler(event, context):
    await meet(5)
    return [os.getpid(), id(asyncio.get_running_loop()), context.aws_request_id, context.tenant_id, context.trace_id]
"""
        )
        with self.running(source, 5) as function:
            function.ready(5)
            function.send(*(an_event(n, tenant=f"tenant-{n}", trace=f"Root={n}") for n in range(5)))
            results = {request_id: json.loads(one.body) for request_id, one in function.answers(5).items()}
            self.assertEqual(len({tuple(result[:2]) for result in results.values()}), 1)
            self.assertEqual(
                {key: result[2:] for key, result in results.items()},
                {f"id-{n}": [f"id-{n}", f"tenant-{n}", f"Root={n}"] for n in range(5)},
            )
            function.ready(5)

    def test_records_that_interleave(self) -> None:
        """Each has the request id and tenant of its own invocation, also in what that awaits or starts."""
        source = self.source(
            """
async def deeper(event): logging.warning("%s in a task", event)
async def handler(event, context):
    logging.warning("%s begins", event)
    await meet(3)
    logging.warning("%s goes on", event)
    await asyncio.gather(deeper(event), asyncio.to_thread(logging.warning, "%s in a thread", event))
    if event == 2: raise ValueError("two")
"""
        )
        texts = ["begins", "goes on", "in a task", "in a thread"]
        for style in ("Text", "JSON"):
            with self.subTest(style), self.running(source, 3, env={"AWS_LAMBDA_LOG_FORMAT": style}) as function:
                function.send(*(an_event(number, tenant=f"t{number}") for number in range(3)))
                function.answers(3)
                lines = function.log.splitlines()
                if style == "JSON":
                    records = [json.loads(line) for line in lines]
                    found = sorted(
                        (one["requestId"], one["tenantId"], one["message"]) for one in records if "message" in one
                    )
                    self.assertEqual(found, [(f"id-{n}", f"t{n}", f"{n} {text}") for n in range(3) for text in texts])
                    (error,) = [one for one in records if "errorType" in one]
                    self.assertEqual((error["requestId"], error["errorMessage"]), ("id-2", "two"))
                else:
                    fields = [line.split("\t") for line in lines if line.startswith("[WARNING]")]
                    expected = sorted([f"id-{n}", f"{n} {text}"] for n in range(3) for text in texts)
                    self.assertEqual(sorted(field[2:] for field in fields), expected)
                    self.assertIn("[ERROR] ValueError: two", function.log)

    def test_context_variables_are_apart(self) -> None:
        source = self.source(
            """
variable = contextvars.ContextVar("variable", default="clean")
async def handler(event, context):
    before = variable.get()
    variable.set(event)
    await meet(3)
    return [before, variable.get()]
"""
        )
        with self.running(source, 3) as function:
            for base in (0, 3):  # the second time on connections that have served before
                function.send(*(an_event(number) for number in range(base, base + 3)))
                answers = function.answers(base + 3)
                for number in range(base, base + 3):
                    self.assertEqual(json.loads(answers[f"id-{number}"].body), ["clean", number])

    def test_a_handler_that_blocks(self) -> None:
        """The others are fetched all the same, and served when it lets go."""
        source = self.source(
            """
async def handler(event, context):
    if event == "block":
        print("blocked", flush=True)
        while not os.path.exists("told"): time.sleep(0.005)
    return event
"""
        )
        with self.running(source, 3) as function:
            function.ready(3)
            function.send(an_event("block"))
            function.wait(lambda: "blocked" in function.log)
            function.send(an_event("a"), an_event("b"))
            function.ready(0)
            self.tell()
            self.assertEqual(len(function.answers(3)), 3)

    def test_streams_and_errors(self) -> None:
        source = self.source(
            """
async def handler(event, context):
    yield {"statusCode": 200 + event} if event else "x"
    await meet(3)
    for number in range(3):
        yield f"{event}{number} "
        await asyncio.sleep(0)
    if event == 2: raise ValueError("two")
"""
        )
        with self.running(source, 3) as function:
            function.send(*(an_event(number) for number in range(3)))
            answers = function.answers(3)
            for number in range(3):
                one = answers[f"id-{number}"]
                self.assertTrue(one.body.endswith(f"{number}0 {number}1 {number}2 ".encode()), one.body)
                trailers = dict(one.trailers)
                self.assertEqual(
                    trailers.get("Lambda-Runtime-Function-Error-Type"), "Function.ValueError" if number == 2 else None
                )
            report = json.loads(base64.b64decode(dict(answers["id-2"].trailers)["Lambda-Runtime-Function-Error-Body"]))
            self.assertEqual((report["requestId"], report["errorMessage"]), ("id-2", "two"))
            function.ready(3)

    def test_a_caller_that_hangs_up(self) -> None:
        """Its stream is closed; the others do not even notice."""
        source = self.source(
            """
async def handler(event, context):
    try:
        while True:
            yield "x" * (50_000 if event == "cut" else 1)
            await asyncio.sleep(0.001)
            if event != "cut" and os.path.exists("told"): return
    finally:
        print("closed", event, flush=True)
"""
        )
        with self.running(source, 2, response=[[CLOSE]]) as function:
            function.send(an_event("cut"))
            function.wait(lambda: "closed cut" in function.log)
            function.ready(2)
            function.send(an_event("fine"))
            function.wait(lambda: len(function.api.sent("response")) == 2)
            self.tell()
            function.wait(lambda: function.api.sent("response")[1].complete)
            self.assertEqual(function.log.count("[WARNING]"), 1)
            self.assertIn("\tid-cut\t", function.log)

    def test_errors_and_refusals_concern_one_invocation(self) -> None:
        source = self.source(
            """
async def handler(event, context):
    await meet(3)
    if event == "raise": raise ValueError("no")
    if event == "cancel": raise asyncio.CancelledError
    return os.getpid()
"""
        )
        with self.running(source, 3, response=[answer(500)], error=[answer(413)]) as function:
            function.send(an_event("raise"), an_event("cancel"), an_event("return"))
            answers = function.answers(3)
            self.assertEqual(
                [answers[f"id-{name}"].endpoint for name in ("raise", "cancel", "return")],
                ["error", "error", "response"],
            )
            self.assertEqual(json.loads(answers["id-cancel"].body)["errorType"], "CancelledError")
            function.ready(3)
            function.send(an_event("again"))
            self.assertEqual(function.answers(4)["id-again"].body, answers["id-return"].body)
            self.assertEqual(function.log.count("[WARNING]"), 2)

    def test_sys_exit(self) -> None:
        """All in work are answered, `finally` blocks run, and another process takes its place."""
        source = self.source(
            """
async def handler(event, context):
    if event == "exit":
        await meet(2)
        sys.exit(6)
    try:
        await meet(1)
        if event == "long": await asyncio.Event().wait()
    finally:
        if event == "long": print("finally", flush=True)
    return os.getpid()
"""
        )
        with self.running(source, 2) as function:
            function.send(an_event("long"), an_event("exit"))
            answers = function.answers(2)
            self.assertEqual(json.loads(answers["id-exit"].body)["errorType"], "SystemExit")
            self.assertEqual(answers["id-long"].endpoint, "error")
            self.assertIn("finally", function.log)
            function.ready(2)
            function.send(an_event("again"))
            self.assertEqual(function.answers(3)["id-again"].endpoint, "response")

    def test_what_counts_as_async(self) -> None:
        rows = {
            "async def handler(event, context): return os.getpid()": 1,
            "async def handler(event, context): yield str(os.getpid())": 1,
            "class Handler:\n    async def __call__(self, event, context): return os.getpid()\nhandler = Handler()": 1,
            "import functools\nasync def f(x, event, context): return x\nhandler = functools.partial(f, 1)": 1,
            "def handler(event, context): return os.getpid()": 2,
            "def handler(event, context): yield str(os.getpid())": 2,
        }
        for source, processes in rows.items():
            with self.subTest(source), self.running(f"import os\n{source}", 2) as function:
                function.ready(2)
                pid = function.child.process.pid
                path = f"/proc/{pid}/task/{pid}/children"
                if not os.path.exists(path):
                    self.skipTest("nothing tells here which processes there are")

                def settled(path: str = path, processes: int = processes) -> bool:
                    with open(path) as file:
                        return len(file.read().split()) == processes

                function.wait(settled)  # those that are not needed may be about to end


HOOKS = """
import sys
def say(*words, **options): print(*words, flush=True, **options)
def fail(kind): raise kind("in a hook")
BEFORE, AFTER = [], []
def get_before_snapshot(): return BEFORE
def get_after_restore(): return AFTER
"""  # as much of snapshot_restore_py as the runtime knows of


class SnapStart(RuntimeTestCase):
    ENV = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    SOURCE = """
        import sys
        from snapshot_restore_py import AFTER, BEFORE, fail, say
        BEFORE += [(say, ("before", "first"), {}), (say, (), {}), (say, ("before", "last"), {"sep": "-"})]
        AFTER += [(say, ("after", "first"), {}), (say, ("after", "last"), {"sep": "-"})]
        def handler(event, context): say("handler")
        """  # ends with the indentation that one more line needs

    def restored(self, source: str, *events: Answer, **options: Any) -> Served:
        self.write("snapshot_restore_py.py", HOOKS)
        self.app(source)
        return self.serve(*events, env=self.ENV, **options)

    def check_failure(self, served: Served, status: int, endpoint: str, kind: str, error: str) -> None:
        self.assertEqual(served.done.status, status)
        (report,) = served.sent("init_error", "restore_error", "response", "error")
        self.assertEqual(report.endpoint, endpoint)
        self.assertEqual(report.headers["lambda-runtime-function-error-type"], kind)
        body = json.loads(report.body)
        self.assertEqual(
            (body["errorType"], body["errorMessage"]), (error, "in a hook" if error != "SystemExit" else "3")
        )
        self.assertEqual(len(served.sent("next")), 0)
        self.assertIn(f"[ERROR] {error}", served.stdout)

    def test_hooks_run_around_the_snapshot(self) -> None:
        """Those before it in reverse order, those after it as they were registered, then events are served."""
        seen: list[bytes] = []
        children: list[Child] = []
        self.write("snapshot_restore_py.py", HOOKS)
        self.app(self.SOURCE)
        snapshot: Answer = [lambda connection: seen.append(children[0].stdout), http(200)]
        with ScriptedApi([event()], restore_next=[snapshot]) as api:
            given = {"AWS_LAMBDA_RUNTIME_API": api.address, **self.ENV}
            with Child([sys.executable, str(RUNTIME), "app.handler"], self.environment(given), cwd=self.root) as child:
                children.append(child)
                self.assertTrue(api.idle.wait(10))
                self.assertEqual(seen, [b"before-last\n\nbefore first\n"])
                rest = child.stdout[len(seen[0]) :]
                self.assertEqual(rest, b"after first\nafter-last\nhandler\n")
        self.assertEqual([one.endpoint for one in api.requests], ["restore_next", "next", "response", "next"])

    def test_no_connection_outlasts_the_snapshot(self) -> None:
        """Copies of a process would share it."""
        served = self.restored(self.SOURCE, event())
        restore, first = served.requests[:2]
        self.assertEqual((restore.endpoint, first.endpoint), ("restore_next", "next"))
        self.assertNotEqual(restore.connection, first.connection)

    def test_it_is_closed_before_the_hooks_after_it_run(self) -> None:
        source = """
            import os
            from snapshot_restore_py import AFTER, say
            def sockets():
                names = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
                say(sum(os.path.lexists(name) and os.readlink(name).startswith("socket:") for name in names))
            AFTER += [(sockets, (), {})]
            def handler(event, context): pass
            """
        if not os.path.isdir("/proc/self/fd"):
            self.skipTest("nothing tells here what is open")
        self.assertEqual(self.restored(source, event()).stdout, "0\n")

    def test_without_the_module(self) -> None:
        """Nobody can have registered a hook then, but there is a snapshot all the same."""
        self.app("def handler(event, context): return event")
        served = self.serve(event(b"1"), env=self.ENV)
        self.assertEqual(self.results(served), [1])
        self.assertEqual([one.endpoint for one in served.requests], ["restore_next", "next", "response", "next"])

    def test_otherwise_there_is_no_snapshot(self) -> None:
        self.write("snapshot_restore_py.py", HOOKS)
        self.app(self.SOURCE)
        for kind in ("on-demand", "provisioned-concurrency", None):
            served = self.serve(event(), env={"AWS_LAMBDA_INITIALIZATION_TYPE": kind})
            self.assertEqual([one.endpoint for one in served.requests], ["next", "response", "next"])
            self.assertEqual(served.stdout, "handler\n")

    def test_failing_hooks(self) -> None:
        for error in ("ValueError", "SystemExit", "KeyboardInterrupt"):
            with self.subTest(error):
                call = "sys.exit, (3,)" if error == "SystemExit" else f"fail, ({error},)"
                served = self.restored(self.SOURCE + f"BEFORE.insert(0, ({call}, {{}}))\n", event())
                self.check_failure(served, 64, "init_error", "Runtime.BeforeSnapshotError", error)
                self.assertEqual(served.sent("restore_next"), [])
                self.assertTrue(served.stdout.startswith("before-last\n\nbefore first\n"), "the others ran first")

                served = self.restored(self.SOURCE + f"AFTER.insert(1, ({call}, {{}}))\n", event())
                self.check_failure(served, 65, "restore_error", "Runtime.AfterRestoreError", error)
                self.assertIn("after first\n", served.stdout)
                self.assertNotIn("after-last", served.stdout)

    def test_an_init_that_fails_takes_no_snapshot(self) -> None:
        served = self.restored("raise ValueError('in a hook')", event())
        self.check_failure(served, 1, "init_error", "Function.ValueError", "ValueError")
        self.assertEqual(served.sent("restore_next"), [])

    def test_a_snapshot_that_cannot_be_had(self) -> None:
        served = self.restored(self.SOURCE, event(), restore_next=[answer(500)])
        self.assertEqual(served.done.status, 1)
        self.assertEqual(len(self.lines(served.stderr)), 1)
        self.assertEqual(len(served.sent("next")), 0)


class InternalExtension(RuntimeTestCase):
    """A function that wants SIGTERM gets it: Lambda sends it only where there is an extension."""

    SOURCE = """
        import signal, sys
        def stop(number, frame):
            print("stopped", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        def handler(event, context): return event
        """

    def test_registration(self) -> None:
        """Before the first event is asked for; then its own `next`, on another connection, ends init for Lambda."""
        identifier = "0c0ffee0-0000-4000-8000-000000000001"
        accepted = answer(200, b"{}", {"Lambda-Extension-Identifier": identifier})
        self.app(self.SOURCE)
        read, second = event(b"2")  # on Lambda there is no event before the extension has asked for its own
        served = self.serve(event(b"1"), [read, 0.5, second], register=[accepted], end=signal.SIGTERM)
        self.assertEqual(self.results(served), [1, 2])
        (register,) = served.sent("register")
        self.assertEqual(served.requests[0], register)
        self.assertTrue(register.headers["lambda-extension-name"])
        self.assertEqual(json.loads(register.body), {"events": []})
        (following,) = served.sent("extension_next")
        self.assertEqual(following.headers["lambda-extension-identifier"], identifier)
        self.assertNotIn(following.connection, {one.connection for one in served.sent("next", "response")})
        self.assertEqual((served.done.status, served.stdout, served.stderr), (0, "stopped\n", ""))

    def test_nobody_else_registers(self) -> None:
        """It would cost every shutdown the time that extensions get for it."""
        self.app("import signal\ndef handler(event, context): return event")
        served = self.serve(event(b"1"))
        self.assertEqual([one.endpoint for one in served.requests], ["next", "response", "next"])

    def test_registration_refused_or_not_offered(self) -> None:
        """The function works as ever."""
        self.app(self.SOURCE)
        refusal = b'{"errorMessage": "no", "errorType": "Extension.Refused"}'
        rows: dict[str, list[Answer]] = {
            "403": [answer(403, refusal)],
            "404": [answer(404)],
            "500": [answer(500, refusal)],
            "hung up": [[READ, CLOSE]] * 20,
        }
        for name, script in rows.items():
            with self.subTest(name):
                served = self.serve(event(b"1"), register=script)
                self.assertEqual(self.results(served), [1])
                self.assertEqual((served.sent("extension_next"), served.stdout, served.stderr), ([], "", ""))

    def test_its_own_next_fails(self) -> None:
        self.app(self.SOURCE)
        rows: list[Answer] = [answer(403), answer(500), [READ, CLOSE], answer(200)]
        for number, row in enumerate(rows):
            with self.subTest(number):
                served = self.serve(event(b"1"), event(b"2"), extension_next=[row, row])
                self.assertEqual(self.results(served), [1, 2])
                self.assertLessEqual(len(self.lines(served.stderr + served.stdout)), 1)

    def test_the_prefix_of_an_emulator(self) -> None:
        self.app(self.SOURCE)
        served = self.serve(event(b"1"), address="http://{}/some/prefix")
        self.assertEqual(served.sent("register")[0].path, "/some/prefix/2020-01-01/extension/register")


if __name__ == "__main__":
    unittest.main()
