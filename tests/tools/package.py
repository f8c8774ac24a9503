# SPDX-License-Identifier: MIT-0
"""What is uploaded to Lambda: `make layer` and `make zip`, or python3 tests/tools/package.py layer|zip --out=FILE ...

    layer  bootstrap and runtime.py, for /opt
    zip    the same beside a function's files, for /var/task

Both carry bytecode that is valid as it arrives. An ordinary .pyc names its source's time, which a zip changes; then
Python compiles again, and Lambda's read-only folders make it do so at every cold start. So each .pyc here is the kind
that PEP 552 calls unchecked: Python loads it without a look at the source.

The same input gives the same bytes, wherever, whenever and by whomever it is packed.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import marshal
import os
import posixpath
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
OLDEST = (3, 9)
LARGEST = 250 * 1024 * 1024  # what Lambda takes, unpacked, layers included
FILE, EXECUTABLE, LINK = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755, stat.S_IFLNK | 0o777


class Refused(Exception):
    """Why there is nothing to upload, in one line."""


class Entry(NamedTuple):
    name: str  # in the zip
    data: bytes  # of a link: where it leads
    mode: int = FILE


# ──── Pythons ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Python(NamedTuple):
    command: str
    version: tuple[int, int]
    tag: str  # as in app.cpython-313.pyc


# Both run on whatever Python there is, 2.7 included. The first entry of sys.path is the working directory.
PROBE = """\
import sys
tag = getattr(getattr(sys, "implementation", None), "cache_tag", None)
sys.stdout.write("%d %d %s %s" % (sys.version_info[0], sys.version_info[1], tag, sys.prefix))
"""
COMPILE = """\
import sys
sys.path.pop(0)
import importlib.util, marshal

def pyc(filename, source):
    try:
        code = compile(source, filename, "exec", dont_inherit=True, optimize=0)
    except Exception:
        return None  # Python 2, a template, a test of syntax errors: nobody imports it, or sees why not
    unchecked_hash = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked_hash + importlib.util.source_hash(source) + marshal.dumps(code)

files = marshal.loads(sys.stdin.buffer.read())
sys.stdout.buffer.write(marshal.dumps([pyc(*file) for file in files], 2))
"""
OLD_MARSHAL = 2  # the format that all Pythons read and write alike


def run(command: str, code: str, given: bytes = b"") -> bytes:
    """What a Python writes, undisturbed by its user's settings. Frozensets are marshalled in the order of hashes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONHASHSEED"] = "0"
    words = [command, "-B", "-S", "-s", "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(words, env=environment, input=given, capture_output=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise Refused(f"{command} does not come to an end") from None
    except OSError as error:
        raise Refused(f"{command} cannot be started: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"]
        why = lines[-1 if lines[0].startswith("Traceback") else 0]
        raise Refused(f"{command} is no Python that works: {why}")
    return done.stdout


def probe(command: str) -> tuple[Python, str]:
    """A Python and its prefix."""
    told = re.fullmatch(r"(\d+) (\d+) (\S+) (.+)", run(command, PROBE).decode("utf-8", "replace"), re.DOTALL)
    if not told:
        raise Refused(f"{command} is no Python: it does not run what it is given")
    version = int(told[1]), int(told[2])
    if version < OLDEST:
        raise Refused(f"{command} is Python {told[1]}.{told[2]}, and runtime.py needs {OLDEST[0]}.{OLDEST[1]}")
    return Python(command, version, told[3]), told[4]


def different(commands: Sequence[str], told: bool) -> list[Python]:
    """The first Python of each kind. What does not work is passed over, unless somebody has asked for it."""
    pythons: dict[str, Python] = {}
    with ThreadPoolExecutor() as pool:
        for probing in [pool.submit(probe, command) for command in commands]:
            try:
                python, _ = probing.result()
            except Refused:
                if told:
                    raise
                continue
            pythons.setdefault(python.tag, python)
    return sorted(pythons.values(), key=lambda python: (python.tag.rstrip("0123456789"), python.version))


def found() -> list[Python]:
    """This Python, those on PATH, and those that pyenv keeps elsewhere."""
    names = [f"{kind}3.{minor}" for kind in ("python", "pypy") for minor in range(OLDEST[1], 40)]
    on_path = filter(None, map(shutil.which, ["python3", "pypy3", *names]))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    return different([sys.executable, *on_path, *map(str, sorted(pyenv.glob("*/bin/python3")))], told=False)


def bytecode(entries: Sequence[Entry], root: str, pythons: Sequence[Python]) -> list[Entry]:
    """The .pyc files of all modules among the entries. `root` is where they will be: tracebacks tell."""
    modules = [entry for entry in entries if entry.name.endswith(".py") and entry.mode != LINK]
    given = marshal.dumps([(f"{root}/{entry.name}", entry.data) for entry in modules], OLD_MARSHAL)

    def compiled(python: Python) -> Iterator[Entry]:
        pycs: list[bytes | None] = marshal.loads(run(python.command, COMPILE, given))
        for module, pyc in zip(modules, pycs):
            folder, name = posixpath.split(module.name)
            if pyc is not None:
                yield Entry(posixpath.join(folder, "__pycache__", f"{name[:-3]}.{python.tag}.pyc"), pyc)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [entry for made in pool.map(lambda python: list(compiled(python)), pythons) for entry in made]


# ──── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def below(root: Path, wanted: Callable[[str, str], bool], name: str = "", trail: Sequence[str] = ()) -> Iterator[Entry]:
    """All that is wanted(name, path) in a folder. A link is kept if it leads to something in there, or to nothing."""
    real_root, real_folder = os.path.realpath(root), os.path.realpath(root / name)
    if real_folder in trail:
        raise Refused(f"{root / name} is a link to a folder that it lies in")
    for child in sorted(os.fsencode(child) for child in os.listdir(root / name)):
        try:
            inner = posixpath.join(name, child.decode("utf-8"))
        except UnicodeDecodeError:
            raise Refused(f"{os.fsencode(root / name)!r}: the name of {child!r} in it is not UTF-8") from None
        path = os.path.join(root, name, os.fsdecode(child))
        if not wanted(inner, path):
            continue
        if os.path.islink(path):
            target, real = os.readlink(path), os.path.realpath(path)
            inside = os.path.commonpath([real_root, real]) == real_root
            if inside and (os.path.isabs(target) or leaves(inner, target)):
                target = os.path.relpath(real, real_folder)
            if inside or not os.path.exists(real):
                yield Entry(inner, os.fsencode(target), LINK)
                continue
        if os.path.isdir(path):
            yield from below(root, wanted, inner, [*trail, real_folder])
        elif os.path.isfile(path):
            yield Entry(inner, Path(path).read_bytes(), EXECUTABLE if executable(path) else FILE)


def leaves(name: str, target: str) -> bool:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target)).startswith("..")


def executable(path: str) -> bool:
    if os.name == "nt":  # has no such mode
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    return bool(os.stat(path).st_mode & 0o111)


TOOLS = {".git", ".hg", ".svn", ".tox", ".nox", ".aws-sam", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".DS_Store"}
AT_THE_TOP = re.compile(r"(.*/site-packages/)?(tests?|pip|pip-[^/]*\.dist-info)")
TESTS = re.compile(r".*/tests?/(.*/)?(test_[^/]*|[^/]*_test|conftest)\.py")


def of_the_function(out: Path) -> Callable[[str, str], bool]:
    """What goes along of a function's folder. A folder `tests` deeper in it may be imported: NumPy's is."""

    def wanted(name: str, path: str) -> bool:
        return not (
            posixpath.basename(name) in TOOLS
            or posixpath.basename(name) == "__pycache__"
            or AT_THE_TOP.fullmatch(name)
            or TESTS.fullmatch(name)
            or (name.endswith(".pyc") and os.path.exists(path[:-1]))
            or os.path.exists(os.path.join(path, "pyvenv.cfg"))
            or os.path.realpath(path) == os.path.realpath(out)
        )

    return wanted


# Its programs (pip, idle) name the folder that it was installed in; its headers and its test suite are for builders.
OF_PYTHON = r"bin|bin/python3?(\.\d+)?|lib|lib/[^/]+\.so[.\d]*|lib/{library}(/.*)?"
NOT_OF_PYTHON = re.compile(
    r"(.*/)?(__pycache__|tests?|idlelib|turtledemo|ensurepip|config-3[^/]*|pip|pip-[^/]*\.dist-info|[^/]*\.(a|pyc))"
)


def own() -> list[Entry]:
    """The runtime. A checkout on Windows may have given it line ends that no shell takes."""
    return [
        Entry(name, (PROJECT / name).read_bytes().replace(b"\r\n", b"\n"), mode)
        for name, mode in (("bootstrap", EXECUTABLE), ("runtime.py", FILE))
    ]


def function(task_root: Path, out: Path, taken: Sequence[Entry]) -> list[Entry]:
    """The user's files, which must not be in the way of ours; copies of ours are nobody's loss."""
    if not task_root.is_dir():
        raise Refused(f"TASK_ROOT={task_root} is no folder")
    ours = {entry.name: entry.data for entry in taken}
    entries = []
    for entry in below(task_root, of_the_function(out)):
        top = entry.name.partition("/")[0]
        if ours.get(entry.name) == entry.data:
            continue
        if top in {name.partition("/")[0] for name in ours}:
            raise Refused(f"{task_root / top} is in the way of the runtime's own {top}: it needs another name")
        entries.append(entry)
    return entries


def interpreter(home: Path, others: Callable[[], Sequence[Python]]) -> tuple[list[Entry], Python]:
    """The files of a relocatable Python, below python/, and the one that compiles them: itself, if it runs here."""
    command = home / "bin" / "python3"
    if not command.exists():
        raise Refused(f"PYTHON_HOME={home} has no bin/python3")
    if (home / "pyvenv.cfg").exists():
        raise Refused(f"PYTHON_HOME={home} is a virtual environment, which does not work without the Python it is of")
    try:
        python, _ = probe(str(command))
    except Refused as refused:
        cause = refused.__cause__
        if not (isinstance(cause, OSError) and cause.errno == errno.ENOEXEC and is_elf(command)):
            raise
        # A Python for Linux, packed on a Mac, say. What bytecode looks like depends on the version alone.
        libraries = [path.name for path in home.glob("lib/python3.*")]
        same = [other for other in others() if [library_of(other)] == libraries]
        if not same:
            needed = " or ".join(libraries)
            raise Refused(f"{command} is for another machine: to compile for it takes a {needed} of this one") from None
        return files_of(home, libraries[0]), same[0]
    files = files_of(home, library_of(python))
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        elsewhere = os.path.realpath(folder)
        unpack(files, Path(elsewhere))
        try:
            _, prefix = probe(f"{elsewhere}/python/bin/python3")
        except Refused:
            prefix = ""
        if os.path.realpath(prefix) != f"{elsewhere}/python":
            raise Refused(f"PYTHON_HOME={home} is not relocatable: in another folder it does not find its own library")
    return files, python


def library_of(python: Python) -> str:
    return f"{'pypy' if python.tag.startswith('pypy') else 'python'}{python.version[0]}.{python.version[1]}"


def files_of(home: Path, library: str) -> list[Entry]:
    pattern = re.compile(OF_PYTHON.format(library=re.escape(library)))
    wanted = below(home, lambda name, _: bool(pattern.fullmatch(name)) and not NOT_OF_PYTHON.fullmatch(name))
    return [entry._replace(name=f"python/{entry.name}") for entry in wanted]


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def unpack(entries: Sequence[Entry], root: Path) -> None:
    for entry in entries:
        path = root / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.mode == LINK:
            path.symlink_to(os.fsdecode(entry.data))
        else:
            path.write_bytes(entry.data)
            path.chmod(stat.S_IMODE(entry.mode))


# ──── the zip ───────────────────────────────────────────────────────────────────────────────────────────────────────


def write_zip(out: Path, entries: Sequence[Entry]) -> None:
    """All or nothing: what is there under that name is either what was there before, or whole."""
    handle, unfinished = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with open(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for entry in entries:
                info = zipfile.ZipInfo(entry.name)  # whose time is 1980, the first that a zip knows
                info.create_system = 3  # Unix, on Windows as well: only then do modes count
                info.external_attr = entry.mode << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, entry.data, compresslevel=9)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(unfinished, 0o666 & ~umask)
        os.replace(unfinished, out)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def tell(out: Path, root: str, entries: Sequence[Entry], pythons: Sequence[Python]) -> None:
    """Content and sizes; of folders the sum."""
    tops: dict[str, list[int]] = {}
    for entry in entries:
        top, slash, _ = entry.name.partition("/")
        tops.setdefault(top + slash, []).append(len(entry.data))
    for name, sizes in tops.items():
        print(f"{sum(sizes):>12,}  {name}" + (f"  ({len(sizes)} files)" if name.endswith("/") else ""))
    size = sum(len(entry.data) for entry in entries)
    print(f"{size:>12,}  bytes in {root}, with bytecode for {', '.join(python.tag for python in pythons)}")
    print(f"{out.stat().st_size:>12,}  bytes in {out}")
    if size > LARGEST:
        print(f"Lambda takes no more than {LARGEST:,} bytes. PYTHONS=python3.X leaves bytecode out.", file=sys.stderr)


def package(what: str, out: Path, task_root: Path, told: Sequence[str], home: Path | None) -> None:
    if not out.parent.is_dir():
        raise Refused(f"OUT={out} cannot be written: its folder is missing")
    if out.is_dir():
        raise Refused(f"OUT={out} is a folder")
    root = "/opt" if what == "layer" else "/var/task"
    bundle: list[Entry] = []
    pythons = different(told, told=True)
    if home:
        bundle, bundled = interpreter(home, lambda: pythons or found())
        # It runs whatever lies beside it. A layer may be the wrapper of a managed runtime, too, whose Python then runs.
        others = pythons or (found() if what == "layer" else [])
        pythons = [bundled, *(one for one in others if one.tag != bundled.tag)]
    pythons = pythons or found()
    mine = own()
    if what == "zip":
        mine += function(task_root, out, [*mine, *bundle])
    entries = [*mine, *bundle, *bytecode(mine, root, pythons), *bytecode(bundle, root, pythons[:1])]
    entries.sort(key=lambda entry: entry.name.encode())
    write_zip(out, entries)
    tell(out, root, entries, pythons)


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("what", choices=("layer", "zip"))
    options.add_argument("--out", required=True, type=Path, help="the zip that is made")
    options.add_argument("--task-root", type=Path, default=Path(), help="zip: the folder with the function's files")
    options.add_argument("--pythons", default="", help="commands or paths of Pythons (default: all that are found)")
    options.add_argument("--python-home", default="", help="a relocatable Python that is carried along as python/")
    given = options.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    home = Path(given.python_home) if given.python_home else None
    try:
        package(given.what, given.out, given.task_root, given.pythons.split(), home)
    except Refused as refused:
        print(f"make {given.what}: {refused}", file=sys.stderr)
    except OSError as error:
        print(f"make {given.what}: {error.filename}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
