# SPDX-License-Identifier: MIT-0
"""How fast and how small: `make bench`, or python3 tests/tools/bench.py [PART ...] [--quick] [--json FILE]

    warm      time and CPU of an invocation, by the size of its event
    cold      from exec to the first `GET next` and to the first answer
    memory    after the first invocation, after many, at its peak; sixteen invocations at once
    logs      CPU of printing and logging
    stream    latency and throughput of a streamed response

Each row compares this runtime with AWS's Python client (awslambdaric, set up as in a container image, which is how it
is quickest), or with what the row says it is against, on the Python that runs this. A run is a process of its own
with bench_server as its Runtime API. The runs of those compared take turns, so that whatever else the machine does
hits both: a figure is the median of the runs, a ratio the median of the ratios within each turn. Goals are for
information: the exit status is 0 whenever everything could be measured. BENCH in the environment selects parts, too.

What is needed from PyPI is put into .dev/ once. For Linux, as Lambda is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "promises"))
from conformance_tools import LAMBDA_ENV, PROJECT, RIC_VERSION, CannotRun, awslambdaric, pip, set_up, write_files
from scripted_api import Child, ScriptedApi
from scripted_api import event as event_answer

SERVER = PROJECT / "tests" / "tools" / "bench_server.c"
MB = 1 << 20

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
    "chunks.py": """\
chunk = bytes(64 * 1024)

def handler(event, context):
    for _ in range(event["items"]):
        yield chunk
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

# The least that streams stamps.py and chunks.py: no runtime, just a socket. Its argument is the name of a handler.
RAW_SENDER = """\
import json, os, socket, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
handler = __import__(sys.argv[1].partition(".")[0]).handler
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
sock = socket.create_connection((host, int(port)))
answers = sock.makefile("rb")

def answer():
    headers = dict(line.lower().split(b": ") for line in list(iter(answers.readline, b"\\r\\n"))[1:])
    return headers, answers.read(int(headers[b"content-length"]))

while True:
    sock.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: api\\r\\n\\r\\n")
    headers, event = answer()
    id = headers[b"lambda-runtime-aws-request-id"].strip()
    sock.sendall(b"POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nHost: api\\r\\n" % id
        + b"Lambda-Runtime-Function-Response-Mode: streaming\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
    for item in handler(json.loads(event), None):
        sock.sendall(b"%x\\r\\n%b\\r\\n" % (len(item), item))
    sock.sendall(b"0\\r\\n\\r\\n")
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
    """One of those that are compared: the command before the handler's name, and the environment it needs."""

    command: Sequence[str]
    env: Mapping[str, str]


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


class Goal(NamedTuple):
    """A limit for a row's ratio, or for our own figure; what is to be had at least or at most."""

    limit: float
    at_least: bool = False
    of_ours: bool = False

    def met(self, ours: float, ratio: float) -> bool:
        figure = ours if self.of_ours else ratio
        return figure >= self.limit if self.at_least else figure <= self.limit

    def text(self, unit: Unit) -> str:
        limit = unit.text(self.limit) if self.of_ours else f"{self.limit:.2f}"
        return f"{'≥' if self.at_least else '≤'} {limit}"


class Unit(NamedTuple):
    name: str
    size: float

    def text(self, value: float) -> str:
        value /= self.size
        return f"{value:,.{1 if abs(value) < 100 else 0}f} {self.name}"


US, MS, MEGABYTES = Unit("µs", 1e3), Unit("ms", 1e6), Unit("MB", MB)
RATE, PER_SECOND = Unit("MB/s", MB), Unit("a second", 1)


@dataclass
class Row:
    """A line of the table. The n-th figures of `ours` and `other` were measured one right after the other."""

    name: str
    unit: Unit
    ours: Sequence[float]
    other: Sequence[float]
    goal: Goal | None = None
    ratio: float = field(init=False)

    @classmethod
    def of(
        cls,
        name: str,
        unit: Unit,
        figure: Callable[[Seen], float],
        ours: Sequence[Seen],
        other: Sequence[Seen],
        goal: Goal | None = None,
    ) -> Row:
        """The row for a figure that a run has."""
        return cls(name, unit, [figure(seen) for seen in ours], [figure(seen) for seen in other], goal)

    def __post_init__(self) -> None:
        self.ratio = median(our / other if other else float("inf") for our, other in zip(self.ours, self.other))

    @property
    def met(self) -> bool | None:
        return self.goal.met(median(self.ours), self.ratio) if self.goal else None

    def cells(self) -> list[str]:
        return [
            self.name,
            self.unit.text(median(self.ours)),
            self.unit.text(median(self.other)),
            "" if self.goal and self.goal.of_ours else f"{self.ratio:.{2 if self.ratio > 0.1 else 3}f}",
            self.goal.text(self.unit) if self.goal else "",
            {True: "yes", False: "no", None: ""}[self.met],
        ]

    def as_dict(self) -> dict[str, object]:
        ours, other = ([value / self.unit.size for value in side] for side in (self.ours, self.other))
        goal = self.goal.text(self.unit) if self.goal else None
        return {
            "name": self.name, "unit": self.unit.name, "ours": ours, "other": other,
            "ratio": self.ratio, "goal": goal, "met": self.met,
        }  # fmt: skip


# ──── how it is measured ────────────────────────────────────────────────────────────────────────────────────────────


class Bench:
    """A folder with all that is compared, and the means to run it."""

    def __init__(self, folder: Path, quick: bool, cpus: Set[int]) -> None:
        self.folder = folder
        self.quick = quick
        self.cpus = cpus
        self.task = folder / "task"
        write_files(self.task, FUNCTIONS)
        self.output = (folder / "output").open("wb", buffering=0)
        self.server, self.floor = self._server()

        # A virtual environment, as what .pth files in this Python's own site-packages do at every start is none of our
        # business. Its python3 is a link, as it is on Lambda.
        venv.create(folder / "python", symlinks=True)
        python = str(folder / "python" / "bin" / "python3")
        path = f"{folder}/python/bin:/usr/local/bin:/usr/bin:/bin"
        env = {**LAMBDA_ENV, "LAMBDA_TASK_ROOT": str(self.task), "PATH": path, "AWS_EXECUTION_ENV": "AWS_Lambda_Image"}

        for name in ("ours", "ours-without-pyc"):
            (folder / name).mkdir()
            for file in ("bootstrap", "runtime.py"):
                shutil.copy2(PROJECT / file, folder / name)
        py_compile.compile(str(folder / "ours" / "runtime.py"), doraise=True)
        package, package_without_pyc = awslambdaric(), folder / "awslambdaric-without-pyc"
        shutil.copytree(package, package_without_pyc, ignore=shutil.ignore_patterns("__pycache__"))

        self.ours = Runtime([str(folder / "ours" / "bootstrap")], env)
        self.ours_without_pyc = Runtime([str(folder / "ours-without-pyc" / "bootstrap")], env)
        command = [python, "-m", "awslambdaric"]
        self.awslambdaric = Runtime(command, {**env, "PYTHONPATH": str(package)})
        self.awslambdaric_without_pyc = Runtime(command, {**env, "PYTHONPATH": str(package_without_pyc)})
        managed = f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}"
        self.managed = Runtime(command, {**self.awslambdaric.env, "AWS_EXECUTION_ENV": managed})
        self.raw_sender = Runtime([python, "-c", RAW_SENDER], env)
        write_files(folder, {"shell-runtime": SHELL_RUNTIME}, 0o755)
        self.shell = Runtime([str(folder / "shell-runtime")], env)

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
        return [program], Runtime([program, "client"], {})

    def run(self, runtime: Runtime, handler: str, event: bytes, count: int) -> Seen:
        """A process of a runtime that gets the same event `count` times."""
        event_file, seen_file = self.folder / "event", self.folder / "seen"
        event_file.write_bytes(event)
        command = [*runtime.command] if runtime is self.floor else [*runtime.command, handler]
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
        self, what: str, runtimes: Sequence[Runtime], rounds: int, handler: str, event: bytes = b"{}", count: int = 1
    ) -> list[list[Seen]]:
        """What was seen of each of these runtimes, which take turns: A B, B A, A B ..."""
        seen: list[list[Seen]] = [[] for _ in runtimes]
        for number in range(rounds):
            progress(f"{what}, {number + 1} of {rounds}")
            for index in sorted(range(len(runtimes)), reverse=number % 2 > 0):
                seen[index].append(self.run(runtimes[index], handler, event, count))
        return seen

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full


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
    runtimes = [bench.ours, bench.awslambdaric, *filter(None, (bench.floor,))]
    for size_text, size, goal, floor_goal in (
        ("100 B", 100, Goal(0.45), Goal(1.55)),
        ("10 KB", 10_000, Goal(0.50), None),
    ):
        what = f"warm, {size_text}"
        rounds, count = bench.count(9, 3), bench.count(5000, 2000)
        ours, other, *floor = bench.compare(what, runtimes, rounds, "echo.handler", records(size), count)
        yield Row.of(what, US, Seen.turn, ours, other, goal)
        for client in floor:
            yield Row.of(f"{what}, against a bare C client", US, Seen.turn, ours, client, floor_goal)
    if sys.version_info >= (3, 12):  # where AWS polls in a thread, and makes a new one each time
        what = "warm, 100 B, against AWS's managed runtime"
        ours, other = bench.compare(what, (bench.ours, bench.managed), 3, "echo.handler", records(100), 2000)
        yield Row.of(what, US, Seen.turn, ours, other)

    pair = (bench.ours, bench.awslambdaric)
    cpu_of_1_mb: list[list[float]] = []
    for size_text, size, event in (
        ("1 MB", 1, records(MB)),
        ("6 MB", 6, records(6 * MB - 1000)),
        ("6 MB, a string", 6, b'"%b"' % (b"7" * (6 * MB - 1000))),
    ):
        what = f"warm, {size_text}, CPU"
        ours, other = bench.compare(what, pair, bench.count(7, 3), "echo.handler", event, bench.count(30, 12) // size)
        yield Row.of(what, MS, Seen.cpu_turn, ours, other, Goal(1.0))
        cpu_of_1_mb.append([seen.cpu_turn() / size for seen in ours])
    yield Row("CPU for each MB of 6 MB, against that of 1 MB", MS, cpu_of_1_mb[1], cpu_of_1_mb[0], Goal(1.5))


def cold(bench: Bench) -> Iterator[Row]:
    boto3 = str(set_up_boto3())

    def with_boto3(runtime: Runtime) -> Runtime:
        path = filter(None, (runtime.env.get("PYTHONPATH"), boto3))
        return runtime._replace(env={**runtime.env, "PYTHONPATH": ":".join(path)})

    pair = (bench.ours, bench.awslambdaric)
    pair_with_boto3 = tuple(map(with_boto3, pair))
    pair_without_pyc = (bench.ours_without_pyc, bench.awslambdaric_without_pyc)
    for variant, runtimes, handler, rounds, goal in (
        ("", pair, "echo.handler", bench.count(40, 8), Goal(0.80)),
        (", logging and json", pair, "imports.handler", bench.count(40, 8), Goal(1.0)),
        (", boto3", pair_with_boto3, "aws.handler", bench.count(15, 4), Goal(1.0)),
        (", no .pyc", pair_without_pyc, "echo.handler", bench.count(25, 5), Goal(1.0)),
    ):
        what = f"cold{variant}"
        bench.compare(what, runtimes, 1, handler)  # all files have been read once
        ours, other = bench.compare(what, runtimes, rounds, handler)
        yield Row.of(f"{what}, to first next", MS, lambda seen: seen.next, ours, other, goal)
        yield Row.of(f"{what}, to first answer", MS, lambda seen: seen.answer, ours, other, goal)
        if not variant:  # on a busy machine this is the steadier figure
            yield Row.of(f"{what}, to first answer, CPU", MS, lambda seen: seen.answer_cpu, ours, other)
    if shutil.which("curl"):
        what, runtimes = "a runtime in shell", (bench.ours, bench.shell)
        ours, other = bench.compare(what, runtimes, bench.count(10, 3), "echo.handler", count=bench.count(20, 5))
        yield Row.of(f"cold, to first next, against {what}", MS, lambda seen: seen.next, ours, other)
        yield Row.of(f"warm, against {what}", US, Seen.turn, ours, other)


def memory(bench: Bench) -> Iterator[Row]:
    pair = (bench.ours, bench.awslambdaric)
    many = bench.count(50_000, 10_000)
    last = min(20_000, many)
    what = f"memory, {many:,} invocations"
    ours, other = bench.compare(what, pair, bench.count(3, 1), "echo.handler", records(100), many)
    yield Row.of("memory after the first invocation", MEGABYTES, lambda seen: seen.resident[0], ours, other, Goal(1.0))
    yield Row.of(
        f"growth over {last:,} invocations", MEGABYTES,
        lambda seen: seen.resident[last // 1000] - seen.resident[0], ours, other, Goal(MB, of_ours=True),
    )  # fmt: skip
    early, late = ([median(seen.turns[part]) for seen in ours] for part in (slice(100, 1100), slice(-1000, None)))
    yield Row(f"time after {many:,}, against the first 1,000", US, late, early, Goal(1.1))

    ours, other = bench.compare("memory, 6 MB", pair, bench.count(3, 1), "echo.handler", records(6 * MB - 1000), 3)
    yield Row.of("peak with a 6 MB event", MEGABYTES, lambda seen: seen.peak, ours, other, Goal(1.1))
    yield from together(bench)


def logs(bench: Bench) -> Iterator[Row]:
    pair = (bench.ours, bench.awslambdaric)
    for output, handler, goal in (("printed lines", "printing.handler", 0.5), ("log records", "records.handler", 0.8)):
        what = f"200 {output}, CPU"
        ours, other = bench.compare(what, pair, bench.count(7, 3), handler, count=bench.count(300, 100))
        yield Row.of(what, MS, Seen.cpu_turn, ours, other, Goal(goal))


def stream(bench: Bench) -> Iterator[Row]:
    # Here the two ends have a CPU each, if there are two: a chunk arrives while the sender goes on.
    os.sched_setaffinity(0, {min(bench.cpus)})
    move = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"
    moved = [sys.executable, "-c", move, str(max(bench.cpus))]
    pair = [Runtime([*moved, *runtime.command], runtime.env) for runtime in (bench.ours, bench.raw_sender)]
    what = "stream, yield to arrival, against a bare socket"
    event = b'{"items": %d}' % bench.count(500, 300)
    ours, other = bench.compare(what, pair, bench.count(7, 3), "stamps.handler", event)
    yield Row.of(what, US, lambda seen: median(seen.lags), ours, other, Goal(1.3))

    what = "stream, 200 MB by 64 KB, against a bare socket"
    ours, other = bench.compare(what, pair, bench.count(15, 7), "chunks.handler", b'{"items": 3200}')
    yield Row.of(what, RATE, lambda seen: seen.size * 1e9 / seen.turns[0], ours, other, Goal(0.85, at_least=True))
    what = "peak with 200 MB, against 2 MB"
    (short,) = bench.compare(what, pair[:1], len(ours), "chunks.handler", b'{"items": 32}')
    yield Row.of(what, MEGABYTES, lambda seen: seen.peak, ours, short, Goal(1.05))


PARTS: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "warm": warm, "cold": cold, "memory": memory, "logs": logs, "stream": stream,
}  # fmt: skip


def set_up_boto3() -> Path:
    def fill(folder: Path) -> None:
        pip("install", "--no-warn-script-location", "--root-user-action=ignore", "--target", folder, "boto3")

    return set_up(f"boto3-{sys.implementation.cache_tag}", "boto3, from PyPI", fill)


# ──── sixteen at once: a Lambda Managed Instance ────────────────────────────────────────────────────────────────────

AT_ONCE = 16


def together(bench: Bench) -> Iterator[Row]:
    """An async handler in one process of ours, an ordinary one in as many processes of awslambdaric as it wants."""
    memories: list[list[float]] = [[], []]
    rates: list[list[float]] = [[], []]
    rounds = bench.count(3, 1)
    for number in range(rounds):
        progress(f"{AT_ONCE} at once, {number + 1} of {rounds}")
        for side, (runtime, handler) in enumerate(
            ((bench.ours, "awaiting.handler"), (bench.awslambdaric, "waiting.handler"))
        ):
            rate, size = serve_together(bench, runtime, handler, bench.count(20, 10) * AT_ONCE)
            rates[side].append(rate)
            memories[side].append(size)
    yield Row(f"{AT_ONCE} at once: memory of all processes", MEGABYTES, memories[0], memories[1])
    yield Row(f"{AT_ONCE} at once: invocations of 100 ms", PER_SECOND, rates[0], rates[1])


def serve_together(bench: Bench, runtime: Runtime, handler: str, count: int) -> tuple[float, float]:
    """Invocations a second, and the bytes that all processes need together, what they share counted once."""
    with ScriptedApi([event_answer(request_id=f"{number}") for number in range(count)]) as api:
        env = {**runtime.env, "AWS_LAMBDA_MAX_CONCURRENCY": str(AT_ONCE), "AWS_LAMBDA_RUNTIME_API": api.address}
        with Child([*runtime.command, handler], env, str(bench.task)) as child:
            idle = api.wait(lambda: api.held == AT_ONCE, 60)
            answers = api.sent("response")
            if not idle or len(answers) != count:
                raise CannotRun(f"{' '.join(runtime.command)}: {(child.stdout + child.stderr).decode()}")
            seconds = answers[-1].arrived - answers[AT_ONCE - 1].arrived  # the first ones include the start
            return (count - AT_ONCE) / seconds, sum(map(proportional_memory, descendants(child.process.pid)))


def descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def proportional_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


# ──── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()}"
    return f"{python}, awslambdaric {RIC_VERSION}; {model}, {os.cpu_count()} cores, {system}"


def table(rows: Sequence[Row]) -> str:
    """Markdown that is also legible as it is."""
    lines = [["", "ours", "awslambdaric", "ratio", "goal", "met"], *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * (width - (index > 0)) + ":" * (index > 0) for index, width in enumerate(widths)])
    text = []
    for line in lines:
        cells = (
            cell.rjust(width) if index else cell.ljust(width) for index, (cell, width) in enumerate(zip(line, widths))
        )
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def as_json(rows: Sequence[Row]) -> str:
    """The table, and the figures of all runs."""
    return json.dumps({"machine": machine(), "rows": [row.as_dict() for row in rows]}, indent=1, ensure_ascii=False)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares this runtime with AWS's Python client.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer runs, for a first impression")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures of all runs into FILE")
    options = parser.parse_args()
    parts = options.parts or os.environ.get("BENCH", "").split() or list(PARTS)
    for part in parts:
        if part not in PARTS:
            parser.error(f"there is no part {part}: {', '.join(PARTS)}")

    cpus = os.sched_getaffinity(0)
    print(machine(), end="\n\n")
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            bench = Bench(Path(folder).resolve(), options.quick, cpus)
            for part in parts:
                # One CPU for both ends, as most functions have: it takes 1,769 MB to get a whole one. With more, where
                # the scheduler puts the two decides more than what is measured here.
                os.sched_setaffinity(0, {max(cpus)})
                rows += PARTS[part](bench)
    except CannotRun as reason:
        progress("")
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    progress("")
    print(table(rows))
    if options.json:
        options.json.write_text(as_json(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
