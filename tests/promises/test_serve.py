# SPDX-License-Identifier: MIT-0
"""`make serve`: what callers of Lambda's API and of a function URL see, and what becomes of the processes."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from support import PROJECT, RuntimeTestCase  # which puts the emulator's folder on the path

# isort: split
from emulator import Emulator
from serve import Server
from test_emulator import alive, until

INVOKE = "/2015-03-31/functions/{}/invocations"
STREAM = "/2021-11-15/functions/{}/response-streaming-invocations"
SIX_MB = 6 * 1024 * 1024


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Message(NamedTuple):
    """Of an event stream."""

    kind: str
    content_type: str
    payload: bytes


class ServingTestCase(RuntimeTestCase):
    def listen(self, text: str = "", **options: Any) -> None:
        """Serve app.handler, whose module is `text`, in this process; `self.log()` is what it logged."""
        if text:
            self.app(text)
        self.logged = bytearray()
        given: dict[str, Any] = {"timeout": 20, "concurrency": 10, "record": False, **options}
        self.function = Emulator(self.root, "app.handler", show=self.logged.extend, **given)
        self.function.__enter__()
        self.addCleanup(self.function.close)
        self.server = Server(self.function, 0)
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def log(self) -> str:
        return self.logged.decode()

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        self.addCleanup(connection.close)
        return connection

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None, **options: Any,
    ) -> Reply:  # fmt: skip
        one = connection or self.connect()
        one.request(method, path, body, dict(headers or {}), **options)
        response = one.getresponse()
        reply = Reply(response.status, response.headers, response.read())
        if not connection:
            one.close()
        return reply

    def invoke(self, event: object = None, name: str = "orders", **headers: str) -> Reply:
        """Through the Invoke API."""
        body = event if isinstance(event, (bytes, type(None))) else json.dumps(event).encode()
        fields = {f"X-Amz-{key.replace('_', '-')}": value for key, value in headers.items()}
        return self.call("POST", INVOKE.format(name), body, fields)

    def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes, until the other end closes the connection."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as wire:
            wire.sendall(data)
            return b"".join(iter(lambda: wire.recv(1 << 16), b""))


# ─── The Invoke API ─────────────────────────────────────────────────────────────────────────────────────────


class Invoke(ServingTestCase):
    SOURCE = """
        import os, sys
        def handler(event, context):
            if event == "raise": raise ValueError("no")
            if event == "log": print("x" * 5000, "the end")
            if isinstance(event, dict) and "touch" in event:
                with open(event["touch"], "x") as file: file.write(context.aws_request_id)
            client = context.client_context and context.client_context.custom
            arn, trace = context.invoked_function_arn, os.environ["_X_AMZN_TRACE_ID"]
            return [event, arn.partition("function:")[2], client, trace, context.tenant_id, context.aws_request_id]
        """

    def setUp(self) -> None:
        super().setUp()
        self.listen(self.SOURCE)
        self.name = self.function.name

    def test_a_result(self) -> None:
        reply = self.invoke({"ü": 1})
        event, name, client, trace, tenant, request_id = reply.json()
        self.assertEqual((reply.status, event, name, client, tenant), (200, {"ü": 1}, self.name, None, None))
        self.assertEqual(reply.headers["X-Amz-Executed-Version"], "$LATEST")
        self.assertEqual(reply.headers["x-amzn-RequestId"], request_id)
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        self.assertNotIn("X-Amz-Function-Error", reply.headers)
        self.assertNotIn("X-Amz-Log-Result", reply.headers)
        self.assertTrue(trace.startswith(reply.headers["X-Amzn-Trace-Id"] + ";Parent="))
        self.assertEqual(self.invoke(None).json()[0], {}, "no event is {}")

    def test_a_failure(self) -> None:
        reply = self.invoke("raise")
        self.assertEqual((reply.status, reply.headers["X-Amz-Function-Error"]), (200, "Unhandled"))
        self.assertEqual((reply.json()["errorType"], reply.json()["errorMessage"]), ("ValueError", "no"))

    def test_what_goes_along(self) -> None:
        context = base64.b64encode(json.dumps({"custom": {"a": "ü"}}).encode()).decode()
        reply = self.invoke(1, Client_Context=context, Tenant_Id="blue")
        self.assertEqual((reply.json()[2], reply.json()[4]), ({"a": "ü"}, "blue"))
        trace = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1"
        reply = self.call("POST", INVOKE.format("f"), b"1", {"X-Amzn-Trace-Id": trace})
        self.assertEqual(reply.json()[3], trace)

    def test_names_and_qualifiers(self) -> None:
        """Whatever the name is, it means this function; the qualifier is what the ARN ends with."""
        rows = {
            "any": "", "any?Qualifier=PROD": ":PROD", "any:7": ":7", "any?Qualifier=$LATEST": ":$LATEST",
            "arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Aany%3APROD": ":PROD",
            "arn:aws:lambda:eu-west-1:123456789012:function:any": "", "123456789012:function:any:1": ":1",
        }  # fmt: skip
        for name, qualifier in rows.items():
            with self.subTest(name):
                path, _, query = name.partition("?")
                reply = self.call("POST", INVOKE.format(path) + (query and "?" + query), b"1")
                self.assertEqual(reply.json()[1], self.name + qualifier)

    def test_the_tail_of_the_log(self) -> None:
        """Of this very invocation, and 4 KB at most."""
        self.invoke("raise")
        reply = self.invoke(1, Log_Type="Tail")
        log = base64.b64decode(reply.headers["X-Amz-Log-Result"]).decode()
        self.assertRegex(log, r"^START RequestId: \S+ Version: \$LATEST\nEND RequestId: .*\nREPORT RequestId: .*\n$")
        log = base64.b64decode(self.invoke("log", Log_Type="Tail").headers["X-Amz-Log-Result"]).decode()
        self.assertEqual(len(log), 4096)
        self.assertIn("x the end\nEND", log)

    def test_events_that_nobody_waits_for(self) -> None:
        """The answer comes before the function has run; its request id is the function's."""
        path = os.path.join(self.root, "touched")
        reply = self.invoke({"touch": path}, Invocation_Type="Event")
        self.assertEqual((reply.status, reply.body), (202, b""))
        self.assertTrue(until(lambda: os.path.exists(path) and os.path.getsize(path)))
        with open(path) as file:
            self.assertEqual(file.read(), reply.headers["x-amzn-RequestId"])

    def test_a_dry_run_runs_nothing(self) -> None:
        path = os.path.join(self.root, "touched")
        reply = self.invoke({"touch": path}, Invocation_Type="DryRun")
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assertEqual(self.invoke(1).status, 200)
        self.assertFalse(os.path.exists(path))
        self.assertEqual(self.log().count("START"), 1)

    def test_what_is_refused(self) -> None:
        """With AWS's own types of errors, which SDKs turn into exceptions, and before anything runs."""
        large = b'"%s"' % (b"x" * SIX_MB)
        rows: list[tuple[int, str, str, bytes, dict[str, str]]] = [
            (413, "RequestEntityTooLargeException", "smaller than 6291456 bytes", large, {}),
            (
                413,
                "RequestEntityTooLargeException",
                "limit 1048576 bytes",
                large[:2000000],
                {"Invocation_Type": "Event"},
            ),
            (400, "InvalidRequestContentException", "Could not parse request body into json: ", b"{'a': 1}", {}),
            (400, "InvalidRequestContentException", "Could not parse request body into json: ", b"\xff", {}),
            (400, "InvalidRequestContentException", "Could not parse request body into json: ", b"NaN", {}),
            (400, "InvalidRequestContentException", "Base64", b"1", {"Client_Context": "{}"}),
            (400, "InvalidRequestContentException", "Base64", b"1", {"Client_Context": "MQ=="}),
            (400, "ValidationException", "'Often' at 'invocationType'", b"1", {"Invocation_Type": "Often"}),
        ]
        for status, kind, message, body, headers in rows:
            with self.subTest(message):
                reply = self.invoke(body, **headers)
                self.assertEqual((reply.status, reply.headers["x-amzn-ErrorType"]), (status, kind))
                self.assertIn(message, reply.json()["message"])
                self.assertEqual(reply.json()["Type"], "User")
        self.assertNotIn("START", self.log())
        self.assertEqual(self.invoke(b'"%s"' % (b"x" * (SIX_MB - 2))).status, 200, "as much as is allowed")


def messages(response: http.client.HTTPResponse) -> Iterator[Message]:
    """The messages of an event stream, as they come; each with its sums checked."""
    while head := response.read(12):
        total, size, checksum = struct.unpack("!III", head)
        rest = response.read(total - 12)
        if zlib.crc32(head[:8]) != checksum or zlib.crc32(head + rest[:-4]) != struct.unpack("!I", rest[-4:])[0]:
            raise ValueError("a sum is wrong")
        fields, at = {}, 0
        while at < size:
            length = rest[at]
            name = rest[at + 1 : at + 1 + length].decode()
            at += 1 + length
            kind, length = struct.unpack("!BH", rest[at : at + 3])
            if kind != 7:
                raise ValueError("a header is not a string")
            fields[name] = rest[at + 3 : at + 3 + length].decode()
            at += 3 + length
        if fields.pop(":message-type") != "event" or set(fields) != {":event-type", ":content-type"}:
            raise ValueError(f"odd headers: {fields}")
        yield Message(fields[":event-type"], fields[":content-type"], rest[size:-4])


class InvokeStream(ServingTestCase):
    SOURCE = """
        import os, time
        def handler(event, context):
            if event == "early": raise ValueError("at once")
            if event == "http": yield {"statusCode": 201, "headers": {"a": "b"}}
            yield "one"
            while not os.path.exists("go"): time.sleep(0.005)
            yield "two"
            if event == "late": raise ValueError("enough")
            if event == "die": os._exit(3)
        """

    def stream(self, event: str, **headers: str) -> tuple[http.client.HTTPResponse, Iterator[Message]]:
        connection = self.connect()
        fields = {f"X-Amz-{key.replace('_', '-')}": value for key, value in headers.items()}
        connection.request("POST", STREAM.format("f"), json.dumps(event), fields)
        response = connection.getresponse()
        self.assertEqual(response.headers["Content-Type"], "application/vnd.amazon.eventstream")
        self.assertEqual((response.status, response.headers["X-Amz-Executed-Version"]), (200, "$LATEST"))
        return response, messages(response)

    def setUp(self) -> None:
        super().setUp()
        self.listen(self.SOURCE)

    def test_chunk_by_chunk(self) -> None:
        """One message arrives before the function goes on to the next."""
        _, stream = self.stream("chunks")
        self.assertEqual(next(stream), ("PayloadChunk", "application/octet-stream", b"one"))
        self.write("go")
        self.assertEqual(next(stream)[2], b"two")
        self.assertEqual(next(stream), ("InvokeComplete", "application/json", b"{}"))
        self.assertEqual(list(stream), [])

    def test_an_http_response(self) -> None:
        """Its prelude is the caller's to take apart, as it is API Gateway's."""
        self.write("go")
        _, stream = self.stream("http")
        data = b"".join(message.payload for message in stream if message.kind == "PayloadChunk")
        prelude, _, body = data.partition(bytes(8))
        self.assertEqual((json.loads(prelude)["statusCode"], body), (201, b"onetwo"))

    def test_failures(self) -> None:
        """What has been sent is not taken back; the last message says what went wrong."""
        self.write("go")
        rows = [
            ("early", b"", "ValueError", "at once"), ("late", b"onetwo", "ValueError", "enough"),
            ("die", b"onetwo", "Runtime.ExitError", "exit status 3"),
        ]  # fmt: skip
        for event, sent, kind, text in rows:
            with self.subTest(event):
                *chunks, last = self.stream(event)[1]
                self.assertEqual(b"".join(chunk.payload for chunk in chunks), sent)
                complete = json.loads(last.payload)
                self.assertEqual((last.kind, complete["ErrorCode"]), ("InvokeComplete", "Unhandled"))
                details = json.loads(complete["ErrorDetails"])
                self.assertEqual(details["errorType"], kind)
                self.assertIn(text, details["errorMessage"])

    def test_a_result_that_is_no_stream(self) -> None:
        self.function.close()
        self.listen("def handler(event, context): return {'a': 1}")
        chunk, complete = self.stream("plain", Log_Type="Tail")[1]
        self.assertEqual(chunk.payload, b'{"a": 1}')
        log = base64.b64decode(json.loads(complete.payload)["LogResult"])
        self.assertIn(b"REPORT RequestId", log)

    def test_what_is_refused(self) -> None:
        reply = self.call("POST", STREAM.format("f"), b"?")
        self.assertEqual((reply.status, reply.headers["x-amzn-ErrorType"]), (400, "InvalidRequestContentException"))
        reply = self.call("POST", STREAM.format("f"), b"1", {"X-Amz-Invocation-Type": "Event"})
        self.assertEqual((reply.status, reply.headers["x-amzn-ErrorType"]), (400, "ValidationException"))


# ─── The function URL ───────────────────────────────────────────────────────────────────────────────────────


class FunctionUrl(ServingTestCase):
    def test_the_event(self) -> None:
        """Payload format 2.0, field by field."""
        self.listen("def handler(event, context): return [event, context.aws_request_id]")
        connection = self.connect()
        connection.putrequest("GET", "/a%20b/c?x=1&y=&x=%C3%BC+2", skip_accept_encoding=True)
        for name, value in [("User-Agent", "test"), ("Twice", "1"), ("Cookie", "a=b; c=d"), ("twice", "2")]:
            connection.putheader(name, value)
        connection.endheaders()
        event, request_id = json.loads(connection.getresponse().read())
        context, headers = event.pop("requestContext"), event.pop("headers")
        expected = {
            "version": "2.0", "routeKey": "$default", "rawPath": "/a%20b/c", "rawQueryString": "x=1&y=&x=%C3%BC+2",
            "cookies": ["a=b", "c=d"], "queryStringParameters": {"x": "1,ü 2", "y": ""}, "isBase64Encoded": False,
        }  # fmt: skip
        self.assertEqual(event, expected)
        port = str(self.server.port)
        trace = headers.pop("x-amzn-trace-id")
        self.assertRegex(trace, "^Root=1-")
        expected = {
            "host": f"127.0.0.1:{port}", "user-agent": "test", "twice": "1,2", "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": port, "x-forwarded-proto": "http",
        }  # fmt: skip
        self.assertEqual(headers, expected)
        http_part = {
            "method": "GET", "path": "/a%20b/c", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test",
        }  # fmt: skip
        self.assertEqual((context["http"], context["requestId"]), (http_part, request_id))
        self.assertEqual((context["accountId"], context["domainName"]), ("anonymous", "127.0.0.1"))
        self.assertAlmostEqual(context["timeEpoch"] / 1000, time.time(), delta=60)
        self.assertRegex(context["time"], r"^\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000$")

    def test_bodies_of_requests(self) -> None:
        """Text is text, anything else base64; all methods get through; chunked and expecting ones, too."""
        self.listen(
            "def handler(event, context):\n"
            "    return [event['requestContext']['http']['method'], event.get('body'), event['isBase64Encoded']]"
        )
        form, data = "application/x-www-form-urlencoded", bytes(range(256))
        rows: list[tuple[str, bytes, str, str, bool]] = [
            ("POST", b'{"a": "\xc3\xbc"}', "application/json; charset=utf-8", '{"a": "ü"}', False),
            ("PUT", b"text", "text/plain", "text", False),
            ("PATCH", b"a=b", form, base64.b64encode(b"a=b").decode(), True),
            ("DELETE", data, "image/png", base64.b64encode(data).decode(), True),
            ("POST", b"\xff", "text/plain", base64.b64encode(b"\xff").decode(), True),
            ("POST", b"x" * 4_000_000, "text/plain", "x" * 4_000_000, False),
        ]
        connection = self.connect()
        for method, body, kind, seen, encoded in rows:
            with self.subTest(method=method, kind=kind):
                reply = self.call(method, "/", body, {"Content-Type": kind}, connection)
                self.assertEqual(reply.json(), [method, seen, encoded])
        self.assertEqual(self.call("OPTIONS", "/", connection=connection).json(), ["OPTIONS", None, False])

        pieces = iter([b"one", b"two"])
        reply = self.call("POST", "/", pieces, {"Content-Type": "text/plain"}, connection, encode_chunked=True)
        self.assertEqual(reply.json()[1], "onetwo")
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n"
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as wire:
            wire.sendall(head + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
            self.assertTrue(wire.recv(100).startswith(b"HTTP/1.1 100 "))
            wire.sendall(b"hi")
            self.assertIn(b'["POST", "hi", false]', b"".join(iter(lambda: wire.recv(1 << 16), b"")))

    def test_too_large_a_request(self) -> None:
        """An event may have 6 MB, for which base64 counts; the function does not run."""
        self.listen("def handler(event, context): return 1")
        for body, status in ((b"x" * 5_000_000, 413), (b"x" * 7_000_000, 413), (b"x" * 4_000_000, 200)):
            reply = self.call("POST", "/", body, {"Content-Type": "image/png"})
            self.assertEqual((reply.status, len(body)), (status, len(body)))
        self.assertEqual(self.log().count("START"), 1)

    def test_results(self) -> None:
        """What a result means as a response: status, headers, cookies, body."""
        self.listen("import json\ndef handler(event, context): return eval(event['body'])")
        data = base64.b64encode(bytes(range(256))).decode()
        rows: list[tuple[str, int, str, bytes]] = [
            ("'hello'", 200, "application/json", b'"hello"'),
            ("{'a': 1}", 200, "application/json", b'{"a": 1}'),
            ("None", 200, "application/json", b"null"),
            ("b'raw'", 200, "application/octet-stream", b"raw"),
            ("{'statusCode': 200, 'body': 'ü'}", 200, "application/json", "ü".encode()),
            ("{'statusCode': '418', 'headers': {'Content-Type': 'a/b'}}", 418, "a/b", b""),
            (
                f"{{'statusCode': 200, 'isBase64Encoded': True, 'body': {data!r}}}",
                200,
                "application/json",
                bytes(range(256)),
            ),
            ("{'statusCode': 204}", 204, "application/json", b""),
        ]
        connection = self.connect()  # one for all: each response has to end where it says
        for code, status, kind, body in rows:
            with self.subTest(code):
                reply = self.call("POST", "/", code.encode(), {"Content-Type": "text/plain"}, connection)
                self.assertEqual((reply.status, reply.headers["Content-Type"], reply.body), (status, kind, body))
        code = (
            "{'statusCode': 302, 'cookies': ['a=b; Secure', 'c=d'],"
            " 'headers': {'Location': '/ü', 'X-Number': 5, 'Content-Length': '99', 'connection': 'x'}}"
        )
        reply = self.call("POST", "/", code.encode(), {"Content-Type": "text/plain"})
        self.assertEqual(reply.headers.get_all("set-cookie"), ["a=b; Secure", "c=d"])
        self.assertEqual(reply.headers["Location"].encode("latin-1").decode(), "/ü")
        self.assertEqual(reply.headers["X-Number"], "5")
        self.assertEqual((reply.headers.get_all("Content-Length"), reply.headers["connection"]), (["0"], None))

    def test_failures(self) -> None:
        """The caller learns that there was one, and nothing else; the log says which."""
        self.listen("import os, time\ndef handler(event, context): return eval(event['body'])", timeout=1)
        rows = {
            "1 / 0": "ZeroDivisionError: division by zero",
            "os._exit(4)": "Runtime exited with error: exit status 4",
            "time.sleep(60)": "Task timed out after 1.00 seconds",
            "{'statusCode': 'many'}": "the result's statusCode is 'many'",
            "{'statusCode': 200, 'body': {'a': 1}}": "the result's body is not a string",
            "{'statusCode': 200, 'headers': {'a': ['b']}}": "the result's headers are not an object of strings",
            "{'statusCode': 200, 'headers': {'a': 'b\\nc: d'}}": "a header of the result has a line break",
            "{'statusCode': 200, 'cookies': 'a=b'}": "the result's cookies are not a list of strings",
            "{'statusCode': 200, 'body': '?', 'isBase64Encoded': True}": "base64",
        }
        for code, why in rows.items():
            with self.subTest(code):
                reply = self.call("POST", "/", code, {"Content-Type": "text/plain"})
                self.assertEqual((reply.status, reply.json()), (502, {"message": "Internal Server Error"}))
                self.assertEqual(reply.headers["Content-Type"], "application/json")
                self.assertIn(why, self.log())

    def test_a_stream(self) -> None:
        """Its own status, headers and cookies; each item arrives before the next is made."""
        self.listen(
            """
            import os, time
            def handler(event, context):
                headers = {"content-type": "text/plain", "x-a": "ü"}
                yield {"statusCode": 202, "headers": headers, "cookies": ["a=b", "c=d"]}
                yield "one"
                while not os.path.exists("go"): time.sleep(0.005)
                yield "two"
            """
        )
        for version in (11, 10):
            with self.subTest(version):
                connection = self.connect()
                connection._http_vsn, connection._http_vsn_str = version, f"HTTP/1.{version % 10}"  # type: ignore[attr-defined]
                connection.request("GET", "/", headers={"Host": "localhost"})
                response = connection.getresponse()
                self.assertEqual(response.read(3), b"one")
                self.write("go")
                self.assertEqual(response.read(), b"two")
                headers = response.headers
                self.assertEqual((response.status, headers["content-type"]), (202, "text/plain"))
                self.assertEqual(headers["x-a"].encode("latin-1").decode(), "ü")
                self.assertEqual(headers.get_all("set-cookie"), ["a=b", "c=d"])
                self.assertEqual(headers["Transfer-Encoding"], "chunked" if version == 11 else None)
                os.remove(os.path.join(self.root, "go"))

    def test_headers_with_several_values(self) -> None:
        """From a runtime of a few lines, as it may be anybody's."""
        runtime = self.write(
            "runtime.py",
            """
            import http.client, os
            api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            head = {"Content-Type": "application/vnd.awslambda.http-integration-response"}
            head["Lambda-Runtime-Function-Response-Mode"] = "streaming"
            prelude = b'{"statusCode":200,"headers":{},"cookies":[],"multiValueHeaders":{"x-many":["1","2"]}}'
            while True:
                api.request("GET", "/2018-06-01/runtime/invocation/next")
                event = api.getresponse()
                event.read()
                path = f"/2018-06-01/runtime/invocation/{event.headers['Lambda-Runtime-Aws-Request-Id']}/response"
                api.request("POST", path, iter([prelude, bytes(8), b"body"]), head, encode_chunked=True)
                api.getresponse().read()
            """,
        )
        self.listen("handler = None", bootstrap=[sys.executable, runtime])
        reply = self.call("GET", "/")
        self.assertEqual((reply.headers.get_all("x-many"), reply.body), (["1", "2"], b"body"))

    def test_streams_without_a_prelude(self) -> None:
        """Bytes are what they are; an empty stream is an empty response."""
        self.listen(
            "def handler(event, context):\n    if event['rawPath'] == '/some': yield b'\\x00some'\n    yield ''"
        )
        connection = self.connect()
        for path, body in (("/some", b"\0some"), ("/none", b""), ("/some", b"\0some")):
            reply = self.call("GET", path, connection=connection)
            self.assertEqual((reply.status, reply.body), (200, body))
            self.assertEqual(reply.headers["Content-Type"], "application/octet-stream")

    def test_a_stream_that_fails(self) -> None:
        """In the middle it ends without an end, which callers take for an error; before its first item it is a 502."""
        self.listen(
            """
            import os, time
            def handler(event, context):
                if event["rawPath"] == "/early": raise ValueError("early")
                yield "part"
                if event["rawPath"] == "/late": raise ValueError("late")
                time.sleep(60)
            """,
            timeout=1,
        )
        self.assertEqual(self.call("GET", "/early").status, 502)
        for path in ("/late", "/overtime"):
            with self.subTest(path), self.assertRaises(http.client.IncompleteRead) as caught:
                self.call("GET", path)
            self.assertEqual(caught.exception.partial, b"part")
        self.assertIn("ValueError: late", self.log())
        self.assertIn("Task timed out", self.log())

    def test_a_caller_that_hangs_up(self) -> None:
        """As on Lambda, the function does not learn of it, and runs to its end."""
        self.listen(
            """
            import os, time
            def handler(event, context):
                yield "one"
                while not os.path.exists("gone"): time.sleep(0.005)
                for _ in range(100): yield "x" * 100_000
                print("to the end")
            """
        )
        connection = self.connect()
        connection.request("GET", "/")
        response = connection.getresponse()
        self.assertEqual(response.read(3), b"one")
        response.close()
        connection.close()
        self.write("gone")
        self.assertTrue(until(lambda: "REPORT" in self.log()))
        self.assertIn("to the end\n", self.log())
        self.assertEqual(self.log().count("emulator: the caller has hung up"), 1)

    def test_head(self) -> None:
        """The head of what GET would bring, and nothing that would confuse the next request."""
        self.listen(
            """
            def stream(headers):
                yield {"statusCode": 200, "headers": headers}
                yield "body"
            def handler(event, context):
                headers = {"x-a": event["requestContext"]["http"]["method"]}
                if event["rawPath"] == "/stream": return stream(headers)
                return {"statusCode": 200, "body": "body", "headers": headers}
            """
        )
        connection = self.connect()
        for path in ("/", "/stream", "/"):
            reply = self.call("HEAD", path, connection=connection)
            self.assertEqual((reply.status, reply.headers["x-a"], reply.body), (200, "HEAD", b""))
        self.assertEqual(reply.headers["Content-Length"], "4")
        self.assertEqual(self.call("GET", "/", connection=connection).body, b"body")

    def test_connections_are_kept(self) -> None:
        self.listen("def handler(event, context): return 1")
        connection = self.connect()
        self.call("GET", "/", connection=connection)
        wire = connection.sock
        for _ in range(3):
            self.call("GET", "/", connection=connection)
            self.invoke(1)
        self.assertIs(connection.sock, wire)
        end = self.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertIn(b"Connection: close\r\n", end)

    def test_only_a_loopback_name_is_answered(self) -> None:
        """A page on the web can have its own name lead here, but not change what the browser sends as Host."""
        self.listen("def handler(event, context): return 1")
        names = {
            "localhost": 200, "localhost:9000": 200, "LOCALHOST": 200, "a.localhost:1": 200, "127.0.0.1": 200,
            "127.1.2.3:80": 200, "[::1]:9000": 200, "evil.example": 403, "localhost.evil.example": 403, "": 403,
            "127.0.0.1.evil.example": 403, "10.0.0.1": 403, "evil.example:9000": 403, "evil-localhost": 403,
        }  # fmt: skip
        for name, status in names.items():
            for path in ("GET /", "POST " + INVOKE.format("f")):
                with self.subTest(name=name, path=path):
                    head = f"{path} HTTP/1.1\r\nHost: {name}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    self.assertTrue(self.raw(head.encode()).startswith(b"HTTP/1.1 %d " % status))
        self.assertIn(b" 403 ", self.raw(b"GET / HTTP/1.0\r\n\r\n"))
        self.assertEqual(self.log().count("START"), 2 * list(names.values()).count(200))

    def test_malformed_bodies(self) -> None:
        self.listen("def handler(event, context): return 1")
        post = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
        for rest in (b"Content-Length: x\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nno\r\n"):
            self.assertTrue(self.raw(post + rest).startswith(b"HTTP/1.1 400 "), rest)
        self.assertNotIn("START", self.log())


# ─── Environments ───────────────────────────────────────────────────────────────────────────────────────────


class Environments(ServingTestCase):
    """Processes: when they are started, shared, replaced and ended."""

    MEET = """
        import os, time
        def handler(event, context):
            open(f"here-{event['name']}", "w").close()
            while sum(name.startswith("here-") for name in os.listdir()) < event["wait for"]: time.sleep(0.005)
            return os.getpid()
        """

    def test_one_for_each_request_at_the_same_time(self) -> None:
        """Each waits until all the others are at work."""
        self.listen(self.MEET)
        with ThreadPoolExecutor(4) as callers:
            replies = callers.map(lambda name: self.invoke({"name": name, "wait for": 4}).json(), range(4))
            self.assertEqual(len(set(replies)), 4)

    def test_and_no_more_than_allowed(self) -> None:
        """Who comes too much waits; no event is lost or mixed up."""
        self.listen("import os\ndef handler(event, context): return [os.getpid(), event]", concurrency=3)
        descriptors = len(os.listdir("/dev/fd"))
        with ThreadPoolExecutor(20) as callers:
            replies = list(callers.map(lambda number: self.invoke(number).json(), range(300)))
        self.assertEqual([number for _, number in replies], list(range(300)))
        self.assertLessEqual(len({pid for pid, _ in replies}), 3)
        # Each process has three threads and that of its connection; the pipe, the listener and the connection.
        self.assertTrue(until(lambda: threading.active_count() <= 2 + 3 * 4), threading.enumerate())
        self.assertTrue(until(lambda: len(os.listdir("/dev/fd")) <= descriptors + 1 + 2 * 3))

    def test_managed_instances(self) -> None:
        """One environment, whose processes or tasks take events at the same time."""
        awaiting = self.MEET.replace("def handler", "async def handler").replace("time.sleep", "await asyncio.sleep")
        for source in (self.MEET, awaiting.replace("import os", "import asyncio, os")):
            self.listen(source, concurrency=1, env={"AWS_LAMBDA_MAX_CONCURRENCY": "4"})
            with ThreadPoolExecutor(4) as callers:
                replies = list(callers.map(lambda name: self.invoke({"name": name, "wait for": 4}).json(), range(4)))
            self.assertEqual(len(set(replies)), 1 if "async" in source else 4)
            for name in range(4):
                os.remove(os.path.join(self.root, f"here-{name}"))
            reports = [json.loads(line) for line in self.log().splitlines() if "platform.report" in line]
            self.assertEqual([report["record"]["status"] for report in reports], ["success"] * 4)
            self.assertEqual(sum("initDurationMs" in report["record"]["metrics"] for report in reports), 1)

    def test_a_failing_process_takes_no_other_along(self) -> None:
        """A crash or a time-out is one invocation's; the next gets a fresh process."""
        self.listen(
            """
            import os, time
            def handler(event, context):
                if event == "crash": os._exit(3)
                time.sleep(event)
                return os.getpid()
            """,
            timeout=2,
        )
        with ThreadPoolExecutor(3) as callers:
            replies = list(callers.map(self.invoke, [1, "crash", 60]))
        self.assertIsInstance(replies[0].json(), int)
        self.assertEqual(
            [reply.json()["errorType"] for reply in replies[1:]], ["Runtime.ExitError", "Sandbox.Timedout"]
        )
        self.assertEqual(replies[2].headers["X-Amz-Function-Error"], "Unhandled")
        self.assertIsInstance(self.invoke(0).json(), int)

    def test_a_failing_init_is_tried_again(self) -> None:
        self.listen(
            "import os\nif not os.path.exists('ready'): raise ValueError('not yet')\nhandler = lambda e, c: 'now'"
        )
        for _ in range(2):
            reply = self.invoke(1)
            self.assertEqual((reply.status, reply.json()["errorMessage"]), (200, "not yet"))
        self.write("ready")
        self.assertEqual(self.invoke(1).json(), "now")

    def test_a_tenant_has_processes_of_its_own(self) -> None:
        self.listen("import os\ndef handler(event, context): return [context.tenant_id, os.getpid()]", concurrency=2)
        replies = [self.invoke(1, Tenant_Id=name).json() for name in ("a", "b", "a", "c")]
        self.assertEqual([name for name, _ in replies], ["a", "b", "a", "c"])
        self.assertEqual(replies[0], replies[2])
        self.assertEqual(len({pid for _, pid in replies}), 3)

    def test_a_change_of_the_code_counts_at_once(self) -> None:
        """The log says why; what is in work goes on; mistakes in between are told."""
        self.listen(
            """
            import os, time
            def handler(event, context):
                while event == "wait" and not os.path.exists(".go"): time.sleep(0.005)
                return "old"
            """,
            watch=True,
        )
        with ThreadPoolExecutor(1) as caller:
            waiting = caller.submit(self.invoke, "wait")
            self.assertTrue(until(lambda: "START" in self.log()))
            self.app("def handler(event, context): return 'new'")
            self.assertEqual(self.invoke(1).json(), "new")
            self.assertFalse(waiting.done())
            self.write(".go")
            self.assertEqual(waiting.result(20).json(), "old")
        self.assertEqual(self.log().count("emulator: app.py has changed: "), 1)
        pid = self.function.pid
        self.write(".hidden")
        self.write("__pycache__/app.cpython-311.pyc")
        self.assertEqual((self.invoke(1).json(), self.function.pid), ("new", pid))
        self.app("def handler(event, context): return (")
        self.assertEqual(self.invoke(1).json()["errorType"], "Runtime.UserCodeSyntaxError")
        self.app("def handler(event, context): return 'again'")
        self.assertEqual(self.invoke(1).json(), "again")
        self.assertTrue(until(lambda: not alive(pid or 0)), "the old one is still there")

    def test_idle_ones_may_clean_up(self) -> None:
        """They get SIGTERM, and the next event a fresh one."""
        self.listen(
            """
            import os, signal, sys
            signal.signal(signal.SIGTERM, lambda *_: (print("cleaned up"), sys.exit(0)))
            def handler(event, context): return os.getpid()
            """,
            idle=0.5,
        )
        pid = self.invoke(1).json()
        self.assertTrue(until(lambda: "cleaned up\n" in self.log() and not alive(pid)))
        self.assertNotIn("There will be no SIGTERM", self.log())
        self.assertNotEqual(self.invoke(1).json(), pid)


# ─── The command ────────────────────────────────────────────────────────────────────────────────────────────


class Command(RuntimeTestCase):
    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        """`serve` on a free port, with the first lines that it printed in `self.said`."""
        command = [
            sys.executable,
            "-B",
            "tests/emulator",
            "serve",
            "--task-root",
            self.root,
            "--handler",
            "app.handler",
        ]
        process = subprocess.Popen(
            [*command, "--port", "0", *arguments], cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self.environment({"PATH": os.environ["PATH"], "LAMBDA_TASK_ROOT": None}),
        )  # fmt: skip
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stderr
        self.said = "".join(iter(lambda: process.stderr.readline().decode(), "\n"))  # type: ignore[union-attr]
        match = re.search(r"http://127\.0\.0\.1:(\d+)/", self.said)
        assert match, self.said
        return process, int(match[1])

    def get(self, port: int) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.addCleanup(connection.close)
        connection.request("GET", "/")
        return json.loads(connection.getresponse().read())

    def test_it_ends_with_all_that_it_started(self) -> None:
        """Whatever the function does at that moment; those who want may clean up."""
        self.app(
            """
            import os, signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"cleaned up\\n"), sys.exit(0)))
            def handler(event, context):
                print("pids", os.getpid(), subprocess.Popen(["sleep", "60"]).pid)
                if event == "work": time.sleep(60)
                return 1
            """
        )
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for event in ("idle", "work"):
                with self.subTest(number=number, event=event):
                    process, port = self.start("--timeout=60")
                    assert process.stderr
                    with socket.create_connection(("127.0.0.1", port)) as wire:
                        head = f"POST {INVOKE.format('f')} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n"
                        wire.sendall(head.encode() + f'"{event}"'.encode())
                        lines = iter(lambda: process.stderr.readline().decode(), "")  # type: ignore[union-attr] # noqa: B023
                        pids = next(line for line in lines if line.startswith("pids")).split()[1:]
                        if event == "idle":
                            next(line for line in lines if line.startswith("REPORT"))
                        process.send_signal(number)
                        self.assertEqual(process.wait(10), 0)
                    rest = process.stderr.read().decode()
                    self.assertIn("cleaned up\n", rest)
                    self.assertNotIn("tests/emulator/", rest)
                    self.assertTrue(until(lambda: not any(alive(int(pid)) for pid in pids), 2))  # noqa: B023

    def test_it_says_how_to_call_it(self) -> None:
        """And what it says works."""
        self.app("def handler(event, context): return 'here'")
        process, port = self.start()
        self.assertIn(f"  curl -N http://127.0.0.1:{port}/\n", self.said)
        self.assertIn(f"  aws lambda invoke --endpoint-url http://127.0.0.1:{port} ", self.said)
        self.assertEqual(self.get(port), "here")
        process.terminate()
        self.assertEqual(process.communicate(timeout=20)[0], b"", "all is for people, and goes to stderr")

    def test_mistakes_are_told_in_one_line(self) -> None:
        self.app("def handler(event, context): return 1")
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = str(busy.getsockname()[1])
            rows = [
                (("--port", port), f"PORT: cannot listen on 127.0.0.1:{port}: "), (("--port", "65536"), "port"),
                (("--port", "x"), "port"), (("--concurrency", "0"), "concurrency"),
                (("--handler", "missing.handler"), "missing.py for missing.handler"),
                (("--env", "nowhere"), "ENV: there is no file nowhere"),
                (("--layers", "nowhere"), "LAYERS: there is no folder nowhere"),
                (("--bootstrap", "/nowhere"), "cannot start /nowhere"),
            ]  # fmt: skip
            for arguments, message in rows:
                with self.subTest(arguments):
                    command = [sys.executable, "-B", "tests/emulator", "serve", "--task-root", self.root]
                    done = subprocess.run(
                        [*command, "--handler=app.handler", "--port=0", *arguments], cwd=PROJECT, timeout=30,
                        env=self.environment(), capture_output=True,
                    )  # fmt: skip
                    line = done.stderr.decode().splitlines()[-1]
                    self.assertEqual((done.returncode, done.stdout), (2, b""))
                    self.assertIn(message, line)
                    if "--bootstrap" not in arguments:  # which is not known before it is started
                        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


if __name__ == "__main__":
    import unittest

    unittest.main()
