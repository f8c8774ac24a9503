# SPDX-License-Identifier: MIT-0
"""Lies to the runtime, at random, and looks whether it keeps its promises: make fuzz SEED=1 STEPS=200000

A step is one event, and one hostile answer of the API to something that the runtime asks on its account: to `next`,
or to the response, stream or error that it posts. Half of the answers are *tame*: as odd as HTTP/1 allows, but complete
and true, so that it is known what has to happen. The others are *wild*: cut, flipped, spliced, contradictory.

Whatever was answered, a canary behind it has to come back as if nothing had been, and these hold at every moment:

*   no hang: nobody waits for more than a complete answer, and nobody waits at all when the connection has been closed;
*   no busy loop: who waits needs no processor;
*   no answer goes to an id that was not sent, none is sent twice unless the first one may have been lost, then once;
*   headers of a request are the runtime's own, no matter what came in;
*   who gives up says so: status 1, one line, never a traceback; and only if the API did say something that bad.

Each step depends on nothing but the seed and its number, so that one that fails can be run alone. Many steps share a
process, a new one is started when it gave up, and the one after that already waits.
"""

from __future__ import annotations

import argparse
import json
import os
import py_compile
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

RUNTIME = Path(__file__).resolve().parents[2] / "runtime.py"

HANDLER = """
import json

def handler(event, context):
    kind = event["kind"]
    if kind == "error": raise ValueError(context.aws_request_id)
    result = {"id": context.aws_request_id, "kind": kind, "more": "x" * event.get("size", 0)}
    return stream(result) if kind == "stream" else result

def stream(result):
    text = json.dumps(result)
    step = len(text) // 10 + 1
    for start in range(0, len(text), step): yield text[start : start + step]
"""

HANGS_AFTER = 20.0  # seconds without any sign of life, after all that it might wait for has been taken from it
NUDGE = 0.01  # who has waited for so long may wait for more of an answer: the connection is closed

# ------------------------------------------------------------------------------------------------------ the other side


@dataclass(eq=False)
class Request:
    """One request, complete or not yet."""

    wire: Wire
    method: str
    path: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    answered: bool = False

    @property
    def endpoint(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def request_id(self) -> bytes:
        return unquote_to_bytes(self.path.split("/")[-2])


class Wire:
    """A connection. `receive` gives each request when its head is there, and again when it is complete."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._parser = self._parse()
        self._buffer = b""
        self._seen: list[Request] = []
        next(self._parser)

    def fileno(self) -> int:
        return self.sock.fileno()

    def receive(self) -> list[Request]:
        """What has become of requests since the last call. Raises OSError when there will be no more."""
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionResetError
        self._buffer += data
        next(self._parser)
        seen, self._seen = self._seen, []
        return list(dict.fromkeys(seen))

    def _parse(self) -> Iterator[None]:
        """The runtime sends strict HTTP, so this knows no other."""

        def until(mark: bytes) -> Iterator[None]:
            while mark not in self._buffer:
                yield

        def take(size: int) -> bytes:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data

        while True:
            yield from until(b"\r\n\r\n")
            head = take(self._buffer.index(b"\r\n\r\n") + 4).decode("utf-8", "surrogateescape")
            first, *lines = head[:-4].split("\r\n")
            method, path, _ = first.split(" ")
            pairs = [line.split(": ", 1) for line in lines]
            request = Request(self, method, path, {name.lower(): value for name, value in pairs})
            self._seen.append(request)
            left = int(request.headers.get("content-length", "0"))
            chunked = "transfer-encoding" in request.headers
            while left or chunked:
                if chunked:
                    yield from until(b"\r\n")
                    left = int(take(self._buffer.index(b"\r\n") + 2), 16)
                    if not left:
                        break
                while left:
                    if not self._buffer:
                        yield
                    data = take(left)
                    request.body += data
                    left -= len(data)
                if chunked:
                    yield from until(b"\r\n")
                    assert take(2) == b"\r\n"
            while chunked:  # trailers
                yield from until(b"\r\n")
                chunked = take(self._buffer.index(b"\r\n") + 2) != b"\r\n"
            request.complete = True
            self._seen.append(request)

    def send(self, data: bytes) -> None:
        with suppress(OSError):  # the runtime may well have hung up
            self.sock.sendall(data)

    def close(self, reset: bool = False) -> None:
        with suppress(OSError):
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.sock.shutdown(socket.SHUT_WR)
        self.sock.close()


class Fault(Exception):
    """A promise is broken."""


class Ended(Exception):
    """The runtime gave up."""


class Peer:
    """A runtime, and a Runtime API for it alone."""

    def __init__(self, folder: str, pyc: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.wires: list[Wire] = []
        self._stdout, self._stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self._gone, other_end = os.pipe()  # readable when the process has ended
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.port}",
            "LAMBDA_TASK_ROOT": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, pyc, "fuzzed.handler"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            pass_fds=[other_end],
        )
        os.close(other_end)
        self._requests = self._receive()

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        self.process.kill()
        self.process.wait()
        self.listener.close()
        self._stdout.close()
        self._stderr.close()
        os.close(self._gone)

    @property
    def stdout(self) -> str:
        return self._read(self._stdout.fileno())

    @property
    def stderr(self) -> str:
        return self._read(self._stderr.fileno())

    def _read(self, descriptor: int) -> str:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "backslashreplace")

    def __iter__(self) -> Iterator[Request]:
        return self._requests

    def _receive(self) -> Iterator[Request]:
        """What the runtime requests, as it goes. Raises Ended or Fault."""
        while True:
            for source in self.wait():
                if source == self._gone:
                    raise Ended
                if source is self.listener:
                    sock, _ = self.listener.accept()
                    self.wires.append(Wire(sock))
                elif source in self.wires:  # not closed meanwhile
                    try:
                        yield from source.receive()
                    except OSError:
                        self.drop(source)

    patient = False  # whether it may wait for more of an answer: if it does, then that connection is closed

    def wait(self) -> list[int | socket.socket | Wire]:
        """What can be read from. Makes sure that who waits neither spins nor waits in vain."""
        sources: list[int | socket.socket | Wire] = [self._gone, self.listener, *self.wires]
        ready = select.select(sources, (), (), NUDGE)[0]
        if ready:
            return ready
        spinning, deadline = 0, time.monotonic() + HANGS_AFTER
        while not ready:
            used = self.processor_time()
            ready = select.select(sources, (), (), NUDGE)[0]
            spinning = spinning + 1 if self.processor_time() - used > 0.8 * NUDGE else 0
            if spinning > 100:  # for so long that it cannot be work
                raise Fault("it spins")
            if self.patient and not spinning and not ready:
                for wire in [*self.wires]:
                    self.drop(wire)
                sources = [self._gone, self.listener]
            if time.monotonic() > deadline:
                raise Fault("it hangs")
        return ready

    def processor_time(self) -> float:
        """Seconds of processor time until now."""
        with open(f"/proc/{self.process.pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    def drop(self, wire: Wire, reset: bool = False) -> None:
        wire.close(reset)
        self.wires.remove(wire)


# --------------------------------------------------------------------------------------------------------- the answers

ODD = [
    "", " ", "\t", "x" * 3000, "\x7f", "a\rb", "größe", "\udcff\udcfe", "%0d%0a", "../../x", "{}", "[]", "null",
    '"', "-1", "0", "1e9", "9" * 40, "9" * 5000, "0x10", "1_0", "+5", "\uff11", "chunked", "close", "keep-alive", ",",
    ";", ":", "5, 5",
]  # fmt: skip
STATUSES = [
    "200", "201", "202", "204", "206", "304", "302", "400", "403", "404", "408", "410", "413", "429", "499",
    "0", "1", "99", "100", "101", "199", "500", "503", "599", "600", "999", "2000", "-200", "+200", "2 00", "", "x",
]  # fmt: skip
INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\nX: y\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
]
NAMES = ("deadline-ms", "invoked-function-arn", "trace-id", "aws-tenant-id", "invocation-id")
FATAL = re.compile(rb"HTTP/1\.\S*\s+([5-9]\d\d\b|\d{4})")


@dataclass
class Step:
    """One hostile answer. `pieces` are sent one by one, then the connection is closed, reset or kept."""

    number: int
    target: str  # next, or how the handler answers: result, error, stream
    request_id: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    end: str = "keep"
    early: bool = False  # it comes as soon as the head of the request is there
    pause: float = 0.0  # between pieces
    status: int = 0  # of a tame answer
    tame: bool = True
    again: int = 202  # what a second try gets
    size: int = 0  # what the result has of padding

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def event(self) -> bytes:
        return json.dumps({"kind": self.target if self.target != "next" else "result", "size": self.size}).encode()


class Maker:
    """Makes steps."""

    def __init__(self, seed: str, number: int) -> None:
        self.random = random.Random(f"{seed}/{number}")  # a text is hashed: neighbours have nothing in common
        self.step = Step(number, self.random.choice(["next", "next", "result", "error", "stream"]))

    def maybe(self, percent: float) -> bool:
        return self.random.random() * 100 < percent

    def make(self) -> Step:
        step, choice = self.step, self.random.choice
        step.request_id = self.make_id()
        step.size = choice([0, 0, 0, 100, 5000, 70_000]) if not self.maybe(0.3) else 6_000_000
        step.again = choice([202, 400])
        step.early = self.maybe(10)
        answer = self.make_event() if step.target == "next" else self.make_reply()
        if self.maybe(50):
            step.tame = False
            for _ in range(self.random.randint(1, 4)):
                answer = self.mutate(answer)
            step.end = choice(["keep", "close", "close", "close", "close", "close", "reset", "reset"])
        step.pieces = self.split(answer)
        step.pause = 0.001 if self.maybe(3) else 0.0
        return step

    def make_id(self) -> bytes:
        number = f"step-{self.step.number}"
        if self.maybe(80):
            return number.encode()
        odd = "".join(self.random.choices("/.?#% ä€\0\t\udcff&=:;\\\"'<>{}", k=8))
        return f"{number}{odd}x".encode("utf-8", "surrogateescape")

    def make_event(self) -> bytes:
        """A well-formed event, in one of the forms there are."""
        headers = [(b"Lambda-Runtime-Aws-Request-Id", self.step.request_id)]
        headers += [
            (f"Lambda-Runtime-{name}".encode(), self.odd() if self.maybe(15) else b"12345")
            for name in NAMES
            if self.maybe(80)
        ]
        if self.maybe(80):
            headers.append((b"Content-Type", self.random.choice([b"application/json", b"application/JSON; x=y", b""])))
        if self.maybe(10):
            header = self.random.choice([b"Lambda-Runtime-Client-Context", b"Lambda-Runtime-Cognito-Identity"])
            headers.append((header, self.odd()))
        self.step.status = self.random.choice([200, 200, 200, 201, 202, 299])
        return self.message(headers, self.step.event)

    def make_reply(self) -> bytes:
        kind = self.random.random()
        if kind < 0.6:
            self.step.status = self.random.choice([200, 202, 202, 204, 299])
        elif kind < 0.993:
            self.step.status = self.random.choice([301, 304, 400, 403, 404, 408, 410, 413, 418, 429, 499])
        else:
            self.step.status = self.random.choice([500, 502, 503, 599])
        body = self.random.choice([b"", b"", b"{}", b'{"errorType": "No"}', b"a\r\nb\0\xff", b"x" * 70_000])
        return self.message([(b"Content-Type", b"application/json")], body)

    def odd(self) -> bytes:
        return self.random.choice(ODD).encode("utf-8", "surrogateescape")

    def message(self, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
        """Any of the forms that HTTP/1 has for this."""
        status, version = self.step.status, b"1.1"
        empty = status in (204, 304)
        if self.maybe(10):
            count = 3 if self.maybe(95) else 300
            headers += [(b"X-" + self.odd().replace(b":", b"").strip(), self.odd()) for _ in range(count)]
        if self.maybe(5):
            version = b"1.0"
        if self.maybe(8) or version == b"1.0":
            headers.append((b"Connection", b"close"))
            self.step.end = "close"
        framing = self.random.random()
        if empty:
            data = b""
            headers += self.random.choice([[], [(b"Content-Length", b"0")]])
        elif framing < 0.5 or version == b"1.0":
            headers.append((b"Content-Length", b"%d" % len(body)))
            data = body
        elif framing < 0.95:
            headers.append((b"Transfer-Encoding", b"chunked"))
            data = self.chunks(body)
        else:
            data = body
            self.step.end = "close"
        if self.maybe(30):
            self.random.shuffle(headers)
        lines = [self.header(name, value) for name, value in headers]
        reason = self.random.choice([b" OK", b"", b" ", b" Any Reason \xff"])
        head = b"\r\n".join([b"HTTP/%s %d%s" % (version, status, reason), *lines, b"", b""])
        interim = b"".join(self.random.choices(INTERIM, k=self.random.randint(1, 4))) if self.maybe(15) else b""
        return interim + head + data

    def header(self, name: bytes, value: bytes) -> bytes:
        if self.maybe(20):
            name = self.random.choice([name.upper(), name.lower(), name.swapcase()])
        if self.maybe(20):
            value = self.random.choice([b" ", b"\t", b"", b"  \t"]) + value + self.random.choice([b" ", b"\t"])
        else:
            value = b" " + value
        return name + b":" + value

    def chunks(self, body: bytes) -> bytes:
        data, end = b"", b"\r\n"
        while body:
            size = self.random.randint(1, max(1, len(body) // self.random.randint(1, 3)))
            extension = self.random.choice([b"", b"", b";a=b", b' ; c="d;e"', b" "])
            data += b"%s%x%s%s%s%s" % (self.random.choice([b"", b"000"]), size, extension, end, body[:size], end)
            body = body[size:]
        trailers = self.random.choice([b"", b"", b"X-Trailer: 1" + end])
        return data + self.random.choice([b"0", b"0000", b"0;x"]) + end + trailers + end

    def split(self, data: bytes) -> list[bytes]:
        cuts = sorted(self.random.choices(range(len(data) + 1), k=self.random.choice([0, 0, 0, 1, 2, 5])))
        if self.maybe(1):
            cuts = list(range(min(len(data), 300)))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)]) if start != end]

    def mutate(self, data: bytes) -> bytes:
        """One of the things that are done to an answer to make it wild."""
        pick = self.random.randrange
        size = len(data)
        start = pick(size + 1)
        end = min(size, start + pick(1, 60))
        kind = pick(10)
        if kind == 0:
            return data[:start]
        if kind == 1:
            return data[:start] + data[end:]
        if kind == 2:
            return data[:end] + data[start:]
        if kind == 3:
            flipped = bytearray(data)
            for _ in range(pick(1, 8) if data else 0):
                flipped[pick(size)] = pick(256)
            return bytes(flipped)
        if kind == 4:
            return data[:start] + self.odd() + data[end:]
        if kind == 5:
            other = pick(size + 1)
            return data[:start] + data[other : other + 60] + data[start:]
        if kind == 6:
            odd = b"HTTP/1.1 " + self.random.choice(STATUSES).encode()
            return re.sub(rb"HTTP/1.\d \d*", lambda _: odd, data, count=1)
        if kind == 7:
            return data + self.random.choice([b"\r\n", data, b"x" * 100, b"\0", INTERIM[0]])
        if kind == 8:
            return self.random.choice([b"\r\n", b"\n\n", b"\0", INTERIM[1], b"garbage\r\n"]) + data
        if self.maybe(5):  # on `next` that is the end, and a new process takes time
            return b"HTTP/1.1 200 OK\r\n\r\n"
        return self.random.choice([b"", b"\n", b"HTTP/1.1", bytes(300), self.random.randbytes(80)])


# ------------------------------------------------------------------------------------------------------------ the steps

KNOWN_HEADERS = {
    "host", "user-agent", "content-type", "content-length", "transfer-encoding", "trailer",
    "lambda-runtime-invocation-id", "lambda-runtime-function-response-mode", "lambda-runtime-function-error-type",
    "lambda-runtime-function-xray-error-cause",
}  # fmt: skip
PATH = re.compile(r"/2018-06-01/runtime/invocation/[\w%-]+/(response|error)")


def event(request_id: bytes, body: bytes) -> bytes:
    """An event as Lambda sends it."""
    lines = (
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Lambda-Runtime-Aws-Request-Id: " + request_id,
        b"Lambda-Runtime-Deadline-Ms: 9999999999999",
        b"Content-Length: %d" % len(body),
    )
    return b"\r\n".join([*lines, b"", body])


def reply(status: int) -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status


class Play:
    """One step against a runtime."""

    def __init__(self, peer: Peer, step: Step) -> None:
        self.peer, self.step = peer, step
        self.told: list[str] = []  # what happened, for whom it concerns
        self.posted: Counter[bytes] = Counter()
        self.hostile = True  # the answer is still to be given
        self.begun = False  # the first `next` is behind us
        self.canary = b""
        self.canaries = 0

    def run(self, waiting: Request | None) -> Request | None:
        """Returns the `next` that is waiting for the step behind this one. Raises Ended or Fault."""
        self.peer.patient = False
        if waiting and self.see(waiting):
            return waiting
        for request in self.peer:
            self.told.append(f"> {request.method} {request.path} {'complete' if request.complete else 'head'}")
            if self.see(request):
                return request
        raise AssertionError

    def see(self, request: Request) -> bool:
        """Answer a request, or look on; whether that was the end of the step."""
        if request.answered:
            return False
        # A wild answer may have left something in the connection that another one seems to begin with.
        self.peer.patient = not self.step.tame and not self.hostile
        if not request.complete:
            if self.step.early and self.hostile and self.step.target != "next" and request.method == "POST":
                self.check(request)
                self.strike(request)
            return False
        if request.method == "GET":
            if not request.path.endswith("/runtime/invocation/next"):
                raise Fault(f"a strange path: {request.path}")
            return self.see_next(request)
        self.check(request)
        if request.request_id == self.canary:
            self.check_canary(request)
        elif self.hostile and self.step.target != "next":
            self.strike(request)
        else:
            self.answer(request, reply(self.step.again if self.posted[request.request_id] > 1 else 202))
        return False

    def see_next(self, request: Request) -> bool:
        step = self.step
        if not self.begun:
            self.begun = True
            if step.target == "next":
                self.strike(request)
            else:
                self.answer(request, event(step.request_id, step.event))
            return False
        if self.canary and not self.canaries:
            return True
        if self.hostile:
            raise Fault("the event was not answered")
        if step.tame and (not self.posted if step.target == "next" else self.canary):
            raise Fault("an event was lost")
        if self.canaries > 4:
            raise Fault("no canary comes back")
        self.canaries += 1
        self.canary = b"canary-%d-%d" % (step.number, self.canaries)
        self.answer(request, event(self.canary, b'{"kind": "result"}'))
        return False

    def check(self, request: Request) -> None:
        """What must hold for whatever is posted."""
        if request.answered:
            return
        step, request_id = self.step, request.request_id
        if not PATH.fullmatch(request.path):
            raise Fault(f"a strange path: {request.path}")
        strange = set(request.headers) - KNOWN_HEADERS
        if strange:
            raise Fault(f"strange headers: {strange}")
        if request.complete or not self.posted[request_id]:
            self.posted[request_id] += 1
        known = request_id in (step.request_id, self.canary)
        if not known and (step.tame or re.sub(rb"\s", b"", request_id) not in re.sub(rb"\s", b"", step.data)):
            raise Fault(f"an id that was not sent: {request_id!r}")
        if self.posted[request_id] > (1 if step.tame or request_id == self.canary else 2):
            raise Fault("answered again")

    def check_canary(self, request: Request) -> None:
        if json.loads(request.body).get("id") != self.canary.decode():
            raise Fault(f"the canary is not itself: {bytes(request.body)!r}")
        self.canaries = 0
        if self.step.tame:
            self.answer(request, reply(202))
        else:  # what a wild answer has left in the connection is no concern of the next step
            self.answer(request, reply(202).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            self.peer.drop(request.wire)

    def strike(self, request: Request) -> None:
        """Give the hostile answer."""
        self.hostile = False
        step, wire = self.step, request.wire
        request.answered = True
        self.told.append(f"< {len(step.pieces)} hostile pieces, then {step.end}")
        for number, piece in enumerate(step.pieces):
            if number and step.pause:
                time.sleep(step.pause)
            wire.send(piece)
        if step.end != "keep":
            self.peer.drop(wire, reset=step.end == "reset")
        self.peer.patient = not step.tame

    def answer(self, request: Request, data: bytes) -> None:
        self.told.append(f"< {data[:60]!r}")
        request.answered = True
        request.wire.send(data)

    def may_end(self) -> bool:
        """Whether what was said is bad enough to give up."""
        step = self.step
        if step.tame:
            return step.status >= 500
        return step.target == "next" or bool(FATAL.search(step.data)) or step.data.count(b"HTTP/") > 1


class Fuzzer:
    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz ")
        folder = os.path.realpath(self._folder.name)
        Path(folder, "fuzzed.py").write_text(HANDLER)
        # Compiled once, as `bootstrap` would have it: that is most of a start.
        self._pyc = str(py_compile.compile(str(RUNTIME), os.path.join(folder, "runtime.pyc"), doraise=True))
        self._root = folder
        self._peers = [self._start(), self._start()]

    def _start(self) -> Peer:
        return Peer(self._root, self._pyc)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self._folder.cleanup()

    def run(self, first: int, steps: int) -> None:
        """Raises Fault, with all that is known about it."""
        waiting: Request | None = None
        for number in range(first, first + steps):
            step = Maker(self.seed, number).make()
            play = Play(self._peers[0], step)
            try:
                try:
                    waiting = play.run(waiting)
                except Ended:
                    waiting = None
                    self._bury(play)
                if number % 500 == 0 and self._peers[0].stderr:
                    raise Fault("it says something, and lives on")
            except (Fault, AssertionError, ValueError) as fault:
                raise Fault(self._describe(fault, step, play)) from None
            self.counts["tame" if step.tame else "wild"] += 1
        self._finish(waiting)

    def _bury(self, play: Play) -> None:
        """It has given up: that has to be for a reason, and in style."""
        peer = self._peers[0]
        status = peer.process.wait()
        lines = peer.stderr.splitlines()
        if not play.may_end():
            raise Fault(f"it ended with status {status}, for no good reason")
        if status != 1 or len(lines) != 1 or not lines[0].startswith("runtime.py: "):
            raise Fault(f"it ended with status {status}, not with 1 and a line")
        self._check_log(peer)
        peer.close()
        self._peers = [*self._peers[1:], self._start()]
        self.counts["gave up"] += 1

    def _finish(self, waiting: Request | None) -> None:
        peer = self._peers[0]
        if not waiting:  # it has just been started, and could be too young for SIGTERM
            next(iter(peer))
        peer.process.send_signal(signal.SIGTERM)
        status = peer.process.wait(HANGS_AFTER)
        if status or peer.stderr:
            raise Fault(f"it ended with status {status} and {peer.stderr!r} when it was told to")
        self._check_log(peer)

    def _check_log(self, peer: Peer) -> None:
        if 'runtime.py", line' in peer.stdout:
            raise Fault("a traceback of ours in the log")

    def _describe(self, fault: Exception, step: Step, play: Play) -> str:
        command = f"make fuzz SEED={self.seed} FIRST={step.number} STEPS=1"
        peer = self._peers[0]
        lines = [
            f"seed {self.seed}, step {step.number}: {fault or type(fault).__name__}",
            f"    {step}"[:1000],
            *(f"    {line[:600]}" for line in play.told[-12:]),
            f"    status: {peer.process.poll()}",
            *(f"    stderr: {line}" for line in peer.stderr.splitlines()[:12]),
            *(f"    log: {line[:300]}" for line in peer.stdout.splitlines()[-2:]),
            f"That one alone: {command}; if it needs those before it: FIRST={max(0, step.number - 20)} STEPS=21",
        ]
        return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", default="1", help="what the steps are made from (default: 1)")
    parser.add_argument("--steps", type=int, default=20_000, help="how many (default: 20000)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one (default: 0)")
    given = parser.parse_args()
    fuzzer = Fuzzer(given.seed)
    began = time.monotonic()
    try:
        fuzzer.run(given.first, given.steps)
    except Fault as fault:
        print(fault)
        return 1
    finally:
        fuzzer.close()
    rate = given.steps / (time.monotonic() - began)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(fuzzer.counts.items()))
    print(f"seed {given.seed}: {given.steps} steps without a fault, {rate:.0f} a second ({counts})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
