# SPDX-License-Identifier: MIT-0
"""How fast and how small: `make bench`, or python3 tests/tools/bench.py [PART ...] [--quick] [--out FOLDER]

    warm      time and CPU of an invocation, by the size of its event
    cold      from exec to the first `GET next` and to the first answer
    packed    the same of what `make layer` and `make zip` make
    memory    after the first invocation, after many, at its peak; sixteen invocations at once
    logs      CPU of printing and logging
    stream    latency and throughput of a streamed response

Each row says what it compares: this runtime with AWS's Python client (awslambdaric, set up as in a container image,
where it is quickest) or with something else. A run is a process of its own with bench_server as its Runtime API. The
runs of those compared take turns, so that whatever else the machine does hits both: a figure is the median of the
runs, a ratio the median of the ratios within each turn. Goals are for information: the exit status is 0 whenever
everything could be measured. With --out, bench.json (all figures) and the picture bench.svg are written.

To compare two versions of runtime.py (with the bootstrap beside each, or else this project's):

    python3 tests/tools/bench.py warm cold stream --quick --runtime NEW.py --against OLD.py

Without --against, NEW.py is compared with awslambdaric. On a busy machine trust the rows that count CPU.

The Python that is measured is the one that runs this if it is an optimized build (with PGO, as distributions make
it), else the first such that is found; --python=PYTHON takes another. What is needed from PyPI is put into .dev/ once.
For Linux, as Lambda is.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "promises"))
from bench_report import Report, Row, draw
from conformance_tools import LAMBDA_ENV, PROJECT, RIC_VERSION, CannotRun, awslambdaric, pip, set_up, write_files
from scripted_api import Child, ScriptedApi
from scripted_api import event as event_answer

SERVER = PROJECT / "tests" / "tools" / "bench_server.c"
MB = 1 << 20
NO_WORSE = 1.04  # the goal of every row that compares with another runtime.py

# The functions. Each is a file of the task root, and its handler is called handler.
FUNCTIONS = {
    "echo.py": "def handler(event, context):\n    return event\n",
    "imports.py": """\
import json
import logging

logger = logging.getLogger(__name__)

def handler(event, context):
    return event
""",
    "aws.py": """\
import boto3

def handler(event, context):
    return event
""",
    "printing.py": """\
def handler(event, context):
    for number in range(200):
        print("a line that says what happens, number", number)
""",
    "records.py": """\
import logging

logger = logging.getLogger()
logger.setLevel(logging.INFO)

def handler(event, context):
    for number in range(200):
        logger.info("a record that says what happens, number %d", number)
""",
    # Each item says when it was yielded; the pause lets it arrive before the next one.
    "stamps.py": """\
from time import monotonic_ns, sleep

def handler(event, context):
    for _ in range(event["items"]):
        yield b"@%d %32s" % (monotonic_ns(), b"")
        sleep(0.001)
""",
    "tokens.py": """\
def handler(event, context):
    for _ in range(event["items"]):
        yield b"a few words more, "
""",
    "chunks.py": """\
chunk = bytes(64 * 1024)

def handler(event, context):
    for _ in range(event["items"]):
        yield chunk
""",
    "async_echo.py": """\
async def echo(event):
    return event

async def handler(event, context):
    return await echo(event)
""",
    "run_echo.py": """\
import asyncio

async def echo(event):
    return event

def handler(event, context):
    return asyncio.run(echo(event))
""",
    "waiting.py": """\
from time import sleep

def handler(event, context):
    sleep(0.1)
""",
    "awaiting.py": """\
from asyncio import sleep

async def handler(event, context):
    await sleep(0.1)
""",
}

# The least that answers and streams: no runtime, just a socket. Its argument is the name of a handler.
SOCKET_LOOP = """\
import json, os, socket, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
handler = __import__(sys.argv[1].partition(".")[0]).handler
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
sock = socket.create_connection((host, int(port)))
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an item that is made is sent, as by the runtime
answers = sock.makefile("rb")

def answer():
    headers = dict(line.lower().split(b": ") for line in list(iter(answers.readline, b"\\r\\n"))[1:])
    return headers, answers.read(int(headers[b"content-length"]))

while True:
    sock.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: api\\r\\n\\r\\n")
    headers, event = answer()
    result = handler(json.loads(event), None)
    head = (b"POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: api\\r\\n"
        % headers[b"lambda-runtime-aws-request-id"].strip())
    if hasattr(result, "__next__"):
        sock.sendall(head + b"Lambda-Runtime-Function-Response-Mode: streaming\\r\\n"
            b"Transfer-Encoding: chunked\\r\\n\\r\\n")
        for item in result:
            sock.sendall(b"%x\\r\\n%b\\r\\n" % (len(item), item))
        sock.sendall(b"0\\r\\n\\r\\n")
    else:
        body = json.dumps(result).encode()
        sock.sendall(b"%bContent-Length: %d\\r\\n\\r\\n%b" % (head, len(body), body))
    answer()
"""

# A runtime as tutorials have it: the whole protocol, nothing else. It echoes.
SHELL_RUNTIME = """\
#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
headers=$(mktemp)
while event=$(curl -sS -D "$headers" "$api/next"); do
    id=$(sed -n 's/^lambda-runtime-aws-request-id: *//Ip' "$headers" | tr -d '\\r')
    printf %s "$event" | curl -sS -o "$headers" --data-binary @- "$api/$id/response"
done
"""


# ──── what is measured ──────────────────────────────────────────────────────────────────────────────────────────────


class Runtime(NamedTuple):
    """One of those that are compared."""

    name: str
    command: Sequence[str]  # before the handler's name
    env: Mapping[str, str]
    handler: str = ""  # if it needs another than ours does


@dataclass(frozen=True)
class Seen:
    """What bench_server saw of a run: nanoseconds and bytes."""

    next: int  # from just before exec to the first request
    answer: int  # to the first answer
    answer_cpu: int  # what the process had consumed by then
    size: int  # of the last answer
    peak: int  # of its resident memory
    resident: list[int]  # memory after the first invocation, and after every 1,000
    turns: list[int]  # from an event's sending to the `next` after it
    cpu: list[int]  # what the process consumed in each
    lags: list[int]  # from the time with which a chunk begins to its arrival

    def turn(self) -> float:
        """The median turn, in ns, of a process that has warmed up."""
        return median(self.turns[len(self.turns) // 10 :])

    def cpu_turn(self) -> float:
        return median(self.cpu[len(self.cpu) // 10 :])


class Unit(NamedTuple):
    name: str
    size: float


US, MS, MEGABYTES = Unit("µs", 1e3), Unit("ms", 1e6), Unit("MB", MB)


@dataclass(frozen=True)
class Match:
    """The runs of ours and of another; the n-th ones came one right after the other."""

    part: str
    against: str
    goal: float | None  # for all its rows, where their own goals do not apply
    ours: Sequence[Seen]
    other: Sequence[Seen]

    def row(
        self, name: str, unit: Unit, figure: Callable[[Seen], float], goal: float | None = None, drawn: bool = True
    ) -> Row:
        """The row for a figure that a run has."""
        ours, other = ([figure(seen) / unit.size for seen in side] for side in (self.ours, self.other))
        return Row(self.part, name, self.against, unit.name, ours, other, self.goal or goal, drawn)


# ──── how it is measured ────────────────────────────────────────────────────────────────────────────────────────────


class Bench:
    """A folder with all that is compared, and the means to run it."""

    part = ""

    def __init__(self, folder: Path, quick: bool, cpus: Set[int], ours: Path, base: Path | None) -> None:
        self.folder = folder
        self.quick = quick
        self.cpus = cpus
        self.as_shipped = not base and ours == PROJECT / "runtime.py"
        self.task = folder / "task"
        write_files(self.task, FUNCTIONS)
        self.output = (folder / "output").open("wb", buffering=0)
        self.server, self.c_client = self._server()

        # A virtual environment, as what .pth files in this Python's own site-packages do at every start is none of our
        # business. Its python3 is a link, as it is on Lambda.
        venv.create(folder / "python", symlinks=True)
        python = str(folder / "python" / "bin" / "python3")
        path = f"{folder}/python/bin:/usr/local/bin:/usr/bin:/bin"
        env = {**LAMBDA_ENV, "LAMBDA_TASK_ROOT": str(self.task), "PATH": path, "AWS_EXECUTION_ENV": "AWS_Lambda_Image"}
        self.env = env

        # Each with and without bytecode.
        self.ours = self._version("runtime.py", ours)
        self.base = self._version(str(base), base) if base else None
        package, package_without_pyc = with_bytecode(awslambdaric()), folder / "awslambdaric-without-pyc"
        shutil.copytree(package, package_without_pyc, ignore=shutil.ignore_patterns("__pycache__"))
        command = [python, "-m", "awslambdaric"]
        self.awslambdaric = Runtime("awslambdaric", command, {**env, "PYTHONPATH": str(package)})
        self.awslambdaric_without_pyc = Runtime(
            "awslambdaric without bytecode", command, {**env, "PYTHONPATH": str(package_without_pyc)}
        )
        # There it polls in a thread, and makes a new one each time: whatever the Python is, the variable decides.
        self.managed = self.awslambdaric._replace(
            name="awslambdaric on managed 3.12+",
            env={**self.awslambdaric.env, "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"},
        )
        self.socket_loop = Runtime("a bare Python socket loop", [python, "-c", SOCKET_LOOP], env)
        write_files(folder, {"shell-runtime": SHELL_RUNTIME}, 0o755)
        self.shell = Runtime("a shell script with curl", [str(folder / "shell-runtime")], env)

    def _version(self, name: str, runtime: Path) -> dict[bool, Runtime]:
        """A runtime.py with the bootstrap beside it, or this project's: with bytecode (True), and without."""
        beside = runtime.with_name("bootstrap")
        bootstrap = beside if beside.exists() else PROJECT / "bootstrap"
        made = {}
        for pyc in (True, False):
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            write_files(folder, {"runtime.py": runtime.read_bytes()})
            write_files(folder, {"bootstrap": bootstrap.read_bytes()}, 0o755)
            if pyc:
                py_compile.compile(str(folder / "runtime.py"), doraise=True)
            made[pyc] = Runtime(name, [str(folder / "bootstrap")], self.env)
        return made

    def _server(self) -> tuple[list[str], Runtime | None]:
        """The server's command, and the smallest client, if there is a C compiler to make it."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            print("No C compiler: with the server in Python, which takes its own time, ratios look closer to 1.\n")
            return [sys.executable, str(SERVER.with_suffix(".py"))], None
        program = str(self.folder / "bench_server")
        done = subprocess.run([compiler, "-O2", "-o", program, str(SERVER)], capture_output=True, text=True)
        if done.returncode:
            raise CannotRun(f"{compiler} {SERVER.name} failed:\n{done.stderr}")
        return [program], Runtime("a bare C client", [program, "client"], {})

    def run(self, runtime: Runtime, handler: str, event: bytes, count: int, sender_cpu: int | None = None) -> Seen:
        """A process of a runtime that gets the same event `count` times."""
        event_file, seen_file = self.folder / "event", self.folder / "seen"
        event_file.write_bytes(event)
        command = [*runtime.command] if runtime is self.c_client else [*runtime.command, runtime.handler or handler]
        if sender_cpu is not None:
            move = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"
            command = [sys.executable, "-c", move, str(sender_cpu), *command]
        self.output.truncate(0)
        done = subprocess.run(
            [*self.server, str(seen_file), str(count), str(event_file), *command],
            env=runtime.env,
            cwd=self.task,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            printed = (self.folder / "output").read_text(errors="replace")
            raise CannotRun(f"{' '.join(command)}: {done.stderr.strip()}\n{printed[-2000:]}")
        return Seen(**json.loads(seen_file.read_text()))

    def compare(
        self,
        handler: str,
        rivals: Sequence[Runtime | None],
        rounds: int,
        event: bytes = b"{}",
        count: int = 1,
        *,
        pyc: bool = True,
        ours: Runtime | None = None,
        packages: str = "",
        sender_cpu: int | None = None,
    ) -> list[Match]:
        """Ours and these rivals, or the other runtime.py if there is one, take turns: A B C, C B A, A B C ..."""
        there = [self.base[pyc]] if self.base else [rival for rival in rivals if rival]
        runtimes = [ours or self.ours[pyc], *there]
        if packages:
            runtimes = [with_packages(runtime, packages) for runtime in runtimes]
        seen: list[list[Seen]] = [[] for _ in runtimes]
        for number in range(rounds):
            progress(f"{self.part}: {handler}, {number + 1} of {rounds}")
            for index in sorted(range(len(runtimes)), reverse=number % 2 > 0):
                seen[index].append(self.run(runtimes[index], handler, event, count, sender_cpu))
        sizes = [runs[-1].size for runs in seen]
        if len({*sizes}) > 1:
            raise CannotRun(f"{handler}: what is compared does not do the same, its answers have {sizes} bytes")
        goal = NO_WORSE if self.base else None
        return [Match(self.part, rival.name, goal, seen[0], runs) for rival, runs in zip(there, seen[1:])]

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def with_bytecode(package: Path) -> Path:
    """What pip compiled is stale once .dev was copied: then others would start as slowly as we do without bytecode."""
    if not compileall.compile_dir(package, quiet=2):
        print(f"bench: not all of {package.name} could be compiled", file=sys.stderr)
    return package


def with_packages(runtime: Runtime, folder: str) -> Runtime:
    path = filter(None, (runtime.env.get("PYTHONPATH"), folder))
    return runtime._replace(env={**runtime.env, "PYTHONPATH": ":".join(path)})


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\r" if text else "", file=sys.stderr, flush=True)


def records(size: int) -> bytes:
    """An event of about that size: what a queue sends, or a small object."""
    order = {"id": 4711, "name": "a name", "tags": ["new", "blue"], "price": 12.5, "sold": False, "note": None}
    if size <= 100:
        return json.dumps(order).encode()
    record = {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a" * 3,
        "body": json.dumps([order] * 4),
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1795408739123",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1795408739185",
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:my-queue",
        "awsRegion": "eu-central-1",
    }
    return json.dumps({"Records": [record] * (size // len(json.dumps(record) + ", "))}).encode()


# ──── the parts: each yields rows ───────────────────────────────────────────────────────────────────────────────────


def warm(bench: Bench) -> Iterator[Row]:
    bare = (bench.socket_loop, bench.c_client)
    rounds, count = bench.count(9, 5), bench.count(5000, 2000)
    goals = {bench.awslambdaric.name: 0.47, "a bare C client": 1.55}
    rivals = [bench.awslambdaric, bench.managed, *bare]
    matches = bench.compare("echo.handler", rivals, rounds, records(100), count)
    for match in matches:
        yield match.row("event of 100 B", US, Seen.turn, goals.get(match.against))
    yield matches[0].row("event of 100 B, CPU", US, Seen.cpu_turn, drawn=False)
    matches = bench.compare("echo.handler", [bench.awslambdaric, *bare], rounds, records(10_000), count)
    for match in matches:
        first = match is matches[0]
        yield match.row("event of 10 KB", US, Seen.turn, 0.50 if first else None, drawn=first)
    yield matches[0].row("event of 10 KB, CPU", US, Seen.cpu_turn, drawn=False)

    per_mb: list[list[float]] = []
    for name, size, event in (
        ("event of 1 MB, CPU", 1, records(MB)),
        ("event of 6 MB, CPU", 6, records(6 * MB - 1000)),
        ("event of 6 MB, one string, CPU", 6, b'"%b"' % (b"7" * (6 * MB - 1000))),
    ):
        (match,) = bench.compare(
            "echo.handler", [bench.awslambdaric], bench.count(7, 3), event, bench.count(30, 12) // size
        )
        yield match.row(name, MS, Seen.cpu_turn, 1.0, drawn="string" not in name)
        per_mb.append([seen.cpu_turn() / size / MS.size for seen in match.ours])
    yield Row(bench.part, "CPU per MB of 6 MB", "that of 1 MB", MS.name, per_mb[1], per_mb[0], 1.5, drawn=False)

    asyncio_run = bench.awslambdaric._replace(name="awslambdaric with asyncio.run()", handler="run_echo.handler")
    for match in bench.compare("async_echo.handler", [asyncio_run], bench.count(7, 5), records(100), 2000):
        yield match.row("async def handler, 100 B", US, Seen.turn)


def cold(bench: Bench) -> Iterator[Row]:
    boto3 = str(with_bytecode(set_up_boto3()))
    both = [bench.awslambdaric, bench.awslambdaric_without_pyc]
    for variant, handler, rivals, pyc, packages, rounds, goals in (
        ("", "echo.handler", both[:1], True, "", bench.count(40, 10), [0.77]),
        (", json and logging used", "imports.handler", both[:1], True, "", bench.count(40, 8), [1.0]),
        (", boto3 used", "aws.handler", both[:1], True, boto3, bench.count(15, 4), [1.0]),
        (" without bytecode", "echo.handler", both, False, "", bench.count(25, 8), [1.12, 1.0]),
    ):
        for timed in (1, rounds):  # all files have been read once
            matches = bench.compare(handler, rivals, timed, pyc=pyc, packages=packages)
        for match, goal in zip(matches, goals):
            yield from cold_rows(match, f"cold start{variant}", goal)
    if shutil.which("curl") and not bench.base:
        (match,) = bench.compare("echo.handler", [bench.shell], bench.count(10, 3), count=bench.count(20, 5))
        yield match.row("cold start", MS, lambda seen: seen.next)
        yield match.row("event of 2 B", US, Seen.turn, drawn=False)


def cold_rows(match: Match, name: str, goal: float | None = None) -> Iterator[Row]:
    yield match.row(name, MS, lambda seen: seen.next, goal)
    yield match.row(f"{name}, to the first answer", MS, lambda seen: seen.answer, goal, drawn=False)
    yield match.row(f"{name}, to the first answer, CPU", MS, lambda seen: seen.answer_cpu, drawn=False)


def packed(bench: Bench) -> Iterator[Row]:
    """What is uploaded, as it is on arrival, and as it would be without bytecode."""
    if not bench.as_shipped:
        return
    for target in ("layer", "zip"):
        archive = bench.folder / f"{target}.zip"
        command = ["make", "-s", target, f"OUT={archive}", f"TASK_ROOT={bench.task}", f"PYTHONS={sys.executable}"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        if done.returncode:
            print(f"bench: {' '.join(command)} failed: {done.stderr.strip()}", file=sys.stderr)
            continue
        for pyc in (True, False):
            folder = Path(tempfile.mkdtemp(dir=bench.folder))
            unpack(archive, folder)
            if not pyc:
                for cache in [*folder.rglob("__pycache__")]:
                    shutil.rmtree(cache)
            root = {"LAMBDA_TASK_ROOT": str(folder)} if target == "zip" else {}
            ours = Runtime(target, [str(folder / "bootstrap")], {**bench.env, **root})
            for rounds in (1, bench.count(25, 8)):
                (match,) = bench.compare("echo.handler", [bench.awslambdaric], rounds, ours=ours)
            yield from cold_rows(match, f"{target} {'with' if pyc else 'without'} bytecode", 0.77 if pyc else 1.12)


def unpack(archive: Path, folder: Path) -> None:
    """With the times in the archive, as Lambda does: bytecode may depend on them."""
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            path = opened.extract(info, folder)
            packed = time.mktime((*info.date_time, 0, 0, -1))
            os.utime(path, (packed, packed))
    (folder / "bootstrap").chmod(0o755)


def memory(bench: Bench) -> Iterator[Row]:
    many = bench.count(50_000, 10_000)
    last = min(20_000, many)
    (match,) = bench.compare("echo.handler", [bench.awslambdaric], bench.count(3, 1), records(100), many)
    yield match.row("memory after the first invocation", MEGABYTES, lambda seen: seen.resident[0], 1.0)
    later, first = ([seen.resident[n] / MB for seen in match.ours] for n in (last // 1000, 0))
    name = f"memory after {last:,} invocations"
    yield Row(bench.part, name, "that after the first", "MB", later, first, 1.08, drawn=False)
    late, early = ([median(seen.turns[n]) / 1e3 for seen in match.ours] for n in (slice(-1000, None), slice(100, 1100)))
    name = f"time of an event after {many:,}"
    yield Row(bench.part, name, "that of the first 1,000", "µs", late, early, 1.1, drawn=False)

    event = records(6 * MB - 1000)
    (match,) = bench.compare("echo.handler", [bench.awslambdaric], bench.count(3, 1), event, 3)
    yield match.row("peak memory, event of 6 MB", MEGABYTES, lambda seen: seen.peak, 1.1)
    yield from together(bench)


def logs(bench: Bench) -> Iterator[Row]:
    for output, handler in (("printed lines", "printing.handler"), ("log records", "records.handler")):
        (match,) = bench.compare(handler, [bench.awslambdaric], bench.count(7, 5), count=bench.count(300, 100))
        yield match.row(f"200 {output}, CPU", MS, Seen.cpu_turn, 1.0)


def stream(bench: Bench) -> Iterator[Row]:
    # Here the two ends have a CPU each, if there are two: a chunk arrives while the sender goes on.
    os.sched_setaffinity(0, {min(bench.cpus)})
    sender = max(bench.cpus)
    bare = [bench.socket_loop]
    event = b'{"items": %d}' % bench.count(500, 300)
    (match,) = bench.compare("stamps.handler", bare, bench.count(9, 5), event, sender_cpu=sender)
    yield match.row("stream, yield to arrival", US, lambda seen: median(seen.lags), 1.3)

    event = b'{"items": 20000}'
    (match,) = bench.compare("tokens.handler", bare, bench.count(11, 5), event, sender_cpu=sender)
    yield match.row("stream, 20,000 chunks of 18 B", MS, lambda seen: seen.turns[0], 1.43)
    yield match.row("stream, 20,000 chunks of 18 B, CPU", MS, lambda seen: seen.cpu[0], drawn=False)

    (match,) = bench.compare("chunks.handler", bare, bench.count(15, 7), b'{"items": 3200}', sender_cpu=sender)
    yield match.row("stream, 3,200 chunks of 64 KB", MS, lambda seen: seen.turns[0], 1.18)
    short = [bench.run(bench.ours[True], "chunks.handler", b'{"items": 32}', 1, sender).peak / MB for _ in match.ours]
    long = [seen.peak / MB for seen in match.ours]
    yield Row(bench.part, "peak memory, 3,200 chunks of 64 KB", "that of 32", "MB", long, short, 1.05, drawn=False)


PARTS: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "warm": warm, "cold": cold, "packed": packed, "memory": memory, "logs": logs, "stream": stream,
}  # fmt: skip


def set_up_boto3() -> Path:
    def fill(folder: Path) -> None:
        pip("install", "--no-warn-script-location", "--root-user-action=ignore", "--target", folder, "boto3")

    return set_up(f"boto3-{sys.implementation.cache_tag}", "boto3, from PyPI", fill)


# ──── sixteen at once: a Lambda Managed Instance ────────────────────────────────────────────────────────────────────

AT_ONCE = 16


def together(bench: Bench) -> Iterator[Row]:
    """An async handler in one process of ours, an ordinary one in as many processes of awslambdaric as it wants."""
    if bench.base:
        rival = bench.base[True]._replace(handler="awaiting.handler")
    else:
        rival = bench.awslambdaric._replace(name=f"awslambdaric, {AT_ONCE} processes", handler="waiting.handler")
    memories: list[list[float]] = [[], []]
    times: list[list[float]] = [[], []]
    rounds = bench.count(3, 1)
    for number in range(rounds):
        progress(f"{bench.part}: {AT_ONCE} at once, {number + 1} of {rounds}")
        for side, runtime in enumerate((bench.ours[True]._replace(handler="awaiting.handler"), rival)):
            seconds, size = serve_together(bench, runtime, bench.count(20, 10) * AT_ONCE)
            times[side].append(seconds * 1000)
            memories[side].append(size / MB)
    yield Row(bench.part, f"async def, {AT_ONCE} at once: memory", rival.name, "MB", memories[0], memories[1])
    yield Row(bench.part, f"async def, {AT_ONCE} at once: 100 ms wait", rival.name, "ms", times[0], times[1])


def serve_together(bench: Bench, runtime: Runtime, count: int) -> tuple[float, float]:
    """Seconds for each one of those at once, and the bytes that all processes need, what they share counted once."""
    with ScriptedApi([event_answer(request_id=f"{number}") for number in range(count)]) as api:
        env = {**runtime.env, "AWS_LAMBDA_MAX_CONCURRENCY": str(AT_ONCE), "AWS_LAMBDA_RUNTIME_API": api.address}
        with Child([*runtime.command, runtime.handler], env, str(bench.task)) as child:
            idle = api.wait(lambda: api.held == AT_ONCE, 60)
            answers = api.sent("response")
            if not idle or len(answers) != count:
                raise CannotRun(f"{' '.join(runtime.command)}: {(child.stdout + child.stderr).decode()}")
            seconds = answers[-1].arrived - answers[AT_ONCE - 1].arrived  # the first ones include the start
            each = seconds * AT_ONCE / (count - AT_ONCE)
            return each, sum(map(proportional_memory, descendants(child.process.pid)))


def descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def proportional_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


# ──── where it is measured ──────────────────────────────────────────────────────────────────────────────────────────


def optimized() -> bool:
    """Whether this Python was compiled with profiles, as those that people deploy are. Debian does, and hides it."""
    return (
        "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
        or "deb_system" in sysconfig.get_scheme_names()
    )


def fit() -> bool:
    """Whether this Python is to be measured: optimized, and awslambdaric can be installed for it."""
    installs = any(map(importlib.util.find_spec, ("pip", "ensurepip")))
    return sys.version_info >= (3, 10) and installs and optimized()


def find_python() -> str:
    """This Python if it is fit, else another that is, if there is one."""
    if fit():
        return sys.executable
    question = "import sys, bench; print(sys.executable if bench.fit() else '')"
    names = ("/usr/bin/python3", *(f"python3.{minor}" for minor in range(30, 9, -1)))
    found = (ask(python, question) for python in names)
    return next(filter(None, found), sys.executable)


def ask(python: str, question: str) -> str:
    found = shutil.which(python)
    if not found:
        return ""
    command = [os.path.abspath(found), "-B", "-c", question]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def setting(busy: bool) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    build = "an optimized build" if optimized() else "NOT an optimized build"
    python = f"{platform.python_implementation()} {platform.python_version()} ({build})"
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    cores = f"{os.cpu_count()} cores of {model}{', BUSY with other work' if busy else ''}"
    return f"{python}, awslambdaric {RIC_VERSION}; {cores}, {system}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares this runtime with AWS's Python client.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer runs, for a first impression")
    parser.add_argument("--runtime", metavar="FILE", type=Path, default=PROJECT / "runtime.py", help="what is measured")
    parser.add_argument("--against", metavar="FILE", type=Path, help="compare it with this other runtime.py")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="write bench.json (all figures) and bench.svg into FOLDER"
    )
    parser.add_argument("--python", help="the Python that is measured, however it was compiled")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)
    for part in parts:
        if part not in PARTS:
            parser.error(f"there is no part {part}: {', '.join(PARTS)}")
    python = ask(options.python, "import sys; print(sys.executable)") if options.python else find_python()
    if not python:
        parser.error(f"there is no Python {options.python}")
    if python != sys.executable:
        os.execv(python, [python, "-B", *sys.argv, f"--python={python}"])

    cpus = os.sched_getaffinity(0)
    busy = os.getloadavg()[0] > 0.5
    where = setting(busy)
    print(where, end="\n\n")
    if not optimized():
        print("bench: this Python was compiled without profiles, its ratios are not Lambda's", file=sys.stderr)
    if busy:
        print("bench: the machine is busy, only the rows of CPU are worth much", file=sys.stderr)
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            bench = Bench(Path(folder).resolve(), options.quick, cpus, options.runtime, options.against)
            for bench.part in parts:
                # One CPU for both ends, as most functions have: it takes 1,769 MB to get a whole one. With more, where
                # the scheduler puts the two decides more than what is measured here.
                os.sched_setaffinity(0, {max(cpus)})
                rows += PARTS[bench.part](bench)
    except CannotRun as reason:
        progress("")
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    progress("")
    words = [*options.parts, *(["--quick"] if options.quick else [])]
    command = " ".join(["python3 tests/tools/bench.py", *words]) if words else "make bench"
    report = Report(where, command, rows)
    print(report.table())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "bench.json").write_text(report.to_json())
        (options.out / "bench.svg").write_text(draw(Report.from_json(report.to_json())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
