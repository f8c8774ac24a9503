# SPDX-License-Identifier: MIT-0
"""The ASGI adapter among the examples: an app gets requests as from any ASGI server, and its responses stream."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sys
import threading
import unittest
from typing import Any

from scripted_api import CLOSE, READ, Answer, Child, Request, ScriptedApi, event, http, run
from support import PROJECT, RUNTIME, RuntimeTestCase, Served

EXAMPLE = PROJECT / "tests" / "examples" / "asgi"

# The app of most tests: what it does with a request is code in the request's body.
APP = """
    import asyncio, pathlib, textwrap
    from asgi import lambda_handler

    def start(status=200, headers=()):
        return {"type": "http.response.start", "status": status, "headers": headers}

    def body(data=b"", more=False):
        return {"type": "http.response.body", "body": data, "more_body": more}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError("no lifespan here")
        code = textwrap.indent((await receive())["body"].decode(), "    ")
        names = {}
        exec("async def act(scope, receive, send):\\n" + code, globals(), names)
        await names["act"](scope, receive, send)

    handler = lambda_handler(app)
    """


def request(code: str = "", **changes: Any) -> Answer:
    """A function URL's event, as one that the scripted API hands out."""
    value = json.loads((EXAMPLE / "event.json").read_text(encoding="utf-8"))
    value["requestContext"]["http"]["method"] = changes.pop("method", "POST")
    return event(json.dumps({**value, "body": code, **changes}).encode())


def streamed(answer: Request) -> tuple[dict[str, Any], bytes]:
    """The prelude and the body of a streamed response."""
    prelude, nuls, *items = [chunk.data for chunk in answer.chunks]
    assert nuls == bytes(8), answer
    return json.loads(prelude), b"".join(items)


class AsgiTestCase(RuntimeTestCase):
    def setUp(self) -> None:
        super().setUp()
        shutil.copy(EXAMPLE / "asgi.py", self.root)

    def served(self, *requests: Answer, source: str = APP, **options: Any) -> Served:
        self.app(source)
        return self.serve(*requests, **options)


class Requests(AsgiTestCase):
    ECHO = """
        import json
        from asgi import lambda_handler

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                return
            message = await receive()
            scope = {key: value for key, value in scope.items() if not key.startswith("aws.")}
            seen = json.dumps([scope, message], default=lambda value: value.decode("latin-1"))
            scope["state"]["leaks"] = True
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": seen.encode()})

        handler = lambda_handler(app)
        """

    def test_scope_and_body(self) -> None:
        headers = {"Host": "example.com", "x-utf8": "ü", "x-forwarded-proto": "http"}
        done = self.served(
            request("ä", rawPath="/a%20b/%C3%BC", rawQueryString="x=1&x=%20", headers=headers, cookies=["a=1", "b=2"]),
            request(base64.b64encode(b"\x00\xff").decode(), isBase64Encoded=True, method="PUT"),
            source=self.ECHO,
        )
        (first, first_message), (second, second_message) = [json.loads(streamed(answer)[1]) for answer in done.answers]
        self.assertEqual(first, {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
            "method": "POST", "scheme": "http", "path": "/a b/ü", "raw_path": "/a%20b/%C3%BC", "root_path": "",
            "query_string": "x=1&x=%20", "client": ["192.0.2.1", 0], "state": {},
            "server": ["abcdefghij.lambda-url.eu-central-1.on.aws", 443],
            "headers": [["host", "example.com"], ["x-utf8", "\xc3\xbc"], ["x-forwarded-proto", "http"],
                        ["cookie", "a=1; b=2"]],
        })  # fmt: skip
        self.assertEqual(first_message, {"type": "http.request", "body": "\xc3\xa4", "more_body": False})
        self.assertEqual((second["method"], second["scheme"], second["state"]), ("PUT", "https", {}))
        self.assertEqual(second_message["body"], "\x00\xff")

    def test_a_request_without_a_body(self) -> None:
        """Lambda leaves `body` and `cookies` out then."""
        value = json.loads((EXAMPLE / "event.json").read_text(encoding="utf-8"))
        del value["cookies"]
        (answer,) = self.served(event(json.dumps(value).encode()), source=self.ECHO).answers
        scope, message = json.loads(streamed(answer)[1])
        self.assertEqual((scope["method"], message["body"]), ("GET", ""))
        self.assertNotIn("cookie", dict(scope["headers"]))

    def test_the_event_is_there_too(self) -> None:
        code = 'await send(start())\nawait send(body(scope["aws.event"]["version"].encode()))'
        self.assertEqual(streamed(self.served(request(code)).answers[0])[1], b"2.0")


class Responses(AsgiTestCase):
    def test_status_headers_and_cookies(self) -> None:
        code = """\
headers = [(b"Content-Type", b"text/plain"), (b"set-cookie", b"a=1; Secure"), (b"vary", b"Accept")]
await send(start(201, headers + [(b"Set-Cookie", b"b=2"), (b"Vary", b"Cookie")]))
await send(body(b"one ", more=True))
await send(body(b"two"))"""
        head, data = streamed(self.served(request(code)).answers[0])
        headers = {"content-type": "text/plain", "vary": "Accept, Cookie"}
        self.assertEqual(head, {"statusCode": 201, "headers": headers, "cookies": ["a=1; Secure", "b=2"]})
        self.assertEqual(data, b"one two")

    def test_head_has_no_body(self) -> None:
        """Frameworks answer HEAD as they answer GET, and leave it to the server to drop the body."""
        code = 'await send(start(200, [(b"content-length", b"3")]))\nawait send(body(b"abc"))'
        head, data = streamed(self.served(request(code, method="HEAD")).answers[0])
        self.assertEqual((head["headers"], data), ({"content-length": "3"}, b""))

    def test_each_item_arrives_before_the_app_goes_on(self) -> None:
        """The app goes on only when the other side has the item: were it kept, neither would ever move."""
        fifo = os.path.join(self.folder(), "arrived")
        os.mkfifo(fifo)
        code = f"""\
await send(start())
for item in (b"a", b"b"):
    await send(body(item, more=True))
    await asyncio.get_running_loop().run_in_executor(None, pathlib.Path({fifo!r}).read_text)
await send(body())"""
        self.app(APP)
        with ScriptedApi([request(code)]) as api:

            def acknowledge() -> None:
                for chunks in (3, 4):  # prelude, NULs, an item each
                    if api.wait(lambda n=chunks: api.sent("response") and len(api.sent("response")[0].chunks) >= n):  # type: ignore[misc]
                        with open(fifo, "w"):
                            pass

            threading.Thread(target=acknowledge, daemon=True).start()
            command = [sys.executable, str(RUNTIME), "app.handler"]
            done = run(command, api, self.environment({"AWS_LAMBDA_RUNTIME_API": api.address}), cwd=self.root)
        self.assertFalse(done.timed_out, "an item was not sent before the app went on")
        self.assertEqual([chunk.data for chunk in api.sent("response")[0].chunks[2:]], [b"a", b"b"])

    def test_after_the_response(self) -> None:
        """What the app does then is waited for: Lambda freezes the process as soon as the invocation is over."""
        code = """\
await send(start())
await send(body(b"complete"))
print((await receive())["type"])
try: await send(body(b"more"))
except OSError as error: print(error)
await asyncio.sleep(0.05)
print("in the background")"""
        done = self.served(request(code), request("print('next')\nawait send(start())\nawait send(body())"))
        self.assertEqual([streamed(answer)[1] for answer in done.answers], [b"complete", b""])
        expected = ["http.disconnect", "the response is over", "in the background", "next"]
        self.assertEqual(self.lines(done.stdout), expected)

    def test_the_client_hangs_up(self) -> None:
        """The app is cancelled, and its process goes on. Were `send` not held up, it would not even be noticed."""
        code = """\
await send(start())
try:
    while True: await send(body(bytes(1_000_000), more=True))
finally:
    await asyncio.sleep(0)
    print("cleaned up")"""
        next_one = request("await send(start())\nawait send(body(b'next'))")
        done = self.served(request(code), next_one, response=[[CLOSE], [READ, http(202)]])
        self.assertEqual(self.lines(done.stdout)[0], "cleaned up")
        self.assertEqual(streamed(done.answers[1])[1], b"next")

    def test_two_at_once(self) -> None:
        """On Managed Instances one app in one process serves several requests at a time."""
        code = """\
global here
here = globals().get("here", 0) + 1
while here < 2: await asyncio.sleep(0.01)
await send(start())
await send(body(b"met"))"""
        self.app(APP)
        with ScriptedApi([request(code), request(code)]) as api:
            env = self.environment({"AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_MAX_CONCURRENCY": "2"})
            with Child([sys.executable, str(RUNTIME), "app.handler"], env, cwd=self.root):
                api.wait(lambda: [one.complete for one in api.sent("response")] == [True, True])
            self.assertEqual([streamed(answer)[1] for answer in api.sent("response")], [b"met", b"met"])


class Errors(AsgiTestCase):
    ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"

    def test_before_during_and_after_the_response(self) -> None:
        codes = [
            "raise KeyError('before')",
            "await send(start())\nawait send(body(b'part', more=True))\nraise KeyError('during')",
            "await send(start(500))\nawait send(body(b'complete'))\nraise KeyError('after')",
            "await send(start())",
            "pass",
        ]
        done = self.served(*map(request, codes))
        before, during, after, incomplete, nothing = done.answers
        self.assertEqual((before.endpoint, json.loads(before.body)["errorType"]), ("error", "KeyError"))
        self.assertEqual(streamed(during)[1], b"part")
        self.assertEqual(dict(during.trailers)[self.ERROR_TYPE], "Function.KeyError")
        self.assertEqual((streamed(after)[0]["statusCode"], streamed(after)[1]), (500, b"complete"))
        self.assertEqual(after.trailers, [], "frameworks raise after they have answered 500; the page is whole")
        self.assertIn("the app failed after its response", done.stdout)
        self.assertIn("KeyError: 'after'", done.stdout)
        self.assertEqual(dict(incomplete.trailers)[self.ERROR_TYPE], "Function.RuntimeError")
        self.assertIn("before its response was complete", json.loads(nothing.body)["errorMessage"])
        self.assertNotIn("never retrieved", done.stdout + done.stderr)


class Lifespan(AsgiTestCase):
    SOURCE = """
        from asgi import lambda_handler

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                assert (await receive())["type"] == "lifespan.startup"
                scope["state"]["pool"] = "connected"
                print("startup")
                await send({"type": "lifespan.startup.complete"})
                assert (await receive())["type"] == "lifespan.shutdown"
                print("shutdown")
                await send({"type": "lifespan.shutdown.complete"})
            else:
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": scope["state"]["pool"].encode()})

        handler = lambda_handler(app)
        print("imported")
        """

    def test_startup_at_init_shutdown_at_the_end(self) -> None:
        done = self.served(request(), request(), source=self.SOURCE, end=signal.SIGTERM)
        self.assertEqual([streamed(answer)[1] for answer in done.answers], [b"connected"] * 2)
        self.assertEqual(self.lines(done.stdout), ["startup", "imported", "shutdown"])
        self.assertEqual((done.done.status, done.stderr), (0, ""))

    def test_a_failed_startup_fails_the_init(self) -> None:
        """Starlette says so and raises what went wrong; an app that goes on listening says so only."""
        says = 'await send({"type": "lifespan.startup.failed", "message": "no database"})'
        for then, expected in (("raise KeyError('url')", "KeyError"), ("await receive()", "RuntimeError")):
            with self.subTest(then):
                source = f"""
                    from asgi import lambda_handler
                    async def app(scope, receive, send):
                        await receive()
                        {says}
                        {then}
                    handler = lambda_handler(app)
                    """
                (report,) = self.served(request(), source=source).sent()
                self.assertEqual((report.endpoint, json.loads(report.body)["errorType"]), ("init_error", expected))
                self.assertIn(
                    "url" if expected == "KeyError" else "no database", json.loads(report.body)["errorMessage"]
                )

    def test_an_app_without_a_lifespan(self) -> None:
        done = self.served(request("await send(start())\nawait send(body(b'fine'))"), end=signal.SIGTERM)
        self.assertEqual(streamed(done.answers[0])[1], b"fine")
        self.assertEqual((done.stdout, done.stderr), ("", ""))


if __name__ == "__main__":
    unittest.main()
