# SPDX-License-Identifier: MIT-0
"""What is uploaded to Lambda: `make layer` and `make zip`, or python3 tests/tools/package.py layer|zip --out=FILE ...

    layer  bootstrap and runtime.py, for /opt
    zip    the same beside a function's files, for /var/task

Both carry bytecode that is valid on arrival. An ordinary .pyc holds the time of its source, and a zip changes that
time. Python would compile the source again, at every cold start, because Lambda's folders are read-only. So each .pyc
here is an unchecked hash-based one (PEP 552): Python loads it without looking at the source.

The same input gives the same bytes, whoever packs it, where and when.
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


# Runs on whatever Python there is, 2.7 included.
PROBE = """\
import sys
tag = getattr(getattr(sys, "implementation", None), "cache_tag", None)
sys.stdout.write("%d %d %s %s" % (sys.version_info[0], sys.version_info[1], tag, sys.prefix))
"""
MAPS = """\
try:
    print(open("/proc/self/maps").read())
except OSError:
    pass  # only Linux has it
"""
COMPILE = """\
import sys
sys.path.pop(0)  # the working directory, where a types.py may be
import importlib.util, marshal

def pyc(filename, source):
    try:
        code = compile(source, filename, "exec", dont_inherit=True)
    except Exception:
        return None  # Python 2, or a template: nobody imports it, or Lambda reports why it fails
    unchecked_hash = (1).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked_hash + importlib.util.source_hash(source) + marshal.dumps(code)

files = marshal.loads(sys.stdin.buffer.read())
sys.stdout.buffer.write(marshal.dumps([pyc(*file) for file in files], 2))
"""
OLD_MARSHAL = 2  # the format that all Pythons read and write alike


def run(command: str, code: str, given: bytes = b"") -> bytes:
    """What a Python writes, whatever its user's settings are. Frozensets are marshalled in the order of hashes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update(PYTHONHASHSEED="0", PYTHONUTF8="1", LC_ALL="C.UTF-8")  # the last is for PyPy
    words = [command, "-B", "-S", "-s", "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(words, env=environment, input=given, capture_output=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise Refused(f"{command} did not finish") from None
    except OSError as error:
        raise Refused(f"{command} cannot be started: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"]
        why = lines[-1 if lines[0].startswith("Traceback") else 0]
        raise Refused(f"{command} does not work as a Python: {why}")
    return done.stdout


def probe(command: str) -> tuple[Python, str]:
    """A Python and its prefix."""
    answer = re.fullmatch(r"(\d+) (\d+) (\S+) (.+)", run(command, PROBE).decode("utf-8", "replace"), re.DOTALL)
    if not answer:
        raise Refused(f"{command} is not a Python: it ignores the code that it is given")
    version = int(answer[1]), int(answer[2])
    if version < OLDEST:
        raise Refused(f"{command} is Python {answer[1]}.{answer[2]}, and runtime.py needs {OLDEST[0]}.{OLDEST[1]}")
    return Python(command, version, answer[3]), answer[4]


def different(commands: Sequence[str], told: bool) -> list[Python]:
    """The first Python of each kind. One that does not work is passed over, unless the user has named it."""
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
    """The .pyc files of all modules among the entries. `root` is their folder on Lambda: tracebacks show it."""
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


def below(
    root: Path, wanted: Callable[[str, str], bool], name: str = "", base: str = "", trail: Sequence[str] = ()
) -> Iterator[Entry]:
    """The files and links in a folder `name` of root for which wanted(name, path) is true.

    A link that leads out of root would lead nowhere on Lambda, so its target is packed in its place. `base` is the
    folder that was packed so last: links in there may not leave it either. A link to nothing is kept: the target may
    exist on Lambda. Names are UTF-8, in a zip as on Lambda, whatever this machine's locale is.
    """
    folder = os.path.join(root, os.fsdecode(name.encode()))
    real_root, real_folder = os.path.realpath(root), os.path.realpath(folder)
    if real_folder in trail:
        raise Refused(f"{folder} links to a folder that contains the link")
    for child in sorted(os.listdir(os.fsencode(folder))):
        path = os.path.join(folder, os.fsdecode(child))
        try:
            inner = posixpath.join(name, child.decode("utf-8"))
        except UnicodeDecodeError:
            raise Refused(f"the name of {os.fsencode(path)!r} is not UTF-8") from None
        if not wanted(inner, path):
            continue
        followed = False
        if os.path.islink(path):
            target, real = os.readlink(path), os.path.realpath(path)
            if os.path.isabs(target) or beyond(base, posixpath.join(name, target)):
                followed = os.path.exists(real)
                if real.startswith(os.path.join(real_root, "")):
                    followed, target = False, os.path.relpath(os.path.relpath(real, real_root), name or ".")
            if not followed:
                yield Entry(inner, os.fsencode(target), LINK)
                continue
        if os.path.isdir(path):
            yield from below(root, wanted, inner, inner if followed else base, [*trail, real_folder])
        elif os.path.isfile(path):
            yield Entry(inner, Path(path).read_bytes(), EXECUTABLE if executable(path) else FILE)


def beyond(base: str, name: str) -> bool:
    return posixpath.relpath(name, base or ".").split("/")[0] == ".."


def executable(path: str) -> bool:
    if os.name == "nt":  # Windows has no mode for it
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    return bool(os.stat(path).st_mode & 0o111)


TOOLS = {".git", ".hg", ".svn", ".tox", ".nox", ".aws-sam", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".DS_Store"}
AT_THE_TOP = re.compile(r"(.*/site-packages/)?(tests?|pip|pip-[^/]*\.dist-info)")
TESTS = re.compile(r".*/tests?/(.*/)?(test_[^/]*|[^/]*_test|conftest)\.py")


def of_the_function(out: Path) -> Callable[[str, str], bool]:
    """Which files of a function are packed. A package may import its own `tests`, as NumPy does, but no test in it."""
    real_out = os.path.realpath(out)

    def wanted(name: str, path: str) -> bool:
        return not (
            posixpath.basename(name) in TOOLS
            or posixpath.basename(name) == "__pycache__"
            or AT_THE_TOP.fullmatch(name)
            or TESTS.fullmatch(name)
            or (name.endswith(".pyc") and os.path.exists(path[:-1]))
            or os.path.exists(os.path.join(path, "pyvenv.cfg"))
            or os.path.realpath(path) == real_out
        )

    return wanted


# Programs such as pip name the folder where the Python was installed; headers and the test suite are for developers.
OF_PYTHON = r"bin|bin/python3?(\.\d+)?|lib|lib/[^/]+\.so[.\d]*|lib/{library}(/.*)?"
NOT_OF_PYTHON = re.compile(
    r"(.*/)?(__pycache__|tests?|idlelib|turtledemo|ensurepip|config-3[^/]*|pip|pip-[^/]*\.dist-info|[^/]*\.(a|pyc))"
)


def own() -> list[Entry]:
    """The runtime, with the line ends that a shell needs: Git for Windows may have changed them."""
    return [
        Entry(name, (PROJECT / name).read_bytes().replace(b"\r\n", b"\n"), mode)
        for name, mode in (("bootstrap", EXECUTABLE), ("runtime.py", FILE))
    ]


def function(task_root: Path, out: Path, taken: Sequence[Entry]) -> list[Entry]:
    """The user's files. None may have the name of one of ours, unless it is a copy of ours."""
    if not task_root.is_dir():
        raise Refused(f"TASK_ROOT={task_root} is not a folder")
    ours = {entry.name: entry.data for entry in taken}
    entries = []
    for entry in below(task_root, of_the_function(out)):
        top = entry.name.partition("/")[0]
        if ours.get(entry.name) == entry.data:
            continue
        if top in {name.partition("/")[0] for name in ours}:
            raise Refused(f"{task_root / top} has the name of the runtime's own {top}: rename it")
        entries.append(entry)
    return entries


def interpreter(home: Path, others: Callable[[], Sequence[Python]]) -> tuple[list[Entry], Python]:
    """The files of a relocatable Python, below python/, and the Python that compiles them: itself, if it runs here."""
    command = home / "bin" / "python3"
    if not command.exists():
        raise Refused(f"PYTHON_HOME={home} has no bin/python3")
    if (home / "pyvenv.cfg").exists():
        raise Refused(f"PYTHON_HOME={home} is a virtual environment: it needs the Python that it was made from")
    try:
        python, _ = probe(str(command))
    except Refused as refused:
        cause = refused.__cause__
        if not (isinstance(cause, OSError) and cause.errno == errno.ENOEXEC and is_elf(command)):
            raise
        # A Python for Linux, packed on a Mac, say. Bytecode depends on the version, not on the machine.
        libraries = [path.name for path in home.glob("lib/python3.*")]
        same = [other for other in others() if [library_of(other)] == libraries]
        if not same:
            needed = " or ".join(libraries)
            raise Refused(f"{command} is for another machine, so its bytecode needs a {needed} for this one") from None
        return files_of(home, libraries[0]), same[0]
    files = files_of(home, library_of(python))
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        elsewhere = os.path.realpath(folder)
        unpack(files, Path(elsewhere))
        moved = f"{elsewhere}/python"
        try:
            _, prefix = probe(f"{moved}/bin/python3")
        except Refused:
            prefix = ""
        if os.path.realpath(prefix) != moved:
            raise Refused(f"PYTHON_HOME={home} is not relocatable: in another folder it does not find its library")
        for loaded in re.findall(r" (/.*/libpython[^/\n]*)\n", run(f"{moved}/bin/python3", MAPS).decode()):
            if not loaded.startswith(f"{moved}/"):
                raise Refused(f"PYTHON_HOME={home} is not relocatable: in another folder it needs {loaded}")
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
        path = root / os.fsdecode(entry.name.encode())
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.mode == LINK:
            path.symlink_to(os.fsdecode(entry.data))
        else:
            path.write_bytes(entry.data)
            path.chmod(stat.S_IMODE(entry.mode))


# ──── the zip ───────────────────────────────────────────────────────────────────────────────────────────────────────


def write_zip(out: Path, entries: Sequence[Entry]) -> None:
    """All or nothing: if this fails, a file that was there before is still there."""
    handle, unfinished = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with open(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for entry in entries:
                info = zipfile.ZipInfo(entry.name)  # its time is 1980, the first that a zip can have
                info.create_system = 3  # Unix, even on Windows: otherwise the modes are ignored
                info.external_attr = entry.mode << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, entry.data)
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
        # A bundled Python is the one that runs, but a layer may also be used on a managed runtime, with AWS's Python.
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
        print(f"make {given.what}: {error.filename or given.out}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
