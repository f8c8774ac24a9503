# SPDX-License-Identifier: MIT-0
"""The loop: what the Runtime API may answer, what happens to the connection, and how it all ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import unittest
from typing import Any

from scripted_api import CLOSE, READ, RESET, Answer, Connection, ScriptedApi, Step, answer, drip, event, http
from support import PYPY, RUNTIME, Lambda, RuntimeTestCase, Served

ECHO = "def handler(event, context): return event\n"
FAILS_ON_0 = "def handler(event, context): return 1 / event\n"


def numbered(count: int) -> list[Answer]:
    """That many events, 1, 2 and so on, each with a request id of its own."""
    return [event(b"%d" % number, request_id=f"id-{number}") for number in range(1, count + 1)]


class Refusals(RuntimeTestCase):
    """Lambda does not take an answer: that invocation is lost, and nothing else."""

    STATUSES = (400, 401, 403, 404, 409, 410, 413, 418, 429, 499, 302)

    def check(self, served: Served, statuses: tuple[int, ...]) -> None:
        lines = self.lines(served.stdout)
        warnings = [line for line in lines if line.startswith("[WARNING]")]
        self.assertEqual(len(warnings), len(statuses), "one warning for each")
        for at, (status, line) in enumerate(zip(statuses, warnings), 1):
            self.assertIn(f"\tid-{at}\t", line)
            self.assertIn(f"{status}", line)
        self.assertIsNone(served.done.status, "the process lives on")
        self.assertEqual(served.stderr, "")

    def test_a_response_is_refused(self) -> None:
        self.app(ECHO)
        body = b'{"errorMessage": "no", "errorType": "InvalidRequestID"}'
        events = numbered(len(self.STATUSES) + 1)
        served = self.serve(*events, response=[answer(status, body) for status in self.STATUSES])
        self.assertEqual(
            self.results(served), list(range(1, len(events) + 1)), "each is answered once, no error is posted"
        )
        self.check(served, self.STATUSES)
        self.assertIn("InvalidRequestID", served.stdout)

    def test_an_error_is_refused(self) -> None:
        self.app("def handler(event, context): raise ValueError(event)")
        events = numbered(len(self.STATUSES) + 1)
        served = self.serve(*events, error=[answer(status) for status in self.STATUSES])
        expected = [("error", f"id-{number}") for number in range(1, len(events) + 1)]
        self.assertEqual([(one.endpoint, one.request_id) for one in served.answers], expected)
        self.check(served, self.STATUSES)

    def test_success_is_any_2xx(self) -> None:
        self.app(ECHO)
        served = self.serve(
            *numbered(4), response=[answer(200), answer(201), answer(204, headers={"Content-Length": None})]
        )
        self.assertEqual(self.results(served), [1, 2, 3, 4])
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_too_large_and_refused_before_it_was_read(self) -> None:
        """The API says 413 and hangs up while megabytes are still on their way."""
        self.app("def handler(event, context): return 'x' * event")
        early = http(413, b'{"errorType": "RequestEntityTooLarge"}', {"Connection": "close"})
        rows: list[tuple[str, Answer]] = [
            ("it says so and closes", [early, CLOSE]),
            ("it says so, resets", [early, RESET]),
            ("it says so, then reads", [early, 0.05, READ, CLOSE]),
            ("it says so without closing", [http(413), READ]),
        ]
        for name, refusal in rows:
            with self.subTest(name):
                served = self.serve(event(b"8000000"), event(b"1"), response=[refusal])
                self.assertEqual([one.endpoint for one in served.answers], ["response", "response"])
                self.assertEqual(served.answers[1].body, b'"x"')
                (warning,) = self.lines(served.stdout)
                if "resets" not in name:  # which may overtake what was said
                    self.assertIn("413", warning)

    def test_warm_state_lives_on(self) -> None:
        self.app("count = []\ndef handler(event, context):\n    count.append(event)\n    return count\n")
        served = self.serve(*numbered(3), response=[answer(413), answer(410)])
        self.assertEqual(self.results(served)[-1], [1, 2, 3])

    def test_a_garbled_answer_to_a_post(self) -> None:
        """It is sent again, and nobody has to die for it: if it had arrived, Lambda refuses it, and that is fine."""
        self.app(ECHO)
        garbled: list[Answer] = [
            [READ, b"garbage\r\n\r\n", CLOSE],
            [READ, b"HTTP/1.1 what OK\r\n\r\n", CLOSE],
            [READ, b"\x00\xff\x80\r\n", CLOSE],
        ]
        script = [step for row in garbled for step in (row, answer(400))]
        served = self.serve(*numbered(len(garbled) + 1), response=script)
        self.assertEqual(self.results(served), [1, 1, 2, 2, 3, 3, 4])
        self.assertEqual((served.done.status, served.stdout, served.stderr), (None, "", ""))


class GivingUp(RuntimeTestCase):
    """When there is no way on: a status other than 0, and one line that says why."""

    def check(self, served: Served, words: str) -> None:
        self.assertEqual(served.done.status, 1)
        (line,) = self.lines(served.stderr)
        self.assertIn(words, line)

    def test_container_errors(self) -> None:
        """5xx: Lambda wants the process gone."""
        self.app(FAILS_ON_0)
        no = b'{"errorMessage": "no more", "errorType": "Container"}'
        for status in (500, 502, 503, 599):
            with self.subTest("next", status=status):
                served = self.serve(event(b"1"), answer(status, no), event(b"1"))
                self.check(served, str(status))
                self.assertIn("no more", served.stderr)
                self.assertEqual([one.endpoint for one in served.requests], ["next", "response", "next"])
        for endpoint, body in (("response", b"1"), ("error", b"0")):
            with self.subTest(endpoint):
                refusal: dict[str, Any] = {endpoint: [answer(500, no)]}
                served = self.serve(event(body), event(body), **refusal)
                self.check(served, "500")
                self.assertEqual([one.endpoint for one in served.requests], ["next", endpoint])

    def test_next_is_refused(self) -> None:
        self.app(ECHO)
        for status in (400, 403, 404, 410, 429, 301):
            with self.subTest(status):
                self.check(self.serve(answer(status), event()), str(status))

    def test_an_event_without_a_request_id(self) -> None:
        self.app(ECHO)
        for value in (None, ""):
            with self.subTest(value):
                served = self.serve(event(headers={"Lambda-Runtime-Aws-Request-Id": value}), event())
                self.check(served, "request id")
                self.assertEqual([one.endpoint for one in served.requests], ["next"])

    def test_an_init_error_is_refused(self) -> None:
        """The process ends with status 1 as it would have anyway."""
        for status in (400, 403, 500):
            with self.subTest(status):
                served = self.serve(handler="nope.handler", init_error=[answer(status)])
                self.assertEqual(served.done.status, 1)
                self.assertEqual([one.endpoint for one in served.requests], ["init_error"])
                self.assertLessEqual(len(self.lines(served.stderr)), 1)
        served = self.serve(handler="nope.handler", init_error=[[READ, CLOSE]] * 20)
        self.assertEqual(served.done.status, 1)

    def test_exit_functions_run(self) -> None:
        self.app("import atexit\natexit.register(print, 'atexit ran')\n" + ECHO)
        self.assertEqual(self.serve(answer(500)).stdout, "atexit ran\n")

    def test_an_api_that_is_not_there(self) -> None:
        """Tried for a while, five times in all; then one line."""
        self.app(ECHO)
        unused = ScriptedApi()
        unused.listen()
        unused.refuse()
        served = self.serve(address=f"127.0.0.1:{unused.port}")
        self.check(served, f"127.0.0.1:{unused.port}")
        self.assertGreaterEqual(served.done.seconds, 1.5, "0.1 + 0.2 + 0.4 + 0.8 seconds of patience")


class Waiting(RuntimeTestCase):
    def test_no_event_yet(self) -> None:
        """204 on next, as some emulators answer: asked again, at most 20 times a second."""
        self.app(ECHO)
        nothing = answer(204, headers={"Content-Length": None, "Content-Type": None})
        served = self.serve(nothing, nothing, answer(204), nothing, event(b"1"))
        self.assertEqual(self.results(served), [1])
        self.assertEqual([one.endpoint for one in served.requests], ["next"] * 5 + ["response", "next"])
        times = [one.arrived for one in served.requests[:5]]
        self.assertGreaterEqual(times[4] - times[0], 4 * 0.045)
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_no_event_yet_and_an_alarm(self) -> None:
        """A time limit by SIGALRM that was not switched off, and raises while the runtime pauses."""
        self.app("""
            import signal
            def ring(*_): raise TimeoutError
            signal.signal(signal.SIGALRM, ring)
            def handler(event, context):
                signal.setitimer(signal.ITIMER_REAL, 0.07)
                return event
        """)
        served = self.serve(event(b"1"), *[answer(204)] * 4, event(b"2"))
        self.assertEqual(self.results(served), [1, 2])
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_an_event_that_takes_its_time(self) -> None:
        """`next` has no time-out, even if user code sets one for all sockets."""
        self.app("import socket\nsocket.setdefaulttimeout(0.05)\n" + ECHO)
        slow = event(b"1")
        self.assertEqual(self.results(self.serve([READ, 0.3, slow[1]], event(b"2"))), [1, 2])

    @unittest.skipUnless(os.path.exists("/proc/self/statm") and not PYPY, "nothing tells what a process takes, or when")
    def test_nothing_is_kept_meanwhile(self) -> None:
        """Neither event nor result, which may be all the memory that the function has."""

        def resident(pid: int) -> int:
            with open(f"/proc/{pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        large = event(bytes(80_000_000), {"Content-Type": "application/octet-stream"})
        with self.running("import gc\ngc.disable()\ndef handler(event, context): return event\n") as function:
            function.ready(1)
            pid = function.child.process.pid
            before = resident(pid)
            function.send(large)
            function.answers(1)
            function.ready(1)
            function.wait(lambda: resident(pid) - before < 40_000_000)  # it may still be tidying up


class HttpForms(RuntimeTestCase):
    """An event in all the forms that HTTP/1 has for it, one after another, over as few connections as may be."""

    NAMES = (
        b"Lambda-Runtime-Aws-Request-Id: id\r\nLambda-Runtime-Deadline-Ms: 1\r\n"
        b"Lambda-Runtime-Invoked-Function-Arn: arn\r\nContent-Type: application/json\r\n"
    )

    def test_forms(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n" + self.NAMES
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
        lower = self.NAMES.lower()
        rows: dict[str, list[Step]] = {
            "with a length": [head + b"Content-Length: 5\r\n\r\n[1,2]"],
            "chunked": [chunked + b"2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n"],
            "chunked, in one-byte pieces": drip(chunked + b"5\r\n[1,2]\r\n0\r\n\r\n"),
            "chunks with sizes in hex": [chunked + b"000A\r\n[1,2      \r\n1\r\n]\r\n0\r\n\r\n"],
            "chunks with trailers": [chunked + b"5\r\n[1,2]\r\n0\r\nX-Trailer: 1\r\nX-Other: 2\r\n\r\n"],
            "another case of Chunked": [head + b"transfer-encoding: Chunked\r\n\r\n5\r\n[1,2]\r\n0\r\n\r\n"],
            "interim answers": [b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"Content-Length: 5\r\n\r\n[1,2]"],
            "many interim answers": [
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 30 + head + b"Content-Length: 5\r\n\r\n[1,2]"
            ],
            "names in lower case": [b"HTTP/1.1 200 OK\r\n" + lower + b"content-length: 5\r\n\r\n[1,2]"],
            "names in upper case": [
                b"HTTP/1.1 200 OK\r\n" + lower.upper().replace(b"ID: ID", b"ID: id") + b"CONTENT-LENGTH: 5\r\n\r\n[1,2]"
            ],
            "no space, much space": [
                b"HTTP/1.1 200 OK\r\n" + self.NAMES.replace(b": ", b":") + b"Content-Length:  \t5 \t\r\n\r\n[1,2]"
            ],
            "no reason": [head.replace(b" OK", b"") + b"Content-Length: 5\r\n\r\n[1,2]"],
            "another 2xx": [head.replace(b"200", b"299") + b"Content-Length: 5\r\n\r\n[1,2]"],
            "UTF-8 in a header": [head + "X-Any: größe €\r\nContent-Length: 5\r\n\r\n[1,2]".encode()],
            "bytes in a header": [head + b"X-Any: \xff\xfe\r\nContent-Length: 5\r\n\r\n[1,2]"],
            "split in the middle of the head": [head[:40], 0.01, head[40:] + b"Content-Length: 5\r\n\r\n[1,2]"],
            "HTTP/1.0 that stays": [
                head.replace(b"1.1", b"1.0", 1) + b"Connection: keep-alive\r\nContent-Length: 5\r\n\r\n[1,2]"
            ],
        }
        closing: dict[str, list[Step]] = {
            "HTTP/1.0": [head.replace(b"1.1", b"1.0", 1) + b"Content-Length: 5\r\n\r\n[1,2]"],
            "without a length": [head + b"\r\n[1,2]", CLOSE],
            "Connection: close": [head + b"Connection: close\r\nContent-Length: 5\r\n\r\n[1,2]"],
            "Connection: Close, among others": [head + b"Connection: x, Close\r\nContent-Length: 5\r\n\r\n[1,2]"],
            "Connection: close, and it does": [head + b"Connection: close\r\nContent-Length: 5\r\n\r\n[1,2]", CLOSE],
        }
        self.app("def handler(event, context): return [event, context.aws_request_id, context.invoked_function_arn]")
        served = self.serve(*([READ, *steps] for steps in [*rows.values(), *closing.values()]))
        results = [json.loads(one.body) for one in served.answers]
        for name, result in zip([*rows, *closing], results):
            with self.subTest(name):
                self.assertEqual(result, [[1, 2], "id", "ARN" if "upper" in name else "arn"])
        self.assertEqual(len(results), len(rows) + len(closing))
        self.assertEqual({one.connection for one in served.requests[: 2 * len(rows)]}, {1}, "one connection is enough")
        for index in range(2 * len(rows), len(served.requests) - 1, 2):
            asked, answered = served.requests[index : index + 2]
            self.assertNotEqual(asked.connection, answered.connection, "the API will not listen there any more")
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_the_answer_to_a_post_in_many_forms(self) -> None:
        self.app(ECHO)
        head = b"HTTP/1.1 202 Accepted\r\n"
        rows: list[list[Step]] = [
            [head + b"Content-Length: 0\r\n\r\n"],
            [head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
            [b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"Content-Length: 2\r\n\r\n{}"],
            drip(head + b"Content-Length: 2\r\n\r\n{}"),
            [head + b"Content-Length: 0\r\nConnection: close\r\n\r\n", CLOSE],
            [head + b"\r\n", CLOSE],
            [b"HTTP/1.0 200 OK\r\n\r\nfine", CLOSE],
        ]
        served = self.serve(*numbered(len(rows) + 1), response=[[READ, *steps] for steps in rows])
        self.assertEqual(self.results(served), list(range(1, len(rows) + 2)))
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_a_cut_or_garbled_next_is_asked_for_again(self) -> None:
        self.app(ECHO)
        whole = event(b"[1,2,3]")[1]
        assert isinstance(whole, bytes)
        rows: list[Answer] = [
            [READ, CLOSE],
            [READ, RESET],
            [READ, whole[:10], CLOSE],
            [READ, whole[:-3], CLOSE],
            [READ, b"garbage\r\n\r\n", CLOSE],
        ]
        for cut in rows:
            with self.subTest(cut[1:]):
                served = self.serve(event(b"1"), cut, event(b"2"), event(b"3"))
                self.assertEqual(self.results(served), [1, 2, 3])
                self.assertEqual((served.stdout, served.stderr), ("", ""))


def refuse(connection: Connection) -> None:
    connection.api.refuse()


def listen(connection: Connection) -> None:
    """In a moment."""
    threading.Timer(0.25, connection.api.listen).start()


class Connections(RuntimeTestCase):
    """One connection for all; gone ones are replaced, and nothing is said twice that was heard."""

    def test_a_stale_connection(self) -> None:
        """The API hung up while the handler was working, or between the events."""
        # What is left of the old connection is collected at once: that must not be heard of, either.
        self.app(
            "import gc, time\ndef handler(event, context):\n    time.sleep(0.1)\n    gc.collect()\n    return event\n"
        )
        small, large = b"1", json.dumps("x" * 300_000).encode()
        for size, body in (("small", small), ("large", large)):
            for end in (CLOSE, RESET):
                with self.subTest("while the handler works", size=size, end=end.__name__):
                    served = self.serve([*event(body), 0.05, end], event(b"2"))
                    self.assertEqual(self.results(served), [json.loads(body), 2])
                    self.assertEqual((served.stdout, served.stderr), ("", ""))
                with self.subTest("after an answer", size=size, end=end.__name__):
                    served = self.serve(event(body), event(b"2"), response=[[*answer(202), end]])
                    self.assertEqual(self.results(served), [json.loads(body), 2])
                    self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_an_answer_that_was_taken_but_not_confirmed(self) -> None:
        """It is sent again; that it is refused then means that the first one had arrived."""
        self.app(ECHO)
        for status in (400, 403, 410):
            with self.subTest(status):
                served = self.serve(*numbered(2), response=[[READ, CLOSE], answer(status)])
                self.assertEqual([one.request_id for one in served.answers], ["id-1", "id-1", "id-2"])
                self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_an_answer_is_sent_a_few_times_at_most(self) -> None:
        """An API that drops each connection may have taken the answer each time; then a line says that it is lost."""
        self.app(ECHO)
        served = self.serve(*numbered(2), response=[[READ, CLOSE]] * 20)
        self.assertIn(len([one for one in served.answers if one.request_id == "id-1"]), range(2, 7))
        self.assertIn("response", served.stdout + served.stderr)

    def test_refused_for_a_while(self) -> None:
        """The API is away for some tenths of a second: at the start, and while the handler works."""
        self.app(ECHO)

        def away(connection: Connection) -> None:
            refuse(connection)
            listen(connection)
            connection.close()

        served = self.serve([*event(b"1"), away], event(b"2"))
        self.assertEqual(self.results(served), [1, 2])
        served = self.serve(event(b"1"), event(b"2"), response=[[READ, away]])
        self.assertEqual([one.endpoint for one in served.answers], ["response"] * 3)
        self.assertEqual((served.stdout, served.stderr), ("", ""))
        self.app("def handler(event, context): yield 'a stream'")
        served = self.serve([refuse, *event(), listen])
        self.assertEqual([one.body for one in served.answers], [b"a stream"])
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_refused_by_the_system_and_then_by_lambda(self) -> None:
        """What was never sent cannot have arrived: the refusal is told."""
        self.app(ECHO)

        # Refused before the event is out: else the answer might still reach the socket that is about to close.
        first = [refuse, *event(b"1", {"Connection": "close"}), listen, CLOSE]
        served = self.serve(first, event(b"2"), response=[answer(403)])
        self.assertEqual(self.results(served), [1, 2])
        self.assertIn("403", served.stdout)

    def test_odd_request_ids(self) -> None:
        """No id can reach another path, or become a header."""
        self.app(ECHO)
        ids = ["../../init/error", "a b", "%0d%0aX-Injected: 1", "a/b?c#d", "größe", "x" * 500, "id\tid", "..", "."]
        served = self.serve(*(event(b"1", request_id=one) for one in ids))
        self.assertEqual(len(served.answers), len(ids))
        for request, request_id in zip(served.sent(), ids):
            with self.subTest(request_id):
                self.assertEqual(request.endpoint, "response")
                self.assertRegex(request.path, r"^/2018-06-01/runtime/invocation/[A-Za-z0-9_%-]+/response$")
                self.assertNotIn("x-injected", request.headers)

    def test_no_proxy(self) -> None:
        """The runtime talks to the address that it was given, whatever the environment says for others."""
        self.app(ECHO)
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:1")
        self.assertEqual(self.results(self.serve(event(b"1"), env=proxies)), [1])


class WhileSending(RuntimeTestCase):
    """What comes between the beginning and the end of an answer."""

    def test_an_early_answer_whose_body_comes_later(self) -> None:
        """It accepts, as cargo-lambda's does before it has read all: the stream goes on to its end."""
        self.app("""
            import time
            def stream():
                for item in "abcde":
                    yield item
                    time.sleep(0.06)
            def handler(event, context): return stream() if event == 1 else event
        """)
        early: Answer = [b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n", 0.1, b"OK", READ]
        served = self.serve(*numbered(2), response=[early])
        self.assertEqual([one.body for one in served.answers], [b"abcde", b"2"])
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_an_early_answer_that_lasts_until_the_end(self) -> None:
        self.app(
            "import time\ndef stream():\n    for _ in range(5):\n        yield 'x'\n        time.sleep(0.05)\n"
            "def handler(event, context): return stream() if event == 1 else event\n"
        )
        served = self.serve(*numbered(2), response=[[b"HTTP/1.1 202 Accepted\r\n\r\n", READ, CLOSE]])
        self.assertEqual([one.request_id for one in served.answers][-1], "id-2")
        self.assertLessEqual(served.stdout.count("[WARNING]"), 1)

    def test_a_signal_handler_of_the_users_that_raises(self) -> None:
        """Half of the answer has been sent by then: it is sent again, as a whole; a stream cannot be."""
        running: list[Lambda] = []
        for kind in ("Exception", "TimeoutError"):
            for result in ("'x' * 24_000_000", "iter_('x' * 24_000_000)"):
                with self.subTest(kind, result=result):
                    source = f"""
                        import signal
                        class Late({kind}): pass
                        def ring(*_):
                            print("ring", flush=True)
                            raise Late("too late")
                        signal.signal(signal.SIGALRM, ring)
                        def iter_(item):
                            yield "first"
                            yield item
                        def handler(event, context):
                            return event if event == 2 else {result}
                        """

                    def interrupt(connection: Connection) -> None:
                        """The body is more than the connection holds, and nobody reads it: the runtime is sending."""
                        (one,) = running
                        one.child.process.send_signal(signal.SIGALRM)
                        one.wait(lambda: "ring" in one.log)

                    running.clear()
                    with self.running(source, response=[[interrupt, READ, http(202)]]) as function:
                        running.append(function)
                        function.send(*numbered(2))
                        function.wait(lambda: any(one.request_id == "id-2" for one in function.api.sent("response")))
                        function.ready(1)
                        whole = [one for one in function.api.sent("response") if one.complete]
                        if "iter_" not in result:
                            self.assertEqual([len(one.body) for one in whole], [24_000_002, 1])
                        self.assertEqual(function.child.stderr, b"")

    def test_a_container_error_that_cleaning_up_would_hide(self) -> None:
        self.app("""
            import time
            def handler(event, context):
                try:
                    for _ in range(20):
                        yield "x"
                        time.sleep(0.05)
                finally:
                    raise ValueError("of the clean-up")
        """)
        served = self.serve(*numbered(2), response=[[0.1, http(500)]])
        self.assertEqual(served.done.status, 1)
        (line,) = served.stderr.splitlines()
        self.assertIn("500", line)


class Ending(RuntimeTestCase):
    """However it ends, exit functions and finally blocks run, output is flushed, and nothing that is left delays it."""

    ATEXIT = "import atexit, os, signal, sys, threading, time\natexit.register(print, 'atexit ran')\n"

    def test_told_to_end_while_idle(self) -> None:
        leftovers = {
            "nothing": "",
            "a thread": "threading.Thread(target=time.sleep, args=(60,)).start()",
            "a daemon thread": "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
            "an executor at work": (
                "import concurrent.futures as f; pool = f.ThreadPoolExecutor(); pool.submit(threading.Event().wait, 60)"
            ),
        }
        for name, statement in leftovers.items():
            with self.subTest(name):
                self.app(f"{self.ATEXIT}{statement}\n{ECHO}")
                served = self.serve(event(b"1"), end=signal.SIGTERM)
                self.assertEqual(served.done.status, 0)
                self.assertEqual(served.stdout, "atexit ran\n")
                self.assertEqual(served.stderr, "")

    def test_told_to_end_while_working(self) -> None:
        """Lambda knows that the invocation has come to nothing: it is not reported."""
        handlers = {
            "sleeping": "time.sleep(30)",
            "computing": "sum(iter(lambda: 1, 0))",
            "catching everything": "try: time.sleep(30)\n        except BaseException: pass",
            "failing then": "try: time.sleep(30)\n        except BaseException: raise ValueError",
            "waiting for a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
            "waiting for a child": "__import__('subprocess').run(['sleep', '30'])",
        }
        for name, statement in handlers.items():
            source = f"""{self.ATEXIT}
def handler(event, context):
    try:
        print("at work", flush=True)
        {statement}
    finally:
        print("finally ran")
"""
            with self.subTest(name), self.running(source) as function:
                function.send(event())
                function.wait(lambda: "at work\n" in function.log)
                function.child.process.send_signal(signal.SIGTERM)
                self.assertEqual(function.ended(), 0)
                self.assertEqual([one.endpoint for one in function.api.requests], ["next"])
                self.assertEqual(function.log, "at work\nfinally ran\natexit ran\n")
                self.assertEqual(function.child.stderr, b"")

    def test_told_to_end_while_the_api_does_not_answer(self) -> None:
        def stuck(connection: Connection) -> None:
            connection.read()
            os.kill(json.loads(connection.request.body), signal.SIGTERM)
            connection.hold()

        self.app(self.ATEXIT + "def handler(event, context): return os.getpid()\n")
        served = self.serve(event(), response=[[stuck]])
        self.assertEqual((served.done.status, served.stdout, served.stderr), (0, "atexit ran\n", ""))

    def test_a_sigterm_handler_of_the_users(self) -> None:
        """It is left alone, and called at once, while waiting for the next event, too."""
        install = "signal.signal(signal.SIGTERM, lambda *_: {})\n"
        self.app(self.ATEXIT + install.format("sys.exit(7)") + ECHO)
        served = self.serve(event(b"1"), end=signal.SIGTERM)
        self.assertEqual((served.done.status, served.stdout), (7, "atexit ran\n"))
        self.app(self.ATEXIT + install.format("os._exit(8)") + ECHO)
        self.assertEqual(self.serve(event(b"1"), end=signal.SIGTERM).done.status, 8)
        with self.running(self.ATEXIT + install.format("print('called', flush=True)") + ECHO) as function:
            for number, one in enumerate(numbered(3), 1):
                function.send(one)
                function.answers(number)
                function.ready(1)
                function.child.process.send_signal(signal.SIGTERM)
                function.wait(lambda n=number: function.log == "called\n" * n)  # type: ignore[misc]

    def test_a_sigterm_handler_that_is_installed_by_the_handler(self) -> None:
        self.app(
            self.ATEXIT
            + """
def handler(event, context):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    if event == 2: os.kill(os.getpid(), signal.SIGTERM)
"""
        )
        self.assertEqual(self.serve(event(b"1"), end=signal.SIGTERM).done.status, 7)
        self.assertEqual(self.serve(event(b"2")).done.status, 7)

    def test_exit_functions_that_fail(self) -> None:
        """All the others run, too, and the status stays."""
        self.app("""
            import atexit, os, signal, sys
            atexit.register(print, "last")
            atexit.register(lambda: 1 / 0)
            atexit.register(lambda: (os.kill(os.getpid(), signal.SIGTERM), print("told to end again")))
            atexit.register(lambda: sys.exit(9))
            atexit.register(print, "first")
            def handler(event, context): sys.exit(3)
        """)
        served = self.serve(event(), tracebacks=True)
        self.assertEqual(served.done.status, 3)
        self.assertTrue(served.stdout.endswith("first\ntold to end again\nlast\n"), served.stdout)

    def test_what_is_printed_at_the_end_is_out(self) -> None:
        self.app("""
            import atexit, logging, sys
            @atexit.register
            def bye():
                logging.error("a record")
                print("half a line", end="")
                sys.stderr.write("half on stderr")
            def handler(event, context): return event
        """)
        served = self.serve(event(b"1"), end=signal.SIGTERM)
        self.assertTrue(served.stdout.endswith("a record\nhalf a line"), served.stdout)
        self.assertEqual((served.done.status, served.stderr), (0, "half on stderr"))

    def test_children_of_the_users_never_serve(self) -> None:
        """One that comes back from the handler ends, and neither answers nor asks for events."""
        self.app("""
            import os
            parent = os.getpid()
            def handler(event, context):
                child = os.fork()
                if child: os.waitpid(child, 0)
                return [event, "parent" if os.getpid() == parent else "child"]
        """)
        served = self.serve(event(b"1"), event(b"2"), event(b"3"))
        self.assertEqual(self.results(served), [[1, "parent"], [2, "parent"], [3, "parent"]])

    def test_a_pool_of_processes_however_it_was_started(self) -> None:
        """With `spawn` each child loads our file once more, under another name."""
        self.app("""
            import multiprocessing
            def handler(event, context):
                with multiprocessing.get_context("spawn").Pool(1) as pool: return pool.map(abs, [-1, -2])
        """)
        for command in ([str(RUNTIME)], ["-m", "runtime"]):
            with self.subTest(command):
                argv = [sys.executable, *command, "app.handler"]
                served = self.serve(event(), argv=argv, cwd=str(RUNTIME.parent))
                self.assertEqual(self.results(served), [[1, 2]])


if __name__ == "__main__":
    unittest.main()
