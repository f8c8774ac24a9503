# SPDX-License-Identifier: MIT-0
"""The callers' side of the local Lambda: the Invoke API for SDKs and the AWS CLI, and a function URL for all others.

`Caller` is one connection of a caller. Two paths are the Invoke API's; a request for any other becomes an event in
payload format 2.0, and the function's result an HTTP response.
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import socket
import socketserver
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NoReturn
from urllib.parse import parse_qs, parse_qsl, unquote

from emulator import HTTP_INTEGRATION, SEPARATOR, TENANT, Emulator, EmulatorError, Result, new_trace

MAX_EVENT = 6 * 1024 * 1024  # bytes
MAX_ASYNC_EVENT = 1024 * 1024
LOG_TAIL = 4096  # bytes of a log that a caller may have
LOOPBACK = re.compile(r"(localhost|[\w.-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE | re.ASCII)
INVOKE = re.compile("/2015-03-31/functions/([^/]+)/invocations")
INVOKE_STREAM = re.compile("/2021-11-15/functions/([^/]+)/response-streaming-invocations")
EVENT_STREAM = "application/vnd.amazon.eventstream"
TEXT_TYPES = re.compile(r"text/.*|application/(json|javascript|xml)\b.*", re.IGNORECASE)  # others come as base64
HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}  # not the function's to say

Headers = list[tuple[str, str]]


class ApiError(Exception):
    """What the Invoke API refuses. Its arguments: the status, the error's type, and the message."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers on loopback, each connection in a thread of its own. `port` 0 means any that is free."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, function: Emulator, port: int) -> None:
        self.function = function
        self.events = ThreadPoolExecutor(function.concurrency * function.at_once)  # those that nobody waits for
        super().__init__(("127.0.0.1", port), Caller)
        self.port: int = self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: `Caller` has, unless the caller is gone."""

    def server_close(self) -> None:
        super().server_close()
        self.events.shutdown(wait=False, cancel_futures=True)


class Caller(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        """Answer a request, whatever its method."""
        self.request_id, self.begun, self.gone = str(uuid.uuid4()), False, False
        self.trace = self.headers.get("X-Amzn-Trace-Id") or new_trace()
        path, _, query = self.path.partition("?")
        try:
            # A name of somebody else's that leads here is how a page on the web would reach us.
            if not LOOPBACK.fullmatch(self.headers.get("Host", "")):
                raise ApiError(403, "AccessDeniedException", "Only calls to localhost or 127.0.0.1 are answered")
            body = self.read_body()
            match = INVOKE.fullmatch(path) if self.command == "POST" else None
            stream = INVOKE_STREAM.fullmatch(path) if self.command == "POST" else None
            if match:
                self.invoke(unquote(match[1]), query, body)
            elif stream:
                self.invoke_stream(unquote(stream[1]), query, body)
            else:
                self.function_url(path, query, body)
        except ApiError as error:
            status, kind, message = error.args
            self.reply(status, [("x-amzn-ErrorType", kind)], json.dumps({"Type": "User", "message": message}).encode())
        except EmulatorError as error:  # the function cannot be started, or has been ended
            self.reply(500, [("x-amzn-ErrorType", "ServiceException")], json.dumps({"message": str(error)}).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the function's START and REPORT do."""

    # The Invoke API.
    # https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
    # https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html

    def invoke(self, name: str, query: str, body: bytes) -> None:
        kind, headers = self.check_call(name, query, body, "RequestResponse", "Event", "DryRun")
        context, function = self.client_context(), self.server.function
        if kind == "Event":
            self.server.events.submit(
                function.invoke, body or b"{}", client_context=context, headers=headers, request_id=self.request_id
            )
        if kind != "RequestResponse":
            self.reply(202 if kind == "Event" else 204, [])
            return
        result = function.invoke(body or b"{}", client_context=context, headers=headers, request_id=self.request_id)
        answer = [("X-Amz-Executed-Version", "$LATEST")]
        if result.error:
            answer.append(("X-Amz-Function-Error", "Unhandled"))
        if self.headers.get("X-Amz-Log-Type") == "Tail":
            answer.append(("X-Amz-Log-Result", log_tail(result)))
        prelude = result.head + SEPARATOR if result.prelude else b""
        answer.append(("Content-Type", result.content_type if not result.error else "application/json"))
        self.reply(200, answer, prelude + result.payload)

    def invoke_stream(self, name: str, query: str, body: bytes) -> None:
        kind, headers = self.check_call(name, query, body, "RequestResponse", "DryRun")
        if kind == "DryRun":
            self.reply(204, [])
            return
        head = [("Content-Type", EVENT_STREAM), ("X-Amz-Executed-Version", "$LATEST")]

        def on_chunk(result: Result, data: bytes) -> None:
            if result.prelude and not self.begun:
                self.send(200, head, event_message("PayloadChunk", result.head))
                self.send(200, head, event_message("PayloadChunk", SEPARATOR))
            if data:
                self.send(200, head, event_message("PayloadChunk", data))

        result = self.server.function.invoke(
            body or b"{}", client_context=self.client_context(), headers=headers, request_id=self.request_id,
            on_chunk=on_chunk,
        )  # fmt: skip
        if not result.streamed and not result.error:
            on_chunk(result, result.payload)
        end = {"ErrorCode": "Unhandled", "ErrorDetails": result.error_payload.decode("utf-8", "replace")}
        if not result.error:
            end = {}
        if self.headers.get("X-Amz-Log-Type") == "Tail":
            end["LogResult"] = log_tail(result)
        self.send(200, head, event_message("InvokeComplete", json.dumps(end).encode(), "application/json"))
        self.send_end()

    def check_call(self, name: str, query: str, body: bytes, *kinds: str) -> tuple[str, dict[str, str | None]]:
        """The invocation's type, and what goes along with the event. Raises ApiError."""
        kind = self.headers.get("X-Amz-Invocation-Type", kinds[0])
        if kind not in kinds:
            one = f"Value '{kind}' at 'invocationType' failed to satisfy constraint"
            choice = f"Member must satisfy enum value set: [{', '.join(kinds)}]"
            raise ApiError(400, "ValidationException", f"1 validation error detected: {one}: {choice}")
        if self.size > MAX_EVENT:
            message = f"Request must be smaller than {MAX_EVENT} bytes for the InvokeFunction operation"
            raise ApiError(413, "RequestEntityTooLargeException", message)
        if kind == "Event" and self.size > MAX_ASYNC_EVENT:
            message = f"{self.size} byte payload is too large for the Event invocation type"
            raise ApiError(413, "RequestEntityTooLargeException", f"{message} (limit {MAX_ASYNC_EVENT} bytes)")
        try:
            json.loads((body or b"{}").decode(), parse_constant=no_number)
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            raise ApiError(400, "InvalidRequestContentException", message) from None

        # A name is NAME, NAME:QUALIFIER, ACCOUNT:function:NAME..., or an ARN; whatever it is, it is this function.
        parts = name.split(":")
        at = parts.index("function") + 2 if "function" in parts[:-1] else 1
        qualifier = "".join(parse_qs(query).get("Qualifier", parts[at : at + 1]))
        arn = f"{self.server.function.arn}:{qualifier}" if qualifier else self.server.function.arn
        return kind, {
            "Lambda-Runtime-Invoked-Function-Arn": arn,
            "Lambda-Runtime-Trace-Id": self.trace,
            TENANT: self.headers.get("X-Amz-Tenant-Id"),
        }

    def client_context(self) -> object:
        text = self.headers.get("X-Amz-Client-Context")
        try:
            context = json.loads(base64.b64decode(text, validate=True)) if text else None
            if isinstance(context, (dict, type(None))):
                return context
        except ValueError:
            pass
        message = "Client context must be a valid Base64-encoded JSON object."
        raise ApiError(400, "InvalidRequestContentException", message)

    # The function URL.
    # https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html

    def function_url(self, path: str, query: str, body: bytes) -> None:
        function = self.server.function
        event = json.dumps(self.url_event(path, query, body)).encode()
        if max(self.size, len(event)) > MAX_EVENT:
            self.reply(413, [], b'{"message":"Request Too Long"}')
            return

        def on_chunk(result: Result, data: bytes) -> None:
            if result.content_type == HTTP_INTEGRATION and result.prelude:
                headers = [(name, value) for name, value in result.prelude.headers.items()]
                headers += [(name, one) for name, many in result.prelude.multi_value_headers.items() for one in many]
                headers += [("set-cookie", cookie) for cookie in result.prelude.cookies]
                self.send(result.prelude.status, headers, data)
            else:
                self.send(200, [("Content-Type", result.content_type)], data)

        result = function.invoke(
            event, headers={"Lambda-Runtime-Trace-Id": self.trace}, request_id=self.request_id, on_chunk=on_chunk
        )
        try:
            if result.error and self.begun:
                self.hang_up()  # how else would the caller know
            elif result.error:
                raise ValueError(result.error)
            elif result.streamed:
                if not self.begun:
                    on_chunk(result, b"")
                self.send_end()
            else:
                self.reply(*http_response(result))
        except ValueError as error:
            function.note(f"the function URL answers 502: {error}")
            self.reply(502, [], b'{"message":"Internal Server Error"}')

    def url_event(self, path: str, query: str, body: bytes) -> dict[str, object]:
        """The event for a request, in payload format 2.0."""
        headers: dict[str, str] = {}
        for name, value in ((name.lower(), value) for name, value in self.headers.items()):
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        cookies = headers.pop("cookie", "")
        headers.update({
            "x-amzn-trace-id": self.trace, "x-forwarded-for": self.client_address[0],
            "x-forwarded-port": str(self.server.port), "x-forwarded-proto": "http",
        })  # fmt: skip
        parameters: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
        domain, now = headers["host"].rpartition(":")[0] or headers["host"], time.time()
        event: dict[str, object] = {"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query}
        if cookies:
            event["cookies"] = [cookie.strip() for cookie in re.split("[;,]", cookies)]
        event["headers"] = headers
        if parameters:
            event["queryStringParameters"] = parameters
        event["requestContext"] = {
            "accountId": "anonymous", "apiId": self.server.function.name, "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": self.command, "path": path, "protocol": self.request_version,
                "sourceIp": self.client_address[0], "userAgent": headers.get("user-agent", ""),
            },
            "requestId": self.request_id, "routeKey": "$default", "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)), "timeEpoch": int(now * 1000),
        }  # fmt: skip
        event["isBase64Encoded"] = False
        if body:
            event["body"] = base64.b64encode(body).decode()
            event["isBase64Encoded"] = True
            with suppress(UnicodeDecodeError):
                if TEXT_TYPES.fullmatch(headers.get("content-type", "")):
                    event["body"], event["isBase64Encoded"] = body.decode(), False
        return event

    # HTTP.

    def read_body(self) -> bytes:
        """The body, or as much of it as may be wanted; `self.size` is all of it."""
        body, self.size = bytearray(), 0
        try:
            for piece in self.pieces():
                self.size += len(piece)
                if self.size <= MAX_EVENT:
                    body += piece
        except ValueError:
            self.close_connection = True
            raise ApiError(400, "InvalidRequestContentException", "The body is not what its headers say") from None
        return bytes(body)

    def pieces(self) -> Iterator[bytes]:
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        left = int(self.headers.get("Content-Length") or 0) if not chunked else self.chunk_size()
        while left > 0:
            piece = self.rfile.read(min(left, 1 << 16))
            if not piece:
                raise ValueError
            yield piece
            left -= len(piece)
            if chunked and not left:
                self.rfile.readline(3)
                left = self.chunk_size()
        while chunked and self.rfile.readline(1 << 16).strip():  # trailers
            pass

    def chunk_size(self) -> int:
        return int(self.rfile.readline(1 << 10).partition(b";")[0], 16)

    def reply(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Send a whole response."""
        with suppress(OSError):
            self.send_head(status, headers, str(len(body)))
            if self.command != "HEAD" and status not in (204, 304):
                self.wfile.write(body)

    def send(self, status: int, headers: Headers, data: bytes) -> None:
        """Send a part of a stream, with its head before the first one. A caller that is gone misses the rest."""
        try:
            if not self.begun:
                self.send_head(status, headers, None)
            if data and not self.gone and self.command != "HEAD":
                chunk = b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data
                self.wfile.write(chunk)
        except OSError:
            if not self.gone:
                self.server.function.note("the caller has hung up; the function does not learn of it, as on Lambda")
            self.gone = self.close_connection = True

    def send_end(self) -> None:
        """Send the end of a stream."""
        if self.chunked and not self.gone and self.command != "HEAD":
            with suppress(OSError):
                self.wfile.write(b"0\r\n\r\n")

    def send_head(self, status: int, headers: Headers, length: str | None) -> None:
        """Send status and headers; without `length`, what follows is a stream."""
        self.begun = True
        names = {name.lower() for name, _ in headers}
        self.chunked = length is None and self.request_version == "HTTP/1.1" and status not in (204, 304)
        if length is None and not self.chunked:
            self.close_connection = True
        added = [
            ("Date", self.date_time_string()),
            ("Content-Type", "application/json"),
            ("x-amzn-RequestId", self.request_id),
            ("X-Amzn-Trace-Id", self.trace.partition(";")[0]),
        ]
        self.send_response_only(status)
        for name, value in headers + [(name, value) for name, value in added if name.lower() not in names]:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, re.sub("[\r\n]+", " ", value).encode("utf-8", "replace").decode("latin-1"))
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif length is not None and status not in (204, 304):
            self.send_header("Content-Length", length)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def hang_up(self) -> None:
        """End a stream in the middle."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def http_response(result: Result) -> tuple[int, Headers, bytes]:
    """The HTTP response that a function's result means. Raises ValueError if it means none."""
    if not result.content_type.startswith("application/json"):
        return 200, [("Content-Type", result.content_type)], result.payload
    value = json.loads(result.payload)
    if not isinstance(value, dict) or "statusCode" not in value:
        return 200, [], result.payload
    status, headers, cookies = value["statusCode"], value.get("headers") or {}, value.get("cookies") or []
    body = value.get("body") or ""
    if not re.fullmatch("[1-5][0-9][0-9]", str(status)):
        raise ValueError(f"the result's statusCode is {status!r}")
    if not isinstance(headers, dict) or any(isinstance(one, (dict, list)) for one in headers.values()):
        raise ValueError("the result's headers are not an object of strings")
    if not isinstance(cookies, list) or not all(isinstance(cookie, str) for cookie in cookies):
        raise ValueError("the result's cookies are not a list of strings")
    if not isinstance(body, str):
        raise ValueError("the result's body is not a string")
    pairs = [(name, one if isinstance(one, str) else json.dumps(one)) for name, one in headers.items()]
    pairs += [("set-cookie", cookie) for cookie in cookies]
    if any(re.search("[\r\n]", text) for pair in pairs for text in pair):
        raise ValueError("a header of the result has a line break")
    try:
        data = (
            base64.b64decode(body, validate=True) if value.get("isBase64Encoded") else body.encode("utf-8", "replace")
        )
    except ValueError:
        raise ValueError("the result's body is not base64") from None
    return int(status), pairs, data


def event_message(kind: str, payload: bytes, content_type: str = "application/octet-stream") -> bytes:
    """A message of an event stream.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
    """
    headers = b""
    for name, value in ((":event-type", kind), (":content-type", content_type), (":message-type", "event")):
        headers += struct.pack("!B", len(name)) + name.encode() + b"\7" + struct.pack("!H", len(value)) + value.encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def log_tail(result: Result) -> str:
    return base64.b64encode(result.log.encode()[-LOG_TAIL:]).decode()


def no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")  # to Python's decoder it is
