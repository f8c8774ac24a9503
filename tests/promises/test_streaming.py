# SPDX-License-Identifier: MIT-0
"""Streaming: what a generator yields is on the wire before it goes on. Async: what can be awaited is."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
import unittest
from typing import Any, ClassVar

from scripted_api import CLOSE, READ, Request, ScriptedApi, event, http, run
from support import PYPY, RUNTIME, RuntimeTestCase, Served

STREAM_HEADERS = [
    ("Lambda-Runtime-Function-Response-Mode", "streaming"),
    ("Transfer-Encoding", "chunked"),
    ("Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"),
]
BYTES = ("Content-Type", "application/octet-stream")
HTTP_RESPONSE = ("Content-Type", "application/vnd.awslambda.http-integration-response")


def wire(request: Request) -> bytes:
    """The body as it was on the wire: chunk sizes, trailers and all."""
    return bytes(request.raw).partition(b"\r\n\r\n")[2]


def failure(request: Request) -> dict[str, Any]:
    """The error JSON of a failed stream or of an error report."""
    report = request.body if request.endpoint == "error" else base64.b64decode(dict(request.trailers)[ERROR_BODY])
    parsed: dict[str, Any] = json.loads(report)
    return parsed


ERROR_TYPE, ERROR_BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"


def events(*values: object) -> list[Any]:
    return [event(json.dumps(value).encode()) for value in values]


class StreamTestCase(RuntimeTestCase):
    def served(self, source: str, *values: object, **options: Any) -> Served:
        self.app(source)
        return self.serve(*events(*values), **options)


class TheWire(StreamTestCase):
    """The exact bytes."""

    def test_plain_stream(self) -> None:
        for kind in ("def", "async def"):
            with self.subTest(kind):
                done = self.served(f"{kind} handler(event, context):\n    yield 'one\\n'\n    yield b'\\xfftwo'", 0)
                (request,) = done.answers
                self.assertEqual(request.header_list[2:], [*STREAM_HEADERS, BYTES])
                self.assertEqual(wire(request), b"4\r\none\n\r\n4\r\n\xfftwo\r\n0\r\n\r\n")

    def test_stream_with_prelude(self) -> None:
        done = self.served(
            """
            def handler(event, context):
                yield {"statusCode": 201, "headers": {"content-type": "text/plain"}, "cookies": ["a=b"]}
                yield "body"
            """,
            0,
        )
        (request,) = done.answers
        self.assertEqual(request.header_list[2:], [*STREAM_HEADERS, HTTP_RESPONSE])
        prelude = b'{"statusCode": 201, "headers": {"content-type": "text/plain"}, "cookies": ["a=b"]}'
        expected = b"%x\r\n%s\r\n8\r\n%s\r\n4\r\nbody\r\n0\r\n\r\n" % (len(prelude), prelude, bytes(8))
        self.assertEqual(wire(request), expected)

    def test_failing_stream(self) -> None:
        done = self.served("def handler(event, context):\n    yield 'part'\n    raise ValueError('böse')", 0)
        (request,) = done.answers
        body = base64.b64encode(json.dumps(failure(request), ensure_ascii=False).encode())
        expected = b"4\r\npart\r\n0\r\n" + b"%s: Function.ValueError\r\n" % ERROR_TYPE.encode()
        self.assertEqual(wire(request), expected + ERROR_BODY.encode() + b": " + body + b"\r\n\r\n")
        self.assertEqual(failure(request)["errorMessage"], "böse")
        self.assertEqual(len(failure(request)["stackTrace"]), 1)
        self.assertIn("[ERROR] ValueError: böse\rTraceback", done.stdout)

    def test_invocation_id_is_echoed(self) -> None:
        self.app("def handler(event, context):\n    yield 'x'")
        done = self.serve(event(b"0", {"Lambda-Runtime-Invocation-Id": "nonce"}))
        self.assertEqual(done.answers[0].headers["lambda-runtime-invocation-id"], "nonce")

    def test_each_item_arrives_before_the_next_is_asked_for(self) -> None:
        """The handler goes on only when the other side has the item: were it kept, neither would ever move."""
        blocking, waiting = "Path(fifo).read_text()", "await loop().run_in_executor(None, Path(fifo).read_text)"
        for kind, wait in (("def", blocking), ("async def", waiting)):
            with self.subTest(kind):
                self.app(
                    f"""
                    import asyncio
                    from pathlib import Path
                    loop = asyncio.get_running_loop
                    {kind} handler(fifo, context):
                        yield {{}}
                        {wait}
                        for item in ("a", "b"):
                            yield item
                            {wait}
                    """
                )
                fifo = os.path.join(self.folder(), "arrived")
                os.mkfifo(fifo)
                with ScriptedApi(events(fifo)) as api:
                    threading.Thread(target=self._acknowledge, args=(api, fifo), daemon=True).start()
                    command = [sys.executable, str(RUNTIME), "app.handler"]
                    done = run(command, api, self.environment({"AWS_LAMBDA_RUNTIME_API": api.address}), cwd=self.root)
                    self.assertFalse(done.timed_out, "an item was not sent before the handler went on")
                    self.assertEqual([c.data for c in api.sent("response")[0].chunks[1:]], [bytes(8), b"a", b"b"])

    @staticmethod
    def _acknowledge(api: ScriptedApi, fifo: str) -> None:
        for chunks in (2, 3, 4):  # prelude and NULs, then an item each
            if api.wait(lambda n=chunks: api.sent("response") and len(api.sent("response")[0].chunks) >= n):  # type: ignore[misc]
                with open(fifo, "w"):
                    pass


class Items(StreamTestCase):
    def test_kinds_of_items(self) -> None:
        rows = {
            "'ä€😀'": "ä€😀".encode(),
            "b'\\x00\\xff'": b"\x00\xff",
            "bytearray(b'ba')": b"ba",
            "memoryview(b'view')": b"view",
            "memoryview(array.array('H', [513, 513]))": b"\x01\x02\x01\x02",
            "memoryview(b'abcdef')[::2]": b"ace",
            "array.array('B', [1, 2])": b"\x01\x02",
            "'x' * 3_000_000": b"x" * 3_000_000,
        }
        source = f"import array\nITEMS = [{', '.join(rows)}]\ndef handler(event, context):\n    yield ITEMS[event]\n"
        done = self.served(source, *range(len(rows)))
        for request, (item, expected) in zip(done.answers, rows.items()):
            with self.subTest(item):
                self.assertEqual([chunk.data for chunk in request.chunks], [expected])

    def test_an_empty_item_sends_nothing(self) -> None:
        done = self.served("def handler(event, context):\n    yield ''\n    yield b''\n    yield 'x'\n    yield ''", 0)
        self.assertEqual(wire(done.answers[0]), b"1\r\nx\r\n0\r\n\r\n")

    def test_a_stream_that_never_yields_is_empty(self) -> None:
        source = """
            def plain():
                return
                yield
            async def other():
                return
                yield
            def handler(event, context):
                return (plain, other)[event]()
            """
        for request in self.served(source, 0, 1).answers:
            self.assertEqual((request.header_list[2:], wire(request)), ([*STREAM_HEADERS, BYTES], b"0\r\n\r\n"))

    def test_it_is_the_object_that_decides(self) -> None:
        """Whatever way the handler takes to return a generator, and nothing else that can be iterated over."""
        source = """
            import functools
            def generator(): yield "x"
            async def async_generator(): yield "x"
            def plain(): return generator()
            async def coroutine(): return generator()
            async def coroutine_to_async(): return async_generator()
            expression = lambda: (item for item in "x")
            def delegating(): yield from generator()
            class Callable:
                def __call__(self): return generator()
            WAYS = [generator, async_generator, plain, coroutine, coroutine_to_async, expression, delegating,
                    Callable(), functools.partial(generator)]
            def handler(event, context): return WAYS[event]()
            """
        done = self.served(source, *range(9))
        self.assertEqual([wire(request) for request in done.answers], [b"1\r\nx\r\n0\r\n\r\n"] * 9)

    def test_prelude_defaults(self) -> None:
        rows: list[dict[str, Any]] = [{}, {"statusCode": 404}, {"headers": {"a": "ü"}}, {"cookies": []}]
        full = [{"statusCode": 200, "headers": {}, "cookies": [], **row} for row in rows]
        done = self.served("def handler(event, context):\n    yield event", *rows)
        for request, expected in zip(done.answers, full):
            self.assertEqual(json.loads(request.chunks[0].data), expected)
            self.assertEqual([chunk.data for chunk in request.chunks[1:]], [bytes(8)])

    def test_bad_preludes_are_ordinary_errors_that_say_why(self) -> None:
        rows = {
            "{'headers': None}": "None",
            "{'cookies': [object()]}": "object",
            "{'statusCode': 200, 'body': 'lost'}": "yield",
        }
        source = f"ROWS = [{', '.join(rows)}]\ndef handler(event, context):\n    yield ROWS[event]\n    yield 'body'"
        done = self.served(source, *range(len(rows)))
        for request, (item, words) in zip(done.answers, rows.items()):
            with self.subTest(item):
                self.assertEqual(request.endpoint, "error")
                self.assertEqual(failure(request)["errorType"], "Runtime.MarshalError")
                self.assertTrue(failure(request)["errorMessage"].startswith("Unable to marshal response: "))
                self.assertIn(words, failure(request)["errorMessage"])


class Errors(StreamTestCase):
    SOURCE = """
        import asyncio, sys
        def act(name):
            if name == "raise": raise KeyError(name)
            if name == "exit": sys.exit(7)
            if name == "cancel": raise asyncio.CancelledError("enough")
            if name == "interrupt": raise KeyboardInterrupt
            return {"dict": {}, "int": 5, "none": None, "list": ["x"], "surrogate": "\\udc80"}[name]
        def stream(first, name):
            try:
                if first: yield "part"
                yield act(name)
            finally:
                print("closed", first, name)
        async def astream(first, name):
            try:
                if first: yield "part"
                yield act(name)
            finally:
                await asyncio.sleep(0)
                print("closed", first, name)
        def handler(event, context):
            kind, first, name = event
            return {"sync": stream, "async": astream}[kind](first, name)
        """
    TYPES: ClassVar[dict[str, str]] = {
        "raise": "Function.KeyError",
        "cancel": "Function.CancelledError",
        "interrupt": "Function.KeyboardInterrupt",
        "int": "Runtime.MarshalError",
        "none": "Runtime.MarshalError",
        "list": "Runtime.MarshalError",
        "surrogate": "Runtime.MarshalError",
    }

    def test_before_the_first_item_it_is_an_ordinary_error(self) -> None:
        rows = [(kind, False, name) for name in self.TYPES for kind in ("sync", "async")]
        done = self.served(self.SOURCE, *rows)
        self.assertEqual(len(done.answers), len(rows))
        for request, (_, _, name) in zip(done.answers, rows):
            with self.subTest(name):
                self.assertEqual(request.endpoint, "error")
                self.assertEqual(request.headers[ERROR_TYPE.lower()], self.TYPES[name])
        self.assertEqual(done.stdout.count("closed"), len(rows))

    def test_a_users_binascii(self) -> None:
        """The file of that name beside the handler is not what the trailers are encoded with."""
        self.write("binascii.py", "")
        self.app("def handler(event, context):\n    yield 'x'\n    raise ValueError")
        (request,) = self.serve(event()).answers
        self.assertEqual(dict(request.trailers)[ERROR_TYPE], "Function.ValueError")

    def test_after_the_first_item_it_is_in_the_trailers_and_the_log(self) -> None:
        types: dict[str, str] = {**self.TYPES, "dict": "Runtime.MarshalError"}
        rows = [(kind, True, name) for name in types for kind in ("sync", "async")]
        done = self.served(self.SOURCE, *rows)
        self.assertEqual(len(done.answers), len(rows))
        for request, (_, _, name) in zip(done.answers, rows):
            with self.subTest(name):
                self.assertEqual([chunk.data for chunk in request.chunks], [b"part"])
                self.assertEqual([key for key, _ in request.trailers], [ERROR_TYPE, ERROR_BODY])
                self.assertEqual(dict(request.trailers)[ERROR_TYPE], types[name])
                self.assertEqual(failure(request)["errorType"], types[name].replace("Function.", ""))
        self.assertEqual(done.stdout.count("closed"), len(rows))
        self.assertEqual(done.stdout.count("[ERROR] "), len(rows))
        self.assertNotIn("never retrieved", done.stdout + done.stderr)

    def test_sys_exit_ends_the_process_after_the_report(self) -> None:
        for kind in ("sync", "async"):
            for first, endpoint in ((False, "error"), (True, "response")):
                with self.subTest(kind, first=first):
                    done = self.served(self.SOURCE, (kind, first, "exit"), (kind, False, "raise"))
                    (request,) = done.answers
                    self.assertEqual((request.endpoint, failure(request)["errorType"]), (endpoint, "SystemExit"))
                    self.assertEqual(done.done.status, 7)
                    self.assertIn("closed", done.stdout)

    def test_wrong_items_are_named(self) -> None:
        (request,) = self.served(self.SOURCE, ("sync", True, "none")).answers
        self.assertRegex(failure(request)["errorMessage"], "^Unable to marshal response: .*None")

    def test_frames_are_the_users_alone(self) -> None:
        """Neither ours nor asyncio's, however the handler was driven."""
        for kind in ("sync", "async"):
            (request,) = self.served(self.SOURCE, (kind, True, "raise")).answers
            stack = failure(request)["stackTrace"]
            self.assertEqual(len(stack), 2, stack)
            self.assertTrue(all("app.py" in frame for frame in stack), stack)


class TheOtherSide(StreamTestCase):
    """Lambda hangs up, answers early, or had done so long before."""

    SOURCE = """
        import asyncio, os
        class Guard:
            async def __aenter__(self): pass
            async def __aexit__(self, *error): print("exited", flush=True)
        async def astream():
            async with Guard():
                while True: yield "x" * 100_000
        def stream():
            try:
                while True: yield "x" * 100_000
            finally:
                print("exited", flush=True)
        def handler(event, context):
            return {"sync": stream, "async": astream, "pid": os.getpid}[event]()
        """

    def test_the_generator_is_closed_when_lambda_hangs_up(self) -> None:
        self.app(self.SOURCE)
        refusal = http(413, b'{"errorType": "TooMuch"}', {"Connection": "close"})
        rows: dict[str, list[Any]] = {"closed": [CLOSE], "answered": [refusal, CLOSE]}
        for name, steps in rows.items():
            for kind in ("sync", "async"):
                with self.subTest(name, kind=kind):
                    done = self.serve(*events("pid", kind, "pid"), response=[[READ, http(202)], steps])
                    first, stream, last = done.answers
                    self.assertEqual(first.body, last.body, "not the same process")
                    self.assertFalse(stream.complete)
                    lines = self.lines(done.stdout)
                    self.assertEqual(lines[0], "exited")
                    self.assertEqual(len(lines), 2, lines)
                    self.assertIn("[WARNING]\t<time>\t", lines[1])
                    if name == "closed":
                        self.assertNotIn("TooMuch", lines[1])  # else the reset may have overtaken it

    SPOILED = """
        class Items:
            def __init__(self, count): self.left = count
            def __iter__(self): return self
            def __next__(self):
                self.left -= 1
                if self.left < 0: raise StopIteration
                return "x" * 100_000
            def close(self): raise ValueError("no end")
        def handler(event, context): return Items(event) if event else "next"
        """

    def test_an_iterator_that_cannot_be_closed(self) -> None:
        """At the end that is an error of the stream. When Lambda has hung up, nothing more is sent for it."""
        self.app(self.SPOILED)
        done = self.serve(*events(1, 0))
        stream, last = done.answers
        self.assertIn(("Lambda-Runtime-Function-Error-Type", "Function.ValueError"), stream.trailers)
        self.assertEqual((stream.complete, last.body), (True, b'"next"'))
        done = self.serve(*events(1000, 0), response=[[CLOSE]])
        self.assertEqual([one.endpoint for one in done.requests], ["next", "response", "next", "response", "next"])
        self.assertEqual(done.answers[-1].body, b'"next"')

    def test_nothing_follows_half_a_chunk(self) -> None:
        """The user's SIGTERM handler exits while a chunk is on its way, and Lambda does not read."""
        self.app(
            "import signal, sys, threading, os\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
            "def handler(event, context):\n    yield 'x'\n"
            "    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()\n    yield 'y' * 30_000_000\n"
        )
        done = self.serve(*events(0), response=[[1.0, READ]], register=[[READ, http(403)]])
        (stream,) = done.answers
        self.assertFalse(stream.complete)
        self.assertEqual((stream.trailers, done.done.status), ([], 5))

    def test_a_refusal_at_the_end_is_a_line_in_the_log(self) -> None:
        self.app("def handler(event, context):\n    yield 'x'")
        for status in (400, 403, 410, 413):
            done = self.serve(*events(0, 0), response=[[READ, http(status)]])
            self.assertEqual(len(done.answers), 2)
            self.assertEqual(len(self.lines(done.stdout)), 1)

    def test_a_server_error_at_the_end_ends_the_runtime(self) -> None:
        self.app("def handler(event, context):\n    yield 'x'")
        done = self.serve(*events(0, 0), response=[[READ, http(500)]])
        self.assertEqual((len(done.answers), done.done.status, done.stderr.count("\n")), (1, 1, 1))

    def test_an_early_answer_that_accepts_does_not_end_the_stream(self) -> None:
        """cargo-lambda's emulator answers 200 when it has the head, and reads the body then."""
        self.app("import time\ndef handler(event, context):\n    yield 'a'\n    time.sleep(0.1)\n    yield 'b' * event")
        done = self.serve(*events(1, 3_000_000, 1), response=[[http(200, b"early"), READ]] * 3)
        self.assertEqual([len(request.body) for request in done.answers], [2, 3_000_001, 2])
        self.assertEqual(done.stdout, "")

    def test_after_a_stream_the_connection_is_closed(self) -> None:
        """As AWS's guide asks for. A stream has one of its own: it cannot be sent again if the kept one is stale."""
        self.app("def handler(event, context):\n    yield 'a'")
        done = self.serve(*events(0, 0))
        used = [(one.endpoint, one.connection) for one in done.requests]
        self.assertEqual(used, [("next", 1), ("response", 2), ("next", 3), ("response", 4), ("next", 5)])

    def test_a_connection_that_had_gone_stale_costs_nothing(self) -> None:
        """It is closed behind the event, as by a proxy that keeps none open; the handler's first item is not lost."""
        self.app("import time\ndef handler(event, context):\n    time.sleep(0.1)\n    yield 'a'\n    yield 'b'")
        done = self.serve([*event(b"0"), CLOSE])
        self.assertEqual(wire(done.answers[0]), b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        self.assertEqual(done.stdout, "")

    def test_an_exception_while_it_is_closed_is_told_too(self) -> None:
        source = """
            def handler(event, context):
                try:
                    while event: yield "x" * 100_000
                finally:
                    if event: raise ValueError("in finally")
            """
        self.app(source)
        done = self.serve(*events(1, 0), response=[[CLOSE]])
        self.assertIn("[ERROR] ValueError: in finally", done.stdout)
        self.assertEqual(wire(done.answers[-1]), b"0\r\n\r\n")


class Await(StreamTestCase):
    def test_one_loop_for_the_life_of_the_process(self) -> None:
        source = """
            import asyncio
            seen = []
            async def handler(event, context):
                seen.append(asyncio.get_running_loop())
                return len(set(map(id, seen))), await asyncio.gather(asyncio.sleep(0, "a"), asyncio.sleep(0.01, "b"))
            """
        self.assertEqual(self.results(self.served(source, 0, 0, 0)), [[1, ["a", "b"]]] * 3)

    def test_the_loop_is_that_of_import_time(self) -> None:
        source = """
            import asyncio, warnings
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            async def handler(event, context):
                return asyncio.get_running_loop() is loop
            """
        self.assertEqual(self.results(self.served(source, 0)), [True])

    def test_a_pending_task_goes_on_with_the_next_invocation(self) -> None:
        source = """
            import asyncio
            tasks, ticks = [], []
            async def tick():
                while True:
                    ticks.append(1)
                    await asyncio.sleep(0)
            async def handler(event, context):
                if not tasks: tasks.append(asyncio.create_task(tick()))
                before = len(ticks)
                await asyncio.sleep(0.01)
                return [tasks[0].done(), len(ticks) > before]
            """
        self.assertEqual(self.results(self.served(source, 0, 0)), [[False, True]] * 2)

    def test_any_awaitable_and_any_result(self) -> None:
        source = """
            import asyncio, decimal
            class Awaitable:
                def __await__(self):
                    yield from asyncio.sleep(0).__await__()
                    return "awaited"
            async def number(): return decimal.Decimal("1.10")
            def handler(event, context): return [Awaitable, number][event]()
            """
        self.assertEqual([r.body for r in self.served(source, 0, 1).answers], [b'"awaited"', b"1.10"])

    def test_asyncio_is_imported_for_those_who_need_it_only(self) -> None:
        self.assertEqual(self.evaluate("'asyncio' in sys.modules", "import sys"), False)
        source = "import sys\ndef handler(event, context):\n    yield str('asyncio' in sys.modules)"
        self.assertEqual(self.served(source, 0).answers[0].body, b"False")

    def test_a_plain_handler_may_run_a_loop_of_its_own(self) -> None:
        self.assertEqual(self.evaluate("asyncio.run(asyncio.sleep(0, 'ran'))", "import asyncio"), "ran")

    def test_context_variables_do_not_leak_into_the_next_invocation(self) -> None:
        source = """
            import contextvars
            variable = contextvars.ContextVar("variable", default="clean")
            async def coroutine():
                before = variable.get()
                variable.set("dirty")
                return before
            async def async_generator():
                yield variable.get()
                variable.set("dirty")
                yield variable.get()
            def handler(event, context):
                return [coroutine, async_generator][event]()
            """
        done = self.served(source, 0, 0, 1, 1)
        self.assertEqual([request.body for request in done.answers], [b'"clean"'] * 2 + [b"cleandirty"] * 2)

    def test_an_async_generator_runs_in_one_task(self) -> None:
        """Time-outs and task groups around a `yield` depend on it."""
        source = """
            import asyncio
            async def handler(event, context):
                task = asyncio.current_task()
                yield "a"
                yield str(asyncio.current_task() is task)
            """
        self.assertEqual(self.served(source, 0).answers[0].body, b"aTrue")

    def test_errors(self) -> None:
        source = """
            import asyncio, sys
            async def deep():
                await asyncio.sleep(0)
                raise ValueError("deep")
            async def handler(event, context):
                if event == "deep": await deep()
                if event == "cancelled": raise asyncio.CancelledError
                if event == "timeout": await asyncio.wait_for(asyncio.sleep(5), 0.01)
                if event == "exit": sys.exit(4)
                return event
            """
        done = self.served(source, "deep", "cancelled", "timeout", "fine", "exit", "not reached")
        self.assertEqual([request.endpoint for request in done.answers], ["error"] * 3 + ["response", "error"])
        reports = [failure(request) for request in done.answers if request.endpoint == "error"]
        self.assertEqual(
            [report["errorType"] for report in reports], ["ValueError", "CancelledError", "TimeoutError", "SystemExit"]
        )
        self.assertEqual(len(reports[0]["stackTrace"]), 2, reports[0])
        self.assertEqual(done.done.status, 4)
        self.assertNotIn("never retrieved", done.stdout + done.stderr)

    @unittest.skipIf(PYPY, "there asyncio needs such a module itself")
    def test_beside_a_module_that_is_named_queue(self) -> None:
        """A helper for SQS, for example."""
        self.write("queue.py", "def send(message): pass\n")
        self.app("""
            import queue
            async def handler(event, context):
                queue.send(event)
                yield "a stream"
        """)
        (answer,) = self.serve(event()).answers
        self.assertEqual((answer.endpoint, answer.body), ("response", b"a stream"))


class Sigterm(StreamTestCase):
    def test_during_an_await_or_a_stream(self) -> None:
        source = """
            import asyncio, atexit, time
            atexit.register(print, "atexit")
            async def coroutine():
                try:
                    print("at work", flush=True)
                    await asyncio.sleep(600)
                finally: print("finally")
            def stream():
                try:
                    yield "x"
                    print("at work", flush=True)
                    time.sleep(600)
                finally: print("finally")
            async def astream():
                try:
                    yield "x"
                    print("at work", flush=True)
                    await asyncio.sleep(600)
                finally: print("finally")
            def handler(event, context):
                return [coroutine, stream, astream][event]()
            """
        for number in range(3):
            with self.subTest(number), self.running(source) as function:
                function.send(*events(number))
                function.wait(lambda: "at work\n" in function.log)
                function.child.process.send_signal(signal.SIGTERM)
                self.assertEqual(function.ended(), 0)
                self.assertEqual(function.log, "at work\nfinally\natexit\n")
                answers = function.api.sent("response", "error")
                self.assertEqual([one.trailers for one in answers if one.complete], [], "nobody asked for an answer")
                self.assertEqual(function.child.stderr, b"")


if __name__ == "__main__":
    unittest.main()
