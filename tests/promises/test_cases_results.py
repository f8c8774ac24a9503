# SPDX-License-Identifier: MIT-0
"""What users reported about results and handlers: streams, JSON, modules. Each report is a test, with its relatives.

A docstring names the report. The expected values are those of AWS's own client wherever it can run the function.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import unittest
import zipfile
from pathlib import Path
from typing import Any

from scripted_api import CLOSE, Request, answer, event
from support import PYPY, RuntimeTestCase, Served, where


def events(*values: object) -> list[Any]:
    return [event(json.dumps(value).encode()) for value in values]


def streamed(request: Request) -> bool:
    return request.headers.get("lambda-runtime-function-response-mode") == "streaming"


def error_type(request: Request) -> str:
    return request.headers.get("lambda-runtime-function-error-type", "")


class WhatStreams(RuntimeTestCase):
    """An iterator is a stream, whoever made it; all else is not."""

    ITERATORS = """
        import array, asyncio, collections.abc, csv, gzip, io, itertools, tempfile, zipfile

        def words():
            try:
                yield "one "
                yield "two"
            finally:
                print("closed")

        class Words(collections.abc.Generator):
            "A generator by inheritance."
            def __init__(self): self.left = ["one ", "two"]
            def send(self, value):
                if not self.left: raise StopIteration
                return self.left.pop(0)
            def throw(self, *args): raise StopIteration

        class Traced:
            "As tracing libraries wrap a generator, to end their span with it."
            def __init__(self, inner): self.inner = inner
            def __iter__(self): return self
            def __next__(self): return next(self.inner)
            def close(self): self.inner.close()

        class Proxy:
            "As wrapt and the like do it: what is asked for is asked of the object within."
            def __init__(self, inner): self.inner = inner
            def __iter__(self): return iter(self.inner)
            def __next__(self): return next(self.inner)
            def __getattr__(self, name): return getattr(self.inner, name)

        class Body:
            "As boto3 gives out what it downloads."
            def __init__(self): self.file = io.BytesIO(b"one two")
            def read(self, size=None): return self.file.read(size)
            def __iter__(self): return self
            def __next__(self):
                piece = self.file.read(4)
                if not piece: raise StopIteration
                return piece
            next = __next__
            def close(self): print("closed")

        class Rows:
            "As cursors of databases and bodies of HTTP clients are."
            def __init__(self): self.left = ["two", "one "]
            def __aiter__(self): return self
            async def __anext__(self):
                await asyncio.sleep(0)
                if not self.left: raise StopAsyncIteration
                return self.left.pop()

        def opened(mode, content, **options):
            file = tempfile.TemporaryFile(mode, **options)
            file.write(content)
            file.seek(0)
            return file

        def zipped():
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as archive: archive.writestr("name", "one \\ntwo")
            return zipfile.ZipFile(out).open("name")
        """
    STREAMS = {
        "Words()": ["one ", "two"],
        "Traced(words())": ["one ", "two"],
        "Proxy(words())": ["one ", "two"],
        "Body()": ["one ", "two"],
        "Rows()": ["one ", "two"],
        "map(str.upper, ['a', 'b'])": ["A", "B"],
        "filter(None, ['a', '', 'b'])": ["a", "b"],
        "itertools.chain(['a'], ['b'])": ["a", "b"],
        "itertools.islice(itertools.repeat('a'), 2)": ["a", "a"],
        "iter(['a', 'b'])": ["a", "b"],
        "iter({'a': 1, 'b': 2})": ["a", "b"],
        "iter('ab')": ["a", "b"],
        "iter(io.StringIO('abc').read, '')": ["abc"],
        "reversed(['a', 'b'])": ["b", "a"],
        "map(json.dumps, [{'a': 1}, None])": ['{"a": 1}', "null"],
        "io.BytesIO(b'line 1\\nline 2\\n')": ["line 1\n", "line 2\n"],
        "io.StringIO('line 1\\nline 2\\n')": ["line 1\n", "line 2\n"],
        "opened('w+', 'größe\\nline 2', encoding='utf-8')": ["größe\n", "line 2"],
        "opened('wb+', b'line 1\\nline 2')": ["line 1\n", "line 2"],
        "gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b'one \\ntwo')))": ["one \n", "two"],
        "zipped()": ["one \n", "two"],
        "iter([])": [],
        "io.BytesIO(b'')": [],
    }

    def test_iterators_of_all_kinds(self) -> None:
        """stream-of-generator-class, -wrapped-generator, -map, -filter, -chain, -file, -async-iterator."""
        self.app(
            "import json\n"
            + self.dedent(self.ITERATORS)
            + f"""
WAYS = [{", ".join(f"lambda: {one}" for one in self.STREAMS)}]
def handler(event, context): return WAYS[event]()
async def ahandler(event, context): return WAYS[event]()
"""
        )
        for handler in ("app.handler", "app.ahandler"):
            for mode in ({}, {"AWS_LAMBDA_MAX_CONCURRENCY": "1"}):
                served = self.serve(*events(*range(len(self.STREAMS))), handler=handler, env=mode)
                self.assertEqual(len(served.answers), len(self.STREAMS))
                for request, (way, expected) in zip(served.answers, self.STREAMS.items()):
                    with self.subTest(way, handler=handler, mode=mode):
                        self.assertTrue(streamed(request), request)
                        self.assertEqual([chunk.data.decode() for chunk in request.chunks], expected)
                        self.assertEqual(request.trailers, [])

    def test_what_is_no_iterator_does_not_stream(self) -> None:
        """list-is-still-json: what can be iterated over, but is not being iterated over, is an ordinary result."""
        rows: dict[str, object] = {
            "{'list': ['a'], 'tuple': ('b',)}": {"list": ["a"], "tuple": ["b"]},
            "['a', 'b']": ["a", "b"],
            "('a', 'b')": ["a", "b"],
            "'ab'": "ab",
            "{}": {},
            "collections.OrderedDict(a=1)": {"a": 1},
            "collections.UserDict(a=1)": None,  # not for JSON, as ever
            "{'a', 'b'}": None,
            "range(2)": None,
            "{'a': 1}.keys()": None,
            "collections.deque('ab')": None,
            "Again()": None,
            "{'rows': iter('ab')}": None,
            "[map(str, [1])]": None,
        }
        self.app(
            "import collections\nclass Again:\n    def __iter__(self): return iter('ab')\n"
            f"WAYS = [{', '.join(f'lambda: {one}' for one in rows)}]\n"
            "def handler(event, context): return WAYS[event]()\n"
        )
        served = self.serve(*events(*range(len(rows))))
        for request, (way, expected) in zip(served.answers, rows.items()):
            with self.subTest(way):
                self.assertFalse(streamed(request))
                if expected is None:
                    self.assertEqual(error_type(request), "Runtime.MarshalError")
                else:
                    self.assertEqual(json.loads(request.body), expected)

    def test_an_iterator_is_closed_when_its_stream_ends_early(self) -> None:
        """stream-of-wrapped-generator: close() ends a span, gives back a connection, deletes a file."""
        source = (
            self.dedent(self.ITERATORS)
            + """
def bad():
    try:
        yield "x"
        yield 5
    finally:
        print("closed")
def endless():
    try:
        while True: yield "x" * 100_000
    finally:
        print("closed")
class Opened(io.BytesIO):
    def close(self):
        if not self.closed: print("closed")
        super().close()
def handler(event, context):
    return {"bad": lambda: Traced(bad()), "gone": lambda: Traced(endless()), "proxy": lambda: Proxy(endless()),
            "whole": lambda: Opened(b"whole")}[event]()
"""
        )
        self.app(source)
        for name, response in (("bad", answer(202)), ("gone", [CLOSE]), ("proxy", [CLOSE]), ("whole", answer(202))):
            with self.subTest(name):
                served = self.serve(*events(name), response=[response])
                self.assertEqual(served.stdout.count("closed\n"), 1, served.stdout)

    def dedent(self, text: str) -> str:
        return "\n".join(line[8:] for line in text.splitlines())


@unittest.skipUnless(importlib.util.find_spec("Cython"), "Cython is not installed; .ci/run does that")
@unittest.skipUnless(
    shutil.which("cc") and os.path.exists(sysconfig.get_path("include") + "/Python.h"),
    "there is nothing to compile with",
)
class Compiled(RuntimeTestCase):
    def test_what_cython_makes_of_handlers(self) -> None:
        """stream-of-cython-generator, stream-of-cython-async-generator: their types are not those of Python."""
        source = self.write(
            "compiled.pyx",
            """
            import asyncio

            def plain(event, context):
                return event

            async def coroutine(event, context):
                await asyncio.sleep(0)
                return event

            def generator(event, context):
                yield "one "
                yield "two"

            async def agenerator(event, context):
                yield "one "
                await asyncio.sleep(0)
                yield "two"

            def early(event, context):
                if event: return event
                yield "one "
            """,
        )
        environment = {**os.environ, "PYTHONPATH": where("Cython")}
        subprocess.run([sys.executable, "-m", "cython", "-3", source], cwd=self.root, env=environment, check=True)
        include = sysconfig.get_path("include")
        subprocess.run(["cc", "-O0", "-w", "-shared", "-fPIC", f"-I{include}", "compiled.c", "-o", "compiled.so"],
                       cwd=self.root, check=True)  # fmt: skip
        for name in ("plain", "coroutine", "early"):
            with self.subTest(name):
                (request,) = self.serve(*events({"a": 1}), handler=f"compiled.{name}").answers
                self.assertEqual(request.body, b'{"a": 1}')
        for name in ("generator", "agenerator"):
            for mode in ({}, {"AWS_LAMBDA_MAX_CONCURRENCY": "1"}):
                with self.subTest(name, mode=mode):
                    (request,) = self.serve(*events({"a": 1}), handler=f"compiled.{name}", env=mode).answers
                    self.assertTrue(streamed(request), request)
                    self.assertEqual([chunk.data for chunk in request.chunks], [b"one ", b"two"])


class ReturnedByGenerators(RuntimeTestCase):
    """`return value` in a generator is a result as long as nothing was yielded, and never dropped without a word."""

    SOURCE = """
        def validate(event):
            if event is None: return {"statusCode": 400, "body": "nothing given"}
            yield from ()
        class Wrapped:
            def __init__(self, inner): self.inner = inner
            def __iter__(self): return self
            def __next__(self): return next(self.inner)
        def respond(event, context):
            if "return" in event: return event["return"]
            if "bytes" in event: return event["bytes"].encode()
            if "object" in event: return object()
            yield {"statusCode": 200, "headers": {"content-type": "text/plain"}}
            yield "Hello, " + event["name"]
        def handler(event, context):
            return respond(event, context)
        def delegating(event, context):
            return (yield from respond(event, context))
        def wrapped(event, context):
            return Wrapped(respond(event, context))
        async def coroutine(event, context):
            return respond(event, context)
        """

    def test_an_early_return_is_an_ordinary_result(self) -> None:
        """early-return-in-generator, early-return-then-stream: validate, return; else stream."""
        self.app(self.SOURCE)
        refusal = {"statusCode": 400, "body": "name is missing"}
        values: list[object] = [refusal, "", 0, False, [], {}, "text", 2.5]
        rows = [*({"return": value} for value in values), {"bytes": "raw"}, {"object": 1}, {"name": "Ada"}]
        for handler in ("handler", "delegating", "wrapped", "coroutine"):
            for mode in ({}, {"AWS_LAMBDA_MAX_CONCURRENCY": "1"}):
                with self.subTest(handler, mode=mode):
                    answers = self.serve(*events(*rows), handler=f"app.{handler}", env=mode).answers
                    self.assertEqual([streamed(one) for one in answers], [False] * (len(rows) - 1) + [True])
                    self.assertEqual([json.loads(one.body) for one in answers[: len(values)]], values)
                    raw, failed, stream = answers[len(values) :]
                    self.assertEqual((raw.body, raw.headers["content-type"]), (b"raw", "application/octet-stream"))
                    self.assertEqual(error_type(failed), "Runtime.MarshalError")
                    self.assertEqual([chunk.data for chunk in stream.chunks[1:]], [bytes(8), b"Hello, Ada"])

    def test_an_early_return_of_nothing_is_an_empty_stream(self) -> None:
        """early-return-in-generator: a bare `return` is how a generator says that it has no items."""
        self.app("def handler(event, context):\n    return\n    yield")
        (request,) = self.serve(event()).answers
        self.assertEqual((streamed(request), request.body), (True, b""))

    def test_a_late_return_is_told_of(self) -> None:
        """late-return-in-generator: the response is what was yielded, and a warning says what is lost."""
        self.app("""
            def handler(event, context):
                yield "part"
                return event
        """)
        served = self.serve(*events({"total": 1}, None))
        self.assertEqual([(streamed(one), one.body, one.trailers) for one in served.answers], [(True, b"part", [])] * 2)
        (warning,) = self.lines(served.stdout)  # of the first alone: None is no value
        self.assertTrue(warning.startswith("[WARNING]"), warning)


class Preludes(RuntimeTestCase):
    def test_what_lambda_may_know_of_is_sent_as_it_is(self) -> None:
        """prelude-multi-value-headers: and whatever else the service behind it may learn one day."""
        rows: list[dict[str, object]] = [
            {"statusCode": 200, "multiValueHeaders": {"link": ["</a>", "</b>"]}},
            {"multiValueHeaders": {}, "headers": {"a": "b"}},
            {"statusCode": 404, "statusDescription": "404 Not Found"},
            {"isBase64Encoded": False, "version": 2, "trailers": None},
        ]
        self.app("def handler(event, context):\n    yield event\n    yield 'body'")
        for request, prelude in zip(self.serve(*events(*rows)).answers, rows):
            with self.subTest(prelude):
                self.assertEqual(
                    json.loads(request.chunks[0].data),
                    {"statusCode": 200, "headers": {}, "cookies": [], **prelude},
                )
                self.assertEqual([chunk.data for chunk in request.chunks[1:]], [bytes(8), b"body"])

    def test_headers_of_any_mapping(self) -> None:
        """prelude-headers-of-a-mapping: frameworks have read-only, ordered and case-insensitive ones."""
        rows = ["types.MappingProxyType(D)", "Insensitive(D)", "collections.OrderedDict(D)", "collections.UserDict(D)",
                "collections.ChainMap(D)", "Headers(D)", "collections.defaultdict(str, D)"]  # fmt: skip
        self.app(f"""
            import collections, collections.abc, types
            D = {{"Content-Type": "text/plain", "X": "ü"}}
            class Headers(dict): pass
            class Insensitive(collections.abc.Mapping):
                def __init__(self, data): self.data = {{name.lower(): (name, value) for name, value in data.items()}}
                def __getitem__(self, name): return self.data[name.lower()][1]
                def __iter__(self): return (name for name, _ in self.data.values())
                def __len__(self): return len(self.data)
            WAYS = [{", ".join(rows)}]
            def handler(event, context):
                yield {{"statusCode": 201, "headers": WAYS[event]}}
                yield "body"
        """)
        for request, way in zip(self.serve(*events(*range(len(rows)))).answers, rows):
            with self.subTest(way):
                self.assertEqual(
                    json.loads(request.chunks[0].data),
                    {"statusCode": 201, "headers": {"Content-Type": "text/plain", "X": "ü"}, "cookies": []},
                )

    def test_a_prelude_is_any_dict(self) -> None:
        """prelude-headers-of-a-mapping: the prelude itself may be of a class of a framework's."""
        rows = [
            "collections.OrderedDict(statusCode=201)",
            "Prelude(statusCode=201)",
            "collections.Counter(statusCode=201)",
        ]
        self.app(f"""
            import collections
            class Prelude(dict): pass
            WAYS = [{", ".join(rows)}]
            def handler(event, context):
                yield WAYS[event]
        """)
        for request, way in zip(self.serve(*events(*range(len(rows)))).answers, rows):
            with self.subTest(way):
                self.assertEqual(json.loads(request.chunks[0].data)["statusCode"], 201)


class Surrogates(RuntimeTestCase):
    """Halves of characters: they are escaped, so that the response is JSON; all else is UTF-8 without escapes."""

    def test_text_with_halves_of_characters_in_it(self) -> None:
        """half-emoji-echoed, emoji-as-two-surrogates, emoji-from-escapes: as values, as keys, on any level."""
        rows = {
            rb'{"text": "cut \ud83d"}': rb'{"text": "cut \ud83d"}',
            rb'{"text": "\ude00 rest"}': rb'{"text": "\ude00 rest"}',
            rb'["a", {"b": ["\ud83d"]}]': rb'["a", {"b": ["\ud83d"]}]',
            rb'{"\ud83d": 1}': rb'{"\ud83d": 1}',
            rb'"\ud83d"': rb'"\ud83d"',
            rb'{"text": "caf\u00e9 \ud83d\ude00"}': '{"text": "café 😀"}'.encode(),
            '{"text": "größe \\ud83d 😀"}'.encode(): '{"text": "größe \\ud83d 😀"}'.encode(),
            rb'"\ud83d\ud83d\ude00"': b'"\\ud83d\xf0\x9f\x98\x80"',
        }
        self.app("def handler(event, context): return event")
        for request, (given, expected) in zip(self.serve(*map(event, rows)).answers, rows.items()):
            with self.subTest(given):
                self.assertEqual(request.endpoint, "response", request)
                self.assertEqual(json.loads(request.body), json.loads(given))
                self.assertEqual(request.body, expected)

    def test_text_that_was_decoded_in_pieces(self) -> None:
        """emoji-as-two-surrogates: the two halves are one emoji to whoever reads the response."""
        self.app("""
            import collections, decimal, os
            Pair = collections.namedtuple("Pair", "name price")
            WAYS = [
                lambda: {"text": b"smile \\\\ud83d\\\\ude00".decode("unicode_escape")},
                lambda: Pair(b"smile \\\\ud83d\\\\ude00".decode("unicode_escape"), decimal.Decimal("1.10")),
                lambda: {"file": os.fsdecode(b"caf\\xe9.txt")},
            ]
            def handler(event, context): return WAYS[event]()
        """)
        served = self.serve(*events(0, 1, 2), env={"LANG": "C.UTF-8"})
        self.assertEqual(self.results(served), [{"text": "smile 😀"}, {"name": "smile 😀", "price": 1.10},
                                                {"file": "caf\udce9.txt"}])  # fmt: skip
        self.assertIn(b"1.10", served.answers[1].body)

    def test_where_else_such_text_goes(self) -> None:
        """half-emoji-echoed: into an error and a prelude, which are JSON; the body of a stream has no place for it."""
        self.app("""
            def stream(text):
                yield {"headers": {"x": text}}
                yield text
            def handler(event, context):
                if "raise" in event: raise ValueError(event["text"])
                return stream(event["text"])
        """)
        text = "cut \ud83d"
        served = self.serve(*events({"text": text, "raise": 1}, {"text": text}))
        failed, stream = served.answers
        self.assertEqual(json.loads(failed.body)["errorMessage"], text)
        self.assertIn("ValueError: cut ", served.stdout)
        self.assertEqual(json.loads(stream.chunks[0].data)["headers"], {"x": text})
        self.assertIn(("Lambda-Runtime-Function-Error-Type", "Runtime.MarshalError"), stream.trailers)


class ModulesWithNamesOfTheStandardLibrary(RuntimeTestCase):
    """A file beside the handler is found, or not, as on AWS's client; and it never breaks the runtime."""

    # What that has not imported by the time it imports the user's module, and somebody calls a file of theirs.
    USERS = """
        array asyncio base64 calendar cmd code concurrent configparser copy csv ctypes datetime email fcntl fractions
        getpass glob hashlib hmac html http imaplib inspect ipaddress locale mimetypes multiprocessing optparse pathlib
        pdb platform plistlib pprint profile pwd queue random resource sched secrets select selectors shelve shlex
        shutil signal smtplib socket sqlite3 ssl statistics subprocess tempfile test timeit trace turtle typing
        unittest urllib uuid xml zipfile zoneinfo
        """
    LIBRARYS = """
        codecs collections contextlib decimal functools io json keyword linecache logging numbers operator os re
        string textwrap threading token tokenize traceback types warnings weakref
        """

    def setUp(self) -> None:
        super().setUp()
        # Those that are part of the interpreter win on any path.
        self.users = [name for name in self.USERS.split() if name not in sys.builtin_module_names]
        if sys.version_info >= (3, 14):
            self.users.remove("typing")  # traceback needs dataclasses there, and that looks at whatever bears this name
        self.librarys = self.LIBRARYS.split()
        if sys.version_info >= (3, 14):  # for the same reason
            self.librarys += ["dataclasses", "inspect"]
            self.users = [name for name in self.users if name not in self.librarys]

    def test_a_helper_of_the_users(self) -> None:
        """helper-named-signal, -socket, -queue, -select, -fcntl: answer, error, answer, in all modes."""
        for name in ("signal", "socket", "queue", "select", "fcntl", "asyncio", "selectors", "email", "http"):
            if name in sys.builtin_module_names:
                continue
            with self.subTest(name):
                root = self.folder()
                self.write(f"{root}/{name}.py", "def mine(x):\n    return [x]")
                self.write(
                    f"{root}/app.py",
                    f"""
                    from {name} import mine
                    def handler(event, context):
                        if event == 2: raise ValueError("bad")
                        return mine(event)
                """,
                )
                served = self.serve(*events(1, 2, 3), env={"LAMBDA_TASK_ROOT": root}, cwd=root)
                self.assertEqual([one.endpoint for one in served.answers], ["response", "error", "response"])
                self.assertEqual([one.body for one in served.sent("response")], [b"[1]", b"[3]"])
                self.assertEqual(json.loads(served.sent("error")[0].body)["errorType"], "ValueError")

    def test_which_module_it_is(self) -> None:
        """helper-named-*, string-beside-the-handler, numbers-beside-the-handler: by what was imported before."""
        for name in [*self.users, *self.librarys]:
            self.write(f"{name}.py", "MINE = True")
        self.app(f"""
            import importlib
            found = {{}}
            for name in {[*self.users, *self.librarys]}:
                found[name] = hasattr(importlib.import_module(name), "MINE")
            def handler(event, context): return found
        """)
        served = self.serve(event())
        self.assertEqual([one.endpoint for one in served.answers], ["response"], served.stdout + served.stderr)
        (found,) = self.results(served)
        # What site and its .pth files import is nobody's choice.
        bare = [sys.executable, "-c", "import sys; print(*sys.modules)"]
        taken = subprocess.run(bare, env=self.environment(), stdout=subprocess.PIPE, text=True).stdout.split()
        missing = [name for name in self.users if not found[name] and name not in taken]
        self.assertEqual(missing, [], "the user's own is not found")
        self.assertEqual([name for name in self.librarys if found[name]], [], "the library's own is not found")

    def test_what_the_library_needs_is_the_librarys(self) -> None:
        """string-beside-the-handler, numbers-beside-the-handler: modules that others are built upon."""
        self.write("string.py", "def shorten(text): return text[:3]")
        self.write("numbers.py", "ONE = 1")
        self.write("types.py", "ONE = 1")
        self.app("""
            import statistics, string
            def handler(event, context):
                return string.Template("hello $name").substitute(name="Ada"), statistics.mean(event)
        """)
        self.assertEqual(self.results(self.serve(*events([1, 2, 3]))), [["hello Ada", 2]])

    def test_a_handler_in_such_a_file(self) -> None:
        """handler-named-signal, -socket, -queue, -fcntl, -array."""
        names = ["signal", "socket", "queue", "fcntl", "array", "asyncio", "email", "http", "uuid", "test", "code"]
        for name in [name for name in names if name not in sys.builtin_module_names]:
            with self.subTest(name):
                root = self.folder()
                self.write(f"{root}/{name}.py", "def handler(event, context):\n    return __name__")
                served = self.serve(event(), env={"LAMBDA_TASK_ROOT": root}, cwd=root, handler=f"{name}.handler")
                self.assertEqual(self.results(served), [name])

    def test_a_package_of_such_a_name(self) -> None:
        """handler-named-queue: a folder is as good as a file."""
        self.write("queue/__init__.py")
        self.write("queue/worker.py", "import signal\ndef handler(event, context):\n    return [__name__, signal.MINE]")
        self.write("signal/__init__.py", "MINE = 1")
        for handler in ("queue.worker.handler", "queue/worker.handler"):
            with self.subTest(handler):
                self.assertEqual(self.results(self.serve(event(), handler=handler)), [["queue.worker", 1]])

    def test_the_runtime_needs_none_of_the_users_files(self) -> None:
        """runtime-unharmed-by-json, -logging, -asyncio, -asyncio-async: all that it may import at once."""
        names = {*self.users, *self.librarys, "contextvars", "heapq", "bisect", "struct", "abc", "stat", "atexit",
                 "binascii", "errno", "time", "itertools", "reprlib", "copyreg", "enum", "_strptime"}  # fmt: skip
        for name in names - set(sys.builtin_module_names):
            self.write(f"{name}.py", "raise RuntimeError('not for the runtime')")
        text = """
            def handler(event, context):
                if event['n'] == 2: raise ValueError('bad')
                return event
            """
        stream = text.replace("return event", "yield str(event['n'])")
        rows = {"plain": text, "async": text.replace("def", "async def"), "stream": stream,
                "async stream": stream.replace("def", "async def")}  # fmt: skip
        for mode in ({}, {"AWS_LAMBDA_MAX_CONCURRENCY": "1"}):
            for name, source in rows.items():
                with self.subTest(name, mode=mode):
                    self.app(source)
                    served = self.serve(*events({"n": 1}, {"n": 2}, {"n": 3}), env=mode)
                    self.assertEqual([one.endpoint for one in served.answers], ["response", "error", "response"])
                    self.assertEqual(json.loads(served.answers[1].body)["errorType"], "ValueError")
                    self.assertIn("ValueError: bad", served.stdout)


class FailingImports(RuntimeTestCase):
    """Which file imports what is not there: the first question of everybody who meets this error."""

    def report(self, **options: Any) -> tuple[dict[str, Any], Served]:
        served = self.serve(**options)
        self.assertEqual(served.done.status, 1)
        (request,) = served.sent()
        self.assertEqual(request.endpoint, "init_error")
        return json.loads(request.body), served

    def test_the_frames_that_lead_to_it(self) -> None:
        """import-error-in-helper: in a module of a module, in a package, by a name, behind a wrapper of the user's."""
        self.write("lib/__init__.py")
        self.write("lib/deep.py", "import os\n\nimport yaml_that_is_not_there\n")
        self.write("lib/name.py", "from os import a_name_that_is_not_there\n")
        self.write("lib/beyond.py", "from ... import beyond\n")
        self.write("lib/raises.py", "def load():\n    raise ImportError('libfoo.so.1: cannot open')\nload()\n")
        self.write("helper.py", "import os\nfrom lib import deep\n")
        rows = {
            "import helper": [("app.py", 1), ("helper.py", 2), ("lib/deep.py", 3)],
            "import yaml_that_is_not_there": [("app.py", 1)],
            "import lib.name": [("app.py", 1), ("lib/name.py", 1)],
            "import lib.beyond": [("app.py", 1), ("lib/beyond.py", 1)],
            "import lib.raises": [("app.py", 1), ("lib/raises.py", 3), ("lib/raises.py", 2)],
            "import importlib; importlib.import_module('lib.deep')": [("app.py", 1), ("lib/deep.py", 3)],
        }
        for source, expected in rows.items():
            with self.subTest(source):
                self.app(f"{source}\ndef handler(event, context): pass")
                report, served = self.report()
                self.assertEqual(report["errorType"], "Runtime.ImportModuleError")
                self.assertTrue(report["errorMessage"].startswith("Unable to import module 'app': "), report)
                self.assertEqual(len(report["stackTrace"]), len(expected), report["stackTrace"])
                for frame, (file, line) in zip(report["stackTrace"], expected):
                    self.assertIn(f'File "{self.root}/{file}", line {line}, in ', frame)
                self.assertIn(f"{self.root}/{expected[-1][0]}", served.stdout)

    def test_a_handlers_module_that_is_not_there(self) -> None:
        """import-error-in-helper: nobody's file imports it, so there are no frames."""
        self.write("package/__init__.py")
        for handler in ("missing.handler", "package.missing.handler", "package/missing.handler"):
            with self.subTest(handler):
                report, _ = self.report(handler=handler)
                self.assertEqual((report["errorType"], report["stackTrace"]), ("Runtime.ImportModuleError", []))


@unittest.skipIf(PYPY, "its library is elsewhere")
class LibraryInAZip(RuntimeTestCase):
    def test_a_bundled_python_whose_library_is_a_zip(self) -> None:
        """standard-library-in-a-zip: modules come from zipimport there, and so does what is not a file."""
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        library, home = Path(sysconfig.get_path("stdlib")), Path(self.folder())
        lib = home / "lib" / f"python{version}"
        lib.mkdir(parents=True)
        with zipfile.ZipFile(home / "lib" / f"python{version.replace('.', '')}.zip", "w") as archive:
            for path in library.rglob("*.py"):
                name = path.relative_to(library)
                if name.parts[0] not in ("test", "site-packages", "dist-packages", "idlelib", "lib2to3", "tkinter"):
                    archive.write(path, name)
        (lib / "lib-dynload").symlink_to(library / "lib-dynload")
        self.app("""
            import asyncio, concurrent.futures, logging, os, queue, traceback
            log = logging.getLogger()
            def handler(event, context):
                log.error("record")
                if event == 2: raise ValueError("bad")
                return [type(logging.__loader__).__name__, len(log.handlers)]
            async def ahandler(event, context): return handler(event, context)
        """)
        for handler in ("app.handler", "app.ahandler"):
            with self.subTest(handler):
                served = self.serve(*events(1, 2), handler=handler, env={"PYTHONHOME": str(home)})
                self.assertEqual(json.loads(served.answers[0].body), ["zipimporter", 1])
                report = json.loads(served.answers[1].body)
                self.assertEqual(
                    (report["errorType"], len(report["stackTrace"])), ("ValueError", 1 + ("a" in handler[4]))
                )
                self.assertEqual(served.stdout.count("\trecord\n"), 2)


if __name__ == "__main__":
    unittest.main()
