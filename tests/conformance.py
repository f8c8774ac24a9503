# SPDX-License-Identifier: MIT-0
"""The same as AWS's own, or better on purpose: `make conformance`, or python3 tests/conformance.py [PART ...]

    ric      every case of conformance_cases.py through AWS's Python client (awslambdaric) and through this runtime,
             against one scripted Runtime API: what the two send, log and end with is the same, or a ★ with its reason
    rie      this runtime under AWS's Runtime Interface Emulator
    wrapper  this runtime as AWS_LAMBDA_EXEC_WRAPPER of a managed Python runtime, on the paths that it has on Lambda

What is needed from PyPI is put into .dev/ once, for the Python that runs this. One line a case, then the count.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, NamedTuple

from conformance_cases import CASES, CAUSE, ERROR_TYPE, Case, Source
from scripted_api import HOLD, REQUEST_ID, Answer, Child, Connection, Request, ScriptedApi, event, frames, run

PROJECT = Path(__file__).resolve().parent.parent
FUNCTIONS = PROJECT / "tests" / "functions"
DEV = PROJECT / ".dev"
RIC_VERSION = "4.2.2"
SAM_VERSION = "1.170.0"  # whose wheel carries the Runtime Interface Emulator

# What Lambda sets. AWS_EXECUTION_ENV decides how AWS's client writes JSON, so that it is the same whatever runs this.
LAMBDA_ENV = {
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_FUNCTION_NAME": "example",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/example",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/23/[$LATEST]5b7e1c",
    "AWS_REGION": "eu-central-1",
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def write_files(folder: Path, files: Mapping[str, Source], mode: int = 0o644) -> None:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        path.chmod(mode)


@contextmanager
def new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        yield Path(folder).resolve()


# ──── the report ────────────────────────────────────────────────────────────────────────────────────────────────────


class Report:
    def __init__(self) -> None:
        self.passed = self.failed = 0

    def row(self, name: str, wrong: Sequence[str], star: str = "") -> None:
        if wrong:
            self.failed += 1
            print(f"DIFF  {name}", *wrong, sep="\n  ", flush=True)
        else:
            self.passed += 1
            print(f"★     {name}: {star}" if star else f"ok    {name}", flush=True)

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """A row that is fine if nothing is raised. Of an assertion the message says it all."""
        try:
            yield
        except AssertionError as error:
            self.row(name, [str(error)])
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
            self.row(name, [repr(error)])
        else:
            self.row(name, [])


# ──── .dev: what others made ────────────────────────────────────────────────────────────────────────────────────────


class CannotRun(Exception):
    """The reason why nothing can be compared here."""


def set_up(name: str, what: str, fill: Callable[[Path], None]) -> Path:
    """A folder of .dev: made elsewhere and moved there when it is whole, so that it is whole whenever it is there."""
    target = DEV / name
    if not target.exists():
        print(f"setting up .dev/{name}: {what}", flush=True)
        DEV.mkdir(exist_ok=True)
        (DEV / ".gitignore").write_text("*\n")
        with tempfile.TemporaryDirectory(dir=DEV, prefix="unfinished-") as unfinished:
            made = Path(unfinished, "made")
            made.mkdir()
            fill(made)
            try:
                made.rename(target)
            except OSError:
                if not target.exists():  # somebody else was faster, which is as well
                    raise
    return target


def pip(*arguments: object) -> None:
    command = [pip_python(), "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise CannotRun(f"pip {arguments[0]} {arguments[-1]} failed, is this machine offline? {why}")


def pip_python() -> str:
    """A Python of this version that has pip: this one, or, as Debian's may have none, a virtual environment."""
    if not subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        return sys.executable

    def fill(folder: Path) -> None:
        if subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True).returncode:
            raise CannotRun(
                f"the set-up of .dev needs pip, and {sys.executable} has neither pip nor ensurepip to make one "
                "(on Debian these are the packages python3-pip and python3-venv)"
            )

    return str(set_up(f"pip-{sys.implementation.cache_tag}", "pip, in a virtual environment", fill) / "bin" / "python")


def awslambdaric() -> Path:
    if sys.version_info < (3, 10):
        this = platform.python_version()
        raise CannotRun(f"awslambdaric {RIC_VERSION} is for Python 3.10 and later, and this is {this}")
    tag = str(sys.implementation.cache_tag).replace("cpython-", "cp")
    return set_up(
        f"awslambdaric-{RIC_VERSION}-{tag}",
        f"awslambdaric {RIC_VERSION} for Python {platform.python_version()}, from PyPI",
        lambda folder: pip(
            "install", "--no-warn-script-location", "--root-user-action=ignore", "--target", folder,
            f"awslambdaric=={RIC_VERSION}",
        ),
    )  # fmt: skip


def emulator_of_aws() -> Path:
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise CannotRun(f"there is no Runtime Interface Emulator for {sys.platform} on {platform.machine()}")

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as downloads:
            pip("download", "--no-deps", "--only-binary=:all:", "--dest", downloads, f"aws-sam-cli=={SAM_VERSION}")
            (wheel,) = Path(downloads).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                binary = archive.read(f"samcli/local/rapid/aws-lambda-rie-{machine}")
        write_files(folder, {"aws-lambda-rie": binary}, 0o755)

    what = f"AWS's emulator, out of aws-sam-cli {SAM_VERSION}, from PyPI"
    return set_up(f"rie-{SAM_VERSION}-{machine}", what, fill) / "aws-lambda-rie"


# ──── ric: the same case on both sides ──────────────────────────────────────────────────────────────────────────────


class Side(NamedTuple):
    """A runtime that is compared: the command that starts it, before the handler's name, and what that needs."""

    command: Sequence[str]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """What a runtime did with a case, what cannot be the same on both sides replaced by names."""

    calls: str = ""  # to the Runtime API, but for `next`
    headers: Any = None  # of the first call, those that Lambda looks at; lower-case names
    body: str = ""
    log: str = ""
    stderr: str = ""
    end: str = ""


AFTER = "after"  # the request id of the event that shows that the process lives on
HTTP_ONLY = {"host", "accept", "accept-encoding", "content-length", "connection"}
HANDLER = """\
    from kinds import *

    def handler(event, context):
        return CASES[context.aws_request_id](event, context)

"""


def request_id(index: int) -> str:
    return f"{REQUEST_ID[:-12]}{index:012d}"


def source_of(cases: Sequence[Case]) -> str:
    """A module with the bodies of all these cases; that of a case alone is the handler itself."""
    if cases[0].own_process:
        body = f"if context.aws_request_id == {AFTER!r}: return None\n{cases[0].code}"
        return f"from kinds import *\n\ndef handler(event, context):\n{textwrap.indent(body, '    ')}\n"
    bodies = [f"def case_{i}(event, context):\n{textwrap.indent(case.code, '    ')}\n" for i, case in enumerate(cases)]
    table = ", ".join(f"{request_id(i)!r}: case_{i}" for i in range(len(cases)))
    return textwrap.dedent(HANDLER) + "\n".join(bodies) + f"\nCASES = {{{table}}}\n"


def observe(side: Side, cases: Sequence[Case]) -> list[Seen]:
    """Runs cases through one process of a runtime: many that share it, or one alone and an event after it."""
    first, alone = cases[0], cases[0].own_process
    started: Future[Child] = Future()
    marks: list[tuple[int, int, int, int]] = []

    def mark(connection: Connection) -> None:
        """Whatever came until now belongs to the cases before: a runtime asks for an event when it is done with one."""
        child, api = started.result(10), connection.api
        marks.append((len(api.sent()), len(child.stdout), len(child.log), len(child.stderr)))

    events: list[Answer] = [
        [mark, *event(case.event, case.headers, request_id(index))] for index, case in enumerate(cases)
    ]
    if alone:
        events.append([mark, *event(b"{}", request_id=AFTER)])
    answers = dict(first.answers)
    events = [*answers.pop("next", ()), *events, [mark, HOLD]]

    with new_folder() as folder, ScriptedApi(events, **answers) as api:
        write_files(folder, first.files or {"app.py": source_of(cases)})
        shutil.copy(FUNCTIONS / "kinds.py", folder)
        env = {**LAMBDA_ENV, "LAMBDA_TASK_ROOT": str(folder), **side.env, **first.env}
        done = run(
            [*side.command, first.handler], api, env,
            cwd=str(folder), framed=first.framed, timeout=60, started=started.set_result,
        )  # fmt: skip
        hidden = {str(folder): "/task", api.address: "<address>"}

    end = "timed out" if done.timed_out else "waits" if done.status is None else f"exit {done.status}"
    marks.append((len(api.sent()), len(done.stdout), len(done.log), len(done.stderr)))
    seen = []
    for index, case in enumerate(cases):
        hide = {**hidden, request_id(index): "<id>"}
        if not alone and index + 1 >= len(marks):
            seen.append(Seen(end=f"the process had ended: {end}, {done.stderr.decode()[-500:]}"))
            continue
        start = (0, 0, 0, 0) if alone else marks[index]
        stop = marks[min(index + 1, len(marks) - 1)]
        log = written_log(done.log[start[2] : stop[2]]) if case.framed else ""
        seen.append(
            see(
                api.sent()[start[0] : None if alone else stop[0]],
                hidden_by(hide, done.stdout[start[1] : stop[1]].decode("utf-8", "backslashreplace") + log),
                hidden_by(hide, done.stderr[start[3] : stop[3]].decode("utf-8", "backslashreplace")),
                end if alone else "waits",
                hide,
            )
        )
    return seen


def see(calls: Sequence[Request], log: str, stderr: str, end: str, hide: Mapping[str, str]) -> Seen:
    headers: dict[str, Any] = {}
    body = ""
    if calls:
        headers = {name: value for name, value in calls[0].headers.items() if name not in HTTP_ONLY}
        if "user-agent" in headers:
            headers["user-agent"] = re.sub(r"/\d.*", "/…", headers["user-agent"])
        if CAUSE in headers:
            headers[CAUSE] = json.loads(hidden_by(hide, headers[CAUSE].encode("utf-8", "surrogateescape").decode()))
        body = hidden_by(hide, calls[0].body.decode("utf-8", "backslashreplace"))
    paths = (call.path.replace("/2018-06-01/runtime", "") for call in calls)
    return Seen(
        hidden_by(hide, "\n".join(f"{call.method} {path}" for call, path in zip(calls, paths))),
        headers,
        body,
        log,
        "a traceback" if "Traceback (most recent" in stderr else stderr,
        end,
    )


def written_log(data: bytes) -> str:
    """Frames as text: the type, then the message; each on a line of its own."""
    now = time.time()
    lines = []
    for frame in frames(data):
        when = "" if abs(frame.microseconds / 1e6 - now) < 120 else f" at {frame.microseconds}, which is not now"
        lines.append(f"{frame.type:08x}{when} {frame.message.decode('utf-8', 'backslashreplace')}\n")
    return "".join(lines)


def hidden_by(names: Mapping[str, str], text: str) -> str:
    for value, name in names.items():
        text = text.replace(value, name)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time.ms>", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>", text)


def error_in(body: str) -> Any:
    """The error JSON, or an empty one: AWS's client does not always send JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return {"errorMessage": "", "errorType": "", "stackTrace": []}


# What differs everywhere. Each rule makes what ours must be out of what AWS's client did.


def own_user_agent(theirs: Seen) -> Seen:
    """User-Agent: its first word is what Lambda records as the release of the runtime"""
    return replace(theirs, headers={**theirs.headers, "user-agent": "runtime.py/…"} if theirs.calls else theirs.headers)


def error_type_on_all_errors(theirs: Seen) -> Seen:
    """Lambda-Runtime-Function-Error-Type: on every error, in the form that Lambda recommends, Function.ValueError"""
    if "/error" not in theirs.calls.split("\n")[0]:
        return theirs
    kind = error_in(theirs.body)["errorType"]
    recorded = kind if kind.startswith("Runtime.") else f"Function.{kind}"
    return replace(theirs, headers={**theirs.headers, ERROR_TYPE: recorded})


def init_errors_like_others(theirs: Seen) -> Seen:
    """POST /init/error: with Content-Type and X-Ray cause, as any other error"""
    if not theirs.calls.startswith("POST /init/error"):
        return theirs
    report = error_in(theirs.body)
    found = (re.match(r'  File "(.*)", line (\d+), in (.*)\n', frame) for frame in report["stackTrace"])
    stack = [{"path": one[1], "line": int(one[2]), "label": one[3]} for one in found if one]
    own = report["errorType"].startswith("Runtime.")
    cause = {
        "working_directory": "/task",
        "exceptions": [
            {
                "message": report["errorMessage"],
                "type": "LambdaValidationError" if own else report["errorType"],
                "stack": stack,
            }
        ],
        "paths": sorted({one["path"] for one in stack}),
    }
    return replace(theirs, headers={**theirs.headers, "content-type": "application/json", CAUSE: cause})


def no_runtime_update_warning(theirs: Seen) -> Seen:
    """the log of an init error: without the warning that AWS may have updated a managed runtime"""
    records = re.split(r"(?<=\n)(?=\S)", theirs.log)  # in frames its line break makes an empty line after it
    return replace(theirs, log="".join(record for record in records if "LAMBDA_WARNING: " not in record[:200]))


FOREIGN_FILE = r'File "(<frozen importlib|[^"]*/importlib/__init__\.py|[^"]*/awslambdaric/)'
FOREIGN_FRAME = re.compile(rf"\s*{FOREIGN_FILE}")
FOREIGN_FRAME_IN_LOG = re.compile(f"[\r\n]\xa0\xa0{FOREIGN_FILE}[^\r\n]*([\r\n]\xa0{{4}}[^\r\n]*)?")


def frames_of_user_code(theirs: Seen) -> Seen:
    """stackTrace, X-Ray cause and log: frames of the user's code alone, none of the runtime's own, none of importlib"""

    def strip(report: Any) -> Any:
        if isinstance(report, dict) and isinstance(report.get("stackTrace"), list):
            report["stackTrace"] = [frame for frame in report["stackTrace"] if not FOREIGN_FRAME.match(frame)]
        return report

    def strip_json(text: str) -> str:
        try:
            report = json.loads(text)
        except ValueError:
            return text
        return json.dumps(strip(report), ensure_ascii=False) if "stackTrace" in text else text

    headers = theirs.headers
    if headers and CAUSE in headers:
        cause = json.loads(json.dumps(headers[CAUSE]))
        (error,) = cause["exceptions"]
        error["stack"] = [one for one in error["stack"] if not FOREIGN_FRAME.match(f'File "{one["path"]}')]
        cause["paths"] = sorted({one["path"] for one in error["stack"]})
        headers = {**headers, CAUSE: cause}
    log = FOREIGN_FRAME_IN_LOG.sub("", theirs.log)
    log = re.sub(r"\{.*\}", lambda found: strip_json(found[0]), log)
    return replace(theirs, headers=headers, body=strip_json(theirs.body), log=log)


RULES = (
    frames_of_user_code,
    own_user_agent,
    error_type_on_all_errors,
    init_errors_like_others,
    no_runtime_update_warning,
)


def agrees(expected: Any, actual: Any) -> bool:
    """Whether a part is what was expected: the same, or what a pattern describes; in headers, each of them."""
    if isinstance(expected, re.Pattern):
        return bool(expected.fullmatch(actual if isinstance(actual, str) else json.dumps(actual, ensure_ascii=False)))
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(agrees(expected[name], actual[name]) for name in expected)
    return bool(expected == actual)


def judge(case: Case, theirs: Seen, ours: Seen) -> list[str]:
    """What is wrong, nothing if all is as the table says."""
    for rule in RULES:
        theirs = rule(theirs)
    wrong = []
    differences = 0
    for part in Seen.__dataclass_fields__:
        their, our = getattr(theirs, part), getattr(ours, part)
        expected = case.ours.get(part, their)
        if callable(expected):
            expected = expected(their)
        elif part == "headers" and isinstance(expected, dict) and expected is not their:
            expected = {name: value for name, value in {**(their or {}), **expected}.items() if value is not None}
        differences += not agrees(their, our)
        if not agrees(expected, our):
            meant = "" if expected is their or agrees(expected, their) else f"\n    expected  {shown(expected)}"
            wrong.append(f"{part}\n    AWS's     {shown(their)}\n    ours      {shown(our)}{meant}")
    if case.star and not differences and not case.sometimes:
        wrong.append("there is no difference any more: this is no ★")
    return wrong


def shown(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return repr(text) if len(text) < 2000 else f"{text[:1500]!r} … {text[-300:]!r} ({len(text)})"


def compare_with_ric(report: Report) -> None:
    package = awslambdaric()
    batches: dict[Any, list[Case]] = {}
    for index, case in enumerate(CASES):
        key = index if case.own_process else (tuple(case.env.items()), case.framed)
        batches.setdefault(key, []).append(case)
    print("★ in every case:")
    for rule in RULES:
        print(f"  {rule.__doc__}")
    with new_folder() as folder:
        (folder / "python3").symlink_to(sys.executable)
        theirs = Side(
            [sys.executable, "-m", "awslambdaric"], {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(package)}
        )
        ours = Side([str(PROJECT / "bootstrap")], {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"})
        with ThreadPoolExecutor(2) as pool:
            pairs = [
                (cases, pool.submit(observe, theirs, cases), pool.submit(observe, ours, cases))
                for cases in batches.values()
            ]
            judged = {
                case.name: judge(case, their, our)
                for cases, their_seen, our_seen in pairs
                for case, their, our in zip(cases, their_seen.result(), our_seen.result())
            }
    for case in CASES:
        report.row(case.name, judged[case.name], case.star)


# ──── rie: under AWS's emulator ─────────────────────────────────────────────────────────────────────────────────────


class Rie:
    """AWS's emulator with a function on this runtime."""

    def __init__(self, folder: Path, source: str, timeout: int = 20) -> None:
        write_files(folder, {"app.py": source})
        (folder / "bin").mkdir()
        (folder / "bin" / "python3").symlink_to(sys.executable)
        self.port, api_port = free_ports(2)
        self.child = Child(
            [
                str(emulator_of_aws()),
                "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}",
                "--runtime-api-address", f"127.0.0.1:{api_port}",
                str(PROJECT / "bootstrap"), "app.handler",
            ],
            {
                **LAMBDA_ENV,
                "PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin",
                "LAMBDA_TASK_ROOT": str(folder),
                "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            },
            str(folder),
        )  # fmt: skip
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if time.monotonic() > until or self.child.wait(0.02) is not None:
                    self.child.close()
                    raise CannotRun(f"AWS's emulator does not start: {self.output[-500:]}") from None

    def invoke(self, value: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(value))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def result(self, value: object = None) -> Any:
        status, body = self.invoke(value)
        expect(status, 200)
        return json.loads(body)

    @property
    def output(self) -> str:
        """What the emulator and the function wrote."""
        return (self.child.stdout + self.child.stderr).decode("utf-8", "backslashreplace")

    def __enter__(self) -> Rie:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.close()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def expect(actual: object, expected: object) -> None:
    if isinstance(expected, re.Pattern):
        if not (isinstance(actual, str) and expected.search(actual)):
            raise AssertionError(f"expected /{expected.pattern}/, got {shown(actual)}")
    elif actual != expected:
        raise AssertionError(f"expected {shown(expected)}, got {shown(actual)}")


RIE_FUNCTION = """\
import atexit, os, sys, time
atexit.register(print, "atexit ran")
served = 0

def handler(event, context):
    global served
    served += 1
    if event and "bytes" in event:
        return "x" * (event["bytes"] - 2)
    if event and "run" in event:
        exec(event["run"])
    return {"pid": os.getpid(), "served": served, "event": event, "left": context.get_remaining_time_in_millis()}
"""
MB = 1024 * 1024
LARGEST_RESULT = 6 * MB + 100


def under_rie(report: Report) -> None:
    with new_folder() as folder, Rie(folder, RIE_FUNCTION, timeout=2) as rie:
        with report.check("rie: success"):
            first = rie.result({"ä": "€"})
            expect({name: first[name] for name in ("event", "served")}, {"event": {"ä": "€"}, "served": 1})
            expect(0 < first["left"] <= 2000, True)
        with report.check("rie: handler error"):
            status, body = rie.invoke({"run": "raise ValueError('ä€')"})
            failure = json.loads(body)
            expect((status, failure["errorType"], failure["errorMessage"]), (200, "ValueError", "ä€"))
            expect(rie.output, re.compile(r"\[ERROR\] ValueError: ä€\r"))
        for size in (6 * MB, LARGEST_RESULT):
            with report.check(f"rie: result of {size} bytes"):
                expect(len(rie.invoke({"bytes": size})[1]), size)
        for size in (LARGEST_RESULT + 1, 7 * MB):
            with report.check(f"rie: result of {size} bytes is refused, the process lives on"):
                expect(json.loads(rie.invoke({"bytes": size})[1])["errorType"], "Function.ResponseSizeTooLarge")
                expect(rie.result()["pid"], first["pid"])
                expect(rie.output, re.compile(r"\[WARNING\].*413.*RequestEntityTooLarge"))
        with report.check("rie: 500 events in a row"):
            before = rie.result()
            expect([rie.result({"n": n})["event"]["n"] for n in range(500)], list(range(500)))
            after = rie.result()
            expect((after["pid"], after["served"] - before["served"]), (first["pid"], 501))
        with report.check("rie: sys.exit()"):
            status, body = rie.invoke({"run": "sys.exit(3)"})
            expect((status, json.loads(body)["errorType"]), (502, "SystemExit"))
            expect(rie.output.count("atexit ran"), 1)
            expect(rie.result()["served"], 1)
        with report.check("rie: function time-out"):
            expect(rie.invoke({"run": "print('slow'); time.sleep(30)"}), (200, b"Task timed out after 2.00 seconds"))
            expect(rie.output, re.compile(r"\bslow\n"))
            expect(rie.result()["served"], 1)
        with report.check("rie: SIGTERM"):
            pid = rie.result()["pid"]
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + 0.1
            while Path(f"/proc/{pid}").exists():
                expect(time.monotonic() < until, True)
                time.sleep(0.002)
            expect(rie.output.count("atexit ran"), 2)
    with new_folder() as folder, Rie(folder, "raise ValueError('ä€')\n") as rie, report.check("rie: init error"):
        for _ in range(2):
            status, body = rie.invoke()
            failure = json.loads(body)
            expect((status, failure["errorType"], failure["errorMessage"]), (502, "ValueError", "ä€"))
            expect(len(failure["stackTrace"]), 1)
    with new_folder() as folder, Rie(folder, "import not_there\n") as rie, report.check("rie: import error"):
        failure = json.loads(rie.invoke()[1])
        expect(failure["errorMessage"], "Unable to import module 'app': No module named 'not_there'")


# ──── wrapper: in a managed Python runtime ──────────────────────────────────────────────────────────────────────────
# Whose files lie at fixed places: a mount namespace lets a folder of ours be /var and /opt for one process.

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
MANAGED_FILES = {
    "var/runtime/bootstrap": f"""\
#!/bin/sh
export AWS_EXECUTION_ENV=AWS_Lambda_python3.13
exec $AWS_LAMBDA_EXEC_WRAPPER /var/lang/bin/{VERSION} /var/runtime/bootstrap.py
""",
    "var/runtime/bootstrap.py": """\
import os, runpy, sys
os.write(2, b"this is AWS's bootstrap.py\\n")
sys.path[0:1] = [os.environ["LAMBDA_TASK_ROOT"], "/opt/python", "/var/runtime"]
os.environ["PYTHONPATH"] = "/var/runtime"
sys.argv = ["bootstrap.py", os.environ["_HANDLER"]]
runpy.run_module("awslambdaric", run_name="__main__")
""",
    "var/runtime/only_in_runtime_dir.py": "",
    "var/task/folder/app.py": """\
import logging, os, sys

def found(name):
    try:
        return __import__(name).__name__
    except ImportError:
        return None

def handler(event, context):
    logging.getLogger().warning("logged")
    return {
        "executable": sys.executable,
        "path": [folder for folder in sys.path if folder.startswith(("/opt", "/var"))],
        "environment": {name: os.environ.get(name) for name in ("PYTHONPATH", "AWS_EXECUTION_ENV", "MARK")},
        "found": list(filter(None, map(found, event))),
    }
""",
    "var/task/lib/users.py": "",
    "opt/python/layer_package/__init__.py": "",
    f"opt/python/lib/{VERSION}/site-packages/site_package.py": "",
    # As OpenTelemetry's, and as the three lines that put it in front of ours.
    "opt/instrument": '#!/bin/sh\nexport MARK=instrumented\nexec "$@"\n',
    "opt/chain": '#!/bin/sh\n# both\nexec /opt/instrument /opt/bootstrap "$@"\n',
    # After AWS's guide: an option before the last argument.
    "opt/guide": """\
#!/bin/bash
args=("$@")
exec "${args[@]:0:$#-1}" -X importtime "${args[@]: -1}"
""",
    "opt/guide-chain": """\
#!/bin/bash
args=("$@")
exec /opt/bootstrap "${args[@]:0:$#-1}" -X importtime "${args[@]: -1}"
""",
    "opt/again": '#!/bin/sh\nexec /opt/bootstrap "$@"\n',
}
MANAGED_BOOTSTRAP = "/var/runtime/bootstrap"
IN_NAMESPACE = """\
mount --rbind "$1/var" /var && mount --rbind "$1/opt" /opt && cd /var/task && shift && exec "$@"
"""
ASKED = ["only_in_runtime_dir", "layer_package", "site_package", "users", "runtime"]
ALWAYS_FOUND = ["only_in_runtime_dir", "layer_package", "site_package"]


class Managed(NamedTuple):
    """What came of one event in a managed runtime."""

    client: str  # the first word of User-Agent: whose runtime answered
    result: Any
    stderr: str
    log: str  # frames


def in_managed_runtime(root: Path, *command: str, end: str = "waits", **env: str) -> Managed:
    """Runs one event with `root` in place of / as far as Lambda's folders go."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
    given = {
        **LAMBDA_ENV,
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin:/bin",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "_HANDLER": "folder/app.handler",
        **env,
    }
    with ScriptedApi([event(json.dumps(ASKED).encode())]) as api:
        done = run([*unshare, "sh", "-c", IN_NAMESPACE, "sh", str(root), *command], api, given, framed=True)
    stderr = done.stderr.decode("utf-8", "backslashreplace")
    calls = api.sent()
    if done.status is not None or done.timed_out or len(calls) != 1:
        raise AssertionError(f"it should answer and wait; status {done.status}, calls {calls}, stderr:\n{stderr}")
    agent = calls[0].headers["user-agent"].partition("/")[0]
    return Managed(agent, json.loads(calls[0].body), stderr, written_log(done.log))


def as_wrapper(report: Report) -> None:
    interpreter = Path(sys.executable).resolve()
    if str(interpreter).startswith(("/var/", "/opt/")):
        raise CannotRun(f"{interpreter} lies in a folder that a managed runtime has for itself")
    aws = "aws-lambda-python"
    with new_folder() as root:
        write_files(root, MANAGED_FILES, 0o755)
        shutil.copytree(awslambdaric(), root / "var/runtime", dirs_exist_ok=True)
        for name in ("bootstrap", "runtime.py"):
            shutil.copy(PROJECT / name, root / "opt")
        (root / "var/lang/bin").mkdir(parents=True)
        for name in (VERSION, "python3"):
            (root / "var/lang/bin" / name).symlink_to(interpreter)

        with report.check("wrapper: without the variable nothing of ours is used"):
            seen = in_managed_runtime(root, MANAGED_BOOTSTRAP)
            expect((seen.client, seen.stderr), (aws, "this is AWS's bootstrap.py\n"))
        with report.check("wrapper: an existing function, unchanged, on AWS's interpreter"):
            seen = in_managed_runtime(root, MANAGED_BOOTSTRAP, AWS_LAMBDA_EXEC_WRAPPER="/opt/bootstrap")
            expect((seen.client, seen.stderr), ("runtime.py", ""))
            expect(seen.result["executable"], f"/var/lang/bin/{VERSION}")
            expect(seen.result["found"], ALWAYS_FOUND)
            layers = [f"/opt/python/lib/{VERSION}/site-packages", "/opt/python"]
            expect(seen.result["path"], ["/var/task", *layers, "/var/runtime"])
            environment = {"PYTHONPATH": "/var/runtime", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", "MARK": None}
            expect(seen.result["environment"], environment)
            expect(seen.log, re.compile(rf"^a55a0003 \[WARNING\]\t\S+\t{REQUEST_ID}\tlogged\n\n$"))
        with report.check("wrapper: with a PYTHONPATH of the user's"):
            env = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", "PYTHONPATH": "/var/task/lib"}
            seen = in_managed_runtime(root, MANAGED_BOOTSTRAP, **env)
            expect((seen.client, seen.result["found"]), ("runtime.py", [*ALWAYS_FOUND, "users"]))
            expect(seen.result["environment"]["PYTHONPATH"], "/var/task/lib")
        with report.check("wrapper: behind another wrapper"):
            seen = in_managed_runtime(root, MANAGED_BOOTSTRAP, AWS_LAMBDA_EXEC_WRAPPER="/opt/chain")
            expect((seen.client, seen.result["environment"]["MARK"]), ("runtime.py", "instrumented"))
        with report.check("wrapper: behind a wrapper that adds options"):
            seen = in_managed_runtime(root, MANAGED_BOOTSTRAP, AWS_LAMBDA_EXEC_WRAPPER="/opt/guide-chain")
            expect((seen.client, seen.stderr), ("runtime.py", ""))
        with report.check("wrapper: other wrappers still get AWS's own"):
            seen = in_managed_runtime(root, MANAGED_BOOTSTRAP, AWS_LAMBDA_EXEC_WRAPPER="/opt/instrument")
            expect((seen.client, seen.result["environment"]["MARK"]), (aws, "instrumented"))
        for name, wrapper in (("itself", "/opt/bootstrap"), ("what comes back to it", "/opt/again")):
            with report.check(f"wrapper: bootstrap as the runtime, whose wrapper is {name}"):
                seen = in_managed_runtime(root, "/opt/bootstrap", AWS_LAMBDA_EXEC_WRAPPER=wrapper)
                expect((seen.client, seen.stderr), ("runtime.py", ""))
        with report.check("wrapper: bootstrap as the runtime, with the wrapper of AWS's guide"):
            seen = in_managed_runtime(root, "/opt/bootstrap", AWS_LAMBDA_EXEC_WRAPPER="/opt/guide")
            expect(seen.client, "runtime.py")
            expect(seen.stderr, re.compile(r"^import time: +self \[us\]"))
        with report.check("wrapper: bootstrap as the runtime, a handler as its argument"):
            seen = in_managed_runtime(root, "/opt/bootstrap", "folder/app.handler", _HANDLER="not.this")
            expect((seen.client, seen.result["found"]), ("runtime.py", ALWAYS_FOUND))


# ──── the command line ──────────────────────────────────────────────────────────────────────────────────────────────

# A later part, other emulators among them, is a function that gets the report, and a name here.
PARTS: Mapping[str, Callable[[Report], None]] = {"ric": compare_with_ric, "rie": under_rie, "wrapper": as_wrapper}


def main(arguments: Sequence[str]) -> int:
    unknown = set(arguments) - set(PARTS)
    if unknown:
        print(f"there is no part {', '.join(sorted(unknown))}: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    report = Report()
    for name, part in PARTS.items():
        if not arguments or name in arguments:
            try:
                part(report)
            except CannotRun as reason:
                report.row(name, [f"cannot be run: {reason}"])
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
