# SPDX-License-Identifier: MIT-0
"""A Lambda Runtime API in which the test decides every byte.

    with ScriptedApi([event(b'{"a": 1}')], response=[answer(413)]) as api:
        done = run(["./bootstrap", "app.handler"], api, {"LAMBDA_TASK_ROOT": folder})
    api.requests        # what the runtime sent, in order, down to the raw bytes and when they came
    done.stdout         # what it logged

Three ideas, and nothing else:

*  A **step** is one thing that the server does with a connection: `bytes` are written as they are, a number is a pause
   in seconds, a callable gets the `Connection` (`READ`, `CLOSE`, `RESET`, `HOLD` are such callables).
*  An **answer** is a list of steps for one request, and is exactly what happens: the body of a request is read where
   `READ` stands. `answer()` and `event()` build the ordinary ones, `http()` just their bytes.
*  A **script** is a list of answers for each endpoint, used up one after another. After the last one posts get 202, and
   `GET next` is held open with `idle` set: the moment at which a test may end the process and look.

The emulator beside this file is a strict Lambda; this one is whatever a test needs, however wrong.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, NamedTuple, Optional, Union

__all__ = [
    "CLOSE", "HOLD", "READ", "RESET", "Child", "Chunk", "Connection", "Finished", "Frame", "Request",
    "ScriptedApi", "answer", "drip", "event", "frames", "http", "run",
]  # fmt: skip

Headers = Union[Mapping[str, Optional[str]], Sequence[tuple[str, str]]]
Step = Union[bytes, float, Callable[["Connection"], None]]
Answer = Sequence[Step]

# How a request is told to be for an endpoint; whatever stands before it is a prefix that the test gave to the runtime.
ENDPOINTS = (
    ("next", "GET", re.compile(r"/2018-06-01/runtime/invocation/next$")),
    ("response", "POST", re.compile(r"/2018-06-01/runtime/invocation/[^/]*/response$")),
    ("error", "POST", re.compile(r"/2018-06-01/runtime/invocation/[^/]*/error$")),
    ("init_error", "POST", re.compile(r"/2018-06-01/runtime/init/error$")),
    ("restore_next", "GET", re.compile(r"/2018-06-01/runtime/restore/next$")),
    ("restore_error", "POST", re.compile(r"/2018-06-01/runtime/restore/error$")),
    ("register", "POST", re.compile(r"/2020-01-01/extension/register$")),
    ("extension_next", "GET", re.compile(r"/2020-01-01/extension/event/next$")),
)

REASONS = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    410: "Gone",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


# ---------------------------------------------------------------------------------------------------- what was seen


class Chunk(NamedTuple):
    """A piece of a request's body: an HTTP chunk, or whatever one read returned of a body with a length."""

    data: bytes
    arrived: float


@dataclass
class Request:
    """One request. It is listed as soon as its head is there; the body grows while it arrives, until `complete`."""

    connection: int
    arrived: float
    method: str = ""
    path: str = ""
    version: str = ""
    endpoint: str = "other"
    header_list: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    complete: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; of a repeated one the last."""
        return {name.lower(): value for name, value in self.header_list}

    @property
    def body(self) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def request_id(self) -> str:
        """The id in the path of a response or an error."""
        return self.path.rsplit("/", 2)[-2] if self.endpoint in ("response", "error") else ""

    def __repr__(self) -> str:
        return f"<{self.method} {self.path} #{self.connection} {self.body[:200]!r}>"


# --------------------------------------------------------------------------------------------- how answers are built


def http(status: int = 200, body: bytes = b"", headers: Headers = (), version: str = "HTTP/1.1") -> bytes:
    """An HTTP response. A header given here replaces the default one of that name; None leaves it out."""
    merged = _merge((("Content-Type", "application/json"), ("Content-Length", str(len(body)))), headers)
    lines = [f"{version} {status} {REASONS.get(status, 'Whatever')}"] + [f"{name}: {value}" for name, value in merged]
    # UTF-8: Lambda passes a client context on as it came.
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def answer(status: int = 202, body: bytes = b"", headers: Headers = ()) -> Answer:
    """Reads the request, then answers it."""
    return [READ, http(status, body, headers)]


REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
FUNCTION_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:example"
TRACE_ID = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"


def event(body: bytes = b"{}", headers: Headers = (), request_id: str = REQUEST_ID, seconds: float = 60) -> Answer:
    """An answer to `GET next` with all the headers that Lambda sends; `seconds` is what is left until the deadline."""
    defaults = (
        ("Content-Type", "application/json"),
        ("Lambda-Runtime-Aws-Request-Id", request_id),
        ("Lambda-Runtime-Deadline-Ms", str(int((time.time() + seconds) * 1000))),
        ("Lambda-Runtime-Invoked-Function-Arn", FUNCTION_ARN),
        ("Lambda-Runtime-Trace-Id", TRACE_ID),
        ("Date", "Mon, 23 Nov 2026 04:38:59 GMT"),
    )
    return [READ, http(200, body, _merge(defaults, headers))]


def drip(data: bytes, size: int = 1, pause: float = 0.0) -> list[Step]:
    """`data` in pieces of `size` bytes with a pause after each one, for the network that cuts where it hurts."""
    steps: list[Step] = []
    for start in range(0, len(data), size):
        steps += [data[start : start + size], pause]
    return steps


def _merge(defaults: Sequence[tuple[str, str]], headers: Headers) -> list[tuple[str, str]]:
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    given = {name.lower() for name, _ in pairs}
    kept = [(name, value) for name, value in defaults if name.lower() not in given]
    return kept + [(name, value) for name, value in pairs if value is not None]


# ------------------------------------------------------------------------------------------------------- the server


class _Ended(Exception):
    """The connection is over, by whomever."""


class Connection:
    """One connection of the runtime, and the steps that an answer is made of."""

    def __init__(self, api: ScriptedApi, sock: socket.socket, number: int) -> None:
        self.api = api
        self.sock = sock
        self.number = number
        self.request = Request(number, 0.0)
        self._buffer = bytearray()

    # Steps

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise _Ended from error

    def read(self) -> None:
        """Reads the body of the request, unless that was done before."""
        request = self.request
        if request.complete:
            return
        if request.headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            self._read_chunks(request)
        else:
            left = int(request.headers.get("content-length", "0"))
            while left:
                data = self._take(min(left, max(len(self._buffer), 1)))
                left -= len(data)
                request.chunks.append(Chunk(data, time.monotonic()))
        request.complete = True
        self.api._notify()

    def close(self) -> None:
        """Closes in an orderly way, or as a reset if the runtime sent what was not read: TCP makes it so."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.sock.close()
        raise _Ended

    def reset(self) -> None:
        """Sends RST, as a peer that lost its memory does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise _Ended

    def hold(self) -> None:
        """Says nothing until the runtime hangs up or the test is over."""
        self.api._hold(self.request)
        while True:
            self._buffer += self._receive()

    # Reading

    def serve(self) -> None:
        with suppress(_Ended):
            self._perform(self.api._accepted())
            while True:
                self._read_head()
                self._perform(self.api._answer(self.request))
                self.read()
        self.sock.close()

    def _perform(self, steps: Answer) -> None:
        for step in steps:
            if isinstance(step, (bytes, bytearray)):
                self.send(step)
            elif isinstance(step, (int, float)):
                self.api._closing.wait(step)
            else:
                step(self)

    def _receive(self) -> bytes:
        try:
            data = self.sock.recv(1 << 18)
        except OSError as error:
            raise _Ended from error
        if not data:
            raise _Ended
        return data

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._receive()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self.request.raw += data
        return data

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            self._buffer += self._receive()
        return self._take(self._buffer.index(b"\n") + 1).decode("utf-8", "surrogateescape").rstrip("\r\n")

    def _fields(self) -> list[tuple[str, str]]:
        fields: list[tuple[str, str]] = []
        while True:
            line = self._line()
            if not line:
                return fields
            name, _, value = line.partition(":")
            fields.append((name, value.strip(" \t")))

    def _read_head(self) -> None:
        self.request = request = Request(self.number, 0.0)
        first = self._line().split(" ", 2)
        request.arrived = time.monotonic()
        request.method, request.path, request.version = (first + ["", ""])[:3]
        request.header_list = self._fields()
        for endpoint, method, pattern in ENDPOINTS:
            if method == request.method and pattern.search(request.path):
                request.endpoint = endpoint
        # A request without a body is complete here, so that nobody sees a GET that is not.
        request.complete = not {"content-length", "transfer-encoding"} & set(request.headers)
        self.api._record(request)

    def _read_chunks(self, request: Request) -> None:
        while True:
            size = int(self._line().split(";")[0], 16)
            if not size:
                request.trailers = self._fields()
                return
            data = self._take(size)
            if self._take(2) != b"\r\n":
                raise AssertionError("a chunk that does not end with CR LF")
            request.chunks.append(Chunk(data, time.monotonic()))
            self.api._notify()


READ, CLOSE, RESET, HOLD = Connection.read, Connection.close, Connection.reset, Connection.hold


class ScriptedApi:
    """The server. `events` answers `GET next`; the other endpoints are named in ENDPOINTS; `accept` is what is done
    with each new connection before anything is read from it."""

    def __init__(
        self, events: Sequence[Answer] = (), accept: Sequence[Answer] = (), **answers: Sequence[Answer]
    ) -> None:
        unknown = set(answers) - {endpoint for endpoint, _, _ in ENDPOINTS} - {"other"}
        if unknown:
            raise TypeError(f"no such endpoint: {', '.join(sorted(unknown))}")
        self.requests: list[Request] = []
        self.idle = threading.Event()
        self.held = 0
        self._script = {"next": list(events), **{name: list(script) for name, script in answers.items()}}
        self._accept = list(accept)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.port = 0

    # What a test uses

    @property
    def address(self) -> str:
        """For AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self.port}"

    def sent(self, *endpoints: str) -> list[Request]:
        """The requests to these endpoints, in order; without any: all that are not `GET next`."""
        return [one for one in self.requests if (one.endpoint in endpoints if endpoints else one.endpoint != "next")]

    def wait(self, condition: Callable[[], Any], timeout: float = 30.0) -> bool:
        """Waits until the condition holds; it is looked at whenever something arrived."""
        with self._changed:
            return bool(self._changed.wait_for(condition, timeout))

    def listen(self) -> None:
        """Begins to accept connections: on the same port again, after `refuse`."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(128)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept_loop, self._listener)

    def refuse(self) -> None:
        """Refuses connections from now on; those that exist live on."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # this, not close(), ends a blocked accept()
            self._listener.close()

    def __enter__(self) -> ScriptedApi:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self.refuse()
        for connection in self._connections:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    # What connections use

    def _accept_loop(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            # Steps go out one by one, as written: a test of split answers is worth nothing if the kernel joins them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, len(self._connections) + 1)
            self._connections.append(connection)
            self._start(connection.serve)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _record(self, request: Request) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def _accepted(self) -> Answer:
        with self._changed:
            return self._accept.pop(0) if self._accept else []

    def _answer(self, request: Request) -> Answer:
        with self._changed:
            script = self._script.get(request.endpoint)
            if script:
                return script.pop(0)
        return DEFAULTS.get(request.endpoint, answer(202))

    def _hold(self, request: Request) -> None:
        with self._changed:
            self.held += 1
            if request.endpoint == "next":
                self.idle.set()
            self._changed.notify_all()


DEFAULTS: dict[str, Answer] = {
    "next": [HOLD],
    "restore_next": answer(200),
    "register": answer(200, b"{}", {"Lambda-Extension-Identifier": "2f6b7a5e-0000-4000-8000-000000000000"}),
    "extension_next": [HOLD],
    "other": answer(404, b'{"errorMessage": "no such path", "errorType": "NotFound"}'),
}


# ------------------------------------------------------------------------------------------------ running a runtime


class Frame(NamedTuple):
    """A log record as it goes to the descriptor in _LAMBDA_TELEMETRY_LOG_FD."""

    type: int
    microseconds: int
    message: bytes


def frames(data: bytes) -> list[Frame]:
    """Takes framed logs apart; raises ValueError if they do not end with a whole frame."""
    found, at = [], 0
    while at < len(data):
        if at + 16 > len(data):
            raise ValueError(f"half a frame header: {data[at:]!r}")
        kind, size, microseconds = struct.unpack_from(">IIq", data, at)
        if at + 16 + size > len(data):
            raise ValueError(f"a frame that lacks {at + 16 + size - len(data)} bytes: {data[at:]!r}")
        found.append(Frame(kind, microseconds, data[at + 16 : at + 16 + size]))
        at += 16 + size
    return found


class Finished(NamedTuple):
    """What a process left. `status` is None if it was still alive and we ended it (it was idle, or out of time)."""

    status: int | None
    stdout: bytes
    stderr: bytes
    log: bytes
    timed_out: bool
    seconds: float


class Child:
    """A process and what it has written until now.

    `env` is its whole environment; `framed` gives it _LAMBDA_TELEMETRY_LOG_FD. What it writes goes into files without
    names: a step of an answer can look at them, and finds all that the runtime wrote before it sent its request.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None = None, framed: bool = False):
        self._files = [tempfile.TemporaryFile() for _ in range(3)]
        stdout, stderr, log = (file.fileno() for file in self._files)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            list(argv),
            env={**env, "_LAMBDA_TELEMETRY_LOG_FD": str(log)} if framed else env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(log,) if framed else (),
            start_new_session=True,  # so that its children can be ended with it
        )

    @property
    def stdout(self) -> bytes:
        return self._read(0)

    @property
    def stderr(self) -> bytes:
        return self._read(1)

    @property
    def log(self) -> bytes:
        return self._read(2)

    def _read(self, index: int) -> bytes:
        descriptor = self._files[index].fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def wait(self, seconds: float) -> int | None:
        """The exit status, None if it has none by then."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(seconds, 0))
        return self.process.returncode

    def end(self) -> None:
        """Ends it and all that it started, the hard way."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.end()
        for file in self._files:
            file.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run(
    argv: Sequence[str],
    api: ScriptedApi,
    env: Mapping[str, str],
    *,
    cwd: str | None = None,
    framed: bool = False,
    timeout: float = 60.0,
    end: signal.Signals | None = signal.SIGKILL,
    started: Callable[[Child], None] | None = None,
) -> Finished:
    """Runs a command against `api` until it ends, is idle, or has used up its time.

    `env` is the whole environment, but for AWS_LAMBDA_RUNTIME_API. An idle process is ended as Lambda does it, with
    SIGKILL; `end=SIGTERM` sends that first and waits for the end, and its exit status is then the status; `end=None`
    lets it run on. Nothing that it started outlives it. `started` gets the process as soon as there is one.
    """
    with Child(argv, {"AWS_LAMBDA_RUNTIME_API": api.address, **env}, cwd, framed) as child:
        if started is not None:
            started(child)
        status: int | None = None
        until = child.began + timeout
        while status is None and time.monotonic() < until:
            if end is not None and api.idle.is_set():
                # Python sees a signal that comes right before a system call only after it. So wait until it sleeps.
                stat = Path(f"/proc/{child.process.pid}/stat")
                for _ in range(200):
                    if not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] != "R":
                        break
                    time.sleep(0.005)
                child.process.send_signal(end)
                status = None if end is signal.SIGKILL else child.wait(15)
                break
            status = child.wait(0.005)
        timed_out = status is None and not api.idle.is_set()
        seconds = time.monotonic() - child.began
        child.end()
        return Finished(status, child.stdout, child.stderr, child.log, timed_out, seconds)
