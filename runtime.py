#!/usr/bin/env python3
# SPDX-License-Identifier: MIT-0
"""The Python runtime for AWS Lambda in one file, with nothing but the standard library.

Lambda starts `bootstrap`, which becomes this file. From then on there is one conversation, over one
connection, with the Runtime API at $AWS_LAMBDA_RUNTIME_API:

    import the handler ── it cannot be imported ──▶ POST /init/error, and the end
          │
          ▼
    ┌▶ GET /invocation/next          blocks, for hours if need be, until there is an event
    │     ▼
    │  handler(event, context)       the user's code
    │     ▼
    └─ POST /invocation/{id}/response   or   POST /invocation/{id}/error

The sections below go the way of the data: the Runtime API's client, the only part that knows HTTP; what a handler
gets; how it is found, and what becomes of what it returns or raises; logging. Then the loop, `serve`: the place to
begin if you want to know how a runtime works. Last, several invocations at once, and the start and the end, `main`.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # After -m, multiprocessing's children would look for a module named runtime, and not for this file.
    __spec__ = None  # type: ignore[assignment]
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
        # Our own folder may be the function's: its json.py is not the one meant below, and runtime is a name of theirs.
        del sys.path[0]

import io
import marshal
import os
import signal
import socket
from _contextvars import ContextVar, copy_context  # contextvars is nothing more, and 0.2 ms of a cold start
from atexit import _run_exitfuncs as run_exit_functions
from fcntl import F_DUPFD
from fcntl import fcntl as duplicate
from functools import lru_cache, partial
from gc import collect as collect_garbage
from json import JSONDecoder, JSONEncoder
from os import _exit as exit_now
from os import environ, fstat, getcwd, getpid, kill, urandom
from os import open as open_file
from os import write as write_file
from select import POLLIN, POLLOUT, poll
from signal import SIG_BLOCK, SIG_DFL, SIG_IGN, SIG_SETMASK, SIGTERM, getsignal, pthread_sigmask
from signal import signal as set_signal
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, getaddrinfo
from socket import SocketType as Socket  # the class in C, which user code cannot patch as it can socket.socket
from sys import getrecursionlimit, setrecursionlimit
from time import gmtime, monotonic, sleep, strftime, time
from types import AsyncGeneratorType, GeneratorType

TYPE_CHECKING = False  # typing is slow to import, and only a type checker needs it
if TYPE_CHECKING:
    import asyncio
    import http.client as http_client
    from collections.abc import AsyncGenerator, Awaitable, Generator
    from types import FrameType, ModuleType, TracebackType
    from typing import Any, Callable, NoReturn, Union

    Frame = tuple[str, int, str, str]  # file, line number, function, source line
    Handler = Callable[[Any, "LambdaContext"], Any]
    BytesLike = Union[bytes, bytearray, memoryview]

__version__ = "1.0.0"

# ─── 1. The Runtime API ─────────────────────────────────────────────────────────────────────────────────────
# The protocol's verbs, over one connection that stays open. Nothing outside of this section knows HTTP.
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

API_VERSION = "2018-06-01"
EXTENSION_API_VERSION = "2020-01-01"
USER_AGENT = f"runtime.py/{__version__} Python/{sys.version.split()[0]}"  # Lambda records the first word

# Response headers of `next`, in lower case, as they are looked up.
REQUEST_ID = "lambda-runtime-aws-request-id"
DEADLINE_MS = "lambda-runtime-deadline-ms"
FUNCTION_ARN = "lambda-runtime-invoked-function-arn"
TRACE_ID = "lambda-runtime-trace-id"
CLIENT_CONTEXT = "lambda-runtime-client-context"
COGNITO_IDENTITY = "lambda-runtime-cognito-identity"
TENANT_ID = "lambda-runtime-aws-tenant-id"
INVOCATION_ID = "lambda-runtime-invocation-id"
CONTENT_TYPE = "content-type"
EXTENSION_ID = "lambda-extension-identifier"  # of a registration

# As Lambda spells them: a name found here needs no strip() and lower(), which any other one gets.
AS_SPELT = {
    name.title(): name
    for name in (REQUEST_ID, DEADLINE_MS, FUNCTION_ARN, TRACE_ID, CONTENT_TYPE, "content-length", "date")
}

# Request headers of an answer.
ERROR_TYPE_HEADER = "Lambda-Runtime-Function-Error-Type"
XRAY_CAUSE_HEADER = "Lambda-Runtime-Function-XRay-Error-Cause"
ERROR_BODY_HEADER = "Lambda-Runtime-Function-Error-Body"
INVOCATION_ID_HEADER = "Lambda-Runtime-Invocation-Id"
STREAM_HEADERS = (
    "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
    "Transfer-Encoding: chunked\r\n"
    f"Trailer: {ERROR_TYPE_HEADER}, {ERROR_BODY_HEADER}\r\n"
)

JSON = "application/json"
BYTES = "application/octet-stream"
HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response"  # a stream with a prelude

PAUSES = (0.1, 0.2, 0.4, 0.8)  # seconds between five attempts
RECEIVE_SIZE = 1 << 16  # most events fit in
SEND_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)  # SIGPIPE may be set to end us
BLANK = (b"\r\n", b"\n")
IN_CHUNKS, UNTIL_THE_END = -1, -2  # how long a body is, where nobody says
UNRESERVED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"  # no dots: .. is another path


def load_http_client() -> Any:
    """http.client, as a module of our own: without email, ssl, urllib and http.HTTPStatus.

    Plain HTTP with headers parsed by hand never uses those, and they are 12 ms of a cold start of 40. And what
    user code or a tracing library patches in its http.client is not ours.
    """
    stand_in: Any = type(sys)("stand_in")
    stand_in.parser = stand_in.message = stand_in.HTTPStatus = stand_in
    stand_in.Message, stand_in.__members__, stand_in.urlsplit = object, {}, None
    names = ("email", "email.parser", "email.message", "http", "urllib", "urllib.parse", "ssl")
    real = {name: sys.modules[name] for name in names if name in sys.modules}
    stand_ins: dict[str, Any] = {**dict.fromkeys(names, stand_in), "ssl": None}  # None: a Python without it
    sys.modules.update(stand_ins)
    try:
        folder = [os.path.join(os.path.dirname(os.__file__), "http")]
        spec: Any = next(filter(None, (finder.find_spec("http.client", folder) for finder in sys.meta_path)))
        module = type(sys)("http.client")
        spec.loader.exec_module(module)
        return module
    except Exception:  # a standard library that has changed: the plain way
        pass
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(real)
    return __import__("http.client").client


if not TYPE_CHECKING:
    http_client = load_http_client()


class RuntimeAPIError(Exception):
    """The Runtime API cannot be worked with any more. Its text is the one line that says why."""


class Unreachable(RuntimeAPIError):
    """Nobody is there, not even after some tries."""


class NotAccepted(Exception):
    """Lambda did not take an answer. That invocation is over; the next one can be served all the same."""


class NoAnswer(Exception):
    """A request got no answer, or a garbled one, which means that at least it has arrived."""

    def __init__(self, error: BaseException, reason: str = "") -> None:
        super().__init__(reason or repr(error))
        self.garbled = not isinstance(error, OSError)


class Response:
    """The answers on a connection, one after another. Their heads are parsed by hand: http.client would use email.

    `status` is 0 as long as none is known; `fields` holds the headers, names in lower case, values as UTF-8 (bytes
    that are not: as surrogates); `length` is that of the body, `body` None until it has been read; `will_close` says
    that the connection ends with it, `behind` how much is buffered behind the head, where poll() does not see it. All
    methods raise OSError if nothing comes, and anything else if what comes is garbled.
    """

    def __init__(self, fd: int) -> None:
        # One buffer for as long as the connection is open: http.client makes one for each answer.
        self._reader = io.BufferedReader(io.FileIO(fd, closefd=False), RECEIVE_SIZE)
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body: bytes | None = None
        self.behind = 0

    def advance(self) -> bool:
        """Read a head; whether it is the final one, not an interim (1xx) one."""
        waiting = self._reader.peek()
        if not waiting:
            raise ConnectionResetError("the connection was closed")
        # As a rule a head has come in one piece, and is read as one.
        size = waiting.find(b"\r\n\r\n") + 4
        lines = waiting[: size - 4].decode("utf-8", "surrogateescape").split("\r\n")
        if size > 3 and lines[0] and waiting.count(b"\n", 0, size) == len(lines) + 1:
            self._reader.read(size)
            self.behind = len(waiting) - size
        else:
            lines = self._lines()

        status, lasting = parse_status(lines[0])
        if status < 200:
            return False
        fields: dict[str, str] = {}
        name = ""
        for line in lines[1:]:
            spelt, _, value = line.partition(":")
            if spelt in AS_SPELT:
                name = AS_SPELT[spelt]
            elif line[0] in " \t":  # folded: the line before goes on
                value = f"{fields.get(name, '')} {line.strip()}"
            else:
                name = spelt.strip().lower()
            fields[name] = value.strip()
        self.status, self.fields = status, fields

        connection = fields.get("connection", "")
        if connection:
            lasting = "keep-alive" in connection.lower() or (lasting and "close" not in connection.lower())
        length = UNTIL_THE_END
        if status in (204, 304):
            length = 0
        elif fields.get("transfer-encoding", "").lower() == "chunked":
            length = IN_CHUNKS
        elif "content-length" in fields:
            length = natural(fields["content-length"], 10)
        surplus = 0 <= length < self.behind  # whatever that is: out of step
        self.length = length
        self.will_close = surplus or not lasting or length == UNTIL_THE_END
        return True

    def _lines(self) -> list[str]:
        """The lines of a head, whatever these end with; the empty one behind it is read, too."""
        lines: list[str] = []
        line = b""
        while True:
            waiting = self._reader.peek()  # not readline(), which does not tell how much is buffered behind a line
            size = waiting.find(b"\n") + 1 or len(waiting)
            if not waiting:
                raise http_client.IncompleteRead(line)
            line += self._reader.read(size)
            self.behind = len(waiting) - size
            if not line.endswith(b"\n"):
                continue
            if line not in BLANK:
                lines.append(line.rstrip(b"\r\n").decode("utf-8", "surrogateescape"))
            elif lines:
                return lines
            line = b""

    def _line(self) -> bytes:
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            raise http_client.IncompleteRead(line)
        return line

    def read_body(self) -> None:
        """By its length, in chunks (http.client knows of no lines that end with a mere LF), or all until the end."""
        if self.length == IN_CHUNKS:
            body = b"".join(self._chunks())
        elif self.length == UNTIL_THE_END:
            body = self._reader.read()
        else:
            body = self._reader.read(self.length)
            if len(body) < self.length:
                raise http_client.IncompleteRead(body)
        self.body = body

    def _chunks(self) -> Generator[bytes, None, None]:
        while True:
            size = natural(self._line().partition(b";")[0].strip().decode(), 16)
            if not size:
                break
            yield self._reader.read(size)  # if that was cut, there is no line behind it
            if self._line() not in BLANK:
                raise ValueError("a chunk is longer than its size")
        while self._line() not in BLANK:  # trailers
            pass


@lru_cache(64)  # the same few lines come all the time
def parse_status(line: str) -> tuple[int, bool]:
    """The status, and whether the connection stays open in that version of HTTP. Raises BadStatusLine, ValueError."""
    version, status = line.split(None, 2)[:2]
    if not version.startswith("HTTP/1.") or len(status) != 3 or not 100 <= natural(status, 10) < 600:
        raise http_client.BadStatusLine(line)
    return int(status), version != "HTTP/1.0"


def natural(digits: str, base: int) -> int:
    """A number without the sign, the spaces and the underscores that int() takes. Raises ValueError."""
    if not digits.isalnum() or not digits.isascii():
        raise ValueError(f"not a number: {digits}")
    return int(digits, base)


class Connection(http_client.HTTPConnection):
    """The connection to the API: opened with patience, and opened anew when it turns out to be gone."""

    sock: Any

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.where = host
        self._in_child = False  # one that user code has forked
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    def connect(self) -> None:
        """Open the connection; a refused one is tried again for a while. Raises Unreachable."""
        if self._in_child:
            raise SystemExit(0)
        for pause in (*PAUSES, None):
            try:
                self.sock = self._open()
                break
            except OSError as error:
                if pause is None:
                    raise Unreachable(f"cannot reach the Runtime API at {self.where}: {error}") from None
                collect_garbage()  # it may hold all the descriptors that there are
                sleep(pause)
        self._response = Response(self.sock.fileno())
        self._poll = poll()

    def _open(self) -> Socket:
        """As socket.create_connection(), which user code may have led to a proxy."""
        keep_standard_descriptors()
        failed = OSError("no address")
        # As bytes the host is not encoded by IDNA: 4 ms of imports.
        for family, kind, protocol, _, address in getaddrinfo(self.host.encode(), self.port, 0, SOCK_STREAM):
            sock = Socket(family, kind, protocol)
            try:
                sock.settimeout(None)
                sock.connect(address)
                sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                moved = Socket(family, kind, protocol, out_of_reach(sock.fileno()))
                moved.settimeout(None)  # `next` may block for hours, whatever socket.setdefaulttimeout() says
                return moved
            except OSError as error:
                failed = error
            finally:
                sock.close()
        raise failed

    def close(self) -> None:
        try:
            super().close()
        except OSError:  # user code has closed the descriptor
            self.sock = None

    def _after_fork_in_child(self) -> None:
        """The conversation is the parent's: a child that returns into it, from a signal handler, finds it ended."""
        self._in_child = True
        self.close()

    def exchange(self, head: bytes, body: BytesLike = b"") -> tuple[Response, bool]:
        """Send a request and read the answer: a response, and whether it was sent more than once. Raises NoAnswer.

        What gets no answer is sent once more; a GET also after a garbled answer, which tells of a POST that it has
        arrived. A GET is sent a third time if the connection was an old one: that this had gone stale is no failure.
        """
        posted = head.startswith(b"POST")
        left = 1 if posted or self.sock is None else 2
        again = False
        # To copy these few bytes is quicker than to send two pieces.
        pieces = (head + body,) if len(body) < 1 << 14 else (head, body)
        while True:
            try:
                self.prepare()
                unsent = ""
                try:
                    self.transmit(*pieces)
                except OSError as error:  # an API that hangs up in the middle may have said why (413)
                    unsent = repr(error)
                return self.receive(posted, unsent), again
            except NoAnswer as error:
                if not left or (posted and error.garbled):
                    raise
                left -= 1
                again = True

    def prepare(self) -> None:
        """See that there is a connection, on which nothing is known of the answer yet. Raises Unreachable."""
        if self.sock is None:
            self.connect()
        self._response.status, self._response.body = 0, None

    def transmit(self, *pieces: BytesLike) -> None:
        """Send it all. Raises OSError when the connection is gone, or the API answers before it has read it all."""
        left = [*pieces]
        try:
            while left:
                try:
                    sent = self.sock.sendmsg(left, (), SEND_FLAGS) if left[1:] else self.sock.send(left[0], SEND_FLAGS)
                except BlockingIOError:
                    self.listen(POLLIN | POLLOUT, 1000 if self._response.status else None)  # milliseconds
                    continue
                while left and sent >= len(left[0]):
                    sent -= len(left.pop(0))
                if left:
                    left[0] = memoryview(left[0])[sent:]
        except (ConnectionError, NoAnswer, SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # from a signal handler of the user's: half a request is no request
            self.close()
            raise NoAnswer(ConnectionAbortedError(repr(error))) from None

    def listen(self, events: int = POLLIN, timeout: int | None = 0) -> None:
        """Take note of what comes while we are sending. Raises OSError if it is the end, or an answer that means it.

        An interim answer does not, nor does that of cargo-lambda's emulator, which accepts before it has read all.
        """
        response = self._response
        self._poll.register(self.sock, events)
        while True:
            ready = self._poll.poll(timeout)
            if not ready and timeout:
                raise BrokenPipeError("Lambda has answered, and does not read on")
            if not ready or ready[0][1] == POLLOUT:
                return
            if response.status:  # behind the answer there is nothing but the end
                raise BrokenPipeError("Lambda hung up")
            try:
                while not response.advance() and response.behind:
                    pass
                if 0 < response.status < 300 and response.length != UNTIL_THE_END:
                    response.read_body()
            except Exception as error:
                self.close()
                raise NoAnswer(error) from None
            if response.status and (response.status >= 300 or response.will_close):
                raise BrokenPipeError("Lambda has answered before all was sent")

    def receive(self, posted: bool, unsent: str = "") -> Response:
        """Read the answer to a request, even if it could not be sent whole, for a reason given. Raises NoAnswer.

        The answer to a POST is good as soon as its status is known.
        """
        response = self._response
        try:
            while not response.status:
                response.advance()
            if response.body is None and not (posted and response.length == UNTIL_THE_END):
                response.read_body()
        except (SystemExit, KeyboardInterrupt):
            self.close()
            raise
        except BaseException as error:
            self.close()
            if not (posted and response.status):
                raise NoAnswer(error, unsent) from None
        if response.will_close or unsent:
            self.close()
        return response


class RuntimeAPI:
    """The Runtime API: each method is a call of the protocol, and raises RuntimeAPIError when that was the last.

    `address` is host:port as Lambda gives it; emulators also give http://host:port/prefix.
    """

    def __init__(self, address: str) -> None:
        scheme, separator, rest = address.strip().rpartition("://")
        host, _, prefix = rest.partition("/")
        if (separator and scheme.lower() != "http") or not host or not host.isprintable() or " " in address.strip():
            raise RuntimeAPIError(f"AWS_LAMBDA_RUNTIME_API={address}: not an address like 127.0.0.1:9001")
        try:
            self._connection = Connection(host)
        except http_client.InvalidURL as error:
            raise RuntimeAPIError(f"AWS_LAMBDA_RUNTIME_API={address}: {error}") from None
        root = f"/{prefix}".rstrip("/")
        self._base = f"{root}/{API_VERSION}/runtime"
        self._extension = f"{root}/{EXTENSION_API_VERSION}/extension"
        self._common = f" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n"
        self._next = self._head(f"GET {self._base}/invocation/next")
        self.streaming = ""  # the path of a response that has begun and not ended

    def next(self) -> Invocation:
        """Wait for an event. https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-next"""
        self.streaming = ""
        while True:
            response = self._demand(self._next)
            if response.status == 204:  # an emulator without an event: a real `next` would have waited
                sleep(0.05)
            elif response.fields.get(REQUEST_ID):
                body, response.body = response.body, None  # it may be large, and the response stays
                return Invocation(response.fields, body or b"")
            else:
                raise RuntimeAPIError("GET /invocation/next: an event without a request id")

    def respond(self, invocation: Invocation, result: Result) -> None:
        """Send the handler's result. Raises NotAccepted.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-response
        """
        headers = f"Content-Type: {result.content_type}\r\n{echo(invocation)}"
        self._post(answer_path(invocation, "response"), headers, result.body)

    def stream(self, invocation: Invocation, content_type: str, *chunks: BytesLike) -> None:
        """Begin a response that is sent as it is made, with its first chunks. Raises NotAccepted.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
        """
        path = answer_path(invocation, "response")
        headers = f"{STREAM_HEADERS}Content-Type: {content_type}\r\n{echo(invocation)}"
        head = self._head(f"POST {self._base}{path}", headers)
        pieces = [head, *(piece for chunk in chunks if chunk for piece in frame_chunk(chunk))]
        connection = self._connection
        self.streaming = path
        for again in (False, True):
            connection.prepare()
            try:
                connection.listen()  # a stale connection shows now, or when an item is gone
                connection.transmit(*pieces)
                return
            except Exception as error:
                connection.close()
                if again:
                    raise NotAccepted(f"POST {path}: {error!r}") from None

    def send(self, chunk: BytesLike) -> None:
        """Send a chunk of the stream that has begun. Raises NotAccepted when Lambda hangs up, or answers early."""
        if chunk:
            self._stream_on(*frame_chunk(chunk))

    def end(self, failure: Failure | None = None) -> None:
        """End the stream that has begun, with what went wrong if something did. Raises NotAccepted."""
        trailers = ""
        if failure:
            from binascii import b2a_base64

            body = b2a_base64(failure.body(), newline=False).decode()
            trailers = f"{ERROR_TYPE_HEADER}: {failure.recorded_type}\r\n{ERROR_BODY_HEADER}: {body}\r\n"
        self._stream_on(f"0\r\n{trailers}\r\n".encode(), last=True)
        self._conclude()

    def _stream_on(self, *pieces: BytesLike, last: bool = False) -> None:
        connection = self._connection
        try:
            if connection.sock is None:
                raise BrokenPipeError("Lambda hung up")
            connection.transmit(*pieces)
            if not last:
                connection.listen()  # now that the item is on its way
        except (OSError, NoAnswer) as error:
            if connection.sock and isinstance(error, OSError):
                self._conclude(repr(error))
            raise NotAccepted(f"POST {self.streaming}: {error}") from None

    def _conclude(self, unsent: str = "") -> None:
        """Read the answer to a stream, whether or not it was sent to the end. Raises NotAccepted."""
        try:
            response = self._connection.receive(posted=True, unsent=unsent)
        except NoAnswer as error:
            raise NotAccepted(f"POST {self.streaming}: {error}") from None
        check_accepted(self.streaming, response)

    def fail(self, invocation: Invocation, failure: Failure) -> None:
        """Say that the handler failed, behind the part of a stream that was sent. Raises NotAccepted.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-invokeerror
        """
        if self.streaming:
            self.end(failure)
        else:
            headers = error_headers(failure) + echo(invocation)
            self._post(answer_path(invocation, "error"), headers, failure.body())

    def init_error(self, failure: Failure) -> None:
        """Say that there will be no handler; the runtime then ends. Raises NotAccepted.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-initerror
        """
        self._post("/init/error", error_headers(failure), failure.body())

    def restore_next(self) -> None:
        """Say that a snapshot may be taken; returns in each copy of the process that is restored from it.

        https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
        """
        self._demand(self._head(f"GET {self._base}/restore/next"))
        self._connection.close()  # its other end is not in the snapshot

    def restore_error(self, failure: Failure) -> None:
        """Say that a restored copy cannot be used; the runtime then ends. Raises NotAccepted."""
        self._post("/restore/error", error_headers(failure), failure.body())

    def register_extension(self, name: str) -> str:
        """Become an internal extension that wants no events: its identifier.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
        """
        headers = f"Lambda-Extension-Name: {name}\r\nContent-Type: {JSON}\r\nContent-Length: 14\r\n"
        head = self._head(f"POST {self._extension}/register", headers)
        return self._demand(head, b'{"events": []}').fields.get(EXTENSION_ID, "")

    def extension_next(self, identifier: str) -> None:
        """Say that the extension is ready. It wants no events, so that this does not return.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#extensions-api-next
        """
        headers = f"Lambda-Extension-Identifier: {identifier}\r\n"
        self._demand(self._head(f"GET {self._extension}/event/next", headers))

    def _head(self, request: str, headers: str = "") -> bytes:
        """A request's head, in the bytes in which its parts came."""
        return f"{request}{self._common}{headers}\r\n".encode("utf-8", "surrogateescape")

    def _demand(self, head: bytes, body: BytesLike = b"") -> Response:
        """A call without which there is no going on."""
        try:
            response, _ = self._connection.exchange(head, body)
            if response.status // 100 == 2:
                return response
            reason = explain(response)
        except NoAnswer as error:
            reason = str(error)
        raise RuntimeAPIError(f"{head.split(b' HTTP/', 1)[0].decode()}: {reason}")

    def _post(self, path: str, headers: str, body: BytesLike) -> None:
        head = self._head(f"POST {self._base}{path}", f"{headers}Content-Length: {len(body)}\r\n")
        try:
            response, again = self._connection.exchange(head, body)
        except NoAnswer as error:
            raise NotAccepted(f"POST {path}: {error}") from None
        check_accepted(path, response, again)


def out_of_reach(fd: int) -> int:
    """The same file under a number that user code which closes descriptors, or opens many, does not get to.

    The kernel picks it, as several threads may want one at the same time.
    """
    for lowest in (900, 3):
        try:
            number = duplicate(fd, F_DUPFD, lowest)
            os.set_inheritable(number, False)  # PyPy has no F_DUPFD_CLOEXEC, which would do both
            return number
        except OSError:  # so many are not to be had, or it is none itself
            pass
    return fd


def keep_standard_descriptors() -> None:
    """See to it that 0, 1 and 2 are something: were one closed, what is printed would go to the next file opened."""
    for fd in (0, 1, 2):
        try:
            fstat(fd)
        except OSError:
            open_file(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def frame_chunk(data: BytesLike) -> tuple[BytesLike, ...]:
    """The pieces of an HTTP chunk, its data among them uncopied."""
    return f"{len(data):x}\r\n".encode(), data, b"\r\n"


def answer_path(invocation: Invocation, verb: str) -> str:
    """Where an answer goes: the request id is one segment of that path, however odd it is."""
    segment = invocation.request_id
    if not segment.isascii() or not segment.replace("-", "0").isalnum():
        raw = segment.encode("utf-8", "surrogateescape")
        segment = "".join(chr(byte) if chr(byte) in UNRESERVED else f"%{byte:02X}" for byte in raw)
    return f"/invocation/{segment}/{verb}"


def echo(invocation: Invocation) -> str:
    """The header that an answer has to repeat, if the invocation came with one."""
    value = invocation.headers.get(INVOCATION_ID)
    return f"{INVOCATION_ID_HEADER}: {value}\r\n" if value and "\r" not in value else ""


def error_headers(failure: Failure) -> str:
    return (
        f"Content-Type: {JSON}\r\n"
        f"{ERROR_TYPE_HEADER}: {failure.recorded_type}\r\n"
        f"{XRAY_CAUSE_HEADER}: {failure.xray_cause()}\r\n"
    )


def explain(response: Response) -> str:
    """An answer in a line: its status, and the error JSON that came with it."""
    body = (response.body or b"")[:500].decode("utf-8", "backslashreplace")
    return " ".join(f"{response.status} {body}".split())


def check_accepted(path: str, response: Response, again: bool = False) -> None:
    """Raises RuntimeAPIError or NotAccepted for the answer to a POST that says so."""
    if response.status < 300:
        return
    reason = f"POST {path}: {explain(response)}"
    if response.status >= 500:  # a container error: Lambda wants us gone
        raise RuntimeAPIError(reason)
    # What is sent again is refused if it had arrived the first time.
    if response.status == 413 or not again:
        raise NotAccepted(reason)


# ─── 2. Invocation and context ──────────────────────────────────────────────────────────────────────────────
# What a handler gets. Knows the headers of `next`, but not how they came.
# https://docs.aws.amazon.com/lambda/latest/dg/python-context.html


W3C_FIELDS = ("traceparent", "tracestate", "baggage")


class Invocation:
    """One event and what was said about it: `headers` of `next` (lower-case names) and `body`, bytes."""

    __slots__ = ("body", "headers", "request_id")

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self.body = body
        self.request_id = headers[REQUEST_ID]


class Fields:
    """Some fields of a JSON object as attributes, None where one is missing."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, values: dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self) -> str:
        fields = ",".join(f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"{type(self).__name__}([{fields}])"


class Client(Fields):
    """The mobile application that called, as its SDK describes it."""

    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(Fields):
    """What the caller sent along: `custom` and `env` as they came, `client` a Client or None."""

    __slots__ = ("custom", "env", "client")
    client: Any


class CognitoIdentity:
    """The Amazon Cognito identity that authorized the request; both ids are None if none did."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")
    __repr__ = Fields.__repr__

    def __init__(self, values: dict[str, Any]) -> None:
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")


# What the context says of the function itself, from the environment: it is the same for all invocations.
FUNCTION = {
    "log_group_name": environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
    "log_stream_name": environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
    "function_name": environ.get("AWS_LAMBDA_FUNCTION_NAME"),
    "memory_limit_in_mb": environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
    "function_version": environ.get("AWS_LAMBDA_FUNCTION_VERSION"),
}


class LambdaContext:
    """What is known about an invocation and its function: the handler's second argument.

    Raises RuntimeFailure (LambdaContextUnmarshalError) when a header is not the JSON that it should be.
    """

    _log: Log | None = None  # the process's: a context can be copied, and sent to other processes

    def __init__(self, invocation: Invocation) -> None:
        headers = invocation.headers
        self.aws_request_id = invocation.request_id
        self.log_group_name = FUNCTION["log_group_name"]
        self.log_stream_name = FUNCTION["log_stream_name"]
        self.function_name = FUNCTION["function_name"]
        self.memory_limit_in_mb = FUNCTION["memory_limit_in_mb"]
        self.function_version = FUNCTION["function_version"]
        self.invoked_function_arn = headers.get(FUNCTION_ARN, "")
        sent = parse_object(headers.get(CLIENT_CONTEXT), "Client Context")
        self.client_context = None if sent is None else ClientContext(sent)
        if self.client_context and self.client_context.client is not None:
            self.client_context.client = Client(as_object(self.client_context.client, "Client Context"))
        self._w3c = sent and sent.get("w3c")
        sent = parse_object(headers.get(COGNITO_IDENTITY), "Cognito Identity") or {}
        self.identity = CognitoIdentity(sent)
        self.tenant_id = headers.get(TENANT_ID) or None
        self._trace_id = headers.get(TRACE_ID)
        try:
            self._epoch_deadline_time_in_ms = int(headers.get(DEADLINE_MS, 0))  # AWS's name, which people have found
        except ValueError:
            self._epoch_deadline_time_in_ms = 0

    @property
    def trace_id(self) -> str | None:
        """The X-Ray trace header. The environment has it too, unless a process has several invocations in work."""
        return self._trace_id

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends this invocation; never negative, 0 when no deadline is known."""
        return max(0, self._epoch_deadline_time_in_ms - int(time() * 1000))

    def w3c(self) -> dict[str, str]:
        """The W3C trace context of the caller: whichever it sent of traceparent, tracestate and baggage."""
        sent = self._w3c if isinstance(self._w3c, dict) else {}
        return {name: sent[name] for name in W3C_FIELDS if isinstance(sent.get(name), str)}

    def log(self, message: object) -> None:
        """Write a message to the log as it is: without level and time, no line break added."""
        if self._log:
            self._log.write(str(message))
        else:
            sys.stdout.write(str(message))

    def __repr__(self) -> str:
        fields = ",".join(f"{name}={value}" for name, value in vars(self).items() if name[0] != "_")
        return f"LambdaContext([{fields}])"


def parse_object(header: str | None, what: str) -> dict[str, Any] | None:
    """A header's JSON object, None where that is absent, empty or null. Raises RuntimeFailure."""
    if not header:
        return None
    try:
        value = decode_json(header)
    except (ValueError, RecursionError) as error:
        raise RuntimeFailure("LambdaContextUnmarshalError", f"Unable to parse {what} JSON: {error}") from None
    return None if value is None else as_object(value, what)


def as_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        reason = f"an object is needed, not {type(value).__name__}"
        raise RuntimeFailure("LambdaContextUnmarshalError", f"Unable to parse {what} JSON: {reason}")
    return value


# ─── 3. Handler, event, result, error ───────────────────────────────────────────────────────────────────────
# From a handler's name to a callable, from bytes to an event, from what it returned or raised to bytes.
# https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
# https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html


XRAY_CAUSE_LIMIT = 64 * 1024  # bytes of it that Lambda keeps


class RuntimeFailure(Exception):
    """An error that the runtime itself finds; reported as `Runtime.<name>`, with a stack of its own making."""

    def __init__(self, name: str, message: str, stack: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.stack = stack


def load_handler(name: str) -> Handler:
    """Import what `module.function`, `package.module.function` or `folder/module.function` names.

    Raises RuntimeFailure, or whatever the user's module raised.
    """
    if not name:
        raise RuntimeFailure("MalformedHandlerName", "Bad handler '': neither an argument nor _HANDLER names one")
    path, dot, function = name.rpartition(".")
    module = path.replace("/", ".")
    if not dot or not all(module.split(".")):
        raise RuntimeFailure("MalformedHandlerName", f"Bad handler '{name}': it should be like module.function")
    if module in sys.builtin_module_names:
        raise RuntimeFailure("BuiltInModuleConflict", f"Cannot use built-in module {module} as a handler module")
    try:
        __import__(module)
    except ImportError as error:
        raise RuntimeFailure("ImportModuleError", f"Unable to import module '{path}': {error}") from None
    except SyntaxError as error:
        frame = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        raise RuntimeFailure("UserCodeSyntaxError", f"Syntax error in module '{path}': {error}", (frame,)) from None
    handler: Handler | None = getattr(sys.modules[module], function, None)
    if not callable(handler):
        what = "" if handler is None else f": it is {handler!r:.100}, which cannot be called"
        raise RuntimeFailure("HandlerNotFound", f"Handler '{function}' missing on module '{path}'{what}")
    return handler


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class Decoder(JSONDecoder):  # with what its methods call as it is now, before user code can patch it
    raw_decode = JSONDecoder.raw_decode


class Encoder(JSONEncoder):
    iterencode, default = JSONEncoder.iterencode, JSONEncoder.default
    item_separator, key_separator = ", ", ": "


decode_json = Decoder(parse_constant=refuse_constant).decode
encode_json = Encoder(ensure_ascii=False).encode
encode_plain_json = Encoder(ensure_ascii=False, check_circular=False).encode
encode_ascii_json = Encoder().encode
encode_record = Encoder(ensure_ascii=False, default=str).encode


def decode_event(invocation: Invocation) -> Any:
    """The event: what its JSON says, or the bytes themselves of any other content type. Raises RuntimeFailure."""
    content_type = invocation.headers.get(CONTENT_TYPE, "")
    if content_type != JSON and content_type.partition(";")[0].strip().lower() not in (JSON, ""):
        body, invocation.body = invocation.body, b""
        return body
    try:
        text = invocation.body.decode()
        invocation.body = b""  # a large event's memory is used again for what is made of it
        return decode_json(text[1:] if text.startswith("\ufeff") else text)
    except (ValueError, RecursionError) as error:
        raise RuntimeFailure("UnmarshalError", f"Unable to unmarshal input: {error}") from None


class Result:
    """What a handler returned, as it goes over the wire."""

    __slots__ = ("body", "content_type")

    def __init__(self, body: BytesLike, content_type: str) -> None:
        self.body = body
        self.content_type = content_type


def encode_result(value: Any) -> Result:
    """Bytes as they are, anything else as JSON. Raises RuntimeFailure for what JSON cannot carry."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Result(exact_bytes(value), BYTES)
    try:
        return Result(result_json(value).encode(), JSON)
    except Exception as error:
        raise RuntimeFailure("MarshalError", f"Unable to marshal response: {message_of(error)}") from None


def encode_item(item: Any) -> BytesLike:
    """An item of a stream as bytes. Raises RuntimeFailure for what is neither str nor bytes-like."""
    try:
        return str.encode(item) if isinstance(item, str) else exact_bytes(item)
    except (TypeError, UnicodeEncodeError) as error:
        what = str(error) if isinstance(item, str) else f"it must be str or bytes-like, not {type(item).__name__}"
        raise RuntimeFailure("MarshalError", f"Unable to marshal response: an item of the stream: {what}") from None


def exact_bytes(value: Any) -> BytesLike:
    """The bytes of something bytes-like, whose length is the one that it has: a class may lie, an array may grow."""
    if type(value) is bytes:
        return value
    view = memoryview(value)
    return view.cast("B") if view.c_contiguous else view.tobytes()


def encode_prelude(item: dict[Any, Any]) -> bytes:
    """The HTTP status, headers and cookies that go before the body of a stream. Raises RuntimeFailure."""
    prelude = {"statusCode": 200, "headers": {}, "cookies": [], **item}
    fault = prelude_fault(**prelude) if len(prelude) == 3 else f"a prelude has no {[*prelude][3]!r}"
    if fault:
        raise RuntimeFailure("MarshalError", f"Unable to marshal response: {fault}")
    return encode_json(prelude).encode("utf-8", "backslashreplace")


def prelude_fault(statusCode: Any, headers: Any, cookies: Any) -> str:  # noqa: N803 # as on the wire
    """What is wrong with a prelude, if something is."""
    if not isinstance(statusCode, int) or isinstance(statusCode, bool) or not 100 <= statusCode <= 599:
        return f"statusCode must be an int from 100 to 599, not {statusCode!r}"
    if not isinstance(headers, dict):
        return f"headers must be a dict, not {type(headers).__name__}"
    if not isinstance(cookies, (list, tuple)):
        return f"cookies must be a list, not {type(cookies).__name__}"
    for name, value in headers.items():
        if not isinstance(name, str):
            return f"a name in headers must be a string, not {type(name).__name__}"
        if not isinstance(value, str):
            return f"headers[{name!r}] must be a string, not {type(value).__name__}"
    for number, value in enumerate(cookies):
        if not isinstance(value, str):
            return f"cookies[{number}] must be a string, not {type(value).__name__}"
    return ""


def result_json(value: Any) -> str:
    """JSON as Lambda's Python users know it: Decimal is a number, bytes are text, `_asdict()` is an object.

    What is made of built-in types alone, nearly everything, is left to json's C encoder. To that a namedtuple is a
    tuple, so that such have to be looked for; but not in an object without a single list in it. To look takes about as
    long as it takes to look for cycles, which in turn is left out: they are a RecursionError all the same.
    """
    try:
        text = encode_plain_json(value)
        if (type(value) in (dict, str) and "[" not in text) or has_plain_types(value):
            return text
    except TypeError:
        pass
    except RecursionError:
        return encode_json(value)  # says whether it is a cycle, or too deep

    numbers: list[str] = []
    mark = urandom(16).hex()  # stands for a number, as there is no way to tell json its digits
    text = encode_json(as_plain(value, mark, numbers))
    return "".join(part for pair in zip(text.split(f'"{mark}"'), [*numbers, ""]) for part in pair)


def has_plain_types(value: Any) -> bool:
    """Whether a value is made of the built-in types themselves alone: marshal, which is quick, takes no other."""
    try:
        marshal.dumps(value)
    except ValueError:
        return False
    return True


def as_plain(value: Any, mark: str, numbers: list[str]) -> Any:
    """The same value for JSON, each Decimal replaced by the mark and its digits added to the numbers."""
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, bytes):
        return value.decode()
    decimal = sys.modules.get("decimal")  # without that module there can be no Decimal
    if decimal and isinstance(value, decimal.Decimal):
        numbers.append("NaN" if value.is_nan() else str(value))
        return mark
    as_dict = getattr(value, "_asdict", None)
    if callable(as_dict):
        value = as_dict()
        if not isinstance(value, dict):
            raise TypeError(f"_asdict() must return a dict, not {type(value).__name__}")
    if isinstance(value, dict):
        return {k.decode() if isinstance(k, bytes) else k: as_plain(v, mark, numbers) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item, mark, numbers) for item in value]
    return value


exception_args: Callable[[BaseException], Any] = vars(BaseException)["args"].__get__
exception_traceback: Callable[[BaseException], Any] = vars(BaseException)["__traceback__"].__get__


class Failure:
    """What becomes of an exception: the error JSON, the headers beside it, and the lines of the log.

    `type` is the class's name, `Runtime.…` if the runtime itself found the error; `stack` a list of formatted
    frames, of the user's code alone. Made from anything that can be raised, and never raises itself.
    """

    def __init__(self, error: BaseException, request_id: str = "", recorded_type: str = "") -> None:
        kind = type(error)  # asked, like the attributes below, in ways that a class cannot lie about
        self.request_id = request_id
        self.message = message_of(error)
        self.exit = SystemExit(*exception_args(error)) if issubclass(kind, SystemExit) else None
        if kind is RuntimeFailure:
            self.type = self.recorded_type = f"Runtime.{error.name}"  # type: ignore[attr-defined]
            self.cause_type = "LambdaValidationError"
            self.frames: list[Frame] = []
            self.stack = [*error.stack]  # type: ignore[attr-defined]
        else:
            self.type = self.cause_type = class_name(error)
            known = self.type.isascii() and self.type.isidentifier()
            self.recorded_type = recorded_type or f"Function.{self.type if known else 'Unknown'}"
            self.frames, self.stack = user_stack(exception_traceback(error))

    def report(self) -> dict[str, Any]:
        return {
            "errorMessage": self.message,
            "errorType": self.type,
            "requestId": self.request_id,
            "stackTrace": self.stack,
        }

    def body(self) -> bytes:
        return encode_json(self.report()).encode("utf-8", "backslashreplace")  # a lone surrogate as \udc80: JSON, too

    def xray_cause(self) -> str:
        """What X-Ray shows of the error; in ASCII, and cut to what Lambda keeps.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-invokeerror
        """
        message, frames = self.message, self.frames
        while True:
            stack = [{"path": path, "line": line, "label": label} for path, line, label, _ in frames]
            cause = encode_ascii_json(
                {
                    "working_directory": working_directory(),
                    "exceptions": [{"message": message, "type": self.cause_type[:1000], "stack": stack}],
                    "paths": sorted({path for path, *_ in frames}),
                }
            )
            if len(cause) < XRAY_CAUSE_LIMIT:
                return cause
            message, frames = message[: len(message) // 2], frames[(len(frames) + 1) // 2 :]


def class_name(error: BaseException) -> str:
    """The name of an exception's class, which a metaclass may hide."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def message_of(error: BaseException) -> str:
    try:
        return str.__str__(str(error))  # a subclass of str could do anything, later on
    except BaseException as another:  # whatever it is: the error to report is the first one
        return f"<{class_name(error)}; its message cannot be had: __str__ raised {class_name(another)}>"


def user_stack(raised_at: TracebackType | None) -> tuple[list[Frame], list[str]]:
    """The frames of a traceback, also as text, without the runtime's own, and asyncio's or importlib's before them."""
    own = user_stack.__code__.co_filename
    frames: list[Frame] = []
    try:
        import traceback

        for frame in traceback.extract_tb(raised_at):
            name = frame.filename
            if name == own or name.startswith("<frozen importlib"):
                continue
            if frames or not ("/asyncio/" in name or name.endswith("/_contextvars.py")):  # PyPy's is in Python
                frames.append((name, frame.lineno or 0, frame.name, frame.line or ""))
        return frames, traceback.format_list(frames)
    except Exception:  # a cleared sys.path, a source file that goes away meanwhile: the error itself matters more
        return frames, []


def working_directory() -> str:
    try:
        return getcwd()
    except OSError:  # it has been removed
        return ""


# ─── 4. Logging ─────────────────────────────────────────────────────────────────────────────────────────────
# Where records go and what they look like. Lambda says by environment variables what it wants.
# https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html

# A frame's type says what is in it. Without a level it is just text; each level is 4 more.
TEXT_FRAME = 0xA55A0003
JSON_FRAME = 0xA55A0002
NO_BREAK_SPACE = "\xa0"
WARNING, ERROR = 30, 40  # as in the logging module, which may never be imported


def frame_type(base: int, level: int) -> int:
    return base + 4 * (min(max(level // 10, 1), 5) + 1)


class Log:
    """The function's log: standard output, or frames on a file descriptor if Lambda gives one.

    Knows the invocation in work, as its records carry the request id. With several in work at once it is the
    one of the context, in the sense of contextvars; otherwise it is that of the process, whatever the thread.
    """

    def __init__(self) -> None:
        self.json = environ.get("AWS_LAMBDA_LOG_FORMAT", "").lower() == "json"
        self.level = environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
        self._invocation = Invocation({REQUEST_ID: ""}, b"")  # none yet
        self._invocations: ContextVar[Invocation] | None = None
        frames_fd = environ.pop("_LAMBDA_TELEMETRY_LOG_FD", "")
        self.framed = frames_fd.isdigit()
        self._fd = out_of_reach(int(frames_fd) if self.framed else 1)  # where nobody closes it with sys.stdout
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Each line is out as it is printed: a time-out must not lose it. The buffer holds the longest
            # event that CloudWatch keeps, so that a line is one write.
            out = open(1, "w", 1 << 18, sys.stdout.encoding, sys.stdout.errors, closefd=False)
            out.reconfigure(line_buffering=True)
            out.buffer.raw.name = sys.stdout.name  # type: ignore[attr-defined]
            sys.stdout = out
        self._stdout = sys.stdout
        if hasattr(sys.stderr, "reconfigure"):
            sys.stderr.reconfigure(line_buffering=True)  # which it is already, but for PyPy

    def connect(self, path: str) -> None:
        """Have standard output and error go to a Unix socket, as Lambda wants it of several workers."""
        provider = Socket(socket.AF_UNIX)
        try:
            provider.connect(path)
            for fd in {1, 2} if self.framed else {1, 2, self._fd}:
                os.dup2(provider.fileno(), fd)
        except OSError as error:
            self.warning(f"There is no log at {path}: {error}")
        finally:
            provider.close()

    def share(self) -> None:
        """From now on there are several invocations in work at once."""
        self._invocations = ContextVar("invocation", default=self._invocation)

    def begin(self, invocation: Invocation) -> None:
        if self._invocations:
            self._invocations.set(invocation)
            return
        self._invocation = invocation
        trace_id = invocation.headers.get(TRACE_ID)
        try:
            if trace_id:
                environ["_X_AMZN_TRACE_ID"] = trace_id  # where the X-Ray SDK looks for it
                return
        except ValueError:  # what no environment can hold: a NUL, or letters that this system's encoding has not
            pass
        environ.pop("_X_AMZN_TRACE_ID", None)

    @property
    def invocation(self) -> Invocation:
        return self._invocations.get() if self._invocations else self._invocation

    def write(self, text: str, frame: int = TEXT_FRAME) -> None:
        """Write a record as it is, in one piece, behind all that was printed before it."""
        data = text.encode("utf-8", "backslashreplace")
        if self.framed:
            microseconds = int(time() * 1_000_000)
            data = frame.to_bytes(4, "big") + len(data).to_bytes(4, "big") + microseconds.to_bytes(8, "big") + data
        self._flush_printed()
        fd = self._fd
        while data:
            try:
                data = data[write_file(fd, data) :]
            except BlockingIOError:  # the user made it non-blocking, as asyncio does with pipes
                waiting = poll()
                waiting.register(fd, POLLOUT)
                waiting.poll()
            except OSError:  # closed, or a full disk
                if self.framed or fd == 1:
                    return
                fd = 1

    def flush(self) -> None:
        self._flush_printed()
        flush(getattr(sys, "stderr", None))

    def _flush_printed(self) -> None:
        stdout = getattr(sys, "stdout", None)
        if stdout is not self._stdout:  # the user's own, which may write to the other
            flush(stdout)
        flush(self._stdout)

    def failure(self, failure: Failure) -> None:
        """An uncaught error. On standard output it is one record however many lines it has."""
        if self.json:
            fields = {"timestamp": utc(int(time())) + "Z", "level": "ERROR", **failure.report()}
            self.write(encode_json(fields) + ("" if self.framed else "\n"), frame_type(JSON_FRAME, ERROR))
            return
        lines = [f"[ERROR] {failure.type}: {failure.message}" if failure.message else f"[ERROR] {failure.type}"]
        lines.append("Traceback (most recent call last):")
        for line in "".join(failure.stack).splitlines():
            text = line.lstrip(" ")
            lines.append(NO_BREAK_SPACE * (len(line) - len(text)) + text)
        text = "\n".join(lines) if self.framed else "\r".join(lines) + "\n"
        self.write(text, frame_type(TEXT_FRAME, ERROR))

    def warning(self, message: str) -> None:
        """A word of the runtime's own, in the form of a logging record."""
        now = time()
        if self.json:
            fields = {"timestamp": utc(int(now)) + "Z", "level": "WARNING", "message": message}
            fields |= {"logger": "runtime", "requestId": self.invocation.request_id}
            self.write(encode_json(fields) + "\n", frame_type(JSON_FRAME, WARNING))
        else:
            stamp = f"{utc(int(now))}.{int(now % 1 * 1000):03d}Z"
            frame = frame_type(TEXT_FRAME, WARNING) if self.level else TEXT_FRAME
            self.write(f"[WARNING]\t{stamp}\t{self.invocation.request_id}\t{message}\n", frame)


def flush(stream: Any) -> None:
    try:
        stream.flush()
    except BaseException:  # closed, or no stream at all, or whatever the user has made of it
        pass


TIME = "%Y-%m-%dT%H:%M:%S"


@lru_cache(1)  # worked out once a second: it is most of what a record costs
def utc(seconds: int) -> str:
    return strftime(TIME, gmtime(seconds))


class EarlyImports:
    """A finder, first on sys.meta_path, for what the runtime imports late: functions that need none of it do not pay.

    AWS's client has imported these modules before any user code runs, so that a file of such a name beside the handler
    is what nobody gets. Here it is passed over when they, and what they import in turn, are looked for. `logging` is
    set up as soon as it is there.
    """

    NAMES = ("logging", "traceback", "tokenize", "decimal", "asyncio", "warnings", "threading", "queue", "binascii")

    def __init__(self, log: Log, path: list[str]) -> None:
        self._log = log
        self._path = path  # the interpreter's own
        self._inside = 0

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if path is None and (self._inside or name in self.NAMES):
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(name, self._path)
                if spec:
                    if not isinstance(spec.loader, type):  # one of built-in modules is the same for all
                        self._follow(name, spec.loader)
                    return spec
        return None

    def _follow(self, name: str, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            self._inside += 1
            try:
                execute(module)
            finally:
                self._inside -= 1
            if name == "logging":
                set_up_logging(module, self._log)

        loader.exec_module = exec_module


def set_up_logging(logging: Any, log: Log) -> None:
    """Give the root logger the one handler and the level that it has on Lambda."""

    logging.Formatter.converter = gmtime  # for formatters of the user's, whatever TZ says

    class TextFormatter(logging.Formatter):  # type: ignore[misc]
        def usesTime(self) -> bool:
            return False  # what it would be needed for is made here

        def formatMessage(self, record: Any) -> str:
            stamp = utc(int(record.created))
            milliseconds = int(record.msecs)
            return f"[{record.levelname}]\t{stamp}.{milliseconds:03d}Z\t{record.aws_request_id}\t{record.message}\n"

    class JsonFormatter(TextFormatter):
        known = {*vars(logging.makeLogRecord({})), "message", "asctime", "aws_request_id", "tenant_id"}
        known |= {"timestamp", "level", "logger", "stackTrace", "errorType", "errorMessage", "requestId", "location"}

        def format(self, record: Any) -> str:
            fields = {
                "timestamp": utc(int(record.created)) + "Z",
                "level": logging.getLevelName(min(max(record.levelno // 10, 1), 5) * 10),
                "message": record.msg if isinstance(record.msg, dict) else record.getMessage(),
                "logger": record.name,
            }
            if record.exc_info and record.exc_info[0]:
                kind, error, frames = record.exc_info
                import traceback

                fields["stackTrace"] = traceback.format_tb(frames)
                fields["errorType"] = kind.__name__
                fields["errorMessage"] = message_of(error)
            fields["requestId"] = record.aws_request_id
            if "stackTrace" in fields:
                fields["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
            if record.tenant_id:
                fields["tenantId"] = record.tenant_id
            for name, value in vars(record).items():
                if name not in self.known and value is not None:
                    fields.setdefault(name, value)
            return encode_record(fields) + "\n"

    class LambdaLoggerHandler(logging.Handler):  # type: ignore[misc]
        def filter(self, record: Any) -> Any:
            invocation = log.invocation
            record.aws_request_id, record.tenant_id = invocation.request_id, invocation.headers.get(TENANT_ID)
            return super().filter(record) if self.filters else True

        def emit(self, record: Any) -> None:
            try:
                text = self.format(record)
                if not log.framed:
                    log.write(text if text.endswith("\n") else text + "\n")
                elif isinstance(self.formatter, JsonFormatter):
                    log.write(text, frame_type(JSON_FRAME, record.levelno))
                else:
                    log.write(text, frame_type(TEXT_FRAME, record.levelno) if log.json or log.level else TEXT_FRAME)
            except Exception:
                self.handleError(record)

    if log.json or log.level:
        LambdaLoggerHandler.__name__ = "LambdaLoggerHandlerWithFrameType"  # by which Datadog's library knows it
    handler = LambdaLoggerHandler()
    if log.json:
        handler.setFormatter(JsonFormatter(datefmt=TIME + "Z"))
    else:
        line = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"  # for who asks
        handler.setFormatter(TextFormatter(line, TIME))
    logging.root.addHandler(handler)
    level = logging.getLevelName({"TRACE": "DEBUG"}.get(log.level, log.level))
    if isinstance(level, int):
        logging.root.setLevel(level)


# ─── 5. The loop ────────────────────────────────────────────────────────────────────────────────────────────
# What happens in which order, and what becomes of errors: nothing above decides what is fatal.
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html


def serve(
    api: RuntimeAPI, handler: Handler, log: Log, shutdown: Shutdown, loop: EventLoop, patient: bool = False
) -> NoReturn:
    """Serve one invocation after another. Each is over only when the `next` after it is asked for.

    Ends by what it raises: RuntimeAPIError, or SystemExit. A `patient` loop is one of several, and ends only when
    there is no `next` to be had for some time.
    """
    bearable = (NotAccepted, RuntimeAPIError) if patient else NotAccepted
    while not shutdown.requested:
        invocation = persist(api.next) if patient else api.next()
        answer = None
        try:
            answer = invoke(handler, invocation, api, log, shutdown, loop)
            bootstrap.tell("post_invocation_result")
            log.flush()
            shutdown.check(answer)
            if isinstance(answer, Failure):
                log.failure(answer)
                api.fail(invocation, answer)
            elif isinstance(answer, Result):
                api.respond(invocation, answer)
            else:
                api.end()
        except bearable as reason:
            log.warning(f"Lambda did not take the answer: {reason}")
        if isinstance(answer, Failure) and answer.exit:
            raise answer.exit
        del invocation, answer  # may be large, and `next` may wait for hours
    raise SystemExit(0)


# What nearly all results are: to look for __await__ in their classes takes five times as long as to look here. By id, as
# a metaclass may leave its classes without a hash.
PLAIN_TYPES = {id(kind) for kind in (dict, list, str, bytes, int, float, bool, type(None))}


def invoke(
    handler: Handler, invocation: Invocation, api: RuntimeAPI, log: Log, shutdown: Shutdown, loop: EventLoop
) -> Result | Failure | None:
    """Call the handler: its result, None if that has been streamed already, or whatever went wrong.

    Raises NotAccepted when Lambda hangs up in the middle of a stream.
    """
    try:
        log.begin(invocation)
        event = decode_event(invocation)
        result = bootstrap.handle_event_request(None, handler)(event, LambdaContext(invocation))
        if id(type(result)) in PLAIN_TYPES:  # nothing to await, nothing to stream
            return encode_result(result)
        if hasattr(type(result), "__await__"):
            result = loop.run(result)
        if not isinstance(result, (GeneratorType, AsyncGeneratorType)):
            return encode_result(result)
    except BaseException as error:
        keep_room()
        return Failure(error, invocation.request_id)
    return stream(result, invocation, api, shutdown, loop)


def stream(items: Any, invocation: Invocation, api: RuntimeAPI, shutdown: Shutdown, loop: EventLoop) -> Failure | None:
    """Send what a handler's (async) generator yields, as it does so: what went wrong, if something did.

    The stream is not ended yet: an error would belong to its end. Raises NotAccepted when Lambda hangs up.
    """
    lost: Exception | None = None

    def send(item: Any) -> None:
        """Send an item. The first one may be a prelude; eight NULs part it from the body."""
        nonlocal lost
        shutdown.check()
        try:
            if api.streaming:
                api.send(encode_item(item))
            elif isinstance(item, dict):
                api.stream(invocation, HTTP_RESPONSE, encode_prelude(item), bytes(8))
            else:
                api.stream(invocation, BYTES, encode_item(item))
        except (NotAccepted, RuntimeAPIError) as error:
            lost = error
            raise

    try:
        if isinstance(items, AsyncGeneratorType):
            loop.pump(items, send)
        else:
            pump(items, send)
        if not api.streaming:
            send(b"")
        return None
    except BaseException as error:
        if lost and (error is lost or isinstance(lost, RuntimeAPIError)):  # an error of the clean-up's is no news then
            raise lost from None
        keep_room()
        return Failure(error, invocation.request_id)
    finally:
        lost = None


def keep_room() -> None:
    """Undo a recursion limit that user code has set too low for what the runtime has to do."""
    if getrecursionlimit() < 200:
        setrecursionlimit(1000)


def persist(call: Callable[[], Any]) -> Any:
    """Call, and after a failure call again, five times in all."""
    for pause in PAUSES:
        try:
            return call()
        except Unreachable:
            raise  # which was tried often enough
        except RuntimeAPIError:
            sleep(pause)
    return call()


def pump(items: Generator[Any, None, Any], send: Callable[[Any], None]) -> None:
    """Send what a generator yields, each item before the next is asked for; close it whatever happens."""
    run = copy_context().run  # what the handler sets there is gone with it
    try:
        while True:
            try:
                item = run(next, items)
            except StopIteration:
                return
            send(item)
    finally:
        run(items.close)


class EventLoop:
    """The event loop on which what a handler has to await runs; one, so that clients made there stay usable.

    It runs while there is something to wait for. What a handler leaves running goes on with the next invocation.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        self._loop = self._loop or find_event_loop()
        return self._loop

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """What an awaitable returns or raises. If we are told to end meanwhile, it is cancelled first."""
        task = self.loop.create_task(outcome(awaitable))
        task.add_done_callback(lambda _: self.loop.stop())
        try:
            while not task.done():
                self.loop.run_forever()
        except BaseException:  # SIGTERM, or sys.exit() in some other task
            task.cancel()
            while not task.done():
                self.loop.run_forever()
            raise
        try:
            return result_of(task.result())
        finally:
            del task  # as in result_of

    def pump(self, items: AsyncGenerator[Any, None], send: Callable[[Any], None]) -> None:
        """Send what an async generator yields, as `pump` does."""

        async def send_now(item: Any) -> None:
            send(item)

        self.run(pump_async(items, send_now))


def find_event_loop() -> asyncio.AbstractEventLoop:
    """The event loop that the user's module has made while it was imported, or else a new one."""
    import asyncio
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            loop = asyncio.get_event_loop()
        except RuntimeError:
            loop = asyncio.new_event_loop()
    if loop.is_closed():
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


async def pump_async(items: AsyncGenerator[Any, None], send: Callable[[Any], Awaitable[None]]) -> None:
    """Send what an async generator yields; in one task, as what it is within (`async with`) may insist on."""
    try:
        async for item in items:
            await send(item)
    finally:
        await items.aclose()


async def outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """What an awaitable returns and raises. An exception that got out, a SystemExit, would end the loop itself."""
    try:
        return await awaitable, None
    except BaseException as error:
        return None, error


def result_of(outcome: tuple[Any, BaseException | None]) -> Any:
    result, error = outcome
    try:
        if error:
            raise error
        return result
    finally:
        del error, outcome  # or the exception would keep itself alive, and all that its frames know


class Shutdown:
    """What SIGTERM does, as long as the user installs no handler of their own: end with status 0, properly.

    The exception unwinds whatever is running. Code that catches everything may swallow it: hence `check`.
    """

    def __init__(self) -> None:
        self.requested = False
        self._process = getpid()
        self._masks: list[Any] = []
        set_signal(SIGTERM, self._on_signal)
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._after_fork,
            after_in_child=self._after_fork_in_child,
        )

    def _before_fork(self) -> None:
        """Hold SIGTERM back: one that comes before the child can end by it would be lost."""
        self._masks.append(pthread_sigmask(SIG_BLOCK, [SIGTERM]))

    def _after_fork(self) -> None:
        pthread_sigmask(SIG_SETMASK, self._masks.pop())

    def _after_fork_in_child(self) -> None:
        """It ends by SIGTERM as any process does."""
        if self.installed():
            try:
                set_signal(SIGTERM, SIG_DFL)
            except ValueError:  # PyPy takes what another thread has forked for no main thread
                pass
        self._after_fork()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:  # once: a second signal shall not cut short the clean-up that the first one caused
            self.requested = True
            raise SystemExit(0)

    def installed(self) -> bool:
        """Whether it is still us whom the signal reaches, and not the user."""
        return getsignal(SIGTERM) == self._on_signal

    def check(self, answer: Result | Failure | None = None) -> None:
        """Raises SystemExit if we were told to end, or are a child that user code has forked and let return."""
        keep_room()
        if self.requested:
            raise SystemExit(0)
        if getpid() != self._process:
            if isinstance(answer, Failure):
                raise answer.exit or SystemExit(f"{answer.type}: {answer.message}")
            raise SystemExit(0)


class bootstrap:  # noqa: N801
    """What error trackers take for AWS's client, and patch: Sentry's and Honeybadger's look in __main__ for this name.

    They wrap the handler before each call, report a failed init, and send what they hold before an answer is given.
    """

    class LambdaRuntimeClient:
        @staticmethod
        def post_init_error(*_: object) -> None:
            pass

        post_invocation_result = post_invocation_error = post_init_error

    @staticmethod
    def handle_event_request(client: object, handler: Handler) -> Handler:
        return handler

    @classmethod
    def tell(cls, method: str, *args: object) -> None:
        try:
            getattr(cls.LambdaRuntimeClient, method)(None, *args)
        except BaseException:  # of theirs
            pass


# ─── 6. Several invocations at once ─────────────────────────────────────────────────────────────────────────
# Lambda Managed Instances: N times the same loop. For an ordinary handler in processes, each of which imports it for
# itself; for an async one in threads, which poll and answer, around one event loop.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-python-runtime.html

EACH, TOGETHER, GAVE_UP = b"1", b"N", b"!"  # what a worker tells: how many invocations it serves; the API is gone
WATCHED = (SIGTERM, signal.SIGCHLD, signal.SIGALRM)


class Worker:
    """A process that serves invocations, forked from this one; on a pipe it tells how it is doing."""

    def __init__(self, number: int, work: Callable[[Worker], int]) -> None:
        self.number = number
        self.started = monotonic()
        self.told = b""
        pipe, self._tell = os.pipe()
        os.set_blocking(pipe, False)  # a child of the worker's may keep the other end open for ever
        self.pipe = io.FileIO(pipe)
        self.pid = os.fork()
        if not self.pid:
            end(status_of(lambda: self._live(work)))
        os.close(self._tell)

    def _live(self, work: Callable[[Worker], int]) -> int:
        pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        try:
            return work(self)
        except RuntimeAPIError:
            self.tell(GAVE_UP)
            raise

    def tell(self, what: bytes) -> None:
        write_file(self._tell, what)

    def listen(self) -> bytes:
        """All that it has told so far; also in `told`."""
        self.told += self.pipe.read(9) or b""  # None: nothing new
        return self.told


def supervise(count: int, work: Callable[[Worker], int], log: Log) -> int:
    """Keep `count` workers at work, or one that does the work of all, until we are told to end. Returns a status.

    This process imports nothing of the user's. A worker that dies is replaced, ever later if that goes on; but when
    none has got through its init, or one finds that the API is gone, it is all over.
    """
    pthread_sigmask(SIG_BLOCK, WATCHED)  # they are waited for, below, and come at no other time
    workers: dict[int, Worker] = {}
    started = failed = 0
    kind = b""  # of handler, as the first worker tells once it has imported it
    pause, due = 0.1, 0.0
    try:
        while True:
            wanted = count if kind == EACH else 1
            while len(workers) < wanted and monotonic() >= due:
                worker = Worker(started, work)
                workers[worker.pid] = worker
                started += 1
            patience = 3600.0 if kind and len(workers) == wanted else 0.01
            signal.setitimer(signal.ITIMER_REAL, patience)  # as PyPy and macOS have no sigtimedwait
            if signal.sigwait(WATCHED) == SIGTERM:
                return 0
            if not kind:
                kind = b"".join(worker.listen() for worker in workers.values())
            for worker in list(workers.values()):
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if not pid:
                    continue
                del workers[pid]
                failed = 0 if worker.listen() else failed + 1
                worker.pipe.close()
                if GAVE_UP in worker.told or (failed >= count and not workers):
                    return 1
                if kind:
                    pause = 0.1 if monotonic() - worker.started > 1 else min(2 * pause, 10.0)
                    due = monotonic() + pause
                    code = os.waitstatus_to_exitcode(status)
                    log.warning(f"Worker {pid} has ended with status {code}, and is replaced")
    finally:
        stop(list(workers))


def stop(pids: list[int]) -> None:
    """End these children, if need be by force, and leave none behind."""
    for number in (SIGTERM, signal.SIGKILL):
        for pid in pids:
            kill(pid, number)
        until = monotonic() + 2
        while pids and monotonic() < until:
            pids = [pid for pid in pids if not os.waitpid(pid, os.WNOHANG)[0]]
            sleep(0.005)


def is_async(handler: Any) -> bool:
    """Whether a call makes a coroutine or an async generator: as the inspect module would say, without importing it."""
    while isinstance(handler, partial):
        handler = handler.func
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return bool(code and code.co_flags & (0x80 | 0x200))  # CO_COROUTINE, CO_ASYNC_GENERATOR


def serve_together(count: int, address: str, handler: Handler, log: Log, shutdown: Shutdown) -> NoReturn:
    """Serve several invocations at once. Ends by what it raises, as `serve`."""
    from threading import Thread

    loop = SharedEventLoop()
    log.share()

    def serve_one_by_one() -> None:
        try:
            serve(RuntimeAPI(address), handler, log, shutdown, loop, patient=True)
        except BaseException as error:
            loop.end(error)

    for _ in range(count):
        Thread(target=serve_one_by_one, daemon=True).start()
    loop.run_forever()


class SharedEventLoop(EventLoop):
    """The event loop of several invocations: runs in the main thread, and is called from those that serve."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._in_child = False
        self._loop = find_event_loop()  # now, before several threads want it
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    def run_forever(self) -> NoReturn:
        """Run until `end` is called; then give what is in work a moment to clean up, and raise what that was given."""
        import asyncio

        try:
            while not self._error:
                self.loop.run_forever()
            raise self._error
        finally:
            tasks = set() if self._in_child else asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=0.2))

    def _after_fork_in_child(self) -> None:
        """Leave the loop: its descriptors are the parent's, who would miss what is taken from them here."""
        self._in_child, self._error = True, SystemExit(0)
        self.loop.call_soon(self.loop.stop)

    def end(self, error: BaseException) -> None:
        self._error = self._error or error
        self.loop.call_soon_threadsafe(self.loop.stop)

    def run(self, awaitable: Awaitable[Any]) -> Any:
        import asyncio

        return result_of(asyncio.run_coroutine_threadsafe(outcome(awaitable), self.loop).result())

    def pump(self, items: AsyncGenerator[Any, None], send: Callable[[Any], None]) -> None:
        """Sending may block: it is done here, in the invocation's own thread, while the generator waits."""
        import asyncio
        from queue import SimpleQueue

        handed: SimpleQueue[Any] = SimpleQueue()

        async def hand_over(item: Any) -> None:
            sent = self.loop.create_future()
            handed.put((item, sent))
            await sent

        result = asyncio.run_coroutine_threadsafe(outcome(pump_async(items, hand_over)), self.loop)
        result.add_done_callback(lambda _: handed.put(None))
        for item, sent in iter(handed.get, None):
            try:
                send(item)
                self.loop.call_soon_threadsafe(sent.set_result, None)
            except BaseException as error:
                self.loop.call_soon_threadsafe(sent.set_exception, error)
        result_of(result.result())


# ─── 7. Start and end ───────────────────────────────────────────────────────────────────────────────────────
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html


def main() -> NoReturn:
    """Run the handler that the first argument or $_HANDLER names, until Lambda ends us."""
    end(status_of(lambda: run(sys.argv[1] if len(sys.argv) > 1 else environ.get("_HANDLER", ""))))


def status_of(action: Callable[[], int]) -> int:
    """The exit status after an action, whatever it ends with; the reason in one line, if it is not a good one."""
    try:
        return action()
    except (RuntimeAPIError, NotAccepted) as error:
        say(str(error))
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        say(str(error.code))
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # nothing that we know of
        say(f"{class_name(error)}: {message_of(error)}")
    return 1


def run(name: str) -> int:
    """Start as Lambda wants it: one process that does it all, or several."""
    address = environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        say(
            "AWS_LAMBDA_RUNTIME_API is not set: it is the address of the Runtime API, and Lambda sets it. To run a "
            "function locally start it from an emulator, such as the project's own (make invoke), AWS's RIE or SAM."
        )
        return 1
    keep_standard_descriptors()
    # Freed memory of up to twice the largest piece freed so far stays with glibc (mallopt(3), M_MMAP_THRESHOLD). After
    # this piece large events reuse theirs; to get it from the system each time takes up to a third of their CPU time.
    bytes(16 << 20)
    path = set_up_path()
    log = LambdaContext._log = Log()
    sys.meta_path.insert(0, EarlyImports(log, path))
    if "logging" in sys.modules:  # a sitecustomize.py or a .pth file was there first
        set_up_logging(sys.modules["logging"], log)
    concurrency = environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "")
    if not concurrency.isdigit() or not int(concurrency):
        return work(name, address, log)
    return supervise(int(concurrency), lambda worker: work(name, address, log, int(concurrency), worker), log)


def work(name: str, address: str, log: Log, concurrency: int = 0, worker: Worker | None = None) -> int:
    """Init, then serve. Returns an exit status when init fails, otherwise ends by what `serve` raises.

    A worker is one of several; it tells when it is ready, and how many invocations it will serve.
    """
    api = RuntimeAPI(address)
    shutdown = Shutdown()
    provider = environ.pop("_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET", "")
    if worker and provider:
        log.connect(provider)
    failure = None
    try:
        handler = load_handler(name)
    except BaseException as error:
        failure = Failure(error)
    shutdown.check(failure)
    if failure:
        bootstrap.tell("post_init_error", failure.report())
        return give_up(failure, api.init_error, log, 1)
    if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        status = pass_snapshot(api, log)
        if status:
            return status
    if not shutdown.installed() and not (worker and worker.number):  # the first of them will do
        register_extension(address, log)
    together = worker is not None and is_async(handler)
    if worker:
        worker.tell(TOGETHER if together else EACH)
    if together:
        serve_together(concurrency, address, handler, log, shutdown)
    serve(api, handler, log, shutdown, EventLoop(), patient=worker is not None)


def give_up(failure: Failure, report: Callable[[Failure], None], log: Log, status: int) -> int:
    """Say why there will be no invocations, in the log and to Lambda; returns the status to exit with."""
    log.failure(failure)
    try:
        report(failure)
    except (NotAccepted, RuntimeAPIError) as error:
        say(str(error))
    return status


def pass_snapshot(api: RuntimeAPI, log: Log) -> int:
    """SnapStart: run the user's hooks around the moment of the snapshot. Returns an exit status, 0 if all went well.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
    """
    hooks: Any = sys.modules.get("snapshot_restore_py")  # nobody can have registered one if it is not there
    try:
        for function, args, kwargs in reversed(hooks.get_before_snapshot() if hooks else ()):
            function(*args, **kwargs)
    except BaseException as error:
        return give_up(Failure(error, recorded_type="Runtime.BeforeSnapshotError"), api.init_error, log, 64)
    api.restore_next()
    try:
        for function, args, kwargs in hooks.get_after_restore() if hooks else ():
            function(*args, **kwargs)
    except BaseException as error:
        return give_up(Failure(error, recorded_type="Runtime.AfterRestoreError"), api.restore_error, log, 65)
    return 0


def register_extension(address: str, log: Log) -> None:
    """Have Lambda send the SIGTERM that the user's module waits for: it does so for extensions only.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
    """
    from threading import Thread

    api = RuntimeAPI(address)
    try:
        identifier = api.register_extension("runtime.py")
    except RuntimeAPIError as error:
        log.warning(f"There will be no SIGTERM, as the runtime cannot be registered as an extension: {error}")
        return
    Thread(target=status_of, args=(lambda: api.extension_next(identifier),), daemon=True).start()


def set_up_path() -> list[str]:
    """Arrange sys.path as Lambda does; returns what it was: the interpreter's own.

    https://docs.aws.amazon.com/lambda/latest/dg/python-package.html#python-package-searchpath
    """
    own = sys.path[:]
    layers = [f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages", "/opt/python"]
    layers = [folder for folder in layers if os.path.isdir(folder)]
    folders = [environ.get("LAMBDA_TASK_ROOT") or working_directory(), *layers]
    sys.path[:0] = folders
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:  # it cannot be read, or is not there
            continue
        if any(name.endswith(".pth") for name in names):
            import site

            site.addsitedir(folder)
    runtime_dir = environ.get("LAMBDA_RUNTIME_DIR")
    if runtime_dir and os.path.isdir(runtime_dir):
        if runtime_dir not in sys.path:
            sys.path.append(runtime_dir)
        environ.setdefault("PYTHONPATH", runtime_dir)
    environ.pop("_BOOTSTRAP_WRAPPED", None)  # between bootstrap and itself
    return own


def say(line: str) -> None:
    """Say why the runtime ends, on standard error."""
    try:
        write_file(2, f"runtime.py: {line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def end(status: int) -> NoReturn:
    """End the process: run what was registered to run then, flush, and wait for no thread that was left running."""
    set_signal(SIGTERM, SIG_IGN)
    try:
        run_exit_functions()  # and not an ordinary exit, which would first join all threads
    except BaseException:
        pass
    for name in ("stdout", "stderr", "__stdout__"):
        flush(getattr(sys, name, None))
    exit_now(status)


if __name__ == "__main__":
    main()
