# SPDX-License-Identifier: MIT-0
"""Parts of the conformance tests: this runtime under the emulators that people have."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import IncompleteRead
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from conformance_tools import (
    LAMBDA_ENV,
    PROJECT,
    CannotRun,
    NotHere,
    Report,
    cargo_lambda,
    emulator_of_aws,
    expect,
    free_ports,
    new_folder,
    write_files,
)
from scripted_api import Child

# ──── emulators ─────────────────────────────────────────────────────────────────────────────────────────────────────

PATH = "/usr/local/bin:/usr/bin:/bin"


class Answered(NamedTuple):
    """What an emulator's caller gets."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


E = TypeVar("E", bound="Emulator")


class Emulator:
    """An emulator that runs, and its callers. It has begun to listen, and ends with all that it started."""

    def __init__(self, port: int, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.port = port
        self.child = Child(command, env, str(folder))
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                if time.monotonic() > until or self.child.wait(0.02) is not None:
                    output = self.output[-500:]
                    self.close()
                    raise CannotRun(f"{Path(command[0]).name} does not start: {output}") from None

    @contextmanager
    def call(self, path: str, body: str | None = None, **headers: str) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET" if body is None else "POST", path, body and body.encode(), headers)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def invoke(self, value: object = None) -> tuple[int, bytes]:
        with self.call("/2015-03-31/functions/function/invocations", json.dumps(value)) as response:
            return response.status, response.read()

    def result(self, value: object = None) -> Any:
        status, body = self.invoke(value)
        expect(status, 200)
        return json.loads(body)

    @property
    def output(self) -> str:
        """What the emulator wrote, and the function with it."""
        return (self.child.stdout + self.child.stderr).decode("utf-8", "backslashreplace")

    def end(self) -> None:
        """End it as it wants to be ended. What it had started is then gone, or is ended the hard way."""
        if self.child.process.returncode is None:
            started = descendants(self.child.process.pid)
            self.child.process.terminate()
            self.child.wait(3)
            for pid in filter(alive, started):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self.end()
        self.child.close()

    def __enter__(self: E) -> E:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have. Only Linux tells."""
    children: list[str] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():  # a child belongs to the thread that has made it
            children += (thread / "children").read_text().split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def alive(pid: int) -> bool:
    """Whether a process is more than an entry in a table, for whoever wants to know how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Rie(Emulator):
    """AWS's emulator with a function on this runtime, or on another one."""

    def __init__(
        self, folder: Path, source: str, timeout: int = 20, *, bootstrap: Path = PROJECT / "bootstrap",
        handler: str = "app.handler",
    ) -> None:  # fmt: skip
        write_files(folder, {"app.py": source})
        (folder / "bin").mkdir()
        (folder / "bin" / "python3").symlink_to(sys.executable)
        port, api_port = free_ports(2)
        command = [
            str(emulator_of_aws()),
            "--runtime-interface-emulator-address", f"127.0.0.1:{port}",
            "--runtime-api-address", f"127.0.0.1:{api_port}",
            str(bootstrap), handler,
        ]  # fmt: skip
        env = {
            **LAMBDA_ENV,
            "PATH": f"{folder}/bin:{PATH}",
            "LAMBDA_TASK_ROOT": str(folder),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        }
        super().__init__(port, command, env, folder)


class CargoLambda(Emulator):
    """cargo-lambda's emulator, and a function on this runtime that has been started with its address.

    It asks `cargo` for the names of the project's programs, each of which is a function. That needs no Rust, either.
    """

    def __init__(self, folder: Path, source: str) -> None:
        write_files(folder, {"app.py": source, "Cargo.toml": '[package]\nname = "function"\nversion = "0.1.0"\n'})
        target = {"kind": ["bin"], "crate_types": ["bin"], "name": "function", "src_path": f"{folder}/src/main.rs"}
        package = {
            "name": "function",
            "version": "0.1.0",
            "id": "function",
            "dependencies": [],
            "features": {},
            "manifest_path": f"{folder}/Cargo.toml",
            "targets": [target],
        }
        metadata = {
            "version": 1,
            "packages": [package],
            "workspace_members": ["function"],
            "workspace_root": str(folder),
            "target_directory": f"{folder}/target",
            "resolve": None,
        }
        write_files(folder / "bin", {"cargo": f"#!/bin/sh\necho '{json.dumps(metadata)}'\n"}, 0o755)
        (folder / "bin" / "python3").symlink_to(sys.executable)
        (port,) = free_ports(1)
        command = [
            str(cargo_lambda()), "lambda", "watch", "--only-lambda-apis",
            "--invoke-address", "127.0.0.1", "--invoke-port", str(port),
        ]  # fmt: skip
        path = f"{folder}/bin:{PATH}"
        super().__init__(port, command, {"PATH": path, "HOME": str(folder)}, folder)
        env = {
            **LAMBDA_ENV,
            "PATH": path,
            "LAMBDA_TASK_ROOT": str(folder),
            "AWS_LAMBDA_RUNTIME_API": f"http://127.0.0.1:{port}/.rt/function",
        }
        self.function = Child([str(PROJECT / "bootstrap"), "app.handler"], env, str(folder))

    def url(self, path: str, body: str | None = None, **headers: str) -> Answered:
        with self.call(f"/lambda-url/function{path}", body, **headers) as response:
            return Answered(response.status, response.headers, response.read())

    @property
    def log(self) -> str:
        return (self.function.stdout + self.function.stderr).decode("utf-8", "backslashreplace")

    def close(self) -> None:
        super().close()
        if hasattr(self, "function"):
            self.function.close()


# ──── rie: under AWS's emulator ─────────────────────────────────────────────────────────────────────────────────────

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


# ──── stream: what is sent while it is made ─────────────────────────────────────────────────────────────────────────

STREAM_FUNCTION = """\
import asyncio, os, time
from pathlib import Path

GO, CLOSED = Path("go"), Path("closed")
HTTP = {"statusCode": 201, "headers": {"content-type": "text/plain", "x-a": "b"}, "cookies": ["a=1; Secure", "b=2"]}

def plain():
    yield "one "
    yield b"two "
    yield "ä"

def prelude():
    yield HTTP
    yield "one "
    yield ""
    yield "two"

def empty():
    return
    yield

def fails_at_once():
    raise ValueError("ä")
    yield

def fails():
    yield HTTP
    yield "begun"
    raise ValueError("ä")

def large():
    for _ in range(7):
        yield bytes(1024 * 1024)

def large_with_prelude():
    yield HTTP
    yield from large()

async def awaits():
    for number in range(3):
        await asyncio.sleep(0.01)
        yield f"{number} "

def waits():
    yield HTTP
    yield "one "
    until = time.monotonic() + 5
    while not GO.exists() and time.monotonic() < until:
        time.sleep(0.01)
    yield "two" if GO.exists() else "nobody had the first chunk"

async def awaits_and_waits():
    for item in waits():
        await asyncio.sleep(0)
        yield item

def endless():
    try:
        yield HTTP
        while True:
            yield "x" * 1024
            time.sleep(0.01)
    finally:
        CLOSED.touch()

def handler(event, context):
    if isinstance(event, dict):
        if event["rawPath"] == "/event":
            seen = {name: event.get(name) for name in ("rawPath", "rawQueryString", "cookies", "body")}
            return {"statusCode": 203, "headers": {"x-a": "b"}, "cookies": ["a=1"], "body": repr(seen)}
        event = event["rawPath"][1:]
    if event == "pid":
        return {"pid": os.getpid(), "left": context.get_remaining_time_in_millis()}
    if isinstance(event, int):
        return "x" * (event - 2)
    return globals()[event]()
"""
PRELUDE = (
    b'{"statusCode": 201, "headers": {"content-type": "text/plain", "x-a": "b"}, "cookies": ["a=1; Secure", "b=2"]}'
)


def streams(report: Report) -> None:
    under_rie_as_one(report)
    under_cargo_lambda(report)


def under_rie_as_one(report: Report) -> None:
    """AWS's emulator collects what is streamed."""
    with new_folder() as folder, Rie(folder, STREAM_FUNCTION) as rie:
        first = rie.result("pid")["pid"]
        for name, expected in (
            ("plain", "one two ä".encode()),
            ("prelude", PRELUDE + bytes(8) + b"one two"),
            ("empty", b""),
            ("awaits", b"0 1 2 "),
            ("fails", PRELUDE + bytes(8) + b"begun"),
        ):
            with report.check(f"stream, rie: {name}"):
                expect(rie.invoke(name), (200, expected))
        with report.check("stream, rie: the error behind a stream that has begun is in the log"):
            expect(rie.output, re.compile(r"\[ERROR\] ValueError: ä\r"))
        with report.check("stream, rie: an error before the first item is an ordinary one"):
            status, body = rie.invoke("fails_at_once")
            failure = json.loads(body)
            expect((status, failure["errorType"], failure["errorMessage"]), (200, "ValueError", "ä"))
        with report.check("stream, rie: more than it collects is refused"):
            expect(json.loads(rie.invoke("large")[1])["errorType"], "Function.ResponseSizeTooLarge")
        with report.check("stream, rie: the process has lived on"):
            expect(rie.result("pid")["pid"], first)


def under_cargo_lambda(report: Report) -> None:
    with new_folder() as folder, CargoLambda(folder, STREAM_FUNCTION) as cargo:
        with report.check("stream, cargo-lambda: an invocation"):
            first = cargo.result("pid")
            expect(first, {"pid": cargo.function.process.pid, "left": 0})
        with report.check("stream, cargo-lambda: an error"):
            status, body = cargo.invoke("fails_at_once")
            failure = json.loads(body)
            expect((status, failure["errorType"], failure["errorMessage"]), (500, "ValueError", "ä"))
        with report.check("stream, cargo-lambda: a result of 20 MB, which is accepted before it is read"):
            expect(len(cargo.invoke(20 * MB)[1]), 20 * MB)
        with report.check("stream, cargo-lambda: a function URL"):
            answered = cargo.url("/event?q=1", "ä", Cookie="c=d; e=f", **{"Content-Type": "text/plain"})
            seen = {"rawPath": "/event", "rawQueryString": "q=1", "cookies": ["c=d", "e=f"], "body": "ä"}
            expect((answered.status, answered.headers["x-a"], answered.headers["set-cookie"]), (203, "b", "a=1"))
            expect(answered.body.decode(), repr(seen))
        for path in ("/lambda-url/function/", "invocations"):
            for name in ("waits", "awaits_and_waits"):
                how = "an invocation" if path == "invocations" else "a function URL"
                with report.check(f"stream, cargo-lambda: {how} gets each chunk of {name} at once"):
                    as_it_is_made(cargo, folder, path, name)
        with report.check("stream, cargo-lambda: 7 MB"):
            answered = cargo.url("/large_with_prelude")
            expect((answered.status, len(answered.body)), (201, 7 * MB))
        with report.check("stream, cargo-lambda: an error behind the first item is in the log"):
            with suppress(IncompleteRead):  # it may cut the response, as it knows no trailers
                answered = cargo.url("/fails")
                expect((answered.status, answered.body), (201, b"begun"))
            until(lambda: "[ERROR] ValueError: ä\r" in cargo.log.partition("in fails_at_once")[2])
        with report.check("stream, cargo-lambda: a stream without a prelude is not for function URLs"):
            expect(cargo.url("/plain").status, 500)
        with report.check("stream, cargo-lambda: the caller hangs up, and the generator is closed"):
            with cargo.call("/lambda-url/function/endless") as response:
                expect(response.read(2048), b"x" * 2048)
            until((folder / "closed").exists)
        with report.check("stream, cargo-lambda: the process has lived on"):
            expect(cargo.result("pid"), first)
        with report.check("stream, cargo-lambda: the emulator ends, and so does the process"):
            cargo.end()
            expect(cargo.function.wait(5), 1)
            expect(cargo.log.rstrip().split("\n")[-1], re.compile(r"^runtime\.py: "))


def as_it_is_made(cargo: CargoLambda, folder: Path, path: str, name: str) -> None:
    """The handler goes on only when it is told that its first item has come, and that is what we tell it."""
    go = folder / "go"
    with suppress(FileNotFoundError):
        go.unlink()
    url = path + name if path.startswith("/") else "/2015-03-31/functions/function/invocations"
    with cargo.call(url, None if path.startswith("/") else json.dumps(name)) as response:
        headers = response.headers
        expect((response.status, headers["content-type"], headers["x-a"]), (201, "text/plain", "b"))
        expect(headers.get_all("set-cookie"), ["a=1; Secure", "b=2"])
        expect(response.read1(100), b"one ")
        go.touch()
        expect(response.read(), b"two")


def until(true: Any, seconds: float = 3) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"that did not happen within {seconds} s")
        time.sleep(0.01)


# ──── modes: several invocations at once, and the end ───────────────────────────────────────────────────────────────
# In Managed Instances mode the emulator takes no command: it starts /var/task/bootstrap, as an ordinary user. A mount
# namespace lets a folder of ours be /var.

MANY = 8
MANAGED_USER, MANAGED_GROUP = 993, 990  # whom AWS's emulator starts it as
MANAGED_SOURCE = """\
import asyncio, atexit, logging, os, sys, time

atexit.register(lambda: os.write(1, f"atexit ran in {os.getpid()}\\n".encode()))
print(f"imported in {os.getpid()}")

def seen(event, context, begin):
    return {
        "pid": os.getpid(), "parent": os.getppid(), "user": os.getuid(), "version": sys.version,
        "begin": begin, "end": time.time(), "event": event, "id": context.aws_request_id,
    }

def waits(event, context):
    begin = time.time()
    logging.warning("for %s", event["n"])
    time.sleep(event["wait"])
    return seen(event, context, begin)

async def awaits(event, context):
    begin = time.time()
    logging.warning("for %s", event["n"])
    await asyncio.sleep(event["wait"])
    return seen(event, context, begin)
"""
ON_SIGTERM = """
import signal

def on_sigterm(*_):
    os.write(1, f"SIGTERM in {os.getpid()}\\n".encode())
    sys.exit(0)

signal.signal(signal.SIGTERM, on_sigterm)
"""
STREAMS = """\
def waits(event, context):
    return globals()[event["n"]]() if event["n"] else None

def plain():
    yield "one "
    yield "ä"

def prelude():
    yield {"headers": {"x-a": "b"}}
    yield "body"

def fails():
    yield "begun"
    raise ValueError("ä")
"""
# The folders that a managed runtime has. What is wrong with a mount is no fault of the test's.
AS_VAR = """\
[ -z "$2" ] || mount --rbind "$2" "$1/var/lang" || exit 125
mount --rbind "$1/var" /var && cd /var/task || exit 125
shift 2 && exec "$@"
"""
PROBE = """\
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
code = "import asyncio, http.client, json, sys; assert sys.version_info >= (3, 9); print(sys.version)"
os.execv(sys.executable, [sys.executable, "-c", code])
"""
LANG_PATH = f"/var/lang/bin:{PATH}"


class Namespace(NamedTuple):
    """Where `root` has taken the place of / as far as /var goes, with a Python that another user can run."""

    root: Path
    python: str  # what is mounted at /var/lang, nothing if the Python is another one on PATH

    def command(self, *words: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", AS_VAR, "sh", str(self.root), self.python, *words]


def namespace(root: Path) -> Namespace:
    """Everything that a runtime and this mode of the emulator need, but for the function. Raises NotHere."""
    if sys.platform != "linux" or os.geteuid():
        raise NotHere("Managed Instances mode needs a mount namespace and a second user, so root on Linux")
    write_files(root / "var/task", {name: (PROJECT / name).read_bytes() for name in ("bootstrap", "runtime.py")}, 0o755)
    write_files(root / "var", {"emulator": emulator_of_aws().read_bytes()}, 0o755)
    (root / "var/lang").mkdir()
    for folder in (root / "var", root / "var/task", root / "var/lang"):
        folder.chmod(0o755)
    env = {"PATH": LANG_PATH, "LD_LIBRARY_PATH": "/var/lang/lib"}  # the latter as the emulator sets it
    why = ""
    for python in (sys.base_prefix, ""):
        place = Namespace(root, python)
        probe = place.command("python3", "-c", PROBE, str(MANAGED_USER), str(MANAGED_GROUP))
        try:
            done = subprocess.run(probe, env=env, capture_output=True, text=True)
        except FileNotFoundError:
            raise NotHere("there is no `unshare`, to make a mount namespace with") from None
        version = done.stdout.strip()
        if version == sys.version or (version and not python):
            if version != sys.version:
                print(f"modes: functions run on Python {version.split()[0]}, as no other user can run {sys.executable}")
            return place
        why = (done.stderr.strip() or version or f"status {done.returncode}").splitlines()[-1]
    raise NotHere(f"no mount namespace is to be had, or no Python in it that another user can run: {why}")


class ManagedRie(Emulator):
    """AWS's emulator in Managed Instances mode, with a function on this runtime."""

    def __init__(self, place: Namespace, source: str, handler: str = "waits") -> None:
        write_files(place.root / "var/task", {"app.py": source})
        port, api_port = free_ports(2)
        command = place.command(
            "/var/emulator",
            "--runtime-interface-emulator-address", f"127.0.0.1:{port}",
            "--runtime-api-address", f"127.0.0.1:{api_port}",
        )  # fmt: skip
        env = {
            **LAMBDA_ENV,
            "PATH": LANG_PATH,
            "LAMBDA_TASK_ROOT": "/var/task",
            "_HANDLER": f"app.{handler}",
            "AWS_LAMBDA_MAX_CONCURRENCY": str(MANY),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "3",
        }
        super().__init__(port, command, env, place.root)

    def send(self, value: object, wait: float = 0) -> Answered:
        """An event. The emulator refuses it as long as nobody waits for one."""
        end = time.monotonic() + 5
        while True:
            body = json.dumps({"n": value, "wait": wait})
            with self.call("/2015-03-31/functions/function/invocations", body) as response:
                answered = Answered(response.status, response.headers, response.read())
            if answered.headers["error-type"] != "Runtime.Unavailable" or time.monotonic() > end:
                return answered
            time.sleep(0.01)

    def at_once(self, wait: float) -> list[Future[Answered]]:
        """The answers to as many events as may be in work; comes back as soon as all are."""
        pool = ThreadPoolExecutor(MANY)
        began = self.output.count("START RequestId")
        sent = [pool.submit(self.send, number, wait) for number in range(MANY)]
        pool.shutdown(wait=False)
        until(lambda: self.output.count("START RequestId") - began >= MANY)
        return sent

    def workers(self, count: int) -> set[int]:
        """Those that have imported the module, when so many have: soon they wait for an event."""
        until(lambda: self.output.count("imported in") >= count, 10)
        return {int(pid) for pid in re.findall(r"imported in (\d+)", self.output)}

    @property
    def processes(self) -> list[int]:
        """Those of the runtime: the emulator is the process that `unshare` and the shell have become."""
        return descendants(self.child.process.pid)


def modes(report: Report) -> None:
    the_end(report)
    with new_folder() as folder:
        place = namespace(folder)
        workers(report, place)
        one_event_loop(report, place)
        streams_of_workers(report, place)


def the_end(report: Report) -> None:
    name = "modes, rie: who asks for SIGTERM is registered, gets it, and ends in good order"
    with new_folder() as folder, Rie(folder, RIE_FUNCTION + ON_SIGTERM) as rie, report.check(name):
        pid = rie.result()["pid"]
        expect(rie.output, re.compile(r"Internal agent runtime\.py \(.*\) registered"))
        rie.end()
        expect(re.findall(r"(?m)^(SIGTERM in \d+|atexit ran)", rie.output), [f"SIGTERM in {pid}", "atexit ran"])
    name = "modes, rie: who does not is neither registered nor told"
    with new_folder() as folder, Rie(folder, RIE_FUNCTION) as rie, report.check(name):
        rie.result()
        rie.end()
        expect(("Internal agent" in rie.output, "atexit ran" in rie.output), (False, False))


def overlapping(results: Sequence[Any]) -> bool:
    return bool(max(one["begin"] for one in results) < min(one["end"] for one in results))


def logged(output: str) -> dict[str, str]:
    """Which request id each warning of the function's came with."""
    records = [json.loads(line) for line in output.splitlines() if line.startswith('{"timestamp"')]
    return {one["message"]: one["requestId"] for one in records if one["message"].startswith("for ")}


def workers(report: Report, place: Namespace) -> None:
    with ManagedRie(place, MANAGED_SOURCE) as rie:
        with report.check(f"modes, workers: {MANY} invocations at once in {MANY} processes"):
            pids = rie.workers(MANY)
            results = [json.loads(one.result().body) for one in rie.at_once(1)]
            expect(({one["pid"] for one in results}, overlapping(results)), (pids, True))
            expect({one["user"] for one in results}, {MANAGED_USER})
            expect({one["parent"] for one in results} | pids, set(rie.processes))
            expect([one["event"]["n"] for one in results], list(range(MANY)))
        with report.check("modes, workers: records carry the id of their invocation"):
            expect(logged(rie.output), {f"for {one['event']['n']}": one["id"] for one in results})
        with report.check("modes, workers: one that is killed costs its invocation, and another serves within 1 s"):
            sent = rie.at_once(1.5)
            os.kill(min(pids), signal.SIGKILL)
            killed = time.monotonic()
            replacement = json.loads(rie.send("new").body)["pid"]
            expect((replacement in pids, time.monotonic() - killed < 1), (False, True))
            answers = [json.loads(one.result().body) for one in sent]
            expect({one["pid"] for one in answers if "pid" in one}, pids - {min(pids)})
            expect([one["errorType"] for one in answers if "pid" not in one], ["Sandbox.Timedout"])
        with report.check("modes, workers: they end with the emulator"):
            started = rie.processes
            expect(len(started), MANY + 1)
            rie.end()
            expect([pid for pid in started if alive(pid)], [])
    name = "modes, workers: each gets SIGTERM, and ends in good order"
    with ManagedRie(place, MANAGED_SOURCE + ON_SIGTERM) as rie, report.check(name):
        in_good_order(rie, rie.workers(MANY))


def one_event_loop(report: Report, place: Namespace) -> None:
    with ManagedRie(place, MANAGED_SOURCE + ON_SIGTERM, "awaits") as rie:
        with report.check(f"modes, async: {MANY} invocations at once in one process"):
            pids = rie.workers(1)
            results = [json.loads(one.result().body) for one in rie.at_once(0.5)]
            expect(({one["pid"] for one in results}, overlapping(results)), (pids, True))
            expect({one["parent"] for one in results} | pids, set(rie.processes))
            expect([one["event"]["n"] for one in results], list(range(MANY)))
        with report.check("modes, async: records carry the id of their invocation"):
            expect(logged(rie.output), {f"for {one['event']['n']}": one["id"] for one in results})
        with report.check("modes, async: it gets SIGTERM, and ends in good order"):
            in_good_order(rie, pids)


def in_good_order(rie: ManagedRie, pids: set[int]) -> None:
    for one in rie.at_once(0.1):  # so that all have begun to serve
        one.result()
    expect(rie.output.count("Internal agent registered"), 1)
    started = rie.processes
    rie.end()
    expect({int(pid) for pid in re.findall(r"(?m)^SIGTERM in (\d+)$", rie.output)}, pids)
    expect({int(pid) for pid in re.findall(r"(?m)^atexit ran in (\d+)$", rie.output)}, pids)
    expect([pid for pid in started if alive(pid)], [])


def streams_of_workers(report: Report, place: Namespace) -> None:
    """In this mode the emulator tells its caller what a stream was, and understands its trailers."""
    with ManagedRie(place, STREAMS) as rie:
        for name, kind, body in (
            ("plain", "application/octet-stream", "one ä"),
            (
                "prelude",
                "application/vnd.awslambda.http-integration-response",
                '{"statusCode": 200, "headers": {"x-a": "b"}, "cookies": []}' + "\0" * 8 + "body",
            ),
        ):
            with report.check(f"modes, workers: {name} stream"):
                answered = rie.send(name)
                mode = answered.headers["lambda-runtime-function-response-mode"]
                expect((answered.status, mode, answered.headers["content-type"]), (200, "streaming", kind))
                expect(answered.body.decode(), body)
        with report.check("modes, workers: the emulator finds the error in the trailers of a stream"):
            answered = rie.send("fails")
            failure = json.loads(answered.body)
            expect((answered.status, answered.headers["error-type"]), (200, "Function.ValueError"))
            expect((failure["errorType"], failure["errorMessage"]), ("ValueError", "ä"))
