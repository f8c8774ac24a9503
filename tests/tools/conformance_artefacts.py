# SPDX-License-Identifier: MIT-0
"""A part of the conformance tests: what `make layer` and `make zip` pack, at the places where Lambda unpacks it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance_emulators import MANAGED_GROUP, MANAGED_USER, Emulator
from conformance_tools import (
    LAMBDA_ENV,
    PROJECT,
    CannotRun,
    NotHere,
    Report,
    emulator_of_aws,
    expect,
    free_ports,
    new_folder,
    patchelf,
    write_files,
)
from package import Entry, unpack

USER, GROUP = MANAGED_USER, MANAGED_GROUP
FUNCTION = {
    "app.py": """\
import os, sys
import layer_package
from package import module

def refuses(path):
    try:
        open(path, "w").close()
    except OSError as error:
        return error.strerror

def handler(event, context):
    if event == "fail":
        module.fail()
    return {
        "event": event,
        "python": sys.executable,
        "user": [os.getuid(), os.getgid(), os.getgroups()],
        "folder": os.getcwd(),
        "layer": layer_package.__file__,
        "mark": os.environ.get("MARK"),
        "refused": [refuses(f"{place}/written") for place in ("/var/task", "/opt", "/tmp")],
    }
""",
    "package/__init__.py": "",
    "package/module.py": 'def fail():\n    raise ValueError("ä")\n',
}
TIME = 315532800  # 1980, the first that a zip knows
# Tells of what user code cannot see: what is compiled, and what is written, from the interpreter's start on.
WATCH = """\
import os, sys

def watch(event, arguments, writing=os.O_WRONLY | os.O_RDWR | os.O_CREAT):
    if event == "compile":
        seen = arguments[1]
    elif (event == "open" and arguments[2] & writing) or event in ("os.mkdir", "os.rename", "os.symlink", "os.link"):
        event, seen = "write", arguments[0]  # a path, or a descriptor that is open already
    else:
        return
    os.write(2, f"WATCH {event} {seen}\\n".encode("utf-8", "backslashreplace"))

sys.addaudithook(watch)
os.write(2, b"WATCH begins\\n")
"""
LAYER_PACKAGE = "/opt/python/layer_package.py"
LAYER = {
    "python/layer_package.py": "",
    "wrapper": '#!/bin/sh\nexport MARK=wrapped\nexec "$@"\n',
}
ENV = {
    **{name: value for name, value in LAMBDA_ENV.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "PYTHONPATH": "/var/watch",
    "_HANDLER": "app.handler",
    "AWS_LAMBDA_FUNCTION_TIMEOUT": "20",
}
# Root's folders become Lambda's, for these processes alone; then they are nobody in particular.
AS_ON_LAMBDA = f"""\
set -e
[ -z "$2" ] || mount --bind "$2" "$1/var/lang"
mount --rbind "$1/opt" /opt && mount --rbind "$1/var" /var
mount -o remount,bind,ro /opt && mount -o remount,bind,ro /var
mount -t tmpfs -o mode=1777 tmpfs /tmp
cd /var/task && shift 2
exec setpriv --reuid={USER} --regid={GROUP} --clear-groups "$@"
"""


class Place:
    """A folder whose var/ and opt/ take the places of /var and /opt, and a Python that takes that of /var/lang."""

    def __init__(self, root: Path, python: str = sys.base_prefix) -> None:
        self.root, self.python = root, python
        write_files(root / "var", {"emulator": emulator_of_aws().read_bytes()}, 0o755)
        write_files(root / "var/watch", {"sitecustomize.py": WATCH})
        for name in ("task", "lang", "runtime"):
            (root / "var" / name).mkdir()
        write_files(root / "opt", LAYER, 0o755)

    def command(self, *words: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", AS_ON_LAMBDA, "sh", str(self.root), self.python, *words]

    def unpack(self, artefact: Path, where: str) -> None:
        with zipfile.ZipFile(artefact) as archive:
            entries = [Entry(one.filename, archive.read(one), one.external_attr >> 16) for one in archive.infolist()]
        unpack(entries, self.root / where)
        for entry in entries:  # with the times of the zip
            os.utime(self.root / where / entry.name, (TIME, TIME), follow_symlinks=False)

    @contextmanager
    def emulator(self, **env: str) -> Iterator[Emulator]:
        """AWS's emulator, which gets no command: it looks for `bootstrap` where Lambda does."""
        port, api_port = free_ports(2)
        addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
        addresses += ["--runtime-api-address", f"127.0.0.1:{api_port}"]
        with Emulator(port, self.command("/var/emulator", *addresses), {**ENV, **env}, self.root) as emulator:
            yield emulator


def artefacts(report: Report) -> None:
    if sys.platform != "linux" or os.geteuid():
        raise NotHere("Lambda's folders need a mount namespace, so root on Linux")
    with new_folder() as folder:
        usable(Place(folder / "probe"))
        write_files(folder / "function", FUNCTION)
        root = str(folder / "function")
        here = sys.executable
        place = Place(folder / "layer")
        place.unpack(made(folder / "layer.zip", "layer", PYTHONS=here), "opt")
        write_files(place.root / "var/task", FUNCTION)
        with report.check("artefacts: a layer"), place.emulator() as emulator:
            serves(emulator, "/var/lang/")
            # What is there without bytecode is seen to be compiled: so what is not seen is not.
            sources = [f"/var/task/{name}" for name in FUNCTION]
            expect(compiled(emulator), [sources[0], LAYER_PACKAGE, *sources[1:]])
        # A wrapper gets a command that ends in the script's path, and Python compiles a script.
        name = "artefacts: a layer, and a script in AWS_LAMBDA_EXEC_WRAPPER"
        with report.check(name), place.emulator(AWS_LAMBDA_EXEC_WRAPPER="/opt/wrapper") as emulator:
            serves(emulator, "/var/lang/", mark="wrapped")

        place = Place(folder / "zip")
        place.unpack(made(folder / "function.zip", "zip", TASK_ROOT=root, PYTHONS=here), "var/task")
        with report.check("artefacts: a zip"), place.emulator() as emulator:
            serves(emulator, "/var/lang/")
            expect(compiled(emulator), [LAYER_PACKAGE])

        place = Place(folder / "bundle", python="")
        place.unpack(
            made(folder / "bundle.zip", "zip", TASK_ROOT=root, PYTHON_HOME=relocatable(folder / "home")), "var/task"
        )
        with report.check("artefacts: a zip that carries its Python"), place.emulator() as emulator:
            serves(emulator, "/var/task/python/bin/")
            expect(compiled(emulator), [LAYER_PACKAGE])


def relocatable(home: Path) -> str:
    """This Python, without what is installed in it, and with its libpython found beside it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for path in [*Path(sys.base_prefix, "lib", version).iterdir(), *Path(sys.base_prefix, "lib").glob("libpython3*")]:
        if path.name != "site-packages":
            link = home / path.relative_to(sys.base_prefix)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    (home / "bin").mkdir()
    program = shutil.copy(Path(sys.base_prefix, "bin", version), home / "bin")
    (home / "bin" / "python3").symlink_to(version)
    if list(home.glob("lib/libpython3*")):
        subprocess.run([patchelf(), "--set-rpath", "$ORIGIN/../lib", program], check=True)
    return str(home)


def made(out: Path, target: str, **variables: str) -> Path:
    words = [f"{name}={value}" for name, value in {"OUT": str(out), "PYTHON": sys.executable, **variables}.items()]
    done = subprocess.run(["make", "-s", "-C", str(PROJECT), target, *words], capture_output=True, text=True)
    if done.returncode:
        raise CannotRun(f"make {target} fails: {done.stderr.strip()}")
    return out


def usable(place: Place) -> None:
    """Whether all that can be had. Raises NotHere."""
    probe = place.command("python3", "-c", "import sys; print(sys.version)")
    try:
        done = subprocess.run(probe, env=ENV, capture_output=True, text=True)
    except FileNotFoundError:
        raise NotHere("there is no `unshare`, to make a mount namespace with") from None
    if done.stdout.strip() != sys.version:
        why = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise NotHere(f"no mount namespace is to be had, or another user cannot run {sys.executable} in it: {why}")


def serves(emulator: Emulator, python: str, mark: str | None = None) -> None:
    """A cold start, an error, and an event more; nobody has written anything, nor could have."""
    result = emulator.result({"ä": "€"})
    expect(result.pop("python").startswith(python), True)
    expected = {
        "event": {"ä": "€"},
        "user": [USER, GROUP, []],
        "folder": "/var/task",
        "layer": LAYER_PACKAGE,
        "mark": mark,
        "refused": ["Read-only file system", "Read-only file system", None],
    }
    expect(result, expected)
    failure = json.loads(emulator.invoke("fail")[1])
    frames = [
        '  File "/var/task/app.py", line 13, in handler\n    module.fail()\n',
        '  File "/var/task/package/module.py", line 2, in fail\n    raise ValueError("ä")\n',
    ]
    expect((failure["errorMessage"], failure["stackTrace"]), ("ä", frames))
    expect(emulator.result("again")["event"], "again")
    expect(emulator.output.count("WATCH begins"), 1)
    tried = ["/var/task/written", "/opt/written", "/tmp/written"]
    # For modules without bytecode, the user's, Python itself would make __pycache__.
    written = [path for path in watched(emulator, "write") if not re.search("^\\d+$|^/dev/null$|/__pycache__$", path)]
    expect(written, tried * 2)


def watched(emulator: Emulator, event: str) -> list[str]:
    return re.findall(rf"(?m)^WATCH {event} (.*)$", emulator.output)


def compiled(emulator: Emulator) -> list[str]:
    """The files that were compiled instead of their bytecode being loaded."""
    return [path for path in watched(emulator, "compile") if path.startswith("/")]
