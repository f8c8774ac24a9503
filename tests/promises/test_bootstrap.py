# SPDX-License-Identifier: MIT-0
"""Starting: `bootstrap` in every shell that may be /bin/sh, its roles around wrappers, and runtime.py by itself."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import unittest
from collections.abc import Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any

from scripted_api import answer, event
from support import BOOTSTRAP, PROJECT, PYPY, RUNTIME, RuntimeTestCase, Served

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

    @unittest.skipUnless(sys.platform == "linux", "programs have another format here")
    def test_a_bundled_interpreter_that_does_not_run_here(self) -> None:
        """Made for another machine, or cut by a full disk. One line says so; no shell reads the file as a script."""
        with open(sys.executable, "rb") as file:
            program = bytearray(file.read(4096))
        program[18] = 0 if program[18] else 1  # e_machine, which no machine has then
        bundled = self.write(f"{self.home}/python/bin/python3", mode=0o755)
        for name, content in (("another machine's", bytes(program)), ("an empty file", b"")):
            with self.subTest(name):
                Path(bundled).write_bytes(content)
                status, line = self.refusal("app.handler")
                self.assertEqual(status, 126)
                self.assertIn(f"{bundled} does not run on this machine", line)

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


class AsAScript(BootstrapTestCase):
    """bootstrap loads runtime.py in a few lines of Python. It runs as a script would, and the user cannot tell."""

    def test_it_finds_what_a_script_finds(self) -> None:
        script = """
            import json, sys
            names = "__name__", "__file__", "__package__", "__spec__", "__doc__"
            print(json.dumps({
                **{name: globals()[name] for name in names},
                "loader": [type(__loader__).__name__, *sorted(vars(__loader__).items())],
                "main": vars(sys.modules["__main__"]) is globals(),
                "code": sys._getframe().f_code.co_filename,
                "argv": sys.argv,
                "path": sys.path,
                "flags": repr(sys.flags),
                "modules": sorted(set(sys.modules) - {"linecache"}),  # which Python 3.13 needs for -c
            }))
        """
        self.write(self.runtime, script)
        rows: list[dict[str, str | None]] = [{}, {"PYTHONPATH": self.bin}, {"PYTHONSAFEPATH": "1"}]
        for env in rows:
            for compiled in (False, True):
                with self.subTest(env=env, compiled=compiled):
                    if compiled:
                        py_compile.compile(self.runtime, doraise=True)
                    found = []
                    for command in (self.command("app.handler"), [self.python, self.runtime]):
                        environment = self.environment({"PATH": self.path, **env})
                        done = subprocess.run(
                            command, env=environment, cwd=self.root, stdout=subprocess.PIPE, timeout=20, check=True
                        )
                        found.append(json.loads(done.stdout))
                    self.assertEqual(*found)

    def test_its_folder_shadows_nothing(self) -> None:
        """Compiled or not, our folder is not on sys.path, and our frames are known as the runtime's own."""
        self.app("import sys\ndef handler(event, context):\n    raise ValueError(sys.path)\n")
        for name in ("source", "bytecode"):
            with self.subTest(name):
                (request,) = self.start("app.handler").answers
                self.assertNotIn(self.home.encode(), request.body)
                self.assertNotIn(b"runtime.py", request.body)
                self.assertNotIn(b"<string>", request.body)
            py_compile.compile(self.runtime, doraise=True)

    def test_code_without_a_file(self) -> None:
        """What the user's code compiles itself has no lines to show, and certainly none of bootstrap's."""
        self.app("def handler(event, context): exec('1 / 0')")
        (request,) = self.start("app.handler").answers
        self.assertEqual(json.loads(request.body)["stackTrace"][1:], ['  File "<string>", line 1, in <module>\n'])

    def test_the_users_processes(self) -> None:
        """Those that start a Python of their own import __main__, which is runtime.py. The context goes there, too."""
        self.app("""
            import multiprocessing
            def work(event, context):
                return [event, context.aws_request_id]
            def handler(event, context):
                with multiprocessing.get_context(event).Pool(1) as pool:
                    return pool.apply(work, (event, context))
        """)
        for method in ("spawn", "forkserver"):
            with self.subTest(method):
                argv = self.command("app.handler")
                served = self.serve(event(f'"{method}"'.encode(), request_id="id"), argv=argv, env={"PATH": self.path})
                self.assertEqual(self.results(served), [[method, "id"]])

    def test_its_frame_shows_no_secrets(self) -> None:
        """Some libraries log every frame of a stack with the values that its line names."""
        self.app("""
            import sys
            def handler(event, context):
                frame = sys._getframe()
                while frame.f_back:
                    frame = frame.f_back
                code, values = frame.f_code, frame.f_globals
                return [code.co_filename, {name: repr(values.get(name)) for name in code.co_names}]
        """)
        served = self.start("app.handler", env={"SECRET": "hunter2"})
        ((file, values),) = self.results(served)
        self.assertEqual(file, "<string>")
        self.assertIn("exec", values)
        self.assertNotIn("environ", values)
        self.assertNotIn("hunter2", str(values))


class SharedCases(BootstrapTestCase):
    """What went wrong for somebody: bytecode beside runtime.py, old Pythons, Windows."""

    def setUp(self) -> None:
        super().setUp()
        self.pyc = importlib.util.cache_from_source(self.runtime)
        self.script("the source")

    def script(self, word: str) -> None:
        """Replace runtime.py by a script that prints a word, and compile that; all are of one size and time."""
        self.write(self.runtime, f"print('{word:20}')\n")
        os.utime(self.runtime, (10**9, 10**9))

    def says(self, env: Mapping[str, str | None] | None = None, **how: Any) -> str:
        """What is printed by bootstrap, which ends as a script without an error does."""
        environment = self.environment({"PATH": self.path, **(env or {})})
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            self.command("app.handler"), env=environment, capture_output=True, timeout=20, **how
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().strip()

    def compile(self, word: str = "the bytecode", **how: Any) -> None:
        """Compile runtime.py, and have the bytecode print another word than the source, so that they can be told."""
        self.script(word)
        py_compile.compile(self.runtime, doraise=True, **how)
        self.script("the source")

    def test_bytecode_that_matches_is_used(self) -> None:
        """pyc-that-matches-is-used: the .pyc has the source's time and size."""
        self.compile()
        self.assertEqual(self.says(), "the bytecode")

    def test_bytecode_with_a_hash_needs_no_times(self) -> None:
        """A zip keeps times in steps of two seconds and without a time zone. A hash in the .pyc survives that."""
        modes = py_compile.PycInvalidationMode
        for mode, after_a_change in ((modes.CHECKED_HASH, "a new source"), (modes.UNCHECKED_HASH, "the bytecode")):
            with self.subTest(mode):
                self.compile(invalidation_mode=mode)
                with open(self.pyc, "r+b") as file:
                    file.seek(8)
                    file.write(importlib.util.source_hash(Path(self.runtime).read_bytes()))
                os.utime(self.runtime)
                self.assertEqual(self.says(), "the bytecode")
                self.script("a new source")
                self.assertEqual(self.says(), after_a_change)

    def test_bytecode_of_another_source_is_not_used(self) -> None:
        """pyc-of-an-older-runtime-newer-file: an update whose files have the time of their build, before the .pyc."""
        for name, age in (("older", -1), ("newer", 1)):
            with self.subTest(name):
                self.compile()
                os.utime(self.runtime, (10**9 + age, 10**9 + age))
                self.assertEqual(self.says(), "the source")

    def test_bytecode_that_was_cut_is_passed_over(self) -> None:
        """pyc-cut: a full disk, a failed upload."""
        self.compile()
        whole = Path(self.pyc).read_bytes()
        for size in (0, 3, 15, 16, 17, len(whole) // 2, len(whole) - 1):
            with self.subTest(size=size):
                Path(self.pyc).write_bytes(whole[:size])
                self.assertEqual(self.says(), "the source")

    def test_bytecode_of_another_python_is_passed_over(self) -> None:
        """pyc-of-wrong-magic: a release candidate's, or a patched build's, under this Python's name."""
        self.compile()
        with open(self.pyc, "r+b") as file:
            file.write(b"\0\0\0\0")
        self.assertEqual(self.says(), "the source")

    def test_bytecode_that_cannot_be_read_is_passed_over(self) -> None:
        """pyc-unreadable: only its owner may read it (umask 077 while building), and Lambda's user is another."""
        user = None
        if os.geteuid() == 0:  # root may read everything: be somebody else, with a Python that everybody may run
            user = 65534
            os.unlink(self.python)
            os.symlink(str(shutil.which("python3", path="/usr/local/bin:/usr/bin")), self.python)
            os.chmod(self.home, 0o755)
            os.chmod(self.bin, 0o755)
            probe = [self.python, "-c", "import sys; print(sys.implementation.cache_tag)"]
            try:
                tag = subprocess.run(probe, capture_output=True, user=user, check=True, cwd="/").stdout.decode().strip()
            except (OSError, subprocess.CalledProcessError):
                self.skipTest("root may read everything, and there is no Python that another user may run")
            self.pyc = f"{self.home}/__pycache__/runtime.{tag}.pyc"
        self.script("the bytecode")
        subprocess.run([self.python, "-m", "py_compile", self.runtime], check=True)
        self.script("the source")
        for mode, word in ((0o644, "the bytecode"), (0, "the source")):
            with self.subTest(oct(mode)):
                os.chmod(self.pyc, mode)
                self.assertEqual(self.says(user=user, cwd="/"), word)

    def test_bytecode_behind_shims(self) -> None:
        """pyc-behind-shims: mise's and asdf's python3, python3.11 and python3.13 are one and the same script."""
        os.unlink(self.python)
        shim = self.stub("shim", 'exec {0} "$@"')
        self.compile()
        tag = str(sys.implementation.cache_tag)
        for name in ("python3", "python3.11", "python3.13"):
            os.symlink(shim, f"{self.bin}/{name}")
        for other in {"cpython-311", "cpython-313", "pypy311"} - {tag}:
            content = b"\0\0\0\0" + Path(self.pyc).read_bytes()[4:]
            Path(self.pyc.replace(tag, other)).write_bytes(content)
        self.assertEqual(self.says(), "the bytecode")
        os.unlink(self.pyc)
        self.assertEqual(self.says(), "the source")

    def test_bytecode_is_written_as_by_an_import(self) -> None:
        """The next start is faster, where the folder can be written: on a developer's machine, in a container."""
        for env, written in (({}, False), ({"PYTHONDONTWRITEBYTECODE": None}, True)):
            with self.subTest(env=env):
                self.assertEqual(self.says(env=env), "the source")
                self.assertEqual(os.path.exists(self.pyc), written)

    def test_a_python_that_is_too_old(self) -> None:
        """python-3.8: Amazon Linux 2's, or an old image's. The oldest that exist must understand the question, too."""
        pretended = """
            import sys
            sys.version_info, sys.version, code, sys.argv[1:] = (3, 8, 18), '3.8.18 (main)', sys.argv[1], sys.argv[2:]
            exec(code)
        """
        script = self.write("pretended.py", pretended)
        fake = self.stub("python3.8", f'[ "$1" = -c ] || exec {{0}} "$@"\nshift\nexec {{0}} "{script}" "$@"')
        found = {fake: "3.8.18"}
        ask = "import sys; print(sys.executable); print(sys.version.split()[0])"
        names = [shutil.which(f"python{version}") for version in ("2", "2.7", "3.5", "3.6", "3.7", "3.8")]
        for name in [name for name in names if name] + [
            str(path) for path in Path.home().glob(".pyenv/versions/[23].[5678].*/bin/python")
        ]:
            done = subprocess.run([name, "-c", ask], capture_output=True)
            if done.returncode == 0:
                python, version = done.stdout.decode().splitlines()
                if re.match(r"2\.|3\.[0-8]\.", version):  # a shim may start whatever
                    found[python] = version
        for python, version in found.items():
            with self.subTest(python):
                os.unlink(self.python)
                os.symlink(python, self.python)
                status, line = self.refusal("app.handler")
                self.assertEqual(status, 1)
                self.assertTrue(line.startswith("bootstrap: Python 3.9 or later is needed; "), line)
                self.assertTrue(line.endswith(f" is Python {version}"), line)

    @unittest.skipUnless(shutil.which("git"), "there is no git")
    def test_a_clone_on_windows(self) -> None:
        """windows-clone: Git for Windows' default gives text files carriage returns, which Linux's sh cannot read."""
        clone = Path(self.folder())

        def check_out(*files: str) -> bytes:
            """What bootstrap becomes in a checkout of these files with Windows' default."""
            environment = self.environment({"PATH": os.environ["PATH"], "HOME": str(clone)})
            for name in files:
                shutil.copy(PROJECT / name, clone)
            for command in ("init -q", "add .", "rm -q --cached -r .", "add .", "checkout-index --all --force"):
                if command.startswith("checkout"):
                    for name in files:
                        os.unlink(clone / name)
                crlf = "true" if command.startswith("checkout") else "false"
                words = ["git", "-c", f"core.autocrlf={crlf}", *command.split()]
                subprocess.run(words, cwd=clone, env=environment, check=True, capture_output=True)
            return (clone / "bootstrap").read_bytes()

        self.assertIn(b"\r\n", check_out("bootstrap"), "this is what would happen")
        self.assertNotIn(b"\r", check_out(".gitattributes", "bootstrap", "runtime.py", "Makefile"))
        for name in ("runtime.py", "Makefile"):
            self.assertNotIn(b"\r", (clone / name).read_bytes())
        self.bootstrap = str(clone / "bootstrap")
        self.assertEqual(self.result("app.handler")["file"], "app.py")

    @unittest.skipIf(PYPY, "its packages lie in another folder")
    def test_a_bundled_python_is_no_layer(self) -> None:
        """bundled-python-is-no-layer: /opt/python may be an interpreter, whose packages come after the library."""
        opt = self.folder()
        source = Path(RUNTIME).read_text(encoding="utf-8")
        self.assertIn("/opt/python", source)
        for name, text in (("runtime.py", source.replace("/opt/python", f"{opt}/python")), ("bootstrap", "")):
            self.write(f"{opt}/{name}", text or Path(BOOTSTRAP).read_text(encoding="utf-8"), 0o755)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", f"{opt}/python"], check=True)
        packages = f"{opt}/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        self.write(f"{packages}/uuid.py", "raise ImportError('an old uuid.py')")
        self.write(f"{packages}/bundled.py", "HERE = 'bundled'")
        self.app(f"""
            import sys, uuid, bundled
            def handler(event, context):
                return [len(str(uuid.uuid4())), bundled.HERE, sys.prefix, sys.path.count("{opt}/python")]
        """)
        result = self.results(self.start(argv=[*self.shell, f"{opt}/bootstrap", "app.handler"]))
        self.assertEqual(result, [[36, "bundled", f"{opt}/python", 0]])


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
        self.app("def handler(event, context): return event")
        for address, word in (("https://127.0.0.1:1", "https:80"), ("127.0.0.1:port", "'port'"), ("a b:1", "a b")):
            with self.subTest(address):
                self.assertIn(word, self.refusal("app.handler", AWS_LAMBDA_RUNTIME_API=address))

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
