# SPDX-License-Identifier: MIT-0
"""verify_on_aws.sh: its commands, its checks and that it leaves nothing behind, against a double of AWS.

The double stands for `aws` and `curl` on PATH. It keeps what was made in memory, and runs the functions on the local
Lambda. A test says what should go wrong there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zipfile
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Callable

from support import PROJECT  # which puts the emulator's folder on the path

# isort: split
from emulator import Result
from function import Emulator

SCRIPT = PROJECT / "tests" / "verify_on_aws.sh"
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", int(os.environ["DOUBLE"]))) as connection:
    stdin = sys.stdin.read() if sys.argv[0].endswith("curl") else ""
    connection.sendall(json.dumps([*map(os.path.basename, sys.argv[:1]), *sys.argv[1:], stdin]).encode() + b"\\n")
    status, stdout, stderr = json.loads(connection.makefile("rb").read())
sys.stdout.write(stdout)
sys.stderr.write(stderr)
sys.exit(status)
"""


class Fails(Exception):
    """What the AWS CLI says on standard error before it ends with 254."""


def option(words: Sequence[str], name: str) -> str:
    return words[words.index(f"--{name}") + 1]


def contents(url: str) -> bytes:
    return Path(url[len("fileb://") :]).read_bytes()


class Aws:
    """What an account has, by kind and name, and what the commands do to it."""

    def __init__(self, folder: str, meddle: Callable[[Aws, Sequence[str], str], str]) -> None:
        self.folder, self.meddle = folder, meddle
        self.has: dict[str, Any] = {}
        self.commands: list[str] = []
        self.layer: Path | None = None
        self.wrong = 0  # for who meddles
        self.lock = threading.Lock()
        self.script: subprocess.Popen[str] | None = None

    def call(self, words: Sequence[str]) -> str:
        self.commands.append(" ".join(words))
        if words[0] == "curl":
            return self.meddle(self, words, self.fetch(words))
        verb = words[2].replace("-", "_")
        return self.meddle(self, words, str(getattr(self, verb)(words)))

    def make(self, kind: str, name: str, value: object = True) -> None:
        if f"{kind} {name}" in self.has:
            raise Fails(f"{kind} {name} is there already")
        self.has[f"{kind} {name}"] = value

    def take(self, kind: str, name: str) -> Any:
        if f"{kind} {name}" not in self.has:
            raise Fails("An error occurred (ResourceNotFoundException or NoSuchEntity)")
        return self.has.pop(f"{kind} {name}")

    def get_caller_identity(self, words: Sequence[str]) -> str:
        return "arn:aws:iam::123456789012:user/somebody"

    def create_role(self, words: Sequence[str]) -> str:
        json.loads(option(words, "assume-role-policy-document"))
        self.make("role", option(words, "role-name"))
        return f"arn:aws:iam::123456789012:role/{option(words, 'role-name')}"

    def attach_role_policy(self, words: Sequence[str]) -> str:
        self.make("policy", option(words, "role-name") + option(words, "policy-arn"))
        return ""

    def detach_role_policy(self, words: Sequence[str]) -> str:
        self.take("policy", option(words, "role-name") + option(words, "policy-arn"))
        return ""

    def delete_role(self, words: Sequence[str]) -> str:
        if any(thing.startswith("policy") for thing in self.has):
            raise Fails("An error occurred (DeleteConflict)")
        self.take("role", option(words, "role-name"))
        return ""

    def publish_layer_version(self, words: Sequence[str]) -> str:
        self.layer = self.unpack(option(words, "zip-file"))
        self.make("layer", option(words, "layer-name"))
        return f"arn:aws:lambda:eu-central-1:123456789012:layer:{option(words, 'layer-name')}:1"

    def delete_layer_version(self, words: Sequence[str]) -> str:
        self.has.pop(f"layer {option(words, 'layer-name')}", None)  # Lambda does not mind
        return ""

    def unpack(self, url: str) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        with zipfile.ZipFile(url[len("fileb://") :]) as archive:
            for entry in archive.infolist():
                os.chmod(archive.extract(entry, folder), entry.external_attr >> 16)
        return folder

    def create_function(self, words: Sequence[str]) -> str:
        assert self.layer and option(words, "layers").endswith(":1")
        assert option(words, "environment") == "Variables={AWS_LAMBDA_EXEC_WRAPPER=/opt/bootstrap}"
        name = option(words, "function-name")
        env = {"_HANDLER": option(words, "handler"), "AWS_LAMBDA_EXEC_WRAPPER": str(self.layer / "bootstrap")}
        if "--logging-config" in words:
            env.update(AWS_LAMBDA_LOG_FORMAT="JSON", AWS_LAMBDA_LOG_LEVEL="INFO")
        # As a managed runtime starts its wrapper.
        command = [str(self.layer / "bootstrap"), sys.executable, "/var/runtime/bootstrap.py"]
        root, seconds = self.unpack(option(words, "zip-file")), int(option(words, "timeout"))
        function = Emulator(str(root), option(words, "handler"), timeout=seconds, env=env, bootstrap=command)
        self.make("function", name, function)
        return "{}"

    def wait(self, words: Sequence[str]) -> str:
        return ""

    def create_function_url_config(self, words: Sequence[str]) -> str:
        assert option(words, "auth-type") == "AWS_IAM" and option(words, "invoke-mode") == "RESPONSE_STREAM"
        return f"https://{option(words, 'function-name')}.lambda-url.eu-central-1.on.aws/"

    def run(self, name: str, event: bytes) -> Result:
        function = self.has[f"function {name}"]
        result: Result = function.invoke(event)
        self.has[f"logs /aws/lambda/{name}"] = function
        return result

    def invoke(self, words: Sequence[str]) -> str:
        result = self.run(option(words, "function-name"), contents(option(words, "payload")))
        if "--invocation-type" in words:
            return "202"
        Path(words[-1]).write_bytes(result.payload)
        tail = base64.b64encode(result.log.encode()[-4096:]).decode()
        return f"{'Unhandled' if result.error else None}\t{tail}"

    def export_credentials(self, words: Sequence[str]) -> str:
        return "AWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY=se/cr+et\nAWS_SESSION_TOKEN=to+ken="

    def fetch(self, words: Sequence[str]) -> str:
        secrets = 'user = "AKIA:se/cr+et"\nheader = "x-amz-security-token: to+ken="\n'
        assert words[-1] == secrets and option(words, "aws-sigv4") == "aws:amz:eu-central-1:lambda"
        match = re.fullmatch(r"https://(.*)\.lambda-url\.eu-central-1\.on\.aws/\?do=(.*)", words[-2])
        assert match
        result = self.run(match[1], json.dumps({"queryStringParameters": {"do": match[2]}}).encode())
        if result.error:
            return result.payload.decode() if result.streamed else "Internal Server Error 502"
        if "--include" not in words:
            return f"200 {len(result.payload)}"
        prelude, times = result.prelude, [arrived for arrived, _ in result.chunks]
        assert prelude
        head = "".join(f"{name}: {value}\r\n" for name, value in prelude.headers.items())
        return (
            f"HTTP/1.1 {prelude.status} Created\r\n{head}\r\n{result.payload.decode()}"
            f"0.050000 {times[-1] - times[0] + 0.05:.6f}"
        )

    def filter_log_events(self, words: Sequence[str]) -> str:
        function = self.has.get(f"logs {option(words, 'log-group-name')}")
        text = json.loads(option(words, "filter-pattern"))
        found = [line for line in function.log.splitlines() if text in line] if function else []
        return "\t".join(found) or "None"

    def update_function_configuration(self, words: Sequence[str]) -> str:
        """Lambda ends the old environment. Here it has all the time that it wants for that."""
        function = self.has[f"function {option(words, 'function-name')}"]
        os.kill(function.pid, signal.SIGTERM)
        while function.exit_status is None:
            time.sleep(0.01)
        return "{}"

    def delete_function(self, words: Sequence[str]) -> str:
        self.take("function", option(words, "function-name")).close()
        return ""

    def delete_log_group(self, words: Sequence[str]) -> str:
        self.take("logs", option(words, "log-group-name"))
        return ""


def steps(commands: Iterable[Sequence[str]]) -> list[str]:
    """What was called, as `lambda invoke`: looks at the log that follow each other count as one."""
    names = [" ".join(words[1:3]) if words[0] == "aws" else "curl" for words in commands]
    names = [name for name in names if not name.startswith("configure")]
    return [name for name, _ in groupby(names, lambda name: name)]


def untouched(aws: Aws, words: Sequence[str], answer: str) -> str:
    return answer


# Ignored, as under nohup and in the background, a shell could not trap them. PyPy does not tell whether they are.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) != signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@unittest.skipUnless(shutil.which("make"), "there is no make")
class VerifyOnAws(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_script(
        self, meddle: Callable[[Aws, Sequence[str], str], str] = untouched, **env: str
    ) -> tuple[Aws, int, str, str]:
        aws = Aws(self.folder, meddle)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                words = json.loads(self.rfile.readline())
                words = words if words[0] == "curl" else words[:-1]
                with aws.lock:
                    try:
                        answer = (0, aws.call(words) + "\n", "")
                    except Fails as error:
                        answer = (254, "", f"{error}\n")
                self.wfile.write(json.dumps(answer).encode())

        commands = Path(self.folder, "bin")
        commands.mkdir(exist_ok=True)
        for name in ("aws", "curl"):
            (commands / name).write_text(CLIENT.format(python=sys.executable))
            (commands / name).chmod(0o755)
        if not (commands / "python3").exists():
            (commands / "python3").symlink_to(sys.executable)
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            environment = {
                "PATH": f"{commands}:{os.environ['PATH']}",
                "TMPDIR": self.folder,
                "DOUBLE": str(server.server_address[1]),
                "PYTHONS": sys.executable,
                "PAUSE": "0",
                "PATIENCE": "5",
                **env,
            }
            aws.script = subprocess.Popen(
                [SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            stdout, stderr = aws.script.communicate(timeout=600)
            server.shutdown()
        return aws, aws.script.returncode, stdout, stderr

    def assert_nothing_is_left(self, aws: Aws) -> None:
        self.assertEqual(aws.has, {})
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("tmp.")], [])

    def test_all_holds(self) -> None:
        aws, status, stdout, stderr = self.run_script()
        self.assertEqual((status, stderr), (0, ""), stdout)
        self.assertRegex(stdout, r"(?m)^[1-9]\d passed, 0 failed$")
        self.assert_nothing_is_left(aws)
        self.assertNotIn("se/cr+et", " ".join(line for line in aws.commands if not line.startswith("curl")) + stdout)

        dry, status, stdout, stderr = self.run_script(DRY_RUN="1")
        self.assertEqual((status, stderr, dry.commands), (0, "", []))
        self.assert_nothing_is_left(dry)
        printed = re.findall(r"^(?:aws|curl) .*", stdout, re.MULTILINE)
        self.assertEqual(steps(map(shlex.split, printed)), steps(map(str.split, aws.commands)))

    def test_each_check_can_fail(self) -> None:
        def meddle(aws: Aws, words: Sequence[str], answer: str) -> str:
            if "--log-type" in words:
                aws.wrong += 1
                Path(words[-1]).write_text(f"wrong {aws.wrong}")
                return "None\tbm90aGluZw=="
            if words[0] == "curl":
                return "wrong\n1.0 1.1"
            return "None" if words[2] in ("filter-log-events", "invoke") else answer

        aws, status, stdout, stderr = self.run_script(meddle)
        self.assertEqual((status, stderr), (1, ""), stdout)
        self.assertRegex(stdout, r"(?m)^0 passed, [1-9]\d failed$")
        self.assert_nothing_is_left(aws)

    def test_interrupted(self) -> None:
        """Whatever it is doing, a signal has it remove what was made, that very moment's included."""
        for at, number in (
            ("create-role", signal.SIGINT),
            ("publish-layer-version", signal.SIGTERM),
            ("create-function", signal.SIGHUP),
            ("invoke", signal.SIGINT),
        ):

            def meddle(aws: Aws, words: Sequence[str], answer: str, at: str = at, number: int = number) -> str:
                if words[2] == at and aws.script:
                    aws.script.send_signal(number)
                return answer

            with self.subTest(at):
                aws, status, _, stderr = self.run_script(meddle)
                self.assertEqual((status, stderr), (128 + number, ""))
                self.assert_nothing_is_left(aws)

    def test_a_role_that_lambda_does_not_know_yet(self) -> None:
        def meddle(aws: Aws, words: Sequence[str], answer: str) -> str:
            if words[2] == "create-function" and not aws.wrong:
                aws.wrong += 1
                aws.delete_function(words)
                raise Fails("The role defined for the function cannot be assumed by Lambda.")
            if words[2] == "create-function" and aws.wrong:
                raise Fails("An error occurred (TooMuch)")
            return answer

        aws, status, _, stderr = self.run_script(meddle)
        self.assertEqual((status, stderr), (1, "An error occurred (TooMuch)\n"))
        self.assertEqual(sum("create-function" in line for line in aws.commands), 2)
        self.assert_nothing_is_left(aws)

    def test_what_cannot_be_removed_is_told(self) -> None:
        def meddle(aws: Aws, words: Sequence[str], answer: str) -> str:
            if words[2] in ("create-role", "delete-role"):
                raise Fails(f"An error occurred (AccessDenied) when calling {words[2]}")
            return answer

        _, status, stdout, stderr = self.run_script(meddle)
        self.assertEqual(status, 254)
        self.assertIn("AccessDenied) when calling delete-role\n", stderr)
        self.assertIn(f"look for {stdout.splitlines()[-1]}\n", stderr)

    def test_without_credentials_nothing_is_tried(self) -> None:
        def meddle(aws: Aws, words: Sequence[str], answer: str) -> str:
            raise Fails("Unable to locate credentials")

        aws, status, _, stderr = self.run_script(meddle)
        self.assertEqual((status, stderr, len(aws.commands)), (254, "Unable to locate credentials\n", 1))
        self.assert_nothing_is_left(aws)


if __name__ == "__main__":
    unittest.main()
