# SPDX-License-Identifier: MIT-0
"""The stopwatch of bench.py where there is no C compiler; see bench_server.c, of which this is a translation.

It is slow enough itself to make all differences look smaller than they are.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

TOO_LONG = 300
EVENT = (
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: application/json\r\n"
    "Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-{number:012d}\r\n"
    "Lambda-Runtime-Deadline-Ms: {deadline}\r\n"
    "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:example\r\n"
    "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n"
    "Date: Mon, 23 Nov 2026 04:38:59 GMT\r\n"
    "Content-Length: {size}\r\n\r\n"
)
ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
    b'Date: Mon, 23 Nov 2026 04:38:59 GMT\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
)


class Incoming(socket.SocketIO):
    """A connection's receiving side, which knows when the last of it came."""

    arrived = 0

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(buffer)
        Incoming.arrived = time.monotonic_ns()
        return size


class Api:
    """One connection at a time; a new one when that has ended."""

    incoming: io.BufferedReader

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.sock: socket.socket | None = None
        self.lags: list[int] = []

    def request(self) -> tuple[bytes, dict[bytes, bytes]]:
        while True:
            line = self.incoming.readline() if self.sock else b""
            if line:
                break
            if self.sock:
                self.sock.close()
            self.sock = self.listener.accept()[0]
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.incoming = io.BufferedReader(Incoming(self.sock, "r"), 1 << 18)
        if b"/error " in line:
            raise SystemExit("bench_server: the function failed")
        headers = {}
        for header in iter(self.incoming.readline, b"\r\n"):
            name, _, value = header.partition(b":")
            headers[name.lower()] = value.strip()
        return line, headers

    def send(self, *pieces: bytes) -> None:
        assert self.sock
        for piece in pieces:
            self.sock.sendall(piece)

    def skip_body(self, headers: dict[bytes, bytes]) -> int:
        if headers.get(b"transfer-encoding") != b"chunked":
            return len(self.incoming.read(int(headers.get(b"content-length", 0))))
        total = 0
        while True:
            size = int(self.incoming.readline(), 16)
            if not size:
                break
            data = self.incoming.read(size + 2)
            if data[:1] == b"@":
                self.lags.append(Incoming.arrived - int(data[1:].split()[0]))
            total += size
        for _ in iter(self.incoming.readline, b"\r\n"):
            pass
        return total


def memory(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def serve(count: int, event: bytes, command: Sequence[str]) -> dict[str, object]:
    def ended(*_: object) -> NoReturn:
        raise SystemExit("bench_server: the runtime has ended, or takes too long")

    api = Api()
    signal.signal(signal.SIGALRM, ended)
    signal.alarm(TOO_LONG)
    start = time.monotonic_ns()
    child = subprocess.Popen(command, env={**os.environ, "AWS_LAMBDA_RUNTIME_API": api.address})
    signal.signal(signal.SIGCHLD, ended)
    clock = (~child.pid << 3) | 2  # as clock_getcpuclockid() has it
    turns, cpu, resident = [], [], []
    try:
        api.request()
        first_next = Incoming.arrived - start
        for number in range(count):
            head = EVENT.format(number=number, deadline=int(time.time() * 1000) + 60000, size=len(event)).encode()
            cpu_before, sent = time.clock_gettime_ns(clock), time.monotonic_ns()
            api.send(head + event)
            line, headers = api.request()
            if b"/response " not in line:
                raise SystemExit("bench_server: GET next without an answer to the event before")
            size = api.skip_body(headers)
            if not number:
                first_answer, answer_cpu = Incoming.arrived - start, time.clock_gettime_ns(clock)
            api.send(ACCEPTED)
            api.request()
            turns.append(Incoming.arrived - sent)
            cpu.append(time.clock_gettime_ns(clock) - cpu_before)
            if not number or number % 1000 == 999:
                resident.append(memory(child.pid, "VmRSS"))
        peak = memory(child.pid, "VmHWM")
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child.kill()
    return {
        "next": first_next, "answer": first_answer, "answer_cpu": answer_cpu, "size": size,
        "peak": peak, "resident": resident, "turns": turns, "cpu": cpu, "lags": api.lags,
    }  # fmt: skip


if __name__ == "__main__":
    seen = serve(int(sys.argv[2]), Path(sys.argv[3]).read_bytes(), sys.argv[4:])
    Path(sys.argv[1]).write_text(json.dumps(seen))
