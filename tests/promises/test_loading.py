# SPDX-License-Identifier: MIT-0
"""Loading the handler: what its name may be, where it is looked for, and how Lambda hears that there is none."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scripted_api import event
from support import PYPY, RUNTIME, RuntimeTestCase, Served, runtime

RETURNS_ITS_NAME = "def handler(event, context): return __name__\n"


class Loaded(RuntimeTestCase):
    def test_names(self) -> None:
        rows = [
            ("app.handler", "app.py", "app"),
            ("package.module.handler", "package/module.py", "package.module"),
            ("package.handler", "package/__init__.py", "package"),
            ("folder/module.handler", "folder/module.py", "folder.module"),
            ("a/deep/er/folder.handler", "a/deep/er/folder.py", "a.deep.er.folder"),
            ("my-app.handler", "my-app.py", "my-app"),
            ("größe.handler", "größe.py", "größe"),
            ("lambda.handler", "lambda.py", "lambda"),
        ]
        for handler, file, name in rows:
            with self.subTest(handler):
                self.write(file, RETURNS_ITS_NAME)
                self.assertEqual(self.results(self.serve(event(), handler=handler)), [name])

    def test_any_callable_will_do(self) -> None:
        self.app("""
            import functools
            class Class:
                def __init__(self, word): self.word = word
                def __call__(self, event, context): return self.word
                def method(self, event, context): return "method"
            def three(word, event, context): return word
            function = lambda event, context: "lambda"
            instance = Class("instance")
            method = instance.method
            partial = functools.partial(three, "partial")
            builtin = "built {0}".format
            cls = dict.fromkeys
            def __getattr__(name):
                return lambda event, context: f"made for {name}"
        """)
        rows = [
            ("app.function", "lambda"),
            ("app.instance", "instance"),
            ("app.method", "method"),
            ("app.partial", "partial"),
            ("app.builtin", "built in"),
            ("app.anything", "made for anything"),
        ]
        for handler, expected in rows:
            with self.subTest(handler):
                self.assertEqual(self.results(self.serve(event(b'"in"'), handler=handler)), [expected])

    def test_the_module_is_imported_once(self) -> None:
        self.app("count = [0]\ndef handler(event, context):\n    count[0] += 1\n    return count[0]\n")
        self.assertEqual(self.results(self.serve(event(), event(), event())), [1, 2, 3])


class Case(NamedTuple):
    """A module that cannot be used, or a name that means none."""

    name: str
    files: dict[str, str]
    type: str
    message: str  # which it has to begin with
    stack: list[str] = []  # {} is the task root
    handler: str = "app.handler"


class NotLoaded(RuntimeTestCase):
    CASES = (
        Case(
            "no such module",
            {},
            "Runtime.ImportModuleError",
            "Unable to import module 'nope': No module named 'nope'",
            handler="nope.handler",
        ),
        Case(
            "no such folder",
            {},
            "Runtime.ImportModuleError",
            "Unable to import module 'folder/nope': No module named 'folder",
            handler="folder/nope.handler",
        ),
        Case(
            "no such dependency",
            {"app.py": "import not_there\n"},
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'not_there'",
            ['  File "{}/app.py", line 1, in <module>\n    import not_there\n'],
        ),
        Case(
            "nothing of that name in a dependency",
            {"app.py": "from sub import missing\n", "sub.py": ""},
            "Runtime.ImportModuleError",
            "Unable to import module 'app': cannot import name 'missing' from 'sub'",
            ['  File "{}/app.py", line 1, in <module>\n    from sub import missing\n'],
        ),
        Case(
            "a class's attribute",
            {"app.py": "class C:\n    handler = print\n"},
            "Runtime.ImportModuleError",
            "Unable to import module 'app.C': No module named 'app.C'",
            handler="app.C.handler",
        ),
        Case(
            "a syntax error",
            {"app.py": "x = 1\nx = = 2\n"},
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': invalid syntax (app.py, line 2)",
            ['  File "{}/app.py" Line 2\n    x = = 2\n'],
        ),
        Case(
            "a syntax error in what it imports",
            {"app.py": "import sub\n", "sub.py": "x = = 2\n"},
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': invalid syntax (sub.py, line 1)",
            ['  File "{}/sub.py" Line 1\n    x = = 2\n'],
        ),
        Case(
            "wrong indentation",
            {"app.py": "def f():\n    x = 1\n        y = 2\n"},
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app': unexpected indent (app.py, line 3)",
            ['  File "{}/app.py" Line 3\n            y = 2\n'],
        ),
        Case(
            "no such function",
            {"app.py": ""},
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'app'",
        ),
        Case(
            "no function's name",
            {"app.py": ""},
            "Runtime.HandlerNotFound",
            "Handler '' missing on module 'app'",
            handler="app.",
        ),
        Case(
            "the name of a thing that is not callable",
            {"app.py": "handler = 3\n"},
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'app'",
        ),
        Case("no dot", {"app.py": ""}, "Runtime.MalformedHandlerName", "Bad handler 'app'", handler="app"),
        Case(
            "a built-in module",
            {"sys.py": RETURNS_ITS_NAME},
            "Runtime.BuiltInModuleConflict",
            "Cannot use built-in module sys as a handler module",
            handler="sys.handler",
        ),
        Case(
            "an exception, in a function of what it imports",
            {"app.py": "import sub\nsub.fail()\n", "sub.py": "def fail():\n    raise ValueError('no ü€😀')\n"},
            "ValueError",
            "no ü€😀",
            [
                '  File "{}/app.py", line 2, in <module>\n    sub.fail()\n',
                "  File \"{}/sub.py\", line 2, in fail\n    raise ValueError('no ü€😀')\n",
            ],
        ),
        Case(
            "an exception, through two imports",
            {"app.py": "import sub\n", "sub.py": "{}['k']\n"},
            "KeyError",
            "'k'",
            [
                '  File "{}/app.py", line 1, in <module>\n    import sub\n',
                "  File \"{}/sub.py\", line 1, in <module>\n    {{}}['k']\n",
            ],
        ),
        Case(
            "an exception while the function is looked up",
            {"app.py": "def __getattr__(name): return 1 / 0\n"},
            "ZeroDivisionError",
            "division by zero",
            ['  File "{}/app.py", line 1, in __getattr__\n    def __getattr__(name): return 1 / 0\n'],
        ),
        Case(
            "it exits as if all were well",
            {"app.py": "import sys\nsys.exit(0)\n"},
            "SystemExit",
            "0",
            ['  File "{}/app.py", line 2, in <module>\n    sys.exit(0)\n'],
        ),
        Case(
            "it exits without a word",
            {"app.py": "raise SystemExit\n"},
            "SystemExit",
            "",
            ['  File "{}/app.py", line 1, in <module>\n    raise SystemExit\n'],
        ),
        Case(
            "any BaseException",
            {"app.py": "class Odd(BaseException): pass\nraise Odd('odd')\n"},
            "Odd",
            "odd",
            ["  File \"{}/app.py\", line 2, in <module>\n    raise Odd('odd')\n"],
        ),
        Case(
            "an exception that has no text",
            {"app.py": "class Bad(Exception):\n    def __str__(self): raise TypeError\nraise Bad\n"},
            "Bad",
            "",
            ['  File "{}/app.py", line 3, in <module>\n    raise Bad\n'],
        ),
        Case(
            "text that is not Unicode",
            {"app.py": "raise ValueError('\\ud800')\n"},
            "ValueError",
            "",
            ["  File \"{}/app.py\", line 1, in <module>\n    raise ValueError('\\ud800')\n"],
        ),
    )

    def check(self, served: Served, kind: str, message: str) -> dict[str, object]:
        """Lambda was told once, and nothing else; the log says it, too; it ended with status 1. Returns the report."""
        (request,) = served.requests
        self.assertEqual(request.path, "/2018-06-01/runtime/init/error")
        recorded = kind if kind.startswith("Runtime.") else f"Function.{kind}"
        self.assertEqual(request.headers["lambda-runtime-function-error-type"], recorded)
        self.assertEqual(request.headers["content-type"], "application/json")
        report: dict[str, object] = json.loads(request.body)
        self.assertEqual(list(report), ["errorMessage", "errorType", "requestId", "stackTrace"])
        self.assertEqual((report["errorType"], report["requestId"]), (kind, ""))
        said = str(report["errorMessage"])
        self.assertTrue(said.startswith(message), said)
        self.assertIn(f"[ERROR] {kind}", served.stdout)
        self.assertIn(said.encode("utf-8", "backslashreplace").decode(), served.stdout)
        self.assertEqual((served.done.status, served.stderr), (1, ""))
        return report

    def test_cases(self) -> None:
        for case in self.CASES:
            with self.subTest(case.name):
                for name, text in case.files.items():
                    self.write(name, text)
                report = self.check(self.serve(event(), handler=case.handler), case.type, case.message)
                self.assertEqual(report["stackTrace"], [line.format(self.root) for line in case.stack])
                for name in case.files:
                    os.unlink(os.path.join(self.root, name))

    def test_a_source_that_is_not_utf_8(self) -> None:
        for name, source in (("Latin-1", b"x = '\xfc'\n"), ("NUL", b"x = '\0'\n")):
            with self.subTest(name):
                Path(self.root, "app.py").write_bytes(source)
                served = self.serve(event())
                kind = json.loads(served.requests[0].body)["errorType"]
                self.assertIn(kind, ("Runtime.UserCodeSyntaxError", "ValueError"))  # the latter before Python 3.12
                self.check(served, kind, "")

    def test_a_module_that_cannot_be_read(self) -> None:
        """A folder app.py, and a link that leads to itself: no module for Python, but no reason to crash."""
        os.mkdir(os.path.join(self.root, "app.py"))
        os.symlink("link.py", os.path.join(self.root, "link.py"))
        for handler in ("app.handler", "link.handler"):
            with self.subTest(handler):
                self.check(self.serve(handler=handler), "Runtime.ImportModuleError", "Unable to import module")

    def test_told_to_end_while_importing(self) -> None:
        """Then there is nothing to report, even if the module catches everything."""
        waits = "import os, signal, time\n{}os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)\n{}"
        for name, before, after in (("plain", "", ""), ("caught", "try: ", "except BaseException: raise ValueError\n")):
            with self.subTest(name):
                self.app(waits.format(before, after))
                served = self.serve(event())
                self.assertEqual((served.requests, served.done.status), ([], 0))


TELLS_ITS_PATH = """
    import os, sys
    def handler(event, context):
        return {"path": sys.path, "PYTHONPATH": os.environ.get("PYTHONPATH")}
"""


class SearchPath(RuntimeTestCase):
    """sys.path: the task root, the layers, the interpreter's own, the managed runtime's folder."""

    def setUp(self) -> None:
        super().setUp()
        self.home = self.folder()
        self.opt = self.folder()
        # Layers lie below /opt, where tests have no business: a runtime that differs in this alone.
        source = RUNTIME.read_text(encoding="utf-8")
        self.assertIn("/opt/python", source)
        self.script = self.write(f"{self.home}/runtime.py", source.replace("/opt/python", f"{self.opt}/python"))
        self.site = f"{self.opt}/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        self.app(TELLS_ITS_PATH)

    def paths(
        self, env: Mapping[str, str | None] | None = None, argv: list[str] | None = None, cwd: str = ""
    ) -> tuple[list[str], str | None]:
        """sys.path and $PYTHONPATH as user code finds them."""
        argv = argv or [sys.executable, self.script, "app.handler"]
        (told,) = self.results(self.serve(event(), argv=argv, env=env, cwd=cwd or None))
        return told["path"], told["PYTHONPATH"]

    def own(self, *options: str, env: Mapping[str, str | None] | None = None) -> list[str]:
        """What is on the interpreter's own path, without a script's folder."""
        command = [sys.executable, *options, "-c", "import sys, json; print(json.dumps(sys.path))"]
        found = json.loads(subprocess.run(command, env=self.environment(env), capture_output=True, check=True).stdout)
        assert isinstance(found, list)
        return found if {"-I", "-P"} & set(options) else found[1:]

    def test_without_layers(self) -> None:
        self.assertEqual(self.paths(), ([self.root, *self.own()], None))

    def test_layers(self) -> None:
        for folder in (f"{self.opt}/python", self.site):
            os.makedirs(folder, exist_ok=True)
            with self.subTest(folder):
                layers = [one for one in (self.site, f"{self.opt}/python") if os.path.isdir(one)]
                self.assertEqual(self.paths()[0], [self.root, *layers, *self.own()])

    def test_path_files_of_layers(self) -> None:
        """A .pth file adds folders and runs imports, as in any site-packages."""
        for layer in (self.site, f"{self.opt}/python"):
            with self.subTest(layer):
                self.write(f"{layer}/extra/extra_module.py", "")
                self.write(f"{layer}/a.pth", "extra\nimport os; os.environ['PTH'] = 'ran'\n")
                found = self.evaluate(
                    "[extra_module.__file__, os.environ['PTH'], sys.path[0]]",
                    "import os, sys, extra_module",
                    argv=[sys.executable, self.script, "app.handler"],
                )
                self.assertEqual(found, [f"{layer}/extra/extra_module.py", "ran", self.root])
                shutil.rmtree(f"{self.opt}/python")

    def test_path_files_of_the_function(self) -> None:
        self.write("vendor/vendored.py", "")
        self.write("my.pth", "vendor\n")
        self.assertEqual(self.evaluate("vendored.__file__", "import vendored"), f"{self.root}/vendor/vendored.py")

    def test_a_task_root_that_is_not_there(self) -> None:
        served = self.serve(handler="json.loads", env={"LAMBDA_TASK_ROOT": f"{self.root}/nowhere"})
        self.assertEqual([one.endpoint for one in served.requests], ["next"])

    def test_runtime_dir(self) -> None:
        folder = self.folder()
        own = self.own()
        rows = [
            ("is last", {}, [self.root, *own, folder], folder),
            ("empty", {"LAMBDA_RUNTIME_DIR": ""}, [self.root, *own], None),
            ("not there", {"LAMBDA_RUNTIME_DIR": f"{folder}/nowhere"}, [self.root, *own], None),
            ("after a PYTHONPATH of the user's", {"PYTHONPATH": "/user"}, [self.root, "/user", *own, folder], "/user"),
            ("in PYTHONPATH already", {"PYTHONPATH": folder}, [self.root, folder, *own], folder),
        ]
        for name, env, path, variable in rows:
            with self.subTest(name):
                self.assertEqual(self.paths({"LAMBDA_RUNTIME_DIR": folder, **env}), (path, variable))

    def test_child_processes_find_the_runtime_dir(self) -> None:
        folder = self.folder()
        self.write(f"{folder}/only_there.py", "print('found')")
        found = self.evaluate(
            "subprocess.run([sys.executable, '-c', 'import only_there'], capture_output=True, text=True).stdout",
            "import subprocess, sys",
            env={"LAMBDA_RUNTIME_DIR": folder},
        )
        self.assertEqual(found, "found\n")

    def test_our_own_folder_is_not_on_it(self) -> None:
        """However the runtime is started: with options that leave the script's folder out, too."""
        module = ["-m", "runtime", "app.handler"]
        script = [self.script, "app.handler"]
        rows: list[tuple[list[str], list[str], dict[str, str]]] = [
            ([], script, {}),
            (["-B"], module, {}),
            (["-I"], script, {}),
            (["-E"], script, {}),
            (["-s"], script, {}),
        ]
        if sys.version_info >= (3, 11):
            rows += [(["-P"], script, {}), ([], script, {"PYTHONSAFEPATH": "1"})]
        for options, rest, env in rows:
            with self.subTest(options=options, rest=rest[0], env=env):
                found, _ = self.paths(env, [sys.executable, *options, *rest], self.home)
                self.assertEqual(found, [self.root, *self.own(*options)])

    def test_loading_http_client_leaves_no_trace(self) -> None:
        for name in ("http.client", "email.message", "urllib.parse", "ssl"):  # there before: none may be lost
            __import__(name)
        before = dict(sys.modules)
        self.assertIsNot(runtime.import_http_client(), sys.modules["http.client"])
        self.assertEqual(dict(sys.modules), before)

    def test_the_standard_librarys_http_client(self) -> None:
        """The runtime's own is one without email and ssl; should that no longer work, it is the ordinary one."""
        self.app("""
            import sys, __main__
            loaded = [name for name in ("http.client", "email", "ssl") if name in sys.modules]
            ordinary = sys.modules.get("http.client") is __main__.client
            import http.client, email, ssl, urllib.parse, http
            message, url = email.message_from_string("a: b"), http.client.urlsplit("x:y")
            usable = [http.HTTPStatus(200).name, message["a"], url.scheme]
            def handler(event, context):
                return [loaded, ordinary, usable]
        """)
        start = """
            import importlib.machinery, runpy, sys
            Loader, attempts = importlib.machinery.SourceFileLoader, []
            get_code = Loader.get_code
            def changed(self, name):
                code = get_code(self, name)
                if name == "http.client":
                    attempts.append(code)
                return compile(CHANGE, "http/client.py", "exec") if CHANGE and attempts == [code] else code
            Loader.get_code = changed
            sys.argv[0] = sys.argv.pop(1)
            runpy.run_path(sys.argv[0], run_name="__main__")
        """
        usable, ordinary = ["OK", "b", "x"], ["http.client", "email", "ssl"]
        fail, use_more = "raise AttributeError", "import email.parser; email.policy"
        rows = [("''", [[], False, usable]), *((repr(change), [ordinary, True, usable]) for change in (fail, use_more))]
        for change, expected in rows:
            with self.subTest(change):
                argv = [
                    sys.executable,
                    "-c",
                    textwrap.dedent(start.replace("CHANGE", change)),
                    str(RUNTIME),
                    "app.handler",
                ]
                self.assertEqual(self.results(self.serve(event(), argv=argv)), [expected])


class Collisions(RuntimeTestCase):
    """Files of the user's that are named like ours, or like the standard library's."""

    def test_our_names_are_the_users(self) -> None:
        folder = self.folder()
        for file in ("runtime.py", "bootstrap"):
            shutil.copy(RUNTIME.parent / file, folder)
        names = ["runtime", "bootstrap", "context", "handler", "emulator", "client", "log", "lambda_function"]
        for name in names:
            self.write(
                f"{name}.py", f"NAME = 'my {name}'\nhandler = lambda event, context: __import__('app').told(event)"
            )
        self.app("""
            import runtime, bootstrap, context as my_context, handler as my_handler
            def told(names): return [__import__(name).NAME for name in names]
            def main(event, context):
                return told(event)
        """)
        expected = [f"my {name}" for name in names]
        for command in ([sys.executable, f"{folder}/runtime.py"], [sys.executable, "-B", "-m", "runtime"]):
            for name in ("app.main", "runtime.handler", "bootstrap.handler", "context.handler", "handler.handler"):
                with self.subTest(name, command=command[1:]):
                    served = self.serve(event(json.dumps(names).encode()), argv=[*command, name], cwd=folder)
                    self.assertEqual(self.results(served), [expected])

    def test_standard_names_beside_the_handler(self) -> None:
        """Whatever the runtime needs of the standard library it has, or gets from there.

        A file for every module of it, each of which leaves its name when it is imported; the handler does what makes
        the runtime work. In a function's zip the runtime lies beside them.
        """
        known = getattr(sys, "stdlib_module_names", None) or STANDARD_NAMES
        for name in known:
            if name[0] == "_" or name in sys.builtin_module_names or not importlib.util.find_spec(name):
                continue  # nobody names a file so, or it would not be found, or no system but Windows has the module
            self.write(f"{name}.py", "import builtins\nbuiltins.__dict__.setdefault('IMPORTED', []).append(__name__)\n")
        self.app("""
            import builtins
            builtins.IMPORTED = []
            from decimal import Decimal
            import logging
            logging.getLogger().warning("a record")
            def handler(event, context):
                context.log("a message")
                if event == "fail":
                    raise ValueError("as wanted")
                return [Decimal("1.10"), IMPORTED] if event == "list" else {b"key": context.w3c()}
        """)
        shutil.copy(RUNTIME, self.root)
        events = [event(b'"fail"'), event(b"{"), event(b'"list"'), event()]
        for mode, script in itertools.product(("Text", "JSON"), (RUNTIME, Path(self.root, RUNTIME.name))):
            with self.subTest(mode, script=script):
                argv = [sys.executable, str(script), "app.handler"]
                served = self.serve(*events, argv=argv, env={"AWS_LAMBDA_LOG_FORMAT": mode})
                self.assertEqual([one.endpoint for one in served.answers], ["error", "error"] + ["response"] * 2)
                self.assertIn(b'"as wanted", "errorType": "ValueError"', served.answers[0].body)
                self.assertIn(b'"Runtime.UnmarshalError"', served.answers[1].body)
                # PyPy's decimal, which is written in Python, imports locale.
                self.assertEqual(
                    served.answers[2].body.replace(b'"locale"', b"") if PYPY else served.answers[2].body, b"[1.10, []]"
                )
                self.assertIn("a record", served.stdout)

    def test_a_standard_name_as_the_handlers_module(self) -> None:
        """As on Lambda: AWS's client has imported some by then, which a file beside it cannot replace."""
        self.write("handler.py", RETURNS_ITS_NAME)
        self.write("calendar.py", RETURNS_ITS_NAME)
        self.assertEqual(self.results(self.serve(event(), handler="calendar.handler")), ["calendar"])
        self.write("json.py", RETURNS_ITS_NAME)
        served = self.serve(event(), handler="json.handler")
        self.assertIn(b"Handler 'handler' missing on module 'json'", served.requests[0].body)


# For Python 3.9, which cannot list its own.
STANDARD_NAMES = [
    "_collections_abc",
    "_decimal",
    "_pydecimal",
    "_strptime",
    "_weakrefset",
    "abc",
    "argparse",
    "ast",
    "asyncio",
    "base64",
    "bisect",
    "calendar",
    "codecs",
    "collections",
    "concurrent",
    "contextlib",
    "contextvars",
    "copy",
    "copyreg",
    "ctypes",
    "datetime",
    "decimal",
    "dis",
    "email",
    "encodings",
    "enum",
    "fnmatch",
    "functools",
    "genericpath",
    "gettext",
    "glob",
    "hashlib",
    "heapq",
    "http",
    "importlib",
    "inspect",
    "io",
    "ipaddress",
    "json",
    "keyword",
    "linecache",
    "locale",
    "logging",
    "mimetypes",
    "numbers",
    "opcode",
    "operator",
    "os",
    "pathlib",
    "pickle",
    "platform",
    "posixpath",
    "pprint",
    "queue",
    "quopri",
    "random",
    "re",
    "reprlib",
    "select",
    "selectors",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "sre_compile",
    "sre_constants",
    "sre_parse",
    "ssl",
    "stat",
    "string",
    "stringprep",
    "struct",
    "subprocess",
    "sysconfig",
    "tempfile",
    "textwrap",
    "threading",
    "token",
    "tokenize",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "unittest",
    "urllib",
    "uu",
    "uuid",
    "warnings",
    "weakref",
    "zipfile",
]


if __name__ == "__main__":
    unittest.main()
