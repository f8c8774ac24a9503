# SPDX-License-Identifier: MIT-0
"""What `make layer` and `make zip` pack: bytecode that is valid as it arrives, the same bytes for the same input."""

from __future__ import annotations

import importlib.util
import marshal
import os
import shlex
import shutil
import stat
import subprocess
import sys
import unittest
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from scripted_api import event
from support import PROJECT, PYPY, RuntimeTestCase

TAG = str(sys.implementation.cache_tag)
PACKAGE = Path("tests", "tools", "package.py")
ORDER_OF_HASHES = "def handler(event, context): return event in {'one', 'two', 'three', 'four', 'five', 'six'}\n"


class PackageTestCase(RuntimeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.out = os.path.join(self.folder(), "out.zip")
        self.empty = self.folder()

    def package(
        self, what: str, *options: str, project: Path = PROJECT, pythons: str | None = sys.executable, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run it, far from the Pythons of whoever runs the tests: what it finds is itself, unless `env` has more."""
        words = [sys.executable, "-B", str(project / PACKAGE), what, f"--out={self.out}", *options]
        if what == "zip" and not any(word.startswith("--task-root=") for word in options):
            words.append(f"--task-root={self.root}")
        if pythons is not None:
            words.append(f"--pythons={pythons}")
        env = {"PATH": self.empty, "HOME": self.empty, "PYENV_ROOT": self.empty, **how.pop("env", {})}
        return subprocess.run(words, env=env, capture_output=True, timeout=120, encoding="utf-8", **how)

    def packed(self, what: str, *options: str, **how: Any) -> dict[str, bytes]:
        """The content of what was made."""
        done = self.package(what, *options, **how)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with zipfile.ZipFile(self.out) as archive:
            self.assertIsNone(archive.testzip())
            names = archive.namelist()
            self.assertEqual(len(names), len(set(names)), "a name is there twice")
            return {name: archive.read(name) for name in names}

    def modes(self) -> dict[str, str]:
        with zipfile.ZipFile(self.out) as archive:
            return {info.filename: stat.filemode(info.external_attr >> 16) for info in archive.infolist()}

    def refusal(self, what: str, *options: str, **how: Any) -> str:
        """The one line that it ends with. It leaves what was there as it was, and nothing else."""
        before = self.beside()
        done = self.package(what, *options, **how)
        self.assertEqual((done.returncode, done.stdout, self.beside()), (1, "", before))
        (line,) = self.lines(done.stderr)
        self.assertTrue(line.startswith(f"make {what}: "), line)
        return line

    def beside(self) -> set[tuple[str, int]]:
        folder = os.path.dirname(self.out)
        return {(one.name, one.stat().st_mtime_ns) for one in os.scandir(folder)} if os.path.isdir(folder) else set()

    def unpack(self) -> str:
        """As Lambda does it."""
        root = self.folder()
        with zipfile.ZipFile(self.out) as archive:
            for info in archive.infolist():
                mode = info.external_attr >> 16
                path = Path(root, info.filename)
                if stat.S_ISLNK(mode):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.symlink_to(archive.read(info).decode())
                else:
                    archive.extract(info, root)
                    path.chmod(stat.S_IMODE(mode))
        return root

    def python(self, path: str, then: str, root: str | None = None) -> str:
        """A stand-in for another Python: this one, which does something before it runs the code that it is given."""
        code = shlex.quote(f"import os, sys; me, given = sys.argv[1:]; {then}; exec(given)")
        script = f'for given; do :; done\nexec {shlex.quote(sys.executable)} -B -S -s -c {code} "$0" "$given"\n'
        return self.write(os.path.join(root or self.folder(), path), f"#!/bin/sh\n{script}", 0o755)

    def of_kind(self, path: str, tag: str, root: str | None = None) -> str:
        return self.python(path, f"sys.implementation.cache_tag = {tag!r}", root)


def pyc(name: str, tag: str = TAG) -> str:
    folder, _, name = name.rpartition("/")
    return f"{folder}{'/' if folder else ''}__pycache__/{name}.{tag}.pyc"


def filenames(data: bytes) -> set[str]:
    """Those that the tracebacks of a module name, functions in it included."""

    def codes(code: CodeType) -> set[str]:
        inner = [codes(one) for one in code.co_consts if isinstance(one, CodeType)]
        return {code.co_filename}.union(*inner)

    return codes(marshal.loads(data[16:]))


def relocatable(maps: str = "") -> str:
    """What makes a stand-in tell that it is where it is now. The Python behind it may have a library elsewhere."""
    prefix = "os.path.dirname(os.path.dirname(os.path.abspath(me)))"
    return f"import io; sys.prefix = {prefix}; open = lambda _: io.StringIO('{maps}')"


class Layer(PackageTestCase):
    def test_content(self) -> None:
        content = self.packed("layer")
        self.assertEqual(list(content), [pyc("runtime"), "bootstrap", "runtime.py"])
        for name in ("bootstrap", "runtime.py"):
            self.assertEqual(content[name], (PROJECT / name).read_bytes())

    def test_bytecode_is_used_without_a_look_at_the_source(self) -> None:
        """Neither its time nor its text: what Lambda does to times does not make the bytecode stale."""
        content = self.packed("layer")[pyc("runtime")]
        unchecked = (1).to_bytes(4, "little")
        source_hash = importlib.util.source_hash((PROJECT / "runtime.py").read_bytes())
        self.assertEqual(content[:16], importlib.util.MAGIC_NUMBER + unchecked + source_hash)
        runtime = Path(self.unpack(), "runtime.py")
        runtime.write_text("this is no Python", encoding="utf-8")
        load = "import sys; from importlib.machinery import SourceFileLoader as F; F('r', sys.argv[1]).get_code('r')"
        done = subprocess.run([sys.executable, "-c", load, str(runtime)], stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_tracebacks_name_the_path_on_lambda(self) -> None:
        self.assertEqual(filenames(self.packed("layer")[pyc("runtime")]), {"/opt/runtime.py"})

    def test_it_starts_a_function(self) -> None:
        self.packed("layer")
        opt = self.unpack()
        self.app("import sys\ndef handler(event, context): return sys.executable")
        served = self.serve(
            event(),
            argv=[f"{opt}/bootstrap", sys.executable, "/var/runtime/bootstrap.py"],
            env={"_HANDLER": "app.handler", "AWS_LAMBDA_EXEC_WRAPPER": f"{opt}/bootstrap"},
        )
        self.assertEqual(self.results(served), [sys.executable])

    def test_content_and_sizes_are_printed(self) -> None:
        printed = self.package("layer").stdout
        self.assertRegex(printed, rf"(?m)^ *{(PROJECT / 'runtime.py').stat().st_size:,}  runtime\.py$")
        self.assertIn(f"{os.path.getsize(self.out):,}  bytes in {self.out}\n", printed)
        self.assertIn(TAG, printed)


class Pythons(PackageTestCase):
    def test_those_that_are_told(self) -> None:
        other = self.of_kind("python3", "cpython-398")
        search = os.path.dirname(self.of_kind("python3.11", "cpython-399"))
        env = {"PATH": f"{search}:/bin:/usr/bin"}
        content = self.packed("layer", pythons=f"{sys.executable} python3.11", env=env)
        self.assertEqual([*content][:-2], sorted([pyc("runtime"), pyc("runtime", "cpython-399")]))
        # The same one twice is one, and a path has a space here, which words cannot have: a link has none.
        link = os.path.join("/tmp", f"python-{os.getpid()}")
        os.symlink(os.path.dirname(other), link)
        self.addCleanup(os.unlink, link)
        content = self.packed("layer", pythons=f"{link}/python3 {link}/python3", env=env)
        self.assertEqual([*content], [pyc("runtime", "cpython-398"), "bootstrap", "runtime.py"])

    def test_those_that_are_found(self) -> None:
        """Itself, what is on PATH, what pyenv has; what does not work there is nobody's mistake."""
        search, pyenv = self.folder(), self.folder()
        self.of_kind("python3.11", "cpython-391", search)
        self.of_kind("python3", "cpython-392", search)
        self.of_kind("pypy3", "pypy391", search)
        self.of_kind("versions/3.99.1/bin/python3", "cpython-399", pyenv)
        self.python("python3.12", "sys.exit(127)", search)
        self.python("python3.13", "sys.version_info = (3, 8, 1); sys.implementation.cache_tag = 'cpython-38'", search)
        env = {"PATH": f"{search}:/bin:/usr/bin", "PYENV_ROOT": pyenv}
        tags = {name.split(".")[1] for name in self.packed("layer", pythons=None, env=env) if name.endswith(".pyc")}
        expected = {TAG, "cpython-391", "cpython-392", "pypy391", "cpython-399"}
        # /bin has the Pythons of this machine.
        self.assertLessEqual(expected, tags)
        self.assertNotIn("cpython-38", tags)

    def test_one_that_does_not_work_is_told_in_one_line(self) -> None:
        search = self.folder()
        self.python("old", "sys.version_info = (3, 8, 1)", search)
        self.python("broken", "sys.exit('libpython3.so: cannot open')", search)
        self.python("raises", "int('why')", search)
        self.python("crashes-later", "sys.implementation.cache_tag = 'x'; 'marshal' in given and os._exit(3)", search)
        self.write(f"{search}/plain-file")
        self.write(f"{search}/garbage", "\x7fELF garbage", 0o755)
        rows = [
            ("missing", "No such file or directory"),
            ("old", "is Python 3.8, and runtime.py needs 3.9"),
            ("broken", "libpython3.so: cannot open"),
            ("raises", "ValueError: .*why"),
            ("crashes-later", "status 3"),
            ("plain-file", "Permission denied"),
            ("garbage", "Exec format error"),
            ("true", "ignores the code that it is given"),
        ]
        env = {"PATH": f"{search}:/bin:/usr/bin"}
        for name, why in rows:
            for before in (None, "what was there before"):
                with self.subTest(name, before=before):
                    if before:
                        self.write(self.out, before)
                    line = self.refusal("layer", pythons=f"{sys.executable} {name}", env=env)
                    self.assertRegex(line, rf"\b{name}\b.*{why}")
            os.unlink(self.out)


class Zip(PackageTestCase):
    def test_function_and_runtime(self) -> None:
        self.app("from package import module\nhandler = module.handler")
        self.write("package/__init__.py")
        self.write("package/module.py", "def handler(event, context): return [__file__, event]")
        self.write("event.json", "{}")
        content = self.packed("zip")
        files = ["app.py", "bootstrap", "event.json", "package/__init__.py", "package/module.py", "runtime.py"]
        modules = [pyc(name) for name in ("app", "runtime", "package/__init__", "package/module")]
        self.assertEqual(sorted(content), sorted([*files, *modules]))
        root = self.unpack()
        served = self.serve(
            event(b"1"),
            argv=[f"{root}/bootstrap", "app.handler"],
            env={"LAMBDA_TASK_ROOT": root, "PATH": f"{self.bin()}:/usr/bin:/bin"},
        )
        self.assertEqual(self.results(served), [[f"{root}/package/module.py", 1]])

    def bin(self) -> str:
        folder = self.folder()
        os.symlink(sys.executable, f"{folder}/python3")
        return folder

    def test_tracebacks_name_the_path_on_lambda(self) -> None:
        self.write("package/module.py", "def f():\n    return [lambda: 1]")
        content = self.packed("zip")
        self.assertEqual(filenames(content[pyc("runtime")]), {"/var/task/runtime.py"})
        self.assertEqual(filenames(content[pyc("package/module")]), {"/var/task/package/module.py"})

    def test_what_does_not_compile_is_kept_as_it_is(self) -> None:
        files = {"two.py": b"print 'Python 2'", "nul.py": b"\0", "latin.py": b"'\xe4'", "template.py": b"{{ name }} ="}
        for name, data in files.items():
            Path(self.root, name).write_bytes(data)
        self.write("escape.py", r"'\d'")
        content = self.packed("zip")
        self.assertEqual({name: content.get(name) for name in files}, files)
        self.assertEqual({name for name in content if name.endswith(".pyc")}, {pyc("runtime"), pyc("escape")})

    def test_names_of_all_kinds(self) -> None:
        names = ["ü/日本 語.py", "a b.txt", "Ω.json", "🐍.txt"]
        for name in names:
            self.write(name, "x = 1")
        for locale in ("C", "C.UTF-8"):
            with self.subTest(locale):
                content = self.packed("zip", env={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
                self.assertLessEqual({*names, pyc("ü/日本 語")}, content.keys())

    @unittest.skipUnless(sys.platform == "linux", "other systems have no such names")
    def test_name_that_is_not_utf_8(self) -> None:
        Path(os.fsdecode(os.fsencode(self.root) + b"/\xe4.txt")).touch()
        self.assertIn(r"\xe4.txt' is not UTF-8", self.refusal("zip"))

    def test_links(self) -> None:
        outside = self.folder()
        self.write(f"{outside}/shared/common.py", "x = 1")
        self.write(f"{outside}/shared/inner.txt")
        self.write(f"{outside}/beside.txt", "beside")
        self.write("beside.txt", "another")
        os.symlink("inner.txt", f"{outside}/shared/link.txt")
        os.symlink("../beside.txt", f"{outside}/shared/up.txt")
        self.write("package/module.py", "x = 1")
        links = {
            "handler.py": "package/module.py",
            "package/up.py": "../package/module.py",
            "folder": "package",
            "absolute": os.path.join(self.root, "package"),
            "package/round": os.path.join("..", "..", os.path.basename(self.root), "package", "module.py"),
            "cache": "/tmp/only/on/lambda",
            "shared": f"{outside}/shared",
            "first": "second",
            "second": f"{outside}/shared/inner.txt",
            "..what": "..name",
        }
        for name, target in links.items():
            os.symlink(target, os.path.join(self.root, name))
        content = self.packed("zip")
        kept = {name: content[name].decode() for name, mode in self.modes().items() if mode.startswith("l")}
        expected = {**links, "absolute": "package", "package/round": "module.py", "shared/link.txt": "inner.txt"}
        for name in ("shared", "second"):  # which would lead to nothing on Lambda
            del expected[name]
        self.assertEqual(kept, expected)
        packed = {name for name in content if name.startswith(("shared/", "second"))} - {"shared/link.txt"}
        self.assertEqual(
            packed, {"shared/common.py", pyc("shared/common"), "shared/inner.txt", "shared/up.txt", "second"}
        )
        self.assertEqual((content["shared/up.txt"], content["second"]), (b"beside", b""))

    def test_link_to_a_folder_that_it_lies_in(self) -> None:
        parent = self.folder()
        self.write(f"{parent}/function/app.py")
        os.symlink("..", f"{parent}/function/up")
        self.assertIn(
            "up/function links to a folder that contains the link",
            self.refusal("zip", f"--task-root={parent}/function"),
        )

    def test_what_is_left_out(self) -> None:
        self.app("")
        left_out = """
            .git/config .hg/store .svn/entries .tox/x .nox/x .mypy_cache/x .pytest_cache/x .ruff_cache/x .DS_Store
            tests/test_app.py tests/data.json test/x.py package/tests/test_module.py package/tests/conftest.py
            package/tests/deep/module_test.py pip/__init__.py pip-23.0.dist-info/METADATA
            __pycache__/app.cpython-27.pyc package/__pycache__/module.cpython-39.pyc app.pyc
            lib/site-packages/tests/x.py lib/site-packages/pip/__init__.py venv/pyvenv.cfg venv/lib/x.py
            deep/.git/config deep/.DS_Store"""
        kept = """
            package/tests/__init__.py package/tests/helpers.py package/test_module.py package/testing.py contest/x.txt
            package/pip/x.txt pipes.txt package.dist-info/METADATA closed.pyc .env .gitignored attest/tests.txt"""
        for name in f"{left_out} {kept}".split():
            self.write(name)
        os.mkfifo(os.path.join(self.root, "fifo"))
        ours = {"bootstrap", "runtime.py", "app.py"}
        names = {name for name in self.packed("zip") if "__pycache__" not in name}
        self.assertEqual(names - ours, set(kept.split()))
        self.assertFalse([name for name in self.packed("zip") if "__pycache__" in name and TAG not in name])

    def test_what_it_makes_is_not_packed_into_itself(self) -> None:
        self.app("")
        os.mkdir(os.path.join(self.root, "build"))
        self.out = os.path.join(self.root, "build", "function.zip")
        first = self.packed("zip"), Path(self.out).read_bytes()
        os.symlink(self.root, link := os.path.join(self.folder(), "link"))
        second = self.packed("zip", f"--task-root={link}"), Path(self.out).read_bytes()
        self.assertEqual(first, second)
        self.assertNotIn("build/function.zip", first[0])

    def test_what_is_in_the_way_of_the_runtime_is_refused(self) -> None:
        for name in ("bootstrap", "runtime.py"):
            path = self.write(name, "the user's own")
            with self.subTest(name):
                self.assertIn(f"{path} has the name of the runtime's own {name}", self.refusal("zip"))
            os.unlink(path)
        os.mkdir(os.path.join(self.root, "bootstrap"))
        self.write("bootstrap/x.txt")
        with self.subTest("a folder"):
            self.assertIn("has the name of", self.refusal("zip"))

    def test_what_is_the_runtime_itself_is_not_in_the_way(self) -> None:
        for name in ("bootstrap", "runtime.py"):
            shutil.copy(PROJECT / name, self.root)
        os.chmod(os.path.join(self.root, "bootstrap"), 0o644)
        self.write("package/runtime.py")
        self.write("runtime/__init__.py")
        content = self.packed("zip")
        self.assertEqual(self.modes()["bootstrap"], "-rwxr-xr-x")
        self.assertLessEqual({"package/runtime.py", "runtime/__init__.py", pyc("runtime")}, content.keys())

    def test_places_that_are_none(self) -> None:
        self.assertIn("TASK_ROOT=/nowhere is not a folder", self.refusal("zip", "--task-root=/nowhere"))
        os.mkdir(folder := os.path.join(self.folder(), "folder"))
        for out, why in ((folder, "is a folder"), (f"{folder}/no/x.zip", "its folder is missing")):
            self.out = out
            self.assertIn(why, self.refusal("zip"))

    @unittest.skipUnless(hasattr(os, "fork"), "limits are for Unix")
    def test_a_full_disk_leaves_no_half_of_it(self) -> None:
        import resource

        self.assertIn(
            "out.zip: File too large",
            self.refusal("zip", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))),
        )


class Reproducible(PackageTestCase):
    """The same input, the same bytes."""

    def function(self, root: str, names: Sequence[str], mode: int) -> None:
        os.makedirs(root)
        for name in names:
            self.write(os.path.join(root, name), ORDER_OF_HASHES, mode)

    def bytes_of(self, what: str, *options: str, **how: Any) -> bytes:
        self.packed(what, *options, **how)
        return Path(self.out).read_bytes()

    def test_whoever_packs_where_and_when(self) -> None:
        # The Python that compiles must not import a types.py from the folder where it is started.
        names = ["app.py", "Z.py", "ü.py", "types.py", "package/module.py", "package/a.json"]
        here, there = os.path.join(self.folder(), "here"), os.path.join(self.folder(), "there")
        self.function(here, names, 0o644)
        self.function(there, names[::-1], 0o600)
        for name in names:
            os.utime(os.path.join(there, name), (1e9, 1e9))
        clone = Path(self.folder())
        (clone / PACKAGE).parent.mkdir(parents=True)
        shutil.copy(PROJECT / PACKAGE, clone / PACKAGE)
        for name in ("bootstrap", "runtime.py"):  # as Git for Windows writes them, and without a mode
            (clone / name).write_bytes((PROJECT / name).read_bytes().replace(b"\n", b"\r\n"))
        ways: list[Mapping[str, Any]] = [
            {"env": {"PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC"}, "umask": 0o022},
            {"env": {"PYTHONHASHSEED": "2", "LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Tokyo"}, "umask": 0o077},
            {"env": {"PYTHONOPTIMIZE": "2"}, "umask": 0, "cwd": here, "project": clone},
        ]
        for what, option in (("layer", []), ("zip", ["--task-root="])):
            with self.subTest(what):
                made = {
                    self.bytes_of(what, *(text + root for text in option), **way)
                    for way, root in zip(ways, (here, there, "."))
                }
                self.assertEqual(len(made), 1)

    def test_modes_and_times(self) -> None:
        modes = {"app.py": 0o600, "script": 0o700, "all": 0o777, "read-only": 0o444, "group": 0o654}
        for name, mode in modes.items():
            self.write(name, "", mode)
        for umask in (0, 0o077):
            self.packed("zip", umask=umask)
            executable = {name for name, mode in self.modes().items() if mode == "-rwxr-xr-x"}
            self.assertEqual(executable, {"bootstrap", "script", "all", "group"})
            self.assertEqual({mode for name, mode in self.modes().items() if name not in executable}, {"-rw-r--r--"})
            self.assertEqual(stat.S_IMODE(os.stat(self.out).st_mode), 0o666 & ~umask)
        with zipfile.ZipFile(self.out) as archive:
            self.assertEqual({info.date_time for info in archive.infolist()}, {(1980, 1, 1, 0, 0, 0)})

    def test_no_build_path_inside(self) -> None:
        self.app("def handler(event, context): raise ValueError")
        content = b"".join([*self.packed("zip").values(), Path(self.out).read_bytes()])
        for path in (self.root, os.path.dirname(self.out), str(PROJECT), sys.executable):
            self.assertNotIn(path.encode(), content)


class Bundle(PackageTestCase):
    """A relocatable Python comes along as python/. Stand-ins here: `make conformance` starts a real one."""

    LIBRARY = f"lib/{'pypy' if PYPY else 'python'}{sys.version_info[0]}.{sys.version_info[1]}"

    def setUp(self) -> None:
        super().setUp()
        self.home = self.folder()
        self.interpreter(relocatable())
        self.write(f"{self.home}/{self.LIBRARY}/os.py", ORDER_OF_HASHES)

    def interpreter(self, then: str) -> None:
        self.python("bin/python3.99", then, self.home)
        if not os.path.lexists(link := f"{self.home}/bin/python3"):
            os.symlink("python3.99", link)

    def bundle(self, what: str, **how: Any) -> dict[str, bytes]:
        return self.packed(what, f"--python-home={self.home}", **{"pythons": "", **how})

    def refused(self, **how: Any) -> str:
        return self.refusal("zip", f"--python-home={self.home}", **{"pythons": "", **how})

    def test_content(self) -> None:
        """What its own bin/ has beside it names the folder where it was installed; the rest is for builders."""
        left_out = f"""
            bin/pip bin/python3-config bin/2to3 include/Python.h share/man/x lib/pkgconfig/x.pc lib/libpython.a
            {self.LIBRARY}/test/x.py {self.LIBRARY}/unittest/tests/x.py {self.LIBRARY}/idlelib/x.py
            {self.LIBRARY}/ensurepip/x.py {self.LIBRARY}/site-packages/pip/x.py {self.LIBRARY}/config-3.99-x/Makefile
            {self.LIBRARY}/__pycache__/os.cpython-399.pyc lib/python3.1/old.py
        """.split()
        kept = f"""
            {self.LIBRARY}/lib-dynload/x.so lib/libpython3.99.so.1.0 {self.LIBRARY}/site-packages/module.py
        """.split()
        for name in [*left_out, *kept]:
            self.write(f"{self.home}/{name}")
        self.app("")
        for what, root, mine in (("layer", "/opt", []), ("zip", "/var/task", ["app.py"])):
            with self.subTest(what):
                content = self.bundle(what)
                files = {f"python/{name}" for name in ["bin/python3", "bin/python3.99", f"{self.LIBRARY}/os.py", *kept]}
                self.assertEqual(
                    {name for name in content if "__pycache__" not in name}, files | {"bootstrap", "runtime.py", *mine}
                )
                self.assertEqual(
                    (self.modes()["python/bin/python3"][0], self.modes()["python/bin/python3.99"]), ("l", "-rwxr-xr-x")
                )
                os_pyc = content[pyc(f"python/{self.LIBRARY}/os")]
                self.assertEqual(filenames(os_pyc), {f"{root}/python/{self.LIBRARY}/os.py"})
                self.assertEqual(os_pyc[4:8], (1).to_bytes(4, "little"))
                self.assertIn(pyc("runtime"), content)

    def test_which_pythons_it_is_for(self) -> None:
        """A zip runs on the one that it carries; a layer may be the wrapper of a managed runtime, too."""
        search = os.path.dirname(self.of_kind("python3.11", "cpython-399"))
        env = {"PATH": f"{search}:/bin:/usr/bin"}
        self.app("")
        other = pyc("runtime", "cpython-399")
        self.assertIn(other, self.bundle("layer", env=env))
        self.assertNotIn(other, self.bundle("zip", env=env))
        content = self.bundle("zip", env=env, pythons="python3.11")
        self.assertLessEqual({other, pyc("app", "cpython-399"), pyc("app")}, content.keys())
        self.assertNotIn(pyc(f"python/{self.LIBRARY}/os", "cpython-399"), content)

    def test_one_for_another_machine(self) -> None:
        """A Mac packs a Python for Linux: a Python of its own of that version compiles."""
        self.write(f"{self.home}/bin/python3.99", "\x7fELF of another kind", 0o755)
        needed = self.LIBRARY[4:]
        if PYPY:
            needed = "python3.9"
            self.write(f"{self.home}/lib/{needed}/os.py")
        else:
            content = self.bundle("zip", pythons=sys.executable)
            self.assertLessEqual(
                {"python/bin/python3", pyc("runtime"), pyc(f"python/{self.LIBRARY}/os")}, content.keys()
            )
        other = self.python("python3", "sys.version_info = (3, 98)")
        search = os.path.dirname(other)
        line = self.refused(pythons="python3", env={"PATH": f"{search}:/bin:/usr/bin"})
        self.assertIn(f"bin/python3 is for another machine, so its bytecode needs a {needed} for this one", line)

    def test_those_that_cannot_be_carried_along(self) -> None:
        with self.subTest("not relocatable"):
            self.interpreter("pass")
            self.assertIn("is not relocatable", self.refused())
        with self.subTest("not from elsewhere"):
            self.interpreter(f"me.startswith({self.home!r}) or sys.exit('no library')")
            self.assertIn("is not relocatable", self.refused())
        if os.path.exists("/proc/self/maps"):
            with self.subTest("its library is not"):
                # It is still where the Python was built, here, and will not be on Lambda.
                self.interpreter(relocatable("7f00-7f01 r-xp 0000 fe:00 1234   /built/lib/libpython3.99.so.1.0\\n"))
                line = self.refused()
                self.assertIn("is not relocatable: in another folder it needs /built/lib/libpython3.99.so.1.0", line)
        with self.subTest("broken"):
            self.interpreter("sys.exit('no library')")
            self.assertIn("no library", self.refused())
        with self.subTest("too old"):
            self.interpreter("sys.version_info = (3, 8)")
            self.assertIn("bin/python3 is Python 3.8, and runtime.py needs 3.9", self.refused())
        with self.subTest("a virtual environment"):
            self.write(f"{self.home}/pyvenv.cfg")
            self.assertIn("is a virtual environment", self.refused())
        with self.subTest("nothing there"):
            self.home = self.folder()
            self.assertIn("has no bin/python3", self.refused())

    def test_a_folder_of_the_users_is_in_its_way(self) -> None:
        self.write("python/x.txt")
        self.assertIn("python has the name of the runtime's own python", self.refused())
        self.assertIn("python/x.txt", self.packed("zip"))


@unittest.skipUnless(shutil.which("make"), "there is no make")
class Make(PackageTestCase):
    def make(self, *words: str) -> dict[str, bytes]:
        command = ["make", "-s", "-C", str(PROJECT), *words, f"PYTHON={sys.executable}", f"PYTHONS={sys.executable}"]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=120, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with zipfile.ZipFile(self.out) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def test_targets(self) -> None:
        """The folders have spaces in their names."""
        self.app("")
        self.assertEqual(self.make("layer", f"OUT={self.out}"), self.packed("layer"))
        self.assertEqual(self.make("zip", f"OUT={self.out}", f"TASK_ROOT={self.root}"), self.packed("zip"))

    def test_a_bundle(self) -> None:
        home = self.folder()
        self.python("bin/python3", relocatable(), home)
        for what in ("layer", "zip"):
            self.assertIn("python/bin/python3", self.make(what, f"OUT={self.out}", f"PYTHON_HOME={home}"))


if __name__ == "__main__":
    unittest.main()
