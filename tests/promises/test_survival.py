# SPDX-License-Identifier: MIT-0
"""Two tables: what real servers and users' code do to the runtime, and what it does then.

A row of the first table, API, is what a server answers. The rows that the runtime survives share a few processes, one
behind the other; after each comes an ordinary event, the canary, which has to be answered as if nothing had been. So a
row says what the runtime has to have *sent* until then, in the words of `spell`, and how many warnings that cost. Rows
that end the runtime say so with a `status`, and get a process each.

A row of the second table, HANDLERS, is what a handler does. It has a process for itself; afterwards its connection is
gone, and there is a failure, a large result, a stream and an ordinary event to be served: all that the loop can do. The
rows of OBJECTS leave nothing behind, and share one process.

If one of those that share goes wrong, all are run alone, so that the guilty one is named. A fault that is found
in the runtime becomes a row here.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
import textwrap
import threading
import unittest
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable
from urllib.parse import unquote_to_bytes

from scripted_api import (
    CLOSE,
    READ,
    RESET,
    Answer,
    Child,
    Connection,
    Request,
    ScriptedApi,
    answer,
    drip,
    event,
    http,
    run,
)
from support import PYPY, RUNTIME, RuntimeTestCase, Served

# What the handler of all rows does with an event; any other string is code, for the rows of the other table.
APP = """
def handler(event, context):
    if event == "fail": raise ValueError("as told")
    if event == "large": return "x" * 8_000_000  # more than the buffers of a connection hold
    if event == "big": return "x" * 2_000_000  # more than can be sent at once
    if event == "stream": return stream()
    if event == "canary": print("-- the row ends --")
    if event == "context": return [context.get_remaining_time_in_millis(), context.invoked_function_arn]
    if not isinstance(event, str) or len(event) < 12: return event
    scope = {"context": context}
    exec(event, scope)
    if "error" in scope: raise scope["error"]
    return scope["result"] if "result" in scope else "fine"

def stream():
    for item in "abc":
        yield item
"""
END_OF_ROW = "-- the row ends --\n"


def ask(what: object = "echo", request_id: str = "1", headers: Any = ()) -> Answer:
    return event(json.dumps(what).encode(), headers, request_id=request_id)


def say(*steps: Any) -> Answer:
    """Reads the request; then these are the API's steps."""
    return [READ, *steps]


def content(an_answer: Answer) -> bytes:
    """The bytes of an answer that is made of one piece."""
    (piece,) = (step for step in an_answer if isinstance(step, bytes))
    return piece


class Api(ScriptedApi):
    """Knows the process that it serves, for the steps that need it."""

    child: Child | None = None

    def started(self, child: Child) -> None:
        self.child = child


def terminate(connection: Connection) -> None:
    """A step: the runtime gets SIGTERM."""
    assert isinstance(connection.api, Api)
    connection.api.wait(lambda: connection.api.child is not None)  # type: ignore[attr-defined]
    assert connection.api.child is not None
    connection.api.child.process.terminate()


def go_away(seconds: float) -> Callable[[Connection], None]:
    """A step: hang up, and refuse new connections for a while."""

    def step(connection: Connection) -> None:
        connection.api.refuse()
        threading.Timer(seconds, connection.api.listen).start()
        connection.close()

    return step


# --------------------------------------------------------------------------------------------------- the first table


@dataclass
class Row:
    """`next` and `answers` are what the API says, `sent` and the rest what becomes of it."""

    next: Sequence[Answer]
    sent: str = "next response/1"
    warnings: int = 0
    status: int | None = None  # the exit status; None: the runtime lives on
    words: str = ""  # in the one line that says why it ended
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    check: Callable[[list[Request]], None] = lambda requests: None
    more: dict[str, Any] = field(default_factory=dict)  # for `serve`


def spell(requests: Sequence[Request]) -> str:
    """`next response/1 error/2`: the endpoints in order, with the request id where there is one."""
    return " ".join(one.endpoint + (f"/{one.request_id}" if one.request_id else "") for one in requests)


def posts(name: str, *steps: Any, kinds: str = "echo fail stream", **expected: Any) -> dict[str, Row]:
    """A row for each kind of answer to an event; these are the API's steps once the head of the request is there."""
    rows = {}
    for kind in kinds.split():
        endpoint = "error" if kind == "fail" else "response"
        values = dict(expected)
        values["sent"] = values.get("sent", "next response/1").replace("response", endpoint)
        rows[f"{name} ({kind})"] = Row([ask(kind)], answers={endpoint: [list(steps)]}, **values)
    return rows


def events(name: str, *steps: Any, sent: str = "next response/1", **expected: Any) -> dict[str, Row]:
    """A row on an answer to `next`, of which these are the bytes; the request id in it is 1, the event "echo"."""
    return {name: Row([[READ, *steps]], sent, **expected)}


HEAD = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = HEAD + b'Content-Length: 6\r\n\r\n"echo"'
AGAIN = "next next response/1"  # the first answer was worth nothing: it was asked for again
ACCEPTED = http(202)


def lost(name: str, *steps: Any) -> dict[str, Row]:
    """A row on an answer to `next` that makes no sense; the one behind it does."""
    return {name: Row([[READ, *steps], ask()], AGAIN)}


def header(name: str, value: str | None) -> Answer:
    """An event that comes with this header, or without it."""
    return ask(headers={name: value})


def handed_over(*values: Any) -> Callable[[list[Request]], None]:
    """The results are these, in this order."""

    def check(requests: list[Request]) -> None:
        found = [json.loads(one.body) for one in requests if one.endpoint == "response"]
        if found != list(values):
            raise AssertionError(f"the results are {found}")

    return check


def remaining_time(requests: list[Request]) -> None:
    for one in requests:
        if one.endpoint == "response" and not 0 <= json.loads(one.body)[0] <= 10**40:
            raise AssertionError(f"a strange remaining time: {one}")


def only_known_headers(requests: list[Request]) -> None:
    """Nothing that came in one header has become another."""
    known = {"host", "user-agent", "content-type", "content-length", "lambda-runtime-invocation-id"}
    for one in requests:
        if set(one.headers) - known or b"\r" in bytes(one.raw).replace(b"\r\n", b""):
            raise AssertionError(f"injected: {bytes(one.raw)!r}")


def error_type(name: str) -> Callable[[list[Request]], None]:
    def check(requests: list[Request]) -> None:
        (report,) = (json.loads(one.body) for one in requests if one.endpoint == "error")
        if report["errorType"] != name:
            raise AssertionError(report)

    return check


def path_of(request_id: bytes) -> Callable[[list[Request]], None]:
    """The id is one segment of the path, and the very one."""

    def check(requests: list[Request]) -> None:
        found = re.fullmatch(r"/2018-06-01/runtime/invocation/([A-Za-z0-9%_-]+)/response", requests[-1].path)
        if not found or unquote_to_bytes(found[1]) != request_id:
            raise AssertionError(requests)
        only_known_headers(requests)

    return check


# Statuses, one by one. 2xx is fine, 5xx the end, all else a warning: on `next` there is no way on without an event.

STATUSES: dict[str, Row] = {}
for code in (200, 202):
    STATUSES.update(posts(f"{code}", READ, http(code)))
for code in (400, 403, 404, 410, 413, 429):
    STATUSES.update(posts(f"{code}", READ, http(code, b'{"errorType": "No"}'), warnings=1))
for code in (500, 502, 503, 504):
    STATUSES.update(posts(f"{code}", READ, http(code, b'{"errorType": "No"}'), status=1, words=f"{code}"))
for code in (400, 403, 404, 500, 503):
    STATUSES[f"{code} on next"] = Row([answer(code)], "next", status=1, words=f"{code}")
for code in (202, 400, 403, 500):
    STATUSES[f"{code} on init/error"] = Row(
        [], "init_error", status=1, answers={"init_error": [answer(code)]}, more={"handler": "nowhere.handler"}
    )

# Interim answers. "While it is sent": the body is read only when that is said, so there is more to be sent.

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Any: b\r\n\r\n"
INTERIM = {
    **events("all kinds of interim answers", CONTINUE + HINTS + b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 199 x\r\n\r\n", WHOLE),
    **events("interim answers in pieces", *drip(CONTINUE + HINTS + WHOLE, 7, 0.001)),
    **posts("an interim answer", READ, CONTINUE, 0.01, ACCEPTED),
    **posts("an interim answer while it is sent", CONTINUE, READ, ACCEPTED, kinds="echo fail stream large"),
    **posts("an interim answer, then a refusal", CONTINUE, 0.02, http(413), READ, kinds="echo large", warnings=1),
}  # fmt: skip

# The forms that a message may have.

FRAMING = {
    **events("a chunk for each byte", CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in b'"echo"') + b"0\r\n\r\n"),
    **events("a trailer named like a header", CHUNKED + b'6\r\n"echo"\r\n0\r\nLambda-Runtime-Aws-Request-Id: 2\r\n\r\n'),
    **events("chunked, split at every byte", *drip(CHUNKED + b'6;a=b\r\n"echo"\r\n0\r\nX: y\r\n\r\n', 1, 0.001)),
    **events("no length, then the end", HEAD + b'\r\n"echo"', CLOSE),
    **events("HTTP/1.0", WHOLE.replace(b"1.1", b"1.0", 1)),
    **events("HTTP/1.0, kept open", WHOLE.replace(b"1.1", b"1.0", 1).replace(b"OK\r\n", b"OK\r\nConnection: Keep-Alive\r\n")),
    **events("HTTP/1.0, no length", HEAD.replace(b"1.1", b"1.0", 1) + b'\r\n"echo"', CLOSE),
    **events("Connection: close, yet open", WHOLE.replace(b"OK\r\n", b"OK\r\nConnection: CLOSE\r\n")),
    **events("a slow drip", *drip(WHOLE, 3, 0.005)),
    **posts("chunked, with trailers", READ, b"HTTP/1.1 202 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"),
    **posts("no length, then the end", READ, b"HTTP/1.1 202 x\r\n\r\nwell", CLOSE),
    **posts("an answer with five megabytes", READ, http(202, b"x" * 5_000_000)),
    **posts("an answer in drops", READ, *drip(ACCEPTED, 3, 0.005)),
    **posts("an answer before the body was read, kept open", ACCEPTED, READ, kinds="echo fail stream large"),
    **posts("HTTP/1.0", READ, b"HTTP/1.0 202 x\r\nContent-Length: 0\r\n\r\n"),
    "an event, split at each of its bytes": Row(
        [say(WHOLE[:at], 0.001, WHOLE[at:]) for at in range(1, len(WHOLE))],
        " ".join(["next response/1"] * (len(WHOLE) - 1)),
    ),
    "an answer, split at each of its bytes": Row(
        [ask()] * (len(ACCEPTED) - 1),
        " ".join(["next response/1"] * (len(ACCEPTED) - 1)),
        answers={"response": [say(ACCEPTED[:at], 0.001, ACCEPTED[at:]) for at in range(1, len(ACCEPTED))]},
    ),
    "an event, cut at each of its bytes": Row(
        [one for at in range(len(WHOLE)) for one in (say(WHOLE[:at], CLOSE), ask())],
        " ".join([AGAIN] * len(WHOLE)),
    ),
}  # fmt: skip

# What makes no sense. A `next` is asked for again, and a post is sent again.

OUT_OF_SENSE: dict[str, bytes] = {
    "not HTTP at all": b"what do you want?\r\n\r\n",
    "bytes": bytes(range(256)) + b"\r\n\r\n",
}
NONSENSE: dict[str, Row] = {}
for name, data in OUT_OF_SENSE.items():
    NONSENSE.update(lost(f"{name}, kept open (next)", data))
    NONSENSE.update(lost(f"{name}, then closed (next)", data, CLOSE))
    NONSENSE.update(posts(f"{name}, kept open", READ, data, sent="next response/1 response/1", kinds="echo fail"))
    NONSENSE.update(posts(f"{name}, kept open", READ, data, warnings=1, kinds="stream"))
NONSENSE.update(posts("a refusal in many lines", READ, http(400, b"a\r\nb\n[ERROR]\tc\x0bd\xe2\x80\xa8e"), warnings=1))
NONSENSE.update(posts("a refusal that is not text", READ, http(403, bytes(range(256)) * 40), warnings=1))
# Headers, of all kinds and in any number.

HEADERS: dict[str, Row] = {
    **events("odd case and space", WHOLE.replace(b"Lambda-Runtime-Aws-Request-Id: 1", b"lAMBDA-rUNTIME-aWS-rEQUEST-iD:\t1 \t")),
    **events("a name like the request id's", WHOLE.replace(b"Content-Type", b"Lambda-Runtime-Aws-Request-Id-2: 3\r\nContent-Type")),
    "no content type": Row([header("Content-Type", None)]),
    "no headers but the id": Row([[READ, b'HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id:1\r\ncontent-length:6\r\n\r\n"echo"']]),
}  # fmt: skip
for name, value in {
    "no": None, "an empty": "", "cargo-lambda's": "600000",
}.items():  # fmt: skip
    HEADERS[f"{name} deadline"] = Row(
        [ask("context", headers={"Lambda-Runtime-Deadline-Ms": value})], check=remaining_time
    )
for name, value in {
    "no": None, "an empty": "", "a non-ASCII": "größe €", "an = and % in the": "a=b%s%0d%0a",
}.items():  # fmt: skip
    HEADERS[f"{name} trace id"] = Row([header("Lambda-Runtime-Trace-Id", value)])
    HEADERS[f"{name} tenant"] = Row([header("Lambda-Runtime-Aws-Tenant-Id", value)])
    HEADERS[f"{name} ARN"] = Row([header("Lambda-Runtime-Invoked-Function-Arn", value)])
    HEADERS[f"{name} invocation id"] = Row([header("Lambda-Runtime-Invocation-Id", value)], check=only_known_headers)
for name, value in {
    "half of a": '{"client": ', "a list as": "[1]", "a word as": '"x"', "base64 as": base64.b64encode(b"{}").decode(),
    "a list as the client of a": '{"client": [1]}',
}.items():  # fmt: skip
    malformed = error_type("Runtime.LambdaContextUnmarshalError")
    HEADERS[f"{name} client context"] = Row(
        [header("Lambda-Runtime-Client-Context", value)], "next error/1", check=malformed
    )
    if "client of" not in name:
        HEADERS[f"{name} identity"] = Row(
            [header("Lambda-Runtime-Cognito-Identity", value)], "next error/1", check=malformed
        )
for name, body in {
    "empty": b"", "cut": b'{"a": ', "bytes": b"\xff\xfe", "deep": b"[" * 100_000, "NaN": b"NaN", "two": b"1 2",
}.items():  # fmt: skip
    HEADERS[f"an event that is no JSON: {name}"] = Row(
        [event(body, request_id="1")], "next error/1", check=error_type("Runtime.UnmarshalError")
    )
for name, value in {
    "upwards": "../../init/error", "dots": "..", "a dot": ".", "spaces": "a b  c", "an escape": "%0d%0aX-Injected:%201",
    "500 characters": "i" * 500, "UTF-8": "größe-€-😀", "a query": "a?b=c#d", "slashes": "//a//b//",
}.items():  # fmt: skip
    known = path_of(value.encode("utf-8", "surrogateescape"))
    HEADERS[f"a request id with {name}"] = Row([ask(request_id=value)], "", check=known)
for name, value in {"no": None, "an empty": "", "a blank": " \t "}.items():
    HEADERS[f"{name} request id"] = Row(
        [header("Lambda-Runtime-Aws-Request-Id", value)], "next", status=1, words="request id"
    )

# Connections: how they end, and when. A dropped answer to a post is sent again, once; a stream cannot be.

SILENT = 60.0  # seconds; nor is anything read that comes meanwhile
TWICE = "next response/1 response/1"
LARGE_HEAD = http(413, b'{"errorType": "TooMuch"}', {"Connection": "close"})
CONNECTIONS: dict[str, Row] = {
    **lost("closed for an event", CLOSE),
    **lost("reset for an event", RESET),
    **lost("reset within the head", WHOLE[:30], RESET),
    **lost("reset within the body", WHOLE[:-3], RESET),
    **lost("reset within a chunk", CHUNKED + b'6\r\n"ec', RESET),
    **lost("closed between chunks", CHUNKED + b'6\r\n"echo"\r\n', CLOSE),
    **lost("closed behind an interim answer", CONTINUE, CLOSE),
    **events("closed behind the event", WHOLE, CLOSE),
    **events("reset behind the event", WHOLE, RESET),
    **posts("closed instead of an answer", READ, CLOSE, kinds="echo fail", sent=TWICE),
    **posts("closed instead of an answer", READ, CLOSE, kinds="stream", warnings=1),
    **posts("reset instead of an answer", READ, RESET, kinds="echo fail", sent=TWICE),
    **posts("reset instead of an answer", READ, RESET, kinds="stream", warnings=1),
    **posts("closed before the body was read", CLOSE, kinds="echo large", sent=TWICE),
    **posts("reset before the body was read", RESET, kinds="echo large", sent=TWICE),
    **posts("closed behind the answer", READ, ACCEPTED, CLOSE),
    **posts("reset behind the answer", READ, ACCEPTED, RESET),
    **posts("a refusal, then closed", READ, http(410), CLOSE, warnings=1),
    **posts("413, the body unread, closed", LARGE_HEAD, CLOSE, kinds="large", warnings=1),
    **posts("413, the body unread, open for a while", LARGE_HEAD, 0.05, CLOSE, kinds="large", warnings=1),
    "closed again and again, between the events": Row(
        [[*ask(), CLOSE]] * 20, " ".join(["next response/1"] * 20), answers={"response": [[READ, ACCEPTED, CLOSE]] * 20}),
    "dropped at once when accepted": Row([[READ, CLOSE], ask()], "next next response/1"),
    "the answer to a second try": Row([ask()], TWICE, answers={"response": [[READ, CLOSE], answer(400)]}),
    "too large at the second try": Row([ask()], TWICE, 1, answers={"response": [[READ, CLOSE], answer(413)]}),
    "204, then an event": Row([answer(204), answer(204, headers={"Content-Length": None}), ask()], "next next next response/1"),
    "away for half a second, between the events": Row([[*ask(), go_away(0.5)]]),
    "away for half a second, instead of an answer": Row([ask()], TWICE, answers={"response": [[READ, go_away(0.5)]]}),
    "away for half a second, instead of an event": Row([[READ, go_away(0.5)], ask()], AGAIN),
}  # fmt: skip

# Silence has no limit, as an event may take hours; but SIGTERM ends it at once, and nothing is said about it.


def silence(name: str, row: Row) -> dict[str, Row]:
    row.status = 0
    return {f"SIGTERM, {name}": row}


STUCK: Answer = [0.02, terminate, SILENT]
SILENCE: dict[str, Row] = {
    **silence("waiting for an event", Row([say(*STUCK)], "next")),
    **silence("within a status line", Row([say(b"HTTP/1.", *STUCK)], "next")),
    **silence("within the head", Row([say(HEAD, *STUCK)], "next")),
    **silence("within the body", Row([say(WHOLE[:-2], *STUCK)], "next")),
    **silence("within a chunk", Row([say(CHUNKED + b'6\r\n"ec', *STUCK)], "next")),
    **silence("behind interim answers", Row([say(HINTS * 3, *STUCK)], "next")),
    **silence("waiting for an answer", Row([ask()], answers={"response": [say(*STUCK)]})),
    **silence("within an answer", Row([ask()], answers={"response": [say(ACCEPTED[:20], *STUCK)]})),
    **silence("waiting for the answer to an error", Row([ask("fail")], "next error/1", answers={"error": [say(*STUCK)]})),
    **silence("waiting for the answer to a stream", Row([ask("stream")], answers={"response": [say(*STUCK)]})),
    **silence("a large result that nobody reads", Row([ask("large")], answers={"response": [STUCK]})),
    **silence(
        "an endless stream that nobody reads",
        Row([ask("def s():\n    while True: yield 'x' * 100_000\nresult = s()")], answers={"response": [STUCK]})),
    **silence(
        "a next that answers 204 for ever", Row([answer(204)] * 3 + [say(terminate, http(204), SILENT)], "next next next next")),
}  # fmt: skip

# The other calls of the protocol: snapshots, and the extension that has SIGTERM sent.

SNAPSHOT = {
    "snapshot_restore_py.py": """
        def get_before_snapshot(): return []
        def get_after_restore(): return [(fail, (), {})]
        def fail(): raise ValueError("as told")
        """,
    "hooked.py": "import snapshot_restore_py\nfrom app import handler\n",
    "listening.py": "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\nfrom app import handler\n",
}
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
OTHER: dict[str, Row] = {}
for code in (400, 403, 404, 500):
    OTHER[f"{code} on restore/next"] = Row(
        [],
        "restore_next",
        status=1,
        words=f"{code}",
        answers={"restore_next": [answer(code)]},
        more={"env": SNAP_START},
    )
    OTHER[f"{code} on restore/error"] = Row(
        [], "restore_next restore_error", status=65, answers={"restore_error": [answer(code)]},
        more={"env": SNAP_START, "handler": "hooked.handler"},
    )  # fmt: skip
    OTHER[f"{code} on extension/register"] = Row(
        [ask()], "register next response/1 next", answers={"register": [answer(code)]},
        more={"handler": "listening.handler"},
    )  # fmt: skip
for name, steps in {"closed": say(CLOSE), "nonsense": say(b"?\r\n\r\n", CLOSE)}.items():
    script = [steps] * 20
    OTHER[f"{name} for good on init/error"] = Row(
        [],
        "",
        status=1,
        answers={"init_error": script},
        more={"handler": "nowhere.handler"},
    )
    OTHER[f"{name} for good on restore/next"] = Row(
        [], "", status=1, answers={"restore_next": script}, more={"env": SNAP_START}
    )
OTHER["a connection that is dropped when accepted"] = Row(
    [ask()], "next response/1 next", more={"accept": [[CLOSE], []]}
)
OTHER["a connection that is reset when accepted"] = Row([ask()], "next response/1 next", more={"accept": [[RESET], []]})
OTHER["connections that are dropped again"] = Row([], "", status=1, words="next", more={"accept": [[CLOSE]] * 20})
OTHER["refused at the start, for half a second"] = Row([ask()], "next response/1 next", more={"late": 0.5})
OTHER["refused at the start, for good"] = Row([], "", status=1, words="127.0.0.1", more={"late": 60})

API: dict[str, Row] = {
    **STATUSES, **INTERIM, **FRAMING, **NONSENSE, **HEADERS, **CONNECTIONS, **SILENCE, **OTHER
}  # fmt: skip


# -------------------------------------------------------------------------------------------------- the second table


@dataclass
class Deed:
    """What a handler does, as code for `exec`; `result` or `error` in it is what the invocation comes to."""

    code: str
    first: str = "response"  # how that invocation is answered; nothing: it is not
    status: int | None = 0  # the process ends with this by itself, if it is not 0: that is for the SIGTERM at the end
    heard: bool = True  # what the runtime logs still gets where the test can see it
    body: bytes | None = None  # of the first answer
    before: Answer = ()  # what the API says first when it is asked for the event behind it
    end: signal.Signals = signal.SIGTERM
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    tracebacks: bool = False  # the interpreter prints one, in which there may be a frame of ours
    check: Callable[[Served], None] = lambda served: None


def stderr_is_silent(served: Served) -> None:
    if served.stderr:
        raise AssertionError(served.stderr)


def on_stdout(text: str) -> Callable[[Served], None]:
    def check(served: Served) -> None:
        if text not in served.stdout:
            raise AssertionError(f"{text!r} is not in {served.stdout!r:.2000}")

    return check


FORK = "import os, sys, time, threading\npid = os.fork()\n"
RESULT_OF_CHILD = "if pid: result = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"


HANDLERS: dict[str, Deed] = {
    # Standard output and error
    "sys.stdout is closed": Deed("import sys; sys.stdout.close()"),
    "sys.stdout is None": Deed("import sys; sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None"),
    "sys.stdout is deleted": Deed("import sys; del sys.stdout, sys.stderr, sys.__stdout__"),
    "sys.stdout is replaced": Deed("import io, sys; sys.stdout = sys.stderr = io.StringIO()"),
    "sys.stdout is detached": Deed("import sys; sys.stdout.detach()"),
    "sys.stderr is closed": Deed("import sys; sys.stderr.close()"),
    "descriptor 1 is a full disk": Deed(
        """
        import os
        os.dup2(os.open('/dev/full', os.O_WRONLY), 1)
        try: print('lost' * 100000)
        except OSError: pass
        """, heard=False),
    "an error message of 20 MB": Deed("error = ValueError('x' * 20_000_000)", "error"),

    # The process
    "the working directory is gone": Deed("import os, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)"),
    "the working directory is another": Deed("import os; os.chdir('/')"),
    "the function's files are gone": Deed("import os, shutil; shutil.rmtree(os.environ['LAMBDA_TASK_ROOT'])"),
    "the environment is cleared": Deed("import os; os.environ.clear()"),
    "SIGPIPE ends the process": Deed("import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)"),
    "SIGTERM is ignored": Deed("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", end=signal.SIGKILL),
    "an alarm that raises while it waits": Deed(
        """
        import signal
        def ring(*_): raise TimeoutError("too late")
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        """, before=[READ, 1.0, CLOSE]),
    "memory is used up": Deed(
        """
        import resource
        used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, -1))
        hoard = []
        while True: hoard.append(bytearray(1_000_000))
        """, "error"),
    "os._exit": Deed("import os; os._exit(7)", "", 7),
    "killed by a signal": Deed("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)", "", -signal.SIGUSR1),

    # Threads and processes
    "a thread that goes on": Deed("import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()"),
    "a hundred threads that go on": Deed(
        "import threading, time\nfor n in range(100): threading.Thread(target=time.sleep, args=(60,)).start()"),
    "a thread that prints on": Deed(
        """
        import threading, time
        def work():
            while True:
                print('tick')
                time.sleep(0.001)
        threading.Thread(target=work).start()
        """),
    "a thread that computes": Deed(
        "import threading; threading.Thread(target=lambda: sum(iter(lambda: 1, 0))).start()"),
    "an executor at work": Deed(
        """
        import concurrent.futures as futures, threading
        futures.ThreadPoolExecutor().submit(threading.Event().wait, 60)
        """),
    "a subprocess left behind": Deed("import subprocess; subprocess.Popen(['sleep', '60'])"),
    "a child that returns into the loop": Deed(FORK + RESULT_OF_CHILD, body=b"0"),
    "a child that returns into the loop, later": Deed(FORK + "if not pid: time.sleep(0.2)"),
    "a child that exits": Deed(FORK + "if not pid: sys.exit(3)\n" + RESULT_OF_CHILD, body=b"3"),
    "a child that exits at once": Deed(FORK + "if not pid: os._exit(3)\n" + RESULT_OF_CHILD, body=b"3"),
    "a child that raises": Deed(FORK + "if not pid: raise ValueError\n" + RESULT_OF_CHILD, body=b"1"),
    "a child that returns a stream": Deed(
        FORK + RESULT_OF_CHILD + "if not pid: result = (item for item in ['from a child'])", body=b"0"),
    "a child within a stream": Deed(
        """
        import os
        def stream():
            yield "before "
            pid = os.fork()
            if pid: os.waitpid(pid, 0)
            yield "parent" if pid else "child"
        result = stream()
        """, body=b"before parent"),
    "children by multiprocessing": Deed(
        """
        import multiprocessing
        for _ in range(20):  # ended by SIGTERM as soon as they have begun, which must not get lost
            with multiprocessing.get_context("fork").Pool(2) as pool: result = pool.map(abs, [-1, -2])
        """, body=b"[1, 2]"),
    "a child that exits, beside another one": Deed(
        """
        import multiprocessing, os, sys, time
        other = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        other.start()
        pid = os.fork()
        if not pid: sys.exit(0)
        os.waitpid(pid, 0)
        other.join(0.2)
        result = other.is_alive()
        """, body=b"true"),
    "a child from a thread": Deed(
        """
        import os, threading
        def work():
            pid = os.fork()
            if not pid: os._exit(0)
            os.waitpid(pid, 0)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """),

    # The interpreter
    "deep recursion": Deed("def deep(n): return deep(n + 1) + 1\ndeep(0)", "error"),
    "a trace function that goes on": Deed("import sys\ndef trace(*_): return trace\nsys.settrace(trace)"),
    "no traceback wanted": Deed("import sys; sys.tracebacklimit = 0"),
    "warnings are errors": Deed("import warnings; warnings.simplefilter('error')", check=stderr_is_silent),
    "warnings are errors from the start": Deed("import logging, asyncio, decimal", env={"PYTHONWARNINGS": "error"}, check=stderr_is_silent),
    "development mode": Deed("import gc; gc.collect()", env={"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}, check=stderr_is_silent),
    "faulthandler": Deed("import faulthandler; faulthandler.enable(); faulthandler.dump_traceback_later(60)"),
    "an exit function that raises": Deed("import atexit; atexit.register(lambda: 1 / 0)"),
    "an exit function that exits": Deed("import atexit, sys; atexit.register(sys.exit, 9)", tracebacks=True),

    # The standard library, patched
    "a proxy instead of sockets": Deed(
        """
        import socket
        class Proxy(socket.socket):
            def connect(self, address): raise OSError("it went through the proxy")
        socket.socket = Proxy
        """),
    "select, as gevent does it": Deed("import select\nfor name in ('poll', 'epoll', 'select'): delattr(select, name)"),
    "a time-out for all sockets": Deed("import socket; socket.setdefaulttimeout(1)", before=[READ, 1.5, http(204)]),
    "a time-out for all sockets, before": Deed(
        "result = 'fine'", before=[READ, 1.5, http(204)], files={"before.py": "import socket; socket.setdefaulttimeout(1)\nfrom app import handler"},
        env={"_HANDLER": "before.handler"}),
    "proxies in the environment": Deed(
        "result = 'fine'",
        env=dict.fromkeys(["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"], "http://127.0.0.1:1")),

    # Answers that take effort
    "sys.exit": Deed("import sys; sys.exit(5)", "error", 5),
    "sys.exit with a text": Deed("import sys; sys.exit('so long')", "error", 1),
}  # fmt: skip

# Exceptions, results and stream items; how each is answered, and of what type the error is. They leave nothing behind.

OBJECTS: dict[str, tuple[str, str]] = {
    "an exception without a text": ("Function.ValueError", "error = ValueError()"),
    "a text that fails": ("Function.E", "class E(Exception):\n    def __str__(self): raise ValueError\nerror = E()"),
    "a text of surrogates": ("Function.ValueError", "error = ValueError('\\udc80\\ud800 \\0 \\r\\n')"),
    "a text that would be headers": ("Function.ValueError", "error = ValueError('\\r\\nX-Injected: 1\\r\\n\\r\\nPOST / HTTP/1.1')"),
    "a name that would be headers": ("Function.Unknown", "error = type('E\\r\\nX-Injected: 1', (Exception,), {})()"),
    "a name in another script": ("Function.Unknown", "error = type('Größe', (Exception,), {})()"),
    "a cause that is itself": ("Function.ValueError", "error = ValueError()\nerror.__cause__ = error.__context__ = error"),
    "a thousand causes": (
        "Function.ValueError",
        "error = ValueError()\nfor n in range(1000):\n    cause, error = error, ValueError()\n    error.__cause__ = cause"),
    "no memory": ("Function.MemoryError", "error = MemoryError()"),
    "no memory indeed": ("Function.MemoryError", "bytearray(1 << 62)"),
    "deep recursion": ("Function.RecursionError", "def deep(): deep()\ndeep()"),
    "deep recursion through repr": (
        "Function.RecursionError", "class R:\n    def __repr__(self): return repr([self])\nrepr(R())"),
    "a keyboard interrupt": ("Function.KeyboardInterrupt", "error = KeyboardInterrupt()"),
    "the end of a generator": ("Function.GeneratorExit", "error = GeneratorExit()"),
    "the end of an iteration": ("Function.StopIteration", "error = StopIteration()"),

    "a result that cannot be": ("Runtime.MarshalError", "result = object()"),
    "a result that fails half-way": ("Runtime.MarshalError", "result = ['x' * 100_000, {'a': 1, 'b': [object()]}]"),
    "a result that is itself": ("Runtime.MarshalError", "result = []\nresult.append(result)"),
    "a result that is very deep": (
        "Runtime.MarshalError", "result = None\nfor n in range(200_000): result = [result]"),
    "a result that raises": (
        "Runtime.MarshalError", "class R(tuple):\n    def _asdict(self): raise ValueError\nresult = [R()]"),
    "a result with keys that cannot be": ("Runtime.MarshalError", "result = {('a', 'b'): 1}"),
    "a result with keys of two kinds": ("", "result = {1: 1, 'a': 2, None: 3, b'b': 4, True: 5}"),
    "an integer of 5000 digits": ("*", "result = 10 ** 5000"),
    "an empty result": ("", "result = b''"),

    "a stream item that would be a chunk": ("", "result = (item for item in ['\\r\\n0\\r\\n\\r\\nGET / HTTP/1.1\\r\\n\\r\\n'])"),
    "a stream that ended": ("", "result = (item for item in '')\nlist(result)"),
    "a prelude that would be headers": (
        "", "result = (item for item in [{'headers': {'a\\r\\nb': 'c\\r\\n\\r\\nd'}, 'cookies': ['e\\0']}, 'x'])"),
    "an awaitable that fails": (
        "Function.ValueError", "class A:\n    def __await__(self): raise ValueError\nresult = A()"),
    "a coroutine that was awaited": (
        "Function.RuntimeError", "async def c(): pass\nresult = c()\nresult.close()"),
    "a coroutine that leaves a task": (
        "", "import asyncio\nasync def c():\n    asyncio.ensure_future(asyncio.sleep(60))\nresult = c()"),
    "a coroutine that cancels itself": (
        "Function.CancelledError",
        "import asyncio\nasync def c():\n    asyncio.current_task().cancel()\n    await asyncio.sleep(1)\nresult = c()"),
    "a coroutine that closes the loop": (
        "*", "import asyncio\nasync def c():\n    asyncio.get_running_loop().close()\nresult = c()"),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------- running them


class SurvivalTestCase(RuntimeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.app(APP)
        for name, text in SNAPSHOT.items():
            self.write(name, text)

    def start(
        self,
        events: Sequence[Answer],
        *,
        root: str = "",
        handler: str = "app.handler",
        env: Mapping[str, str] | None = None,
        end: signal.Signals = signal.SIGKILL,
        late: float = 0,
        accept: Sequence[Answer] = (),
        answers: Mapping[str, Sequence[Answer]] = {},  # which is only read
    ) -> Served:
        """As `serve`, but it judges nothing, and may be called from several threads at once."""
        root = root or self.root
        api = Api(events, accept=accept, **answers)
        with api:
            if late:  # the API begins to listen some time after the runtime has begun
                api.refuse()
                timer = threading.Timer(late, api.listen)
                timer.daemon = True
                timer.start()
            environment = {**self.environment(env), "LAMBDA_TASK_ROOT": root}
            command = [sys.executable, str(RUNTIME), *([] if "_HANDLER" in environment else [handler])]
            done = run(command, api, environment, cwd=root, end=end, started=api.started)
            if late:
                timer.cancel()
        return Served(api.requests, done)

    def in_parallel(self, work: Callable[[str], None], names: Sequence[str]) -> None:
        """Do the work for each name, several at a time; each is a subtest."""
        with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
            done = {name: pool.submit(work, name) for name in names}
        for name, future in done.items():
            with self.subTest(name):
                future.result()

    def judge_ending(self, served: Served) -> None:
        self.assertFalse(
            served.done.timed_out, f"it hangs; requests: {spell(served.requests)}, stderr: {served.stderr}"
        )
        self.assertNotIn('runtime.py", line', served.stderr, "a traceback of ours")


class Servers(SurvivalTestCase):
    """The first table."""

    def test_what_it_survives(self) -> None:
        names = [name for name, row in API.items() if row.status is None and not row.more]
        batches = [names[start::4] for start in range(4)]
        with ThreadPoolExecutor(2) as pool:
            failed = list(pool.map(self.run_together, batches))
        guilty = [name for batch, was_bad in zip(batches, failed) if was_bad for name in batch]
        self.in_parallel(self.run_alone, guilty)
        if guilty and not self.fails_alone:
            self.fail(f"together they fail, alone they do not: {[bad for bad in failed if bad]}")

    def test_what_ends_it_or_needs_a_start_of_its_own(self) -> None:
        self.in_parallel(self.run_alone, [name for name, row in API.items() if row.status is not None or row.more])

    fails_alone = False

    def run_alone(self, name: str) -> None:
        row = API[name]
        try:
            if row.status is None and not row.more:
                bad = self.run_together([name])
                if bad:
                    raise AssertionError(bad)
            else:
                served = self.start(row.next, answers=row.answers, **row.more)
                self.judge_lone(row, served)
        except BaseException:
            self.fails_alone = True
            raise

    def judge_lone(self, row: Row, served: Served) -> None:
        self.judge_ending(served)
        self.assertEqual(spell(served.requests), row.sent or spell(served.requests))
        self.assertLessEqual(len(served.requests), 6, "a few times at most")
        self.assertEqual(served.done.status, row.status, served.stderr)
        if row.status is None:  # whether the end of a process is worth a warning, too, is its own affair
            self.assertEqual(served.stdout.count("[WARNING]"), row.warnings, served.stdout)
        lines = self.lines(served.stderr)
        self.assertLessEqual(len(lines), 1 if row.status else 0, lines)
        if row.words:
            self.assertIn(row.words, lines[0])

    def run_together(self, names: list[str]) -> str:
        """Rows in one process with a canary behind each; what went wrong, if something did."""
        script: list[Answer] = []
        answers: dict[str, list[Answer]] = {"response": [], "error": []}
        for name in names:
            row = API[name]
            script += [*row.next, ask("canary", "canary")]
            # As many answers as the row has posts: what is left is for none of the others.
            for endpoint, given in answers.items():
                expected = row.sent.split() or ["response"]
                count = sum(word.startswith(endpoint) for word in expected)
                scripted = row.answers.get(endpoint, [])
                given += [*scripted, *([answer(202)] * (count - len(scripted)))]
            answers["response"].append(answer(202))
        served = self.start(script, answers=answers)
        requests, said = list(served.requests), served.stdout
        try:
            for name in names:
                row = API[name]
                end = next((at for at, one in enumerate(requests) if one.request_id == "canary"), -1)
                own, canary, requests = requests[: end - 1], requests[end], requests[end + 1 :]
                text, _, said = said.partition(END_OF_ROW)
                context = f"{name}: {own}, log: {text:.2000}"
                if end < 0:
                    raise AssertionError(f"{name}: no canary came back: {own} {served.stderr}")
                self.assertEqual(canary.body, b'"canary"', context)
                self.assertEqual(spell(own), row.sent or spell(own), context)
                self.assertEqual(text.count("[WARNING]"), row.warnings, context)
                self.assertTrue(not text or text.endswith("\n"), context)
                self.assertFalse([one for one in text.split("\n")[:-1] if one[:1] != "["], context)
                row.check(own)
            self.judge_ending(served)
            self.assertEqual((served.done.status, served.stderr), (None, ""))
        except Exception as problem:
            return f"{problem}"
        return ""


NOT_ON_PYPY = {
    "memory is used up",  # it is used up for good
}


class UserCode(SurvivalTestCase):
    """The second table."""

    AFTERWARDS = ("fail", "big", "stream", "end")

    def test_what_a_handler_does(self) -> None:
        self.in_parallel(self.run_deed, [name for name in HANDLERS if not (PYPY and name in NOT_ON_PYPY)])

    def run_deed(self, name: str) -> None:
        deed = HANDLERS[name]
        root = self.folder()
        for file, text in {"app.py": APP, **deed.files}.items():
            with open(os.path.join(root, file), "w") as out:
                out.write(textwrap.dedent(text))
        script = [ask(textwrap.dedent(deed.code), "deed"), *(ask(what, what) for what in self.AFTERWARDS)]
        if deed.before:
            script.insert(1, deed.before)
        # The connection is gone afterwards: to open a new one is what patches are most likely to break.
        gone = {deed.first or "response": [say(http(202), CLOSE)]}
        served = self.start(script, root=root, env=deed.env, end=deed.end, answers=gone)
        context = f"{served.requests}\n{served.stdout:.2000}\n{served.stderr:.2000}"
        if not deed.tracebacks:
            self.judge_ending(served)
        if deed.status:
            self.assertEqual(served.done.status, deed.status, context)
            self.assertEqual(spell(served.answers), f"{deed.first}/deed" if deed.first else "", context)
            return
        self.assertEqual(
            spell(served.answers), f"{deed.first}/deed error/fail response/big response/stream response/end", context
        )
        first, failed, big, stream, end = served.answers
        if deed.body is not None:
            self.assertEqual(first.body, deed.body, context)
        self.assertEqual(json.loads(failed.body)["errorMessage"], "as told", context)
        self.assertEqual(len(big.body), 2_000_002, context)
        self.assertEqual([chunk.data for chunk in stream.chunks], [b"a", b"b", b"c"], context)
        self.assertEqual(end.body, b'"end"', context)
        if deed.heard:
            self.assertIn(b"as told", served.done.stdout, "the log is lost")
        if deed.end is signal.SIGTERM:
            self.assertEqual(served.done.status, 0, context)
        deed.check(served)

    @unittest.skipIf(PYPY, "it waits for its garbage collector")
    def test_refused_results_leave_nothing_behind(self) -> None:
        """Not even until the garbage collector runs: a handler that makes few objects may never bring it to."""
        self.app(
            """
            import gc
            gc.disable()
            def handler(event, context):
                if event: return "x" * event
                with open("/proc/self/statm") as file: return int(file.read().split()[1]) * 4096
            """
        )
        refused: Answer = [LARGE_HEAD, 0.05, CLOSE]
        refusals = [answer(202), *[refused] * 10, *[say(CLOSE), answer(202)] * 5]
        script = [ask(0), *[ask(8_000_000)] * 15, ask(0)]
        served = self.start(script, answers={"response": refusals})
        self.judge_ending(served)
        before, after = (int(one.body) for one in (served.answers[0], served.answers[-1]))
        self.assertLess(after - before, 30_000_000, "fifteen results of 8 MB were refused")

    def test_what_a_handler_returns_and_raises(self) -> None:
        names = [name for name in OBJECTS if not (PYPY and name in NOT_ON_PYPY)]
        bad = self.run_objects(names)
        if bad:
            self.in_parallel(lambda name: self.assertEqual(self.run_objects([name]), ""), names)
            self.fail(bad)

    def run_objects(self, names: list[str]) -> str:
        """All of these in one process; what went wrong, if something did."""
        served = self.start(
            [ask(textwrap.dedent(OBJECTS[name][1]) + "\n" * 12, "1") for name in names], end=signal.SIGTERM
        )
        try:
            for name, one in zip(names, served.answers):
                kind = OBJECTS[name][0]
                found = one.headers.get("lambda-runtime-function-error-type", "")
                self.assertEqual(found, found if kind == "*" else kind, f"{name}: {one}")
                self.assertEqual(one.endpoint, "error" if found else "response", name)
                self.assertNotIn("x-injected", one.headers, name)
                if found:
                    self.assertEqual(json.loads(one.body)["requestId"], "1", name)
            self.assertEqual(
                len(served.answers), len(names), f"{names[len(served.answers) - 1 :][:2]}: {served.stderr}"
            )
            self.judge_ending(served)
            self.assertEqual(served.done.status, 0, served.stderr)
        except Exception as problem:
            return f"{problem}"
        return ""


if __name__ == "__main__":
    unittest.main()
