#!/usr/bin/env python3
# SPDX-License-Identifier: MIT-0
"""The Python runtime for AWS Lambda in one file, with nothing but the standard library.

A Lambda runtime is the program between Lambda and a function. Lambda starts `bootstrap`, which starts this file. From
then on the runtime talks to the Runtime API, an HTTP server at $AWS_LAMBDA_RUNTIME_API:

    import the handler ── that fails ──▶ POST /init/error, and exit
          │
          ▼
    ┌▶ GET /invocation/next          blocks until there is an event; Lambda freezes the process meanwhile
    │     ▼
    │  handler(event, context)       the user's code
    │     ▼
    └─ POST /invocation/{id}/response   or   POST /invocation/{id}/error

How to read it: `serve`, right below, is this loop. The sections after it are what it uses, in the order in which an
invocation meets them; the last two are about processes. Names like runtimes-custom.html#runtimes-custom-build are pages
of https://docs.aws.amazon.com/lambda/latest/dg/.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Python puts the script's folder first on sys.path. It may be the function's, whose json.py is not meant below.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]
    __spec__ = None  # type: ignore[assignment] # after -m, multiprocessing's children would import the user's `runtime`

# Where Python has a module in C under another name (_signal, _socket), that one is imported: it loads faster, and a
# user's file named signal.py or socket.py is still the user's to import.
import _signal as signal  # type: ignore[import-not-found, unused-ignore]
import builtins
import io
import marshal
import os
import re
from _contextvars import ContextVar, copy_context
from _frozen_importlib_external import PathFinder
from _socket import AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, TCP_NODELAY, SocketType
from _thread import RLock, start_new_thread
from contextlib import suppress
from functools import partial
from json import JSONDecoder, JSONEncoder, dumps
from time import gmtime, monotonic, sleep, strftime, time

TYPE_CHECKING = False  # typing is slow to import, and only a type checker needs it
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from typing import Any, Callable, NoReturn, Union

    Handler = Callable[[Any, "LambdaContext"], Any]
    Result = tuple[bytes, str]  # body, content type
    Answer = Union[Result, "Failure", None]  # None: it has been streamed

__version__ = "2.0.0"

# ─── The loop ───────────────────────────────────────────────────────────────────────────────────────────────────────
# What happens in which order. Once the handler is imported, `serve` decides which errors end the process.
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html


def serve(api: RuntimeAPI, handler: Handler, log: Log, loop: EventLoop) -> None:
    """Serve one invocation after another. To Lambda an invocation ends when the runtime asks for the next one, not when
    it answers. Raises RuntimeAPIError if the Runtime API fails, SystemExit on SIGTERM or if the handler exits."""
    while not loop.closing:
        shutdown.check()
        invocation = api.next()
        answer = None
        try:
            log.begin(invocation)
            answer = invoke(handler, invocation, api, log, loop)
            tell_tracker("post_invocation_result")
            shutdown.check()
            if isinstance(answer, Failure):
                log.failure(answer)
                api.fail(invocation, answer)
            elif answer:
                api.respond(invocation, *answer)
        except RuntimeAPIError as error:
            if error.status in api.fatal:
                raise
            # It was refused (413, too late), or did not get through. This invocation is over; the process is fine.
            log.warning(f"Lambda did not take the answer: {error}")
        finally:
            api.idle = True
        if isinstance(answer, Failure) and answer.exit:
            raise answer.exit
        del invocation, answer  # they may be large, and `next` may wait for hours


def invoke(handler: Handler, invocation: Invocation, api: RuntimeAPI, log: Log, loop: EventLoop) -> Answer:
    """Call the handler. Raises RuntimeAPIError if Lambda does not take a stream, SystemExit on SIGTERM."""
    try:
        event = decode_event(invocation)
        result = bootstrap.handle_event_request(None, handler)(event, LambdaContext(invocation))
        if hasattr(type(result), "__await__") or hasattr(type(result), "__anext__"):
            return loop.lend(lambda: deliver(result, invocation, api, log, loop))  # type: ignore[no-any-return]
        return deliver(result, invocation, api, log, loop)
    except BaseException as error:
        shutdown.check(error)
        return Failure(error, invocation.request_id)


def deliver(result: Any, invocation: Invocation, api: RuntimeAPI, log: Log, loop: EventLoop) -> Result | None:
    """Await, stream or encode a result, whichever it needs."""
    if hasattr(type(result), "__await__"):
        result = loop.start(result).result()
    if hasattr(type(result), "__anext__"):
        result = loop.iterate(result)
    return stream(result, invocation, api, log) if hasattr(type(result), "__next__") else encode(result, as_result)


def stream(items: Any, invocation: Invocation, api: RuntimeAPI, log: Log) -> Result | None:
    """Send each item as soon as the handler yields it. Returns None, or the ordinary result of a generator that
    returns a value (`return {"statusCode": 403}`) instead of yielding."""
    try:
        while True:
            item = next(items)
            shutdown.check()
            if api.streaming:
                api.send_chunk(encode(item, as_item))
            elif isinstance(item, dict):  # a prelude: HTTP status and headers, parted from the body by eight NULs
                api.stream(invocation, HTTP_RESPONSE, encode(item, as_prelude))
                api.send_chunk(bytes(8))
            else:
                api.stream(invocation, BYTES, encode(item, as_item))
    except StopIteration as end:
        returned = end.value
    finally:
        if hasattr(items, "close"):
            items.close()  # the generator's `finally` runs also when Lambda hangs up
    shutdown.check()
    if not api.streaming and returned is not None:
        return encode(returned, as_result)  # type: ignore[no-any-return]
    if not api.streaming:
        api.stream(invocation, BYTES)
    elif returned is not None:
        log.warning("The generator returned a value after its first item. A stream cannot carry it: it is lost")
    api.end_stream()
    return None


# ─── The Runtime API ────────────────────────────────────────────────────────────────────────────────────────────────
# The methods of RuntimeAPI are the calls of the protocol. Only this section sends and reads HTTP.
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

USER_AGENT = f"runtime.py/{__version__} Python/{sys.version.split()[0]}"  # Lambda records the first word

# Headers of `next`, in lower case as they are looked up; then those of a failure.
REQUEST_ID, TRACE_ID = "lambda-runtime-aws-request-id", "lambda-runtime-trace-id"
TENANT_ID = "lambda-runtime-aws-tenant-id"
ERROR_TYPE, ERROR_BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"

JSON, BYTES = "application/json", "application/octet-stream"
HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response"  # a stream that begins with a prelude
WIRE = ("utf-8", "surrogateescape")  # headers go back byte for byte
SERVER_ERRORS, NO_STATUS = range(500, 600), range(0)
PAUSES = (0, 0.1, 0.2, 0.4, 0.8)  # seconds before each attempt
NO_SIGPIPE = 0x4000 if sys.platform == "linux" else 0  # MSG_NOSIGNAL, which Python has no name for


def import_http_client() -> Any:
    """A copy of http.client of our own, without email, socket, ssl and urllib: importing these takes as long as all the
    rest of a cold start. Libraries that patch the user's http.client do not reach it."""
    copy: Any = type(sys)("http.client")
    stand_in: Any = type(sys)("stand_in")  # all that http.client uses of these modules
    stand_in.HTTPStatus = stand_in.parser = stand_in.message = stand_in
    stand_in.Message, stand_in.__members__ = object, {}
    stand_in.urlsplit = stand_in.create_connection = stand_in._GLOBAL_DEFAULT_TIMEOUT = None
    heavy, imports = ("http", "email.parser", "email.message", "socket", "urllib.parse", "ssl"), __import__
    with suppress(Exception):  # a Python whose http.client needs more than this: then the ordinary one
        spec: Any = PathFinder.find_spec("http.client", [os.path.join(os.path.dirname(os.__file__), "http")])
        builtins.__import__ = lambda name, *args: stand_in if name in heavy else imports(name, *args)
        try:
            exec(spec.loader.get_code("http.client"), vars(copy))
        finally:
            builtins.__import__ = imports
        copy.CONTINUE, copy.NO_CONTENT, copy.NOT_MODIFIED = 100, 204, 304
        copy.parse_headers = parse_headers
        copy.MAXAMOUNT = sys.maxsize  # Python 3.9 reads in pieces of this size: the memory of many stays in use
        return copy
    return __import__("http.client").client


def parse_headers(file: Any, **_: Any) -> dict[str, str]:
    """The headers of an answer, names in lower case. http.client's own way, through email, takes ten times as long."""
    headers = {}
    for line in iter(file.readline, b"\r\n"):
        name, colon, value = line.decode(*WIRE).partition(":")
        if not colon:
            raise ValueError(f"the answer is cut or garbled: {line[:100]!r}")
        headers[name.lower()] = value.strip()
    return headers


client: Any = import_http_client()


class RuntimeAPIError(Exception):
    """A call failed: the text says which one and why. `status` is that of Lambda's answer, 0 if there was none."""

    def __init__(self, request: str, reason: str, status: int = 0) -> None:
        super().__init__(f"{request}: {reason}")
        self.status = status


class Response(client.HTTPResponse):  # type: ignore[misc]
    """Reads the answers on a connection, and holds the latest one: `status`, `headers`, `body`."""

    status, body, debuglevel, _method = 0, b"", 0, None

    def __init__(self, sock: SocketType) -> None:
        self.fp: Any = io.BufferedReader(io.FileIO(sock.fileno(), closefd=False), 1 << 16)

    def receive(self) -> None:
        """Read an answer. Raises OSError if none comes, ValueError or HTTPException if it is cut or garbled."""
        self.status, self.body = 100, b""
        while self.status < 200:  # interim answers, such as 100 Continue, are passed over
            self.headers: Any = None
            self.begin()
        self.body = self.read()

    def _close_conn(self) -> None:
        """http.client calls this after each body. The buffer is kept for the next answer."""


class RuntimeAPI(client.HTTPConnection):  # type: ignore[misc]
    """The calls of the Runtime API, on a connection that stays open. They raise RuntimeAPIError.

    `address` is host:port; emulators also give http://host:port/prefix. `fatal` are the statuses on which Lambda wants
    the process to exit. `streaming` is True once a streamed response has begun, `idle` if no event is being handled."""

    streaming, idle = False, True

    def __init__(self, address: str, fatal: range = SERVER_ERRORS) -> None:
        host, _, prefix = re.sub("^http://", "", address.strip(), flags=re.I).partition("/")
        super().__init__(host)
        self.fatal = fatal
        root = f"/{prefix}".rstrip("/")
        self._base, self._extension = f"{root}/2018-06-01/runtime", f"{root}/2020-01-01/extension"
        self._common = f" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n"

    def next(self) -> Invocation:
        """Wait for an event: runtimes-api.html#runtimes-api-next"""
        request = f"GET {self._base}/invocation/next"
        self.streaming = False
        while self._call(request).status == 204:  # an emulator without an event; Lambda would have waited
            with suppress(Exception):  # a signal handler of the user's raises
                sleep(0.05)
        if not self.response.headers.get(REQUEST_ID):
            raise RuntimeAPIError(request, "an event without a request id")
        self.idle = False
        body, self.response.body = self.response.body, b""  # it may be large, and the response stays
        return Invocation(self.response.headers, body)

    def respond(self, invocation: Invocation, body: bytes, content_type: str) -> None:
        """Send a result: runtimes-api.html#runtimes-api-response"""
        headers = f"Content-Type: {content_type}\r\n{invocation.echo}"
        self._call(f"POST {self._base}{invocation.path}/response", headers, body)

    def fail(self, invocation: Invocation, failure: Failure) -> None:
        """Report a failure, in the trailers if a stream has begun: runtimes-api.html#runtimes-api-invokeerror"""
        if self.streaming:
            self.end_stream(failure)
        else:
            headers = failure.headers() + invocation.echo
            self._call(f"POST {self._base}{invocation.path}/error", headers, failure.body())

    def init_error(self, failure: Failure, phase: str = "init") -> None:
        """Report why no event will be asked for, in phase init or restore: runtimes-api.html#runtimes-api-initerror"""
        self._call(f"POST {self._base}/{phase}/error", failure.headers(), failure.body())

    def restore_next(self) -> None:
        """SnapStart: say that a snapshot may be taken. Returns in each process that is restored from it."""
        self._call(f"GET {self._base}/restore/next")
        self.close()  # the other end is not in the snapshot

    def stream(self, invocation: Invocation, content_type: str, chunk: bytes = b"") -> None:
        """Begin a streamed response, with its first chunk: runtimes-custom.html#runtimes-custom-response-streaming"""
        self._streamed = f"POST {self._base}{invocation.path}/response"
        self.close()  # the kept connection may be stale, and a stream cannot be sent again
        self._attempt(self._streamed)
        self.streaming = True
        mode = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
        headers = f"{mode}Trailer: {ERROR_TYPE}, {ERROR_BODY}\r\nContent-Type: {content_type}\r\n{invocation.echo}"
        self.send_chunk(chunk, f"{self._streamed}{self._common}{headers}\r\n".encode(*WIRE))

    def send_chunk(self, chunk: bytes, head: bytes = b"") -> None:
        """Send a part of a stream: its length in hexadecimal, then its bytes. An empty one would end the stream."""
        self._send(head + (b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b""))

    def end_stream(self, failure: Failure | None = None) -> None:
        """End a stream. What went wrong goes into two trailers, which are headers behind the body."""
        trailers = ""
        if failure:
            body = import_standard("binascii").b2a_base64(failure.body(), newline=False).decode()
            trailers = f"{ERROR_TYPE}: {failure.recorded_type}\r\n{ERROR_BODY}: {body}\r\n"
        self._send(f"0\r\n{trailers}\r\n".encode(), last=True)

    def register_extension(self) -> str:
        """Become an internal extension that wants no events: runtimes-extensions-api.html. Returns its identifier."""
        headers = f"Lambda-Extension-Name: runtime.py\r\nContent-Type: {JSON}\r\n"
        response = self._call(f"POST {self._extension}/register", headers, b'{"events": []}')
        return response.headers.get("lambda-extension-identifier", "")  # type: ignore[no-any-return]

    def extension_next(self, identifier: str) -> None:
        """Say that the extension is ready. It wants no events, so this never returns."""
        with suppress(RuntimeAPIError):
            self._call(f"GET {self._extension}/event/next", f"Lambda-Extension-Identifier: {identifier}\r\n")

    def connect(self) -> None:
        """Open the connection. http.client would do it by the user's `socket.socket`, which may be a proxy's."""
        sock = SocketType(AF_INET6 if ":" in self.host else AF_INET)
        sock.settimeout(None)  # `next` may block for hours, whatever socket.setdefaulttimeout() says
        sock.connect((self.host, self.port))
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self.sock, self.response = sock, Response(sock)

    def _call(self, request: str, headers: str = "", body: bytes = b"") -> Any:
        """Send a request and return its answer."""
        posted = request.startswith("POST")
        length = f"Content-Length: {len(body)}\r\n" if posted else ""
        sent_before = self._attempt(request, f"{request}{self._common}{headers}{length}\r\n".encode(*WIRE) + body)
        if self.response.will_close:
            self.close()
        # If Lambda refuses a post that was sent before, the first one had most likely arrived.
        if not (posted and sent_before and 400 <= self.response.status < 500 and self.response.status != 413):
            self._check(request)
        return self.response

    def _attempt(self, request: str, data: bytes = b"") -> bool:
        """Connect, send data if there are any, and read the answer. Only this method tries again: after a refused or
        cut connection, a garbled answer, a signal handler that raises. Returns whether an earlier try may be there."""
        sent, reason = False, ""
        for pause in PAUSES if self.sock is None else (0, *PAUSES):  # a kept connection may be stale: one more try
            try:
                if pause:
                    sleep(pause)
                if self.sock is None:
                    self.connect()
                if data:
                    self._write(data)
                    self.response.receive()
                return sent
            except Exception as error:
                sent, reason = sent or self.sock is not None, repr(error)
                self.close()
        raise RuntimeAPIError(request, f"no answer from {self.host}:{self.port}: {reason}")

    def _write(self, data: bytes) -> bool:
        """Send data. Returns False if Lambda hangs up meanwhile, as on a body that it refuses: its answer says why."""
        try:
            self.sock.sendall(data, NO_SIGPIPE)
            return True
        except ConnectionError:
            return False

    def _check(self, request: str) -> None:
        status, body = self.response.status, self.response.body[:500].decode("utf-8", "backslashreplace")
        if status >= 300:
            raise RuntimeAPIError(request, " ".join(f"{status} {body}".split()), status)

    def _send(self, data: bytes, last: bool = False) -> None:
        """Send a part of a stream. The connection is closed after the last one, as AWS's guide asks, and after a
        failure, because half a chunk may be out."""
        reason = "" if last else "Lambda hung up"
        if self.sock is None:
            raise RuntimeAPIError(self._streamed, "the stream has ended")
        try:
            if self._write(data) and not last:
                return
            self.response.receive()
        except Exception as error:
            reason = repr(error)
        except BaseException:  # a signal handler of the user's exits
            self.close()
            raise
        self.close()
        self._check(self._streamed)
        if reason:
            raise RuntimeAPIError(self._streamed, reason)


# ─── Invocation and context ─────────────────────────────────────────────────────────────────────────────────────────
# What a handler gets, made from the headers of `next`.
# https://docs.aws.amazon.com/lambda/latest/dg/python-context.html


class Invocation:
    """One event: the `headers` of `next` (names in lower case), the `body` in bytes, the `request_id`. Also `path`,
    under which it is answered, and `echo`, the header line that its answer repeats, or nothing."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers, self.body, self.request_id = headers, body, headers[REQUEST_ID]
        plain = PLAIN_ID(self.request_id)
        self.path = f"/invocation/{self.request_id if plain else '%' + self.request_id.encode(*WIRE).hex('%')}"
        nonce = headers.get("lambda-runtime-invocation-id")
        self.echo = f"Lambda-Runtime-Invocation-Id: {nonce}\r\n" if nonce else ""


PLAIN_ID = re.compile("[A-Za-z0-9_-]+").fullmatch  # any other is quoted: it stays one segment of the path


class Fields:
    """Attributes, printed under a name as AWS's client prints them (only ours has trace_id)."""

    def __init__(self, name: str, **fields: Any) -> None:
        vars(self).update(fields, _name=name)

    def __repr__(self) -> str:
        shown = [f"{name}={value}" for name, value in vars(self).items() if name[0] != "_" and name != "trace_id"]
        return f"{self._name}([{','.join(shown)}])"  # type: ignore[attr-defined]


CLIENT_FIELDS = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
FUNCTION = {  # the same for all invocations
    "log_group_name": os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
    "log_stream_name": os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
    "function_name": os.environ.get("AWS_LAMBDA_FUNCTION_NAME"),
    "memory_limit_in_mb": os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
    "function_version": os.environ.get("AWS_LAMBDA_FUNCTION_VERSION"),
}


class LambdaContext(Fields):
    """The handler's second argument. Raises RuntimeFailure if a header is not the JSON object that it should be."""

    _log: Log | None = None  # on the class, so that a context can be copied and pickled

    def __init__(self, invocation: Invocation) -> None:
        headers = invocation.headers
        super().__init__("LambdaContext", aws_request_id=invocation.request_id, **FUNCTION)
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.client_context = None
        sent = as_object(headers.get("lambda-runtime-client-context") or None, "Client Context")
        if sent is not None:
            app: Any = as_object(sent.get("client"), "Client Context")
            app = app if app is None else Fields("Client", **{name: app.get(name) for name in CLIENT_FIELDS})
            self.client_context = Fields("ClientContext", custom=sent.get("custom"), env=sent.get("env"), client=app)
        self._w3c = sent and sent.get("w3c")
        sent = as_object(headers.get("lambda-runtime-cognito-identity") or None, "Cognito Identity") or {}
        identity, pool = sent.get("cognitoIdentityId"), sent.get("cognitoIdentityPoolId")
        self.identity = Fields("CognitoIdentity", cognito_identity_id=identity, cognito_identity_pool_id=pool)
        self.tenant_id = headers.get(TENANT_ID) or None
        self.trace_id = headers.get(TRACE_ID)  # the environment has it only if invocations come one at a time
        self._epoch_deadline_time_in_ms = int(headers.get("lambda-runtime-deadline-ms") or 0)  # people use AWS's name

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends this invocation; never negative, 0 if no deadline is known."""
        return max(0, self._epoch_deadline_time_in_ms - int(time() * 1000))

    def w3c(self) -> dict[str, str]:
        """The caller's W3C trace context: what it sent of traceparent, tracestate and baggage."""
        sent = self._w3c.items() if isinstance(self._w3c, dict) else ()
        return {k: v for k, v in sent if k in ("traceparent", "tracestate", "baggage") and isinstance(v, str)}

    def log(self, message: object) -> None:
        """Write a message to the log as it is, without level, time or line break."""
        (self._log or sys.stdout).write(str(message))


def as_object(value: Any, what: str) -> dict[str, Any] | None:
    """A JSON object, given as text or as it is; None stays None. Raises RuntimeFailure."""
    try:
        value = decode_json(value) if isinstance(value, str) else value
        return None if value is None else {**value}
    except (TypeError, ValueError, RecursionError) as error:
        raise RuntimeFailure("LambdaContextUnmarshalError", f"Unable to parse {what} JSON: {error}") from None


# ─── Handler, event, result, failure ────────────────────────────────────────────────────────────────────────────────
# From a name to a callable, from bytes to an event, from what the handler returned or raised to bytes.
# https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
# https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html

UTF_8 = ("utf-8", "backslashreplace")  # half of a surrogate pair becomes \ud83d, which is an escape in JSON, too


class RuntimeFailure(Exception):
    """An error that the runtime finds itself, reported as `Runtime.<kind>`, with a stack of formatted frames."""

    def __init__(self, kind: str, message: object, stack: list[str] | None = None) -> None:
        super().__init__(message)
        self.kind, self.stack = kind, stack or []


def load_handler(name: str) -> Handler:
    """Import what `module.function`, `package.module.function` or `folder/module.function` names. Raises RuntimeFailure
    or whatever the user's module raises."""
    path, dot, function = name.rpartition(".")
    module = path.replace("/", ".")
    if not dot or not all(module.split(".")):
        what = "it should be like module.function" if name else "neither an argument nor _HANDLER names one"
        raise RuntimeFailure("MalformedHandlerName", f"Bad handler '{name}': {what}")
    if module in sys.builtin_module_names:
        raise RuntimeFailure("BuiltInModuleConflict", f"Cannot use built-in module {module} as a handler module")
    try:
        __import__(module)
    except ImportError as error:
        message = f"Unable to import module '{path}': {error}"
        raise RuntimeFailure("ImportModuleError", message, user_stack(error)[1]) from None  # shows who imports it
    except SyntaxError as error:
        place = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        raise RuntimeFailure("UserCodeSyntaxError", f"Syntax error in module '{path}': {error}", [place]) from None
    handler = getattr(sys.modules[module], function, None)
    if callable(handler):
        return handler  # type: ignore[no-any-return]
    what = "" if handler is None else f": it is {handler!r:.100}, which cannot be called"
    raise RuntimeFailure("HandlerNotFound", f"Handler '{function}' missing on module '{path}'{what}")


decode_json = JSONDecoder(parse_constant=int).decode  # NaN and Infinity are no JSON, and int() refuses them
encode_json = JSONEncoder(ensure_ascii=False).encode
encode_json_quickly = JSONEncoder(ensure_ascii=False, check_circular=False).encode  # a cycle is a RecursionError, too
encode_json_or_str = JSONEncoder(ensure_ascii=False, default=str).encode


def decode_event(invocation: Invocation) -> Any:
    """The event: what its JSON says, or its bytes if it has another content type. Raises RuntimeFailure."""
    body, invocation.body = invocation.body, b""  # a large one's memory is soon free again
    content_type = invocation.headers.get("content-type") or JSON
    if content_type != JSON and content_type.partition(";")[0].strip().lower() != JSON:
        return body
    try:
        text = body.decode()
        del body
        return decode_json(text[1:] if text.startswith("\ufeff") else text)
    except (ValueError, RecursionError) as error:
        raise RuntimeFailure("UnmarshalError", f"Unable to unmarshal input: {error}") from None


def encode(value: Any, how: Callable[[Any], Any]) -> Any:
    """What a handler returned or yielded, encoded in one of the ways below. Raises RuntimeFailure (MarshalError)."""
    try:
        return how(value)
    except Exception as error:
        raise RuntimeFailure("MarshalError", f"Unable to marshal response: {error}") from None


def as_result(value: Any) -> Result:
    """A result's body and content type: bytes as they are, anything else as JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), BYTES
    return as_json(value).encode(*UTF_8), JSON


def as_item(value: Any) -> bytes:
    """An item of a stream: text in UTF-8, or bytes as they are."""
    return value.encode() if isinstance(value, str) else memoryview(value).tobytes()


def as_prelude(item: dict[str, Any]) -> bytes:
    """The HTTP status, headers and cookies before the body of a stream."""
    prelude = {"statusCode": 200, "headers": {}, "cookies": [], **item}
    prelude["headers"] = dict(prelude["headers"])  # of any mapping
    if "body" in item:
        raise TypeError("a prelude has no body: yield it as the next items")
    return encode_json(prelude).encode(*UTF_8)


def as_json(value: Any) -> str:
    """JSON as AWS's client writes it: a Decimal as a number, bytes as text, what has `_asdict()` as an object."""
    try:
        text = encode_json_quickly(value)
        if type(value) is not str and ("[" in text or type(value) is not dict):
            marshal.dumps(value)  # fails on a namedtuple, which must become an object, not a list
        return text
    except RecursionError:
        return encode_json(value)  # its message tells a cycle from depth
    except (TypeError, ValueError):
        mark = os.urandom(16).hex()
        return re.sub(f'"{mark}([^"]*)"', r"\1", encode_json(simplify(value, mark, "")))


def simplify(value: Any, mark: str, place: str) -> Any:
    """The same value in types that JSON has. A Decimal becomes a marked string, so that no digit is lost."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "is_nan"):  # a Decimal
        return f"{mark}{'NaN' if value.is_nan() else value}"
    if callable(getattr(value, "_asdict", None)):
        value = value._asdict()
    if isinstance(value, dict):
        plain = ((key.decode() if isinstance(key, bytes) else key, item) for key, item in value.items())
        return {key: simplify(item, mark, f"{place}[{key!r}]") for key, item in plain}
    if isinstance(value, (list, tuple)):
        return [simplify(item, mark, f"{place}[{index}]") for index, item in enumerate(value)]
    if hasattr(value, "cr_await"):
        value.close()  # or Python warns of a coroutine that was not awaited, and shows a line of this file
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable" + (place and f" (result{place})"))


class Failure:
    """An exception as Lambda wants it reported: `type` is the class's name (`Runtime.…` if the runtime found it),
    `recorded_type` the one in Lambda's metrics (`Function.ValueError`), `stack` a list of the user's frames as text,
    `traceback` Python's whole text if there is more to tell (a cause, notes, a group), `exit` a SystemExit or None."""

    def __init__(self, error: BaseException, request_id: str = "", recorded_type: str = "") -> None:
        self.type = name = type(error).__name__
        self.exit = error if isinstance(error, SystemExit) else None
        try:
            self.message = str(error)
        except Exception as another:
            self.message = f"<{name}: its __str__ raised {type(another).__name__}>"
        if not isinstance(error, RuntimeFailure):
            known = name.isascii() and name.isidentifier()
            self.recorded_type = recorded_type or f"Function.{name if known else 'Unknown'}"
            self.frames, self.stack, self.traceback = user_stack(error)
        else:
            self.type = self.recorded_type = f"Runtime.{error.kind}"
            self.frames, self.stack, self.traceback = [], error.stack, ""
        what = {"errorMessage": self.message, "errorType": self.type}
        self.report = {**what, "requestId": request_id, "stackTrace": self.stack}

    def body(self) -> bytes:
        return encode_json(self.report).encode(*UTF_8)

    def headers(self) -> str:
        cause = f"Lambda-Runtime-Function-XRay-Error-Cause: {self.xray_cause()}\r\n"
        return f"Content-Type: {JSON}\r\n{ERROR_TYPE}: {self.recorded_type}\r\n{cause}"

    def xray_cause(self) -> str:
        """What X-Ray shows of the error. Lambda keeps 64 KB, hence only 50 frames, 2,000 characters of the message."""
        directory, frames = "", self.frames[-50:]
        with suppress(OSError):  # it was removed
            directory = os.getcwd()
        kind = "LambdaValidationError" if self.type.startswith("Runtime.") else self.type[:1000]
        stack = [{"path": frame.filename, "line": frame.lineno, "label": frame.name} for frame in frames]
        exceptions = [{"message": self.message[:2000], "type": kind, "stack": stack}]
        paths = sorted({frame.filename for frame in frames})
        return dumps({"working_directory": directory, "exceptions": exceptions, "paths": paths})  # in ASCII


def user_stack(error: BaseException) -> tuple[list[Any], list[str], str]:
    """The user's frames that led to an error, also as text, and Python's whole text if there is more to tell."""
    try:
        traceback = import_standard("traceback")
        whole = traceback.TracebackException.from_exception(error)
        related = [whole]
        for one in related:  # it grows meanwhile
            one.stack[:] = [frame for frame in one.stack if not NOT_THE_USERS(frame.filename)]
            context = None if one.__suppress_context__ else one.__context__
            related += filter(None, (one.__cause__, context, *(getattr(one, "exceptions", None) or ())))
        # From plain tuples: for its own frame objects Python adds lines of ^^^^.
        text = traceback.format_list([(frame.filename, frame.lineno, frame.name, frame.line) for frame in whole.stack])
        more = len(related) > 1 or getattr(error, "__notes__", None)
        return [*whole.stack], text, "".join(whole.format()) if more else ""
    except Exception:  # a source file that cannot be decoded, an odd exception class: the error itself matters more
        return [], [], ""


OURS = re.escape(user_stack.__code__.co_filename)
NOT_THE_USERS = re.compile(rf"{OURS}$|.*\bimportlib\b|.*/concurrent/futures/_base.py$").match


# ─── Async ──────────────────────────────────────────────────────────────────────────────────────────────────────────
# One event loop for the life of the process, so that clients made on it stay usable. With an async handler it runs in
# the main thread, where asyncio handles signals, and `serve` in another, where it may block without holding up tasks.
# https://docs.python.org/3/library/asyncio-eventloop.html


def is_async(handler: Any) -> bool:
    """Whether a call makes a coroutine or an async generator, as inspect would say without its import."""
    while isinstance(handler, partial):
        handler = handler.func
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return bool(code and code.co_flags & (0x80 | 0x200))  # CO_COROUTINE, CO_ASYNC_GENERATOR


class EventLoop:
    """The event loop, made when it is first needed: most functions never import asyncio."""

    _loop: Any = None
    closing = False

    @property
    def loop(self) -> Any:
        """The loop that the user's module made while it was imported, else a new one. A closed one is replaced."""
        if self._loop is None or self._loop.is_closed():
            asyncio = import_standard("asyncio")
            import_standard("warnings").filterwarnings("ignore", "There is no current event loop")
            with suppress(RuntimeError):  # Python 3.14 raises where older ones warn
                self._loop = asyncio.get_event_loop()
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def host(self, *calls: Callable[[], Any]) -> Any:
        """Make calls in threads of their own, and run the loop here until one of them is done. Returns its result."""
        loop, first = self.loop, self.loop.create_future()

        def run(call: Callable[[], Any]) -> None:
            outcome = import_standard("concurrent.futures").futures.Future()
            try:
                outcome.set_result(call())
            except BaseException as error:
                outcome.set_exception(error)
            loop.call_soon_threadsafe(lambda: first.done() or first.set_result(outcome))

        for call in calls:
            loop.call_soon(start_new_thread, run, (call,))  # by the loop, so that `lend` finds it running
        return loop.run_until_complete(first).result()

    def lend(self, call: Callable[[], Any]) -> Any:
        """Make a call that waits for the loop. If the loop is not running, it runs here meanwhile."""
        return call() if self.loop.is_running() else self.host(call)

    def start(self, awaitable: Awaitable[Any]) -> Any:
        """Begin to await something on the loop. Returns a future of its outcome."""
        future = import_standard("concurrent.futures").futures.Future()

        async def settle() -> None:
            try:
                future.set_result(await awaitable)
            except BaseException as error:  # a SystemExit that left the task would end the loop
                future.set_exception(error)

        self.loop.call_soon_threadsafe(self.loop.create_task, settle())
        return future

    def iterate(self, items: AsyncIterator[Any]) -> Any:
        """An async iterator as an ordinary one. One task reads it all: an `async with` has to end where it began."""
        module = "_queue" if sys.implementation.name == "cpython" else "queue"  # of this name the user may have one
        handed = import_standard(module).SimpleQueue()

        async def read() -> None:
            try:
                async for item in items:
                    wanted = self.loop.create_future()
                    handed.put((item, wanted))
                    await wanted
            finally:
                handed.put(None)
                if hasattr(items, "aclose"):
                    await items.aclose()

        reading = self.start(read())
        try:
            for item, wanted in iter(handed.get, None):
                yield item
                self.loop.call_soon_threadsafe(lambda wanted=wanted: wanted.done() or wanted.set_result(None))
            reading.result()
        except GeneratorExit:  # Lambda hung up, or cannot take this item
            self.loop.call_soon_threadsafe(wanted.cancel)
            reading.exception()  # waits
            raise

    def close(self) -> None:
        """Cancel what is left, so that its `finally` runs. What goes on is left after a second."""
        if self._loop and not self._loop.is_closed() and not self.closing:
            self.closing, asyncio = True, import_standard("asyncio")
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=1))
            last = self._loop.create_task(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(asyncio.wait([last], timeout=1))


# ─── Logging ────────────────────────────────────────────────────────────────────────────────────────────────────────
# Where records go, and what they look like. Lambda says in environment variables what it wants.
# https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html

TEXT_FRAME, JSON_FRAME = 0xA55A0003, 0xA55A0002  # types of a log frame
DATE = "%Y-%m-%dT%H:%M:%S"
CURRENT: ContextVar[Invocation] = ContextVar("invocation")  # each of several at once has a context of its own


class Output(io.FileIO):
    """Unbuffered: a time-out loses nothing, and child processes print in order."""

    def write(self, data: Any) -> int:
        done = io.FileIO.write(self, data) or 0
        while done < len(data):  # a signal may cut a long write short
            done += io.FileIO.write(self, data[done:]) or 0
        return done


class Log:
    """The function's log: standard output, or frames on a file descriptor if Lambda gives one."""

    together = False  # whether several invocations are handled at once
    lock_processes: Any = staticmethod(lambda command: None)  # replaced if several processes write to this log

    def __init__(self) -> None:
        self.json = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").lower() == "json"
        self.level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
        fd = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", "")
        self.framed = fd.isdecimal()
        self._output = Output(int(fd) if self.framed else 1, "w", closefd=False)
        self.latest = Invocation({REQUEST_ID: ""}, b"")  # none yet
        self._lock = lock = RLock()  # a signal handler may log in the middle of a record
        os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined] # another thread held it
        for name, number, stream in (("stdout", 1, sys.stdout), ("stderr", 2, sys.stderr)):
            stream.flush()
            output: Any = Output(number, "w", closefd=False)
            output.name = stream.name
            unbuffered = io.TextIOWrapper(output, stream.encoding, stream.errors, write_through=True)
            vars(sys).update({name: unbuffered, f"__{name}__": unbuffered})

    def begin(self, invocation: Invocation) -> None:
        """An invocation begins. Its trace id goes where the X-Ray SDK looks for it."""
        CURRENT.set(invocation)
        self.latest = invocation
        if invocation.headers.get(TRACE_ID) and not self.together:
            os.environ["_X_AMZN_TRACE_ID"] = invocation.headers[TRACE_ID]
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)

    def write(self, text: str, frame: int = TEXT_FRAME, level: int = 0) -> None:
        """Write a record as it is, in one piece however long it is."""
        data = text.encode(*UTF_8)
        if self.framed:  # 16 bytes before it: the type of frame, the length, the time in microseconds
            frame += 4 * (min(level // 10, 5) + 1) if level >= 10 else 0
            data = (frame << 96 | len(data) << 64 | int(time() * 1_000_000)).to_bytes(16, "big") + data
        with self._lock:
            try:
                self.lock_processes(os.F_LOCK)
                self._output.write(data)
            except OSError:  # nobody reads it any more
                pass
            finally:
                self.lock_processes(os.F_ULOCK)

    def failure(self, failure: Failure) -> None:
        """Write an uncaught error. On standard output `\\r` keeps its lines together as one record."""
        first = f"[ERROR] {failure.type}: {failure.message}" if failure.message else f"[ERROR] {failure.type}"
        trace = failure.traceback or "".join(failure.stack and ["Traceback (most recent call last):\n", *failure.stack])
        # Indented by no-break spaces, as Lambda's console drops ordinary ones.
        trace = re.sub("(?m)^ +", lambda spaces: "\xa0" * len(spaces[0]), trace)
        text, frame = ("\n" if self.framed else "\r").join([first, *trace.splitlines()]), TEXT_FRAME
        if self.json:
            more = {"traceback": failure.traceback} if failure.traceback else {}
            now = strftime(DATE + "Z", gmtime())
            text, frame = encode_json({"timestamp": now, "level": "ERROR", **failure.report, **more}), JSON_FRAME
        self.write(text if self.framed else text + "\n", frame, 40)

    def warning(self, message: str) -> None:
        """Log a word of the runtime's own, as the logger `runtime`."""
        with suppress(Exception):  # a filter or handler of the user's failed
            import_standard("logging").getLogger("runtime").warning(message)


# What AWS's client has imported before any user code runs. A file of such a name beside the handler is passed over.
STANDARD = frozenset(
    """bisect collections contextlib contextvars copyreg decimal enum functools heapq importlib json keyword linecache
    logging numbers operator re reprlib string textwrap threading token tokenize traceback types warnings
    weakref _colorize""".split()  # noqa: SIM905
)
if sys.version_info >= (3, 14):  # there traceback needs them
    STANDARD |= {"annotationlib", "ast", "dataclasses", "dis", "inspect", "opcode"}


class StandardLibrary:
    """A finder, first on sys.meta_path, for the modules in STANDARD, and for what they import in turn. It also loads
    them, to set up `logging` when that is imported."""

    importing = 0

    def __init__(self, path: list[str], log: Log) -> None:
        self.path = path  # the interpreter's own
        self.log: Any = log
        self.loaders: dict[str, Any] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        wanted = name in STANDARD or (path is None and self.importing)
        spec: Any = PathFinder.find_spec(name, self.path) if wanted else None
        if spec and name in STANDARD:
            self.loaders[name], spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: Any) -> None: ...  # as usual

    def exec_module(self, module: Any) -> None:
        name = module.__name__
        loader = module.__spec__.loader = module.__loader__ = self.loaders[name]
        standard_first(exec, loader.get_code(name), vars(module))  # a zip's loader has no exec_module in Python 3.9
        if name == "logging" and self.log:
            log, self.log = self.log, None  # only once: a reload is the user's affair
            set_up_logging(module, log)


def standard_first(call: Callable[..., Any], *args: Any) -> Any:
    """Make a call that imports from the standard library, whatever lies beside the handler."""
    StandardLibrary.importing += 1
    try:
        return call(*args)
    finally:
        StandardLibrary.importing -= 1


import_standard = partial(standard_first, __import__)


def set_up_logging(logging: Any, log: Log) -> None:
    """Give the root logger the handler, filter and level that it has on Lambda."""

    def add_ids(record: Any) -> bool:  # a filter, as users copy it to handlers of their own
        invocation = CURRENT.get(log.latest)  # the user's threads may have none
        record.aws_request_id, record.tenant_id = invocation.request_id, invocation.headers.get(TENANT_ID) or None
        return True

    class JsonFormatter(logging.Formatter):  # type: ignore[misc]
        known = {*vars(logging.makeLogRecord({})), "message", "asctime", "aws_request_id", "tenant_id"} - {"taskName"}

        def format(self, record: Any) -> str:
            kind, error, frames = record.exc_info or (None, None, None)
            fields = {
                "timestamp": self.formatTime(record, self.datefmt),
                "level": logging.getLevelName(min(record.levelno // 10, 5) * 10),
                "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
                "logger": record.name,
                "stackTrace": kind and import_standard("traceback").format_tb(frames),
                "errorType": kind and kind.__name__,
                "errorMessage": kind and str(error),
                "requestId": getattr(record, "aws_request_id", None),
                "location": kind and f"{record.pathname}:{record.funcName}:{record.lineno}",
                **({"tenantId": record.tenant_id} if getattr(record, "tenant_id", None) else {}),
            }
            extra = {k: v for k, v in vars(record).items() if k not in self.known and k not in fields}
            return encode_json_or_str({k: v for k, v in {**fields, **extra}.items() if v is not None}) + "\n"

    class LambdaLoggerHandler(logging.Handler):  # type: ignore[misc]
        def emit(self, record: Any) -> None:
            try:
                text = self.format(record)
                line = text if log.framed or text.endswith("\n") else text + "\n"
                frame = JSON_FRAME if isinstance(self.formatter, JsonFormatter) else TEXT_FRAME
                log.write(line, frame, record.levelno if log.json or log.level else 0)
            except Exception:
                self.handleError(record)

    if log.json or log.level:
        LambdaLoggerHandler.__name__ += "WithFrameType"  # the name by which Datadog's library knows it
    line = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    handler = LambdaLoggerHandler()
    handler.setFormatter(JsonFormatter(datefmt=DATE + "Z") if log.json else logging.Formatter(line, DATE))
    handler.addFilter(add_ids)
    logging.Formatter.converter = gmtime
    logging.root.addHandler(handler)
    with suppress(ValueError):  # there is no such level
        logging.root.setLevel({"TRACE": "DEBUG"}.get(log.level, log.level))


# ─── Start and end ──────────────────────────────────────────────────────────────────────────────────────────────────
# How the process starts and ends, SIGTERM, SnapStart, and what error trackers hook into.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html

EXIT_LIMIT = 1.8  # seconds after which the process ends whatever hangs
API_FAILED = 177  # the exit status by which a worker reports that the Runtime API failed: no usual one


def main() -> None:
    """Run the handler that the first argument or $_HANDLER names. Raises what is to end the process."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    name = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("_HANDLER", "")
    if not address:
        raise SystemExit("AWS_LAMBDA_RUNTIME_API is not set. It is Lambda's address; to run locally, use `make invoke`")
    # glibc reuses freed memory only up to a size that grows with the largest piece freed (mallopt(3)). This piece
    # raises it: to get memory for large events from the system costs up to a third of their CPU time.
    bytes(16 << 20)
    log = LambdaContext._log = Log()
    sys.meta_path.insert(0, StandardLibrary(set_up_path(), log))
    if "logging" in sys.modules:  # a sitecustomize.py or a .pth file was first
        set_up_logging(sys.modules["logging"], log)
    count = int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY") or 0)
    if count:
        supervise(name, count, partial(work, name, address, log, count, partial(os.kill, os.getpid())), log)
    work(name, address, log)


def set_up_path() -> list[str]:
    """Arrange sys.path as AWS's managed runtimes do: python-package.html#python-package-searchpath. Returns what it was
    before, which is the interpreter's own."""
    own = sys.path[:]
    folders = [os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()]
    if os.path.realpath(sys.prefix) != os.path.realpath("/opt/python"):  # if equal, it is this interpreter, no layer
        site_packages = f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        folders += filter(os.path.isdir, (site_packages, "/opt/python"))
    sys.path[:0] = folders
    for folder in filter(os.path.isdir, folders):
        import_standard("site").addsitedir(folder)  # reads its .pth files
    runtime_dir = os.environ.get("LAMBDA_RUNTIME_DIR", "")  # where boto3 is
    if os.path.isdir(runtime_dir):
        sys.path += [runtime_dir] if runtime_dir not in sys.path else []
        os.environ.setdefault("PYTHONPATH", runtime_dir)
    os.environ.pop("_BOOTSTRAP_WRAPPED", None)  # bootstrap's note to itself
    return own


def work(name: str, address: str, log: Log, count: int = 0, tell: Any = None, number: int = 0) -> None:
    """Init, then serve. Raises what is to end the process. Each of `count` workers tells when it is ready."""
    api = RuntimeAPI(address, NO_STATUS if count else SERVER_ERRORS)
    shutdown.install()
    provider = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET", "")
    if count and provider:  # a Unix socket, to which all that a worker prints has to go
        with suppress(OSError):  # there is none: it goes where it did
            connection = SocketType(AF_UNIX)
            connection.connect(provider)
            os.dup2(connection.fileno(), 1)
            os.dup2(connection.fileno(), 2)
            connection.close()
    handler = init(name, api, log)
    asynchronous = is_async(handler)
    if asynchronous and number:
        return  # the first worker serves all
    if signal.getsignal(signal.SIGTERM) != shutdown.on_signal:
        # Lambda sends SIGTERM only if there is an extension. Workers that register too late are refused.
        with suppress(RuntimeAPIError):
            start_new_thread(RuntimeAPI(address).extension_next, (api.register_extension(),))
    if tell:
        tell(READY_FOR_ALL if asynchronous else READY)
    loop = EventLoop()
    try:
        if asynchronous:
            serve_together([api, *(RuntimeAPI(address, NO_STATUS) for _ in range(1, count))], handler, log, loop)
        else:
            serve(api, handler, log, loop)
    finally:
        loop.close()


def init(name: str, api: RuntimeAPI, log: Log) -> Handler:
    """Import the handler. With SnapStart, also run the user's hooks: snapstart-runtime-hooks-python.html"""
    phase, status, kind = "init", 1, ""  # what it means to fail here
    try:
        handler = load_handler(name)
        if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            hooks: Any = sys.modules.get("snapshot_restore_py")  # nobody registered one if it was not imported
            status, kind = 64, "Runtime.BeforeSnapshotError"
            for function, args, kwargs in reversed(hooks.get_before_snapshot() if hooks else ()):
                function(*args, **kwargs)
            api.restore_next()
            phase, status, kind = "restore", 65, "Runtime.AfterRestoreError"
            for function, args, kwargs in hooks.get_after_restore() if hooks else ():
                function(*args, **kwargs)
        return handler
    except BaseException as error:
        shutdown.check(error)
        failure = Failure(error, recorded_type=kind)
    # Outside of the `except`: a tracker would report the error as one that is being handled.
    tell_tracker("post_init_error", failure.report)
    log.failure(failure)
    with suppress(RuntimeAPIError):  # the log has it
        api.init_error(failure, phase)
    raise SystemExit(status)


class bootstrap:  # noqa: N801
    """What error trackers (Sentry, Honeybadger) look for in __main__ and patch: these are names of AWS's client. Such
    a tracker wraps the handler, sends what it holds before an answer is given, and hears of a failed init."""

    handle_event_request = staticmethod(lambda client, handler: handler)

    class LambdaRuntimeClient:
        post_init_error = post_invocation_result = post_invocation_error = staticmethod(lambda *_: None)


def tell_tracker(method: str, *args: Any) -> None:
    with suppress(Exception):  # its own
        getattr(bootstrap.LambdaRuntimeClient, method)(None, *args)


class Shutdown:
    """SIGTERM ends the process with status 0, unless the user installs a handler of their own. The exception unwinds
    whatever is running. `check` raises it again, because the user's code may have caught it."""

    requested = forked = False

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self.on_signal)
        # CPython loses a signal that reaches a child right after the fork: it is held back.
        hold = partial(signal.pthread_sigmask, signal.SIG_BLOCK, [signal.SIGTERM])
        release = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.register_at_fork(before=hold, after_in_parent=release, after_in_child=self.after_fork_in_child)

    def on_signal(self, *_: Any) -> None:
        if not self.requested:  # a second one must not cut short the clean-up that the first one began
            self.requested = True
            with suppress(RuntimeError):  # there is no memory for a thread
                start_new_thread(exit_in_time, (0,))
            raise SystemExit(0)

    def check(self, error: BaseException | None = None) -> None:
        if error and (self.forked or isinstance(error, RuntimeAPIError)):
            raise error
        if self.requested:
            raise SystemExit(0)

    def after_fork_in_child(self) -> None:
        self.requested = self.forked = True  # a child that the user's code lets return from the handler must not answer
        with suppress(ValueError):  # PyPy: a forking thread is not the child's main thread
            if signal.getsignal(signal.SIGTERM) == self.on_signal:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it ends by SIGTERM as any process does
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


shutdown = Shutdown()


def exit_in_time(status: int) -> None:
    sleep(EXIT_LIMIT)
    os._exit(status)


def end(action: Callable[[], Any], api_failed: int = 1) -> NoReturn:
    """Call `action`, and end the process as what it raises says. All that an ordinary exit does is done, but nothing
    waits for the user's threads: Lambda kills the process 300 to 500 ms after SIGTERM."""
    reason: BaseException = SystemExit(0)
    try:
        action()
    except BaseException as error:
        reason = error  # kept: freeing what it refers to now would print ResourceWarnings
    status: Any = reason.code if isinstance(reason, SystemExit) else reason
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if status is not None and not isinstance(status, int):
        text = f"{status}" if isinstance(status, (str, RuntimeAPIError)) else f"{type(status).__name__}: {status}"
        with suppress(OSError):  # there is no standard error
            os.write(2, f"runtime.py: {text}\n".encode(*UTF_8))
        status = api_failed if isinstance(status, RuntimeAPIError) else 1
    status = (status or 0) & 0xFF
    with suppress(RuntimeError):  # there is no memory for a thread
        start_new_thread(exit_in_time, (status,))
        for hook in reversed(getattr(sys.modules.get("threading"), "_threading_atexits", ())):
            thread = sys.modules["threading"].Thread(target=hook, daemon=True)  # a pool's: it waits for its workers
            thread.start()
            thread.join(0.2)
    with suppress(BaseException):
        if "multiprocessing" in sys.modules and not shutdown.forked:  # its exit hook waits for the children
            for child in sys.modules["multiprocessing"].active_children():
                child.terminate()
        import_standard("atexit")._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):  # they may be the user's own
            stream.flush()
    os._exit(status)


# ─── Managed Instances ──────────────────────────────────────────────────────────────────────────────────────────────
# Several invocations at once: an ordinary handler in worker processes, each of which is a runtime of its own, an async
# one in one process, with a thread for each connection around one event loop.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-python-runtime.html

READY, READY_FOR_ALL = signal.SIGUSR1, signal.SIGUSR2  # by which a worker tells that it has started


def supervise(name: str, count: int, work: Callable[..., Any], log: Log) -> NoReturn:
    """Keep `count` workers until SIGTERM; one that ends is replaced, after a second if it lived less. The process ends
    with status 1 if all workers fail to start, or if the Runtime API fails."""
    if hasattr(os, "memfd_create"):
        lock = os.memfd_create("log")

        def lock_processes(command: int) -> None:
            while True:
                with suppress(InterruptedError):  # os.lockf does not try again after a signal
                    return os.lockf(lock, command, 0)

        log.lock_processes = lock_processes
    workers: dict[int, tuple[int, float]] = {}  # by process id: number, time of the start
    awaited = {signal.SIGTERM, signal.SIGCHLD, READY, READY_FOR_ALL}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)

    def start(number: int, pause: int = 0) -> None:
        pid = os.fork()
        workers[pid] = number, monotonic() + pause
        if not pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
            sleep(pause)
            end(partial(work, number), API_FAILED)

    def end_workers() -> None:
        for pause, signum in ((0.05, signal.SIGTERM), (EXIT_LIMIT, signal.SIGKILL)):
            sleep(pause)  # a SIGTERM to the whole process group has reached them already: they get a moment for it
            for pid in [*workers]:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signum)

    first = 1 if looks_async(name) else count
    for number in range(first):
        start(number)
    missing = dict.fromkeys(range(first, count), 0)  # by number: seconds to wait before the start
    wanted, status, gone = 0, None, False  # nothing is replaced until one worker is ready
    while status is None or workers:
        told = signal.sigwait(awaited)
        wanted = {READY: count, READY_FOR_ALL: 1}.get(told, wanted)
        for pid, (number, started) in [*workers.items()]:
            ended, code = os.waitpid(pid, os.WNOHANG)
            if ended:
                del workers[pid]
                missing[number] = int(monotonic() - started < 1)
                gone = gone or os.waitstatus_to_exitcode(code) == API_FAILED
                if number < wanted and status is None and not gone:
                    log.warning(f"Worker {pid} ended with status {os.waitstatus_to_exitcode(code)}, and is replaced")
        if status is None and (told == signal.SIGTERM or gone or not (workers or wanted)):
            status = int(told != signal.SIGTERM)
            start_new_thread(end_workers, ())
        for number in [one for one in missing if one < wanted and status is None]:
            start(number, missing.pop(number))
    raise SystemExit(status)


def looks_async(name: str) -> bool:
    """Whether the handler's source says `async def`: then one process serves all, and no other need import it."""
    path, _, function = name.rpartition(".")
    source = f"{os.environ.get('LAMBDA_TASK_ROOT') or '.'}/{path.replace('.', '/')}.py"
    with suppress(OSError), open(source, "rb") as file:
        return bool(re.search(rb"^async def %b\b" % re.escape(function).encode(), file.read(), re.MULTILINE))
    return False


def serve_together(apis: list[RuntimeAPI], handler: Handler, log: Log, loop: EventLoop) -> None:
    """Serve an async handler, an invocation at a time on each connection. If one ends the process, the others are still
    answered."""
    if len(apis) > 1:
        log.together = True
        carry_context()

    try:
        loop.host(*(partial(serve, api, handler, log, loop) for api in apis))
    finally:
        loop.close()  # it cancels the handlers' tasks, so that `serve` reports them
        for _ in range(100):  # a second at most
            if not (shutdown.requested or all(api.idle for api in apis)):
                sleep(0.01)


def carry_context() -> None:
    """Let threads inherit the context of what starts them, as free-threaded Python does: log records have its ids."""
    import_standard("concurrent.futures.thread")
    Thread, Pool = sys.modules["threading"].Thread, sys.modules["concurrent.futures"].ThreadPoolExecutor  # noqa: N806
    start, submit = Thread.start, Pool.submit

    def start_in_context(self: Any) -> None:
        self.run = partial(copy_context().run, self.run)
        start(self)

    def submit_in_context(self: Any, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, copy_context().run, call, *args, **kwargs)

    Thread.start, Pool.submit = start_in_context, submit_in_context


if __name__ == "__main__":
    end(main)
