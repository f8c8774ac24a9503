"""Starting: `bootstrap` in every shell that may be /bin/sh, its roles around wrappers, and runtime.py by itself."""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import subprocess
import sys
import unittest
from collections.abc import Mapping
from signal import SIGTERM

from scripted_api import answer, event
from support import BOOTSTRAP, PYPY, RUNTIME, RuntimeTestCase, Served

# Tells how it was started, as its result.
WITNESS = """
    import os, sys
    def handler(event, context):
        return {
            "file": os.path.basename(__file__),
            "parent": os.getppid(),
            "environ": dict(os.environ),
            "options": sys.flags.ignore_environment,
        }
    other = handler
"""


class BootstrapTestCase(RuntimeTestCase):
    """`bootstrap` and `runtime.py` side by side in a folder (`home`), and a `python3` on PATH which is this Python."""

    shell: list[str] = []

    def setUp(self) -> None:
        super().setUp()
        if self.shell:
            found = shutil.which(self.shell[0])
            if not found:
                self.skipTest(f"no {self.shell[0]} here")
            if os.path.realpath(found) == os.path.realpath("/bin/sh"):
                self.skipTest(f"/bin/sh is {self.shell[0]}, which has had its turn")
        self.home = self.folder()
        self.bootstrap = shutil.copy(BOOTSTRAP, self.home)
        self.runtime = shutil.copy(RUNTIME, self.home)
        self.bin = self.folder()
        self.python = os.path.join(self.bin, "python3")
        os.symlink(sys.executable, self.python)
        self.path = f"{self.bin}:/usr/bin:/bin"
        self.app(WITNESS)

    def command(self, *arguments: str) -> list[str]:
        return [*self.shell, self.bootstrap, *arguments]

    def start(
        self,
        *arguments: str,
        argv: list[str] | None = None,
        events: int = 1,
        env: Mapping[str, str | None] | None = None,
        cwd: str | None = None,
    ) -> Served:
        environment = {"PATH": self.path, **(env or {})}
        return self.serve(*[event()] * events, argv=argv or self.command(*arguments), env=environment, cwd=cwd)

    def result(self, *arguments: str, **options: object) -> dict[str, object]:
        """What WITNESS tells after `bootstrap ARGUMENTS...`."""
        (result,) = self.results(self.start(*arguments, **options))  # type: ignore[arg-type]
        assert isinstance(result, dict)
        return result

    def refusal(self, *arguments: str, **env: str) -> tuple[int, str]:
        """How `bootstrap ARGUMENTS...` ends that cannot come as far as Python: status and the one line."""
        environment = self.environment({"PATH": self.path, **env})
        done = subprocess.run(self.command(*arguments), env=environment, capture_output=True, timeout=20)
        self.assertEqual(done.stdout, b"")
        (line,) = self.lines(done.stderr.decode())
        return done.returncode, line

    def stub(self, path: str, text: str, mode: int = 0o755) -> str:
        """Write a shell script, in which {0} stands for the interpreter under test."""
        return self.write(path, "#!/bin/sh\n" + text.format(f"'{sys.executable}'") + "\n", mode)


class Bootstrap(BootstrapTestCase):
    """As Lambda starts it; the classes below do all of this again in other shells."""

    def test_handler(self) -> None:
        self.write("other.py", WITNESS)
        self.write("folder/module.py", WITNESS)
        self.write("a b/ü.py", WITNESS)
        rows = [
            ("the argument", ["app.handler"], None, "app.py"),
            ("the variable", [], "app.handler", "app.py"),
            ("the argument wins", ["other.handler"], "app.handler", "other.py"),
            ("an empty argument is none", [""], "app.handler", "app.py"),
            ("a folder in the argument", ["folder/module.handler"], None, "module.py"),
            ("a folder in the variable", [], "folder/module.handler", "module.py"),
            ("spaces and letters of all kinds", ["a b/ü.handler"], None, "ü.py"),
        ]
        for name, arguments, variable, expected in rows:
            with self.subTest(name):
                self.assertEqual(self.result(*arguments, env={"_HANDLER": variable})["file"], expected)

    def test_a_handler_like_a_path_is_no_interpreter(self) -> None:
        """Only a file that can be executed is one."""
        self.write("folder/module.py", WITNESS)
        self.write("folder/module.handler", "not executable")
        os.mkdir(os.path.join(self.root, "folder/module.other"))
        for handler in ("folder/module.handler", "folder/module.other"):
            with self.subTest(handler):
                self.assertEqual(self.result(handler)["file"], "module.py")

    def test_it_becomes_python(self) -> None:
        """There is no shell left between Lambda and the runtime that would keep SIGTERM from it."""
        self.assertEqual(self.result("app.handler")["parent"], os.getpid())
        served = self.serve(argv=self.command("app.handler"), env={"PATH": self.path}, end=SIGTERM)
        self.assertEqual(served.done.status, 0)

    def test_however_it_is_called(self) -> None:
        rows = [
            ("from its folder", [*self.shell, "./bootstrap", "app.handler"], self.home),
            ("by a relative path", [*self.shell, os.path.relpath(self.bootstrap, self.root), "app.handler"], self.root),
        ]
        if self.shell:
            rows.append(("by its bare name", [*self.shell, "bootstrap", "app.handler"], self.home))
        for name, argv, cwd in rows:
            with self.subTest(name):
                self.assertEqual(self.result(argv=argv, cwd=cwd)["file"], "app.py")

    def test_bundled_interpreter_wins(self) -> None:
        bundled = f"{self.home}/python/bin/python3"
        script = 'WHO={} exec {{0}} "$@"'
        os.unlink(self.python)
        self.stub(self.python, script.format("path"))
        rows = [("bundled", 0o755, "bundled"), ("it cannot be executed", 0o644, "path"), ("it is not there", 0, "path")]
        for name, mode, expected in rows:
            with self.subTest(name):
                if mode:
                    self.stub(bundled, script.format("bundled"), mode)
                else:
                    os.unlink(bundled)
                environ = self.result("app.handler")["environ"]
                assert isinstance(environ, dict)
                self.assertEqual(environ["WHO"], expected)

    def test_no_interpreter(self) -> None:
        os.unlink(self.python)
        path = self.bin  # which is empty now
        if self.shell:
            self.shell = [str(shutil.which(self.shell[0])), *self.shell[1:]]
        status, line = self.refusal("app.handler", PATH=path)
        self.assertEqual(status, 127)
        self.assertRegex(line, r"^bootstrap: no Python")
        self.assertIn(f"PATH ({path})", line)

    def test_no_runtime(self) -> None:
        os.unlink(self.runtime)
        status, line = self.refusal("app.handler")
        self.assertEqual(status, 1)
        self.assertIn(f"{self.runtime} is missing or cannot be read", line)

    def test_unreadable_runtime(self) -> None:
        os.chmod(self.runtime, 0)
        user = None
        if os.access(self.runtime, os.R_OK):  # to root every file is readable: be somebody else
            user = 65534
            for folder in (self.home, self.bin):
                os.chmod(folder, 0o755)
            os.unlink(self.python)
            self.stub(self.python, "echo this should not run")  # nor may others reach the interpreter in root's home
        environment = self.environment({"PATH": self.path})
        command = self.command("app.handler")
        done = subprocess.run(command, env=environment, capture_output=True, timeout=20, user=user, cwd="/")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        (line,) = self.lines(done.stderr.decode())
        self.assertIn(f"{self.runtime} is missing or cannot be read", line)

    def test_compiled_runtime(self) -> None:
        """A .pyc is taken if it must be right: for this very Python, and no older than the source."""
        real = os.path.basename(os.path.realpath(sys.executable))
        if not re.fullmatch(r"(python|pypy)3\.\d+", real):
            self.skipTest(f"this Python's real name ({real}) does not say its version")
        marker = self.write("marker.py", "print('compiled')")
        folder = os.path.join(self.home, "__pycache__")
        tag = str(sys.implementation.cache_tag)
        rows = [
            ("of this Python", [tag], 0, True),
            ("of this Python and of others", ["cpython-38", tag, "zpython-99"], 0, True),
            ("of another Python", ["cpython-38"], 0, False),
            ("of this Python, but optimised", [f"{tag}.opt-2"], 0, False),
            ("older than the source", [tag], -60, False),
        ]
        for name, tags, age, expected in rows:
            with self.subTest(name):
                shutil.rmtree(folder, ignore_errors=True)
                for one in tags:
                    pyc = f"{folder}/runtime.{one}.pyc"
                    py_compile.compile(marker, cfile=pyc, doraise=True)
                    if one != tag:
                        with open(pyc, "r+b") as file:
                            file.write(b"\0\0\0\0")  # the magic number of no Python
                    when = os.stat(self.runtime).st_mtime_ns + age * 10**9
                    os.utime(pyc, ns=(when, when))
                served = self.start("app.handler")
                self.assertEqual(served.stdout, "compiled\n" if expected else "")
                self.assertEqual(len(served.answers), 0 if expected else 1)

    def test_compiled_runtime_works(self) -> None:
        """Its folder is not on sys.path, and its frames are known as the runtime's own."""
        py_compile.compile(self.runtime, doraise=True)
        self.app("import sys\ndef handler(event, context):\n    raise ValueError(sys.path)\n")
        (request,) = self.start("app.handler").answers
        self.assertNotIn(self.home.encode(), request.body)
        self.assertNotIn(b"runtime.py", request.body)

    # Wrappers: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper

    def test_wrapper(self) -> None:
        wrapper = self.stub("wrapper", 'WRAPPED="$#" exec "$@"')
        for arguments, variable in ((["app.handler"], None), ([], "app.handler")):
            with self.subTest(arguments=arguments):
                env = {"AWS_LAMBDA_EXEC_WRAPPER": wrapper, "_HANDLER": variable}
                environ = self.result(*arguments, env=env)["environ"]
                assert isinstance(environ, dict)
                self.assertEqual(environ["WRAPPED"], "2", "it gets the interpreter and the script")

    @unittest.skipIf(PYPY, "it has no -X importtime")
    def test_wrapper_after_the_guide(self) -> None:
        """AWS's example puts options before the last of its arguments, which has to be the script."""
        guide = r"""
            #!/bin/bash
            args=("$@")
            extra_args=("-E" "-X" "importtime")
            args=("${args[@]:0:$#-1}" "${extra_args[@]}" "${args[@]: -1}")
            exec "${args[@]}"
        """
        if not shutil.which("bash"):
            self.skipTest("no bash, in which the guide is written")
        wrapper = self.write("importtime_wrapper", guide.lstrip(), 0o755)
        for arguments, variable in ((["app.handler"], None), ([], "app.handler")):
            with self.subTest(arguments=arguments):
                served = self.start(*arguments, env={"AWS_LAMBDA_EXEC_WRAPPER": wrapper, "_HANDLER": variable})
                self.assertEqual(self.results(served)[0]["options"], 1)
                self.assertIn("import time:", served.stderr)

    def test_wrapper_that_cannot_be_started(self) -> None:
        rows = [
            (f"{self.root}/nowhere", 127, "does not exist"),
            (self.write("file", "", 0o644), 126, "is not executable"),
            (self.folder(), 127, "does not exist"),
        ]
        for wrapper, status, words in rows:
            with self.subTest(words):
                expected = status, f"bootstrap: AWS_LAMBDA_EXEC_WRAPPER={wrapper} {words}"
                self.assertEqual(self.refusal("app.handler", AWS_LAMBDA_EXEC_WRAPPER=wrapper), expected)

    # As the wrapper of a managed Python runtime

    def managed(self, wrapper: str, **env: str) -> dict[str, object]:
        """Start a wrapper as AWS's /var/runtime/bootstrap starts it; that this Python was used is in the result."""
        interpreter = self.stub("var lang/python3.13", 'WHO=lang exec {0} "$@"')
        client = self.write("var runtime/bootstrap.py", "raise SystemExit('AWS's own client was started')")
        self.write("var runtime/only_there.py", "")
        given = {
            "AWS_LAMBDA_EXEC_WRAPPER": wrapper,
            "LAMBDA_RUNTIME_DIR": os.path.dirname(client),
            "_HANDLER": "app.handler",
            **env,
        }
        result = self.result(
            argv=[*(self.shell if wrapper == self.bootstrap else []), wrapper, interpreter, client], env=given
        )
        environ = result["environ"]
        assert isinstance(environ, dict)
        self.assertNotIn("_BOOTSTRAP_WRAPPED", environ, "that is between bootstrap and itself")
        return environ

    def test_as_wrapper_of_a_managed_runtime(self) -> None:
        environ = self.managed(self.bootstrap)
        self.assertEqual(environ["WHO"], "lang")
        self.assertEqual(environ["PYTHONPATH"], f"{self.root}/var runtime")

    def test_as_wrapper_the_runtime_dir_stays_importable(self) -> None:
        self.app("import only_there" + WITNESS.replace("\n    ", "\n"))
        self.assertEqual(self.managed(self.bootstrap)["WHO"], "lang")
        environ = self.managed(self.bootstrap, PYTHONPATH="/nowhere")
        self.assertEqual(environ["PYTHONPATH"], "/nowhere")

    def test_as_wrapper_a_folder_in_the_handler(self) -> None:
        self.write("folder/module.py", WITNESS)
        self.assertEqual(self.managed(self.bootstrap, _HANDLER="folder/module.handler")["WHO"], "lang")

    def test_wrapper_that_is_ourselves_is_not_followed(self) -> None:
        """Neither under another name, nor when no interpreter is given: it would go round for ever."""
        link = os.path.join(self.root, "link")
        os.symlink(self.bootstrap, link)
        for wrapper in (self.bootstrap, link):
            with self.subTest(wrapper):
                self.result("app.handler", env={"AWS_LAMBDA_EXEC_WRAPPER": wrapper})
                self.result(env={"AWS_LAMBDA_EXEC_WRAPPER": wrapper, "_HANDLER": "app.handler"})
        self.managed(self.bootstrap, AWS_LAMBDA_EXEC_WRAPPER=link)

    def test_as_wrapper_no_other_is_followed(self) -> None:
        other = self.stub("other", "echo this should not run; exit 9")
        self.managed(self.bootstrap, AWS_LAMBDA_EXEC_WRAPPER=other)

    def test_chains_of_wrappers(self) -> None:
        instrument = self.stub("opt/otel-instrument", 'OTEL="${{OTEL-}}x" exec "$@"')
        python = f"{self.bin}:/usr/bin:/bin"  # where AWS has /var/lang/bin
        for rest in (' "$@"', ""):
            with self.subTest(f"{rest} at the end"):
                chain = self.stub("chain", f"export CHAIN=1\nexec '{instrument}' '{self.bootstrap}'{rest}")
                environ = self.managed(chain, PATH=python)
                self.assertEqual(environ["CHAIN"], "1")
                self.assertIn("x", str(environ["OTEL"]))
                self.assertEqual(environ.get("WHO"), "lang" if rest else None)


class BootstrapInDash(Bootstrap):
    shell = ["dash"]


class BootstrapInBash(Bootstrap):
    shell = ["bash"]


class BootstrapInBusyboxAsh(Bootstrap):
    shell = ["busybox", "ash"]


class Starting(RuntimeTestCase):
    """runtime.py without bootstrap."""

    def refusal(self, *arguments: str, **env: str) -> str:
        """How it ends with status 1 at the start, for want of something: the one line."""
        command = [sys.executable, str(RUNTIME), *arguments]
        done = subprocess.run(command, env=self.environment(env), capture_output=True, timeout=20)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        (line,) = self.lines(done.stderr.decode())
        return line

    def test_three_ways_are_one(self) -> None:
        self.app(WITNESS)
        folder = self.folder()
        script = shutil.copy(RUNTIME, folder)
        for command in ([sys.executable, script], [sys.executable, "-B", "-m", "runtime"]):
            for arguments, variable in ((["app.handler"], None), ([], "app.handler"), (["app.other"], "no.such")):
                with self.subTest(command=command[1:], arguments=arguments):
                    served = self.serve(event(), argv=[*command, *arguments], env={"_HANDLER": variable}, cwd=folder)
                    self.assertEqual(self.results(served)[0]["file"], "app.py")

    def test_no_api(self) -> None:
        """Whoever starts it by hand reads what is missing, and how it is done."""
        for env in ({}, {"AWS_LAMBDA_RUNTIME_API": ""}):
            with self.subTest(env=env):
                line = self.refusal("app.handler", **env)
                self.assertIn("AWS_LAMBDA_RUNTIME_API is not set", line)
                self.assertIn("locally", line)

    def test_addresses(self) -> None:
        self.app("handler = lambda event, context: 'served'")
        rows = [
            ("{}", ""),
            ("http://{}", ""),
            ("HTTP://{}", ""),
            ("http://{}/", ""),
            ("http://{}/prefix", "/prefix"),
            ("http://{}/two/parts/", "/two/parts"),
            ("{}/prefix", "/prefix"),
        ]
        for address, prefix in rows:
            with self.subTest(address):
                served = self.serve(event(request_id="id"), address=address)
                self.assertEqual(self.results(served), ["served"])
                paths = [request.path for request in served.requests]
                base = f"{prefix}/2018-06-01/runtime/invocation"
                self.assertEqual(paths, [f"{base}/next", f"{base}/id/response", f"{base}/next"])

    def test_addresses_that_are_none(self) -> None:
        for address in ("https://127.0.0.1:1", "127.0.0.1:port", "http://", "/prefix", "a b:1"):
            with self.subTest(address):
                self.assertIn("AWS_LAMBDA_RUNTIME_API=", self.refusal("app.handler", AWS_LAMBDA_RUNTIME_API=address))

    def test_no_handler(self) -> None:
        """One line that says so; Lambda hears it, too, if it is there."""
        for env in ({}, {"_HANDLER": ""}):
            with self.subTest(env=env):
                argv = [sys.executable, str(RUNTIME)]
                served = self.serve(argv=argv, env=env)
                self.assertEqual(served.done.status, 1)
                (request,) = served.requests
                self.assertEqual(request.endpoint, "init_error")
                self.assertIn(b"_HANDLER", request.body)
                self.assertIn("_HANDLER", served.stdout + served.stderr)

    def test_no_handler_and_an_api_that_refuses_to_hear_it(self) -> None:
        served = self.serve(argv=[sys.executable, str(RUNTIME)], init_error=[answer(403)])
        self.assertEqual(served.done.status, 1)

    def test_working_directory_is_the_default_task_root(self) -> None:
        self.app("handler = lambda event, context: __file__")
        for root in (None, ""):
            served = self.serve(event(), env={"LAMBDA_TASK_ROOT": root})
            self.assertEqual(self.results(served), [os.path.join(self.root, "app.py")])

    def test_user_agent(self) -> None:
        """Lambda records its first word, and at most 128 characters."""
        self.app("handler = lambda event, context: 1")
        for request in self.serve(event()).requests:
            agent = request.headers["user-agent"]
            self.assertRegex(agent, r"^[!-~]+/[!-~]+( [ -~]*)?$")
            self.assertLessEqual(len(agent), 128)


if __name__ == "__main__":
    unittest.main()
