# SPDX-License-Identifier: MIT-0
"""The same as AWS's own, or better on purpose: `make conformance`, or python3 tests/tools/conformance.py [PART ...]

    ric      every case of conformance_cases.py through AWS's Python client (awslambdaric) and through this runtime,
             against one scripted Runtime API: what the two send, log and end with is the same, or a ★ with its reason
    rie      this runtime under AWS's Runtime Interface Emulator
    stream   what it streams, under that and under cargo-lambda's emulator
    modes    several invocations at once (Managed Instances) and the end of a function, under AWS's emulator
    wrapper  this runtime as AWS_LAMBDA_EXEC_WRAPPER of a managed Python runtime, on the paths that it has on Lambda
    clients  boto3, the AWS CLI, curl and Chromium talk to `make serve`, which also runs FastAPI and Starlette
    artefacts  what `make layer` and `make zip` pack, unpacked where Lambda does, read-only, under AWS's emulator
    tutorial  the tiny runtimes of tests/tutorial, under AWS's emulator

What is needed from PyPI is put into .dev/ once, for the Python that runs this. One line a case, then the count.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "promises"))
from conformance_artefacts import artefacts
from conformance_cases import CASES, CAUSE, ERROR_TYPE, Case
from conformance_clients import clients
from conformance_emulators import modes, streams, under_rie
from conformance_tools import (
    FUNCTIONS,
    LAMBDA_ENV,
    PROJECT,
    CannotRun,
    NotHere,
    Report,
    awslambdaric,
    expect,
    new_folder,
    shown,
    write_files,
)
from conformance_tutorial import tutorial
from scripted_api import HOLD, REQUEST_ID, Answer, Child, Connection, Request, ScriptedApi, event, frames, run

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


def no_bare_traceback(theirs: Seen) -> Seen:
    """the log of an error without frames: no "Traceback" with nothing below it, which looks like a cut log"""
    return replace(theirs, log=re.sub(r"[\r\n]Traceback \(most recent call last\):\n(?=\n?\Z|\n?\S)", "\n", theirs.log))


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
    no_bare_traceback,
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
PARTS: Mapping[str, Callable[[Report], None]] = {
    "ric": compare_with_ric,
    "rie": under_rie,
    "stream": streams,
    "modes": modes,
    "wrapper": as_wrapper,
    "clients": clients,
    "artefacts": artefacts,
    "tutorial": tutorial,
}


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
            except NotHere as reason:
                report.skip(name, reason)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
