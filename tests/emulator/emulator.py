# SPDX-License-Identifier: MIT-0
"""The strict model of a sandbox: one process of a runtime, and the Runtime API that it talks to.

Theory of operation. A `Sandbox` is one process, `bootstrap`, and its Runtime API, on a port of its own. What the API
answers depends on the state of a `Slot` and on nothing else: section 1 is a table of all of that. A sandbox has one
slot; on Managed Instances it has one for each event that the runtime asks for. Each connection has a thread, which
reads requests and follows the table. `function.py` is the other side: it hands an event to a sandbox, sleeps until the
state says that the invocation is over (or the time is, or the process), and takes the `Result`. `Sandbox.changed`, a
condition variable, guards the state and wakes whoever waits for it.

Beside this file: `function.py` starts and ends sandboxes as Lambda does, `serve.py` is what callers of Lambda talk to,
and `cli.py` the command line.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
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
        requests: MutableSequence[Request], log: Callable[[bytes], None],
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
        self._env, self._memory, self._requests, self._log = env, memory, requests, log
        self._log_lock = threading.Lock()
        self._join_lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._last_port = 0  # of the connection after which no other is accepted
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
        # What a process sent before it died counts, even on a connection that nobody has accepted yet. A connection of
        # our own, behind all of these, ends the accepting.
        with suppress(OSError), socket.socket() as last:
            last.bind(("127.0.0.1", 0))
            self._last_port = last.getsockname()[1]
            last.connect(self._listener.getsockname())
        with self._join_lock:  # two that wait for the same thread are one too many for PyPy
            for thread in self._threads:
                thread.join()
        self._listener.close()
        until = time.monotonic() + 1  # whoever has left the process group may hold a connection open
        while self._connections and time.monotonic() < until:
            time.sleep(0.001)
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

    # What a function asks of it, with `changed` held.

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
                    deadlineMs=int(headers.get("Lambda-Runtime-Deadline-Ms", 0)),
                    invokedFunctionArn=headers.get("Lambda-Runtime-Invoked-Function-Arn", ""),
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
                sock, peer = self._listener.accept()
                if peer[1] == self._last_port:
                    sock.close()
                    return
                connection = Connection(sock, peer)
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
