#!/usr/bin/env python3
# SPDX-License-Identifier: MIT-0
"""A local Lambda in one file, with nothing but the standard library.

    python3 tests/emulator/emulator.py invoke --task-root tests/examples/hello --handler app.handler --event '{"a": 1}'

    with Emulator("tests/examples/hello", "app.handler", timeout=3) as function:
        result = function.invoke({"name": "Ada"})
        result.payload, result.error, result.duration_ms, function.log, function.requests

Theory of operation. A `Sandbox` is one process, `bootstrap`, and the Runtime API that it talks to, on a port of its
own. What the API answers depends on the sandbox's state and on nothing else: section 1 is a table of all of that. Each
connection has a thread, which reads requests and follows the table. `Emulator.invoke` is the other side: it hands an
event to a sandbox, sleeps until the state says that the invocation is over (or the time is, or the process), and
returns a `Result`. A sandbox that failed is thrown away, and the next event gets a new one. `Sandbox.changed`, a
condition variable, guards the state and wakes whoever waits for it.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import argparse
import base64
import glob
import json
import math
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, NoReturn

# ─── 1. The Runtime API as a state machine ──────────────────────────────────────────────────────────────────
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

# States of a runtime, under the names that AWS's own emulator puts into its error messages.
STARTED, INIT_FAILED, READY, RUNNING = "Started", "InitError", "Ready", "Running"
RESPONDING, FAILING, ANSWERED = "InvocationResponse", "InvocationErrorResponse", "RuntimeResponseSentState"
TIMED_OUT = "InvokeTimeout"

# What can happen: the head of a request arrives from the runtime ...
NEXT, RESPONSE, ERROR, INIT_ERROR = "next", "response", "error", "init/error"
# ... or its body does, or not as it should; an event is handed out; the time is up.
BODY, TOO_LARGE, ODD_MODE, CUT, STREAM_CUT = "body", "too large", "odd mode", "cut", "stream cut"
EVENT, DEADLINE = "event", "deadline"


class Step(NamedTuple):
    """Where something leads: the HTTP status (0: nobody waits for one), the next state, the error's type."""

    status: int
    state: str
    error: str = ""


TABLE: dict[tuple[str, str], Step] = {
    (STARTED, NEXT): Step(200, READY),
    (STARTED, INIT_ERROR): Step(202, INIT_FAILED),
    (READY, NEXT): Step(200, READY),  # its connection was lost: the latest poll gets the event
    (READY, EVENT): Step(0, RUNNING),
    (RUNNING, NEXT): Step(200, RUNNING),  # lost while the event was on its way: the same event again
    (RUNNING, RESPONSE): Step(202, RESPONDING),
    (RUNNING, ERROR): Step(202, FAILING),
    (RESPONDING, BODY): Step(202, ANSWERED),
    (RESPONDING, TOO_LARGE): Step(413, ANSWERED, "RequestEntityTooLarge"),
    (RESPONDING, ODD_MODE): Step(400, RESPONDING, "InvalidFunctionResponseMode"),
    # After a cut body AWS's emulator refuses everything for good. What Lambda does is not documented; here the
    # runtime may send it again, unless the caller has seen a part of it already.
    (RESPONDING, CUT): Step(0, RUNNING),
    (RESPONDING, STREAM_CUT): Step(0, ANSWERED),
    (FAILING, BODY): Step(202, ANSWERED),
    (FAILING, CUT): Step(0, RUNNING),
    (ANSWERED, NEXT): Step(200, READY),  # not before this is an invocation over
    **{(state, DEADLINE): Step(0, TIMED_OUT) for state in (RUNNING, RESPONDING, FAILING, ANSWERED)},
    **{(TIMED_OUT, late): Step(410, TIMED_OUT, "InvokeTimeout") for late in (RESPONSE, ERROR, BODY, TOO_LARGE)},
}

MAX_RESPONSE = 6 * 1024 * 1024 + 100  # bytes of a buffered response
MESSAGES = {
    "InvalidRequestID": "Invalid request ID",
    "InvalidStateTransition": "State transition from {} to {} failed for runtime. "
    "Error: State transition is not allowed",
    "InvalidFunctionResponseMode": "Invalid function response mode",
    "RequestEntityTooLarge": f"Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes).",
    "InvokeTimeout": "Invoke timeout",
}
WANTED = {NEXT: READY, RESPONSE: RESPONDING, ERROR: FAILING, INIT_ERROR: INIT_FAILED}  # the state that a call is after

ROUTES = (
    (NEXT, "GET", re.compile("/2018-06-01/runtime/invocation/next")),
    (RESPONSE, "POST", re.compile("/2018-06-01/runtime/invocation/([^/]*)/response")),
    (ERROR, "POST", re.compile("/2018-06-01/runtime/invocation/([^/]*)/error")),
    (INIT_ERROR, "POST", re.compile("/2018-06-01/runtime/init/error")),
)


def step(state: str, call: str, current: bool = True) -> Step:
    """What `call` leads to in `state`. `current`: it is about the invocation in work, by its request id."""
    if not current:
        return Step(400, state, "InvalidRequestID")
    return TABLE.get((state, call)) or Step(403, state, "InvalidStateTransition")


def error_json(error: str, state: str, call: str) -> bytes:
    """The body of an answer that refuses `call`, byte for byte as AWS's emulator writes it."""
    message = MESSAGES[error].format(state, WANTED.get(call))
    return compact_json(errorMessage=message, errorType=error) + b"\n"


def compact_json(**members: str) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


# ─── 2. HTTP, as strict as it can be ────────────────────────────────────────────────────────────────────────
# https://www.rfc-editor.org/rfc/rfc9112

HEAD_LIMIT = 1 << 20  # bytes of a request's head; the X-Ray cause may take nearly all of it
DISCARD_LIMIT = 1 << 18  # bytes of an unwanted body that are read to keep a connection, as by AWS's emulator
REASONS = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    410: "Gone", 413: "Request Entity Too Large", 431: "Request Header Fields Too Large", 501: "Not Implemented",
    505: "HTTP Version Not Supported",
}  # fmt: skip
REQUEST_LINE = re.compile(rb"([A-Z]+) (/[^\s]*) (HTTP/\d\.\d)")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")
JSON, TEXT = {"Content-Type": "application/json"}, {"Content-Type": "text/plain; charset=utf-8"}


class Refused(Exception):
    """A request that is not HTTP as we want it. Its arguments: the status, and what is wrong."""


@dataclass
class Request:
    """A request of the runtime. Names of headers and trailers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    keep: bool  # the connection open after it
    connection: int  # the port at the other end, which tells connections apart
    at: float  # time.monotonic() when the head had arrived
    body: bytes = b""  # not of a stream: that is in the Result
    trailers: dict[str, str] = field(default_factory=dict)


class Connection:
    """One connection of a runtime: requests are read from it, and each gets one answer."""

    def __init__(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        self.sock, self.port, self.reader = sock, peer[1], sock.makefile("rb")
        self.body: Iterator[bytes] = iter(())  # of the latest request, as it arrives, chunk by chunk

    def next_request(self) -> Request | None:
        """Read the head of the next request; None at the end. Raises Refused, and OSError if it is cut."""
        self._room = HEAD_LIMIT
        if not self.reader.peek(1):
            return None
        match = REQUEST_LINE.fullmatch(self._line())
        if not match:
            raise Refused(400, "malformed request line")
        method, path, version = (part.decode("latin-1") for part in match.groups())
        if version != "HTTP/1.1":
            raise Refused(505, "unsupported protocol version")
        headers = self._fields()
        if not headers.get("host"):
            raise Refused(400, "missing required Host header")
        keep = "close" not in headers.get("connection", "").lower()
        request = Request(method, path, headers, keep, self.port, time.monotonic())

        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None and length is not None:
            raise Refused(400, "both Content-Length and Transfer-Encoding")
        if coding not in (None, "chunked"):
            raise Refused(501, "unsupported transfer encoding")
        if not re.fullmatch("[0-9]{1,18}", length or "0"):
            raise Refused(400, "malformed Content-Length")
        self.body = self._chunks(request) if coding else self._pieces(int(length or 0))
        return request

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], keep: bool) -> bool:
        """Send an answer; `keep`: the connection may stay open. Returns whether it does."""
        last = not keep or not self._discard()
        lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
        lines += [f"Content-Length: {len(body)}", *(["Connection: close"] if last else []), "", ""]
        self.sock.sendall("\r\n".join(lines).encode("utf-8", "surrogateescape") + body)
        if last:  # closing with bytes unread is a reset; as in AWS's emulator, the answer gets through first
            self.sock.shutdown(socket.SHUT_WR)
            time.sleep(0.5)
        return not last

    def cut(self) -> None:
        """End the connection from another thread than its own."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.reader.close()
        self.sock.close()

    def _discard(self) -> bool:
        """Read past what is left of the body; False if that is too much."""
        left = DISCARD_LIMIT
        for piece in self.body:
            left -= len(piece)
            if left < 0:
                return False
        return True

    def _line(self) -> bytes:
        line = self.reader.readline(self._room + 1)
        self._room -= len(line)
        if self._room < 0:
            raise Refused(431, "the head of the request is too large")
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection ended within a line")
        if not line.endswith(b"\r\n"):
            raise Refused(400, "a line must end in CR LF")
        return line[:-2]

    def _fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        while line := self._line():
            match = FIELD.fullmatch(line)
            if not match:
                raise Refused(400, "malformed header")
            name, value = match[1].decode("ascii").lower(), match[2].decode("utf-8", "surrogateescape")
            if name in fields and name in ("host", "content-length", "transfer-encoding"):
                raise Refused(400, f"more than one {name}")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return fields

    def _pieces(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self._exactly(min(length, 1 << 16))
            length -= len(piece)
            yield piece

    def _chunks(self, request: Request) -> Iterator[bytes]:
        while True:
            self._room = HEAD_LIMIT
            match = CHUNK_SIZE.fullmatch(self._line())
            if not match:
                raise Refused(400, "malformed chunk size")
            size = int(match[1], 16)
            if not size:
                break
            chunk = self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Refused(400, "a chunk must be as long as it says")
            yield chunk
        request.trailers = self._fields()
        announced = re.split(r"\s*,\s*", request.headers.get("trailer", "").lower())
        if not set(request.trailers) <= set(announced):
            raise Refused(400, "a trailer that was not announced")

    def _exactly(self, size: int) -> bytes:
        data = self.reader.read(size)
        if len(data) < size:
            raise ConnectionError("the connection ended within a body")
        return data


# ─── 3. What becomes of an invocation ───────────────────────────────────────────────────────────────────────
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html

HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8  # between the prelude of such a stream and its body


class Prelude(NamedTuple):
    """Status and headers of a streamed HTTP response."""

    status: int
    headers: dict[str, str]
    cookies: list[str]


class HungUp(Exception):
    """The caller of the function does not want the rest of a stream."""


@dataclass
class Result:
    """What one invocation came to.

    `payload` is what a caller of Lambda gets: the response, or the error's JSON. `error` is "" or the error's type, and
    `error_payload` its JSON; that is not the payload if the caller had got a response, or a part of it, before.
    """

    request_id: str
    payload: bytes = b""
    content_type: str = ""
    error: str = ""
    error_payload: bytes = b""
    streamed: bool = False
    prelude: Prelude | None = None
    chunks: list[tuple[float, bytes]] = field(default_factory=list)  # of a stream, each with its time.monotonic()
    duration_ms: float = 0.0
    init_ms: float | None = None  # None unless the process was started for it
    memory_mb: int = 0  # the process's peak so far; 0 if that is not known
    log: str = ""  # all that came out since the invocation before
    on_chunk: Callable[[Result, bytes], object] | None = field(default=None, repr=False)
    broken: BaseException | None = field(default=None, repr=False)  # what on_chunk raised
    truncated: str = field(default="", repr=False)  # why a stream has no end
    _head: bytes = field(default=b"", repr=False)  # of a prelude that has not ended yet

    def json(self) -> Any:
        return json.loads(self.payload)

    def fail(self, error: str, payload: bytes) -> None:
        """Note an error: the first one counts, and what the caller has got by then is not taken back."""
        if not self.error:
            self.error, self.error_payload = error, payload
            if not self.streamed and not self.payload:
                self.payload = payload

    def crash(self, error: str, reason: str) -> str:
        """Note an error that the function itself cannot report; returns the message."""
        message = f"RequestId: {self.request_id} Error: {reason}"
        self.fail(error, compact_json(errorType=error, errorMessage=message))
        return message

    def feed(self, chunk: bytes) -> None:
        """Take a chunk of a stream. Raises HungUp if the caller has."""
        if self.on_chunk is None:
            self.chunks.append((time.monotonic(), chunk))
        if self.error:
            return
        if self.content_type == HTTP_INTEGRATION and self.prelude is None:
            self._head += chunk
            head, separator, chunk = self._head.partition(SEPARATOR)
            if not separator:
                return
            try:
                self.prelude = read_prelude(head)
            except ValueError as error:
                self.crash("Emulator.InvalidStream", str(error))
                return
        if self.on_chunk is not None:
            try:
                self.on_chunk(self, chunk)
            except BaseException as exception:
                self.broken = exception
                raise HungUp from exception

    def end_stream(self, trailers: Mapping[str, str]) -> None:
        """Note how a stream ended."""
        error, body = (trailers.get(f"lambda-runtime-function-error-{part}", "") for part in ("type", "body"))
        if error:
            try:
                self.fail(error, base64.b64decode(body, validate=True))
            except ValueError:
                self.crash("Emulator.InvalidStream", f"the error body in its trailers is not base64: {body}")
        elif self.content_type == HTTP_INTEGRATION and self.prelude is None:
            self.crash("Emulator.InvalidStream", "it ended before the 8 NULs after its prelude")


def read_prelude(head: bytes) -> Prelude:
    """Parse what stands before the 8 NULs. Raises ValueError."""
    value = json.loads(head)
    if isinstance(value, dict) and set(value) == {"statusCode", "headers", "cookies"}:
        status, headers, cookies = value["statusCode"], value["headers"], value["cookies"]
        sound = type(status) is int and isinstance(headers, dict) and isinstance(cookies, list)
        if sound and all(isinstance(text, str) for text in (*headers.values(), *cookies)):
            return Prelude(status, headers, cookies)
    raise ValueError('its prelude is not {"statusCode": int, "headers": {str: str}, "cookies": [str]}')


def error_type(request: Request) -> str:
    """The type of a posted error: as the header has it, or else the body."""
    error = request.headers.get("lambda-runtime-function-error-type")
    with suppress(ValueError, AttributeError):
        error = error or json.loads(request.body).get("errorType")
    return str(error or "Unhandled")


def exit_reason(status: int) -> str:
    """How a process ended, in Lambda's words."""
    if status == 0:
        return "Runtime exited without providing a reason"
    if status > 0:
        return f"Runtime exited with error: exit status {status}"
    return f"Runtime exited with error: signal: {(signal.strsignal(-status) or str(-status)).lower()}"


# ─── 4. The sandbox: a process, and the Runtime API that it talks to ────────────────────────────────────────


class Sandbox:
    """One process of the runtime, in a process group of its own, from its start to its end.

    `requests` gets all that it asks of the API, `log` all that it writes. There is one state, and one invocation in
    work; Managed Instances will need several, found by request id.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: str, *, memory: int,
        requests: list[Request], log: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        self.changed = threading.Condition()
        self.state = STARTED
        self.result = Result("")  # of the invocation in work, or of the latest
        self.event = b""
        self.headers: dict[str, str] = {}  # that go with the event
        self.init_ms: float | None = None  # when init is over, one way or the other
        self.init_error: tuple[str, bytes] | None = None
        self.exit_status: int | None = None  # -9 for SIGKILL, as in subprocess
        self.peak_kib = 0
        self._memory, self._requests, self._log = memory, requests, log
        self._log_lock = threading.Lock()
        self._join_lock = threading.Lock()
        self._poll: Connection | None = None  # the one that gets the event
        self._connections: set[Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        self.started = time.monotonic()
        self.api = f"127.0.0.1:{self._listener.getsockname()[1]}"
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, env={"AWS_LAMBDA_RUNTIME_API": self.api, **env}, cwd=cwd, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError:
            self._listener.close()
            raise
        self.pid = self._process.pid
        assert self._process.stdout
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        jobs = self._reap, self._follow_log, self._accept
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    # The process.

    def wait(self, done: Callable[[], bool], until: float) -> str:
        """Wait until `done()`, and return ""; or why not: "exit", "time", "memory"."""
        with self.changed:
            while not done():
                left = until - time.monotonic()
                if self.exit_status is not None:
                    return "exit"
                if left <= 0:
                    return "time"
                if not self.changed.wait(min(left, 0.05)) and self.memory_kib() > self._memory * 1024:
                    return "memory"
        return ""

    def memory_kib(self) -> int:
        """Resident memory now; notes the peak on the way. 0 where there is no /proc."""
        with suppress(OSError), open(f"/proc/{self.pid}/status", "rb") as status:
            sizes = dict(re.findall(rb"(VmHWM|VmRSS):\s*(\d+)", status.read()))
            self.peak_kib = max(self.peak_kib, int(sizes.get(b"VmHWM", 0)))
            return int(sizes.get(b"VmRSS", 0))
        return 0

    def drain(self) -> bool:
        """Log what the process has written up to now. False when nothing can come any more."""
        with self._log_lock, suppress(BlockingIOError):
            for _ in range(32):  # times 64 KiB is more than a pipe can hold: enough even if it is never empty
                data = b"" if self._output.closed else os.read(self._output.fileno(), 1 << 16)
                if not data:
                    return False
                self._log(data)
        return True

    def stop(self, grace: float = 0.0) -> None:
        """End the process and what it has started: SIGTERM first if there are `grace` seconds, then SIGKILL."""
        self.memory_kib()
        with self.changed:
            if grace:
                self._signal(signal.SIGTERM)
                self.changed.wait_for(lambda: self.exit_status is not None, grace)
            self._signal(signal.SIGKILL)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close() alone would not wake accept()
        self._listener.close()
        with self._join_lock:  # two that wait for the same thread are one too many for PyPy
            for thread in self._threads:
                thread.join()
        for connection in list(self._connections):
            connection.cut()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if self.exit_status is None:
                os.killpg(self.pid, number)

    def _reap(self) -> None:
        _, status, usage = os.wait4(self.pid, 0)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # those that it left behind
        with self.changed:
            self.exit_status = self._process.returncode = os.waitstatus_to_exitcode(status)
            # Second choice, because it starts with what our own process had when it forked.
            self.peak_kib = self.peak_kib or usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
            self.changed.notify_all()

    def _follow_log(self) -> None:
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        while self.exit_status is None:  # and not until the pipe ends: somebody may have inherited it
            if poll.poll(100) and not self.drain():
                break
        with self.changed:
            self.changed.wait_for(lambda: self.exit_status is not None)
        self.drain()
        with self._log_lock:
            self._output.close()

    # The Runtime API.

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = Connection(*self._listener.accept())
                self._connections.add(connection)
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: Connection) -> None:
        try:
            while request := connection.next_request():
                self._requests.append(request)
                status, body, headers = self._answer(connection, request)
                if not connection.answer(status, body, headers, request.keep):
                    break
        except Refused as refused:
            status, reason = refused.args
            self._log(f"emulator: a request of the runtime was refused: {reason}\n".encode())
            with suppress(OSError):
                connection.answer(status, reason.encode(), TEXT, keep=False)
        except (OSError, HungUp):
            pass
        finally:
            self._connections.discard(connection)
            connection.close()

    def _answer(self, connection: Connection, request: Request) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers for a request. Raises Refused, HungUp, or OSError if nobody waits for them."""
        for call, method, pattern in ROUTES:
            match = pattern.fullmatch(request.path.partition("?")[0])
            if match and request.method != method:
                return 405, b"", {"Allow": method}
            if match and call == NEXT:
                return self._give(connection)
            if match:
                return (*self._take(connection, request, call, *match.groups()), JSON)
        return 404, b"404 page not found\n", TEXT

    def _give(self, connection: Connection) -> tuple[int, bytes, Mapping[str, str]]:
        """Answer `next`, once there is an event."""
        with self.changed:
            status, body = self.step(NEXT)
            if status != 200:
                return status, body, JSON
            if self.init_ms is None:
                self.init_ms = (time.monotonic() - self.started) * 1000
            self._poll = connection
            self.changed.wait_for(
                lambda: self.state != READY or self._poll is not connection or self.exit_status is not None
            )
            if self.state != RUNNING or self._poll is not connection:
                raise ConnectionError("a later poll has taken over, or the process is gone")
            return 200, self.event, self.headers

    def _take(self, connection: Connection, request: Request, call: str, request_id: str = "") -> tuple[int, bytes]:
        """Take what the runtime posts; status and body of the answer."""
        result, headers = self.result, request.headers
        nonce = headers.get("lambda-runtime-invocation-id")
        if nonce is not None and nonce != self.headers.get("Lambda-Runtime-Invocation-Id"):
            return 410, error_json("InvokeTimeout", self.state, call)
        in_work = self.state not in (STARTED, INIT_FAILED, READY) and request_id == result.request_id
        status, answer = self.step(call, current=call == INIT_ERROR or in_work)
        if status != 202:
            return status, answer
        mode = headers.get("lambda-runtime-function-response-mode")
        if call == RESPONSE and mode is not None:
            if mode.lower() != "streaming":
                return self.step(ODD_MODE)
            result.streamed, result.content_type = True, headers.get("content-type", "")
        body = bytearray()
        try:
            for piece in connection.body:
                if result.streamed:
                    result.feed(piece)
                else:
                    body += piece
                if call == RESPONSE and len(body) > MAX_RESPONSE:
                    reason = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
                    too_large = "Function.ResponseSizeTooLarge"
                    result.fail(too_large, compact_json(errorType=too_large, errorMessage=reason))
                    return self.step(TOO_LARGE)
        except (OSError, Refused, HungUp) as error:
            result.truncated = "" if isinstance(error, HungUp) else f"it was cut off: {error}"
            self.step(STREAM_CUT if result.streamed else CUT)
            raise
        request.body = bytes(body)
        with self.changed:
            if call == INIT_ERROR:
                self.init_error = error_type(request), request.body
                return status, answer
            status, answer = self.step(BODY)
            if status == 202 and result.streamed:
                result.end_stream(request.trailers)
            elif status == 202 and call == ERROR:
                result.fail(error_type(request), request.body)
            elif status == 202:
                result.payload, result.content_type = request.body, headers.get("content-type", "")
        return status, answer

    def step(self, call: str, current: bool = True) -> tuple[int, bytes]:
        """Follow the table; status and body of the answer."""
        with self.changed:
            before = self.state
            status, self.state, error = step(before, call, current)
            self.changed.notify_all()
        return status, error_json(error, before, call) if error else b'{"status":"OK"}\n'


# ─── 5. Lambda ──────────────────────────────────────────────────────────────────────────────────────────────

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class EmulatorError(Exception):
    """The function cannot be started at all. Its text is one line that says why."""


class Emulator:
    """A Lambda function on this machine. To be used in a `with` statement, as it owns processes.

    `timeout` and `init_timeout` are in seconds, `memory` in MB: a process that takes more is killed (where there is a
    /proc to tell). `bootstrap` is an executable, or a command line. `env` goes on top of Lambda's environment; None
    takes a variable away. `show` is called with all logs as they come, as bytes. `requests` are all that the runtime
    made, in the order in which they came.
    """

    def __init__(
        self, task_root: str, handler: str, *, timeout: float = 3, memory: int = 128, init_timeout: float = 10,
        env: Mapping[str, str | None] | None = None, bootstrap: str | Sequence[str] = os.path.join(REPO, "bootstrap"),
        show: Callable[[bytes], object] | None = None,
    ) -> None:  # fmt: skip
        self.task_root, self.handler = os.path.abspath(task_root), handler
        self.timeout, self.memory, self.init_timeout = timeout, memory, init_timeout
        self.env = dict(env or {})
        self.command = [os.path.abspath(bootstrap)] if isinstance(bootstrap, str) else list(bootstrap)
        self.name = re.sub(r"[^\w-]", "-", os.path.basename(self.task_root), flags=re.ASCII)[:64] or "function"
        self.requests: list[Request] = []
        self._show, self._log, self._log_lock = show, bytearray(), threading.RLock()
        self._told = 0  # how much of the log is in a Result
        self._sandbox: Sandbox | None = None
        self._turn = threading.Lock()  # whose event it is
        self._scratch: str | None = None

    def __enter__(self) -> Emulator:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the function as Lambda ends an environment: SIGTERM, 300 ms, SIGKILL."""
        if self._sandbox:
            self._sandbox.stop(grace=0.3)
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def log(self) -> str:
        """All that the function wrote up to now, with the lines that Lambda adds."""
        if self._sandbox:
            self._sandbox.drain()
        with self._log_lock:
            return self._log.decode("utf-8", "replace")

    @property
    def pid(self) -> int | None:
        """The runtime's process, or None when there is none."""
        return self._sandbox.pid if self._sandbox and self._sandbox.exit_status is None else None

    @property
    def exit_status(self) -> int | None:
        """How the latest process ended (-9 for SIGKILL), or None while it runs."""
        return self._sandbox.exit_status if self._sandbox else None

    def invoke(
        self, event: object = b"{}", *, client_context: object = None, headers: Mapping[str, str | None] | None = None,
        on_chunk: Callable[[Result, bytes], object] | None = None,
    ) -> Result:  # fmt: skip
        """Run the function on one event (bytes go as they are, anything else as JSON) and wait until that is over.

        `headers` replace those that come with an event, or take them away (None). `on_chunk(result, data)` is called as
        a stream arrives; `data` is of the body and not kept, a prelude is in `result.prelude`. If it raises, we hang up
        on the runtime as Lambda does when its caller has, and `invoke` raises the same in the end.
        """
        result = Result(str(uuid.uuid4()), on_chunk=on_chunk)
        with self._turn:
            sandbox = self._sandbox
            if sandbox is None or (sandbox.exit_status is not None and sandbox.init_ms is not None):
                sandbox = self._start()
            first = sandbox.result.request_id == ""
            ending = self._init(sandbox, result)
            self._say(f"START RequestId: {result.request_id} Version: $LATEST")
            if not ending:
                sandbox.event = event if isinstance(event, bytes) else json.dumps(event).encode()
                sandbox.headers = self._headers(result.request_id, client_context, headers or {})
                ending = self._work(sandbox, result)
            result.init_ms = sandbox.init_ms if first else None
            self._report(sandbox, result, ending)
        if result.broken:
            raise result.broken
        return result

    # The life of an environment: start, init, one event after the other. An ending is what REPORT says of a failure.

    def _start(self) -> Sandbox:
        if not os.path.isdir(self.task_root):
            raise EmulatorError(f"the task root is not a folder: {self.task_root}")
        if self._sandbox:
            self._sandbox.stop()
        try:
            self._sandbox = Sandbox(
                self.command, self._environment(), self.task_root,
                memory=self.memory, requests=self.requests, log=self._write,
            )  # fmt: skip
        except OSError as error:
            raise EmulatorError(f"cannot start {self.command[0]}: {error.strerror}") from None
        return self._sandbox

    def _init(self, sandbox: Sandbox, result: Result) -> str:
        """Wait until the runtime asks for its first event."""
        until = sandbox.started + self.init_timeout
        why = sandbox.wait(lambda: sandbox.init_ms is not None or sandbox.init_error is not None, until)
        if sandbox.init_ms is not None:
            return ""
        if sandbox.init_error:
            sandbox.wait(lambda: False, until)  # it has something to log, perhaps, before it exits
            sandbox.stop()
            result.fail(*sandbox.init_error)
            ending = f"\tStatus: error\tError Type: {result.error}"
        else:
            ending = self._end(sandbox, result, why, f"Init timed out after {self.init_timeout:.2f} seconds")
        sandbox.init_ms = (time.monotonic() - sandbox.started) * 1000
        self._say(f"INIT_REPORT Init Duration: {sandbox.init_ms:.2f} ms\tPhase: init{ending}")
        return ending

    def _work(self, sandbox: Sandbox, result: Result) -> str:
        """Hand out the event, and wait until the runtime asks for the next one."""
        began = time.monotonic()
        with sandbox.changed:
            sandbox.result = result
            sandbox.step(EVENT)
            why = sandbox.wait(lambda: sandbox.state == READY, began + self.timeout)
            if why:
                sandbox.step(DEADLINE)
        result.duration_ms = (time.monotonic() - began) * 1000
        sandbox.memory_kib()
        sandbox.drain()
        return self._end(sandbox, result, why, f"Task timed out after {self.timeout:.2f} seconds") if why else ""

    def _end(self, sandbox: Sandbox, result: Result, why: str, overtime: str) -> str:
        """End a process that has failed, and note the reason."""
        sandbox.stop()
        if why == "time":
            message, ending = result.crash("Sandbox.Timedout", overtime), "timeout"
        else:
            error = "Runtime.OutOfMemory" if why == "memory" else "Runtime.ExitError"
            message, ending = result.crash(error, exit_reason(sandbox.exit_status or 0)), f"error\tError Type: {error}"
        self._say(message)
        return f"\tStatus: {ending}"

    def _report(self, sandbox: Sandbox, result: Result, ending: str) -> None:
        if result.streamed:
            if result.truncated:  # said last, because a process that ends cuts its stream, too
                result.crash("Emulator.InvalidStream", result.truncated)
            result.payload = b"".join(chunk for _, chunk in result.chunks)
            if result.content_type == HTTP_INTEGRATION:
                result.payload = result.payload.partition(SEPARATOR)[2]
        result.memory_mb = math.ceil(sandbox.peak_kib / 1024)
        billed = math.ceil(result.duration_ms + (result.init_ms or 0))  # with init, as since August 2025
        init = f"\tInit Duration: {result.init_ms:.2f} ms" if result.init_ms is not None else ""
        self._say(f"END RequestId: {result.request_id}")
        self._say(
            f"REPORT RequestId: {result.request_id}\tDuration: {result.duration_ms:.2f} ms"
            f"\tBilled Duration: {billed} ms\tMemory Size: {self.memory} MB"
            f"\tMax Memory Used: {result.memory_mb} MB{init}{ending}"
        )
        with self._log_lock:
            result.log = self._log[self._told :].decode("utf-8", "replace")
            self._told = len(self._log)

    # What the function sees, and what it says.

    def _environment(self) -> dict[str, str]:
        """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
        env = {
            "PATH": self._python_folder() + os.pathsep + os.environ.get("PATH", os.defpath),
            "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH"),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONDONTWRITEBYTECODE": "1",  # there is nowhere to write to: the code's folder is read-only
            "LAMBDA_TASK_ROOT": self.task_root,
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "_HANDLER": self.handler,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": self.env.get("AWS_REGION") or "us-east-1",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + uuid.uuid4().hex,
            **self.env,
        }
        return {name: value for name, value in env.items() if value is not None}

    def _python_folder(self) -> str:
        """A folder in which `python3` is the interpreter that runs us."""
        folder = os.path.dirname(sys.executable)
        with suppress(OSError):
            if os.path.samefile(os.path.join(folder, "python3"), sys.executable):
                return folder
        if self._scratch is None:
            self._scratch = tempfile.mkdtemp()
            os.symlink(sys.executable, os.path.join(self._scratch, "python3"))
        return self._scratch

    def _headers(self, request_id: str, client_context: object, changes: Mapping[str, str | None]) -> dict[str, str]:
        """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-next"""
        region = self.env.get("AWS_REGION") or "us-east-1"
        trace = f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=0"
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:{region}:123456789012:function:{self.name}",
            "Lambda-Runtime-Trace-Id": trace,
            "Lambda-Runtime-Invocation-Id": str(uuid.uuid4()),
            "Lambda-Runtime-Client-Context": None if client_context is None else json.dumps(client_context),
            **changes,
        }
        return {name: value for name, value in headers.items() if value is not None}

    def _write(self, data: bytes) -> None:
        with self._log_lock:
            self._log += data
            if self._show:
                with suppress(OSError, ValueError):  # a terminal that is gone is no reason to stop
                    self._show(data)

    def _say(self, text: str) -> None:
        """Log what Lambda says, on a line of its own."""
        with self._log_lock:
            line_end = "\n" if self._log and not self._log.endswith(b"\n") else ""
            self._write(f"{line_end}{text}\n".encode())


# ─── 6. The command line ────────────────────────────────────────────────────────────────────────────────────


def usage_error(message: str) -> NoReturn:
    print(f"emulator: {message}", file=sys.stderr)
    sys.exit(2)


class CommandLine(argparse.ArgumentParser):
    """A parser whose complaints are one line, too."""

    def error(self, message: str) -> NoReturn:
        usage_error(message)


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")  # to Python's decoder it is


def read_event(text: str) -> bytes:
    """The event's bytes: `text` itself, or a file of that name, or standard input for `-`. Must be JSON."""
    source, data = "", text.encode("utf-8", "surrogateescape")
    try:
        if text == "-":
            source, data = "standard input", sys.stdin.buffer.read()
        elif os.path.isfile(text):
            with open(text, "rb") as file:
                source, data = text, file.read()
        json.loads(data.decode("utf-8-sig"), parse_constant=no_number)
    except OSError as error:
        usage_error(f"cannot read {text}: {error.strerror}")
    except ValueError as error:
        if source:
            usage_error(f"{source} is not JSON: {error}")
        usage_error(f"EVENT is neither JSON nor a file: {text!r:.60} ({error})")
    return data


def check_function(task_root: str, handler: str) -> None:
    """End with one line unless there is a file that the handler may be in."""
    if not os.path.isdir(task_root):
        usage_error(f"TASK_ROOT: there is no folder {task_root}")
    module, _, function = handler.rpartition(".")
    if not module or not function:
        usage_error(f"HANDLER: {handler!r} should read module.function")
    path = os.path.join(task_root, module.replace(".", "/"))
    if not os.path.isdir(path) and not glob.glob(glob.escape(path) + ".*"):
        usage_error(f"HANDLER: there is no {path}.py for {handler}")


def show_log(data: bytes) -> None:
    """Copy logs to stderr. CR, which keeps the lines of a record together for Lambda, would garble a terminal."""
    sys.stderr.buffer.write(data.replace(b"\r", b"\n"))
    sys.stderr.buffer.flush()


def invoke(arguments: argparse.Namespace) -> int:
    """Print the response; 0, or 1 if the function failed.

    After JSON (if not streamed) comes a line end, for the shell's sake. Everything else is printed byte for byte.
    """
    told: list[Prelude] = []

    def show_chunk(result: Result, data: bytes) -> None:
        if result.prelude and not told:
            told.append(result.prelude)
            lines = [f"{name}: {value}" for name, value in result.prelude.headers.items()]
            lines += [f"set-cookie: {cookie}" for cookie in result.prelude.cookies]
            show_log("\n".join([f"HTTP {result.prelude.status}", *lines, ""]).encode())
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    check_function(arguments.task_root, arguments.handler)
    example = os.path.join(arguments.task_root, "event.json")
    event = read_event(arguments.event or (example if os.path.isfile(example) else "{}"))
    with Emulator(
        arguments.task_root, arguments.handler, timeout=arguments.timeout, memory=math.ceil(arguments.memory),
        bootstrap=arguments.bootstrap, show=show_log,
        env={name: value for name, value in os.environ.items() if re.match("AWS_(?!LAMBDA_RUNTIME_API$)", name)},
    ) as function:  # fmt: skip
        result = function.invoke(event, on_chunk=show_chunk)
        if not result.streamed:
            is_json = result.error or result.content_type.startswith("application/json")
            show_chunk(result, result.payload + (b"\n" if is_json and not result.payload.endswith(b"\n") else b""))
        elif result.error:
            show_log(b"emulator: the stream failed: " + result.error_payload + b"\n")
    return 1 if result.error else 0


def main() -> int:
    parser = CommandLine(description="A local Lambda.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("invoke", help="run a function on one event, and print its response")
    command.add_argument("--task-root", required=True, help="the folder with the function's code")
    command.add_argument("--handler", required=True, help="module.function")
    command.add_argument("--event", help="JSON, or a file with JSON, or - for stdin; default: event.json there, or {}")
    command.add_argument("--timeout", type=positive, default=3, help="seconds")
    command.add_argument("--memory", type=positive, default=128, help="MB")
    command.add_argument("--bootstrap", default=os.path.join(REPO, "bootstrap"), help="what to start")
    command.set_defaults(run=invoke)
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return int(arguments.run(arguments))
    except EmulatorError as error:
        usage_error(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads on; at its exit Python would try to flush once more, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
