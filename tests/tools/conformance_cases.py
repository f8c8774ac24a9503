# SPDX-License-Identifier: MIT-0
"""The table of conformance.py: what is done to AWS's client and to ours, and in what the two may differ.

A case is an event and the body of a handler. Its calls, headers, bodies, log lines and exit status must be the same on
both sides, but for the rules in conformance.py, which hold everywhere, and but for what `star` and `ours` say: that we
differ on purpose, why, and what exactly ours is, so that a ★ can neither hide a regression nor outlive its reason.

To add one, yield a Case in the section that it belongs to. `ours` names the parts that differ, out of calls, headers,
body, log, stderr and end. A value is what the part must be on our side, a pattern that all of it must match, or a
function that makes either from what AWS's client did; of headers, those that differ, None for one that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from scripted_api import CLOSE, READ, Answer, Headers, answer

Source = Union[str, bytes]


@dataclass(frozen=True)
class Case:
    name: str
    code: str = "return event"  # the body of handler(event, context), with all of functions/kinds.py at hand
    event: bytes = b"{}"
    headers: Headers = field(default_factory=dict)  # of the event
    env: Mapping[str, str] = field(default_factory=dict)
    framed: bool = False  # the log, that is, by _LAMBDA_TELEMETRY_LOG_FD
    alone: bool = False  # a process of its own, which then gets one more event; others share theirs
    # These three make a case one that is alone.
    files: Mapping[str, Source] = field(default_factory=dict)  # instead of `code`
    handler: str = "app.handler"
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)  # of the Runtime API to other calls
    star: str = ""
    sometimes: bool = False  # a ★ in words only, which some versions of Python have in common with AWS's client
    ours: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own_process(self) -> bool:
        return bool(self.alone or self.files or self.answers or self.handler != "app.handler")


CAUSE = "lambda-runtime-function-xray-error-cause"
ERROR_TYPE = "lambda-runtime-function-error-type"

# Headers of an event.
ARN = "Lambda-Runtime-Invoked-Function-Arn"
CLIENT_CONTEXT = "Lambda-Runtime-Client-Context"
CONTENT_TYPE = "Content-Type"
DEADLINE = "Lambda-Runtime-Deadline-Ms"
IDENTITY = "Lambda-Runtime-Cognito-Identity"
INVOCATION_ID = "Lambda-Runtime-Invocation-Id"
REQUEST_ID = "Lambda-Runtime-Aws-Request-Id"
TENANT = "Lambda-Runtime-Aws-Tenant-Id"
TRACE_ID = "Lambda-Runtime-Trace-Id"

JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
FORMATS: Sequence[tuple[str, Mapping[str, str], bool]] = (
    ("text", {}, False),
    ("JSON", JSON, False),
    ("text in frames", {}, True),
    ("JSON in frames", JSON, True),
)

# ──── what a ★ case's `ours` is ─────────────────────────────────────────────────────────────────────────────────────

UNTOLD = "whatever is raised is reported, and the process lives on"
WORDS = "the words are those of the standard library's JSON, not of simplejson"
ANY = re.compile(r".*", re.DOTALL)
ERROR_HEADERS = {"content-type": "application/json", "user-agent": "runtime.py/…", CAUSE: ANY}
SERVED = "POST /invocation/<id>/response\nPOST /invocation/after/response"
FAILED = "POST /invocation/<id>/error\nPOST /invocation/after/response"


def pattern(text: str) -> re.Pattern[str]:
    """A pattern for text, in which `...` stands for anything."""
    return re.compile(re.escape(text).replace(r"\.\.\.", ".*"), re.DOTALL)


def served(body: str) -> dict[str, Any]:
    """Where AWS's client dies: an ordinary response, and on to the next event."""
    return {"calls": SERVED, "headers": ANY, "body": body, "log": "", "stderr": "", "end": "waits"}


def failed(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """Where AWS's client dies: an ordinary error, in the log, too, and on to the next event."""
    report = f'{{"errorMessage": "{message}", "errorType": "{kind}", "requestId": "<id>", "stackTrace": [...]}}'
    return {
        "calls": FAILED,
        "headers": {**ERROR_HEADERS, ERROR_TYPE: kind if kind.startswith("Runtime.") else f"Function.{kind}"},
        "body": pattern(report),
        "log": pattern(f"[ERROR] {kind}...\n"),
        "stderr": "",
        "end": "waits",
        **more,
    }


def not_loaded(kind: str, message: str, frames: str = "...") -> dict[str, Any]:
    """An init error, whole."""
    report = f'{{"errorMessage": "{message}", "errorType": "{kind}", "requestId": "", "stackTrace": [{frames}]}}'
    return {
        "calls": "POST /init/error",
        "headers": {**ERROR_HEADERS, ERROR_TYPE: kind if kind.startswith("Runtime.") else f"Function.{kind}"},
        "body": pattern(report),
        "log": pattern(f"[ERROR] {kind}{message and ': '}{message}...\n"),
        "stderr": "",
        "end": "exit 1",
    }


def told_as(kind: str, start: str) -> dict[str, Any]:
    """An error of the runtime's own where AWS's client has another one, or other words."""
    return {
        "headers": {ERROR_TYPE: kind, CAUSE: ANY},
        "body": pattern(
            f'{{"errorMessage": "{start}...", "errorType": "{kind}", "requestId": "<id>", "stackTrace": []}}'
        ),
        "log": pattern(f"[ERROR] {kind}: {start}...\n"),
    }


def in_words(theirs: str, ours: str) -> dict[str, Any]:
    """The same error, but for some words."""

    def reworded(part: Any) -> Any:
        if isinstance(part, str):
            return part.replace(theirs, ours)
        return json.loads(json.dumps(part).replace(theirs, ours))

    return {"headers": reworded, "body": reworded, "log": reworded}


def warned(*words: str) -> dict[str, Any]:
    """Where AWS's client dies over an answer that was refused: a warning, and on to the next event."""
    return {
        "calls": re.compile(r"POST /invocation/<id>/\w+\nPOST /invocation/after/response"),
        "log": re.compile(r"(\[ERROR\] .*\n)?\[WARNING\]\t<time\.ms>\t<id>\t" + line_with(words)),
        "stderr": "",
        "end": "waits",
    }


def gave_up(*words: str) -> dict[str, Any]:
    """Where both end: we say why, in one line."""
    return {"log": ANY, "stderr": re.compile(r"runtime\.py: " + line_with(words)), "end": "exit 1"}


def line_with(words: Sequence[str]) -> str:
    return "".join(f"[^\n]*{re.escape(word)}" for word in words) + "[^\n]*\n"


# ──── results ───────────────────────────────────────────────────────────────────────────────────────────────────────

NUMBERS = ("1.10", "1E+2", "NaN", "sNaN", "Infinity", "-Infinity", "-0", "0E-10", "1E+500", "1e-7", f"{10**40 - 7}.10")
SAME = (
    "[D(1), {'a': D('2.50'), 'b': [DSub('1.5')]}]",
    "{'a': 1, 'b': [1, 2, {'c': None}], 'ä': 'ö€\\U0001f600/\"\\\\'}",
    "''.join(map(chr, range(32))) + '\\x7f\\x80\\u2028\\u2029<>&'",
    "None",
    "True",
    "()",
    "''",
    "{}",
    "[[], {}, [{}]]",
    "[1.5, 1e16, 1e-7, -0.0, 0.1 + 0.2, 10**30, 5e-324]",
    "[float('nan'), float('inf'), -float('inf')]",
    "{1: 2, None: 3, True: 4, 1.5: 5, float('nan'): 6}",
    "{1: 1, '1': 2}",
    "{(1, 2): 3}",
    "{'a': 'ä'.encode(), 'b': [b'x'], b'k': {b'j': b'v'}}",
    "[bytes([255])]",
    "{bytes([255]): 1}",
    "Pair(1, Pair(b'x', D('1.0')))",
    "[Pair(1, 2)]",
    "AsDict()",
    "[AsDict()]",
    "AsDictList([1])",
    "AsDictDict(z=1)",
    "AsDictStr('s')",
    "Data()",
    "{1, 2}",
    "datetime.datetime(2026, 1, 1)",
    "uuid.UUID(int=1)",
    "Odd()",
    "Color.RED",
    "{Color.RED: 1}",
    "[Level.HIGH, Kind.ODD, {Level.HIGH: 1, Kind.ODD: 2}]",
    "[Str('s'), Int(5), Float(1.5), List([1]), Tuple((1, 2)), {Str('k'): 1, Int(3): 2, Float(1.5): 3}]",
    "[collections.OrderedDict(b=1, a=2), collections.Counter('aab'), collections.defaultdict(int, a=1)]",
    "collections.deque([1])",
    "collections.UserDict(a=1)",
    "range(3)",
    "{}.keys()",
    "cycle",
    "[1, 2, {'a': cycle}]",
    "deep(200)",
    "'x' * 1000000",
    "10 ** 5000",
)


def result(expression: str, **more: Any) -> Case:
    return Case(f"result {expression}", f"return {expression}", **more)


def results() -> Iterator[Case]:
    for number in NUMBERS:
        yield result(f"D('{number}')")
    for expression in SAME:
        yield result(expression)
    yield result(
        "b'raw\\xff'",
        star="bytes are application/octet-stream, not application/unknown",
        ours={"headers": {"content-type": "application/octet-stream"}},
    )
    for kind in ("bytearray", "memoryview"):
        yield result(
            f"{kind}(b'raw')",
            star=f"a {kind} is sent as it is, like bytes",
            ours={
                "calls": "POST /invocation/<id>/response",
                "headers": {"content-type": "application/octet-stream", ERROR_TYPE: None, CAUSE: None},
                "body": "raw",
                "log": "",
            },
        )
    yield result(
        "{b'k': 1, 'k': 2}",
        star="a key that is there as bytes and as text is sent once, as JSON wants it",
        ours={"body": '{"k": 2}'},
    )
    yield result("{D('1.10'): 1}", star=WORDS, ours=in_words("not Decimal", "not decimal.Decimal"))
    reworded = in_words("while calling a Python object", "while encoding a JSON object")
    yield result("deep(100000)", star=WORDS, sometimes=True, ours=reworded)
    where = "Object of type Odd is not JSON serializable"
    at = f"{where} (result[1]['k'])"
    yield result("[1, {'k': Odd()}]", star="the error says where in the result it is", ours=in_words(where, at))
    yield result(
        "chr(0xd800)",
        alone=True,
        star="a lone surrogate is an escape, so that the result is JSON",
        ours=served('"\\ud800"'),
    )


# ──── events ────────────────────────────────────────────────────────────────────────────────────────────────────────


def takes(name: str, event: bytes, content_type: str | None = "application/json", **more: Any) -> Case:
    return Case(f"event {name}", "return repr(event)", event, {CONTENT_TYPE: content_type}, **more)


def worded(name: str, event: bytes, message: str, **more: Any) -> Case:
    ours = told_as("Runtime.UnmarshalError", f"Unable to unmarshal input: {message}")
    return takes(name, event, star=WORDS, ours=ours, **more)


def events() -> Iterator[Case]:
    yield takes("object", b'{"a": [1, 2.50, null, true], "a": "\xc3\xa4\\u20ac"}')
    yield takes("null", b"null")
    yield takes("surrounded by space", b' \r\n\t{"a":1}\n ')
    yield takes("with a byte-order mark", b'\xef\xbb\xbf{"a":1}')
    yield takes("of 30 digits", b"1" * 30)
    yield takes("of 5000 digits", b"1" * 5000)
    yield takes("1e400", b"1e400")
    yield takes("lone surrogate", b'"\\ud800"')
    yield takes("500 deep", b"[" * 500 + b"]" * 500)
    yield takes("empty", b"")
    yield takes("only space", b"   ")
    yield takes("not UTF-8", b'"\xff"')
    yield takes("not UTF-8: surrogates", b'"\xed\xa0\x80"')
    yield takes("cut", b'{"a":')

    yield takes("application/json in spaces", b"[1]", "  application/json  ")
    yield takes("without Content-Type", b"[1]", None, alone=True)
    yield takes("text/plain", b"\xff\x00[1]", "text/plain")
    yield takes("text/plain, empty", b"", "text/plain")
    yield takes("application/jsonx", b"[1]", "application/jsonx")
    yield takes("application/vnd.api+json", b"[1]", "application/vnd.api+json")
    for content_type in ("application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON"):
        star = "JSON is application/json with parameters and in capitals, too"
        yield takes(content_type, b"[1]", content_type, star=star, ours={"body": '"[1]"'})
    star = "an empty Content-Type is as good as none (a segmentation fault there)"
    yield takes("with an empty Content-Type", b"[1]", "", alone=True, star=star, ours=served('"[1]"'))

    refused = "invalid literal for int() with base 10: "
    yield worded("NaN", b"NaN", f"{refused}'NaN'")
    yield worded("-Infinity in a list", b"[1, -Infinity]", f"{refused}'-Infinity'")
    yield worded("and more", b'{"a":1}x', "Extra data: line 1 column 8 (char 7)")
    yield worded("trailing comma", b"[1,]", "", sometimes=True)
    yield worded("single quotes", b"{'a':1}", "Expecting property name enclosed in double quotes: line 1 column 2")
    yield worded("control character", b'"a\tb"', "Invalid control character at: line 1 column 3 (char 2)")
    yield worded("bad escape", b'"\\x"', "Invalid ")
    yield worded("100000 deep", b"[" * 100000, "maximum recursion depth exceeded")


# ──── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────

CUT = "the X-Ray cause is cut to what Lambda keeps, 64 KiB"
ORDINARY = {
    "in C code": "int('x')",
    "one frame down": "raise_it(ValueError('two'))",
    "in the standard library": "import json\njson.loads('{')",
    "in exec": "exec('1/0')",
    "in a lambda": "(lambda: 1/0)()",
    "over several lines": "raise (\n    ValueError(\n        'x'))",
    "a local class": "class Local(Exception):\n    __module__ = 'x.y'\nraise Local('x')",
    "ValueError('one')": "raise ValueError('one')",
    "without a message": "raise ValueError",
    "with several arguments": "raise ValueError('a', 'b', 3)",
    "with line breaks": "raise ValueError('a\\nb\\n  c\\n\\nd\\n')",
    "with odd characters": "raise ValueError('ö€\\U0001f600\\t\\x01\\r\\x7f')",
    "OSError": "raise OSError(2, 'No such', 'file.txt')",
    "StopIteration": "raise StopIteration(3)",
}
# What an error comes with, and what its log is then.
CHAINED = {
    "from a cause": (
        "try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e",
        "[ERROR] KeyError: 'k'\r...ZeroDivisionError: division...direct cause...in handler...raise KeyError('k')...",
    ),
    "while handling": (
        "try:\n    1/0\nexcept Exception:\n    raise RuntimeError('then')",
        "[ERROR] RuntimeError: then\r...ZeroDivisionError: division...another exception...in handler...",
    ),
}
if hasattr(BaseException, "add_note"):
    CHAINED["after a note"] = (
        "e = ValueError('noted')\ne.add_note('a note')\nraise e",
        "[ERROR] ValueError: noted\r...in handler...ValueError: noted\ra note\n",
    )
    CHAINED["a group"] = (
        "raise ExceptionGroup('two', [KeyError('k'), ValueError('v')])",
        "[ERROR] ExceptionGroup: two (2 sub-exceptions)\r...in handler...KeyError: 'k'...ValueError: v...",
    )
WHAT_CAUSED_IT = "the log shows what caused an error, its notes, and what a group consists of"


def whatever_the_count(theirs: str) -> re.Pattern[str]:
    """How many frames the recursion limit allows depends on how many the runtime itself takes."""
    return re.compile(re.sub(r"\d+\\ more", r"\\d+\\ more", re.escape(theirs)))


def errors() -> Iterator[Case]:
    for name, code in ORDINARY.items():
        yield Case(f"raise {name}", code)
    for name, (code, log) in CHAINED.items():
        yield Case(f"raise {name}", code, star=WHAT_CAUSED_IT, ours={"log": pattern(log)})
    yield Case("raise in the handler itself", "raise ValueError('alone')", alone=True)
    yield Case("return what is no JSON", "return lambda: 1")
    yield Case("a handler that is given too much", files={"app.py": "def handler(event):\n    return 1\n"})
    yield Case(
        "raise at the recursion limit",
        "recurse(0)",
        star=CUT,
        ours={"headers": {CAUSE: ANY}, "body": whatever_the_count, "log": whatever_the_count},
    )
    yield Case(
        "raise with a message of 200 KB",
        "raise ValueError('x' * 200000)",
        star=CUT,
        ours={"headers": {CAUSE: re.compile(".{1000,65536}", re.DOTALL)}},
    )
    yield Case(
        "raise a class with an odd name",
        "raise type('A b\\n<ü', (Exception,), {})('x')",
        star="a name that Lambda does not record is Function.Unknown in the header",
        ours={"headers": {ERROR_TYPE: "Function.Unknown"}},
    )
    for name, code, kind, message in (
        ("a lone surrogate", "raise ValueError(chr(0xd800))", "ValueError", "\\ud800"),
        ("without text", "class E(Exception):\n    def __str__(self): raise KeyError\nraise E", "E", "..."),
        ("with a text that is none", "class E(Exception):\n    def __str__(self): return 5\nraise E", "E", "..."),
        ("KeyboardInterrupt", "raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("GeneratorExit", "raise GeneratorExit('g')", "GeneratorExit", "g"),
        ("CancelledError", "import asyncio\nraise asyncio.CancelledError('c')", "CancelledError", "c"),
    ):
        yield Case(f"raise {name}", code, alone=True, star=UNTOLD, ours=failed(kind, message))
    for code, status, message, said in (
        ("sys.exit()", 0, "", ""),
        ("sys.exit(5)", 5, "5", ""),
        ("sys.exit('bye')", 1, "bye", "runtime.py: bye\n"),
    ):
        star = "sys.exit() is reported as a failed invocation, and then ends the process"
        ours = failed("SystemExit", message, stderr=said, end=f"exit {status}", calls="POST /invocation/<id>/error")
        yield Case(f"raise by {code}", code, alone=True, star=star, ours=ours)


# ──── context ───────────────────────────────────────────────────────────────────────────────────────────────────────

FULL_CONTEXT = (
    '{"client": {"installation_id": "i", "app_title": "t", "app_version_name": "vn", "app_version_code": "vc",'
    ' "app_package_name": "p", "extra": 1}, "custom": {"a": [1, "ü€"]}, "env": {"locale": "de"}, "other": 1,'
    ' "w3c": {"traceparent": "00-1", "tracestate": "s", "baggage": "b", "more": "m", "number": 3}}'
)
SEE_CLIENT = """\
names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
c = context.client_context
client = c and c.client and [getattr(c.client, name) for name in names]
return [repr(c), repr(context.w3c()), c and [c.custom, c.env, client]]"""
SEE_IDENTITY = """\
i = context.identity
return [repr(i), i.cognito_identity_id, i.cognito_identity_pool_id]"""
SEE_ATTRIBUTES = """\
names = ("aws_request_id", "function_name", "function_version", "memory_limit_in_mb", "log_group_name",
         "log_stream_name", "invoked_function_arn", "tenant_id")
return {name: repr(getattr(context, name)) for name in names}"""
SEE_PROCESS = """\
out = sys.stdout
return [__name__, sys.path[0] == os.getcwd(), sys.getrecursionlimit(), out.encoding, out.errors, out.fileno(),
        out.isatty()]"""
# That AWS's client lies in PYTHONPATH is our doing, and a shell leaves PWD.
SEE_ENVIRONMENT = "return sorted(v for v in os.environ.items() if v[0] not in ('PATH', 'PYTHONPATH', 'PWD', '_'))"
SEE_MODULES = """\
import sys
found = [name for name in ("asyncio", "ssl", "email", "urllib.request") if name in sys.modules]
def handler(event, context):
    return found
"""
SEE_TRACE = "return os.environ.get('_X_AMZN_TRACE_ID')"
REMAINING = "return context.get_remaining_time_in_millis()"


def context() -> Iterator[Case]:
    everything = {CLIENT_CONTEXT: FULL_CONTEXT, IDENTITY: '{"cognitoIdentityId": "I"}', TENANT: "t"}
    yield Case("context as text", "return [str(context), type(context).__name__]")
    yield Case("context as text with everything", "return str(context)", headers=everything)
    yield Case("context attributes", SEE_ATTRIBUTES)
    yield Case("context attributes of empty variables", SEE_ATTRIBUTES, env={"AWS_LAMBDA_FUNCTION_NAME": ""})
    yield Case("context attributes are writable", "context.mine = context.tenant_id = 1\nreturn [context.tenant_id]")
    yield Case(
        "context public names",
        "return sorted(name for name in dir(context) if name[0] != '_')",
        star="trace_id, as one environment variable cannot hold those of several invocations",
        ours={"body": lambda theirs: theirs.replace('"tenant_id", ', '"tenant_id", "trace_id", ')},
    )
    yield Case("context without an ARN", "return context.invoked_function_arn", headers={ARN: None}, alone=True)
    yield Case("tenant id", "return context.tenant_id", headers={TENANT: "tenant"})
    yield Case("tenant id, empty", "return context.tenant_id", headers={TENANT: ""})
    yield Case("remaining time", f"{REMAINING} // 10000")
    yield Case("remaining time when it is over", REMAINING, headers={DEADLINE: "600000"})
    yield Case("trace id", SEE_TRACE)
    yield Case("trace id, absent", SEE_TRACE, headers={TRACE_ID: None})
    yield Case("trace id, empty", SEE_TRACE, headers={TRACE_ID: ""})
    yield Case("invocation id is echoed", "return 1", headers={INVOCATION_ID: "nonce"})
    yield Case("invocation id is echoed on errors", "raise ValueError", headers={INVOCATION_ID: "nonce"})
    yield Case("process", SEE_PROCESS)
    yield Case("environment", SEE_ENVIRONMENT, env={"_HANDLER": "app.handler"}, alone=True)
    yield Case("environment with a framed log", "return os.environ.get('_LAMBDA_TELEMETRY_LOG_FD')", framed=True)
    yield Case("modules that are there", files={"app.py": SEE_MODULES})

    for name, header in {
        "absent": None,
        "full": FULL_CONTEXT,
        "empty object": "{}",
        "with an empty client": '{"client": {}}',
        "null": "null",
        "of null parts": '{"client": null, "custom": null}',
        "of other types": '{"client": {"installation_id": 5}, "custom": [1], "env": 3}',
        "only w3c": '{"w3c": {"traceparent": ""}}',
        "w3c of a wrong type": '{"w3c": 5}',
        "w3c of wrong fields": '{"w3c": {"traceparent": 3, "tracestate": null}}',
        "malformed": "{x",
        "and more": "{}x",
    }.items():
        yield Case(f"client context {name}", SEE_CLIENT, headers={CLIENT_CONTEXT: header})
    for name, header in {
        "absent": None,
        "full": '{"cognitoIdentityId": "I", "cognitoIdentityPoolId": "P", "more": 1}',
        "empty object": "{}",
        "null": "null",
        "of other types": '{"cognitoIdentityId": 5}',
        "malformed": "{x",
    }.items():
        yield Case(f"identity {name}", SEE_IDENTITY, headers={IDENTITY: header})
    for name, code, header, value in (
        ("Client Context", SEE_CLIENT, CLIENT_CONTEXT, "[]"),
        ("Client Context", SEE_CLIENT, CLIENT_CONTEXT, '"s"'),
        ("Client Context", SEE_CLIENT, CLIENT_CONTEXT, '{"client": "s"}'),
        ("Cognito Identity", SEE_IDENTITY, IDENTITY, "[]"),
    ):
        star = "JSON that is not an object is as malformed as any other"
        ours = told_as("Runtime.LambdaContextUnmarshalError", f"Unable to parse {name} JSON: ")
        yield Case(f"{name} {value}", code, headers={header: value}, star=star, ours=ours)


# ──── logging ───────────────────────────────────────────────────────────────────────────────────────────────────────

WHOLE_LINES = "on standard output every record ends with a line break"
AS_IN_PYTHON = "as in plain Python a wrong call of a logger does not fail the invocation"
AT_LEVELS = "for level in (5, 10, 15, 20, 25, 30, 35, 40, 50, 60):\n    log.log(level, 'at %d', level)"
EVERYWHERE = {
    "print": "print('hello')\nprint('ä', end='')\nprint()",
    "a record": "log.warning('warn %s %d', 'x', 3)",
    "below the level": "log.info('no')",
    "another logger": "import logging\nlogging.getLogger('a.b').error('two\\nlines\\n')",
    "a logger of its own level": "import logging\nown = logging.getLogger('own')\nown.setLevel(10)\nown.debug('mine')",
    "levels": AT_LEVELS,
    "odd messages": """\
for message in ({"a": 1}, {"a": {1}}, [1, 2], 5, None, ("t",), Odd(), "ä€\\t\\r\\x00", "", "no args %s"):
    log.warning(message)""",
    "a mapping of arguments": "log.warning('%(a)s', {'a': 1})",
    "extra": """\
log.warning("m", extra={"k": 1, "n": {"a": [1, None]}, "odd": Odd(), "é": "ü", "d": D("1.5"), "s": {1}, "none": None,
                        "nan": float("nan"), "when": datetime.date(2026, 1, 1), "b": b"x", "tenantId": "t"})""",
    "extra with our names": """\
names = ("requestId", "timestamp", "level", "logger", "errorType", "errorMessage", "stackTrace", "location")
log.warning("m", extra=dict.fromkeys(names, "mine"))""",
    "warnings captured": """\
import logging, warnings
logging.captureWarnings(True)
warnings.warn("careful")
logging.captureWarnings(False)""",
    "context.log": "context.log('as it is')\ncontext.log('line\\n')\ncontext.log({'a': 1})\ncontext.log('\\n')",
    "stderr": "print('err', file=sys.stderr)",
    "an uncaught error": "raise ValueError('ä\\n  b')",
    "an error without message": "raise ValueError",
    "an error of the runtime": "return Odd()",
    "a record and an error": "log.error('first')\nraise ValueError('then')",
}
WITH_EXCEPTIONS = {
    "an exception": "try:\n    {}['k']\nexcept KeyError:\n    log.exception('caught %s', 'it')",
    "a chained exception": """\
try:
    try:
        1/0
    except Exception as e:
        raise ValueError("v") from e
except ValueError:
    log.exception("caught")""",
    "exc_info": "log.error('e', exc_info=ValueError('q\\nz'))",
}
OWN_FORMATTER = """\
import logging
log.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(message)s %(aws_request_id)s"))
log.error("mine")"""
BASIC_CONFIG = """\
import logging
logging.basicConfig(level=10, format="%(message)s")
log.info("no")
return [log.level, len(log.handlers)]"""
FORCED_CONFIG = """\
import logging
logging.basicConfig(level=10, format="MINE %(message)s", force=True, stream=sys.stdout)
log.info("yes")"""
SEE_HANDLER = """\
handler, = log.handlers
return [type(handler).__name__, handler.level, handler.formatter._fmt, handler.formatter.datefmt, log.level]"""
LOGS_AT_IMPORT = """\
import logging
logging.getLogger().warning("early")
print("early")
def handler(event, context):
    return 1
"""


def with_line_break(theirs: str) -> str:
    return f"{theirs}\n"


def logging() -> Iterator[Case]:
    line_break: dict[str, Any] = {"log": with_line_break}
    none: dict[str, Any] = {}
    for kind, env, framed in FORMATS:
        for name, code in EVERYWHERE.items():
            yield Case(f"log, {kind}: {name}", code, env=env, framed=framed)
        tenant = {TENANT: "t"}
        yield Case(f"log, {kind}: tenant", "log.warning('m')\nraise ValueError", headers=tenant, env=env, framed=framed)
        yield Case(f"log, {kind}: at import", files={"app.py": LOGS_AT_IMPORT}, env=env, framed=framed)
        star, ours = ("", none) if framed else (WHOLE_LINES, line_break)
        name = f"log, {kind}: a formatter of the user's"
        yield Case(name, OWN_FORMATTER, env=env, framed=framed, alone=True, star=star, ours=ours)
        star, ours = (WHOLE_LINES, line_break) if kind == "text" else ("", none)
        for name, code in WITH_EXCEPTIONS.items():
            yield Case(f"log, {kind}: {name}", code, env=env, framed=framed, star=star, ours=ours)
    for level in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL", "TRACE", "info", "nonsense"):
        for kind, env in (("text", {}), ("JSON", JSON)):
            at = {**env, "AWS_LAMBDA_LOG_LEVEL": level}
            yield Case(f"log, {kind}, level {level}", f"{AT_LEVELS}\nraise ValueError", env=at, framed=True)
    for kind in ("Text", "json", "what"):
        yield Case(f"log, format {kind}", "log.warning('m')", env={"AWS_LAMBDA_LOG_FORMAT": kind})
    leveled = {**JSON, "AWS_LAMBDA_LOG_LEVEL": "ERROR"}
    yield Case("log, a formatter of the user's and a level", OWN_FORMATTER, env=leveled, framed=True, alone=True)
    yield Case("log, basicConfig", BASIC_CONFIG, alone=True)
    yield Case("log, basicConfig by force", FORCED_CONFIG, alone=True)
    yield Case("log, the root's handler", SEE_HANDLER, alone=True)
    ours = {**served("null"), "stderr": ANY}
    yield Case("log, bad arguments", "log.warning('bad %d', 'x')", alone=True, star=AS_IN_PYTHON, ours=ours)
    ours = {**served("null"), "log": pattern('{..."level": "ERROR", "message": "e"...}\n')}
    name = "log, JSON: exc_info without an exception"
    yield Case(name, "log.error('e', exc_info=True)", env=JSON, alone=True, star=AS_IN_PYTHON, ours=ours)


# ──── init ──────────────────────────────────────────────────────────────────────────────────────────────────────────

OK = "def handler(event, context):\n    return __name__\n"
MALFORMED = "Runtime.MalformedHandlerName"
WHO_IMPORTS = "the frames of a failing import say which file imports what is missing"


def who_imports(name: str) -> dict[str, Any]:
    stack = re.compile(rf'.*"errorType": "Runtime.ImportModuleError".*"stackTrace": \[.*{name}.*', re.DOTALL)
    return {"headers": {CAUSE: ANY}, "body": stack, "log": re.compile(rf".*{name}.*", re.DOTALL)}


def loads(name: str, source: Source, **more: Any) -> Case:
    return Case(f"load {name}", files={"app.py": source}, **more)


def loads_from(handler: str, files: Mapping[str, Source], **more: Any) -> Case:
    return Case(f"load {handler or 'nothing'} from {', '.join(files)}", files=files, handler=handler, **more)


def init() -> Iterator[Case]:
    for kind, env, framed in FORMATS:
        yield Case(f"load a missing module, {kind}", files={"a.py": ""}, handler="nope.handler", env=env, framed=framed)
        yield loads(f"what raises, {kind}", "def f():\n    raise ValueError('boom')\nf()\n", env=env, framed=framed)
        yield loads(f"a syntax error, {kind}", "x = 1\ndef f(:\n    pass\n", env=env, framed=framed)
    for name, source in (("what", "import not_there\n"), ("a name that", "from json import not_there\n")):
        yield loads(f"what imports {name} is missing", source, star=WHO_IMPORTS, ours=who_imports("app.py"))
    yield loads("an indentation error", "def f():\npass\n")
    yield loads("mixed tabs", "if 1:\n\tx = 1\n        y = 2\n")
    yield loads("a null byte", b"x = 1\0\n")
    yield loads("no such function", "x = 1\n")
    yield loads("what prints and then raises", "print('one')\nimport sys\nprint('two', file=sys.stderr)\n{}['k']\n")
    yield loads(
        "what can be called", "class C:\n    def __call__(self, event, context): return 'called'\nhandler = C()\n"
    )
    yield loads_from("app.handler", {"app.py": "import a\n", "a.py": "x = = 1\n"})
    files: dict[str, Source] = {"app.py": "import b\n", "b.py": "import x.y.z\n"}
    yield loads_from("app.handler", files, star=WHO_IMPORTS, ours=who_imports("b.py"))
    yield loads_from("app.handler", {"app.py": "import c\n", "c.py": "raise KeyError('x')\n"})
    yield loads_from("app.", {"app.py": OK})
    yield loads_from("time.handler", {"time.py": OK})
    yield loads_from("sys.exit", {"app.py": OK})
    yield loads_from("json.dumps", {"app.py": OK})
    yield loads_from("pkg.sub.mod.handler", {"pkg/sub/mod.py": OK})
    yield loads_from("pkg.mod.handler", {"pkg/__init__.py": "", "pkg/mod.py": OK})
    yield loads_from("pkg/mod.handler", {"pkg/mod.py": OK})
    yield loads_from("pkg/sub/mod.handler", {"pkg/sub/mod.py": OK})
    yield loads_from("pkg/nope.handler", {"pkg/mod.py": OK})
    yield loads_from("pkg.handler", {"pkg/__init__.py": OK})
    yield loads_from("my-app.handler", {"my-app.py": OK})
    yield loads_from("app.handler", {"app/__init__.py": "", "app/handler.py": OK})
    yield loads_from("app.C.handler", {"app.py": "class C:\n    def handler(event, context): return 1\n"})
    yield loads_from("runtime.handler", {"runtime.py": OK, "bootstrap.py": OK})
    theirs = "import runtime, bootstrap\ndef handler(event, context):\n    return [runtime.x, bootstrap.x]\n"
    yield loads_from("app.handler", {"app.py": theirs, "runtime.py": "x = 1\n", "bootstrap.py": "x = 2\n"})

    star = "a malformed name is Runtime.MalformedHandlerName, and the message says what a name should be like"
    for bad in ("app", "..", ".handler", "/pkg/mod.handler", "./pkg/mod.handler"):
        ours = not_loaded(MALFORMED, f"Bad handler '{bad}': it should be like module.function", frames="")
        yield loads_from(bad, {"app.py": OK, "pkg/mod.py": OK}, star=star, ours=ours)
    yield loads_from("", {"app.py": OK}, star=star, ours={**not_loaded(MALFORMED, "...", frames=""), "stderr": ANY})
    message = "Handler 'handler' missing on module 'app': it is 3, which cannot be called"
    star = "what cannot be called is found out at init, not at each event"
    yield loads(
        "what cannot be called", "handler = 3\n", star=star, ours=not_loaded("Runtime.HandlerNotFound", message)
    )
    star = "an init error is sent in UTF-8, as JSON is (in Latin-1 there, or not at all)"
    yield loads("what raises in Latin-1", "raise ValueError('äö')\n", star=star, ours=not_loaded("ValueError", "äö"))
    yield loads("what raises beyond it", "raise ValueError('ö€')\n", star=star, ours=not_loaded("ValueError", "ö€"))
    star = "whatever is raised while importing is reported, and never with status 0"
    ours = not_loaded("Runtime.UserCodeSyntaxError", "Syntax error in module 'app': ...")
    yield loads("what is not UTF-8", b"x = '\xff'\n", star=star, ours=ours)
    for name, source, kind, message in (
        ("sys.exit()", "import sys\nsys.exit(0)\n", "SystemExit", "0"),
        ("sys.exit(3)", "import sys\nsys.exit(3)\n", "SystemExit", "3"),
        ("KeyboardInterrupt", "raise KeyboardInterrupt\n", "KeyboardInterrupt", ""),
        ("a BaseException", "class Base(BaseException):\n    pass\nraise Base('b')\n", "Base", "b"),
    ):
        yield loads(f"what raises {name}", source, star=star, ours=not_loaded(kind, message))


# ──── a Runtime API that refuses ────────────────────────────────────────────────────────────────────────────────────

ERROR_JSON = '{"errorMessage": "m", "errorType": "T"}'
ONE_LINE = "ends with one line that says why"


def refusal(status: int) -> Answer:
    return answer(204, headers={"Content-Length": None}) if status == 204 else answer(status, ERROR_JSON.encode())


def api() -> Iterator[Case]:
    for endpoint, code in (("response", "return 1"), ("error", "raise ValueError")):
        for status in (200, 201, 204):
            yield Case(f"{status} on {endpoint}", code, answers={endpoint: [refusal(status)]})
        for status in (302, 400, 403, 404, 410, 413, 429):
            star = "a refused answer costs that invocation, not the process"
            ours = warned(f"/invocation/<id>/{endpoint}", f"{status} {ERROR_JSON}")
            yield Case(f"{status} on {endpoint}", code, answers={endpoint: [refusal(status)]}, star=star, ours=ours)
        ours = gave_up(f"/invocation/<id>/{endpoint}", f"500 {ERROR_JSON}")
        yield Case(f"500 on {endpoint}", code, answers={endpoint: [refusal(500)]}, star=ONE_LINE, ours=ours)
    for status in (302, 400, 403, 404, 500, 503):
        ours = gave_up("/invocation/next", f"{status} {ERROR_JSON}")
        yield Case(f"{status} on next", answers={"next": [refusal(status)]}, star=ONE_LINE, ours=ours)
    ours = gave_up("/invocation/next", "without a request id")
    yield Case("no request id on next", headers={REQUEST_ID: None}, alone=True, star=ONE_LINE, ours=ours)
    for status in (403, 500):
        failing: Mapping[str, Any] = {"files": {"app.py": "1/0\n"}, "answers": {"init_error": [refusal(status)]}}
        star = "an init error that Lambda refuses to hear of is in the log, which is enough"
        yield Case(f"{status} on init/error", **failing, star=star, ours={"log": ANY, "stderr": "", "end": "exit 1"})
    star = "204 on next means that an emulator has no event yet: ask again"
    yield Case("204 on next", answers={"next": [refusal(204)]}, star=star, ours=served("{}"))
    star = "a connection that was dropped is opened again, and the request sent again"
    yield Case("closed connection on next", answers={"next": [[READ, CLOSE]]}, star=star, ours=served("{}"))
    ours = {**served("{}"), "calls": f"POST /invocation/<id>/response\n{SERVED}"}
    yield Case("closed connection on response", answers={"response": [[READ, CLOSE]]}, star=star, ours=ours)


CASES: Sequence[Case] = [
    *results(),
    *events(),
    *errors(),
    *context(),
    *logging(),
    *init(),
    *api(),
]
