# SPDX-License-Identifier: MIT-0
"""A part of the conformance tests: the clients that people have, and their frameworks, talk to `make serve`."""

from __future__ import annotations

import base64
import gc
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

from conformance_emulators import MB, PATH, Emulator, alive, descendants
from conformance_tools import PROJECT, Report, expect, free_ports, new_folder, pip, set_up, write_files

BOTO3 = ("boto3==1.44.8", "awscli==1.46.3")
FASTAPI = ("fastapi==0.165.0", "starlette==1.10.0")
EXAMPLES = PROJECT / "tests" / "examples"


def from_pypi(name: str, *requirements: str) -> Path:
    """A layer in .dev: a folder `python` with these packages. Each Python has its own, as some are compiled."""

    def fill(folder: Path) -> None:
        target = folder / "python"
        pip("install", "--no-warn-script-location", "--root-user-action=ignore", "--target", target, *requirements)

    versions = "-".join(re.sub(".*==", "", one) for one in requirements)
    what = f"{', '.join(requirements)}, from PyPI"
    return set_up(f"{name}-{versions}-{sys.implementation.cache_tag}", what, fill)


class Serve(Emulator):
    """`make serve`, as a user starts it."""

    def __init__(self, task_root: Path, handler: str = "app.handler", **variables: str) -> None:
        (port,) = free_ports(1)
        given = {"TASK_ROOT": str(task_root), "HANDLER": handler, "PORT": str(port), "PYTHON": sys.executable}
        words = [f"{name}={value}" for name, value in {**given, **variables}.items()]
        env = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(task_root)}
        super().__init__(port, ["make", "--silent", "serve", *words], env, PROJECT)
        self.url = f"http://127.0.0.1:{port}"

    @property
    def server(self) -> int:
        """The process that serves: make is its parent, the function's processes are its children."""
        return [pid for pid in descendants(self.child.process.pid) if b"emulator" in cmdline(pid)][-1]

    def interrupt(self) -> list[int]:
        """Ctrl-C in the terminal of `make serve`. What is returned are the processes that have not ended."""
        started = descendants(self.child.process.pid)
        os.killpg(self.child.process.pid, signal.SIGINT)
        wait_until(lambda: not any(map(alive, started)))
        return [pid for pid in started if alive(pid)]


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def clients(report: Report) -> None:
    with new_folder() as task_root, new_folder() as signs:
        write_files(task_root, {"app.py": FUNCTION})
        with Serve(task_root, TIMEOUT="6", CONCURRENCY="5") as serve:
            with_boto3(report, serve, signs)
            with_aws_cli(report, serve, signs)
            with_curl(report, serve, signs)
            with_chromium(report, serve, signs)
            with report.check("clients: Ctrl-C ends the server and the function, which gets SIGTERM"):
                expect(serve.interrupt(), [])
                expect("atexit ran" in serve.output, True)
            with report.check("clients: nothing ended in a traceback of the server"):
                expect([line for line in serve.output.splitlines() if "/tests/emulator/" in line], [])
    with_frameworks(report)


FUNCTION = '''\
import atexit, base64, json, os, time
from pathlib import Path

atexit.register(print, "atexit ran")

def handler(event, context):
    if "rawPath" in event:
        return globals()["url_" + event["rawPath"][1:]](event)
    return globals()[event["do"]](event, context)

def given(sign):
    """Wait until the client gives a sign: it makes a file of this name."""
    until = time.monotonic() + 5
    while not Path(sign).exists() and time.monotonic() < until:
        time.sleep(0.005)
    return Path(sign).exists()

# What the Invoke API is tried with

def echo(event, context):
    client = context.client_context
    return {
        "event": event,
        "id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "tenant": context.tenant_id,
        "custom": client and client.custom,
    }

def sign(event, context):
    if given(event.get("after", "/")):
        Path(event["sign"]).touch()

def say(event, context):
    print("said: ä")
    print("x" * event["bytes"])
    print("said last")

def fail(event, context):
    raise ValueError("ä")

def crash(event, context):
    os._exit(3)

def sleep(event, context):
    time.sleep(60)

def large(event, context):
    return "x" * (event["bytes"] - 2)

def stream(event, context):
    yield "one "
    yield "two" if given(event["sign"]) else "nobody had the first chunk"

def stream_fails(event, context):
    yield "begun"
    raise ValueError("ä")

def stream_number(event, context):
    yield str(event["n"])

def stream_large(event, context):
    for number in range(20):
        yield bytes([number]) * 1024 * 1024

# What the function URL is tried with

def body_of(event):
    body = event.get("body", "")
    return base64.b64decode(body) if event["isBase64Encoded"] else body.encode()

def url_echo(event):
    seen = {name: event.get(name) for name in ("rawQueryString", "queryStringParameters", "cookies")}
    seen.update({"x-a": event["headers"].get("x-a"), "body": body_of(event).decode()})
    return {
        "statusCode": 203,
        "headers": {"content-type": "application/json", "x-method": event["requestContext"]["http"]["method"]},
        "cookies": ["a=1; Secure", "b=2"],
        "body": json.dumps(seen),
    }

def url_bytes(event):
    return {"statusCode": 200, "isBase64Encoded": True, "body": base64.b64encode(body_of(event)[::-1]).decode()}

def url_plain(event):
    return {"hello": "ä"}

def url_fail(event):
    raise ValueError("secret")

def url_stream(event):
    yield {"statusCode": 201, "headers": {"content-type": "text/plain"}, "cookies": ["a=1; Secure", "b=2"]}
    yield "one "
    yield "two" if given(event["queryStringParameters"]["sign"]) else "nobody had the first chunk"

def url_many(event):
    yield {"multiValueHeaders": {"x-many": ["1", "2"]}}
    yield "body"

def url_stream_fails(event):
    yield {}
    yield "begun"
    raise ValueError("ä")

PAGE = """<!doctype html><link rel="icon" href="data:,"><ul></ul><script>
    const list = document.querySelector("ul"), events = new EventSource("events" + location.search)
    events.onmessage = (event) => {
        list.insertAdjacentHTML("beforeend", `<li>${event.data}</li>`)
        if (event.data == "one") fetch("sign" + location.search, {method: "POST"})
        if (event.data == "end") events.close()
    }
</script>"""

def url_page(event):
    return {"statusCode": 200, "headers": {"content-type": "text/html"}, "body": PAGE}

def url_events(event):
    yield {"headers": {"content-type": "text/event-stream"}}
    yield "data: one\\n\\n"
    yield "data: two\\n\\n" if given(event["queryStringParameters"]["sign"]) else "data: the page had nothing\\n\\n"
    yield "data: end\\n\\n"

def url_sign(event):
    Path(event["queryStringParameters"]["sign"]).touch()
    return {"statusCode": 204}
'''

# ──── boto3 ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Boto3:
    """A client for one function, and what boto3 raises."""

    def __init__(self, url: str) -> None:
        folder = str(from_pypi("boto3", *BOTO3) / "python")
        if folder not in sys.path:
            sys.path.append(folder)
        config = importlib.import_module("botocore.config").Config(
            retries={"total_max_attempts": 1}, max_pool_connections=20, read_timeout=30
        )
        session = importlib.import_module("boto3").Session(
            aws_access_key_id="any", aws_secret_access_key="any", region_name="eu-central-1"
        )
        errors = importlib.import_module("botocore.exceptions")
        self.errors: tuple[type[Exception], ...] = (errors.ClientError, errors.BotoCoreError)
        self.client: Any = session.client("lambda", endpoint_url=url, config=config)

    def invoke(self, event: object, **parameters: Any) -> dict[str, Any]:
        """The answer, its payload read and decoded."""
        parameters = {"FunctionName": "example", "Payload": json.dumps(event), **parameters}
        answer: dict[str, Any] = self.client.invoke(**parameters)
        payload = answer["Payload"].read()
        return {**answer, "Payload": json.loads(payload) if payload else None}

    def stream(self, event: object) -> Generator[tuple[str, Any], None, None]:
        """The messages of a streamed response, by type: the bytes of a chunk, what InvokeComplete says."""
        answer = self.client.invoke_with_response_stream(FunctionName="example", Payload=json.dumps(event))
        try:
            for message in answer["EventStream"]:
                ((kind, content),) = message.items()
                yield kind, content.get("Payload", b"") if kind == "PayloadChunk" else content
        finally:
            answer["EventStream"].close()

    def refused(self, event: object, **parameters: Any) -> tuple[int, str]:
        """Status and code of the error that an invocation ends with."""
        try:
            answer = self.invoke(event, **parameters)
        except self.errors as error:
            response = getattr(error, "response", None)
            if not response:
                raise
            return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]
        raise AssertionError(f"it was not refused: {answer}")

    @contextmanager
    def check(self, report: Report, name: str) -> Iterator[None]:
        with report.check(f"clients, boto3: {name}"):
            try:
                yield
            except self.errors as error:
                raise AssertionError(repr(error)) from error


def with_boto3(report: Report, serve: Serve, signs: Path) -> None:
    boto3 = Boto3(serve.url)
    with boto3.check(report, "an invocation"):
        answer = boto3.invoke({"do": "echo", "text": "ä€"})
        expect(answer["Payload"]["event"]["text"], "ä€")
        expect((answer["StatusCode"], answer["ExecutedVersion"], "FunctionError" in answer), (200, "$LATEST", False))
        expect(answer["ResponseMetadata"]["RequestId"], answer["Payload"]["id"])
    with boto3.check(report, "a function by its ARN, with a qualifier"):
        arn = "arn:aws:lambda:eu-central-1:123456789012:function:example"
        for parameters in ({"FunctionName": f"{arn}:live"}, {"FunctionName": arn, "Qualifier": "live"}):
            answer = boto3.invoke({"do": "echo"}, **parameters)
            expect((answer["StatusCode"], answer["Payload"]["arn"].rpartition(":")[2]), (200, "live"))
    with boto3.check(report, "client context and tenant id"):
        context = base64.b64encode(json.dumps({"custom": {"a": "ä"}}).encode()).decode()
        answer = boto3.invoke({"do": "echo"}, ClientContext=context, TenantId="tenant")
        expect((answer["Payload"]["custom"], answer["Payload"]["tenant"]), ({"a": "ä"}, "tenant"))
    with boto3.check(report, "the log's tail"):
        answer = boto3.invoke({"do": "say", "bytes": 100}, LogType="Tail")
        tail = base64.b64decode(answer["LogResult"]).decode()
        expect(
            tail, re.compile(r"\ASTART RequestId: .*\nsaid: ä\nx{100}\nsaid last\n.*END RequestId: .*\nREPORT R", re.S)
        )
        answer = boto3.invoke({"do": "say", "bytes": 5000}, LogType="Tail")
        tail = base64.b64decode(answer["LogResult"]).decode()
        expect((len(tail.encode()) <= 4096, "said last" in tail), (True, True))
    with boto3.check(report, "an event is accepted at once, and run then"):
        event = {"do": "sign", "after": f"{signs}/accepted", "sign": f"{signs}/done"}
        answer = boto3.invoke(event, InvocationType="Event")
        expect((answer["StatusCode"], answer["Payload"]), (202, None))
        (signs / "accepted").touch()
        expect(wait_until((signs / "done").exists), True)
    with boto3.check(report, "a dry run runs nothing"):
        answer = boto3.invoke({"do": "sign", "sign": f"{signs}/dry"}, InvocationType="DryRun")
        boto3.invoke({"do": "echo"})
        expect((answer["StatusCode"], answer["Payload"], (signs / "dry").exists()), (204, None, False))
    with boto3.check(report, "an error"):
        answer = boto3.invoke({"do": "fail"})
        expect((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
        expect((answer["Payload"]["errorType"], answer["Payload"]["errorMessage"]), ("ValueError", "ä"))
    with boto3.check(report, "a crash fails this invocation alone"):
        answer = boto3.invoke({"do": "crash"})
        expect((answer["FunctionError"], answer["Payload"]["errorType"]), ("Unhandled", "Runtime.ExitError"))
        expect(boto3.invoke({"do": "echo"})["StatusCode"], 200)
    with boto3.check(report, "a time-out"):
        answer = boto3.invoke({"do": "sleep"})
        expect((answer["FunctionError"], answer["Payload"]["errorType"]), ("Unhandled", "Sandbox.Timedout"))
        expect(answer["Payload"]["errorMessage"], re.compile(r"Error: Task timed out after 6\.00 seconds"))
        expect("FunctionError" in boto3.invoke({"do": "echo"}), False)
    with boto3.check(report, "a result that is too large"):
        expect(len(boto3.invoke({"do": "large", "bytes": 6 * MB})["Payload"]), 6 * MB - 2)
        answer = boto3.invoke({"do": "large", "bytes": 7 * MB})
        expect(
            (answer["FunctionError"], answer["Payload"]["errorType"]), ("Unhandled", "Function.ResponseSizeTooLarge")
        )
    with boto3.check(report, "an event that is too large, or no JSON"):
        event = {"do": "sign", "sign": "/", "text": ""}
        event["text"] = "x" * (6 * MB - len(json.dumps(event)))
        expect(boto3.invoke(event)["StatusCode"], 200)
        event["text"] += "x"
        expect(boto3.refused(event), (413, "RequestEntityTooLargeException"))
        expect(boto3.refused(None, Payload="{'do'"), (400, "InvalidRequestContentException"))

    with boto3.check(report, "a stream arrives as it is made"):
        kinds, data = [], b""
        for kind, content in boto3.stream({"do": "stream", "sign": f"{signs}/stream"}):
            kinds.append(kind)
            data += content if kind == "PayloadChunk" else b""
            (signs / "stream").touch()
        expect((kinds, data), (["PayloadChunk", "PayloadChunk", "InvokeComplete"], b"one two"))
    with boto3.check(report, "a stream that fails"):
        (_, data), (_, end) = boto3.stream({"do": "stream_fails"})
        expect((data, end["ErrorCode"]), (b"begun", "Unhandled"))
        expect(json.loads(end["ErrorDetails"])["errorMessage"], "ä")
    with boto3.check(report, "a stream of 20 MB"):
        digest = hashlib.sha256()
        for kind, content in boto3.stream({"do": "stream_large"}):
            digest.update(content if kind == "PayloadChunk" else b"")
        expect(digest.digest(), hashlib.sha256(b"".join(bytes([n]) * MB for n in range(20))).digest())
    with boto3.check(report, "an ordinary result, read as a stream"):
        *chunks, (kind, _) = boto3.stream({"do": "large", "bytes": 6 * MB})
        expect((kind, sum(len(data) for _, data in chunks)), ("InvokeComplete", 6 * MB))
    boto3.client.close()
    under_load(report, serve)


def under_load(report: Report, serve: Serve) -> None:
    """1,000 requests by 20 clients. Nothing is held afterwards that was not after the first hundred."""

    def held() -> dict[str, int]:
        return {what: len(os.listdir(f"/proc/{serve.server}/{what}")) for what in ("task", "fd")}

    def settled() -> dict[str, int]:
        """The same some moments later: connections of clients that have gone are closed."""
        before: dict[str, int] = {}
        now = held()
        while before != now:
            time.sleep(0.3)
            before, now = now, held()
        return now

    def by_twenty(count: int) -> set[str]:
        boto3 = Boto3(serve.url)

        def one(number: int) -> str:
            if number % 50 == 1:
                stream = boto3.stream({"do": "stream_large"})
                expect(next(stream)[0], "PayloadChunk")
                stream.close()
                return f"hung up {number}"
            if number % 5 == 0:
                chunks = [content for kind, content in boto3.stream({"do": "stream_number", "n": number})]
                expect(chunks[:-1], [str(number).encode()])
                return str(number)
            answer = boto3.invoke({"do": "echo", "n": number})
            expect((answer.get("FunctionError"), answer["Payload"]["event"]["n"]), (None, number))
            expect(answer["Payload"]["id"], answer["ResponseMetadata"]["RequestId"])
            return str(answer["Payload"]["id"])

        with ThreadPoolExecutor(20) as pool:
            ids = set(pool.map(one, range(count)))
        boto3.client.close()
        gc.collect()  # only then are its connections closed
        return ids

    with Boto3(serve.url).check(report, "1,000 requests by 20 clients: none lost, none mixed up, nothing left"):
        by_twenty(100)
        before = settled()
        expect(len(by_twenty(1000)), 1000)
        if not wait_until(lambda: all(count <= before[what] for what, count in held().items())):
            raise AssertionError(f"threads and descriptors: {before} before, {held()} after")


# ──── AWS's command line ────────────────────────────────────────────────────────────────────────────────────────────


def with_aws_cli(report: Report, serve: Serve, signs: Path) -> None:
    packages = from_pypi("boto3", *BOTO3) / "python"
    env = {"PATH": PATH, "HOME": str(signs), "LANG": "C.UTF-8", "PYTHONPATH": str(packages)}
    env.update(AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any", AWS_DEFAULT_REGION="eu-central-1")

    def invoke(event: object, *options: str) -> tuple[Any, Any]:
        """What the command says, and what it has put into the file."""
        out = signs / "out.json"
        command = [sys.executable, "-m", "awscli", "lambda", "invoke", "--endpoint-url", serve.url, *options]
        command += ["--function-name", "example", "--payload", json.dumps(event), str(out)]
        done = subprocess.run(command, env=env, cwd=signs, capture_output=True, text=True, timeout=60)
        expect((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout), json.loads(out.read_text("utf-8"))

    with report.check("clients, aws lambda invoke: a result"):
        said, payload = invoke({"do": "echo", "text": "ä"})
        expect(said, {"StatusCode": 200, "ExecutedVersion": "$LATEST"})
        expect(payload["event"]["text"], "ä")
    with report.check("clients, aws lambda invoke: an error, and the log"):
        said, payload = invoke({"do": "fail"}, "--log-type", "Tail")
        expect((said["FunctionError"], payload["errorType"]), ("Unhandled", "ValueError"))
        expect(base64.b64decode(said["LogResult"]).decode(), re.compile(r"\[ERROR\] ValueError: ä"))


# ──── curl ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Page(NamedTuple):
    status: int
    headers: list[tuple[str, str]]  # lower-case names; what the connection is about is left out
    body: bytes


def curl(*arguments: str, expected: int = 0) -> bytes:
    done = subprocess.run(["curl", "--silent", "--max-time", "30", *arguments], capture_output=True, timeout=60)
    expect((done.returncode, done.stderr), (expected, b""))
    return done.stdout


def page(*arguments: str, expected: int = 0) -> Page:
    head, _, body = curl("--include", *arguments, expected=expected).partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    names = [line.partition(": ") for line in lines]
    headers = [(name.lower(), value) for name, _, value in names]
    return Page(int(status.split()[1]), headers, body)


def as_it_comes(url: str, first: bytes, sign: Path) -> tuple[bytes, bytes]:
    """A response up to its first words, and what came after we gave the sign that these are here."""
    command = ["curl", "--silent", "--no-buffer", "--include", "--max-time", "30", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        head = b""
        while not head.endswith(first) and (byte := process.stdout.read(1)):
            head += byte
        sign.touch()
        return head, process.stdout.read()


def with_curl(report: Report, serve: Serve, signs: Path) -> None:
    if not shutil.which("curl", path=PATH):
        report.skip("clients, curl", "it is not installed")
        return
    with report.check("clients, curl: a request and its response"):
        words = ["--cookie", "c=d; e=f", "--header", "X-A: 1", "--header", "X-A: 2", "--data", "ä"]
        seen = page(*words, f"{serve.url}/echo?q=1&q=2&r=%C3%A4")
        expect(json.loads(seen.body), {
            "rawQueryString": "q=1&q=2&r=%C3%A4", "queryStringParameters": {"q": "1,2", "r": "ä"},
            "cookies": ["c=d", "e=f"], "x-a": "1,2", "body": "ä",
        })  # fmt: skip
        cookies = [value for name, value in seen.headers if name == "set-cookie"]
        expect((seen.status, dict(seen.headers)["content-type"]), (203, "application/json"))
        expect(cookies, ["a=1; Secure", "b=2"])
    with report.check("clients, curl: a result that is no response"):
        seen = page(f"{serve.url}/plain")
        expect((seen.status, dict(seen.headers)["content-type"]), (200, "application/json"))
        expect(json.loads(seen.body), {"hello": "ä"})
    for method, words in {"HEAD": ["--head"], "OPTIONS": ["--request", "OPTIONS"]}.items():
        with report.check(f"clients, curl: {method}"):
            seen = page(*words, f"{serve.url}/echo")
            expect((seen.status, dict(seen.headers)["x-method"], bool(seen.body)), (203, method, method != "HEAD"))
    with report.check("clients, curl: 4 MB of bytes up and down, 7 MB refused"):
        upload = signs / "upload"
        upload.write_bytes(os.urandom(4 * MB))
        kind = "Content-Type: application/octet-stream"
        words = ["--header", kind, "--data-binary", f"@{upload}", f"{serve.url}/bytes"]
        expect(curl(*words) == upload.read_bytes()[::-1], True)
        upload.write_bytes(bytes(7 * MB))
        expect(page("--header", "Expect:", *words).status, 413)
    with report.check("clients, curl: an error of the function is its own affair"):
        seen = page(f"{serve.url}/fail")
        expect((seen.status, b"secret" in seen.body, isinstance(json.loads(seen.body), dict)), (502, False, True))
    with report.check("clients, curl: a stream arrives as it is made"):
        head, rest = as_it_comes(f"{serve.url}/stream?sign={signs}/curl", b"one ", signs / "curl")
        expect(rest, b"two")
        status, *headers = head.decode().lower().split("\r\n")
        wanted = ["content-type: text/plain", "set-cookie: a=1; secure", "set-cookie: b=2"]
        expect((status.split()[1], [line for line in wanted if line not in headers]), ("201", []))
    with report.check("clients, curl: a stream with multiValueHeaders"):
        seen = page(f"{serve.url}/many")
        expect(([value for name, value in seen.headers if name == "x-many"], seen.body), (["1", "2"], b"body"))
    with report.check("clients, curl: a stream that fails is cut, and curl can tell"):
        expect(page("--no-buffer", f"{serve.url}/stream_fails", expected=18).body, b"begun")
    with report.check("clients, curl: one connection for several requests"):
        words = ["--output", "/dev/null", "--write-out", "%{num_connects} "]
        urls = [f"{serve.url}/plain", f"{serve.url}/stream?sign=/", f"{serve.url}/fail", f"{serve.url}/plain"]
        expect(curl(*(word for url in urls for word in (*words, url))), b"1 0 0 0 ")
    with report.check("clients, curl: a request in another host's name is refused"):
        seen = page("--header", "Host: example.com", f"{serve.url}/sign?sign={signs}/host")
        expect((400 <= seen.status < 500, (signs / "host").exists()), (True, False))


# ──── a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────

# The browser stays away from the network, and its clock stands still while it waits for the server.
CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=10000", "--dump-dom",
]  # fmt: skip


def with_chromium(report: Report, serve: Serve, signs: Path) -> None:
    if not shutil.which("chromium", path=PATH):
        report.skip("clients, Chromium", "it is not installed")
        return

    def items(url: str) -> list[str]:
        """The list on a page, once its scripts have nothing more to do."""
        with new_folder() as profile:
            command = [*CHROMIUM, f"--user-data-dir={profile}", url]
            env = {"PATH": PATH, "HOME": str(profile)}
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        return re.findall("<li>(.*?)</li>", re.sub("(?s)<script>.*?</script>", "", done.stdout))

    with report.check("clients, Chromium: the page has the stream's first event before the second is made"):
        expect(items(f"{serve.url}/page?sign={signs}/chromium"), ["one", "two", "end"])
    with Serve(EXAMPLES / "page") as example, report.check("clients, Chromium: the page among the examples"):
        expect(" ".join(items(example.url)), "each word arrives when it is made ✓")


# ──── FastAPI and Starlette ─────────────────────────────────────────────────────────────────────────────────────────

STARLETTE_APP = """\
import asyncio, contextlib, time
from pathlib import Path

from asgi import lambda_handler
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"pool": "connected"}
    await asyncio.sleep(0)
    print("lifespan over")

async def echo(request):
    data = await request.body()
    seen = {"url": str(request.url), "pool": request.state.pool, "cookies": request.cookies, "bytes": len(data)}
    response = JSONResponse(seen, status_code=202, headers={"vary": "Cookie"})
    response.set_cookie("a", "1", secure=True)
    response.set_cookie("b", "2")
    response.headers.append("vary", "Accept")
    return response

async def stream(request):
    async def items():
        yield "one "
        until = time.monotonic() + 5
        while not Path(request.query_params["sign"]).exists() and time.monotonic() < until:
            await asyncio.sleep(0.005)
        yield "two" if Path(request.query_params["sign"]).exists() else "nobody had the first chunk"
    return StreamingResponse(items(), media_type="text/event-stream")

async def fails_later(request):
    async def items():
        yield "begun"
        raise ValueError("later")
    return StreamingResponse(items())

async def fails(request):
    raise ValueError("at once")

async def background(request):
    async def work():
        await asyncio.sleep(0.05)
        print("background task done")
    return PlainTextResponse("accepted", background=BackgroundTask(work))

routes = [Route("/" + one.__name__, one, methods=["GET", "POST"])
          for one in (echo, stream, fails_later, fails, background)]
handler = lambda_handler(Starlette(routes=routes, lifespan=lifespan))
"""


def with_frameworks(report: Report) -> None:
    if not shutil.which("curl", path=PATH):
        report.skip("clients, FastAPI and Starlette", "curl is not installed")
        return
    layer = str(from_pypi("fastapi", *FASTAPI))
    with Serve(EXAMPLES / "asgi", LAYERS=layer, TIMEOUT="10") as serve:
        with report.check("clients, FastAPI: the app among the examples"):
            expect(page(f"{serve.url}/?name=Ada").body, b'{"greeting":"Hello, Ada!"}')
            expect(page(f"{serve.url}/nowhere").status, 404)
            seen = page(f"{serve.url}/count?to=many")
            expect((seen.status, json.loads(seen.body)["detail"][0]["loc"]), (422, ["query", "to"]))
            expect(curl(f"{serve.url}/count?to=2"), b"data: 0\n\ndata: 1\n\n")
        with report.check("clients, FastAPI: its lifespan ends with the server"):
            expect(serve.interrupt(), [])
            expect([word for word in ("disconnecting", "connecting") if f"{word}\n" not in serve.output], [])
    with new_folder() as task_root, new_folder() as signs:
        write_files(task_root, {"app.py": STARLETTE_APP, "asgi.py": (EXAMPLES / "asgi" / "asgi.py").read_bytes()})
        with Serve(task_root, LAYERS=layer, TIMEOUT="10") as serve:
            with report.check("clients, Starlette: requests, repeated headers and cookies"):
                seen = page("--cookie", "c=d", "--data", "x" * 1000, f"{serve.url}/echo?q=%20")
                body = json.loads(seen.body)
                expect(body.pop("url"), re.compile(rf"^https?://127\.0\.0\.1:{serve.port}/echo\?q=%20$"))
                expect(body, {"pool": "connected", "cookies": {"c": "d"}, "bytes": 1000})
                cookies = [value.partition(";")[0] for name, value in seen.headers if name == "set-cookie"]
                expect((seen.status, cookies), (202, ["a=1", "b=2"]))
                vary = ", ".join(value for name, value in seen.headers if name == "vary")
                expect([name for name in ("Cookie", "Accept") if name not in vary], [])
            with report.check("clients, Starlette: HEAD"):
                seen = page("--head", f"{serve.url}/echo")
                expect((seen.status, seen.body), (202, b""))
            with report.check("clients, Starlette: a stream arrives as it is made"):
                expect(as_it_comes(f"{serve.url}/stream?sign={signs}/stream", b"one ", signs / "stream")[1], b"two")
            with report.check("clients, Starlette: an error in the middle cuts the response, as on any server"):
                expect(page(f"{serve.url}/fails_later", expected=18).body, b"begun")
            with report.check("clients, Starlette: its own page for an error is whole, and the log has the error"):
                seen = page(f"{serve.url}/fails")
                expect((seen.status, seen.body), (500, b"Internal Server Error"))
                expect(serve.output, re.compile(r"ValueError: at once"))
            with report.check("clients, Starlette: background tasks run"):
                expect(page(f"{serve.url}/background").body, b"accepted")
                expect(wait_until(lambda: "background task done" in serve.output), True)
