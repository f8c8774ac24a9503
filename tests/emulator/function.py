# SPDX-License-Identifier: MIT-0
"""A Lambda function on this machine: its environments, and one invocation after the other.

    with Emulator("tests/examples/hello", "app.handler", timeout=3) as function:
        result = function.invoke({"name": "Ada"})
        result.payload, result.error, result.duration_ms, function.log, function.requests

`Emulator.invoke` borrows an environment that is idle, or starts one, or waits; tells its story in the log, as Lambda
does; and gives it back. `Emulator._free` guards the list of them.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import suppress
from typing import Callable

from emulator import DEADLINE, HTTP_INTEGRATION, SEPARATOR, Request, Result, Sandbox, exit_reason

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GRACE, GRACE_OF_EXTENSIONS = 0.3, 0.5  # seconds between SIGTERM and SIGKILL
DAY = 86400.0  # seconds
TENANT = "Lambda-Runtime-Aws-Tenant-Id"


class EmulatorError(Exception):
    """The function cannot be started at all. Its text is one line that says why."""


class Emulator:
    """A Lambda function on this machine. To be used in a `with` statement, as it owns processes.

    `timeout` and `init_timeout` are in seconds, `memory` in MB: a process that takes more is killed (where there is a
    /proc to tell). `bootstrap` is an executable, or a command line. `env` goes on top of Lambda's sandbox; None
    takes a variable away. `layers` are folders, each as a layer is unpacked over /opt. `show` is called with all logs
    as they come, as bytes. `requests` are all that the runtime made, in the order in which they came.

    `concurrency` is how many processes there may be. One that had nothing to do for `idle` seconds is ended. `watch`:
    a change of a file makes all of them stale. `debug` leaves standard input to the function and turns the clock off.
    Without `record`, logs and requests are not kept.
    """

    def __init__(
        self, task_root: str, handler: str, *, timeout: float = 3, memory: int = 128, init_timeout: float = 10,
        env: Mapping[str, str | None] | None = None, bootstrap: str | Sequence[str] = os.path.join(REPO, "bootstrap"),
        layers: Sequence[str] = (), show: Callable[[bytes], object] | None = None, concurrency: int = 1,
        idle: float = math.inf, watch: bool = False, debug: bool = False, record: bool = True,
    ) -> None:  # fmt: skip
        self.task_root, self.handler = os.path.abspath(task_root), handler
        self.timeout, self.init_timeout = (DAY, DAY) if debug else (timeout, init_timeout)
        self.memory, self.concurrency, self.idle, self.debug = memory, concurrency, idle, debug
        self.env, self.layers = dict(env or {}), [os.path.abspath(layer) for layer in layers]
        self.command = [os.path.abspath(bootstrap)] if isinstance(bootstrap, str) else list(bootstrap)
        self.name = re.sub(r"[^\w-]", "-", os.path.basename(self.task_root), flags=re.ASCII)[:64] or "function"
        self.region = self.env.get("AWS_REGION") or "us-east-1"
        self.arn = f"arn:aws:lambda:{self.region}:123456789012:function:{self.name}"
        self.at_once = 1  # invocations in one process
        if "AWS_LAMBDA_MAX_CONCURRENCY" in self.env:
            number = self.env["AWS_LAMBDA_MAX_CONCURRENCY"] or ""
            if not re.fullmatch("[1-9][0-9]{0,3}", number):
                raise EmulatorError(f"AWS_LAMBDA_MAX_CONCURRENCY is not a number of invocations: {number!r}")
            self.at_once = int(number)
            self.env.setdefault("AWS_LAMBDA_LOG_FORMAT", "JSON")  # as it always is there
        self.requests: MutableSequence[Request] = deque(maxlen=None if record else 0)
        self._show, self._record, self._log, self._log_lock = show, record, bytearray(), threading.RLock()
        self._last: tuple[Environment | None, bool] = None, True  # who wrote last, and whether the line has ended
        self._free = threading.Condition()  # guards what follows
        self._environments: list[Environment] = []
        self._leaving: list[threading.Thread] = []  # that end one each
        self._latest: Environment | None = None
        self._closed = False
        self._watch = Watch([self.task_root, *self.layers]) if watch else None
        self._scratch: str | None = None

    def __enter__(self) -> Emulator:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        if self.idle < math.inf:
            threading.Thread(target=self._end_idle_ones, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes: SIGTERM, 300 ms (500 ms if there is an extension), SIGKILL.

        Lambda sends SIGTERM only if there is an extension. Here all may clean up, for the sake of coverage tools.
        """
        with self._free:
            self._closed = True
            for sandbox in list(self._environments):
                self._retire(sandbox)
            leaving = self._leaving
            self._free.notify_all()
        for thread in leaving:
            thread.join()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def log(self) -> str:
        """All that the function wrote up to now, with the lines that Lambda adds."""
        if self._latest:
            self._latest.drain()
        with self._log_lock:
            return self._log.decode("utf-8", "replace")

    @property
    def pid(self) -> int | None:
        """The latest process of the runtime, or None when it is gone."""
        return self._latest.pid if self._latest and self._latest.exit_status is None else None

    @property
    def exit_status(self) -> int | None:
        """How the latest process ended (-9 for SIGKILL), or None while it runs."""
        return self._latest.exit_status if self._latest else None

    def invoke(
        self, event: object = b"{}", *, client_context: object = None, headers: Mapping[str, str | None] | None = None,
        on_chunk: Callable[[Result, bytes], object] | None = None, request_id: str = "",
    ) -> Result:  # fmt: skip
        """Run the function on one event (bytes go as they are, anything else as JSON) and wait until that is over.

        `headers` replace those that come with an event, or take them away (None). `on_chunk(result, data)` is called as
        a stream arrives; `data` is of the body and not kept, a prelude is in `result.prelude`. If it raises, we hang up
        on the runtime as emulators do when their caller has, and `invoke` raises the same in the end.
        """
        result = Result(request_id or str(uuid.uuid4()), on_chunk=on_chunk)
        sandbox = self._borrow((headers or {}).get(TENANT) or "")
        try:
            with self._log_lock:
                result.written, sandbox.unread = sandbox.unread, bytearray()
                sandbox.working.append(result)
            with sandbox.initialising:
                first, sandbox.used = not sandbox.used, True
                ending = self._init(sandbox, result) if first else ""
            self._say(
                sandbox, f"START RequestId: {result.request_id} Version: $LATEST",
                "start", {"requestId": result.request_id, "version": "$LATEST"},
            )  # fmt: skip
            if not ending:
                data = event if isinstance(event, bytes) else json.dumps(event).encode()
                ending = self._work(sandbox, result, data, client_context, headers or {})
            result.init_ms = sandbox.init_ms if first else None
            self._report(sandbox, result, ending)
        finally:
            self._give_back(sandbox, result)
        if result.broken:
            raise result.broken
        return result

    def note(self, text: str) -> None:
        """Log what the emulator itself has to say."""
        self.write(None, f"emulator: {text}\n".encode())

    # Environments: started for an event, used for one event after the other, ended.

    def _borrow(self, tenant: str) -> Environment:
        """An environment for one event: the latest that has room, or a new one, or one that has to be waited for."""
        with self._free:
            while True:
                if self._closed:
                    raise EmulatorError("the function has been ended")
                self._look_for_changes()
                for sandbox in [one for one in self._environments if one.has_ended() and not one.in_work]:
                    self._retire(sandbox)
                present = [sandbox for sandbox in self._environments if not sandbox.stale]
                fitting = [sandbox for sandbox in present if sandbox.in_work < self.at_once and sandbox.suits(tenant)]
                idle = [sandbox for sandbox in present if not sandbox.in_work]
                if fitting:
                    sandbox = fitting[-1]
                elif len(present) < self.concurrency:
                    sandbox = self._start()
                elif idle:
                    self._retire(idle[0])
                    continue
                else:
                    self._free.wait()
                    continue
                sandbox.in_work, sandbox.tenant = sandbox.in_work + 1, tenant
                return sandbox

    def _give_back(self, sandbox: Environment, result: Result) -> None:
        with self._log_lock, suppress(ValueError):
            sandbox.working.remove(result)
        with self._free:
            sandbox.in_work -= 1
            sandbox.idle_since = time.monotonic()
            if sandbox.stale and not sandbox.in_work:
                self._retire(sandbox)
            self._free.notify_all()

    def _start(self) -> Environment:
        if not os.path.isdir(self.task_root):
            raise EmulatorError(f"the task root is not a folder: {self.task_root}")
        try:
            self._latest = Environment(self)
        except OSError as error:
            raise EmulatorError(f"cannot start {self.command[0]}: {error.strerror}") from None
        self._environments.append(self._latest)
        return self._latest

    def _retire(self, sandbox: Environment) -> None:
        """End an environment, while others go on."""
        if sandbox in self._environments:
            self._environments.remove(sandbox)
            grace = GRACE_OF_EXTENSIONS if sandbox.extensions else GRACE
            thread = threading.Thread(target=sandbox.stop, args=(grace,))
            thread.start()
            self._leaving = [one for one in self._leaving if one.is_alive()] + [thread]

    def _end_idle_ones(self) -> None:
        with self._free:
            while not self._closed:
                idle = [sandbox for sandbox in self._environments if not sandbox.in_work]
                left = min((sandbox.idle_since + self.idle - time.monotonic() for sandbox in idle), default=None)
                if left is None or left > 0:
                    self._free.wait(left)
                else:
                    self._retire(min(idle, key=lambda sandbox: sandbox.idle_since))

    def _look_for_changes(self) -> None:
        name = self._watch.changed() if self._watch else ""
        if name:
            self.note(f"{name} has changed: a fresh environment from here on")
            for sandbox in list(self._environments):
                sandbox.stale = True
                if not sandbox.in_work:
                    self._retire(sandbox)

    # One event. An ending is what REPORT says of a failure.

    def _init(self, sandbox: Environment, result: Result) -> str:
        """Wait until the runtime asks for its first event."""
        until = sandbox.started + self.init_timeout
        why = sandbox.wait(lambda: sandbox.is_ready() or sandbox.init_error is not None, until)
        if not why and not sandbox.init_error:
            if sandbox.restore_ms is not None:
                self._say(
                    sandbox, f"RESTORE_REPORT Restore Duration: {sandbox.restore_ms:.2f} ms",
                    "restoreReport", {"metrics": {"durationMs": round(sandbox.restore_ms, 2)}},
                )  # fmt: skip
            return ""
        if sandbox.init_error:
            sandbox.wait(lambda: False, until)  # it has something to log, perhaps, before it exits
            sandbox.stop()
            result.fail(*sandbox.init_error)
            ending = f"\tStatus: error\tError Type: {result.error}"
        else:
            ending = self._end(sandbox, result, why, f"Init timed out after {self.init_timeout:.2f} seconds")
        sandbox.init_ms = (time.monotonic() - sandbox.started) * 1000
        metrics = {"durationMs": round(sandbox.init_ms, 2)}
        self._say(
            sandbox, f"INIT_REPORT Init Duration: {sandbox.init_ms:.2f} ms\tPhase: init{ending}",
            "initReport", {"phase": "init", **self._status(result, ending), "metrics": metrics},
        )  # fmt: skip
        return ending

    def _work(
        self, sandbox: Environment, result: Result, event: bytes, client_context: object,
        headers: Mapping[str, str | None],
    ) -> str:  # fmt: skip
        """Hand out the event, and wait until the invocation is over."""
        began = time.monotonic()
        with sandbox.changed:
            why = sandbox.wait(lambda: sandbox.waiting_slot() is not None, began + self.timeout)
            slot = sandbox.waiting_slot()
            if slot:
                began = time.monotonic()
                sandbox.hand_out(slot, result, event, self._headers(result.request_id, client_context, headers))
                why = sandbox.wait(lambda: sandbox.is_over(slot), began + self.timeout)
                if not why and sandbox.many:
                    sandbox.slots.remove(slot)
        result.duration_ms = (time.monotonic() - began) * 1000
        if why == "exit":
            sandbox.stop()  # takes what it sent before
        if why and slot:
            sandbox.step(slot, DEADLINE)
        sandbox.memory_kib()
        sandbox.drain()
        return self._end(sandbox, result, why, f"Task timed out after {self.timeout:.2f} seconds") if why else ""

    def _end(self, sandbox: Environment, result: Result, why: str, overtime: str) -> str:
        """Note why an invocation failed, and end the process, but for the sake of others that it has in work."""
        if why != "time" or not sandbox.many:
            sandbox.stop()
        if why == "time":
            message, ending = result.crash("Sandbox.Timedout", overtime), "timeout"
        elif sandbox.init_error:
            result.fail(*sandbox.init_error)
            return f"\tStatus: error\tError Type: {result.error}"
        else:
            error = "Runtime.OutOfMemory" if why == "memory" else "Runtime.ExitError"
            message, ending = result.crash(error, exit_reason(sandbox.exit_status or 0)), f"error\tError Type: {error}"
        self._say(sandbox, message)
        return f"\tStatus: {ending}"

    def _report(self, sandbox: Environment, result: Result, ending: str) -> None:
        if result.streamed:
            if result.truncated:  # said last, because a process that ends cuts its stream, too
                result.crash("Emulator.InvalidStream", result.truncated)
            result.payload = b"".join(chunk for _, chunk in result.chunks)
            if result.content_type == HTTP_INTEGRATION:
                result.payload = result.payload.partition(SEPARATOR)[2]
        result.memory_mb = math.ceil(sandbox.peak_kib / 1024)
        start = "Restore" if sandbox.restore_ms is not None else "Init"
        start_ms = sandbox.restore_ms if sandbox.restore_ms is not None else result.init_ms
        began = f"\t{start} Duration: {start_ms:.2f} ms" if result.init_ms is not None else ""
        billed = math.ceil(result.duration_ms + ((start_ms or 0) if began else 0))  # with init, as since August 2025
        if not self._json():
            self._say(sandbox, f"END RequestId: {result.request_id}")
        metrics = {
            "durationMs": round(result.duration_ms, 2), "billedDurationMs": billed, "memorySizeMB": self.memory,
            "maxMemoryUsedMB": result.memory_mb,
        }  # fmt: skip
        if began:
            metrics[f"{start.lower()}DurationMs"] = round(start_ms or 0, 2)
        self._say(
            sandbox, f"REPORT RequestId: {result.request_id}\tDuration: {result.duration_ms:.2f} ms"
            f"\tBilled Duration: {billed} ms\tMemory Size: {self.memory} MB"
            f"\tMax Memory Used: {result.memory_mb} MB{began}{ending}",
            "report", {"requestId": result.request_id, "metrics": metrics, **self._status(result, ending)},
        )  # fmt: skip
        with self._log_lock:
            result.log = result.written.decode("utf-8", "replace")

    # What the function sees, and what it says.

    def variables(self) -> dict[str, str]:
        """https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
        env = {
            "PATH": path(self._python_folder(), *self._in_layers("bin"), os.environ.get("PATH", os.defpath)),
            "LD_LIBRARY_PATH": path(*self._in_layers("lib"), os.environ.get("LD_LIBRARY_PATH")),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONDONTWRITEBYTECODE": "1",  # there is nowhere to write to: the code's folder is read-only
            "LAMBDA_TASK_ROOT": self.task_root,
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "_HANDLER": self.handler,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": time.strftime("%Y/%m/%d/[$LATEST]", time.gmtime()) + uuid.uuid4().hex,
            **self.env,
        }
        # Only root may put a layer where it belongs. This is the next best place: behind the task root, and before the
        # interpreter's own folders.
        env["PYTHONPATH"] = path(*self._packages(), env.get("PYTHONPATH"))
        return {name: value for name, value in env.items() if value is not None}

    def _in_layers(self, name: str) -> list[str]:
        """The folders of that name in the layers; of several layers the last one counts most."""
        folders = [os.path.join(layer, name) for layer in reversed(self.layers)]
        return [folder for folder in folders if os.path.isdir(folder)]

    def _packages(self) -> Iterator[str]:
        """Where the layers have their modules: in `python`; a layer without it is a folder of modules itself."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        for layer in reversed(self.layers):
            python = os.path.join(layer, "python")
            python = python if os.path.isdir(python) else layer
            site = os.path.join(python, "lib", version, "site-packages")
            yield from [site, python] if os.path.isdir(site) else [python]

    def _python_folder(self) -> str:
        """A folder in which `python3` is the interpreter that runs us."""
        folder = os.path.dirname(sys.executable)
        with suppress(OSError):
            if os.path.samefile(os.path.join(folder, "python3"), sys.executable):
                return folder
        if self._scratch is None:
            self._scratch = tempfile.mkdtemp()
            os.symlink(sys.executable, os.path.join(self._scratch, "python3"))
        return self._scratch

    def _headers(self, request_id: str, client_context: object, changes: Mapping[str, str | None]) -> dict[str, str]:
        """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-next"""
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.timeout) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.arn,
            "Lambda-Runtime-Trace-Id": new_trace(),
            "Lambda-Runtime-Invocation-Id": str(uuid.uuid4()),
            "Lambda-Runtime-Client-Context": None if client_context is None else json.dumps(client_context),
            **changes,
        }
        return {name: value for name, value in headers.items() if value is not None}

    def _json(self) -> bool:
        """Whether what Lambda says goes to the log as JSON, too."""
        return self.env.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"

    def _status(self, result: Result, ending: str) -> dict[str, str]:
        """The same as an ending, for logs in JSON."""
        status = "timeout" if "timeout" in ending else "error" if result.error else "success"
        return {"status": status, **({"errorType": result.error} if result.error else {})}

    def write(self, sandbox: Environment | None, data: bytes) -> None:
        """Log what a process wrote, or what we have to say ourselves (None)."""
        with self._log_lock:
            if sandbox and not sandbox.working:
                sandbox.unread += data
            for result in sandbox.working if sandbox else []:
                result.written += data
            last, ended = self._last
            if last is not sandbox and not ended:  # lines of two processes must not be mixed
                data = b"\n" + data
            self._last = sandbox, data.endswith(b"\n")
            if self._record:
                self._log += data
            if self._show:
                with suppress(OSError, ValueError):  # a terminal that is gone is no reason to stop
                    self._show(data)

    def _say(self, sandbox: Environment, text: str, kind: str = "", record: Mapping[str, object] | None = None) -> None:
        """Log what Lambda says of an environment, on a line of its own; as a record if logs are JSON."""
        if self._json() and kind:
            moment = time.time()
            utc = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03}Z"
            text = json.dumps({"time": utc, "type": f"platform.{kind}", "record": record})
        with self._log_lock:
            line_end = "" if self._last[1] else "\n"
            self.write(sandbox, f"{line_end}{text}\n".encode())


def new_trace() -> str:
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=0"


def path(*folders: str | None) -> str | None:
    return os.pathsep.join(folder for folder in folders if folder) or None


class Environment(Sandbox):
    """A sandbox, and what has become of it. `Emulator._free` guards this."""

    def __init__(self, function: Emulator) -> None:
        self.initialising = threading.Lock()  # on Managed Instances several events may come meanwhile
        self.used = False
        self.stale = False  # its code has changed
        self.in_work = 0  # invocations
        self.idle_since = time.monotonic()
        self.tenant = ""
        self.working: list[Result] = []  # those that its output belongs to ...
        self.unread = bytearray()  # ... or to the next one
        super().__init__(
            function.command, function.variables(), function.task_root, memory=function.memory,
            stdin=None if function.debug else subprocess.DEVNULL, requests=function.requests,
            log=lambda data: function.write(self, data),
        )  # fmt: skip

    def has_ended(self) -> bool:
        """Whether it is of no use any more; one whose init has failed has yet to tell somebody why."""
        return self.exit_status is not None and self.init_ms is not None

    def suits(self, tenant: str) -> bool:
        """What was used for one tenant is never used for another."""
        return not self.has_ended() and (self.tenant == tenant or not (self.used or self.in_work))


class Watch:
    """Tells of changed files. It takes a third of the time at most: large folders are not looked at for each event."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders, self._next = list(folders), 0.0
        self._seen = self._look()

    def changed(self) -> str:
        """The name of a file that has changed since we asked the last time, or ""."""
        if time.monotonic() < self._next:
            return ""
        before, self._seen = self._seen, self._look()
        return min((name for name, _ in before.items() ^ self._seen.items()), default="")

    def _look(self) -> dict[str, tuple[int, int]]:
        """When each file was written, and its size. Bytecode, editors' and tools' own files do not count."""
        began, seen = time.thread_time(), {}
        for top in self._folders:
            for folder, folders, names in os.walk(top):
                folders[:] = [name for name in folders if name[0] != "." and name != "__pycache__"]
                for name in names:
                    with suppress(OSError):
                        if name[0] != "." and not name.endswith(("~", ".pyc")):
                            file = os.path.join(folder, name)
                            status = os.stat(file)
                            seen[os.path.relpath(file, top)] = status.st_mtime_ns, status.st_size
        self._next = time.monotonic() + 2 * (time.thread_time() - began)
        return seen
