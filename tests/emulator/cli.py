# SPDX-License-Identifier: MIT-0
"""The command line of the local Lambda, which `make invoke` and `make serve` call."""

from __future__ import annotations

import argparse
import glob
import json
import math
import os
import re
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from emulator import REPO, Emulator, EmulatorError, Prelude, Result
from serve import Server, no_number

IDLE = 300  # seconds after which an environment that nobody needs is ended
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def usage_error(message: str) -> NoReturn:
    print(f"emulator: {message}", file=sys.stderr)
    sys.exit(2)


class CommandLine(argparse.ArgumentParser):
    """A parser whose complaints are one line, too."""

    def error(self, message: str) -> NoReturn:
        usage_error(message)


def positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def natural(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise ValueError
    return int(text)


def port_number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError
    return int(text)


# ─── The function: where it is, its environment and its layers ──────────────────────────────────────────────


def find_file(name: str, task_root: str) -> str:
    """The path of a file that may lie in the task root, or ""."""
    with suppress(ValueError):  # a NUL in the name
        return next((path for path in (name, os.path.join(task_root, name)) if os.path.isfile(path)), "")
    return ""


def read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        usage_error(f"cannot read {path}: {error.strerror}")


def check_function(task_root: str, handler: str) -> None:
    """End with one line unless there is a file that the handler may be in."""
    if not os.path.isdir(task_root):
        usage_error(f"TASK_ROOT: there is no folder {task_root}")
    module, _, function = handler.rpartition(".")
    if not module or not function:
        usage_error(f"HANDLER: {handler!r} should read module.function")
    path = os.path.join(task_root, module.replace(".", "/"))
    if not os.path.isdir(path) and not glob.glob(glob.escape(path) + ".*"):
        usage_error(f"HANDLER: there is no {path}.py for {handler}")


ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][\w.-]*)(?:\s*=\s*(.*))?", re.DOTALL)
ENV_VALUE = re.compile(
    r"""'(?P<single>[^']*)'\s*(?:\#.*)? | "(?P<double>(?:[^"\\]|\\.)*)"\s*(?:\#.*)? | (?P<bare>[^'"].*)?""",
    re.VERBOSE | re.DOTALL,
)


def unescape(match: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r", "t": "\t"}.get(match[1], match[1])


def read_env(text: str, task_root: str) -> dict[str, str]:
    """The variables in a file of `NAME=value` lines, or in such a line itself.

    Lines may be empty, or comments. 'Single quotes' keep everything; in "double quotes" \\n and the like mean what
    they do elsewhere; without quotes, a comment may follow after a space. `NAME` alone hands on what we have ourselves.
    """
    path, variables = find_file(text, task_root), {}
    if not path and not re.match(r"\s*(export\s+)?[A-Za-z_][\w.-]*\s*=", text):
        usage_error(f"ENV: there is no file {text}, and it is not NAME=value")
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines() if path else [text]
    except ValueError as error:
        usage_error(f"ENV: {path} is not UTF-8: {error}")
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = ENV_LINE.fullmatch(line.strip())
        value = ENV_VALUE.fullmatch(match[2] or "") if match else None
        if not match or not value:
            usage_error(f"ENV: line {number} of {path} is not NAME=value: {line.strip()!r:.60}")
        if match[2] is None:
            if match[1] in os.environ:
                variables[match[1]] = os.environ[match[1]]
        elif value["double"] is not None:
            variables[match[1]] = re.sub(r"\\(.)", unescape, value["double"], flags=re.DOTALL)
        else:
            variables[match[1]] = value["single"] or re.sub(r"(^|\s+)#.*", "", value["bare"] or "")
    variables.pop("AWS_LAMBDA_RUNTIME_API", None)
    return variables


def make_function(arguments: argparse.Namespace, **options: object) -> Emulator:
    check_function(arguments.task_root, arguments.handler)
    layers = [layer for layer in arguments.layers.split(os.pathsep) if layer]
    for layer in layers:
        if not os.path.isdir(layer):
            usage_error(f"LAYERS: there is no folder {layer}")
    env = {name: value for name, value in os.environ.items() if re.match("AWS_(?!LAMBDA_RUNTIME_API$)", name)}
    if arguments.env:
        env.update(read_env(arguments.env, arguments.task_root))
    return Emulator(
        arguments.task_root, arguments.handler, timeout=arguments.timeout, memory=math.ceil(arguments.memory),
        bootstrap=arguments.bootstrap, layers=layers, env=env, show=show_log, debug=arguments.debug, **options,  # type: ignore[arg-type]
    )  # fmt: skip


COLOURS = (  # of lines in a terminal
    (re.compile(rb"^(?:START|END|REPORT|INIT_REPORT|RESTORE_REPORT|emulator:) ?.*$", re.MULTILINE), b"\x1b[2m"),
    (re.compile(rb"^\[ERROR\].*$", re.MULTILINE), b"\x1b[31m"),
    (re.compile(rb"^\[WARNING\].*$", re.MULTILINE), b"\x1b[33m"),
)


def show_log(data: bytes) -> None:
    """Copy logs to stderr. CR, which keeps the lines of a record together for Lambda, would garble a terminal."""
    data = data.replace(b"\r", b"\n")
    if os.isatty(2) and not os.environ.get("NO_COLOR"):
        for pattern, colour in COLOURS:
            data = pattern.sub(lambda found, colour=colour: colour + found[0] + b"\x1b[m", data)  # type: ignore[misc]
    while data:  # not by sys.stderr, whose lock a thread might hold for ever when we end
        data = data[os.write(2, data) :]


# ─── invoke ─────────────────────────────────────────────────────────────────────────────────────────────────


def read_event(text: str, task_root: str) -> bytes:
    """The event's bytes: `text` itself, or a file of that name, or standard input for `-`. Must be JSON."""
    path = find_file(text, task_root) if text != "-" else "standard input"
    data = text.encode("utf-8", "surrogateescape")
    if path:
        data = read_file(path) if text != "-" else sys.stdin.buffer.read()
    try:
        json.loads(data.decode("utf-8-sig"), parse_constant=no_number)
    except ValueError as error:
        if path:
            usage_error(f"{path} is not JSON: {error}")
        usage_error(f"EVENT is neither JSON nor a file: {text!r:.60} ({error})")
    return data


def read_events(text: str, task_root: str) -> list[bytes]:
    """All events of one or several files, each of which is one event, or has one on each line."""
    whole, events = find_file(text, task_root), []
    names = [whole] if whole else [name for word in text.split() for name in sorted(glob.glob(word)) or [word]]
    for name in names:
        path = find_file(name, task_root) if name != "-" else "standard input"
        if not path:
            usage_error(f"EVENTS: there is no file {name}")
        data = read_file(path) if name != "-" else sys.stdin.buffer.read()
        try:
            json.loads(data.decode("utf-8-sig"), parse_constant=no_number)
            events.append(data)
        except ValueError:
            for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
                try:
                    if line.strip():
                        json.loads(line.decode(), parse_constant=no_number)
                        events.append(line)
                except ValueError as error:
                    usage_error(f"EVENTS: line {number} of {path} is not JSON: {error}")
    return events


def invoke(arguments: argparse.Namespace) -> int:
    """Print the response to each event; 0, or 1 if the function failed.

    After JSON (if not streamed) comes a line end, for the shell's sake. Everything else is printed byte for byte.
    """
    told: list[Prelude] = []

    def show_chunk(result: Result, data: bytes) -> None:
        if result.prelude and not told:
            told.append(result.prelude)
            lines = [f"{name}: {value}" for name, value in result.prelude.headers.items()]
            lines += [f"{name}: {one}" for name, many in result.prelude.multi_value_headers.items() for one in many]
            lines += [f"set-cookie: {cookie}" for cookie in result.prelude.cookies]
            show_log("\n".join([f"HTTP {result.prelude.status}", *lines, ""]).encode())
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    with make_function(arguments) as function:
        failed = False
        if arguments.events:
            events = read_events(arguments.events, arguments.task_root)
        else:
            example = os.path.join(arguments.task_root, "event.json")
            text = arguments.event or (example if os.path.isfile(example) else "{}")
            events = [read_event(text, arguments.task_root)]
        for event in events:
            told.clear()
            result = function.invoke(event, on_chunk=show_chunk)
            if not result.streamed:
                is_json = result.error or result.content_type.startswith("application/json")
                show_chunk(result, result.payload + (b"\n" if is_json and not result.payload.endswith(b"\n") else b""))
            elif result.error:
                show_log(b"emulator: the stream failed: " + result.error_payload + b"\n")
            failed = failed or bool(result.error)
    return 1 if failed else 0


# ─── serve ──────────────────────────────────────────────────────────────────────────────────────────────────


def serve(arguments: argparse.Namespace) -> int:
    """Answer callers until a signal ends us."""
    concurrency = 1 if arguments.debug else arguments.concurrency
    function = make_function(arguments, concurrency=concurrency, idle=IDLE, watch=True, record=False)
    try:
        server = Server(function, arguments.port)
    except OSError as error:
        usage_error(f"PORT: cannot listen on 127.0.0.1:{arguments.port}: {error.strerror}")
    url = f"http://127.0.0.1:{server.port}"
    command = f"aws lambda invoke --endpoint-url {url} --region {function.region} --no-sign-request"
    print(
        f"{arguments.handler} of {arguments.task_root} listens on {url}/ until Ctrl-C. Open that in a browser, or:\n"
        f"  curl -N {url}/\n"
        f"  {command} --function-name {function.name} response.json\n",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    with server, function, suppress(SystemExit):
        server.serve_forever()
    return 0


def end_by_signal(number: int, _: object) -> NoReturn:
    for each in END_SIGNALS:  # a second Ctrl-C would leave processes behind
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    parser = CommandLine(prog="emulator", description="A local Lambda.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("invoke", help="run a function on one event, or on several, and print its responses")
    one.add_argument("--event", help="JSON, or a file with JSON, or - for stdin; default: event.json there, or {}")
    one.add_argument("--events", help="files with an event on each line, or one event each; - for stdin")
    one.set_defaults(run=invoke)
    many = commands.add_parser("serve", help="answer callers of Lambda's API and of a function URL")
    many.add_argument("--port", type=port_number, default=9000, help="on 127.0.0.1; 0 for any")
    many.add_argument("--concurrency", type=natural, default=10, help="processes that there may be")
    many.set_defaults(run=serve)
    for command in (one, many):
        command.add_argument("--task-root", required=True, help="the folder with the function's code")
        command.add_argument("--handler", required=True, help="module.function")
        command.add_argument("--timeout", type=positive, default=3, help="seconds")
        command.add_argument("--memory", type=positive, default=128, help="MB")
        command.add_argument("--env", default="", help="a file of NAME=value lines, or NAME=value")
        command.add_argument("--layers", default="", help=f"folders as they are unpacked over /opt, with {os.pathsep}")
        command.add_argument("--bootstrap", default=os.path.join(REPO, "bootstrap"), help="what to start")
        command.add_argument("--debug", action="store_true", help="stdin is the function's, and the clock is off")
    arguments = parser.parse_args()
    for number in END_SIGNALS:
        signal.signal(number, end_by_signal)
    try:
        return int(arguments.run(arguments))
    except EmulatorError as error:
        usage_error(str(error))
    except BrokenPipeError:  # nobody reads on; at its exit Python would try to flush once more, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
