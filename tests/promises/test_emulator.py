# SPDX-License-Identifier: MIT-0
"""The local Lambda: a Runtime API as strict as AWS's own emulator, a process's life, the promises of `make invoke`."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from support import PROJECT, PYPY, RuntimeTestCase  # which puts the emulator's folder on the path

# isort: split
import cli
import emulator
from emulator import Result
from function import Emulator, EmulatorError

LIMIT = 6 * 1024 * 1024 + 100  # bytes of a buffered response that Lambda takes


def until(condition: Callable[[], Any], seconds: float = 10) -> bool:
    """Wait for something that nobody will tell us of."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def alive(pid: int) -> bool:
    """Whether there is such a process; one that has ended and only waits for its parent to notice is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return False
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


# ─── A runtime made by hand ─────────────────────────────────────────────────────────────────────────────────
# The emulator starts a process that does nothing but say where the API is. The test is the runtime, to the byte.

IDLE = ["/bin/sh", "-c", 'echo "$AWS_LAMBDA_RUNTIME_API"; exec sleep 60']

CALLS = {
    "next": "GET /2018-06-01/runtime/invocation/next",
    "response": "POST /2018-06-01/runtime/invocation/{id}/response",
    "error": "POST /2018-06-01/runtime/invocation/{id}/error",
    "init/error": "POST /2018-06-01/runtime/init/error",
}
STREAMING = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked"}
TRAILERS = {"Trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"}
OCTETS = {"Content-Type": "application/octet-stream"}
HTTP = {"Content-Type": "application/vnd.awslambda.http-integration-response"}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection to the API."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=10)
        self.reader = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self, call: str, request_id: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Send the head of a call, by its name in CALLS or in full."""
        fields = {"Host": "here", **(headers or {})}
        lines = [CALLS.get(call, call).format(id=request_id) + " HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def call(self, call: str, request_id: str = "", body: bytes = b"{}", **headers: str) -> Reply:
        """A whole call, with its answer."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if CALLS.get(call, call).startswith("POST"):
            fields["Content-Length"] = str(len(body))
            self.head(call, request_id, fields)
            with suppress(BrokenPipeError, ConnectionResetError):  # it has said why
                self.send(body)
        else:
            self.head(call, request_id, fields)
        return self.reply()

    def reply(self) -> Reply:
        status = int(self.reader.readline().split()[1])
        headers: dict[str, str] = {}
        for line in iter(self.reader.readline, b"\r\n"):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Reply(status, headers, self.reader.read(int(headers["content-length"])))

    def ended(self) -> bool:
        """Whether the API has closed it; waits for that."""
        try:
            return self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.reader.close()
        self.sock.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class EmulatorTestCase(RuntimeTestCase):
    def emulate(self, handler: str = "app.handler", **options: Any) -> Emulator:
        """A function that lasts as long as the test; it has started."""
        function = Emulator(self.root, handler, **{"timeout": 20, **options})
        self.addCleanup(function.close)
        return function.__enter__()


class ByHandTestCase(EmulatorTestCase):
    """`self.function` is started, and waits for the test to be its runtime."""

    def start(self, **options: Any) -> None:
        self.function = self.emulate(bootstrap=IDLE, **options)
        self.callers = ThreadPoolExecutor(2)
        self.addCleanup(self.callers.shutdown)
        self.addCleanup(self.function.close)  # before that: an invocation would wait for its end

    def wire(self) -> Wire:
        """A new connection to the latest process's API."""
        address = re.compile(r"^127\.0\.0\.1:\d+$", re.M)
        self.assertTrue(until(lambda: address.search(self.function.log)))
        wire = Wire(address.findall(self.function.log)[-1])
        self.addCleanup(wire.close)
        return wire

    def invoke(self, event: object = b"{}", **options: Any) -> Future[Result]:
        return self.callers.submit(self.function.invoke, event, **options)

    def state(self) -> str:
        """What the API takes us for: it says so when it refuses this call, which is never allowed after the start."""
        message: str = json.loads(self.wire().call("init/error").body)["errorMessage"]
        return message.split()[3]

    def begin(self, **options: Any) -> tuple[Wire, str, Future[Result]]:
        """Up to an event: a connection, the request id, and what will be the result."""
        self.start(**options)
        invoked, wire = self.invoke(), self.wire()
        return wire, wire.call("next").headers["lambda-runtime-aws-request-id"], invoked


class StateMachine(ByHandTestCase):
    """Every answer here is what AWS's emulator (RIE, November 2026) said to the very same requests."""

    OK = b'{"status":"OK"}\n'
    INVALID_ID = (400, b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}\n')
    WANTED = {  # where a call would lead; AWS names it when it refuses
        "next": "Ready",
        "response": "InvocationResponse",
        "error": "InvocationErrorResponse",
        "init/error": "InitError",
    }

    def refused(self, state: str, *calls: str, request_id: str) -> None:
        """These calls are not allowed in this state, and leave it as it is; nor is any about another invocation."""
        for call in calls:
            message = f"State transition from {state} to {self.WANTED[call]} failed for runtime."
            expected = {
                "errorMessage": f"{message} Error: State transition is not allowed",
                "errorType": "InvalidStateTransition",
            }
            with self.subTest(state=state, call=call):
                reply = self.wire().call(call, request_id)
                self.assertEqual((reply.status, json.loads(reply.body)), (403, expected))
                self.assertEqual(reply.body, json.dumps(expected, separators=(",", ":")).encode() + b"\n")
                self.assertEqual(reply.headers["content-type"], "application/json")
        self.unknown(state, "another")

    def unknown(self, state: str, request_id: str) -> None:
        """The id is looked at before the state is."""
        for call in ("response", "error"):
            with self.subTest(state=state, call=call, id=request_id):
                reply = self.wire().call(call, request_id)
                self.assertEqual((reply.status, reply.body), self.INVALID_ID)

    def test_one_invocation(self) -> None:
        self.start()
        first, second = self.wire(), self.wire()
        self.unknown("Started", "another")
        self.unknown("Started", "")

        first.head("next")
        invoked = self.invoke()
        request_id = first.reply().headers["lambda-runtime-aws-request-id"]
        self.refused("Running", "init/error", request_id=request_id)
        again = second.call("next")
        self.assertEqual(again.headers["lambda-runtime-aws-request-id"], request_id, "the same event again")

        first.head("response", request_id, {"Content-Length": "2"})
        first.send(b"[")
        self.assertTrue(until(lambda: self.state() == "InvocationResponse"))
        everything = ("next", "response", "error", "init/error")
        self.refused("InvocationResponse", *everything, request_id=request_id)
        first.send(b"]")
        self.assertEqual(first.reply()[::2], (202, self.OK))

        self.refused("RuntimeResponseSentState", "response", "error", "init/error", request_id=request_id)
        self.assertFalse(invoked.done(), "an invocation lasts until the next one is asked for")
        first.head("next")
        self.assertEqual(invoked.result(10).payload, b"[]")

        self.refused("Ready", "init/error", request_id=request_id)
        self.unknown("Ready", request_id)  # it has been answered, and is over

    def test_a_failed_invocation(self) -> None:
        wire, request_id, invoked = self.begin()
        wire.head("error", request_id, {"Content-Length": "2"})
        self.assertTrue(until(lambda: self.state() == "InvocationErrorResponse"))
        self.refused("InvocationErrorResponse", "next", "response", "error", "init/error", request_id=request_id)
        wire.send(b"{}")
        self.assertEqual(wire.reply()[::2], (202, self.OK))
        self.refused("RuntimeResponseSentState", "response", "error", request_id=request_id)
        wire.head("next")
        self.assertEqual(invoked.result(10).error, "Unhandled")  # it did not say what

    def test_a_failed_init(self) -> None:
        self.start(init_timeout=3)
        invoked, wire = self.invoke(), self.wire()
        body = b'{"errorType": "Runtime.ImportModuleError", "errorMessage": "no"}'
        self.assertEqual(wire.call("init/error", body=body)[::2], (202, self.OK))
        self.refused("InitError", "next", "init/error", request_id="")
        os.kill(self.function.pid or 0, signal.SIGKILL)
        result = invoked.result(10)
        self.assertEqual((result.error, result.payload), ("Runtime.ImportModuleError", body))

    def test_the_table_admits_nothing_else(self) -> None:
        calls = {call for _, call in emulator.TABLE} & set(CALLS)
        allowed = {
            (state, call) for (state, call), step in emulator.TABLE.items() if call in calls and step.status < 300
        }
        self.assertEqual(
            allowed,
            {
                ("Started", "next"),
                ("Started", "init/error"),
                ("Restoring", "next"),
                ("Ready", "next"),
                ("Running", "next"),
                ("Running", "response"),
                ("Running", "error"),
                ("RuntimeResponseSentState", "next"),
            },
        )

    def test_too_late(self) -> None:
        """In production a stale invocation is told by its nonce, or by the state."""
        wire, request_id, invoked = self.begin()
        for call in ("response", "error"):
            reply = wire.call(call, request_id, Lambda_Runtime_Invocation_Id="of another time")
            self.assertEqual((reply.status, json.loads(reply.body)["errorType"]), (410, "InvokeTimeout"))
            self.assertEqual(emulator.step("InvokeTimeout", call).status, 410)
        event = wire.call("next")
        nonce = event.headers["lambda-runtime-invocation-id"]
        self.assertEqual(wire.call("response", request_id, Lambda_Runtime_Invocation_Id=nonce).status, 202)
        wire.head("next")
        self.assertEqual(invoked.result(10).error, "")

    def test_no_such_thing(self) -> None:
        self.start()
        rows = {
            "GET /nowhere": 404,
            "GET /2018-06-01/runtime/invocation/next/": 404,
            "POST /2018-06-01/runtime/invocation/x": 404,
            "POST /2018-06-01/runtime/invocation/a/b/response": 404,
            "POST /2020-01-01/extension/init/error": 404,
            "POST /2018-06-01/runtime/invocation/next": 405,
            "GET /2018-06-01/runtime/invocation/x/response": 405,
            "GET /2018-06-01/runtime/init/error": 405,
        }
        wire = self.wire()
        for call, status in rows.items():
            with self.subTest(call):
                reply = wire.call(call)
                self.assertEqual(
                    (reply.status, reply.body), (status, b"404 page not found\n" if status == 404 else b"")
                )

    def test_a_response_may_be_so_large_and_no_larger(self) -> None:
        """And after a refusal the invocation is over: an error is not wanted."""
        for size in (LIMIT, LIMIT + 1):
            with self.subTest(size):
                wire, request_id, invoked = self.begin()
                reply = wire.call("response", request_id, b"x" * size)
                if size == LIMIT:
                    self.assertEqual(reply.status, 202)
                else:
                    message = f"Exceeded maximum allowed payload size ({LIMIT} bytes)."
                    expected = {"errorMessage": message, "errorType": "RequestEntityTooLarge"}
                    self.assertEqual((reply.status, json.loads(reply.body)), (413, expected))
                    self.refused("RuntimeResponseSentState", "error", request_id=request_id)
                self.wire().head("next")
                result = invoked.result(10)
                self.assertEqual(result.error, "" if size == LIMIT else "Function.ResponseSizeTooLarge")
                self.assertEqual(len(result.payload) == LIMIT, size == LIMIT)

    def test_an_odd_response_mode(self) -> None:
        wire, request_id, _ = self.begin()
        reply = wire.call("response", request_id, Lambda_Runtime_Function_Response_Mode="odd")
        expected = b'{"errorMessage":"Invalid function response mode","errorType":"InvalidFunctionResponseMode"}\n'
        self.assertEqual((reply.status, reply.body), (400, expected))
        self.refused("InvocationResponse", "response", request_id=request_id)

    def test_a_lost_poll(self) -> None:
        """The latest one gets the event."""
        self.start()
        polls = [self.wire(), self.wire()]
        for poll in polls:
            poll.head("next")
            self.assertTrue(until(lambda: self.function.requests))
            time.sleep(0.02)
        self.assertTrue(polls[0].ended())
        self.invoke(b"5")
        self.assertEqual(polls[1].reply().body, b"5")

    def test_a_body_that_was_cut_may_be_sent_again(self) -> None:
        wire, request_id, invoked = self.begin()
        wire.head("response", request_id, {"Content-Length": "9"})
        wire.send(b"cut")
        self.assertTrue(until(lambda: self.state() != "Running"))
        wire.close()
        self.assertTrue(until(lambda: self.state() == "Running"))
        another = self.wire()
        self.assertEqual(another.call("response", request_id, b"whole").status, 202)
        another.head("next")
        self.assertEqual(invoked.result(10).payload, b"whole")


class StrictHttp(ByHandTestCase):
    """What a server on the internet might let pass shows here: a runtime that works with us works with all."""

    def test_malformed_requests(self) -> None:
        get = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: here\r\n"
        post = b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: here\r\n"
        chunked = post + b"Transfer-Encoding: chunked\r\n"
        rows = [
            (400, "nothing that makes sense", b"what?\r\n\r\n"),
            (400, "lower-case method", get.lower() + b"\r\n"),
            (400, "two spaces", get.replace(b"T /", b"T  /") + b"\r\n"),
            (505, "HTTP/1.0", get.replace(b"/1.1", b"/1.0") + b"\r\n"),
            (400, "no Host", get.replace(b"Host: here\r\n", b"") + b"\r\n"),
            (400, "two Hosts", get + b"Host: there\r\n\r\n"),
            (400, "LF alone", get.replace(b"\r\n", b"\n") + b"\n"),
            (400, "CR within a value", get + b"A: b\rc\r\n\r\n"),
            (400, "a header without colon", get + b"A\r\n\r\n"),
            (400, "a space before the colon", get + b"A : b\r\n\r\n"),
            (400, "a folded header", get + b"A: b\r\n c\r\n\r\n"),
            (431, "an endless head", get + b"A: " + b"x" * (1 << 20)),
            (400, "length and chunks", chunked + b"Content-Length: 2\r\n\r\n{}"),
            (400, "two lengths", post + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
            (400, "a length that is none", post + b"Content-Length: +2\r\n\r\n{}"),
            (501, "an unknown coding", post + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
            (400, "a size that is none", chunked + b"\r\n0x2\r\n{}\r\n0\r\n\r\n"),
            (400, "a chunk longer than it says", chunked + b"\r\n1\r\n{}\r\n0\r\n\r\n"),
            (400, "a trailer out of the blue", chunked + b"\r\n0\r\nA: b\r\n\r\n"),
        ]
        for status, name, request in rows:
            with self.subTest(name):
                if status != 431:
                    self.start()  # a process for each: some of these change the state
                wire = self.wire()
                with suppress(BrokenPipeError, ConnectionResetError):
                    wire.send(request)
                reply = wire.reply()
                self.assertEqual(reply.status, status)
                self.assertTrue(wire.ended(), "who sends this may mean anything by what follows")
                self.assertIn("emulator: a request of the runtime was refused: ", self.function.log)

    def test_connections_are_kept(self) -> None:
        """Unless one of the two sides does not want that; 256 KiB of an unwanted body are read to keep one."""
        self.start()
        wire = self.wire()
        for _ in range(3):
            self.assertEqual(wire.call("response", "another").status, 400)
        self.assertEqual(wire.call("response", "another", b"x" * (1 << 18)).status, 400)
        self.assertEqual(wire.call("response", "another").status, 400)
        reply = wire.call("response", "another", b"x" * (1 << 20))
        self.assertEqual((reply.status, reply.headers["connection"]), (400, "close"))
        self.assertTrue(wire.ended())
        wire = self.wire()
        self.assertEqual(wire.call("response", "another", Connection="close").headers["connection"], "close")
        self.assertTrue(wire.ended())


class Events(ByHandTestCase):
    """What an event brings along."""

    def test_what_comes_with_an_event(self) -> None:
        self.start(timeout=20)
        self.invoke({"ä": 1}, client_context={"custom": {"b": "ü"}})
        before = time.time()
        event = self.wire().call("next")
        self.assertEqual(json.loads(event.body), {"ä": 1})
        headers = event.headers
        self.assertEqual(headers["content-type"], "application/json")
        self.assertRegex(headers["lambda-runtime-aws-request-id"], "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertAlmostEqual(int(headers["lambda-runtime-deadline-ms"]) / 1000, before + 20, delta=5)
        arn = f"arn:aws:lambda:us-east-1:123456789012:function:{os.path.basename(self.root).replace(' ', '-')}"
        self.assertEqual(headers["lambda-runtime-invoked-function-arn"], arn)
        trace = "^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]$"
        self.assertRegex(headers["lambda-runtime-trace-id"], trace)
        self.assertEqual(json.loads(headers["lambda-runtime-client-context"]), {"custom": {"b": "ü"}})

    def test_bytes_go_as_they_are_and_headers_as_one_likes(self) -> None:
        self.start()
        self.invoke(b"\xff\x00", headers={"Content-Type": "a/b", "Lambda-Runtime-Trace-Id": None, "New": "here"})
        event = self.wire().call("next")
        self.assertEqual(event.body, b"\xff\x00")
        self.assertEqual((event.headers["content-type"], event.headers["new"]), ("a/b", "here"))
        self.assertNotIn("lambda-runtime-trace-id", event.headers)
        self.assertNotIn("lambda-runtime-client-context", event.headers)


class StreamsByHand(ByHandTestCase):
    """What a stream may look like on the wire, beyond what our own runtime sends."""

    def stream(self, body: bytes, headers: Mapping[str, str] = OCTETS) -> Result:
        """The result of a streamed response, whatever answer it got."""
        wire, request_id, invoked = self.begin()
        wire.head("response", request_id, {**STREAMING, **TRAILERS, **headers})
        wire.send(body)
        if body.endswith(b"\r\n\r\n"):
            self.assertEqual(wire.reply().status, 202)
        else:
            wire.close()
            self.assertTrue(until(lambda: self.state() == "RuntimeResponseSentState"), "the end was not noticed")
        self.wire().head("next")
        return invoked.result(10)

    def test_a_plain_stream(self) -> None:
        result = self.stream(chunk(b"a") + chunk(b"bc") + b"0\r\n\r\n")
        self.assertEqual((result.payload, result.error, result.streamed), (b"abc", "", True))
        self.assertEqual([data for _, data in result.chunks], [b"a", b"bc"])
        self.assertEqual(result.content_type, "application/octet-stream")
        self.assertIsNone(result.prelude)

    def test_a_prelude_however_it_is_cut(self) -> None:
        head = b'{"statusCode":201,"headers":{"a":"b"},"cookies":["c=d"]}'
        whole = head + bytes(8) + b"body"
        for size in (1, 7, 60, len(whole)):
            pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
            result = self.stream(b"".join(map(chunk, pieces)) + b"0\r\n\r\n", HTTP)
            self.assertEqual((result.payload, result.error), (b"body", ""))
            self.assertEqual(result.prelude, (201, {"a": "b"}, ["c=d"], {}))

    def test_a_prelude_that_is_none(self) -> None:
        rows = [
            (b"hello", "before the 8 NULs"),
            (b"", "before the 8 NULs"),
            (b"{}" + bytes(8), "its prelude is not"),
            (b'{"statusCode":"200","headers":{},"cookies":[]}' + bytes(8), "its prelude is not"),
            (b'{"statusCode":200,"headers":{"a":5},"cookies":[]}' + bytes(8), "its prelude is not"),
            (b'{"statusCode":200,"headers":{},"cookies":[5]}' + bytes(8), "its prelude is not"),
            (b"{" + bytes(8), ""),
        ]
        for body, why in rows:
            with self.subTest(body):
                result = self.stream((chunk(body) if body else b"") + b"0\r\n\r\n", HTTP)
                self.assertEqual(result.error, "Emulator.InvalidStream")
                self.assertIn(why, json.loads(result.error_payload)["errorMessage"])

    def test_trailers(self) -> None:
        kind, body = b"Lambda-Runtime-Function-Error-Type: ", b"Lambda-Runtime-Function-Error-Body: "
        report = b'{"errorType":"ValueError"}'
        trailers = kind + b"Function.ValueError\r\n" + body + base64.b64encode(report) + b"\r\n"
        result = self.stream(chunk(b"part") + b"0\r\n" + trailers + b"\r\n")
        self.assertEqual((result.error, result.error_payload), ("Function.ValueError", report))
        self.assertEqual(result.payload, b"part", "what the caller has got is not taken back")
        result = self.stream(b"0\r\n" + kind + b"Function.ValueError\r\n" + body + b"?\r\n\r\n")
        self.assertEqual(result.error, "Emulator.InvalidStream")

    def test_a_stream_without_an_end(self) -> None:
        result = self.stream(chunk(b"part") + b"4\r\nxy")
        self.assertEqual((result.payload, result.error), (b"part", "Emulator.InvalidStream"))
        self.assertIn("cut off", json.loads(result.error_payload)["errorMessage"])


class SnapStart(ByHandTestCase):
    """`restore/next` is answered after a pause in which the process stands still."""

    NEXT, ERROR = "GET /2018-06-01/runtime/restore/next", "POST /2018-06-01/runtime/restore/error"

    def begin_restore(self) -> tuple[Wire, Future[Result]]:
        self.start(env={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}, init_timeout=3)
        invoked, wire = self.invoke(), self.wire()
        wire.head(self.NEXT)
        return wire, invoked

    def test_a_snapshot(self) -> None:
        wire, invoked = self.begin_restore()
        if os.path.exists("/proc/self/stat"):
            status = Path(f"/proc/{self.function.pid}/stat")
            self.assertTrue(until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T"), "it does not stop")
            self.assertTrue(until(lambda: status.read_text().rpartition(")")[2].split()[0] != "T"), "nor go on")
        self.assertEqual(wire.reply()[::2], (200, b'{"status":"OK"}\n'))
        self.assertEqual(self.state(), "Restoring")
        for call in (self.NEXT, CALLS["response"].format(id="x")):
            self.assertIn(self.wire().call(call).status, (400, 403))
        event = wire.call("next")
        wire.call("response", event.headers["lambda-runtime-aws-request-id"], b"1")
        wire.head("next")
        result = invoked.result(10)
        self.assertEqual(result.payload, b"1")
        self.assertRegex(result.log, r"^[\d.:]+\nRESTORE_REPORT Restore Duration: [\d.]+ ms\nSTART ")
        self.assertRegex(result.log, r"\tRestore Duration: [\d.]+ ms$")

    def test_a_failing_hook(self) -> None:
        wire, invoked = self.begin_restore()
        self.assertEqual(wire.reply().status, 200)
        body = b'{"errorType": "Runtime.AfterRestoreError", "errorMessage": "no"}'
        self.assertEqual(wire.call(self.ERROR, body=body).status, 202)
        self.assertEqual(self.state(), "RuntimeRestoreErrorState")
        self.assertEqual(wire.call("next").status, 403)
        os.kill(self.function.pid or 0, signal.SIGKILL)
        result = invoked.result(10)
        self.assertEqual((result.error, result.payload), ("Runtime.AfterRestoreError", body))

    def test_other_functions_have_none(self) -> None:
        self.start()
        for call, wanted in ((self.NEXT, "RestoreReady"), (self.ERROR, "RuntimeRestoreErrorState")):
            reply = self.wire().call(call)
            self.assertEqual(reply.status, 403)
            self.assertIn(f"State transition from Started to {wanted} failed", json.loads(reply.body)["errorMessage"])


class Extensions(ByHandTestCase):
    """What registers itself from within the function's process; the runtime does to get SIGTERM."""

    REGISTER, NEXT = "POST /2020-01-01/extension/register", "GET /2020-01-01/extension/event/next"

    def test_init_lasts_until_an_extension_is_ready(self) -> None:
        self.start()
        wire, runtime = self.wire(), self.wire()
        reply = wire.call(self.REGISTER, body=b'{"events": ["INVOKE"]}', Lambda_Extension_Name="inner")
        about = {"functionName": self.function.name, "functionVersion": "$LATEST", "handler": "app.handler"}
        self.assertEqual((reply.status, json.loads(reply.body)), (200, about))
        identifier = reply.headers["lambda-extension-identifier"]
        silent = self.wire().call(self.REGISTER, body=b'{"events": []}', Lambda_Extension_Name="silent")
        runtime.head("next")
        invoked = self.invoke()
        time.sleep(0.1)
        self.assertNotIn("START", self.function.log)

        wire.head(self.NEXT, headers={"Lambda-Extension-Identifier": identifier})
        waiting = self.wire()
        waiting.head(self.NEXT, headers={"Lambda-Extension-Identifier": silent.headers["lambda-extension-identifier"]})
        request_id = runtime.reply().headers["lambda-runtime-aws-request-id"]
        event = json.loads(wire.reply().body)
        self.assertEqual((event["eventType"], event["requestId"]), ("INVOKE", request_id))
        self.assertEqual(event["invokedFunctionArn"], self.function.arn)
        self.assertAlmostEqual(event["deadlineMs"] / 1000, time.time() + 20, delta=10)
        runtime.call("response", request_id)
        runtime.head("next")
        self.assertEqual(invoked.result(10).error, "")
        reply = self.wire().call(self.REGISTER, Lambda_Extension_Name="late")
        self.assertEqual((reply.status, json.loads(reply.body)["errorType"]), (403, "Extension.RegistrationClosed"))
        self.function.close()
        self.assertTrue(waiting.ended(), "who wants no event gets none")

    def test_what_is_refused(self) -> None:
        self.start()
        name = {"Lambda_Extension_Name": "inner"}
        rows: list[tuple[str, bytes, dict[str, str], str]] = [
            (self.REGISTER, b"{}", {}, "Extension.InvalidExtensionName"),
            (self.REGISTER, b"?", name, "InvalidRequestFormat"),
            (self.REGISTER, b'{"events": ["SHUTDOWN"]}', name, "Extension.InvalidEventType"),
            (self.NEXT, b"", {}, "Extension.UnknownExtensionIdentifier"),
            (self.NEXT, b"", {"Lambda_Extension_Identifier": "x"}, "Extension.UnknownExtensionIdentifier"),
        ]
        for call, body, headers, error in rows:
            with self.subTest(error):
                reply = self.wire().call(call, body=body, **headers)
                self.assertEqual((reply.status, json.loads(reply.body)["errorType"]), (403, error))
        for status in (200, 403):  # a name is taken once
            self.assertEqual(self.wire().call(self.REGISTER, body=b"", **name).status, status)


class ManagedInstances(ByHandTestCase):
    """One process asks for several events at once."""

    def start(self, **options: Any) -> None:
        super().start(**{"env": {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}, **options})

    def test_each_poll_gets_an_event_of_its_own(self) -> None:
        """An invocation is over when it is answered, whatever becomes of the others."""
        self.start()
        polls = [self.wire(), self.wire()]
        for poll in polls:
            poll.head("next")
        invoked = {event: self.invoke(event) for event in (b"1", b"2")}
        events = [poll.reply() for poll in polls]
        self.assertEqual({event.body for event in events}, {b"1", b"2"})
        ids = [event.headers["lambda-runtime-aws-request-id"] for event in events]
        for number in (1, 0):
            self.assertEqual(self.wire().call("response", ids[number], b"[%s]" % events[number].body).status, 202)
            self.assertEqual(invoked[events[number].body].result(10).json(), [int(events[number].body)])
            self.assertEqual(self.wire().call("response", ids[number]).status, 400, "it has been answered")
        self.assertEqual(self.wire().call("init/error").status, 403)

    def test_who_is_gone_gets_no_event(self) -> None:
        self.start()
        dead, alive = self.wire(), self.wire()
        dead.head("next")
        self.assertTrue(until(lambda: self.function.requests))
        dead.close()
        alive.head("next")
        self.invoke(b"5")
        self.assertEqual(alive.reply().body, b"5")

    def test_a_time_out_ends_one_invocation_alone(self) -> None:
        self.start(timeout=1.5)
        invoked, poll = self.invoke(), self.wire()
        request_id = poll.call("next").headers["lambda-runtime-aws-request-id"]
        self.assertEqual(invoked.result(10).error, "Sandbox.Timedout")
        self.assertIsNotNone(self.function.pid, "others may be in work")
        self.assertEqual(self.wire().call("response", request_id).status, 410)
        invoked = self.invoke(b"6")
        event = poll.call("next")
        self.assertEqual(event.body, b"6")
        poll.call("response", event.headers["lambda-runtime-aws-request-id"], b"7")
        self.assertEqual(invoked.result(10).payload, b"7")

    def test_a_number_that_is_none(self) -> None:
        for number in ("0", "many", ""):
            with self.assertRaisesRegex(EmulatorError, "AWS_LAMBDA_MAX_CONCURRENCY"):
                Emulator(self.root, "a.b", env={"AWS_LAMBDA_MAX_CONCURRENCY": number})


# ─── With the real runtime ──────────────────────────────────────────────────────────────────────────────────

REPORT = re.compile(
    r"REPORT RequestId: (?P<id>[0-9a-f-]{36})\tDuration: (?P<duration>[0-9]+\.[0-9]{2}) ms"
    r"\tBilled Duration: (?P<billed>[0-9]+) ms\tMemory Size: (?P<size>[0-9]+) MB\tMax Memory Used: (?P<used>[0-9]+) MB"
    r"(\tInit Duration: (?P<init>[0-9]+\.[0-9]{2}) ms)?(\tStatus: (?P<status>.+))?"
)


class Library(EmulatorTestCase):
    """Invocations, one after another, and what becomes of a process that fails."""

    def report(self, result: Result) -> dict[str, str]:
        """The REPORT line, the last of an invocation's log."""
        line = result.log.splitlines()[-1]
        match = REPORT.fullmatch(line)
        assert match, line
        self.assertEqual(match["id"], result.request_id)
        return {name: value for name, value in match.groupdict().items() if value is not None}

    def test_success(self) -> None:
        """One process serves one event after the other; START, END and REPORT are as on Lambda."""
        self.app("def handler(event, context):\n    print('got', event)\n    return [event, context.aws_request_id]\n")
        function = self.emulate(memory=256)
        first = function.invoke({"a": 1})
        pid = function.pid
        second = function.invoke(2)
        self.assertEqual((first.json()[0], first.error, first.content_type), ({"a": 1}, "", "application/json"))
        self.assertEqual((second.json()[0], function.pid, function.exit_status), (2, pid, None))
        self.assertEqual([one.json()[1] for one in (first, second)], [first.request_id, second.request_id])
        self.assertNotEqual(first.request_id, second.request_id)

        for result, text in ((first, "got {'a': 1}"), (second, "got 2")):
            start, output, end, _ = result.log.splitlines()
            self.assertEqual(start, f"START RequestId: {result.request_id} Version: $LATEST")
            self.assertEqual((output, end), (text, f"END RequestId: {result.request_id}"))
        self.assertEqual(function.log, first.log + second.log)

        report, warm = self.report(first), self.report(second)
        self.assertEqual((report["size"], float(report["init"])), ("256", round(first.init_ms or 0, 2)))
        self.assertGreaterEqual(int(report["billed"]), float(report["duration"]) + float(report["init"]))
        self.assertNotIn("init", warm, "there is an init for the first one only")
        self.assertIsNone(second.init_ms)
        self.assertTrue(0 <= int(warm["billed"]) - float(warm["duration"]) <= 1)
        calls = [(request.method, request.path.rpartition("/")[2]) for request in function.requests]
        self.assertEqual(calls, [("GET", "next"), ("POST", "response")] * 2 + [("GET", "next")])
        self.assertEqual(len({request.connection for request in function.requests}), 1)

    def test_failures_of_the_handler(self) -> None:
        self.app("def handler(event, context): raise KeyError('gone')")
        function = self.emulate()
        result = function.invoke()
        pid = function.pid
        self.assertEqual((result.error, result.payload), ("Function.KeyError", result.error_payload))
        self.assertEqual(result.json()["errorType"], "KeyError")
        self.assertIn("[ERROR] KeyError", result.log)
        self.assertEqual((function.invoke().error, function.pid), ("Function.KeyError", pid), "the process lives on")

    def test_failures_of_init(self) -> None:
        """Reported for the event that came; the next event gets a process of its own."""
        self.app("import os\nprint('pid', os.getpid())\nraise ValueError('not today')")
        function = self.emulate()
        for _ in range(2):
            result = function.invoke()
            self.assertEqual(result.json()["errorMessage"], "not today")
            self.assertEqual((result.error, function.exit_status), ("Function.ValueError", 1))
            self.assertIsNotNone(result.init_ms)
            self.assertRegex(result.log, r"INIT_REPORT Init Duration: [0-9.]+ ms\tPhase: init\tStatus: error")
            self.assertEqual(self.report(result)["status"], "error\tError Type: Function.ValueError")
        pids = re.findall(r"^pid (\d+)$", function.log, re.M)
        self.assertEqual(len(set(pids)), 2, pids)

    def test_time_out(self) -> None:
        """What was printed before is not lost; the next event is served by a new process."""
        self.app(
            """
            import os, time
            def handler(event, context):
                print("working")
                time.sleep(event)
                return os.getpid()
            """
        )
        function = self.emulate(timeout=0.8)
        pid = function.invoke(0).json()
        began = time.monotonic()
        result = function.invoke(60)
        self.assertLess(time.monotonic() - began, 5)
        message = f"RequestId: {result.request_id} Error: Task timed out after 0.80 seconds"
        self.assertEqual(result.json(), {"errorType": "Sandbox.Timedout", "errorMessage": message})
        self.assertEqual((result.error, function.exit_status, function.pid), ("Sandbox.Timedout", -9, None))
        self.assertFalse(alive(pid))
        self.assertIn("working\n" + message, result.log)
        self.assertEqual(self.report(result)["status"], "timeout")
        self.assertGreaterEqual(result.duration_ms, 800)
        after = function.invoke(0)
        self.assertNotEqual(after.json(), pid)
        self.assertIsNotNone(after.init_ms)

    def test_a_process_that_ends(self) -> None:
        """However it does, the caller learns of it, and the next event gets a new process."""
        self.app(
            """
            import os, sys
            def handler(event, context):
                if event == "pid": return os.getpid()
                exec(event)
            """
        )
        function = self.emulate()
        rows = {
            "sys.exit(3)": ("Function.SystemExit", 3, None),  # which the runtime itself reports
            "os._exit(4)": ("Runtime.ExitError", 4, "Runtime exited with error: exit status 4"),
            "os._exit(0)": ("Runtime.ExitError", 0, "Runtime exited without providing a reason"),
            "os.kill(os.getpid(), 9)": ("Runtime.ExitError", -9, "Runtime exited with error: signal: killed"),
        }
        pids = set()
        for code, (error, status, message) in rows.items():
            with self.subTest(code):
                pids.add(function.invoke("pid").json())
                result = function.invoke(code)
                self.assertEqual((result.error, function.exit_status), (error, status))
                if message:
                    expected = f"RequestId: {result.request_id} Error: {message}"
                    self.assertEqual(result.json(), {"errorType": error, "errorMessage": expected})
                    self.assertIn(expected + "\n", result.log)
        self.assertEqual(len(pids), len(rows))

        self.assertNotIn(function.invoke("pid").json(), pids)  # and one that ends while nobody looks
        os.kill(function.pid or 0, signal.SIGKILL)
        self.assertTrue(until(lambda: function.exit_status == -9))
        self.assertEqual(function.invoke("pid").error, "")

    @unittest.skipIf(PYPY, "it takes as much from the start")
    def test_memory(self) -> None:
        """What it takes is reported as it is, and too much of it is the end."""
        self.app(
            """
            def handler(event, context):
                data = bytearray(event << 20)
                return len(data)
            """
        )
        function = self.emulate(memory=120)
        small = function.invoke(1)
        if not small.memory_mb:
            self.skipTest("nothing tells here what a process takes")
        large = function.invoke(60)
        self.assertTrue(60 <= large.memory_mb < 110, large.memory_mb)
        self.assertLess(small.memory_mb, large.memory_mb - 40)
        self.assertEqual(self.report(large)["used"], str(large.memory_mb))
        self.app("data = []\ndef handler(event, context):\n    while True: data.append(bytearray(1 << 20))\n")
        greedy = self.emulate(memory=120).invoke()
        self.assertEqual(greedy.error, "Runtime.OutOfMemory")
        self.assertEqual(self.report(greedy)["status"], "error\tError Type: Runtime.OutOfMemory")

    def test_a_runtime_that_never_polls(self) -> None:
        function = self.emulate(bootstrap=IDLE, init_timeout=0.2)
        for _ in range(2):
            result = function.invoke()
            message = f"RequestId: {result.request_id} Error: Init timed out after 0.20 seconds"
            self.assertEqual(result.json(), {"errorType": "Sandbox.Timedout", "errorMessage": message})
            self.assertIsNone(function.pid)

    def test_a_runtime_that_ends_at_once(self) -> None:
        function = self.emulate(bootstrap=["/bin/sh", "-c", "echo no; exit 5"])
        for _ in range(2):
            result = function.invoke()
            self.assertEqual((result.error, function.exit_status), ("Runtime.ExitError", 5))
            self.assertIn("no\n", result.log)

    def test_nothing_to_start(self) -> None:
        rows = [
            (os.path.join(self.root, "missing"), None, "the task root is not a folder"),
            (self.root, os.path.join(self.root, "missing"), "cannot start .*missing"),
        ]
        for task_root, bootstrap, reason in rows:
            options: dict[str, Any] = {"bootstrap": bootstrap} if bootstrap else {}
            with (
                self.subTest(reason),
                self.assertRaisesRegex(EmulatorError, reason),
                Emulator(task_root, "a.b", **options),
            ):
                self.fail("it has started")

    def test_the_environment(self) -> None:
        """Lambda's, and what the test gives on top of it; nothing of the person's who runs this."""
        self.app(
            "import os\ndef handler(event, context): return [dict(os.environ), context.function_name, os.getcwd()]"
        )
        os.environ["OF_THE_PERSON"] = "x"
        self.addCleanup(os.environ.pop, "OF_THE_PERSON")
        function = self.emulate(env={"GIVEN": "ü", "TZ": None, "AWS_REGION": "eu-central-1"}, memory=200)
        environ, name, folder = function.invoke().json()
        expected = {
            "LAMBDA_TASK_ROOT": self.root,
            "_HANDLER": "app.handler",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "200",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "GIVEN": "ü",
        }
        self.assertEqual({key: environ.get(key) for key in expected}, expected)
        self.assertFalse({"OF_THE_PERSON", "TZ", "HOME", "USER"} & set(environ))
        self.assertEqual(folder, self.root)

    def test_output_is_shown_as_it_comes(self) -> None:
        """And what Lambda adds stands on lines of its own."""
        shown = bytearray()
        self.app(
            """
            import os, sys, time
            def handler(event, context):
                os.write(1, b"early\\xff\\n")
                while not os.path.exists("seen"): time.sleep(0.005)
                sys.stderr.write("no line end")
            """
        )
        function = self.emulate(show=shown.extend)
        with ThreadPoolExecutor(1) as caller:
            invoked = caller.submit(function.invoke)
            self.assertTrue(until(lambda: b"early\xff\n" in shown), "not while the handler is at work")
            self.write("seen")
            result = invoked.result(10)
        self.assertIn("early\N{REPLACEMENT CHARACTER}\nno line end\nEND RequestId", result.log)
        self.assertEqual(bytes(shown).decode("utf-8", "replace"), function.log)

    def test_logs_in_json(self) -> None:
        """What Lambda adds is a record then, too."""
        self.app("import logging\ndef handler(event, context):\n    logging.warning('here')\n    return 1 / event")
        function = self.emulate(env={"AWS_LAMBDA_LOG_FORMAT": "JSON"})
        for event, status in ((1, "success"), (0, "error")):
            result = function.invoke(event)
            start, *own, report = [json.loads(line) for line in result.log.splitlines()]
            record = {"requestId": result.request_id, "version": "$LATEST"}
            self.assertEqual((start["type"], start["record"]), ("platform.start", record))
            self.assertEqual([one["level"][:4] for one in own], ["WARN"] if event else ["WARN", "ERRO"])
            self.assertEqual((report["type"], report["record"]["status"]), ("platform.report", status))
            self.assertEqual(report["record"].get("errorType", ""), result.error)
            metrics = report["record"]["metrics"]
            self.assertEqual(metrics["memorySizeMB"], 128)
            self.assertEqual(metrics["durationMs"], round(result.duration_ms, 2))
            self.assertEqual("initDurationMs" in metrics, bool(event))

    def test_layers(self) -> None:
        """Modules in `python` or the folder itself, programs in `bin`; the last layer first, the function before."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        one, two = self.folder(), self.folder()
        for path in (f"{one}/python/both.py", f"{two}/both.py", f"{one}/python/lib/{version}/site-packages/deep.py"):
            self.write(path, f"where = {path!r}")
        self.write(f"{one}/python/own.py", "where = 'the layer'")
        self.write(f"{one}/bin/tool", "#!/bin/sh\necho the tool\n", 0o755)
        self.write("own.py", "where = 'the function'")
        self.app(
            """
            import both, deep, own, subprocess
            def handler(event, context):
                return [both.where, deep.where, own.where, subprocess.check_output("tool").decode()]
            """
        )
        expected = [f"{two}/both.py", f"{one}/python/lib/{version}/site-packages/deep.py", "the function", "the tool\n"]
        self.assertEqual(self.emulate(layers=[one, two]).invoke().json(), expected)

    def test_callers_wait_for_each_other(self) -> None:
        """One process has one event at a time; and two functions have nothing to do with each other."""
        self.app("import os, time\ndef handler(event, context):\n    time.sleep(0.02)\n    return [os.getpid(), event]")
        one, two = self.emulate(), self.emulate()
        with ThreadPoolExecutor(8) as callers:
            results = [callers.submit(function.invoke, number) for number in range(4) for function in (one, two)]
            values = [result.result(10).json() for result in results]
        self.assertEqual([number for _, number in values], [0, 0, 1, 1, 2, 2, 3, 3])
        self.assertEqual(len({pid for pid, _ in values}), 2)

    def test_no_process_is_left_behind(self) -> None:
        """Neither the runtime, nor what it started, nor one that does not want to go; those who want may clean up."""
        self.app(
            """
            import atexit, os, signal, subprocess
            atexit.register(print, "cleaned up")
            def handler(event, context):
                if event == "leave":
                    print("left", subprocess.Popen(["sleep", "60"]).pid)
                    os._exit(0)
                if event: signal.signal(signal.SIGTERM, signal.SIG_IGN)
                return [os.getpid(), subprocess.Popen(["sleep", "60"]).pid]
            """
        )
        for stubborn in (0, 1):
            with self.subTest(stubborn=stubborn):
                with Emulator(self.root, "app.handler", timeout=20) as function:
                    pids = function.invoke(stubborn).json()
                    self.assertEqual([alive(pid) for pid in pids], [True, True])
                    began = time.monotonic()
                self.assertLess(time.monotonic() - began, 3)
                self.assertTrue(until(lambda: not any(alive(pid) for pid in pids), 2), pids)  # noqa: B023
                self.assertEqual("cleaned up" in function.log, not stubborn)
        result = self.emulate().invoke("leave")  # here it is not the emulator that ends the process
        (left,) = re.findall(r"left (\d+)", result.log)
        self.assertTrue(until(lambda: not alive(int(left)), 2))


class Streams(EmulatorTestCase):
    """A stream reaches the caller as it is made."""

    SOURCE = """
        import os, time
        def wait(name):
            while not os.path.exists(name): time.sleep(0.005)
        def handler(event, context):
            try:
                if event != "plain": yield {"statusCode": 418, "headers": {"a": "b"}, "cookies": ["c"]}
                yield "one"
                wait("one")
                yield "two"
                if event == "fail": raise ValueError("enough")
                if event == "die":
                    wait("two")
                    os._exit(3)
                if event == "long":
                    while True: yield "x" * 10_000
            finally:
                print("closed")
        """

    def setUp(self) -> None:
        super().setUp()
        self.app(self.SOURCE)
        self.seen: list[tuple[Any, bytes]] = []

    def seen_one(self, result: Result, data: bytes) -> None:
        self.seen.append((result.prelude and result.prelude.status, data))
        if data:
            self.write(data.decode())  # the generator may wait for that before it goes on

    def test_chunks_arrive_one_by_one(self) -> None:
        function = self.emulate()
        result = function.invoke("plain", on_chunk=self.seen_one)
        self.assertEqual(self.seen, [(None, b"one"), (None, b"two")])
        self.assertEqual((result.error, result.streamed, result.chunks), ("", True, []))
        result = function.invoke("prelude", on_chunk=self.seen_one)
        self.assertEqual([(status, data) for status, data in self.seen[2:] if data], [(418, b"one"), (418, b"two")])
        self.assertEqual(result.prelude, (418, {"a": "b"}, ["c"], {}))

    def test_without_a_listener_they_are_kept(self) -> None:
        """Each with the moment of its arrival."""
        function = self.emulate()
        with ThreadPoolExecutor(1) as caller:
            invoked = caller.submit(function.invoke, "prelude")
            self.assertTrue(until(lambda: any(request.method == "POST" for request in function.requests)))
            time.sleep(0.1)
            self.write("one")
            result = invoked.result(10)
        self.assertEqual((result.payload, result.prelude), (b"onetwo", (418, {"a": "b"}, ["c"], {})))
        (before, one), (after, two) = result.chunks[-2:]
        self.assertEqual((one, two), (b"one", b"two"))
        self.assertGreaterEqual(after - before, 0.09)

    def test_failing_streams(self) -> None:
        self.write("one")
        function = self.emulate()
        result = function.invoke("fail")
        self.assertEqual((result.payload, result.error), (b"onetwo", "Function.ValueError"))
        self.assertEqual(json.loads(result.error_payload)["errorMessage"], "enough")
        pid = function.pid
        self.assertEqual((function.invoke("plain").error, function.pid), ("", pid))
        result = function.invoke("die", on_chunk=self.seen_one)
        self.assertEqual(b"".join(data for _, data in self.seen), b"onetwo")
        self.assertEqual((result.error, function.exit_status), ("Runtime.ExitError", 3))

    def test_a_caller_that_hangs_up(self) -> None:
        """The runtime is told as by Lambda, `invoke` raises what the caller did, and life goes on."""

        def refuse(result: Result, data: bytes) -> None:
            if data == b"two":
                raise KeyError("enough")

        self.write("one")
        function = self.emulate()
        with self.assertRaisesRegex(KeyError, "enough"):
            function.invoke("long", on_chunk=refuse)
        pid = function.pid
        self.assertIn("closed", function.log)
        self.assertEqual((function.invoke("plain").payload, function.pid), (b"onetwo", pid))


# ─── The command line ───────────────────────────────────────────────────────────────────────────────────────


class Ran(NamedTuple):
    status: int
    stdout: str
    stderr: str


class CommandLineTestCase(EmulatorTestCase):
    ECHO = "import sys\ndef handler(event, context):\n    print('to the log')\n    return event"

    def environment(self, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Of a person; without what a `make test` around us says to its children, its TASK_ROOT for one."""
        self.scratch = self.folder()
        given = {"PATH": os.environ["PATH"], "TMPDIR": self.scratch, **(extra or {})}
        return {name: value for name, value in given.items() if value is not None}

    def run_it(self, *command: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        """Run a command to its end. It must not print a traceback of its own, nor leave a file behind."""
        done = subprocess.run(
            command, input=stdin.encode(), capture_output=True, timeout=30, cwd=PROJECT, env=self.environment(env)
        )
        ran = Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
        self.assertNotIn("tests/emulator/", ran.stderr)
        self.assertEqual(os.listdir(self.scratch), [])
        return ran

    def words(self, *arguments: str) -> list[str]:
        """The command line; of options given twice the last one counts."""
        command = [sys.executable, "-B", "tests/emulator", "invoke"]
        return [*command, "--task-root", self.root, "--handler", "app.handler", *arguments]

    def command(self, *arguments: str, **options: Any) -> Ran:
        return self.run_it(*self.words(*arguments), **options)

    def started(self, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """The same, for tests that have something to do while it runs."""
        return subprocess.Popen(
            self.words(*arguments), bufsize=0, cwd=PROJECT, env=self.environment(),
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
        )  # fmt: skip


class CommandLine(CommandLineTestCase):
    def test_response_to_stdout_and_logs_to_stderr(self) -> None:
        self.app(self.ECHO)
        ran = self.command("--event", '{"a": "ü"}')
        self.assertEqual((ran.status, ran.stdout), (0, '{"a": "ü"}\n'))
        start, output, end, report = ran.stderr.splitlines()
        self.assertEqual(output, "to the log")
        self.assertRegex("\n".join((start, end, report)), r"START .*\nEND .*\nREPORT .*Memory Size: 128 MB")

    def test_what_is_not_json_is_printed_byte_for_byte(self) -> None:
        self.app("def handler(event, context): return b'\\x00no line end'")
        self.assertEqual(self.command().stdout, "\x00no line end")

    def test_functions_that_fail(self) -> None:
        """The error's JSON is what a caller gets; the status tells."""
        rows = {
            "raise ValueError('no')": "ValueError",
            "import os; os._exit(0)": "Runtime.ExitError",
            "import time; time.sleep(60)": "Sandbox.Timedout",
        }
        for code, error in rows.items():
            with self.subTest(code):
                self.app(f"def handler(event, context): {code}")
                ran = self.command("--timeout", "0.5" if "sleep" in code else "20")
                self.assertEqual((ran.status, json.loads(ran.stdout)["errorType"]), (1, error))
        self.app("import missing")
        ran = self.command()
        self.assertEqual((ran.status, json.loads(ran.stdout)["errorType"]), (1, "Runtime.ImportModuleError"))

    def test_an_uncaught_error_is_readable(self) -> None:
        """Lambda keeps its lines together by CR, which would have a terminal write one over the other."""
        self.app("def handler(event, context): return 1 / 0")
        self.assertIn("[ERROR] ZeroDivisionError: division by zero\nTraceback", self.command().stderr)

    def test_where_events_come_from(self) -> None:
        self.app("def handler(event, context): return event")
        path = self.write("an event.json", '\ufeff{"from": "file"}')  # some editors put a byte-order mark there
        rows: list[tuple[tuple[str, ...], str, object]] = [
            (("--event", '"inline"'), "", "inline"),
            (("--event", path), "", {"from": "file"}),
            (("--event", "-"), "[\n1]", [1]),
            ((), "", {}),
        ]
        for arguments, stdin, expected in rows:
            with self.subTest(arguments):
                ran = self.command(*arguments, stdin=stdin)
                self.assertEqual((ran.status, json.loads(ran.stdout)), (0, expected))
        self.write("event.json", '{"from": "beside the function"}')
        self.assertEqual(json.loads(self.command().stdout), {"from": "beside the function"})

    def test_events_one_after_the_other(self) -> None:
        """All to one process; each response on a line; a failure among them is not the end, but the status tells."""
        self.app(
            """
            count = 0
            def handler(event, context):
                global count
                count += 1
                return [count, 1 / event]
            """
        )
        lines = self.write("many.jsonl", "\ufeff1\n\n2\n")
        self.write("a.json", "\n4\n")
        ran = self.command("--events", lines)
        self.assertEqual((ran.status, ran.stdout), (0, "[1, 1.0]\n[2, 0.5]\n"))
        ran = self.command("--events", "many.jsonl a.json")
        self.assertEqual((ran.status, ran.stdout), (0, "[1, 1.0]\n[2, 0.5]\n[3, 0.25]\n"))
        ran = self.command("--events", "-", stdin="0\n2")
        first, second = ran.stdout.splitlines()
        self.assertEqual((ran.status, json.loads(first)["errorType"], second), (1, "ZeroDivisionError", "[2, 0.5]"))
        self.assertEqual(ran.stderr.count("Init Duration"), 1)
        self.app("def handler(event, context):\n    yield {'statusCode': 200 + event}\n    yield 'x'")
        ran = self.command("--events", lines)
        self.assertEqual((ran.stdout, re.findall("HTTP (.*)", ran.stderr)), ("xx", ["201", "202"]))

    def test_an_event_beside_the_function(self) -> None:
        self.app(self.ECHO)
        self.write("my.json", "[5]")
        self.assertEqual(self.command("--event", "my.json").stdout, "[5]\n")

    def test_variables_as_files_have_them(self) -> None:
        """As docker's --env-file and .env files are written."""
        rows: dict[str, dict[str, str]] = {
            "A=1": {"A": "1"},
            "A=": {"A": ""},
            "export A = 1 ": {"A": "1"},
            "A=b=c": {"A": "b=c"},
            "A=pass#word": {"A": "pass#word"},
            "A=1 # one": {"A": "1"},
            "A=# nothing": {"A": ""},
            "A='$x #\\n'  # one": {"A": "$x #\\n"},
            'A="a\\nb \\"c\\" \\$ #"': {"A": 'a\nb "c" $ #'},
            "A=it's": {"A": "it's"},
            "# A=1\n\n  \nB=ü\r\nC=3": {"B": "ü", "C": "3"},
            "OF_OURS\nNOT_OURS": {"OF_OURS": "x"},
            "\ufeffA=1": {"A": "1"},
            "AWS_LAMBDA_RUNTIME_API=elsewhere": {},
        }
        with mock.patch.dict(os.environ, {"OF_OURS": "x"}):
            for text, expected in rows.items():
                with self.subTest(text):
                    Path(self.root, "env").write_bytes(text.encode())
                    self.assertEqual(cli.read_env("env", self.root), expected)
        self.assertEqual(cli.read_env("A=1", self.root), {"A": "1"})
        for text, message in (
            ("A=1\n1A=2", "line 2 of "), ("A='b", "line 1 of "), ('A="b" c', "line 1 of "), ("A=\xff", "is not UTF-8"),
        ):  # fmt: skip
            with self.subTest(text):
                Path(self.root, "env").write_bytes(text.encode("latin-1"))
                self.app(self.ECHO)
                ran = self.in_this_process("--env", "env")
                self.assertEqual((ran.status, ran.stdout), (2, ""))
                self.assertRegex(ran.stderr, f"^emulator: ENV: .*{message}.*\n$")

    def in_terminal(self, *arguments: str, typed: bytes = b"", prompt: bytes = b"", **env: str) -> tuple[bytes, bytes]:
        """What is on a terminal, for which we type once `prompt` is there; and standard output, which is none."""
        ours, theirs = os.openpty()
        try:
            process = subprocess.Popen(
                self.words(*arguments), cwd=PROJECT, env=self.environment(env), stdin=theirs, stdout=subprocess.PIPE,
                stderr=theirs,
            )  # fmt: skip
        finally:
            os.close(theirs)
        seen = b""
        with process, open(ours, "rb", buffering=0) as terminal:
            with suppress(OSError):  # as a terminal ends
                while data := terminal.read(1 << 16):
                    seen += data
                    if prompt and prompt in seen:
                        os.write(ours, typed)
                        prompt = b""
            assert process.stdout
            return seen, process.stdout.read()

    def test_a_debugger(self) -> None:
        """breakpoint() has the terminal, and all the time that it wants."""
        self.app(
            """
            import time
            def handler(event, context):
                secret = 41
                breakpoint()
                time.sleep(0.3)
                return [secret, context.get_remaining_time_in_millis() > 60_000]
            """
        )
        typed = b"secret += 1\np 'now', secret\nc\n"
        seen, stdout = self.in_terminal("--debug", "--timeout=0.1", typed=typed, prompt=b"(Pdb) ")
        self.assertEqual(stdout, b"[42, true]\n", seen)
        self.assertIn(b"('now', 42)", seen)

    def test_colours_are_for_terminals(self) -> None:
        self.app("import logging\ndef handler(event, context): logging.error('no')")
        seen, _ = self.in_terminal()
        self.assertRegex(seen, rb"\x1b\[2mSTART [^\r\n]*\x1b\[m\r?\n\x1b\[31m\[ERROR\]")
        self.assertNotIn(b"\x1b", self.in_terminal(NO_COLOR="1")[0])
        self.assertNotIn("\x1b", self.command().stderr)

    def test_mistakes_are_told_in_one_line(self) -> None:
        """Nothing on stdout, which may be another program's input."""
        self.app(self.ECHO)
        self.write("bad.json", "{")
        Path(self.root, "wide.json").write_text("{}", encoding="utf-16")  # Python's decoder would take it, Lambda not
        rows: list[tuple[tuple[str, ...], str]] = [
            (("--event", "{"), "EVENT is neither JSON nor a file: '{'"),
            (("--event", "NaN"), "EVENT is neither JSON nor a file: 'NaN'"),
            (("--event", "x" * 9000), "EVENT is neither JSON nor a file: 'xxx"),
            (("--event", "no/such/file.json"), "EVENT is neither JSON nor a file: 'no/such/file.json'"),
            (("--event", os.path.join(self.root, "bad.json")), "bad.json is not JSON: "),
            (("--event", os.path.join(self.root, "wide.json")), "wide.json is not JSON: "),
            (("--event", "-"), "standard input is not JSON: "),
            (("--task-root", "no/such/folder"), "TASK_ROOT: there is no folder no/such/folder"),
            (("--handler", "handler"), "HANDLER: 'handler' should read module.function"),
            (("--handler", ""), "HANDLER: '' should read module.function"),
            (("--handler", "missing.handler"), "missing.py for missing.handler"),
            (("--timeout", "soon"), "timeout"),
            (("--timeout", "0"), "timeout"),
            (("--memory", "-1"), "memory"),
            (("--memory", "nan"), "memory"),
            (("--bootstrap", "/no/such/bootstrap"), "cannot start /no/such/bootstrap"),
            (("--events", "no/such/file"), "EVENTS: there is no file no/such/file"),
            (("--events", os.path.join(self.root, "bad.json")), "EVENTS: line 1 of "),
            (("--env", "no/such/file"), "ENV: there is no file no/such/file"),
            (("--layers", f"{self.root}:no/such/folder"), "LAYERS: there is no folder no/such/folder"),
            (("--what",), "--what"),
        ]
        for arguments, message in rows:
            with self.subTest(arguments):
                ran = self.command(*arguments) if "-" in arguments else self.in_this_process(*arguments)
                (line,) = ran.stderr.splitlines()
                self.assertEqual((ran.status, ran.stdout, line.startswith("emulator: ")), (2, "", True))
                self.assertIn(message, line)
                self.assertLess(len(line), 300)

    def in_this_process(self, *arguments: str) -> Ran:
        """The same without a process of its own, which would take most of the time."""
        given = ["emulator", "invoke", "--task-root", self.root, "--handler", "app.handler", *arguments]
        stdout, stderr, status = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch("sys.argv", given),
            mock.patch("signal.signal"),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            try:
                status = cli.main()
            except SystemExit as end:
                status = int(end.code or 0)
        return Ran(status, stdout.getvalue(), stderr.getvalue())

    def test_streams_are_shown_as_they_arrive(self) -> None:
        """The body on stdout at once; status and headers of a prelude on stderr."""
        self.app(
            """
            import os, time
            def handler(event, context):
                yield {"statusCode": 201, "headers": {"content-type": "text/plain"}, "cookies": ["a=b"]}
                yield "one"
                while not os.path.exists("one"): time.sleep(0.005)
                yield "two"
                if event: raise ValueError("enough")
            """
        )
        for event, status in (("0", 0), ("1", 1)):
            with self.started("--timeout=20", f"--event={event}") as process:
                assert process.stdout and process.stderr
                self.assertEqual(process.stdout.read(3), b"one")
                self.write("one")
                self.assertEqual(process.stdout.read(9), b"two")
                logs = process.stderr.read().decode()
            self.assertEqual(process.returncode, status)
            self.assertIn("\nHTTP 201\ncontent-type: text/plain\nset-cookie: a=b\n", logs)
            self.assertEqual("emulator: the stream failed: " in logs, bool(status))
            os.remove(os.path.join(self.root, "one"))

    def test_an_interpreter_by_another_name(self) -> None:
        """The function runs on the Python that runs us, for which a folder is made if need be, and removed."""
        self.app("import os, sys\ndef handler(event, context): return os.path.realpath(sys.executable)")
        python = os.path.join(self.folder(), "snake")
        os.symlink(os.path.realpath(sys.executable), python)
        ran = self.run_it(python, *self.words()[1:])
        self.assertEqual(json.loads(ran.stdout), os.path.realpath(sys.executable))

    def test_it_leaves_nothing_when_it_is_ended(self) -> None:
        self.app(
            """
            import os, subprocess, time
            def handler(event, context):
                print("pids", os.getpid(), subprocess.Popen(["sleep", "60"]).pid)
                time.sleep(60)
            """
        )
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
            with self.subTest(number):
                with self.started("--timeout=60") as process:
                    assert process.stderr
                    process.stderr.readline()  # START
                    pids = [int(word) for word in process.stderr.readline().split()[1:]]
                    process.send_signal(number)
                    self.assertEqual(process.wait(10), status)
                    self.assertNotIn(b"Traceback", process.stderr.read())
                self.assertTrue(until(lambda: not any(alive(pid) for pid in pids), 2))  # noqa: B023
                self.assertEqual(os.listdir(self.scratch), [])

    def test_nobody_reads_on(self) -> None:
        """As in `make -s invoke | head -1`."""
        self.app("def handler(event, context):\n    for _ in range(100): yield 'x' * 100_000")
        reading, writing = os.pipe()
        os.close(reading)
        with self.started(stdout=writing) as process:
            os.close(writing)
            _, logs = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1)
        self.assertNotIn(b"tests/emulator/", logs)
        self.assertNotIn(b"Exception", logs)


@unittest.skipUnless(shutil.which("make"), "there is no make")
class Make(CommandLineTestCase):
    """The same through `make`, whose own view of `$`, quotes and white space must not get in between."""

    def make(self, *variables: str, **options: Any) -> Ran:
        return self.run_it("make", "-s", "invoke", f"PYTHON={sys.executable}", *variables, **options)

    def invoke(self, *variables: str, **options: Any) -> Ran:
        return self.make(f"TASK_ROOT={self.root}", "HANDLER=app.handler", *variables, **options)

    def test_alone_it_shows_the_example(self) -> None:
        ran = self.make()
        self.assertEqual((ran.status, json.loads(ran.stdout)["greeting"]), (0, "Hello, Ada!"))
        self.assertIn("saying hello to Ada", ran.stderr)

    def test_events_reach_the_function_as_they_are(self) -> None:
        self.app(self.ECHO)
        texts = [
            "$HOME ${HOME} $(HOME) $$ $@ $(shell echo oops) `echo oops` $(error oops)",
            'it\'s "quoted" \\ \\\\ \\n % # ; & | < > * ? ~ ! = :=',
            "tab\tand\nlines\n\nü€😀",
            " spaces  ",
        ]
        path = self.write("it's an $HOME event.json", json.dumps(texts, indent=4))
        event = json.dumps(texts, ensure_ascii=False, indent=2)
        for source, stdin in ((event, ""), (path, ""), ("-", event)):
            with self.subTest(source):
                ran = self.invoke(f"EVENT={source}", stdin=stdin)
                self.assertEqual((ran.status, json.loads(ran.stdout)), (0, texts))
                self.assertIn("to the log\n", ran.stderr)
                self.assertEqual(len(ran.stderr.splitlines()), 4, ran.stderr)

    def test_from_the_environment(self) -> None:
        self.app(self.ECHO)
        given = {"TASK_ROOT": self.root, "HANDLER": "app.handler", "EVENT": '{"a": "$HOME"}'}
        self.assertEqual(self.make(env=given).stdout, '{"a": "$HOME"}\n')

    def test_a_folder_with_an_odd_name(self) -> None:
        self.root = os.path.join(self.root, 'it\'s $HOME & "more" #1')
        self.app(self.ECHO)
        ran = self.invoke("EVENT=1")
        self.assertEqual((ran.status, ran.stdout), (0, "1\n"))

    def test_time_out_and_memory(self) -> None:
        self.app(
            "def handler(event, context): return [context.memory_limit_in_mb, context.get_remaining_time_in_millis()]"
        )
        ran = self.invoke("TIMEOUT=70", "MEMORY=300")
        memory, left = json.loads(ran.stdout)
        self.assertEqual(memory, "300")
        self.assertTrue(50_000 < left <= 70_000, left)
        self.assertIn("Memory Size: 300 MB", ran.stderr)
        self.app("import time\ndef handler(event, context): time.sleep(60)")
        ran = self.invoke("TIMEOUT=0.3")
        self.assertIn("Task timed out after 0.30 seconds", json.loads(ran.stdout)["errorMessage"])
        self.assertNotEqual(ran.status, 0)

    def test_variables_and_layers(self) -> None:
        """A shell's ENV, which is another thing, and what happens to be called DEBUG do not count."""
        self.app(
            "import os, own\ndef handler(event, context): return [own.x, os.environ['A'], os.environ.get('AWS_B')]"
        )
        self.write("layer/python/own.py", "x = 1")
        variables = ["ENV=A=$b 'c'", f"LAYERS={self.root}/layer"]
        self.assertEqual(json.loads(self.invoke(*variables, env={"AWS_B": "2"}).stdout), [1, "$b 'c'", "2"])
        self.app("import time\ndef handler(event, context): time.sleep(60)")
        ran = self.invoke("TIMEOUT=0.3", env={"ENV": "production", "DEBUG": "app:*"})
        self.assertEqual(json.loads(ran.stdout)["errorType"], "Sandbox.Timedout")

    def test_events(self) -> None:
        self.app(self.ECHO)
        self.write("many.jsonl", "1\n2\n")
        self.assertEqual(self.invoke("EVENTS=many.jsonl").stdout, "1\n2\n")

    @unittest.skipUnless(shutil.which("curl"), "there is no curl")
    def test_a_runtime_of_ten_lines(self) -> None:
        """Somebody else's, which may not even be Python."""
        shell = self.write(
            "boot",
            """\
            #!/bin/sh
            api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
            while true; do
                event=$(curl -sS -D head "$api/next")
                id=$(tr -d '\\r' <head | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p')
                curl -sS "$api/$id/response" -d "{\\"got\\": $event}" >/dev/null
            done
            """,
            0o755,
        )
        self.app("")
        ran = self.invoke(f"BOOTSTRAP={shell}", "EVENT=5")
        self.assertEqual((ran.status, ran.stdout), (0, '{"got": 5}'), ran.stderr)

    def test_functions_that_fail(self) -> None:
        self.app("def handler(event, context): raise ValueError('no')")
        ran = self.invoke()
        self.assertNotEqual(ran.status, 0)
        self.assertEqual(json.loads(ran.stdout)["errorType"], "ValueError")

    def test_mistakes_are_told_in_one_line(self) -> None:
        """Beside the one in which make says that it failed."""
        self.app(self.ECHO)
        rows = {
            "EVENT={'a': 1}": "EVENT is neither JSON nor a file: ",
            "TASK_ROOT=no/such/folder": "TASK_ROOT: there is no folder no/such/folder",
            "TASK_ROOT=": "TASK_ROOT: ",
            "HANDLER=missing.handler": "missing.py",
            "HANDLER=": "HANDLER: '' should read module.function",
            "TIMEOUT=soon": "soon",
            "TIMEOUT=": "timeout",
            "MEMORY=much": "much",
        }
        for variable, message in rows.items():
            with self.subTest(variable):
                ran = self.invoke(variable)
                (line,) = [line for line in ran.stderr.splitlines() if not line.startswith("make")]
                self.assertNotEqual(ran.status, 0)
                self.assertEqual(ran.stdout, "")
                self.assertIn(message, line)


@unittest.skipUnless(shutil.which("make"), "there is no make")
class Cases(CommandLineTestCase):
    """What people have reported, of this and of other local Lambdas."""

    def make(self, *variables: str, python: str = sys.executable, **options: Any) -> Ran:
        return self.run_it("make", "-s", "invoke", f"PYTHON={python}", f"TASK_ROOT={self.root}", *variables, **options)

    def test_invoke_env_file(self) -> None:
        """The function's variables are there when it is imported."""
        self.app("import os\nTABLE = os.environ['TABLE_NAME']\ndef handler(event, context): return TABLE")
        variables = os.path.join(self.folder(), "variables")
        self.write(variables, "TABLE_NAME=orders\nOTHER=1\n")
        self.assertEqual(self.make(f"ENV={variables}", "EVENT={}").stdout, '"orders"\n')

    def test_invoke_env_file_missing(self) -> None:
        self.app("def handler(event, context): return 1")
        ran = self.make("ENV=/nowhere/variables", "EVENT={}")
        self.assertNotEqual(ran.status, 0)
        self.assertIn("ENV: there is no file /nowhere/variables", ran.stderr)
        self.assertEqual(ran.stdout, "")

    def test_invoke_sigterm_handler_no_warning(self) -> None:
        """And the handler is called, as the runtime has registered itself for that."""
        self.app(
            """
            import os, signal, sys
            signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"the end\\n"), sys.exit(0)))
            def handler(event, context): return "ok"
            """
        )
        ran = self.make("EVENT={}")
        self.assertEqual((ran.status, ran.stdout), (0, '"ok"\n'))
        self.assertEqual([line.split(" ")[0] for line in ran.stderr.splitlines()], ["START", "END", "REPORT", "the"])

    def test_invoke_instances_once(self) -> None:
        """Three processes, and an event for one of them."""
        for kind in ("def", "async def"):
            self.app(f"{kind} handler(event, context):\n    print('charged')\n    return 'ok'")
            ran = self.make("EVENT={}", env={"AWS_LAMBDA_MAX_CONCURRENCY": "3"})
            self.assertEqual((ran.status, ran.stdout), (0, '"ok"\n'))
            self.assertEqual(ran.stderr.count("charged"), 1)

    def test_invoke_snap_start(self) -> None:
        self.app("def handler(event, context): return 'ok'")
        ran = self.make("EVENT={}", env={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})
        self.assertEqual((ran.status, ran.stdout), (0, '"ok"\n'))

    def test_invoke_snap_start_hooks(self) -> None:
        """In their order, then the handler; and a failing one is the function's failure."""
        self.write(
            "snapshot_restore_py.py",
            """
            hooks = [], []
            def register_before_snapshot(f, *a, **k): hooks[0].insert(0, (f, a, k))
            def register_after_restore(f, *a, **k): hooks[1].append((f, a, k))
            def get_before_snapshot(): return hooks[0]
            def get_after_restore(): return hooks[1]
            """,
        )
        self.app(
            """
            import time
            from snapshot_restore_py import register_after_restore, register_before_snapshot
            calls = []
            register_before_snapshot(lambda: calls.append(["before", time.monotonic()]))
            register_after_restore(lambda: calls.append(["after", time.monotonic()]))
            def handler(event, context): return calls
            """
        )
        snap_start = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
        ran = self.make("EVENT={}", env=snap_start)
        (first, before), (second, after) = json.loads(ran.stdout)
        self.assertEqual((ran.status, first, second), (0, "before", "after"))
        self.assertGreaterEqual(after - before, emulator.SNAPSHOT, "there is a pause between them")
        for kind, error in (("before_snapshot", "BeforeSnapshotError"), ("after_restore", "AfterRestoreError")):
            self.app(f"import snapshot_restore_py as s\ns.register_{kind}(lambda: 1 / 0)\ndef handler(e, c): return 1")
            ran = self.make("EVENT={}", env=snap_start)
            self.assertNotEqual(ran.status, 0)
            self.assertIn(f"Error Type: Runtime.{error}", ran.stderr)

    def test_python_3_8_make_invoke(self) -> None:
        """One line, soon, from any Python that is too old: those that are here, and one that pretends."""
        self.app(self.ECHO)
        pretend = "import runpy, sys; sys.version_info = (3, 8, 18); sys.argv = sys.argv[2:]; sys.path.insert(0, '')"
        pretend += "; runpy.run_path(sys.argv[0], run_name='__main__')"
        with tempfile.TemporaryDirectory() as folder:  # whose name has no space: PYTHON may be several words
            pretender = self.write(f"{folder}/old", f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}" "$@"\n', 0o755)
            for python in (pretender, *map("python3.{}".format, range(9))):
                found = shutil.which(python) and subprocess.run([python, "-Bc", ""], capture_output=True)
                if python == pretender or (found and found.returncode == 0):
                    with self.subTest(python):
                        ran = self.make(python=python)
                        (line,) = [line for line in ran.stderr.splitlines() if not line.startswith("make")]
                        self.assertRegex(line, r"^emulator: Python 3\.9 or newer is needed, and .* is 3\.[0-8]$")
                        self.assertNotEqual(ran.status, 0)

    @unittest.skipUnless(shutil.which("git"), "there is no git")
    def test_windows_clone_make_invoke(self) -> None:
        """A clone whose lines end as Git for Windows has them by default, used under WSL or in an image."""
        origin, clone = self.folder(), os.path.join(self.folder(), "clone")
        for name in ("Makefile", "bootstrap", "runtime.py", ".gitattributes"):
            shutil.copy(PROJECT / name, origin)
        for name in ("emulator", "examples"):
            shutil.copytree(PROJECT / "tests" / name, f"{origin}/tests/{name}")
        commands = ["init -q", "add -A", "-c user.name=x -c user.email=x commit -qm x"]
        env = self.environment({"HOME": self.folder(), "GIT_CONFIG_NOSYSTEM": "1"})
        for command in commands:
            subprocess.run(["git", *command.split()], cwd=origin, env=env, check=True)
        subprocess.run(["git", "-c", "core.autocrlf=true", "clone", "-q", origin, clone], env=env, check=True)
        done = subprocess.run(
            ["make", "-s", "invoke", f"PYTHON={sys.executable}"], cwd=clone, env=env, capture_output=True, timeout=30
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["greeting"], "Hello, Ada!")


if __name__ == "__main__":
    unittest.main()
