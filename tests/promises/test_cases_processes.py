# SPDX-License-Identifier: MIT-0
"""What users reported about event loops, several invocations at once, and the end. Each report is a test.

A docstring names the report. Nothing here waits for a clock: limits of time are there to tell "late" from "never".
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
import textwrap
import threading
import unittest
from collections.abc import Callable
from typing import Any

from scripted_api import READ, Answer, Child, Connection, event, frames, http
from support import RUNTIME, Lambda, RuntimeTestCase, an_event, where

BOTH = {"one at a time": 0, "Managed Instances": 2}  # how many invocations at once


def events(*values: object) -> list[Any]:
    return [event(json.dumps(value).encode()) for value in values]


def holding(until: threading.Event) -> Callable[[Connection], None]:
    """A step of the scripted API: do nothing, until the test says so."""

    def step(connection: Connection) -> None:
        until.wait(60)

    return step


class ClosedLoops(RuntimeTestCase):
    """The runtime's event loop lives as long as the process, unless user code closes it: then there is another."""

    def test_a_branch_that_closes_the_loop(self) -> None:
        """loop-closed-by-sync-branch: code from before the handler became async, of all the kinds there are."""
        branches = {
            "run_until_complete, close": "loop = asyncio.get_event_loop()\n        try: "
            "return loop.run_until_complete(work(0))\n        finally: loop.close()",
            "asyncio.run": "return asyncio.run(work(0))",
            "a loop of its own": "loop = asyncio.new_event_loop()\n        asyncio.set_event_loop(loop)\n"
            "        try: return loop.run_until_complete(work(0))\n        finally: loop.close()",
            "no loop any more": "asyncio.set_event_loop(None)\n        return 0",
            "a thread's loop": "with concurrent.futures.ThreadPoolExecutor() as pool:\n"
            "            return pool.submit(asyncio.run, work(0)).result()",
        }
        for name, branch in branches.items():
            with self.subTest(name):
                self.app(f"""
import asyncio, concurrent.futures
async def work(n):
    await asyncio.sleep(0)
    return n
async def stream(n):
    yield str(await work(n))
def handler(event, context):
    if event == "branch":
        {branch}
    return stream(event) if event == 3 else work(event)
""")
                served = self.serve(*events(1, "branch", 2, 3, 4, "branch", 5))
                self.assertEqual(self.results(served), [1, 0, 2, 3, 4, 0, 5])

    def test_a_loop_that_is_closed_at_import(self) -> None:
        """loop-closed-by-sync-branch: set-up by asyncio.run(), and a loop that is left behind closed."""
        for setup in ("asyncio.run(asyncio.sleep(0))", "asyncio.set_event_loop(asyncio.new_event_loop())\n"
                      "asyncio.get_event_loop().close()"):  # fmt: skip
            with self.subTest(setup):
                self.app(f"import asyncio\n{setup}\nasync def handler(event, context): return event")
                self.assertEqual(self.results(self.serve(*events(1, 2))), [1, 2])

    def test_a_tear_down_that_closes_the_loop_later(self) -> None:
        """loop-closed-from-thread: it comes when the invocation is over, by a thread, while the process is idle."""
        self.app("""
            import asyncio, threading, time
            async def handler(event, context):
                loop = asyncio.get_running_loop()
                def close():
                    for _ in range(200):
                        if not loop.is_running(): break
                        time.sleep(0.005)
                    if not loop.is_running(): loop.close()
                    open(f"torn down {event}", "w").close()
                if event < 3: threading.Thread(target=close).start()
                return event
        """)

        def torn_down(number: int) -> Callable[[Connection], None]:
            return lambda _: self.until(lambda: os.path.exists(f"{self.root}/torn down {number}"))

        first, second, third = events(1, 2, 3)
        served = self.serve(first, [READ, torn_down(1), *second[1:]], [READ, torn_down(2), *third[1:]])
        self.assertEqual(self.results(served), [1, 2, 3])


class PendingTasks(RuntimeTestCase):
    """What user code left on the event loop gets to its `finally`, whatever ends the process."""

    SOURCE = """
        import asyncio, contextlib, sys
        @contextlib.asynccontextmanager
        async def connection(name):
            try: yield
            finally:
                await asyncio.sleep(0)
                print("cleaned up", name, flush=True)
        async def ticking(started):
            async with connection("ticking"):
                while True:
                    await asyncio.sleep(0.01)
                    started.set()
        async def waiting(started):
            async with connection("waiting"):
                started.set()
                await asyncio.Event().wait()
        async def items(started):
            async with connection("items"):
                yield started.set()
                await asyncio.Event().wait()
        async def reading(started):
            async for _ in items(started): pass
        tasks = {}
        async def handler(event, context):
            for work in (ticking, waiting, reading):
                if work not in tasks:
                    started = asyncio.Event()
                    tasks[work] = asyncio.create_task(work(started))
                    await started.wait()
            if event == "exit": sys.exit(3)
            if event == "stay":
                async with connection("stay"):
                    print("at work", flush=True)
                    await asyncio.Event().wait()
            return event
        """
    TASKS = ["items", "ticking", "waiting"]

    def cleaned_up(self, function: Lambda) -> list[str]:
        return sorted(re.findall(r"cleaned up (\w+)", function.log))

    def test_they_are_ended_by_sigterm_while_idle(self) -> None:
        """background-task-finally, background-task-finally-instances."""
        for name, count in BOTH.items():
            with self.subTest(name), self.running(self.SOURCE, count) as function:
                function.send(an_event(1))
                function.answers(1)
                function.ready(count or 1)
                function.child.process.send_signal(signal.SIGTERM)
                self.assertEqual(function.ended(), 0)
                self.assertEqual(self.cleaned_up(function), self.TASKS)
                self.assertEqual(function.child.stderr, b"")

    def test_they_are_ended_by_sigterm_at_work(self) -> None:
        """background-task-finally: and so is the invocation in work."""
        for name, count in BOTH.items():
            with self.subTest(name), self.running(self.SOURCE, count) as function:
                function.send(an_event("stay"))
                function.wait(lambda: "at work\n" in function.log)
                function.child.process.send_signal(signal.SIGTERM)
                self.assertEqual(function.ended(), 0)
                self.assertEqual(self.cleaned_up(function), sorted([*self.TASKS, "stay"]))
                self.assertEqual(function.api.sent("response", "error"), [])

    def test_they_are_ended_by_sys_exit(self) -> None:
        """background-task-finally."""
        with self.running(self.SOURCE) as function:
            function.send(an_event("exit"))
            self.assertEqual(function.answers(1)["id-exit"].endpoint, "error")
            self.assertEqual(function.ended(), 3)
            self.assertEqual(self.cleaned_up(function), self.TASKS)

    def test_a_task_that_does_not_want_to_end(self) -> None:
        """stubborn-task-sigterm, stubborn-background-task-sigterm: the end comes all the same."""
        source = """
            import asyncio, atexit, time
            atexit.register(print, "at exit", flush=True)
            tasks = []
            async def stubborn():
                while True:
                    try: await asyncio.sleep(600)
                    except asyncio.CancelledError: print("not now", flush=True)
            async def slow():
                try: await asyncio.sleep(600)
                finally: await asyncio.sleep(600)
            async def blocking():
                try: await asyncio.sleep(600)
                finally: time.sleep(600)
            async def handler(event, context):
                work = {"stubborn": stubborn, "slow": slow, "blocking": blocking}[event.split()[-1]]
                tasks.append(asyncio.create_task(work()))
                await asyncio.sleep(0)
                print("at work", flush=True)
                if event.startswith("await"): await tasks[0]
                return event
            """
        for name, count in BOTH.items():
            for work in ("await stubborn", "stubborn", "await slow", "slow", "blocking"):
                with self.subTest(work, mode=name), self.running(source, count) as function:
                    function.send(an_event(work))
                    function.wait(lambda: "at work\n" in function.log)
                    if not work.startswith("await"):
                        function.answers(1)
                        function.ready(count or 1)
                    function.child.process.send_signal(signal.SIGTERM)
                    self.assertEqual(function.ended(), 0)


class SignalsOnTheLoop(RuntimeTestCase):
    """loop.add_signal_handler: its callback is called at once, though the process waits for an event."""

    SOURCES = {
        "in the handler": """
            import asyncio, os, signal
            done = []
            async def clean_up():
                await asyncio.sleep(0)
                print("closing the pool", flush=True)
                os._exit(7)
            async def handler(event, context):
                if not done:
                    loop = asyncio.get_running_loop()
                    loop.add_signal_handler(NUMBER, lambda: done.append(asyncio.ensure_future(clean_up())))
                    done.append(1)
                return event
            """,
        "at import": """
            import asyncio, os, signal
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            def goodbye():
                print("closing the pool", flush=True)
                os._exit(7)
            loop.add_signal_handler(NUMBER, goodbye)
            async def handler(event, context): return event
            """,
        "that ends the process in order": """
            import asyncio, os, signal, sys
            done = []
            async def handler(event, context):
                if not done:
                    def stop():
                        print("closing the pool", flush=True)
                        sys.exit(7)
                    done.append(asyncio.get_running_loop().add_signal_handler(NUMBER, stop))
                return event
            """,
        "signal.signal": """
            import os, signal
            def goodbye(*_):
                print("closing the pool", flush=True)
                os._exit(7)
            signal.signal(NUMBER, goodbye)
            async def handler(event, context): return event
            """,
    }

    def test_it_is_called_while_idle(self) -> None:
        """loop-signal-handler, loop-signal-handler-at-import; other signals (reload, dump) have the same way."""
        for number in ("signal.SIGTERM", "signal.SIGUSR1"):
            for name, source in self.SOURCES.items():
                with self.subTest(name, number=number), self.running(source.replace("NUMBER", number)) as function:
                    function.send(an_event(1))
                    function.answers(1)
                    function.ready(1)
                    function.child.process.send_signal(eval(number))
                    self.assertEqual(function.ended(), 7)
                    self.assertEqual(function.log, "closing the pool\n")

    def test_a_callback_that_ends_nothing(self) -> None:
        """loop-signal-handler: the function is served on after it."""
        source = """
            import asyncio, signal
            done = []
            async def handler(event, context):
                if not done:
                    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: print("noted", flush=True))
                    done.append(1)
                return event
            """
        with self.running(source) as function:
            for number in range(1, 4):
                function.send(an_event(number))
                function.answers(number)
                function.ready(1)
                function.child.process.send_signal(signal.SIGUSR1)
                function.wait(lambda n=number: function.log.count("noted") == n)  # type: ignore[misc]


class SlowReaders(RuntimeTestCase):
    def test_other_tasks_go_on(self) -> None:
        """heartbeat-while-reader-is-slow: a keep-alive, while nobody reads what the handler streams."""
        source = """
            import asyncio
            async def beat():
                while True:
                    print("beat", flush=True)
                    await asyncio.sleep(0.01)
            async def handler(event, context):
                task = asyncio.create_task(beat())
                for number in range(5):
                    yield b"x" * 8_000_000  # more than the buffers of a connection hold
                    print("item", number, flush=True)
                task.cancel()
            """
        for name, count in BOTH.items():
            reads = threading.Event()
            held: Answer = [holding(reads), READ, http(202)]
            with self.subTest(name), self.running(source, count, response=[held]) as function:
                function.send(an_event(1))
                function.wait(lambda: function.log.rpartition("item")[2].count("beat") > 20)
                self.assertNotIn("item 4", function.log, "nothing held the handler up")
                reads.set()
                self.assertEqual(len(function.answers(1)["id-1"].body), 40_000_000)

    def test_other_invocations_go_on(self) -> None:
        """heartbeat-while-reader-is-slow: on Managed Instances these are tasks of the same loop."""
        source = """
            async def handler(event, context):
                for number in range(5 if event == "large" else 1): yield b"x" * 8_000_000 if event == "large" else "x"
            """
        reads = threading.Event()
        held: Answer = [holding(reads), READ, http(202)]
        with self.running(source, 2, response=[held]) as function:
            function.send(an_event("large"))
            function.wait(lambda: function.api.sent("response"))
            for number in range(5):
                function.send(an_event(number))
                function.wait(lambda n=number: f"id-{n}" in function.answers(n + 1))  # type: ignore[misc]
            reads.set()
            self.assertEqual(len(function.answers(6)["id-large"].body), 40_000_000)


class RequestIdsInRecords(RuntimeTestCase):
    """A record has the id of the invocation that started the work, in whatever thread or task that is done."""

    SOURCE = """
        import asyncio, concurrent.futures, contextvars, logging, threading
        log = logging.getLogger()
        log.setLevel("INFO")
        pool = concurrent.futures.ThreadPoolExecutor(2)
        here = []

        async def meet():
            "Wait until there are four at work."
            here.append(1)
            while len(here) < 4: await asyncio.sleep(0.001)

        def thread(target, *arguments):
            one = threading.Thread(target=target, args=arguments)
            one.start()
            return asyncio.to_thread(one.join)

        async def task(me):
            await asyncio.sleep(0)
            log.info(me)

        async def called_soon(me):
            done = asyncio.Event()
            asyncio.get_running_loop().call_soon(lambda: (log.info(me), done.set()))
            await done.wait()

        class Own(threading.Thread):
            def __init__(self, me):
                super().__init__(daemon=True)
                self.me = me
            def run(self): log.info(self.me)

        async def subclass(me):
            one = Own(me)
            one.start()
            await asyncio.to_thread(one.join)

        async def timer(me):
            done = threading.Event()
            threading.Timer(0, lambda: (log.info(me), done.set())).start()
            await asyncio.to_thread(done.wait)

        WAYS = {
            "here": task,
            "run_in_executor": lambda me: asyncio.get_running_loop().run_in_executor(None, log.info, me),
            "own pool": lambda me: asyncio.wrap_future(pool.submit(log.info, me)),
            "own pool as an executor": lambda me: asyncio.get_running_loop().run_in_executor(pool, log.info, me),
            "map of a pool": lambda me: asyncio.to_thread(lambda: list(pool.map(log.info, [me, me]))),
            "thread": lambda me: thread(log.info, me),
            "thread of a thread": lambda me: thread(lambda: asyncio.run(thread(log.info, me))),
            "timer": timer,
            "subclass of Thread": subclass,
            "to_thread": lambda me: asyncio.to_thread(log.info, me),
            "task": lambda me: asyncio.gather(task(me), asyncio.ensure_future(task(me))),
            "call_soon": called_soon,
        }

        async def handler(event, context):
            await meet()
            await WAYS[event](f"{context.aws_request_id} {context.tenant_id}")
            await asyncio.sleep(0)
            log.info(f"{context.aws_request_id} {context.tenant_id}")
        """

    def test_every_way_to_do_work_elsewhere(self) -> None:
        """request-id-in-run-in-executor, -own-pool, -thread, -to-thread: of 8 invocations, 4 at a time."""
        names = re.findall(r'^ {12}"(.*?)":', self.SOURCE, re.MULTILINE)
        self.assertEqual(len(names), 12)
        for form in ("JSON", "Text"):
            with self.running(self.SOURCE, 4, env={"AWS_LAMBDA_LOG_FORMAT": form}) as function:
                sent = 0
                for name in names:
                    happened = [an_event(name, f"{sent + n}", tenant=f"t{sent + n}") for n in range(8)]
                    before = len(function.log.splitlines())
                    function.send(*happened)
                    sent += 8
                    answers = function.answers(sent)
                    self.assertEqual({one.endpoint for one in answers.values()}, {"response"}, answers)
                    lines = function.log.splitlines()[before:]
                    with self.subTest(name, form=form):
                        if form == "JSON":
                            records = [json.loads(line) for line in lines]
                            found = [f"{one.get('requestId')} {one.get('tenantId')}" for one in records]
                            self.assertEqual(found, [one["message"] for one in records])
                        else:
                            fields = [line.split("\t") for line in lines]
                            self.assertEqual([one[2] for one in fields], [one[3].split()[0] for one in fields])

    def test_threads_of_one_invocation_at_a_time(self) -> None:
        """request-id-in-thread: where there is one invocation, its id is that of all threads, of old ones, too."""
        self.app("""
            import logging, queue, threading
            todo, done = queue.Queue(), queue.Queue()
            def work():
                while True: done.put(logging.warning(todo.get()))
            threading.Thread(target=work, daemon=True).start()
            def handler(event, context):
                todo.put(context.aws_request_id)
                done.get()
        """)
        served = self.serve(event(request_id="one"), event(request_id="two"))
        self.assertEqual(self.lines(served.stdout), ["[WARNING]\t<time>\tone\tone", "[WARNING]\t<time>\ttwo\ttwo"])


def whole_records(log: bytes, framed: bool) -> int:
    """How many there are, 0 while a frame is not whole."""
    try:
        return len(frames(log)) if framed else log.count(b"\n")
    except ValueError:
        return 0


class WholeRecords(RuntimeTestCase):
    """Records of several invocations do not mix, however long they are, and however slowly the log is read."""

    def log_of(
        self, source: str, count: int, size: int, env: dict[str, str], records: int, framed: bool = False
    ) -> bytes:
        """The records of so many invocations in a log that is a pipe, read by `size` bytes at a time."""
        script = f'"$@" {"3>&1 >&2" if framed else ""} | dd bs={size} status=none'
        lambda_ = Lambda()
        self.app(source)
        with lambda_.api:
            given = {"AWS_LAMBDA_RUNTIME_API": lambda_.api.address, **env}
            if framed:
                given["_LAMBDA_TELEMETRY_LOG_FD"] = "3"
            command = ["/bin/sh", "-c", script, "sh", sys.executable, str(RUNTIME), "app.handler"]
            with Child(command, self.environment(given), cwd=self.root) as lambda_.child:
                lambda_.send(*(an_event(number) for number in range(count)))
                lambda_.answers(count)
                self.until(lambda: whole_records(lambda_.child.stdout, framed) >= records)
                return lambda_.child.stdout

    SOURCE = """
        import asyncio, logging
        async def handler(event, context):
            await asyncio.sleep(0.001)
            raise ValueError("ABCDEFGH"[event % 8] * SIZE)
        """

    def check(self, texts: list[str], count: int, size: int) -> None:
        self.assertEqual(len(texts), count)
        for text in texts:
            letter = re.search(r"([A-H])\1{7}", text)
            assert letter is not None, text[:200]
            self.assertIn(letter[1] * size, text)
            self.assertLessEqual(len(set(re.findall(r"([A-H])\1{7}", text))), 1)

    def test_uncaught_errors(self) -> None:
        """error-records-whole-json-8kb, error-records-whole-json-100kb: lines of JSON, and of text."""
        for form in ("JSON", "Text"):
            for count, size, at_once in ((200, 8_000, 16), (48, 100_000, 8)):
                with self.subTest(form, size=size):
                    env = {"AWS_LAMBDA_MAX_CONCURRENCY": str(at_once), "AWS_LAMBDA_LOG_FORMAT": form}
                    log = self.log_of(self.SOURCE.replace("SIZE", str(size)), count, 4096, env, count)
                    lines = log.decode().split("\n")[:-1]
                    if form == "JSON":
                        lines = [json.loads(line)["errorMessage"] for line in lines]
                    self.check(lines, count, size)

    def test_uncaught_errors_in_frames(self) -> None:
        """error-records-whole-framed-100kb."""
        for form in ("JSON", "Text"):
            with self.subTest(form):
                env = {"AWS_LAMBDA_MAX_CONCURRENCY": "8", "AWS_LAMBDA_LOG_FORMAT": form}
                source = self.SOURCE.replace("SIZE", "100_000")
                log = self.log_of(source, 48, 16384, env, 48, framed=True)
                self.check([frame.message.decode() for frame in frames(log)], 48, 100_000)

    def test_records_of_threads(self) -> None:
        """error-records-whole-json-100kb: the threads of one invocation are as many writers as several of these."""
        source = """
            import logging, threading
            def handler(event, context):
                def say(letter):
                    for _ in range(6): logging.error(letter * 100_000)
                threads = [threading.Thread(target=say, args=(letter,)) for letter in "ABCDEFGH"]
                for one in threads: one.start()
                for one in threads: one.join()
            """
        for form in ("JSON", "Text"):
            for framed in (False, True):
                with self.subTest(form, framed=framed):
                    log = self.log_of(source, 1, 4096, {"AWS_LAMBDA_LOG_FORMAT": form}, 48, framed)
                    texts = [one.message.decode() for one in frames(log)] if framed else log.decode().split("\n")[:-1]
                    self.check(texts, 48, 100_000)

    def test_while_signals_come(self) -> None:
        """A profiler's timer, for example: it interrupts a worker that waits for another one to write."""
        source = """
            import logging, signal
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            def handler(event, context):
                for number in range(100): logging.warning("%s of %s %s", number, event, "x" * 10_000)
            """
        log = self.log_of(source, 2, 64, {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}, 200).decode()
        expected = [f"{number} of {event} {'x' * 10_000}" for event in range(2) for number in range(100)]
        self.assertEqual(sorted(line.rpartition("\t")[2] for line in log.splitlines()), sorted(expected))


class ExitOfOne(RuntimeTestCase):
    """sys.exit() in one of several invocations takes no other along: what is in work is answered or reported."""

    SOURCE = """
        import asyncio, os, sys
        here = []
        async def leave(): sys.exit(4)
        async def rest(event):
            if event == "hang": await asyncio.Event().wait()
            for _ in range(20): await asyncio.sleep(0.01)
        async def handler(event, context):
            here.append(event)
            while len(here) < 8: await asyncio.sleep(0.001)
            if event == "exit": sys.exit(4)
            if event == "exit-in-a-task": await asyncio.gather(leave())
            if event == "exit-in-a-task-not-awaited": asyncio.ensure_future(leave())
            await rest(event)
            return event
        async def stream(event, context):
            yield "begun "
            here.append(event)
            while len(here) < 8: await asyncio.sleep(0.001)
            if event == "exit": sys.exit(4)
            await rest(event)
            yield event
        """

    def test_each_invocation_in_work_is_answered(self) -> None:
        """exit-in-one-of-many, exit-in-a-task-of-one: also of streams, and beside one that would never end."""
        rows = [
            ("handler", "exit", "b"),
            ("handler", "exit-in-a-task", "b"),
            ("handler", "exit-in-a-task-not-awaited", "b"),
            ("handler", "exit", "hang"),
            ("stream", "exit", "b"),
        ]
        for handler, leaves, other in rows:
            with self.subTest(handler, leaves=leaves, other=other):
                source = textwrap.dedent(self.SOURCE) + f"handler = {handler}\n"
                with self.running(source, 8) as function:
                    function.ready(8)
                    function.send(*(an_event(name) for name in (leaves, other, "c", "d", "e", "f", "g", "h")))
                    answers = function.answers(8)
                    self.assertEqual(
                        sorted(answers), sorted(f"id-{name}" for name in (leaves, other, "c", "d", "e", "f", "g", "h"))
                    )
                    if "not-awaited" not in leaves:
                        left = answers[f"id-{leaves}"]
                        reported = left.endpoint == "error" or dict(left.trailers)
                        self.assertTrue(reported, left)
                    for name in ("c", "h"):
                        one = answers[f"id-{name}"]
                        if one.endpoint == "response" and not one.trailers:
                            self.assertIn(name.encode(), one.body, "neither reported nor whole")
                    function.ready(8)  # of another process, as this mode never runs out of them


class StartOfMany(RuntimeTestCase):
    """Managed Instances: the workers are initialised at the same time, whether that goes well or not."""

    # Each init waits until all have begun theirs: with one after the other it would never end.
    MEET = """
        import os, time
        print("begun", os.getpid(), flush=True)
        open(f"begun {os.getpid()}", "w").close()
        while len([name for name in os.listdir() if name.startswith("begun")]) < COUNT: time.sleep(0.005)
        """

    def test_all_polls_are_open_after_one_init(self) -> None:
        """polls-open-after-one-init, polls-open-after-one-init-async: also with an async handler."""
        for kind, inits in (("def", 4), ("async def", 1)):
            with self.subTest(kind):
                source = (
                    textwrap.dedent(self.MEET).replace("COUNT", str(inits))
                    + f"{kind} handler(event, context): return event\n"
                )
                root, self.root = self.root, self.folder()
                with self.running(source, 4) as function:
                    function.ready(4)
                self.root = root

    def test_an_init_that_fails_in_all(self) -> None:
        """failing-init-ends-soon: about one round, one report a worker at most, and the end with a status."""
        source = textwrap.dedent(self.MEET).replace("COUNT", "16") + "raise ValueError('bad configuration')\n"
        with self.running(source, 16) as function:
            self.assertEqual(function.ended(), 1)
            self.assertLessEqual(function.log.count("begun"), 32)
            self.assertTrue(1 <= len(function.api.sent("init_error")) <= 16)
            self.assertEqual(function.api.sent("next"), [])
            self.assertNotIn(b"Traceback", function.child.stderr)

    def test_an_init_that_fails_in_one(self) -> None:
        """failing-init-ends-soon: a hiccup of what is asked for its configuration; that worker is replaced."""
        source = """
            import os
            try: os.close(os.open("first", os.O_CREAT | os.O_EXCL))
            except FileExistsError: pass
            else: raise ValueError("not yet")
            def handler(event, context): return event
            """
        with self.running(source, 3) as function:
            function.ready(3)
            function.send(*(an_event(number) for number in range(6)))
            self.assertEqual({one.endpoint for one in function.answers(6).values()}, {"response"})


class WhatIsLeftBehind(RuntimeTestCase):
    """Processes, pools and threads that user code keeps do not hold up the end; what is to run at exit, runs."""

    KEPT = {
        "a process pool": "pool = ProcessPoolExecutor(2)\n    list(pool.map(abs, [-1, -2]))",
        "a process pool at work": "pool = ProcessPoolExecutor(2)\n    pool.submit(time.sleep, 600)",
        "a process": "multiprocessing.Process(target=time.sleep, args=(600,)).start()",
        "a daemon process": "multiprocessing.Process(target=time.sleep, args=(600,), daemon=True).start()",
        "a multiprocessing pool": "pool = multiprocessing.Pool(2)\n    pool.map(abs, [-1, -2])",
        "a manager": "pool = multiprocessing.Manager()\n    pool.dict(a=1)",
        "a spawned process": "multiprocessing.get_context('spawn').Process(target=time.sleep, args=(600,)).start()",
        "a subprocess": "pool = subprocess.Popen(['sleep', '600'])",
        "a thread": "threading.Thread(target=time.sleep, args=(600,)).start()",
        "a thread pool at work": "pool = ThreadPoolExecutor(2)\n    pool.submit(time.sleep, 600)",
        "a timer": "threading.Timer(600, print).start()",
        "a thread pool, when threads have run out": (
            "pool = ThreadPoolExecutor(1)\n    pool.submit(abs, 1)\n    threading.Thread.start = run_out"
        ),
    }

    def source(self, keep: str, kind: str = "def") -> str:
        return f"""
import atexit, multiprocessing, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
atexit.register(print, "at exit", flush=True)
pool = None
def run_out(self): raise RuntimeError("can't start new thread")
{kind} handler(event, context):
    global pool
    {keep}
    if event == "exit": sys.exit(3)
    return event
"""

    def check(self, function: Lambda, status: int) -> None:
        self.assertEqual(function.ended(), status)
        self.assertEqual(function.log.count("at exit\n"), 1, function.log)
        self.assertNotIn(b"Traceback", function.child.stderr)

    def test_sigterm_while_idle(self) -> None:
        """process-pool-sigterm, process-left-sigterm."""
        for name, keep in self.KEPT.items():
            for kind in ("def", "async def"):
                with self.subTest(name, kind=kind), self.running(self.source(keep, kind)) as function:
                    function.send(an_event(1))
                    self.assertEqual(function.answers(1)["id-1"].endpoint, "response")
                    function.ready(1)
                    function.child.process.send_signal(signal.SIGTERM)
                    self.check(function, 0)

    def test_sys_exit(self) -> None:
        """process-pool-exit: the invocation is reported, and the status is the one that was asked for."""
        for name, keep in self.KEPT.items():
            with self.subTest(name), self.running(self.source(keep)) as function:
                function.send(an_event("exit"))
                self.assertEqual(function.answers(1)["id-exit"].endpoint, "error")
                self.check(function, 3)

    def test_an_async_generator_that_takes_long_to_close(self) -> None:
        source = """
            import asyncio, atexit, sys
            atexit.register(print, "at exit", flush=True)
            async def rows():
                try: yield 1
                finally: await asyncio.sleep(600)
            opened = rows()
            async def handler(event, context):
                async for row in opened: break
                if event == "exit": sys.exit(3)
            """
        for value, status in ((1, 0), ("exit", 3)):
            with self.subTest(value), self.running(source) as function:
                function.send(an_event(value))
                function.answers(1)
                if not status:
                    function.ready(1)
                    function.child.process.send_signal(signal.SIGTERM)
                self.check(function, status)


@unittest.skipUnless(importlib.util.find_spec("gevent"), "gevent is not installed; .ci/run does that")
class Gevent(RuntimeTestCase):
    SOURCE = """
        from gevent import monkey
        monkey.patch_all()
        import signal, subprocess, sys, time
        from concurrent.futures import ThreadPoolExecutor
        SETUP
        def handler(event, context):
            time.sleep(0.001)
            if event == "stream": return (time.sleep(0.001) or item for item in "ab")
            if event == "fail": raise ValueError("as told")
            if event == "large": return "x" * 5_000_000
            return event
        """
    SETUPS = {
        "patch_all alone": "",
        "signal.signal": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))",
        "a greenlet left running": "import gevent; gevent.spawn(time.sleep, 600)",
    }

    def test_events_are_served(self) -> None:
        """gevent-alone, gevent-and-sigterm-handler: all that the loop can do, and the end."""
        for name, setup in self.SETUPS.items():
            with self.subTest(name):
                source = self.SOURCE.replace("SETUP", setup)
                with self.running(source, env={"PYTHONPATH": where("gevent")}) as function:
                    for count, value in enumerate((1, "fail", "stream", "large", 2), 1):
                        function.send(an_event(value))
                        answers = function.answers(count)
                    self.assertEqual(answers["id-fail"].endpoint, "error")
                    self.assertEqual([chunk.data for chunk in answers["id-stream"].chunks], [b"a", b"b"])
                    self.assertEqual((answers["id-1"].body, answers["id-2"].body), (b"1", b"2"))
                    function.ready(1)
                    function.child.process.send_signal(signal.SIGTERM)
                    self.assertEqual(function.ended(), 0)


class Alarms(RuntimeTestCase):
    """A time limit by SIGALRM that is not switched off: it goes off wherever the runtime happens to be."""

    def test_it_is_survived_or_ends_the_process_with_a_word(self) -> None:
        """alarm-between-handler-and-answer: in event n it goes off n calls after the handler has returned."""
        self.app("""
            import signal, sys
            def ring(*_): raise TimeoutError("too slow")
            signal.signal(signal.SIGALRM, ring)
            def handler(event, context):
                left = [event]
                def count(frame, what, argument):
                    if what == "call" and frame.f_code.co_name == "next": return sys.setprofile(None)  # answered
                    if what in ("call", "c_return"):
                        left[0] -= 1
                        if left[0] < 0:
                            sys.setprofile(None)
                            signal.raise_signal(signal.SIGALRM)
                sys.setprofile(count)
                return event
        """)
        left = list(range(90))
        while left:
            served = self.serve(*(an_event(number) for number in left))
            answered = {one.request_id for one in served.answers if one.complete}
            at = len(served.sent("next")) - 1  # the last event that it got, if it ended
            if served.done.status is None:
                self.assertEqual(answered, {f"id-{number}" for number in left})
                break
            self.assertGreater(served.done.status, 0, served.stderr)
            self.assertEqual(len(self.lines(served.stderr)), 1, served.stderr)
            self.assertIn("too slow", served.stderr)
            self.assertEqual(answered | {f"id-{left[at]}"}, {f"id-{number}" for number in left[: at + 1]})
            left = left[at + 1 :]

    def test_while_it_waits_for_an_event(self) -> None:
        """alarm-between-handler-and-answer: the same limit, longer than the handler."""
        source = """
            import signal
            def ring(*_):
                print("ring", flush=True)
                raise TimeoutError("too slow")
            signal.signal(signal.SIGALRM, ring)
            def handler(event, context):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                return event
            """
        with self.running(source) as function:
            for number in range(1, 4):
                function.send(an_event(number))
                function.answers(number)
                function.wait(lambda n=number: function.log.count("ring") == n)  # type: ignore[misc]
            function.ready(1)


if __name__ == "__main__":
    unittest.main()
