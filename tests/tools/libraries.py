# SPDX-License-Identifier: MIT-0
"""What popular libraries do here and on AWS's Python client: `make libraries`, or
python3 tests/tools/libraries.py [NAME ...]

Each file in libraries/ is a small function that does with a library what its users do. It serves three web requests,
and fails at the second, on awslambdaric and on this runtime, with the log as text and as JSON in frames. Compared are
answers, logs, and what the library sent to a server and an X-Ray daemon on this machine. Times, ids and the like become
names first. Prints README's table, then each difference that should not be; the status is 1 if there is one.

The packages of libraries/requirements.txt go into .dev/, once. A NAME is a file in libraries/.
"""

from __future__ import annotations

import ast
import base64
import difflib
import gzip
import hashlib
import json
import platform
import re
import shutil
import socket
import sys
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import reduce
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "promises"))
from conformance import RULES, Seen, Side, hidden_by, see, written_log
from conformance_cases import CAUSE, ERROR_TYPE
from conformance_tools import LAMBDA_ENV, PROJECT, CannotRun, awslambdaric, new_folder, pip, set_up
from scripted_api import HOLD, REQUEST_ID, Answer, Child, Connection, Request, ScriptedApi, event, run

FUNCTIONS = Path(__file__).resolve().parent / "libraries"
REQUIREMENTS = FUNCTIONS / "requirements.txt"
EVENT = PROJECT / "tests" / "examples" / "url" / "event.json"

# ──── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────

ERROR = ("response", "error", "response")
WEB = ("response", "response", "response")  # a web framework makes an answer of an exception
INIT_ERROR = ("init_error",)


@dataclass(frozen=True)
class Library:
    """A row of the table.

    Four fields are patterns. `seen` shows, in what AWS's client's side did, that the library was at work. `awaited` is
    in what the server gets at last, if the library itself does not wait until that is sent. `ours` says what becomes of
    what AWS's client did and we do otherwise on purpose, for the reason in `differs`. `aside` says the same of what
    tells of the runtime's insides, or is another in each run: it holds on both sides.
    """

    function: str
    title: str
    packages: str  # whose versions are shown
    seen: str
    posts: Sequence[str] = ERROR
    env: Mapping[str, str] = field(default_factory=dict)  # with {server} in it
    handler: str = "app.handler"
    launcher: str = ""  # one of the packages' programs that starts the runtime
    awaited: str = ""
    differs: str = ""
    ours: Sequence[tuple[str, str]] = ()
    aside: Sequence[tuple[str, str]] = ()


LIBRARIES = (
    Library("powertools", "Powertools", "aws-lambda-powertools", '"Greetings"(.|\n)*"handler response"'),
    Library("xray", "X-Ray SDK", "aws-xray-sdk", 'daemon got(.|\n)*"annotations"'),
    Library(
        "sentry", "Sentry", "sentry-sdk", 'server got(.|\n)*"aws_lambda"(.|\n)*"transaction"',
    ),
    Library(
        "sentry_init", "Sentry", "sentry-sdk", 'server got(.|\n)*"aws_lambda"', INIT_ERROR,
        differs="the same, without the frames of importlib",
        ours=[(r'\{"filename":"[^"]*importlib[^"]*"[^}]*\},', "")],
    ),
    Library(
        "honeybadger", "Honeybadger", "honeybadger", "server got(.|\n)*on purpose",
        differs="the same, and Lambda sends it the SIGTERM that it waits for",
        ours=[("(extension): False", r"\1: True")],
    ),
    Library(
        "opentelemetry", "OpenTelemetry", "opentelemetry-sdk opentelemetry-instrumentation-aws-lambda",
        '"faas.invocation_id"(.|\n)*/v1/traces',
        env={
            "ORIG_HANDLER": "app.work",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "aws-lambda",
            "OTEL_TRACES_EXPORTER": "console,otlp",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PROPAGATORS": "xray-lambda",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "{server}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        },
        launcher="opentelemetry-instrument",
    ),
    Library(
        "datadog", "Datadog", "datadog-lambda ddtrace", '"shop.greetings"(.|\n)*"traces"',
        env={"DD_LAMBDA_HANDLER": "app.work", "DD_FLUSH_TO_LOG": "true", "DD_COLD_START_TRACING": "false"},
        handler="datadog_lambda.handler.handler",
        differs="the same, and Lambda sends it the SIGTERM that it waits for",
        ours=[("(extension): False", r"\1: True")],
        aside=[('"_dd.tags.process": ?"[^"]*"', "")],
    ),
    Library(
        "newrelic", "New Relic", "newrelic newrelic-lambda", '"aws.lambda.coldStart"(.|\n)*"Greeting"',
        env={"NEW_RELIC_SERVERLESS_MODE_ENABLED": "true", "NEW_RELIC_ACCOUNT_ID": "1"},
        aside=[
            (r'"File \\"(<frozen runpy>|<string>|[^"\\]*(awslambdaric/\w+|/runtime)\.py)\\", [^"]*",', ""),
            (r'(\["Jars",\[)(\["[^"]*","[^"]*",\{\}\],?)*', r"\1"),  # modules, as a thread of its own finds them
            (r'\[\{"name":"Supportability/[^"]*","scope":""\},\[[^]]*\]\],?', ""),  # its own work: bytes and times
        ],
    ),
    Library(
        "elastic", "Elastic APM", "elastic-apm", 'server got(.|\n)*"coldstart"(.|\n)*on purpose',
        env={"ELASTIC_APM_SERVER_URL": "{server}"},
        awaited=r'(?s)(\{"transaction":.*){3}',
        aside=[(r'(?m)^(POST /intake|\{"metadata").*\n', "")],  # a thread decides how many of these there are
    ),
    Library(
        "rollbar", "Rollbar", "rollbar", "server got(.|\n)*on purpose",
        differs="the same, but for the name of the context's class, which it tells",
        ours=[(r"awslambdaric\.lambda_context\.LambdaContext", "__main__.LambdaContext")],
    ),
    Library(
        "lumigo", "Lumigo", "lumigo-tracer", "reporting the messages(.|\n)*execution_tag",
        env={
            "LUMIGO_ORIGINAL_HANDLER": "app.work",
            "LUMIGO_TRACER_TOKEN": "t_12345678901234567890",
            "LUMIGO_TRACER_HOST": "127.0.0.1:9",  # HTTPS it would be: the spans are read from its debug log
            "LUMIGO_DEBUG": "true",
        },
        handler="lumigo_tracer._handler",
        aside=[("'envs': '[^']*'", ""), ("'reporter_rtt': \\d+", "")],  # the variables are in the order of the shell
    ),
    Library("fastapi", "Mangum with FastAPI", "mangum fastapi", "Internal Server Error", WEB),
    Library("serverless_wsgi", "serverless-wsgi with Flask", "serverless-wsgi flask", "Internal Server Error", WEB),
    Library("apig_wsgi", "apig-wsgi with Flask", "apig-wsgi flask", "Internal Server Error", WEB),
    Library("boto3", "boto3", "boto3", "server got(.|\n)*SendMessage"),
    Library("requests", "requests", "requests", "server got(.|\n)*/refused"),
    Library("httpx", "httpx", "httpx", "server got(.|\n)*/refused"),
    Library("aiohttp", "aiohttp", "aiohttp", "server got(.|\n)*/refused"),
    Library("structlog", "structlog", "structlog", '"request_id": "<id>"'),
    Library(
        "loguru", "loguru", "loguru", "An error has been caught(.|\n)*app:handler",
        aside=[
            (r"(awslambdaric\.bootstrap|__main__):\w+:\d+ (- An error has been caught in function) '\w+'", r"\2"),
            (r'[> ] File "(<frozen runpy>|<string>|[^"]*(awslambdaric/\w+|/runtime)\.py)".*\n(    .*\n)*', ""),
        ],
    ),
    Library(
        "json_logger", "python-json-logger", "python-json-logger", '"aws_request_id": "<id>"',
        differs="the same, with a line break behind each record",
        ours=[(r'("tenant_id": null\})(?=[{[])', r"\1\n")],
    ),
    Library("pydantic", "pydantic", "pydantic", "ValidationError"),
    Library(
        "numpy", "NumPy", "numpy", "Runtime.MarshalError",
        differs="the same, and the error says where in the result it is",
        ours=[("ndarray is not JSON serializable", "ndarray is not JSON serializable (result['array'])")],
    ),
    Library("orjson", "orjson", "orjson", "Type is not JSON serializable"),
    Library("gevent", "gevent", "gevent", "server got(.|\n)*GET /a"),
    Library("uvloop", "uvloop", "uvloop", "uvloop"),
)  # fmt: skip


def packages() -> Path:
    if sys.version_info < (3, 11):
        raise CannotRun(f"some of the libraries are for Python 3.11 and later; this is {platform.python_version()}")
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]
    return set_up(
        f"libraries-{digest}-{sys.implementation.cache_tag}",
        f"{len(versions())} packages, from PyPI",
        lambda folder: pip(
            "install", "--no-warn-script-location", "--root-user-action=ignore", "--no-deps", "--only-binary=:all:",
            "--target", folder, "--requirement", REQUIREMENTS,
        ),
    )  # fmt: skip


def versions() -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)$", REQUIREMENTS.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


# ──── what libraries talk to ────────────────────────────────────────────────────────────────────────────────────────

PER_REQUEST = {"host", "content-length", "authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request"}


class Server(ThreadingHTTPServer):
    """A web server that remembers what it got, and refuses whatever has `refused` in it; and an X-Ray daemon."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[str] = []
        self._changed = Condition()
        self._daemon = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._daemon.bind(("127.0.0.1", 0))
        self._daemon.setblocking(False)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.daemon = f"127.0.0.1:{self._daemon.getsockname()[1]}"

    def add(self, text: str) -> None:
        with self._changed:
            self.got.append(text)
            self._changed.notify_all()

    def wait(self, pattern: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: re.search(pattern, "\n".join(self.got)), 20)

    def segments(self) -> list[str]:
        """What the daemon got: on the loopback device all that was sent is there at once."""
        found = []
        while True:
            try:
                found.append(self._daemon.recv(1 << 16).decode())
            except BlockingIOError:
                return found

    def __enter__(self) -> Server:
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._daemon.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that does not wait for the answer may
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        body = self.read()
        headers = {name.lower(): value for name, value in sorted(self.headers.items())}
        kept = {name: value for name, value in headers.items() if name not in PER_REQUEST}
        self.server.add(f"{self.command} {self.path} {json.dumps(kept)}\n{readable(body)}")
        result = {"path": self.path, "Table": {"TableStatus": "ACTIVE"}}  # the latter is DynamoDB's
        text = b"" if self.command == "PUT" else json.dumps(result).encode()  # S3's is XML, or nothing
        self.send_response_only(403 if b"refused" in self.path.encode() + body else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer  # noqa: N815 # the base class looks for these

    def read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body, size = b"", -1
        while size:
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass


def readable(body: bytes) -> str:
    """What was compressed is unpacked; of what is no text the size is left."""
    for unpack in (gzip.decompress, zlib.decompress):
        try:
            body = unpack(body)
        except (OSError, zlib.error):
            pass
    try:
        return body.decode()
    except ValueError:
        return f"<{len(body)} bytes>"


# ──── what happens ──────────────────────────────────────────────────────────────────────────────────────────────────


class Run(NamedTuple):
    posts: list[str]  # the endpoints of the Runtime API
    invocations: list[Seen]  # and one for what came after them
    extension: bool  # whether one was registered
    got: list[str]
    segments: list[str]


LOG_FORMATS = ("Text", "JSON")  # the latter in frames, as on managed runtimes


def posts(api: ScriptedApi) -> list[Request]:
    return api.sent("response", "error", "init_error")


def observe(library: Library, side: Side, folder_of_packages: Path, log_format: str) -> Run:
    started: Future[Child] = Future()
    marks: list[tuple[int, ...]] = []

    def mark(connection: Connection) -> None:
        """What came until now belongs to the invocation before."""
        child = started.result(10)
        marks.append((len(posts(connection.api)), len(child.stdout), len(child.log), len(child.stderr)))

    fine = EVENT.read_bytes()
    ids = [f"{REQUEST_ID[:-1]}{number}" for number in range(3)]
    bodies = [fine, fine.replace(b'"/hello"', b'"/fail"'), fine]
    events: list[Answer] = [[mark, *event(body, (), name)] for name, body in zip(ids, bodies)]
    last: Answer = [mark, lambda _: server.wait(library.awaited), HOLD]
    with new_folder() as folder, Server() as server, ScriptedApi([*events, last]) as api:
        shutil.copy(FUNCTIONS / f"{library.function}.py", folder / "app.py")
        env = {
            **LAMBDA_ENV,
            **side.env,
            "LAMBDA_TASK_ROOT": str(folder),
            "_HANDLER": library.handler,
            "SERVER": server.url,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_DEFAULT_REGION": LAMBDA_ENV["AWS_REGION"],
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_XRAY_DAEMON_ADDRESS": server.daemon,
            "PYTHONHASHSEED": "0",  # sets are told in the same order
            "AWS_LAMBDA_LOG_FORMAT": log_format,
            **{name: value.format(server=server.url) for name, value in library.env.items()},
        }
        launcher = [sys.executable, str(folder_of_packages / "bin" / library.launcher)] if library.launcher else []
        done = run(
            [*launcher, *side.command, library.handler], api, env,
            cwd=str(folder), framed=log_format == "JSON", timeout=60, started=started.set_result,
        )  # fmt: skip
        got, segments = server.got, server.segments()

    marks = [(0, 0, 0, 0), *marks[1:], (len(posts(api)), len(done.stdout), len(done.log), len(done.stderr))]
    hidden = {
        str(folder): "/task",
        folder.name: "task",
        str(folder_of_packages): "/libraries",
        api.address: "<api>",
        server.url: "<server>",
        server.url[len("http://") :]: "<server>",
        **dict.fromkeys(ids, "<id>"),
    }

    def hide(text: str) -> str:
        unpacked = re.sub(r"H4sI[\w+/]{20,}=*", lambda found: readable(base64.b64decode(found[0])), text)
        return replaced(hidden_by(hidden, unpacked), SETTLED)

    end = "timed out" if done.timed_out else "waits" if done.status is None else f"exit {done.status}"
    invocations = []
    for start, stop in zip(marks, marks[1:]):
        log = done.stdout[start[1] : stop[1]].decode() + written_log(done.log[start[2] : stop[2]])
        seen = see(posts(api)[start[0] : stop[0]], hide(log), "", end, hidden)
        invocations.append(replace(seen, stderr=hide(done.stderr[start[3] : stop[3]].decode())))
    endpoints = [one.endpoint for one in posts(api)]
    return Run(endpoints, invocations, bool(api.sent("register")), [*map(hide, got)], [*map(hide, segments)])


# ──── what is the same ──────────────────────────────────────────────────────────────────────────────────────────────

HEADERS = {"content-type", ERROR_TYPE, CAUSE}  # that Lambda looks at
NUMBERS = "duration|length|execution_duration_in_millis|remaining_time_in_millis"
PROCESS_IDS = r"""pid": |process_id": |process": \{"id": |'MainProcess' \(|Memory/Physical/(?:Utilization/)?"""

# What is another one in each run. Most of it is known by its form, as each library calls it by another name.
SETTLED = (
    (rf'("(?:{NUMBERS})": ?)-?[\d.e-]+', r"\1<number>"),
    (r'("(?:sys\.)?argv": ?)\[[^]]*\]', r"\1<command line>"),
    (rf"({PROCESS_IDS})\d+", r"\1<pid>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?", "<time>"),
    (r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "<uuid>"),
    (r"-?\b\d+(\.\d+(e-?\d+)?|e-\d+)\b", "<float>"),
    (r"\b(?!a55a)(0x)?(?=[a-f]*\d)[0-9a-f]{8,}\b|\b(?=[A-F]*\d)[0-9A-F]{16}\b", "<number>"),
    (r"<time\.ms>", "<time>"),
)


def replaced(text: str, patterns: Sequence[tuple[str, str]]) -> str:
    for pattern, becomes in patterns:
        text = re.sub(pattern, becomes, text)
    return text


def text_of(run: Run, aside: Sequence[tuple[str, str]]) -> str:
    """All that was seen. The lines that the server got are sorted, as several connections and threads have no order."""
    text = [f"── registered as an extension: {run.extension}"]
    for number, seen in enumerate(run.invocations):
        headers = {name: value for name, value in (seen.headers or {}).items() if name in HEADERS}
        if CAUSE in headers:
            headers[CAUSE]["paths"].sort()
        text.append(f"── invocation {number}: {seen.calls}, then {seen.end}\n{json.dumps(headers, sort_keys=True)}")
        text += [seen.body, "── log", seen.log, "── standard error", seen.stderr]
    got = sorted("\n".join(run.got).splitlines())
    text += ["── the server got", *got, "── the X-Ray daemon got", *run.segments]
    return replaced("\n".join(text), [*SETTLED, (r"[\r\n]+", "\n"), *aside])


def lines(text: str) -> list[str]:
    """JSON in several lines, so that a difference does not get lost in it."""
    return re.sub(r'([,{\[]) ?(?=["{\[])', r"\1\n", text).splitlines()


def compare(library: Library, theirs: Sequence[Run], ours: Sequence[Run]) -> list[str]:
    """What differs and should not, in all formats of the log."""
    before = "\n".join(text_of(by_the_rules(run), library.aside) for run in theirs)
    after = "\n".join(text_of(run, library.aside) for run in ours)
    if any(tuple(run.posts) != tuple(library.posts) for run in theirs):
        return [f"AWS's client should have posted {library.posts}:", *lines(before)]
    if not re.search(library.seen, before):
        return [f"on AWS's client nothing shows that the library was at work, no {library.seen}:", *lines(before)]
    wrong = []
    for pattern, becomes in library.ours:
        before, count = re.subn(pattern, becomes, before)
        if not count:
            wrong.append(f"on AWS's client there is nothing any more that should differ: {pattern}")
    if any("environ({" in text_of(run, ()) for run in ours):  # as loguru shows what the lines of a stack are made of
        wrong.append("the log shows the environment, in which there are secrets")
    diff = difflib.unified_diff(lines(before), lines(after), "awslambdaric", "runtime.py", lineterm="", n=2)
    return [*wrong, *diff]


def by_the_rules(run: Run) -> Run:
    """What we should do where AWS's client did this: the rules are those of `make conformance`."""
    return run._replace(invocations=[reduce(lambda seen, rule: rule(seen), RULES, seen) for seen in run.invocations])


HEAD = "| library | what its function does | here |\n|---|---|---|"


def row(library: Library, different: bool) -> str:
    does = (ast.get_docstring(ast.parse((FUNCTIONS / f"{library.function}.py").read_text())) or "").rstrip(".")
    shown = ", ".join(versions()[name] for name in library.packages.split())
    return f"| {library.title} {shown} | {does} | {'DIFFERENT' if different else library.differs or 'the same'} |"


def main(arguments: Sequence[str]) -> int:
    names = [library.function for library in LIBRARIES]
    if not set(arguments) <= set(names):
        print(f"a library is one of {', '.join(names)}", file=sys.stderr)
        return 2
    chosen = [library for library in LIBRARIES if not arguments or library.function in arguments]
    try:
        folder_of_packages, client = packages(), awslambdaric()
    except CannotRun as reason:
        print(f"libraries: {reason}", file=sys.stderr)
        return 1
    with new_folder() as folder, ThreadPoolExecutor(2) as pool:
        (folder / "python3").symlink_to(sys.executable)
        env = {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": f"{folder_of_packages}:{client}"}
        sides = Side([sys.executable, "-m", "awslambdaric"], env), Side([str(PROJECT / "bootstrap")], env)
        runs = [
            [
                [pool.submit(observe, library, side, folder_of_packages, log_format) for log_format in LOG_FORMATS]
                for side in sides
            ]
            for library in chosen
        ]
        wrong = [
            compare(library, *([run.result() for run in side] for side in both)) for library, both in zip(chosen, runs)
        ]
    table = "\n".join([HEAD, *(row(library, bool(differences)) for library, differences in zip(chosen, wrong))])
    print(table)
    for library, differences in zip(chosen, wrong):
        if differences:
            print(f"\n{library.function}:", *differences, sep="\n")
    readme = (PROJECT / "README.md").read_text()
    outdated = chosen == list(LIBRARIES) and HEAD in readme and table not in readme
    if outdated:
        print("\nREADME.md has another table")
    return 1 if outdated or any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
