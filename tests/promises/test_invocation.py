# SPDX-License-Identifier: MIT-0
"""One invocation: what a handler gets of an event, and what becomes of its result or its error, byte for byte."""

from __future__ import annotations

import json
import platform
import resource
import sys
import textwrap
import unittest

from scripted_api import FUNCTION_ARN, REQUEST_ID, TRACE_ID, Answer, answer, event
from support import PYPY, RuntimeTestCase

JSON_BODY = b'{"a": 1}'


def without_content_type(one: Answer) -> Answer:
    """An event as emulators send it that do not say what it is."""
    read, whole = one
    assert isinstance(whole, bytes)
    assert b"Content-Type: application/json\r\n" in whole
    return [read, whole.replace(b"Content-Type: application/json\r\n", b"")]


class Events(RuntimeTestCase):
    def test_events(self) -> None:
        """test_encoding.py has the finer points; this is about the wire."""
        self.app("def handler(event, context): return repr(event)")
        rows: list[tuple[str, bytes, str | None, str]] = [
            ("JSON", JSON_BODY, "application/json", "{'a': 1}"),
            ("JSON with parameters", JSON_BODY, "application/json; charset=utf-8", "{'a': 1}"),
            ("no content type", JSON_BODY, None, "{'a': 1}"),
            ("bytes", b"\x00\xff", "application/octet-stream", r"b'\x00\xff'"),
            ("no bytes", b"", "application/octet-stream", "b''"),
            ("UTF-8", '"ä€😀"'.encode(), "application/json", "'ä€😀'"),
            ("a byte-order mark", b"\xef\xbb\xbf5", "application/json", "5"),
        ]
        events = [
            event(body, {"Content-Type": content_type}) if content_type else without_content_type(event(body))
            for _, body, content_type, _ in rows
        ]
        results = self.results(self.serve(*events))
        self.assertEqual(len(results), len(rows))
        for (name, _, _, expected), result in zip(rows, results):
            with self.subTest(name):
                self.assertEqual(result, expected)

    def test_bad_json_costs_its_invocation_only(self) -> None:
        self.app("def handler(event, context): return event")
        served = self.serve(event(b"{", request_id="bad"), event(b'{"a": NaN}'), event(b""), event(b"5"))
        self.assertEqual([one.endpoint for one in served.answers], ["error", "error", "error", "response"])
        request = served.answers[0]
        self.assertEqual(request.path, "/2018-06-01/runtime/invocation/bad/error")
        self.assertEqual(request.headers["lambda-runtime-function-error-type"], "Runtime.UnmarshalError")
        report = json.loads(request.body)
        self.assertEqual((report["errorType"], report["stackTrace"]), ("Runtime.UnmarshalError", []))
        self.assertTrue(report["errorMessage"].startswith("Unable to unmarshal input: "), report)
        self.assertIn("[ERROR] Runtime.UnmarshalError: Unable to unmarshal input: ", served.stdout)

    def test_large_events(self) -> None:
        self.app("def handler(event, context): return len(event)")
        large = b'"' + b"x" * 6_000_000 + b'"'
        self.assertEqual(self.results(self.serve(event(large), event(b'""'))), [6_000_000, 0])

    @unittest.skipUnless(platform.libc_ver()[0] == "glibc", "other C libraries have ways of their own")
    def test_large_events_use_the_same_memory_again(self) -> None:
        """Pages that are given back after each event, to be had anew for the next, were a third of its CPU time."""
        self.app("""
            from resource import RUSAGE_SELF, getrusage
            def handler(event, context):
                print(getrusage(RUSAGE_SELF).ru_minflt)
                return event
        """)
        large = b'"' + b"x" * 6_000_000 + b'"'
        served = self.serve(*[event(large)] * 6)
        faults = [*map(int, self.lines(served.stdout))]
        pages = len(large) // resource.getpagesize()
        self.assertLess(faults[5] - faults[2], pages, f"three times the event and its result: {faults}")


TELLS_CONTEXT = """
    import time
    def handler(event, context):
        names = ["aws_request_id", "function_name", "function_version", "memory_limit_in_mb", "log_group_name",
                 "log_stream_name", "invoked_function_arn", "tenant_id"]
        told = {name: getattr(context, name) for name in names}
        told["identity"] = [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]
        told["remaining"] = context.get_remaining_time_in_millis()
        told["w3c"] = context.w3c()
        told["client_context"] = client_context = context.client_context
        if client_context:
            client = client_context.client
            told["client_context"] = [client_context.custom, client_context.env, client and [
                client.installation_id, client.app_title, client.app_version_name, client.app_version_code,
                client.app_package_name]]
        return told
"""


class Contexts(RuntimeTestCase):
    def test_with_everything(self) -> None:
        self.app(TELLS_CONTEXT)
        client_context = {
            "client": {
                "installation_id": "i",
                "app_title": "größe €",
                "app_version_name": "v",
                "app_version_code": "c",
                "app_package_name": "p",
                "other": "x",
            },
            "custom": {"k": [1]},
            "env": {"locale": "de"},
            "w3c": {"traceparent": "t", "tracestate": "s", "baggage": "b", "other": "x", "number": 5},
        }
        headers = {
            "Lambda-Runtime-Client-Context": json.dumps(client_context, ensure_ascii=False),
            "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool"}',
            "Lambda-Runtime-Aws-Tenant-Id": "blue",
        }
        env = {
            "AWS_LAMBDA_FUNCTION_NAME": "name",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/name",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/23/[$LATEST]abc",
        }
        (told,) = self.results(self.serve(event(headers=headers, seconds=60), env=env))
        self.assertTrue(30_000 < told.pop("remaining") <= 60_000)
        expected = {
            "aws_request_id": REQUEST_ID,
            "function_name": "name",
            "function_version": "$LATEST",
            "memory_limit_in_mb": "128",
            "log_group_name": "/aws/lambda/name",
            "log_stream_name": "2026/11/23/[$LATEST]abc",
            "invoked_function_arn": FUNCTION_ARN,
            "tenant_id": "blue",
            "identity": ["id", "pool"],
            "w3c": {"traceparent": "t", "tracestate": "s", "baggage": "b"},
            "client_context": [{"k": [1]}, {"locale": "de"}, ["i", "größe €", "v", "c", "p"]],
        }
        self.assertEqual(told, expected)

    def test_with_nothing(self) -> None:
        """Emulators send less than Lambda does. And nothing stays of the invocation before."""
        self.app(TELLS_CONTEXT)
        missing = dict.fromkeys(
            ("Lambda-Runtime-Deadline-Ms", "Lambda-Runtime-Invoked-Function-Arn", "Lambda-Runtime-Trace-Id", "Date")
        )
        full = {"Lambda-Runtime-Client-Context": '{"custom": 1}', "Lambda-Runtime-Aws-Tenant-Id": "blue"}
        _, told = self.results(self.serve(event(headers=full), event(headers=missing, request_id="second")))
        expected: dict[str, object] = {
            **dict.fromkeys(("function_name", "function_version", "memory_limit_in_mb")),
            **dict.fromkeys(("log_group_name", "log_stream_name", "tenant_id", "client_context")),
            "aws_request_id": "second",
            "invoked_function_arn": "",
            "identity": [None, None],
            "remaining": 0,
            "w3c": {},
        }
        self.assertEqual(told, expected)

    def test_malformed_headers_cost_their_invocation_only(self) -> None:
        self.app("def handler(event, context): return context.get_remaining_time_in_millis()")
        rows = [
            ("Lambda-Runtime-Client-Context", "{"),
            ("Lambda-Runtime-Client-Context", "[]"),
            ("Lambda-Runtime-Client-Context", '"x"'),
            ("Lambda-Runtime-Client-Context", "\udcff"),  # which is sent as the byte FF
            ("Lambda-Runtime-Cognito-Identity", "{]"),
            ("Lambda-Runtime-Cognito-Identity", "5"),
        ]
        served = self.serve(*(event(headers={name: value}) for name, value in rows), event(seconds=0))
        self.assertEqual([one.endpoint for one in served.answers], ["error"] * len(rows) + ["response"])
        self.assertEqual(served.answers[-1].body, b"0")
        for (name, value), request in zip(rows, served.answers):
            with self.subTest(name, value=value):
                recorded = request.headers["lambda-runtime-function-error-type"]
                self.assertEqual(recorded, "Runtime.LambdaContextUnmarshalError")
                report = json.loads(request.body)
                what = name.replace("Lambda-Runtime-", "").replace("-", " ")
                self.assertTrue(report["errorMessage"].startswith(f"Unable to parse {what} JSON: "), report)
                self.assertEqual((report["errorType"], report["stackTrace"]), (recorded, []))

    def test_deadlines_of_emulators(self) -> None:
        """cargo-lambda's is in 1970: there is no time left, but never less than none."""
        self.app("def handler(event, context): return context.get_remaining_time_in_millis()")
        for deadline in ("", "600000"):
            with self.subTest(deadline):
                served = self.serve(event(headers={"Lambda-Runtime-Deadline-Ms": deadline}))
                self.assertEqual(self.results(served), [0])

    def test_trace_id(self) -> None:
        """The X-Ray SDK finds it in the environment; that of another invocation must not stay there."""
        self.app("import os\ndef handler(event, context): return os.environ.get('_X_AMZN_TRACE_ID')")
        name = "Lambda-Runtime-Trace-Id"
        served = self.serve(
            event(), event(headers={name: "other"}), event(headers={name: None}), event(headers={name: ""})
        )
        self.assertEqual(self.results(served), [TRACE_ID, "other", None, None])


class Results(RuntimeTestCase):
    def test_results(self) -> None:
        """Each event is a Python expression for the result; test_encoding.py has the finer points."""
        self.app("""
            from collections import namedtuple
            from decimal import Decimal
            Point = namedtuple("Point", "x y")
            def handler(event, context): return eval(event)
        """)
        rows = [
            ("None", b"null"),
            ("{'a': 1, 'b': [1, 2, {'c': None}]}", b'{"a": 1, "b": [1, 2, {"c": null}]}'),
            ("'\u00e4\u20ac\U0001f600'", '"ä€😀"'.encode()),
            ("Decimal('1.10')", b"1.10"),
            ("[Decimal('1E+2'), Decimal('1234567890.123456789012345678901234567890')]",)
            + (b"[1E+2, 1234567890.123456789012345678901234567890]",),
            ("{b'k': b'v'}", b'{"k": "v"}'),
            ("Point(1, [Point(2, 3)])", b'{"x": 1, "y": [{"x": 2, "y": 3}]}'),
            ("[float('nan'), float('-inf')]", b"[NaN, -Infinity]"),
            ("'x' * 6_000_000", b'"' + b"x" * 6_000_000 + b'"'),
        ]
        served = self.serve(*(event(json.dumps(source).encode()) for source, _ in rows))
        self.assertEqual(len(served.answers), len(rows))
        for (source, expected), request in zip(rows, served.answers):
            with self.subTest(source):
                self.assertEqual(request.path, f"/2018-06-01/runtime/invocation/{REQUEST_ID}/response")
                self.assertEqual(request.headers["content-type"], "application/json")
                self.assertEqual(request.headers["content-length"], str(len(expected)))
                self.assertTrue(request.body == expected, request)
        self.assertEqual({request.connection for request in served.requests}, {1}, "one connection, kept open")

    def test_bytes_results(self) -> None:
        self.app("def handler(event, context): return eval(event)")
        rows = [
            (r"b'raw\xff\x00'", b"raw\xff\x00"),
            ("b''", b""),
            (r"bytearray(b'\xff')", b"\xff"),
            (r"memoryview(b'abcdef')[::2]", b"ace"),
            ("bytes(1_000_000)", bytes(1_000_000)),
        ]
        served = self.serve(*(event(json.dumps(source).encode()) for source, _ in rows))
        self.assertEqual(len(served.answers), len(rows))
        for (source, expected), request in zip(rows, served.answers):
            with self.subTest(source):
                self.assertEqual(request.endpoint, "response")
                self.assertEqual(request.headers["content-type"], "application/octet-stream")
                self.assertEqual(request.headers["content-length"], str(len(expected)))
                self.assertTrue(request.body == expected, request)

    def test_a_result_whose_class_has_no_hash(self) -> None:
        setup = """
            class Meta(type):
                def __eq__(cls, other): return cls is other
            class Dict(dict, metaclass=Meta): pass
        """
        self.assertEqual(self.evaluate("Dict(a=1)", setup), {"a": 1})

    def test_what_json_cannot_carry(self) -> None:
        self.app("def handler(event, context): return eval(event)")
        rows = ["{1, 2}", "object()", "[bytearray(b'x')]", "[b'\\xff']", "{(1, 2): 3}", "handler"]
        served = self.serve(*(event(json.dumps(source).encode()) for source in rows), event(b'"1"'))
        self.assertEqual([one.endpoint for one in served.answers], ["error"] * len(rows) + ["response"])
        for source, request in zip(rows, served.answers):
            with self.subTest(source):
                recorded = request.headers["lambda-runtime-function-error-type"]
                report = json.loads(request.body)
                self.assertEqual((recorded, report["errorType"]), ("Runtime.MarshalError",) * 2)
                self.assertEqual((report["requestId"], report["stackTrace"]), (REQUEST_ID, []))
                self.assertTrue(report["errorMessage"].startswith("Unable to marshal response: "), report)

    def test_invocation_id_is_echoed_when_it_was_sent(self) -> None:
        self.app("def handler(event, context): return 1 / event")
        name = "Lambda-Runtime-Invocation-Id"
        events = [event(body, {name: sent} if sent else {}) for body in (b"1", b"0") for sent in ("n1", None, "n2")]
        served = self.serve(*events)
        self.assertEqual([one.endpoint for one in served.answers], ["response"] * 3 + ["error"] * 3)
        self.assertEqual([one.headers.get(name.lower()) for one in served.answers], ["n1", None, "n2"] * 2)


class Errors(RuntimeTestCase):
    def test_an_error_byte_for_byte(self) -> None:
        path = self.app("""
            import sub
            def handler(event, context):
                return sub.fail(event)
        """)
        sub = self.write("sub.py", "def fail(event):\n    raise ValueError(event)\n")
        (request,) = self.serve(event('"größe €"'.encode())).answers
        self.assertEqual(request.path, f"/2018-06-01/runtime/invocation/{REQUEST_ID}/error")
        stack = [
            f'  File "{path}", line 4, in handler\n    return sub.fail(event)\n',
            f'  File "{sub}", line 2, in fail\n    raise ValueError(event)\n',
        ]
        report = {"errorMessage": "größe €", "errorType": "ValueError", "requestId": REQUEST_ID, "stackTrace": stack}
        self.assertEqual(request.body.decode(), json.dumps(report, ensure_ascii=False))
        self.assertEqual(request.headers["content-type"], "application/json")
        self.assertEqual(request.headers["lambda-runtime-function-error-type"], "Function.ValueError")
        cause = json.loads(request.headers["lambda-runtime-function-xray-error-cause"])
        self.assertEqual(cause["working_directory"], self.root)
        self.assertEqual(sorted(cause["paths"]), sorted([path, sub]))
        frames = [{"path": path, "line": 4, "label": "handler"}, {"path": sub, "line": 2, "label": "fail"}]
        self.assertEqual(cause["exceptions"], [{"message": "größe €", "type": "ValueError", "stack": frames}])

    def test_stacks(self) -> None:
        """Frames of the user's code and of what that called; no marks of newer Pythons; nothing of ours."""
        path = self.app("""
            import importlib, json
            def handler(event, context): return globals()[event]()
            def library(): json.loads("{")
            def marked(): return {}["a"] + {}["b"]
            def multiline():
                raise (
                    ValueError("x"))
            def again(): again()
            def chained():
                try: marked()
                except KeyError as error: raise ValueError from error
            def executed(): exec("1 / 0")
            def imported(): importlib.import_module("broken")
        """)
        broken = self.write("broken.py", "1 / 0\n")
        frame = f'  File "{path}", line {{}}, in {{}}\n    {{}}\n'
        called = frame.format(3, "handler", "def handler(event, context): return globals()[event]()")
        marked = frame.format(5, "marked", 'def marked(): return {}["a"] + {}["b"]')
        chained = frame.format(12, "chained", "except KeyError as error: raise ValueError from error")
        again = frame.format(9, "again", "def again(): again()")
        rows: list[tuple[str, list[str]]] = [
            ("marked", [called, marked]),
            ("multiline", [called, frame.format(7, "multiline", "raise (")]),
            ("chained", [called, chained]),
            ("again", [called, again, again, again]),
            ("executed", [called, frame.format(13, "executed", 'def executed(): exec("1 / 0")')]),
        ]
        served = self.serve(
            *(event(json.dumps(name).encode()) for name, _ in rows), event(b'"library"'), event(b'"imported"')
        )
        for (name, expected), request in zip(rows, served.answers):
            with self.subTest(name):
                stack = json.loads(request.body)["stackTrace"]
                self.assertEqual(stack[: len(expected)], expected)
                if name == "again":
                    self.assertRegex(stack[-1], r"^  \[Previous line repeated \d+ more times\]\n$")
                    self.assertEqual(len(stack), 5)
                elif name == "executed":
                    self.assertEqual(stack[2:], ['  File "<string>", line 1, in <module>\n'])
                else:
                    self.assertEqual(len(stack), len(expected))
        stack = json.loads(served.answers[-1].body)["stackTrace"]
        self.assertEqual(stack[-1], f'  File "{broken}", line 1, in <module>\n    1 / 0\n')
        self.assertNotIn("<frozen importlib", "".join(stack))
        stack = json.loads(served.answers[-2].body)["stackTrace"]
        self.assertRegex(stack[-1], rf'^  File "[^"]*json[^"]*{"__init__" if PYPY else "decoder"}.py", line')

    def test_a_handler_of_the_wrong_shape(self) -> None:
        self.app("def handler(event): return 1")
        (request,) = self.serve(event()).answers
        report = json.loads(request.body)
        self.assertEqual(report["errorMessage"], "handler() takes 1 positional argument but 2 were given")
        self.assertEqual((report["errorType"], report["stackTrace"]), ("TypeError", []))

    def test_whatever_is_raised_is_reported_and_survived(self) -> None:
        self.app("""
            import asyncio, sys
            class BadStr(Exception):
                def __str__(self): raise RuntimeError
            class NoStr(Exception):
                def __str__(self): return 5
            class Base(BaseException): pass
            def odd(name): return type(name, (Exception,), {})
            def handler(event, context):
                if event == "fine": return event
                raise eval(event)
        """)
        rows = [
            ("BadStr()", "BadStr", "Function.BadStr"),
            ("NoStr()", "NoStr", "Function.NoStr"),
            (r"ValueError('\ud800')", "ValueError", "Function.ValueError"),
            ("ValueError('x' * 2_000_000)", "ValueError", "Function.ValueError"),
            (r"ValueError('a\r\nX-Injected: 1')", "ValueError", "Function.ValueError"),
            (r"odd('Größe')('x')", "Größe", "Function.Unknown"),
            (r"odd('A\r\nX-Injected: 1')('x')", "A\r\nX-Injected: 1", "Function.Unknown"),
            ("StopIteration(1)", "StopIteration", "Function.StopIteration"),
            ("GeneratorExit", "GeneratorExit", "Function.GeneratorExit"),
            ("KeyboardInterrupt", "KeyboardInterrupt", "Function.KeyboardInterrupt"),
            ("asyncio.CancelledError", "CancelledError", "Function.CancelledError"),
            ("Base('x')", "Base", "Function.Base"),
            ("MemoryError()", "MemoryError", "Function.MemoryError"),
            ("RecursionError()", "RecursionError", "Function.RecursionError"),
            ("BrokenPipeError(32, 'x')", "BrokenPipeError", "Function.BrokenPipeError"),
        ]
        if sys.version_info >= (3, 11):
            rows.append(("ExceptionGroup('g', [ValueError()])", "ExceptionGroup", "Function.ExceptionGroup"))
        events = [event(json.dumps(source).encode(), request_id=f"id-{at}") for at, (source, _, _) in enumerate(rows)]
        served = self.serve(*events, event(b'"fine"'))
        self.assertEqual([one.endpoint for one in served.answers], ["error"] * len(rows) + ["response"])
        for at, ((source, kind, recorded), request) in enumerate(zip(rows, served.answers)):
            with self.subTest(source):
                report = json.loads(request.body)
                self.assertEqual((report["errorType"], report["requestId"]), (kind, f"id-{at}"))
                self.assertEqual(request.request_id, f"id-{at}")
                self.assertEqual(request.headers["lambda-runtime-function-error-type"], recorded)
                self.assertNotIn("x-injected", request.headers)
                cause = request.headers["lambda-runtime-function-xray-error-cause"]
                self.assertLess(len(cause), 64 * 1024)
                json.loads(cause)
        self.assertEqual(len(json.loads(served.answers[3].body)["errorMessage"]), 2_000_000)

    def test_every_header_is_one_that_lambda_knows(self) -> None:
        """Nothing of the environment or of the user's data gets into the headers but what belongs there."""
        self.app("def handler(event, context): return 1 / event")
        served = self.serve(event(b"1"), event(b"0"), env={"HTTP_PROXY": "http://127.0.0.1:1", "SECRET": "s3cr3t"})
        common = ["host", "user-agent", "content-type", "content-length"]
        error = ["lambda-runtime-function-error-type", "lambda-runtime-function-xray-error-cause"]
        self.assertEqual(sorted(served.answers[0].headers), sorted(common))
        self.assertEqual(sorted(served.answers[1].headers), sorted(common + error))
        for request in served.requests:
            self.assertNotIn(b"s3cr3t", request.raw)
            self.assertEqual(request.version, "HTTP/1.1")
            self.assertRegex(request.headers["host"], r"^127\.0\.0\.1:\d+$")


class ErrorTrackers(RuntimeTestCase):
    """What they do to AWS's client: Sentry's SDK looks for it in these places, and patches these functions."""

    PATCH = """
        import sys
        client = sys.modules["__main__"].bootstrap
        told = []
        def wrap_post(name):
            post = getattr(client.LambdaRuntimeClient, name)
            def inner(*args, **kwargs):
                print(name, *told, *(one["errorType"] for one in args[1:2]))
                if "broken" in told: raise ValueError("of the tracker's own")
                return post(*args, **kwargs)
            setattr(client.LambdaRuntimeClient, name, inner)
        for name in ("post_init_error", "post_invocation_result", "post_invocation_error"): wrap_post(name)
        handle = client.handle_event_request
        def handle_event_request(client, handler, *args, **kwargs):
            def wrapped(event, context):
                try:
                    return handler(event, context)
                except Exception as error:
                    told.append(repr(error))
                    raise
            return handle(client, wrapped, *args, **kwargs)
        client.handle_event_request = handle_event_request
    """

    def test_invocations(self) -> None:
        handler = """
            def handler(event, context):
                if event == "broken": told.append(event)
                return 1 / event
        """
        self.app(textwrap.dedent(self.PATCH) + textwrap.dedent(handler))
        served = self.serve(event(b"1"), event(b"0"), event(b'"broken"'), event(b"2"))
        self.assertEqual([one.endpoint for one in served.answers], ["response", "error", "error", "response"])
        said = [line for line in served.stdout.splitlines() if line.startswith("post_")]
        zero, broken = "ZeroDivisionError('division by zero')", 'broken TypeError("unsupported operand type(s)'
        self.assertEqual(said[:2], ["post_invocation_result", f"post_invocation_result {zero}"])
        self.assertEqual(
            [line.startswith(f"post_invocation_result {zero} {broken}") for line in said[2:]], [True, True]
        )

    def test_a_failed_init(self) -> None:
        for told in ("", "told.append('broken')"):
            with self.subTest(told):
                self.app(textwrap.dedent(self.PATCH) + f"{told}\nraise KeyError")
                served = self.serve()
                self.assertEqual([one.endpoint for one in served.requests], ["init_error"])
                self.assertIn("KeyError", served.stdout.splitlines()[0])
                self.assertEqual(served.done.status, 1)


class Exits(RuntimeTestCase):
    """sys.exit() in a handler: Lambda hears that the invocation failed, then the process ends as it was told to."""

    APP = """
        import atexit, sys
        atexit.register(print, "atexit ran")
        def handler(event, context):
            try:
                sys.exit(eval(event))
            finally:
                print("finally ran")
    """

    def test_status(self) -> None:
        self.app(self.APP)
        rows = [
            ("5", 5, "5", ""),
            ("0", 0, "0", ""),
            ("None", 0, "None" if PYPY else "", ""),
            ("256 + 200", 200, "456", ""),
            ("True", 1, "True", ""),
            ("'bye'", 1, "bye", "bye\n"),
        ]
        for source, status, message, said in rows:
            with self.subTest(source):
                served = self.serve(event(json.dumps(source).encode()), event())
                (request,) = served.answers
                report = json.loads(request.body)
                self.assertEqual((request.endpoint, report["errorType"]), ("error", "SystemExit"))
                self.assertEqual(report["errorMessage"], message)
                self.assertEqual(request.headers["lambda-runtime-function-error-type"], "Function.SystemExit")
                self.assertEqual(served.done.status, status)
                self.assertTrue(served.stderr.endswith(said), served.stderr)
                self.assertEqual([one.endpoint for one in served.requests], ["next", "error"], "no further event")
                self.assertIn("[ERROR] SystemExit", served.stdout)
                self.assertIn("finally ran\n", served.stdout)
                self.assertTrue(served.stdout.endswith("atexit ran\n"), served.stdout)

    def test_it_ends_even_if_lambda_does_not_hear_it(self) -> None:
        self.app(self.APP)
        served = self.serve(event(b'"7"'), event(), error=[answer(410)])
        self.assertEqual(served.done.status, 7)
        self.assertIn("atexit ran", served.stdout)

    def test_a_child_process_ending_is_not_ours(self) -> None:
        self.app("""
            import os, sys
            def handler(event, context):
                child = os.fork()
                if not child: sys.exit(3)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """)
        served = self.serve(event(), event())
        self.assertEqual([one.endpoint for one in served.answers], ["response", "response"])


if __name__ == "__main__":
    unittest.main()
