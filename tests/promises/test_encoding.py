# SPDX-License-Identifier: MIT-0
"""Events, results, errors and contexts: what becomes of values, tested directly on the functions of runtime.py.

That the loop uses them is the matter of test_invocation.py.
"""

from __future__ import annotations

import array
import collections
import contextlib
import copy
import enum
import gc
import io
import json
import math
import pickle
import re
import signal
import sys
import time
import unittest
import warnings
from decimal import Decimal
from typing import Any, Callable, NamedTuple, cast
from unittest import mock
from urllib.parse import unquote_to_bytes

from support import runtime

JSON_TYPE = "application/json"


class Encoded(NamedTuple):
    body: bytes
    content_type: str


def encoded(value: Any) -> Encoded:
    return Encoded(*runtime.encode(value, runtime.as_result))


def invocation(body: bytes = b"{}", headers: dict[str, str] | None = None) -> runtime.Invocation:
    return runtime.Invocation({"lambda-runtime-aws-request-id": "an-id", **(headers or {})}, body)


def refusal(function: Callable[..., object], *arguments: object) -> str:
    """The error that a function raises, as it would be reported: type and message. Nothing is an empty string."""
    try:
        function(*arguments)
    except Exception as error:
        failure = runtime.Failure(error)
        return f"{failure.type}: {failure.message}"
    return ""


class Importing(unittest.TestCase):
    def test_importing_runtime_changes_nothing(self) -> None:
        """It can be imported to be tested or read: nothing happens until main()."""
        before = sys.stdout, sys.path[:], sys.meta_path[:], signal.getsignal(signal.SIGTERM)
        del sys.modules["runtime"]
        again = __import__("runtime")
        try:
            self.assertEqual(before, (sys.stdout, sys.path[:], sys.meta_path[:], signal.getsignal(signal.SIGTERM)))
            self.assertIsNot(again, runtime)
        finally:
            sys.modules["runtime"] = runtime


class Events(unittest.TestCase):
    def test_json(self) -> None:
        rows: list[tuple[str, bytes, object]] = [
            ("an object", b'{"a": [1, 2.5, "x", true, false, null]}', {"a": [1, 2.5, "x", True, False, None]}),
            ("null", b"null", None),
            ("a string", b'"hi"', "hi"),
            ("space around it", b' \r\n\t{"a":1}\n', {"a": 1}),
            ("UTF-8", '{"ä": "€😀"}'.encode(), {"ä": "€😀"}),
            ("escapes", rb'"\u00e4\ud83d\ude00\n"', "ä😀\n"),
            ("half a surrogate pair is a str to Python", rb'"\ud800"', "\ud800"),
            ("a byte-order mark", b'\xef\xbb\xbf{"a":1}', {"a": 1}),
            ("the last of duplicate names", b'{"a":1,"a":2}', {"a": 2}),
            ("numbers keep their type", b"[1, 1.0, -0, 1e2]", [1, 1.0, 0, 100.0]),
            ("a large integer", b"9" * 40, int("9" * 40)),
            ("a float beyond all floats", b"1e400", math.inf),
            ("nested, but not absurdly", b"[" * 500 + b"]" * 500, None),
        ]
        for name, body, expected in rows:
            with self.subTest(name):
                value = runtime.decode_event(invocation(body, {"content-type": JSON_TYPE}))
                if expected is not None or body == b"null":
                    self.assertEqual(repr(value), repr(expected))

    def test_content_types(self) -> None:
        body = b'{"a": 1}'
        rows: list[tuple[str, str | None, object]] = [
            ("JSON", "application/json", {"a": 1}),
            ("with a parameter", "application/json; charset=utf-8", {"a": 1}),
            ("with a parameter, no space", "application/json;charset=UTF-8", {"a": 1}),
            ("in another case", "Application/JSON", {"a": 1}),
            ("absent", None, {"a": 1}),
            ("empty", "", {"a": 1}),
            ("bytes", "application/octet-stream", body),
            ("text", "text/plain", body),
            ("begins like JSON", "application/jsonlines", body),
            ("is a kind of JSON, but another type", "application/vnd.api+json", body),
        ]
        for name, content_type, expected in rows:
            with self.subTest(name):
                headers = {} if content_type is None else {"content-type": content_type}
                self.assertEqual(runtime.decode_event(invocation(body, headers)), expected)

    def test_raw_bytes_are_untouched(self) -> None:
        body = bytes(range(256))
        self.assertEqual(runtime.decode_event(invocation(body, {"content-type": "image/png"})), body)

    def test_bad_json(self) -> None:
        rows = [
            ("nothing", b""),
            ("space alone", b"   "),
            ("NaN", b'{"a": NaN}'),
            ("Infinity", b"[Infinity]"),
            ("-Infinity", b"-Infinity"),
            ("more after the value", b'{"a":1}x'),
            ("two values", b"1 2"),
            ("half an object", b'{"a":'),
            ("single quotes", b"{'a': 1}"),
            ("a trailing comma", b"[1,]"),
            ("a control character in a string", b'"a\tb"'),
            ("not UTF-8", b'"\xff"'),
            ("UTF-16", '{"a":1}'.encode("utf-16")),
            ("a surrogate encoded in UTF-8", b'"\xed\xa0\x80"'),
            ("two byte-order marks", b"\xef\xbb\xbf\xef\xbb\xbf1"),
            ("nested beyond all measure", b"[" * 200_000),
        ]
        for name, body in rows:
            with self.subTest(name):
                said = refusal(runtime.decode_event, invocation(body, {"content-type": JSON_TYPE}))
                self.assertRegex(said, r"^Runtime\.UnmarshalError: Unable to unmarshal input: .")

    def test_bad_json_says_where(self) -> None:
        said = refusal(runtime.decode_event, invocation(b'{"a": }'))
        self.assertEqual(
            said, "Runtime.UnmarshalError: Unable to unmarshal input: Expecting value: line 1 column 7 (char 6)"
        )


class Point(NamedTuple):
    x: Any
    y: Any


Plain = collections.namedtuple("Plain", "name")
Empty = collections.namedtuple("Empty", "")


class AsDict:
    """Not a tuple: an object that says how it is to be written."""

    def __init__(self, value: Any = 1) -> None:
        self.value = value

    def _asdict(self) -> Any:
        return {"value": self.value}


class ListAsDict(list[int]):
    def _asdict(self) -> dict[str, int]:
        return {"length": len(self)}


class StrAsDict(str):
    def _asdict(self) -> dict[str, int]:
        raise AssertionError("a string is a string")


class NoAsDict:
    _asdict = 1


class Number(enum.IntEnum):
    seven = 7


class Word(str, enum.Enum):
    word = "w"


class Half(float, enum.Enum):
    half = 0.5


class Text(str):
    def __repr__(self) -> str:
        return "not what JSON wants"


class Price(Decimal):
    def __repr__(self) -> str:
        return "not what JSON wants"


class Results(unittest.TestCase):
    def check(self, rows: list[tuple[Any, str]]) -> None:
        for value, expected in rows:
            with self.subTest(expected[:60]):
                result = encoded(value)
                self.assertEqual(bytes(result.body).decode(), expected)
                self.assertEqual(result.content_type, JSON_TYPE)

    def test_json(self) -> None:
        self.check(
            [
                (None, "null"),
                ([True, False], "[true, false]"),
                ({"a": 1, "b": [1, 2, {"c": None}]}, '{"a": 1, "b": [1, 2, {"c": null}]}'),
                ((), "[]"),
                ({}, "{}"),
                ("", '""'),
                (10**40, "1" + "0" * 40),
                ([1.5, -0.0, 1e16, 1e-7, 5e-324], "[1.5, -0.0, 1e+16, 1e-07, 5e-324]"),
                ([math.nan, math.inf, -math.inf], "[NaN, Infinity, -Infinity]"),
                ({1: 1, None: 2, False: 3, 1.5: 4}, '{"1": 1, "null": 2, "false": 3, "1.5": 4}'),
                ({math.nan: 1, math.inf: 2}, '{"NaN": 1, "Infinity": 2}'),
            ]
        )

    def test_text_is_utf_8_without_escapes(self) -> None:
        self.check(
            [
                ("äö€😀", '"äö€😀"'),
                ({"ключ": "値"}, '{"ключ": "値"}'),
                ("\u2028\u2029\x7f\x80\U0010ffff/", '"\u2028\u2029\x7f\x80\U0010ffff/"'),
                ('"\\\b\t\n\f\r\x00\x1f', r'"\"\\\b\t\n\f\r\u0000\u001f"'),
            ]
        )

    def test_subclasses_are_what_they_derive_from(self) -> None:
        self.check(
            [
                (Text("t"), '"t"'),
                ([Number.seven, Word.word, Half.half], '[7, "w", 0.5]'),
                ({Number.seven: 1, Word.word: 2}, '{"7": 1, "w": 2}'),
                (collections.OrderedDict(b=1, a=2), '{"b": 1, "a": 2}'),
                (collections.defaultdict(list, a=[1]), '{"a": [1]}'),
                (collections.Counter("aab"), '{"a": 2, "b": 1}'),
            ]
        )

    def test_decimal_is_exactly_its_number(self) -> None:
        digits = "1234567890.123456789012345678901234567890"
        for text in ("0", "1.10", "-0", "1E+2", "0E-10", "1E-7", "1E+500", digits, "NaN", "Infinity", "-Infinity"):
            with self.subTest(text):
                self.assertEqual(encoded(Decimal(text)).body, text.encode())
        self.check([(Decimal("sNaN"), "NaN"), (Price("9.90"), "9.90")])

    def test_decimals_stay_in_their_places(self) -> None:
        one = Decimal("1.0")
        self.check(
            [
                ([one, one, "1.0", Decimal("2.0")], '[1.0, 1.0, "1.0", 2.0]'),
                ({"b": one, "a": [Decimal(2), {"c": Decimal(3)}]}, '{"b": 1.0, "a": [2, {"c": 3}]}'),
                (Point(one, [Decimal(2)]), '{"x": 1.0, "y": [2]}'),
                ([AsDict(one), Decimal(2)], '[{"value": 1.0}, 2]'),
                ({b"k": one, "l": Decimal(2)}, '{"k": 1.0, "l": 2}'),
                ([one, {b"k": Decimal(2)}, Point(Decimal(3), 4)], '[1.0, {"k": 2}, {"x": 3, "y": 4}]'),
                ([Decimal(number) for number in range(5000)], str(list(range(5000)))),
            ]
        )

    def test_bytes_inside_are_text(self) -> None:
        self.check(
            [
                (["ä".encode(), b""], '["ä", ""]'),
                ({"a": b"x"}, '{"a": "x"}'),
                ({b"k": {b"l": [{b"m": b"n"}]}}, '{"k": {"l": [{"m": "n"}]}}'),
                ({b"k": 1, "l": (2, 3)}, '{"k": 1, "l": [2, 3]}'),
            ]
        )

    def test_objects_with_asdict_are_objects(self) -> None:
        self.check(
            [
                (Point(1, 2), '{"x": 1, "y": 2}'),
                ([Point(1, Point("a", None))], '[{"x": 1, "y": {"x": "a", "y": null}}]'),
                ({"p": Point([Plain("n")], {})}, '{"p": {"x": [{"name": "n"}], "y": {}}}'),
                ({"deep": [[(1, [Plain("[")])]]}, '{"deep": [[[1, [{"name": "["}]]]]}'),
                (Empty(), "{}"),
                (AsDict(), '{"value": 1}'),
                (AsDict(AsDict(Point(1, b"b"))), '{"value": {"value": {"x": 1, "y": "b"}}}'),
                (ListAsDict([1, 2]), '{"length": 2}'),
                (StrAsDict("s"), '"s"'),
                ([Number.seven, Point(Number.seven, Word.word)], '[7, {"x": 7, "y": "w"}]'),
            ]
        )

    def test_bytes_like_results_go_as_they_are(self) -> None:
        raw = b"raw\xff\x00"
        words = array.array("H", [1, 2])
        rows: list[tuple[str, Any, bytes]] = [
            ("bytes", raw, raw),
            ("nothing", b"", b""),
            ("bytearray", bytearray(raw), raw),
            ("memoryview", memoryview(raw), raw),
            ("a view of wider items", memoryview(words), words.tobytes()),
            ("a view with gaps", memoryview(b"abcdef")[::2], b"ace"),
        ]
        for name, value, expected in rows:
            with self.subTest(name):
                result = encoded(value)
                self.assertEqual((bytes(result.body), result.content_type), (expected, "application/octet-stream"))
                self.assertEqual(len(result.body), len(expected), "its length is the Content-Length")

    def test_what_json_cannot_carry(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        loop: dict[str, Any] = {}
        loop["loop"] = {"x": loop}
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        no_key = "keys must be str, int, float, bool or None, not "  # and a name, in some Pythons with its module
        rows: list[tuple[Any, str]] = [
            ({1, 2}, "Object of type set is not JSON serializable"),
            ([object()], "Object of type object is not JSON serializable"),
            ({"a": bytearray(b"x")}, "Object of type bytearray is not JSON serializable"),
            (["x", memoryview(b"x")], "Object of type memoryview is not JSON serializable"),
            (iter([]), f"Object of type {type(iter([])).__name__} is not JSON serializable"),
            (1j, "Object of type complex is not JSON serializable"),
            ({(1, 2): 3}, no_key),
            ({Decimal(1): 3}, no_key),
            ([b"\xff"], "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
            ({b"\xff": 1}, "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
            (NoAsDict(), "Object of type NoAsDict is not JSON serializable"),
            (circle, "Circular reference detected"),
            (loop, "Circular reference detected"),
            (deep, "maximum recursion depth exceeded" if sys.version_info < (3, 14) else "Stack overflow"),
        ]
        for value, message in rows:
            with self.subTest(message, type=type(value).__name__):
                said = refusal(encoded, value)
                self.assertRegex(said, r"^Runtime\.MarshalError: Unable to marshal response: ")
                self.assertIn(message, said)

    def test_a_coroutine_that_was_not_awaited(self) -> None:
        """The error says where it is in the result; no warning names a line of runtime.py for it."""

        async def work() -> int:
            return 1

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            said = refusal(encoded, {"a": [work()]})
            gc.collect()
        self.assertIn("Object of type coroutine is not JSON serializable (result['a'][0])", said)
        self.assertEqual(warned, [])

    def test_encoding_leaves_the_value_alone(self) -> None:
        value = {b"k": [Point(1, Decimal(2))]}
        encoded(value)
        self.assertEqual(value, {b"k": [Point(1, Decimal(2))]})


class BrokenStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message today")


class NoStr(Exception):
    def __str__(self) -> str:
        return cast(str, 5)


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name today")


def raised(error: BaseException) -> BaseException:
    with contextlib.suppress(type(error)):
        raise error
    return error


def odd_class(name: str) -> BaseException:
    return cast(BaseException, type(name, (Exception,), {})("odd"))


def recursive() -> BaseException:
    def descend() -> None:
        descend()

    try:
        descend()
    except RecursionError as error:
        return error
    raise AssertionError("no end to it")


class Failures(unittest.TestCase):
    """An exception becomes a report whatever it is: the error that cannot be reported would end the runtime."""

    def test_report(self) -> None:
        rows: list[tuple[BaseException, str, str]] = [
            (ValueError("one"), "ValueError", "one"),
            (ValueError(), "ValueError", ""),
            (ValueError("a", 3), "ValueError", "('a', 3)"),
            (KeyError("k"), "KeyError", "'k'"),
            (json.JSONDecodeError("bad", "x", 0), "JSONDecodeError", "bad: line 1 column 1 (char 0)"),
            (StopIteration(1), "StopIteration", "1"),
            (KeyboardInterrupt(), "KeyboardInterrupt", ""),
            (SystemExit(3), "SystemExit", "3"),
            (GeneratorExit("g"), "GeneratorExit", "g"),
            (ValueError("ä\n€"), "ValueError", "ä\n€"),
        ]
        for error, kind, message in rows:
            with self.subTest(repr(error)):
                report = json.loads(runtime.Failure(raised(error), "an-id").body())
                self.assertEqual(list(report), ["errorMessage", "errorType", "requestId", "stackTrace"])
                self.assertEqual(report["errorMessage"], message)
                self.assertEqual(report["errorType"], kind)
                self.assertEqual(report["requestId"], "an-id")
                self.assertEqual(len(report["stackTrace"]), 1)

    def test_text_is_utf_8_without_escapes(self) -> None:
        self.assertIn('"ä€😀"'.encode(), runtime.Failure(ValueError("ä€😀")).body())

    def test_stack_is_of_formatted_frames(self) -> None:
        def fails() -> None:
            raise KeyError("missing")

        try:
            fails()
        except KeyError as error:
            stack = runtime.Failure(error).stack
        line = fails.__code__.co_firstlineno
        self.assertEqual(stack[1], f'  File "{__file__}", line {line + 1}, in fails\n    raise KeyError("missing")\n')
        self.assertEqual(len(stack), 2)

    def test_causes_and_notes_are_left_out(self) -> None:
        error = ValueError("it")
        error.__cause__ = KeyError("its cause")
        if sys.version_info >= (3, 11):
            error.add_note("its note")
        body = runtime.Failure(raised(error)).body()
        self.assertNotIn(b"its cause", body)
        self.assertNotIn(b"its note", body)
        self.assertEqual(json.loads(body)["errorMessage"], "it")

    @unittest.skipIf(sys.version_info < (3, 11), "no ExceptionGroup")
    def test_exception_group(self) -> None:
        group = __import__("builtins").ExceptionGroup("group", [ValueError(1), TypeError(2)])
        failure = runtime.Failure(raised(group))
        self.assertEqual((failure.type, failure.message), ("ExceptionGroup", "group (2 sub-exceptions)"))
        self.assertEqual(len(failure.stack), 1)

    def test_whatever_is_raised_can_be_reported(self) -> None:
        rows: list[tuple[str, BaseException]] = [
            ("its __str__ fails", BrokenStr()),
            ("its __str__ returns no str", NoStr()),
            ("a lone surrogate", ValueError("\ud800 \udcff")),
            ("all control characters", ValueError("".join(map(chr, range(0x20))) + "\x7f\x85\u2028")),
            ("a class name that is not ASCII", odd_class("Änderung")),
            ("a class name with a line break", odd_class("A\r\nX-Injected: 1")),
            ("a class name with a space", odd_class("A B")),
            ("no class name", odd_class("")),
            ("a long class name", odd_class("A" * 100_000)),
            ("a message of a megabyte", ValueError("m" * 1_000_000)),
            ("a message of a megabyte of two-byte characters", ValueError("ä" * 500_000)),
            ("a thousand frames", recursive()),
        ]
        for name, error in rows:
            with self.subTest(name):
                failure = runtime.Failure(raised(error), "an-id")
                report = json.loads(failure.body().decode())
                self.assertIsInstance(report["errorMessage"], str)
                self.assertIsInstance(report["errorType"], str)
                head = failure.headers()
                self.assertNotIn("X-Injected", re.sub(r'".*?"', "", head), "it has become a header")
                for line in head.split("\r\n")[:-1]:
                    self.assertRegex(line, r"^[A-Za-z-]+: [ -~]*$")
                cause = json.loads(failure.xray_cause())
                self.assertEqual(list(cause), ["working_directory", "exceptions", "paths"])
                self.assertLess(len(failure.xray_cause()), 64 * 1024)

    def test_the_report_is_whole_where_the_xray_cause_is_cut(self) -> None:
        self.assertEqual(json.loads(runtime.Failure(ValueError("m" * 1_000_000)).body())["errorMessage"], "m" * 10**6)

    def test_error_type_for_lambda(self) -> None:
        """Lambda records what has the form that it recommends, anything else as Unknown."""
        rows: list[tuple[BaseException, str]] = [
            (ValueError("x"), "Function.ValueError"),
            (SystemExit(1), "Function.SystemExit"),
            (runtime.RuntimeFailure("MarshalError", "x"), "Runtime.MarshalError"),
            (odd_class("Änderung"), "Function.Unknown"),
            (odd_class("A\r\nB"), "Function.Unknown"),
        ]
        for error, expected in rows:
            with self.subTest(expected, error=repr(error)):
                self.assertEqual(runtime.Failure(error).recorded_type, expected)

    def test_xray_cause(self) -> None:
        failure = runtime.Failure(raised(ValueError("ä")))
        cause = json.loads(failure.xray_cause())
        self.assertEqual(cause["paths"], [__file__])
        (exception,) = cause["exceptions"]
        self.assertEqual((exception["message"], exception["type"]), ("ä", "ValueError"))
        (frame,) = exception["stack"]
        self.assertEqual((frame["path"], frame["label"]), (__file__, "raised"))
        self.assertIsInstance(frame["line"], int)

    def test_xray_cause_of_the_runtimes_own_errors(self) -> None:
        cause = json.loads(runtime.Failure(runtime.RuntimeFailure("MarshalError", "no")).xray_cause())
        self.assertEqual(cause["exceptions"], [{"message": "no", "type": "LambdaValidationError", "stack": []}])
        self.assertEqual(cause["paths"], [])


class HandlerNames(unittest.TestCase):
    """Names that need no import to be refused; what is imported is the matter of test_loading.py."""

    def test_refused(self) -> None:
        rows = [
            ("", "Runtime.MalformedHandlerName: Bad handler ''"),
            ("app", "Runtime.MalformedHandlerName: Bad handler 'app'"),
            (".handler", "Runtime.MalformedHandlerName: Bad handler '.handler'"),
            ("..", "Runtime.MalformedHandlerName: Bad handler '..'"),
            ("a..b", "Runtime.MalformedHandlerName: Bad handler 'a..b'"),
            ("sys.exit", "Runtime.BuiltInModuleConflict: Cannot use built-in module sys as a handler module"),
            ("builtins.len", "Runtime.BuiltInModuleConflict: Cannot use built-in module builtins as a handler module"),
        ]
        for name, message in rows:
            with self.subTest(name):
                self.assertIn(message, refusal(runtime.load_handler, name))


class RequestIds(unittest.TestCase):
    def test_an_id_is_one_segment_of_a_path(self) -> None:
        rows = [
            ("8476a536-e9f4-11e8-9739-2dfe598c3fcd", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
            ("A_z-09", "A_z-09"),
            ("../../x", "../../x"),
            ("a b", "a b"),
            ("%0d%0a", "%0d%0a"),
            ("a?b#c", "a?b#c"),
            ("ä", "ä"),
            ("\udcff", "\udcff"),
        ]
        for request_id, path in rows:
            with self.subTest(request_id):
                one = invocation(headers={"lambda-runtime-aws-request-id": request_id})
                self.assertEqual(unquote_to_bytes(one.path), f"/invocation/{path}".encode("utf-8", "surrogateescape"))
                self.assertRegex(one.path, r"^/invocation/[A-Za-z0-9_%-]+$")


class Written:
    """A log that keeps what is written to it."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, text: str) -> None:
        self.texts.append(text)


CLIENT_CONTEXT = "lambda-runtime-client-context"
COGNITO_IDENTITY = "lambda-runtime-cognito-identity"
DEADLINE_MS = "lambda-runtime-deadline-ms"
TENANT_ID = "lambda-runtime-aws-tenant-id"


def context(headers: dict[str, str] | None = None) -> runtime.LambdaContext:
    return runtime.LambdaContext(invocation(headers=headers))


class Contexts(unittest.TestCase):
    def test_remaining_time(self) -> None:
        now = int(time.time() * 1000)
        rows = [
            ("ahead", str(now + 60_000), 30_000, 60_000),
            ("past", str(now - 1), 0, 0),
            ("1970, as cargo-lambda says", "600000", 0, 0),
            ("negative", "-5", 0, 0),
            ("empty", "", 0, 0),
        ]
        for name, deadline, least, most in rows:
            with self.subTest(name):
                remaining = context({DEADLINE_MS: deadline}).get_remaining_time_in_millis()
                self.assertIs(type(remaining), int)
                self.assertTrue(least <= remaining <= most)
        self.assertEqual(context().get_remaining_time_in_millis(), 0)

    def test_client_context(self) -> None:
        rows = [
            ("", "None"),
            ("null", "None"),
            ("{}", "ClientContext([custom=None,env=None,client=None])"),
            ('{"custom": {"a": [1]}, "env": {"b": 2}}', "ClientContext([custom={'a': [1]},env={'b': 2},client=None])"),
            ('{"custom": 5, "other": 6}', "ClientContext([custom=5,env=None,client=None])"),
            ('{"client": null}', "ClientContext([custom=None,env=None,client=None])"),
            ('{"w3c": {"traceparent": "t"}}', "ClientContext([custom=None,env=None,client=None])"),
            (
                '{"client": {}}',
                "ClientContext([custom=None,env=None,client=Client([installation_id=None,app_title=None,"
                "app_version_name=None,app_version_code=None,app_package_name=None])])",
            ),
        ]
        for header, expected in rows:
            with self.subTest(header):
                made = context({CLIENT_CONTEXT: header})
                self.assertEqual(repr(made.client_context), expected)
                self.assertFalse(hasattr(made.client_context, "w3c"))
        self.assertIsNone(context().client_context)

    def test_w3c(self) -> None:
        rows: list[tuple[str, dict[str, str]]] = [
            ("", {}),
            ("null", {}),
            ('{"custom": {}}', {}),
            ('{"w3c": {"traceparent": "p", "tracestate": "s"}}', {"traceparent": "p", "tracestate": "s"}),
            ('{"w3c": {"baggage": "b", "traceparent": ""}}', {"traceparent": "", "baggage": "b"}),
            ('{"w3c": {"traceparent": 5, "tracestate": null, "baggage": ["b"], "other": "o"}}', {}),
            ('{"w3c": 5}', {}),
            ('{"w3c": null}', {}),
        ]
        for header, expected in rows:
            with self.subTest(header):
                self.assertEqual(context({CLIENT_CONTEXT: header}).w3c(), expected)

    def test_identity_is_always_there(self) -> None:
        rows = [
            ("", (None, None)),
            ("null", (None, None)),
            ("{}", (None, None)),
            ('{"cognitoIdentityId": "i"}', ("i", None)),
            ('{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p", "x": 1}', ("i", "p")),
        ]
        for header, expected in rows:
            with self.subTest(header):
                identity: Any = context({COGNITO_IDENTITY: header}).identity
                self.assertEqual((identity.cognito_identity_id, identity.cognito_identity_pool_id), expected)

    def test_malformed_headers(self) -> None:
        for header in ("{", "{}x", "[]", '"x"', "5", "true", "NaN", "[" * 200_000):
            for name, what in (("client-context", "Client Context"), ("cognito-identity", "Cognito Identity")):
                with self.subTest(name, header=header[:10]):
                    said = refusal(context, {f"lambda-runtime-{name}": header})
                    self.assertIn(f"Runtime.LambdaContextUnmarshalError: Unable to parse {what} JSON: ", said)
        said = refusal(context, {CLIENT_CONTEXT: '{"client": "an app"}'})
        self.assertIn("Runtime.LambdaContextUnmarshalError: ", said)

    def test_tenant(self) -> None:
        self.assertEqual(context({TENANT_ID: "blue"}).tenant_id, "blue")
        self.assertIsNone(context({TENANT_ID: ""}).tenant_id)
        self.assertIsNone(context().tenant_id)

    def test_log_writes_a_message_as_it_is(self) -> None:
        log = Written()
        with mock.patch.object(runtime.LambdaContext, "_log", log):
            for message in ("plain", "line\n", b"bytes", 5, None):
                context().log(message)
        self.assertEqual(log.texts, ["plain", "line\n", "b'bytes'", "5", "None"])

    def test_it_can_be_copied_and_sent_to_other_processes(self) -> None:
        one = context({CLIENT_CONTEXT: '{"client": {"app_title": "a"}, "custom": {"k": 1}}', DEADLINE_MS: "15"})
        for copied in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            self.assertEqual(repr(copied), repr(one))
            self.assertEqual(copied.client_context.client.app_title, "a")  # type: ignore[union-attr]
            self.assertEqual(copied.get_remaining_time_in_millis(), 0)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            one.log("in a process without a log")
        self.assertEqual(out.getvalue(), "in a process without a log")

    def test_it_can_be_shown_and_extended(self) -> None:
        one = context({CLIENT_CONTEXT: '{"w3c": {"traceparent": "t"}}'})
        self.assertTrue(repr(one).startswith("LambdaContext([aws_request_id=an-id,"), repr(one))
        self.assertIn("identity=CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None])", repr(one))
        self.assertNotIn("traceparent", repr(one))
        setattr(one, "correlation_id", "mine")  # noqa: B010 # some middleware does
        self.assertIn("correlation_id=mine", repr(one))


if __name__ == "__main__":
    unittest.main()
