# SPDX-License-Identifier: MIT-0
"""A local Lambda: the strict model of it, with nothing but the standard library.

    with Emulator("tests/examples/hello", "app.handler", timeout=3) as function:
        result = function.invoke({"name": "Ada"})
        result.payload, result.error, result.duration_ms, function.log, function.requests

Beside this file, `serve.py` is what callers of Lambda talk to, and `cli.py` the command line of both.

Theory of operation. A `Sandbox` is one process, `bootstrap`, and the Runtime API that it talks to, on a port of its
own. What the API answers depends on the state of a `Slot` and on nothing else: section 1 is a table of all of that. A
sandbox has one slot; with Managed Instances it has one for each event that the runtime asks for. Each connection has
a thread, which reads requests and follows the table. `Emulator.invoke` is the other side: it takes an idle sandbox or
starts one, hands an event to it, sleeps until the state says that the invocation is over (or the time is, or the
process), and returns a `Result`. `Sandbox.changed`, a condition variable, guards the state and wakes whoever waits for
it; `Emulator._free` guards the list of sandboxes.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import base64
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
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

# ─── 1. The Runtime API as a state machine ──────────────────────────────────────────────────────────────────
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

# States of a runtime, under the names that AWS's own emulator puts into its error messages.
STARTED, INIT_FAILED, READY, RUNNING = "Started", "InitError", "Ready", "Running"
RESPONDING, FAILING, ANSWERED = "InvocationResponse", "InvocationErrorResponse", "RuntimeResponseSentState"
TIMED_OUT = "InvokeTimeout"
RESTORE_READY, RESTORING, RESTORE_FAILED = "RestoreReady", "Restoring", "RuntimeRestoreErrorState"

# What can happen: the head of a request arrives from the runtime ...
NEXT, RESPONSE, ERROR, INIT_ERROR = "next", "response", "error", "init/error"
RESTORE_NEXT, RESTORE_ERROR = "restore/next", "restore/error"
# ... or its body does, or not as it should; an event is handed out; the time is up; a snapshot is restored.
BODY, TOO_LARGE, ODD_MODE, CUT, STREAM_CUT = "body", "too large", "odd mode", "cut", "stream cut"
EVENT, DEADLINE, RESTORED = "event", "deadline", "restored"


class Step(NamedTuple):
    """Where something leads: the HTTP status (0: nobody waits for one), the next state, the error's type."""

    status: int
    state: str
    error: str = ""


TABLE: dict[tuple[str, str], Step] = {
    (STARTED, NEXT): Step(200, READY),
    (STARTED, INIT_ERROR): Step(202, INIT_FAILED),
    (STARTED, RESTORE_NEXT): Step(200, RESTORE_READY),  # SnapStart alone
    (RESTORE_READY, RESTORED): Step(0, RESTORING),
    (RESTORING, RESTORE_ERROR): Step(202, RESTORE_FAILED),
    (RESTORING, NEXT): Step(200, READY),
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
WANTED = {  # the state that a call is after
    NEXT: READY, RESPONSE: RESPONDING, ERROR: FAILING, INIT_ERROR: INIT_FAILED,
    RESTORE_NEXT: RESTORE_READY, RESTORE_ERROR: RESTORE_FAILED,
}  # fmt: skip
REGISTER, EXTENSION_NEXT = "extension/register", "extension/event/next"  # not of the runtime, and not in the table

ROUTES = (
    (NEXT, "GET", re.compile("/2018-06-01/runtime/invocation/next")),
    (RESPONSE, "POST", re.compile("/2018-06-01/runtime/invocation/([^/]*)/response")),
    (ERROR, "POST", re.compile("/2018-06-01/runtime/invocation/([^/]*)/error")),
    (INIT_ERROR, "POST", re.compile("/2018-06-01/runtime/init/error")),
    (RESTORE_NEXT, "GET", re.compile("/2018-06-01/runtime/restore/next")),
    (RESTORE_ERROR, "POST", re.compile("/2018-06-01/runtime/restore/error")),
    (REGISTER, "POST", re.compile("/2020-01-01/extension/register")),
    (EXTENSION_NEXT, "GET", re.compile("/2020-01-01/extension/event/next")),
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


def compact_json(**members: object) -> bytes:
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

    def is_open(self) -> bool:
        """Whether the other end still waits for an answer."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

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
    multi_value_headers: dict[str, list[str]]


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
    head: bytes = b""  # the prelude as it came
    chunks: list[tuple[float, bytes]] = field(default_factory=list)  # of a stream, each with its time.monotonic()
    duration_ms: float = 0.0
    init_ms: float | None = None  # None unless the process was started for it
    memory_mb: int = 0  # the process's peak so far; 0 if that is not known
    log: str = ""  # all that came out since the invocation before
    on_chunk: Callable[[Result, bytes], object] | None = field(default=None, repr=False)
    broken: BaseException | None = field(default=None, repr=False)  # what on_chunk raised
    truncated: str = field(default="", repr=False)  # why a stream has no end
    written: bytearray = field(default_factory=bytearray, repr=False)  # the log up to now

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
            self.head, separator, chunk = (self.head + chunk).partition(SEPARATOR)
            if not separator:
                return
            try:
                self.prelude = read_prelude(self.head)
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
    if isinstance(value, dict) and {"statusCode", "headers", "cookies"} <= set(value):
        status, headers, cookies = value["statusCode"], value["headers"], value["cookies"]
        many = value.get("multiValueHeaders", {})
        sound = type(status) is int and isinstance(headers, dict) and isinstance(cookies, list)
        sound = sound and isinstance(many, dict) and all(isinstance(values, list) for values in many.values())
        texts = [*headers.values(), *cookies, *(text for values in many.values() for text in values)] if sound else [0]
        if all(isinstance(text, str) for text in texts):
            return Prelude(status, headers, cookies, many)
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

SNAPSHOT = 0.1  # seconds for which the process is stopped when a snapshot of it is taken


@dataclass(eq=False)
class Slot:
    """Where a runtime stands with one invocation at a time."""

    state: str = STARTED
    result: Result = field(default_factory=lambda: Result(""))  # of the invocation in work, or of the latest
    event: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)  # that go with the event
    poll: Connection | None = None  # the one that gets the event


@dataclass(eq=False)
class Extension:
    """A part of the function that has registered itself to learn of events, or of the end."""

    name: str
    events: list[str]
    ready: bool = False  # it has asked for its first event; init is not over before
    event: bytes = b""  # what it gets next


class Sandbox:
    """One process of the runtime, in a process group of its own, from its start to its end.

    `requests` gets all that it asks of the API, `log` all that it writes. With Managed Instances (`many`) every poll
    has a slot of its own, which lasts until the event is answered; otherwise there is one, for good.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: str, *, memory: int, stdin: int | None,
        requests: MutableSequence[Request], log: Callable[[Sandbox, bytes], None],
    ) -> None:  # fmt: skip
        self.changed = threading.Condition()
        self.many = "AWS_LAMBDA_MAX_CONCURRENCY" in env
        self.slots = [Slot()]
        self.extensions: dict[str, Extension] = {}  # by identifier
        self.init_ms: float | None = None  # when init is over, one way or the other
        self.restore_ms: float | None = None  # after a snapshot
        self.init_error: tuple[str, bytes] | None = None
        self.exit_status: int | None = None  # -9 for SIGKILL, as in subprocess
        self.peak_kib = 0
        # For the Emulator, which guards them itself.
        self.initialising = threading.Lock()
        self.used, self.stale, self.in_work, self.tenant = False, False, 0, ""
        self.idle_since = time.monotonic()
        self.unread = bytearray()  # output that belongs to the next invocation
        self.working: list[Result] = []  # those that the output belongs to

        self._env, self._memory, self._requests, self._log = env, memory, requests, log
        self._log_lock = threading.Lock()
        self._join_lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._snapshot = self._restored = 0.0  # when they were
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        self.started = time.monotonic()
        self.api = f"127.0.0.1:{self._listener.getsockname()[1]}"
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, env={"AWS_LAMBDA_RUNTIME_API": self.api, **env}, cwd=cwd, start_new_session=True,
                stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
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
                self._log(self, data)
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

    # What the Emulator asks of it, with `changed` held.

    def suits(self, tenant: str) -> bool:
        """What was used for one tenant is never used for another."""
        return self.tenant == tenant or not (self.used or self.in_work)

    def is_ready(self) -> bool:
        """Whether init is over: the runtime and all extensions have asked for an event."""
        return self.init_ms is not None and all(extension.ready for extension in self.extensions.values())

    def waiting_slot(self) -> Slot | None:
        """One that an event can be handed to. On Managed Instances, who waited there may have died meanwhile."""
        for slot in [slot for slot in self.slots if slot.state == READY]:
            if not self.many or (slot.poll and slot.poll.is_open()):
                return slot
            self.slots.remove(slot)
            slot.poll = None
            self.changed.notify_all()
        return None

    def hand_out(self, slot: Slot, result: Result, event: bytes, headers: dict[str, str]) -> None:
        slot.result, slot.event, slot.headers = result, event, headers
        for extension in self.extensions.values():
            if "INVOKE" in extension.events:
                extension.event = compact_json(
                    eventType="INVOKE", requestId=result.request_id,
                    deadlineMs=int(headers["Lambda-Runtime-Deadline-Ms"]),
                    invokedFunctionArn=headers["Lambda-Runtime-Invoked-Function-Arn"],
                    tracing={"type": "X-Amzn-Trace-Id", "value": headers.get("Lambda-Runtime-Trace-Id", "")},
                )  # fmt: skip
        self.step(slot, EVENT)

    def is_over(self, slot: Slot) -> bool:
        """Whether the invocation is: with Managed Instances it is when it has been answered."""
        return slot.state == (ANSWERED if self.many else READY)

    def step(self, slot: Slot, call: str, current: bool = True) -> tuple[int, bytes]:
        """Follow the table; status and body of the answer."""
        with self.changed:
            before = slot.state
            status, slot.state, error = step(before, call, current)
            self.changed.notify_all()
        return status, error_json(error, before, call) if error else b'{"status":"OK"}\n'

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
            self._log(self, f"emulator: a request of the runtime was refused: {reason}\n".encode())
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
            if match and call == RESTORE_NEXT:
                return (*self._restore(), JSON)
            if match and call == REGISTER:
                return self._register(request, b"".join(connection.body))
            if match and call == EXTENSION_NEXT:
                return self._give_extension(request)
            if match:
                return (*self._take(connection, request, call, *match.groups()), JSON)
        return 404, b"404 page not found\n", TEXT

    def _give(self, connection: Connection) -> tuple[int, bytes, Mapping[str, str]]:
        """Answer `next`, once there is an event."""
        with self.changed:
            fresh = self.many and not (self.slots and self.slots[0].state == STARTED)
            slot = Slot() if fresh else self.slots[0]
            status, body = self.step(slot, NEXT)
            if status != 200:
                return status, body, JSON
            if fresh:
                self.slots.append(slot)
            if self.init_ms is None:
                now = time.monotonic()
                self.init_ms = ((self._snapshot or now) - self.started) * 1000
                self.restore_ms = (now - self._restored) * 1000 if self._restored else None
            slot.poll = connection
            self.changed.notify_all()
            self.changed.wait_for(
                lambda: slot.state != READY or slot.poll is not connection or self.exit_status is not None
            )
            if slot.state != RUNNING or slot.poll is not connection:
                raise ConnectionError("a later poll has taken over, or the process is gone")
            return 200, slot.event, slot.headers

    def _take(self, connection: Connection, request: Request, call: str, request_id: str = "") -> tuple[int, bytes]:
        """Take what the runtime posts; status and body of the answer."""
        headers, about_init = request.headers, call in (INIT_ERROR, RESTORE_ERROR)
        with self.changed:
            busy = [slot for slot in self.slots if slot.state not in (STARTED, INIT_FAILED, READY)]
            found = [slot for slot in busy if slot.result.request_id == request_id]
            slot = (found or self.slots or [Slot(READY)])[0]
        result, nonce = slot.result, headers.get("lambda-runtime-invocation-id")
        if nonce is not None and nonce != slot.headers.get("Lambda-Runtime-Invocation-Id"):
            return 410, error_json("InvokeTimeout", slot.state, call)
        status, answer = self.step(slot, call, current=about_init or bool(found))
        if status == 410 and self.many:
            self.slots.remove(slot)
        if status != 202:
            return status, answer
        mode = headers.get("lambda-runtime-function-response-mode")
        if call == RESPONSE and mode is not None:
            if mode.lower() != "streaming":
                return self.step(slot, ODD_MODE)
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
                    return self.step(slot, TOO_LARGE)
        except (OSError, Refused, HungUp) as error:
            result.truncated = "" if isinstance(error, HungUp) else f"it was cut off: {error}"
            self.step(slot, STREAM_CUT if result.streamed else CUT)
            raise
        request.body = bytes(body)
        with self.changed:
            if about_init:
                self.init_error = error_type(request), request.body
                self.changed.notify_all()
                return status, answer
            status, answer = self.step(slot, BODY)
            if status == 202 and result.streamed:
                result.end_stream(request.trailers)
            elif status == 202 and call == ERROR:
                result.fail(error_type(request), request.body)
            elif status == 202:
                result.payload, result.content_type = request.body, headers.get("content-type", "")
        return status, answer

    # https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html

    def _restore(self) -> tuple[int, bytes]:
        """Answer `restore/next`: of the snapshot that is taken here, this very process is what is restored."""
        slot = self.slots[0]
        if self._env.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
            return 403, error_json("InvalidStateTransition", slot.state, RESTORE_NEXT)
        status, body = self.step(slot, RESTORE_NEXT)
        if status == 200:
            self._snapshot = time.monotonic()
            self._signal(signal.SIGSTOP)
            time.sleep(SNAPSHOT)
            self._signal(signal.SIGCONT)
            self._restored = time.monotonic()
            self.step(slot, RESTORED)
        return status, body

    # https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

    def _register(self, request: Request, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        """Answer `extension/register`. Whoever is in this process is an internal extension."""
        name = request.headers.get("lambda-extension-name", "")
        try:
            events = list(json.loads(body or b"{}").get("events", []))
        except (ValueError, AttributeError, TypeError):
            return refuse_extension("InvalidRequestFormat", "the body is not an object with a list of events")
        with self.changed:
            if not name:
                return refuse_extension("Extension.InvalidExtensionName", "Empty extension name")
            if self.slots[:1] and self.slots[0].state != STARTED:
                return refuse_extension("Extension.RegistrationClosed", "Extension registration closed already")
            if name in (extension.name for extension in self.extensions.values()):
                return refuse_extension("Extension.InvalidExtensionState", f"Extension {name} is registered already")
            for event in events:
                if event != "INVOKE":
                    return refuse_extension("Extension.InvalidEventType", f"{event}: not an event for internal ones")
            identifier = str(uuid.uuid4())
            self.extensions[identifier] = Extension(name, events)
        about = {"functionVersion": "$LATEST", "handler": self._env["_HANDLER"]}
        answer = compact_json(functionName=self._env["AWS_LAMBDA_FUNCTION_NAME"], **about)
        return 200, answer, {**JSON, "Lambda-Extension-Identifier": identifier}

    def _give_extension(self, request: Request) -> tuple[int, bytes, Mapping[str, str]]:
        """Answer `extension/event/next`, once there is an event that the extension wants; there may never be one."""
        identifier = request.headers.get("lambda-extension-identifier", "")
        with self.changed:
            extension = self.extensions.get(identifier)
            if extension is None:
                return refuse_extension("Extension.UnknownExtensionIdentifier", f"Unknown extension {identifier}")
            extension.ready = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: extension.event or self.exit_status is not None)
            if not extension.event:
                raise ConnectionError("the process is gone")
            event, extension.event = extension.event, b""
            return 200, event, {**JSON, "Lambda-Extension-Event-Identifier": str(uuid.uuid4())}


def refuse_extension(error: str, message: str) -> tuple[int, bytes, Mapping[str, str]]:
    return 403, compact_json(errorMessage=message, errorType=error) + b"\n", JSON


# ─── 5. Lambda ──────────────────────────────────────────────────────────────────────────────────────────────

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GRACE = 0.3  # seconds between SIGTERM and SIGKILL
DAY = 86400.0  # seconds
TENANT = "Lambda-Runtime-Aws-Tenant-Id"


class EmulatorError(Exception):
    """The function cannot be started at all. Its text is one line that says why."""


class Emulator:
    """A Lambda function on this machine. To be used in a `with` statement, as it owns processes.

    `timeout` and `init_timeout` are in seconds, `memory` in MB: a process that takes more is killed (where there is a
    /proc to tell). `bootstrap` is an executable, or a command line. `env` goes on top of Lambda's environment; None
    takes a variable away. `layers` are folders, each as a layer is unpacked over /opt. `show` is called with all logs
    as they come, as bytes. `requests` are all that the runtime made, in the order in which they came.

    `concurrency` is how many processes there may be. One that had nothing to do for `idle` seconds is ended. `watch`:
    a change of a file makes all of them stale. `debug` leaves standard input to the function and turns the clock off.
    Without `record`, logs and requests are not kept.
    """

    def __init__(
        self, task_root: str, handler: str, *, timeout: float = 3, memory: int = 128, init_timeout: float = 10,
        env: Mapping[str, str | None] | None = None, bootstrap: str | Sequence[str] = os.path.join(REPO, "bootstrap"),
        layers: Sequence[str] = (), show: Callable[[bytes], object] | None = None, concurrency: int = 1,
        idle: float = math.inf, watch: bool = False, debug: bool = False, record: bool = True,
    ) -> None:  # fmt: skip
        self.task_root, self.handler = os.path.abspath(task_root), handler
        self.timeout, self.init_timeout = (DAY, DAY) if debug else (timeout, init_timeout)
        self.memory, self.concurrency, self.idle, self.debug = memory, concurrency, idle, debug
        self.env, self.layers = dict(env or {}), [os.path.abspath(layer) for layer in layers]
        self.command = [os.path.abspath(bootstrap)] if isinstance(bootstrap, str) else list(bootstrap)
        self.name = re.sub(r"[^\w-]", "-", os.path.basename(self.task_root), flags=re.ASCII)[:64] or "function"
        self.region = self.env.get("AWS_REGION") or "us-east-1"
        self.arn = f"arn:aws:lambda:{self.region}:123456789012:function:{self.name}"
        self.at_once = 1  # invocations in one process
        if "AWS_LAMBDA_MAX_CONCURRENCY" in self.env:
            number = self.env["AWS_LAMBDA_MAX_CONCURRENCY"] or ""
            if not re.fullmatch("[1-9][0-9]{0,3}", number):
                raise EmulatorError(f"AWS_LAMBDA_MAX_CONCURRENCY is not a number of invocations: {number!r}")
            self.at_once = int(number)
            self.env.setdefault("AWS_LAMBDA_LOG_FORMAT", "JSON")  # as it always is there
        self.requests: MutableSequence[Request] = deque(maxlen=None if record else 0)
        self._show, self._record, self._log, self._log_lock = show, record, bytearray(), threading.RLock()
        self._last: tuple[Sandbox | None, bool] = None, True  # who wrote last, and whether the line has ended
        self._free = threading.Condition()  # guards what follows
        self._sandboxes: list[Sandbox] = []
        self._leaving: list[threading.Thread] = []  # that end one each
        self._latest: Sandbox | None = None
        self._closed = False
        self._watch = Watch([self.task_root, *self.layers]) if watch else None
        self._scratch: str | None = None

    def __enter__(self) -> Emulator:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        if self.idle < math.inf:
            threading.Thread(target=self._end_idle_ones, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the function as Lambda ends an environment: SIGTERM, 300 ms, SIGKILL."""
        with self._free:
            self._closed = True
            for sandbox in list(self._sandboxes):
                self._retire(sandbox)
            leaving = self._leaving
            self._free.notify_all()
        for thread in leaving:
            thread.join()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def log(self) -> str:
        """All that the function wrote up to now, with the lines that Lambda adds."""
        if self._latest:
            self._latest.drain()
        with self._log_lock:
            return self._log.decode("utf-8", "replace")

    @property
    def pid(self) -> int | None:
        """The latest process of the runtime, or None when it is gone."""
        return self._latest.pid if self._latest and self._latest.exit_status is None else None

    @property
    def exit_status(self) -> int | None:
        """How the latest process ended (-9 for SIGKILL), or None while it runs."""
        return self._latest.exit_status if self._latest else None

    def invoke(
        self, event: object = b"{}", *, client_context: object = None, headers: Mapping[str, str | None] | None = None,
        on_chunk: Callable[[Result, bytes], object] | None = None, request_id: str = "",
    ) -> Result:  # fmt: skip
        """Run the function on one event (bytes go as they are, anything else as JSON) and wait until that is over.

        `headers` replace those that come with an event, or take them away (None). `on_chunk(result, data)` is called as
        a stream arrives; `data` is of the body and not kept, a prelude is in `result.prelude`. If it raises, we hang up
        on the runtime as emulators do when their caller has, and `invoke` raises the same in the end.
        """
        result = Result(request_id or str(uuid.uuid4()), on_chunk=on_chunk)
        sandbox = self._borrow((headers or {}).get(TENANT) or "")
        try:
            with self._log_lock:
                result.written, sandbox.unread = sandbox.unread, bytearray()
                sandbox.working.append(result)
            with sandbox.initialising:  # on Managed Instances several may have come meanwhile
                first, sandbox.used = not sandbox.used, True
                ending = self._init(sandbox, result) if first else ""
            self._say(
                sandbox, f"START RequestId: {result.request_id} Version: $LATEST",
                "start", {"requestId": result.request_id, "version": "$LATEST"},
            )  # fmt: skip
            if not ending:
                data = event if isinstance(event, bytes) else json.dumps(event).encode()
                ending = self._work(sandbox, result, data, client_context, headers or {})
            result.init_ms = sandbox.init_ms if first else None
            self._report(sandbox, result, ending)
        finally:
            self._give_back(sandbox, result)
        if result.broken:
            raise result.broken
        return result

    def note(self, text: str) -> None:
        """Log what the emulator itself has to say."""
        self._write(None, f"emulator: {text}\n".encode())

    # Environments: started for an event, used for one event after the other, ended.

    def _borrow(self, tenant: str) -> Sandbox:
        """An environment for one event: the latest that has room, or a new one, or one that has to be waited for."""
        with self._free:
            while True:
                if self._closed:
                    raise EmulatorError("the function has been ended")
                self._look_for_changes()
                for sandbox in [one for one in self._sandboxes if one.exit_status is not None and not one.in_work]:
                    if sandbox.init_ms is not None:  # else it has an error to tell
                        self._retire(sandbox)
                present = [sandbox for sandbox in self._sandboxes if not sandbox.stale]
                fitting = [sandbox for sandbox in present if sandbox.in_work < self.at_once and sandbox.suits(tenant)]
                idle = [sandbox for sandbox in present if not sandbox.in_work]
                if fitting:
                    sandbox = fitting[-1]
                elif len(present) < self.concurrency:
                    sandbox = self._start()
                elif idle:
                    self._retire(idle[0])
                    continue
                else:
                    self._free.wait()
                    continue
                sandbox.in_work, sandbox.tenant = sandbox.in_work + 1, tenant
                return sandbox

    def _give_back(self, sandbox: Sandbox, result: Result) -> None:
        with self._log_lock, suppress(ValueError):
            sandbox.working.remove(result)
        with self._free:
            sandbox.in_work -= 1
            sandbox.idle_since = time.monotonic()
            if sandbox.stale and not sandbox.in_work:
                self._retire(sandbox)
            self._free.notify_all()

    def _start(self) -> Sandbox:
        if not os.path.isdir(self.task_root):
            raise EmulatorError(f"the task root is not a folder: {self.task_root}")
        try:
            self._latest = Sandbox(
                self.command, self._environment(), self.task_root, memory=self.memory,
                stdin=None if self.debug else subprocess.DEVNULL, requests=self.requests, log=self._write,
            )  # fmt: skip
        except OSError as error:
            raise EmulatorError(f"cannot start {self.command[0]}: {error.strerror}") from None
        self._sandboxes.append(self._latest)
        return self._latest

    def _retire(self, sandbox: Sandbox) -> None:
        """End an environment, while others go on."""
        self._sandboxes.remove(sandbox)
        thread = threading.Thread(target=sandbox.stop, args=(GRACE,))
        thread.start()
        self._leaving = [one for one in self._leaving if one.is_alive()] + [thread]

    def _end_idle_ones(self) -> None:
        with self._free:
            while not self._closed:
                idle = [(sandbox.idle_since + self.idle, sandbox) for sandbox in self._sandboxes if not sandbox.in_work]
                for until, sandbox in idle:
                    if until <= time.monotonic():
                        self._retire(sandbox)
                left = min((until for until, sandbox in idle if sandbox in self._sandboxes), default=math.inf)
                self._free.wait(None if left == math.inf else left - time.monotonic())

    def _look_for_changes(self) -> None:
        name = self._watch.changed() if self._watch else ""
        if name:
            self.note(f"{name} has changed: a fresh environment from here on")
            for sandbox in list(self._sandboxes):
                sandbox.stale = True
                if not sandbox.in_work:
                    self._retire(sandbox)

    # One event. An ending is what REPORT says of a failure.

    def _init(self, sandbox: Sandbox, result: Result) -> str:
        """Wait until the runtime asks for its first event."""
        until = sandbox.started + self.init_timeout
        why = sandbox.wait(lambda: sandbox.is_ready() or sandbox.init_error is not None, until)
        if not why and not sandbox.init_error:
            if sandbox.restore_ms is not None:
                self._say(
                    sandbox, f"RESTORE_REPORT Restore Duration: {sandbox.restore_ms:.2f} ms",
                    "restoreReport", {"metrics": {"durationMs": round(sandbox.restore_ms, 2)}},
                )  # fmt: skip
            return ""
        if sandbox.init_error:
            sandbox.wait(lambda: False, until)  # it has something to log, perhaps, before it exits
            sandbox.stop()
            result.fail(*sandbox.init_error)
            ending = f"\tStatus: error\tError Type: {result.error}"
        else:
            ending = self._end(sandbox, result, why, f"Init timed out after {self.init_timeout:.2f} seconds")
        sandbox.init_ms = (time.monotonic() - sandbox.started) * 1000
        metrics = {"durationMs": round(sandbox.init_ms, 2)}
        self._say(
            sandbox, f"INIT_REPORT Init Duration: {sandbox.init_ms:.2f} ms\tPhase: init{ending}",
            "initReport", {"phase": "init", **self._status(result, ending), "metrics": metrics},
        )  # fmt: skip
        return ending

    def _work(
        self, sandbox: Sandbox, result: Result, event: bytes, client_context: object, headers: Mapping[str, str | None]
    ) -> str:
        """Hand out the event, and wait until the invocation is over."""
        began = time.monotonic()
        with sandbox.changed:
            why = sandbox.wait(lambda: sandbox.waiting_slot() is not None, began + self.timeout)
            slot = sandbox.waiting_slot()
            if slot:
                began = time.monotonic()
                sandbox.hand_out(slot, result, event, self._headers(result.request_id, client_context, headers))
                why = sandbox.wait(lambda: sandbox.is_over(slot), began + self.timeout)
                if why:
                    sandbox.step(slot, DEADLINE)
                elif sandbox.many:
                    sandbox.slots.remove(slot)
        result.duration_ms = (time.monotonic() - began) * 1000
        sandbox.memory_kib()
        sandbox.drain()
        return self._end(sandbox, result, why, f"Task timed out after {self.timeout:.2f} seconds") if why else ""

    def _end(self, sandbox: Sandbox, result: Result, why: str, overtime: str) -> str:
        """Note why an invocation failed, and end the process, but for the sake of others that it has in work."""
        if why != "time" or not sandbox.many:
            sandbox.stop()
        if why == "time":
            message, ending = result.crash("Sandbox.Timedout", overtime), "timeout"
        elif sandbox.init_error:
            result.fail(*sandbox.init_error)
            return f"\tStatus: error\tError Type: {result.error}"
        else:
            error = "Runtime.OutOfMemory" if why == "memory" else "Runtime.ExitError"
            message, ending = result.crash(error, exit_reason(sandbox.exit_status or 0)), f"error\tError Type: {error}"
        self._say(sandbox, message)
        return f"\tStatus: {ending}"

    def _report(self, sandbox: Sandbox, result: Result, ending: str) -> None:
        if result.streamed:
            if result.truncated:  # said last, because a process that ends cuts its stream, too
                result.crash("Emulator.InvalidStream", result.truncated)
            result.payload = b"".join(chunk for _, chunk in result.chunks)
            if result.content_type == HTTP_INTEGRATION:
                result.payload = result.payload.partition(SEPARATOR)[2]
        result.memory_mb = math.ceil(sandbox.peak_kib / 1024)
        start = "Restore" if sandbox.restore_ms is not None else "Init"
        start_ms = sandbox.restore_ms if sandbox.restore_ms is not None else result.init_ms
        began = f"\t{start} Duration: {start_ms:.2f} ms" if result.init_ms is not None else ""
        billed = math.ceil(result.duration_ms + ((start_ms or 0) if began else 0))  # with init, as since August 2025
        if not self._json():
            self._say(sandbox, f"END RequestId: {result.request_id}")
        metrics = {
            "durationMs": round(result.duration_ms, 2), "billedDurationMs": billed, "memorySizeMB": self.memory,
            "maxMemoryUsedMB": result.memory_mb,
        }  # fmt: skip
        if began:
            metrics[f"{start.lower()}DurationMs"] = round(start_ms or 0, 2)
        self._say(
            sandbox, f"REPORT RequestId: {result.request_id}\tDuration: {result.duration_ms:.2f} ms"
            f"\tBilled Duration: {billed} ms\tMemory Size: {self.memory} MB"
            f"\tMax Memory Used: {result.memory_mb} MB{began}{ending}",
            "report", {"requestId": result.request_id, "metrics": metrics, **self._status(result, ending)},
        )  # fmt: skip
        with self._log_lock:
            result.log = result.written.decode("utf-8", "replace")

    # What the function sees, and what it says.

    def _environment(self) -> dict[str, str]:
        """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
        env = {
            "PATH": path(self._python_folder(), *self._in_layers("bin"), os.environ.get("PATH", os.defpath)),
            "LD_LIBRARY_PATH": path(*self._in_layers("lib"), os.environ.get("LD_LIBRARY_PATH")),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONDONTWRITEBYTECODE": "1",  # there is nowhere to write to: the code's folder is read-only
            "LAMBDA_TASK_ROOT": self.task_root,
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "_HANDLER": self.handler,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + uuid.uuid4().hex,
            **self.env,
        }
        # Only root may put a layer where it belongs. This is the next best place: behind the task root, and before the
        # interpreter's own folders.
        env["PYTHONPATH"] = path(*self._packages(), env.get("PYTHONPATH"))
        return {name: value for name, value in env.items() if value is not None}

    def _in_layers(self, name: str) -> list[str]:
        """The folders of that name in the layers; of several layers the last one counts most."""
        folders = [os.path.join(layer, name) for layer in reversed(self.layers)]
        return [folder for folder in folders if os.path.isdir(folder)]

    def _packages(self) -> Iterator[str]:
        """Where the layers have their modules: in `python`; a layer without it is a folder of modules itself."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        for layer in reversed(self.layers):
            python = os.path.join(layer, "python")
            python = python if os.path.isdir(python) else layer
            site = os.path.join(python, "lib", version, "site-packages")
            yield from [site, python] if os.path.isdir(site) else [python]

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
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.arn,
            "Lambda-Runtime-Trace-Id": new_trace(),
            "Lambda-Runtime-Invocation-Id": str(uuid.uuid4()),
            "Lambda-Runtime-Client-Context": None if client_context is None else json.dumps(client_context),
            **changes,
        }
        return {name: value for name, value in headers.items() if value is not None}

    def _json(self) -> bool:
        """Whether what Lambda says goes to the log as JSON, too."""
        return self.env.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"

    def _status(self, result: Result, ending: str) -> dict[str, str]:
        """The same as an ending, for logs in JSON."""
        status = "timeout" if "timeout" in ending else "error" if result.error else "success"
        return {"status": status, **({"errorType": result.error} if result.error else {})}

    def _write(self, sandbox: Sandbox | None, data: bytes) -> None:
        """Log what a process wrote, or what we have to say ourselves (None)."""
        with self._log_lock:
            if sandbox and not sandbox.working:
                sandbox.unread += data
            for result in sandbox.working if sandbox else []:
                result.written += data
            last, ended = self._last
            if last is not sandbox and not ended:  # lines of two processes must not be mixed
                data = b"\n" + data
            self._last = sandbox, data.endswith(b"\n")
            if self._record:
                self._log += data
            if self._show:
                with suppress(OSError, ValueError):  # a terminal that is gone is no reason to stop
                    self._show(data)

    def _say(self, sandbox: Sandbox, text: str, kind: str = "", record: Mapping[str, object] | None = None) -> None:
        """Log what Lambda says of an environment, on a line of its own; as a record if logs are JSON."""
        if self._json() and kind:
            moment = time.time()
            utc = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03}Z"
            text = json.dumps({"time": utc, "type": f"platform.{kind}", "record": record})
        with self._log_lock:
            line_end = "" if self._last[1] else "\n"
            self._write(sandbox, f"{line_end}{text}\n".encode())


def new_trace() -> str:
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=0"


def path(*folders: str | None) -> str | None:
    return os.pathsep.join(folder for folder in folders if folder) or None


class Watch:
    """Tells of changed files. It takes a third of the time at most: large folders are not looked at for each event."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders, self._next = list(folders), 0.0
        self._seen = self._look()

    def changed(self) -> str:
        """The name of a file that has changed since we asked the last time, or ""."""
        if time.monotonic() < self._next:
            return ""
        before, self._seen = self._seen, self._look()
        return min((name for name, _ in before.items() ^ self._seen.items()), default="")

    def _look(self) -> dict[str, tuple[int, int]]:
        """When each file was written, and its size. Bytecode, editors' and tools' own files do not count."""
        began, seen = time.thread_time(), {}
        for top in self._folders:
            for folder, folders, names in os.walk(top):
                folders[:] = [name for name in folders if name[0] != "." and name != "__pycache__"]
                for name in names:
                    with suppress(OSError):
                        if name[0] != "." and not name.endswith(("~", ".pyc")):
                            file = os.path.join(folder, name)
                            status = os.stat(file)
                            seen[os.path.relpath(file, top)] = status.st_mtime_ns, status.st_size
        self._next = time.monotonic() + 2 * (time.thread_time() - began)
        return seen
