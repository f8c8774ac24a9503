# SPDX-License-Identifier: MIT-0
"""All test files side by side, as most of a test is waiting: python3 tests/promises/run.py [NAME ...]

A NAME is what unittest takes: test_loop, test_loop.Ending, test_loop.Ending.test_told_to_end_while_idle.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def run(name: str) -> tuple[str, float, int, str]:
    """One file in a process of its own: name, seconds, exit status, output."""
    began = time.monotonic()
    command = [sys.executable, "-B", "-m", "unittest", name]
    done = subprocess.run(
        command, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    return name, time.monotonic() - began, done.returncode, done.stdout.decode("utf-8", "replace")


def main() -> int:
    # The largest files take longest: they go first.
    names = sys.argv[1:] or [path.stem for path in sorted(TESTS.glob("test_*.py"), key=os.path.getsize, reverse=True)]
    began, total, failed = time.monotonic(), 0, []
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        for done in as_completed([pool.submit(run, name) for name in names]):
            name, seconds, status, output = done.result()
            ran = re.search(r"^Ran (\d+) tests? in ", output, re.MULTILINE)
            count = int(ran[1]) if ran else 0
            total += count
            good = status == 0 and count > 0
            print(f"{name:16} {count:4} tests {seconds:6.1f} s  {'ok' if good else 'FAILED'}", flush=True)
            if not good:
                failed.append(name)
                print(output, flush=True)
    print(
        f"\nRan {total} tests in {time.monotonic() - began:.1f} s: {'FAILED: ' + ', '.join(failed) if failed else 'OK'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
