#!/usr/bin/env python3
# SPDX-License-Identifier: MIT-0
"""Stands between a runtime and the Runtime API, and shows every byte that passes.

    make -s invoke TASK_ROOT=tests/tutorial HANDLER=app.hello BOOTSTRAP=tests/tutorial/wire.py ENV=RUNTIME=./step1.py

RUNTIME is the runtime to start, seen from the function's folder: ./step0.sh to ./step4.py, or ../../bootstrap. Lines
that begin with > are the runtime's, with < Lambda's. Control characters are shown as Python writes them.
"""

import os
import re
import socket
import subprocess
import sys
import threading


class Exchange:
    """What passes on one connection. Lines are shown at once, the rest when the other side begins to speak."""

    def __init__(self):
        self.mark, self.data, self.lock = "", b"", threading.Lock()

    def note(self, mark, data):
        with self.lock:
            if mark != self.mark:
                self.show(self.data)
                self.mark, self.data = mark, b""
            lines, end, self.data = (self.data + data).rpartition(b"\n")
            self.show(lines + end)

    def show(self, data):
        for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
            text = re.sub("[\0-\x1f]", lambda found: repr(found[0])[1:-1], line.decode("utf-8", "backslashreplace"))
            os.write(2, f"{self.mark} {text}\n".encode())


def pump(source, target, exchange, mark):
    try:
        while data := source.recv(65536):
            exchange.note(mark, data)  # before it goes on: what is shown is in order
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one of the two has hung up
    exchange.note("", b"")


def serve(listener, address):
    host, port = address.split(":")
    while True:
        runtime, _ = listener.accept()
        api, exchange = socket.create_connection((host, int(port))), Exchange()
        threading.Thread(target=pump, args=(runtime, api, exchange, ">"), daemon=True).start()
        threading.Thread(target=pump, args=(api, runtime, exchange, "<"), daemon=True).start()


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener, os.environ["AWS_LAMBDA_RUNTIME_API"]), daemon=True).start()
    env = {**os.environ, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{listener.getsockname()[1]}"}
    return subprocess.run([os.environ["RUNTIME"], *sys.argv[1:]], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
