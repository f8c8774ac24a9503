# SPDX-License-Identifier: MIT-0
"""What is deployed, with the tools that deploy it: `make sam`, or python3 tests/tools/sam.py [PART ...]

    deploy  the snippets in tests/sam/deploy: SAM and cfn-lint, the CDK, a parser of Terraform's language, and the AWS
            CLI against a server that writes down what it is sent; likewise the commands of tests/verify_on_aws.sh
    sam     tests/sam/template.yaml with `sam validate`, `sam build`, `sam local invoke` and `sam local start-api`
    images  the Dockerfiles in tests/sam/images, each built, and invoked under AWS's emulator

The last two have a Docker daemon of their own. It and all that it starts live in namespaces without a network, and on a
tmpfs, so none of them is left when this program ends, however it does.

No registry of images is asked. What stands in for their base images is put together here from Debian's packages, under
the names that SAM and the Dockerfiles ask for: the same layout, but not the same operating system. See `stand_ins`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "promises"))
from conformance_tools import (
    PROJECT,
    SAM_VERSION,
    CannotRun,
    NotHere,
    Report,
    emulator_of_aws,
    expect,
    free_ports,
    pip,
    set_up,
    write_files,
)

SAM_FOLDER = PROJECT / "tests" / "sam"
INSIDE = "--inside"  # what this program is started with in its namespaces
RUN = Path("/run/docker-of-runtime-py")  # in there
UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
DEPLOY_TOOLS = ["awscli==1.46.3", "python-hcl2==8.1.4", "aws-cdk-lib==2.275.0"]
CDK = "aws-cdk@2.1148.1"
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
FUNCTION_PATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
LIBRARY_PATH = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"


# ──── what is needed, in .dev ─────────────────────────────────────────────────────────────────────────────────────────


def from_pypi(name: str, *requirements: str) -> Path:
    """Packages in a folder of their own, to be run with `python -m` and that folder as PYTHONPATH."""
    options = ["--no-warn-script-location", "--root-user-action=ignore", "--target"]
    what = ", ".join(requirements)
    return set_up(f"{name}-{TAG}", f"{what}, from PyPI", lambda to: pip("install", *options, to, *requirements))


def sam_cli() -> Path:
    return from_pypi(f"sam-{SAM_VERSION}", f"aws-sam-cli=={SAM_VERSION}")


def deploy_tools() -> Path:
    return from_pypi("deploy", *DEPLOY_TOOLS)


def cdk() -> Path:
    def fill(folder: Path) -> None:
        call(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, CDK])

    if not shutil.which("npm"):
        raise NotHere("there is no npm to get the CDK with")
    return set_up(CDK.replace("@", "-"), f"{CDK}, from npm", fill) / "node_modules" / ".bin" / "cdk"


def from_debian(name: str, *packages: str, alone: bool = True) -> Path:
    """Packages and all that they need, unpacked into a folder instead of installed; if not alone, only what this
    machine has not got."""

    def fill(folder: Path) -> None:
        for link in ("bin", "sbin", "lib", "lib64"):  # as Debian has had it since version 12
            (folder / "usr" / link).mkdir(parents=True)
            (folder / link).symlink_to(f"usr/{link}")
        with tempfile.TemporaryDirectory() as downloads:
            Path(downloads, "partial").mkdir()
            status = ["-o", "Dir::State::status=/dev/null"] if alone else []
            command = [
                "apt-get", "-qq", "--yes", "--no-install-recommends", "--download-only", "--reinstall", *status,
                "-o", f"Dir::Cache::archives={downloads}", "-o", "Debug::NoLocking=1", "install", *packages,
            ]  # fmt: skip
            try:
                call(command)
            except CannotRun:  # the lists of packages are old, or there are none yet
                try:
                    call(["apt-get", "-qq", "update"])
                    call(command)
                except CannotRun as error:
                    raise NotHere(error) from None
            for package in Path(downloads).glob("*.deb"):
                unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"'
                call(["sh", "-c", unpack, "sh", package, folder])

    return set_up(f"debian-{name}", f"{', '.join(packages)}, from Debian", fill)


def call(command: Sequence[object], env: Mapping[str, str] | None = None, stdin: IO[bytes] | None = None) -> str:
    """The standard output of a command that must succeed while we set things up."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=env, stdin=stdin)
    except FileNotFoundError:
        raise NotHere(f"there is no `{words[0]}`") from None
    if done.returncode:
        why = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise CannotRun(f"{shlex.join(words)[:200]} failed: {why}")
    return done.stdout


def docker_folder() -> Path:
    return from_debian("docker", "docker.io", alone=False)


def python_folder() -> Path:
    return from_debian("python", "python3-minimal", "libpython3-stdlib")


def busybox_folder() -> Path:
    return from_debian("busybox", "busybox-static")


def library_folder() -> Path:
    return from_debian("c-library", "libc6", "zlib1g", "libexpat1")


def shell_folder() -> Path:
    return from_debian("shell", "bash", "dash", "coreutils")


def prepare(names: Sequence[str]) -> None:
    """All that needs the network, which the namespaces do not have."""
    sam_cli()
    if "deploy" in names:
        deploy_tools()
        with suppress(NotHere):
            cdk()


def prepare_docker() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NotHere(f"the images are for Linux on x86_64, and this is {sys.platform} on {platform.machine()}")
    if os.geteuid():
        raise NotHere("a Docker daemon needs root")
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        raise NotHere(f"this machine does not allow `{shlex.join(UNSHARE)}`")
    for needed in (docker_folder, python_folder, busybox_folder, library_folder, shell_folder, emulator_of_aws):
        needed()


# ──── Docker ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Docker:
    """A daemon in the namespaces that we are in."""

    def __enter__(self) -> Docker:
        folder = docker_folder()
        call(["mount", "-t", "tmpfs", "tmpfs", "/run"])
        call([busybox_folder() / "bin" / "busybox", "ip", "link", "set", "lo", "up"])
        self.socket = RUN / "socket"
        self.group = f"runtime-py-{os.urandom(4).hex()}"
        RUN.mkdir()
        programs = ":".join(str(folder / where) for where in ("usr/sbin", "usr/bin"))
        self.env = {
            "PATH": f"{programs}:/usr/sbin:/sbin:{os.environ['PATH']}",
            "HOME": str(RUN),
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_BUILDKIT": "0",  # the builder that Debian's docker.io comes with
        }
        libraries = ":".join(map(str, (folder / "usr/lib").glob("*-linux-gnu")))
        self.log = (RUN / "log").open("w+")
        command = [
            "dockerd", "--host", self.env["DOCKER_HOST"], "--data-root", RUN / "data", "--exec-root", RUN / "exec",
            "--pidfile", RUN / "pid", "--iptables=false", "--ip6tables=false", "--cgroup-parent", self.group,
        ]  # fmt: skip
        self.daemon = subprocess.Popen(
            [str(word) for word in command], env={**self.env, "LD_LIBRARY_PATH": libraries},
            stdout=self.log, stderr=self.log,
        )  # fmt: skip
        while subprocess.run(["docker", "version"], env=self.env, capture_output=True).returncode:
            if self.daemon.poll() is not None:
                self.log.seek(0)
                raise NotHere(f"dockerd does not start here: {self.log.read().strip().splitlines()[-1]}")
            time.sleep(0.1)
        return self

    def __call__(self, *words: object, stdin: IO[bytes] | None = None) -> str:
        return call(["docker", *words], self.env, stdin)

    def __exit__(self, *_: object) -> None:
        self.daemon.terminate()
        self.daemon.wait()
        for path in Path("/sys/fs/cgroup").glob(f"**/{self.group}"):
            path.rmdir()

    def import_image(self, name: str, folders: Sequence[Path], *changes: str) -> None:
        """An image of folders laid one over the other."""
        with tempfile.TemporaryDirectory(dir=RUN) as root:
            for folder in folders:
                call(["cp", "-a", f"{folder}/.", root])
            Path(root, "tmp").mkdir(exist_ok=True)
            Path(root, "tmp").chmod(0o1777)
            Path(root).chmod(0o755)
            options = [word for change in changes for word in ("--change", change)]
            with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
                self("import", *options, "-", name, stdin=tar.stdout)


def python_version() -> str:
    """Of the Python that stands for AWS's: python3.11, say."""
    return os.readlink(python_folder() / "usr/bin/python3")


def stand_ins(docker: Docker, folder: Path) -> None:
    """Images under the names of those that cannot be had here.

    for                     the stand-in has                              what is not the same
    lambda/provided         busybox, Debian's C library; no Python        Amazon Linux
    lambda/python           the same, Debian's Python as /var/lang/bin,   Amazon Linux, AWS's Python and client
                            a /var/runtime that starts AWS_LAMBDA_EXEC_WRAPPER as AWS's does
    python:…-slim           dash, coreutils, Debian's Python              a Python of its own
    python:…-alpine         busybox, Debian's Python and C library        musl, a Python of its own
    amazonlinux             bash, coreutils, Debian's Python              Amazon Linux, Python 3.9
    distroless              Debian's Python, no shell                     hardly anything: it is of Debian, too
    """
    busybox, library, shell, python = busybox_folder(), library_folder(), shell_folder(), python_folder()
    version = python_version()

    def more(name: str, files: Mapping[str, str] = {}, links: Mapping[str, str] = {}) -> Path:
        top = folder / name
        write_files(top, files, 0o755)
        for link, target in links.items():
            (top / link).parent.mkdir(parents=True, exist_ok=True)
            (top / link).symlink_to(target)
        return top

    applets = {
        f"usr/bin/{name}": "busybox"
        for name in call([busybox / "bin" / "busybox", "--list"]).split()
        if name != "busybox"
    }
    environment = f"ENV PATH={FUNCTION_PATH} LD_LIBRARY_PATH={LIBRARY_PATH}"
    environment += " LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime"
    os_only = more("os-only", links=applets)
    docker.import_image(
        "public.ecr.aws/lambda/provided:al2023-x86_64", [library, busybox, os_only], environment, "WORKDIR /var/task"
    )

    start = f"#!/bin/sh\nexport AWS_EXECUTION_ENV=AWS_Lambda_{version}\n"
    start += f"exec $AWS_LAMBDA_EXEC_WRAPPER /var/lang/bin/{version} /var/runtime/bootstrap.py\n"
    entry = "#!/bin/sh\nexport _HANDLER=$1\nexec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap\n"
    client = 'raise SystemExit("here is AWS\'s client")\n'
    managed = more(
        "managed",
        {"var/runtime/bootstrap": start, "var/runtime/bootstrap.py": client, "lambda-entrypoint.sh": entry},
        {**applets, f"var/lang/bin/{version}": f"/usr/bin/{version}", "var/lang/bin/python3": version},
    )
    for name in ("usr/local/bin", "var/task"):
        (managed / name).mkdir(parents=True)
    shutil.copy(emulator_of_aws(), managed / "usr/local/bin")
    number = version.replace("python", "")
    tags = f"public.ecr.aws/lambda/python:{number}-x86_64", "public.ecr.aws/lambda/python:3.13"
    entry_point = 'ENTRYPOINT ["/lambda-entrypoint.sh"]'
    docker.import_image(tags[0], [python, busybox, managed], environment, "WORKDIR /var/task", entry_point)
    docker("tag", *tags)

    slim, linux = (more(name, links={"usr/bin/sh": sh}) for name, sh in (("slim", "dash"), ("linux", "bash")))
    docker.import_image("python:3.13-slim", [python, shell, slim])
    docker.import_image("public.ecr.aws/amazonlinux/amazonlinux:2023", [python, shell, linux])
    docker.import_image("python:3.13-alpine", [python, busybox, os_only])
    docker.import_image("gcr.io/distroless/python3-debian12", [python])


# ──── what the parts share ────────────────────────────────────────────────────────────────────────────────────────────


def tool(folder: Path, name: str, packages: Path) -> None:
    """A command of a Python package, to be found on PATH."""
    script = f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} {packages}/bin/{name} "$@"\n'
    write_files(folder / "bin", {name: script}, 0o755)


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",  # SAM asks AWS who we are, and would try for long
        "SAM_CLI_TELEMETRY": "0",
        **more,
    }


def run(command: str, env: Mapping[str, str], cwd: Path, stdin: str = "") -> str:
    """Standard output of a shell's command under test, which must succeed."""
    done = subprocess.run(["sh", "-euc", command], input=stdin, capture_output=True, text=True, env=env, cwd=cwd)
    if done.returncode:
        raise AssertionError(f"`{command}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def fetch(port: int, method: str, path: str, body: str = "") -> tuple[int, str, str]:
    """Status, cookie and body, of a server that may still be starting."""
    until = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, path, body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Set-Cookie", ""), answer.read().decode()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


# ──── deploy: the snippets ────────────────────────────────────────────────────────────────────────────────────────────


class Cloud(ThreadingHTTPServer):
    """A server that says yes to whatever the AWS CLI asks for, and keeps what it was sent."""

    LAYER = "arn:aws:lambda:eu-central-1:123456789012:layer:runtime-py:1"
    YES = {
        "LayerVersionArn": LAYER,
        "Configuration": {"State": "Active", "LastUpdateStatus": "Successful"},
        "Version": "7",
    }

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []  # method and path, body
        super().__init__(("127.0.0.1", 0), Yes)

    @contextmanager
    def serving(self) -> Iterator[dict[str, str]]:
        """The environment that leads the AWS CLI here."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
                "AWS_ACCESS_KEY_ID": "nobody",
                "AWS_SECRET_ACCESS_KEY": "nothing",
            }
        finally:
            self.shutdown()
            self.server_close()


class Yes(BaseHTTPRequestHandler):
    def answer(self) -> None:
        assert isinstance(self.server, Cloud)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        action = re.match(rb"Action=(\w+)", body)  # IAM still speaks XML
        if action:
            answer = b"<%bResponse><%bResult/></%bResponse>" % ((action[1],) * 3)
        else:
            answer = json.dumps(Cloud.YES).encode()
        self.server.sent.append((f"{self.command} {self.path}", json.loads(body) if body.startswith(b"{") else None))
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 # as the library wants it

    def log_message(self, *_: object) -> None:
        pass


# Runs the commands on standard input in one process, and says of each that fails what is wrong with it.
AWS_COMMANDS = """\
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver
aws = create_clidriver()
for words in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            status = aws.main(words)
        except SystemExit as end:
            status = end.code
    if status:
        print(*words[:2], said.getvalue())
"""

# What SAM itself reads of the function; its linter does not look at the values in there.
FUNCTION_OF_SAM = """\
import json, sys
from samcli.yamlhelper import yaml_parse
print(json.dumps(yaml_parse(sys.stdin.read())["Resources"]["Function"]["Properties"]))
"""

# Of a file in Terraform's language: the attributes of each resource, as JSON. Its parser keeps the quotes.
TERRAFORM = """\
import hcl2, json, sys
resources = hcl2.load(sys.stdin)["resource"]
print(json.dumps(resources).replace('\\\\"', ""))
"""


def deploy(report: Report, docker: Docker | None, folder: Path) -> None:
    for path in (SAM_FOLDER / "deploy").iterdir():
        shutil.copy(path, folder)
    env = environment(folder)
    run(f"make -s -C {shlex.quote(str(PROJECT))} layer OUT={folder}/layer.zip", env, PROJECT)
    with zipfile.ZipFile(folder / "function.zip", "w") as archive:
        archive.write(PROJECT / "tests/examples/sse/app.py", "app.py")
    tool(folder, "aws", deploy_tools())
    tool(folder, "sam", sam_cli())
    tool(folder, "cfn-lint", sam_cli())
    python = f"PYTHONPATH={deploy_tools()} {sys.executable}"
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"}

    with report.check("deploy: aws-cli.sh"), Cloud() as cloud, cloud.serving() as where:
        run(". ./aws-cli.sh", {**env, **where, "FUNCTION": "example"}, folder)
        zipped = base64.b64encode((folder / "layer.zip").read_bytes()).decode()
        changes = {"Layers": [Cloud.LAYER], "Environment": {"Variables": variables}}
        wanted = [
            ("POST /2018-10-31/layers/runtime-py/versions", {"Content": {"ZipFile": zipped}}),
            ("PUT /2015-03-31/functions/example/configuration", changes),
            ("POST /2021-10-31/functions/example/url", {"AuthType": "AWS_IAM", "InvokeMode": "RESPONSE_STREAM"}),
        ]
        expect(cloud.sent, wanted)

    readme = "".join(
        re.findall(r"^ *```sh\n(.*?)^ *```$", (PROJECT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    )
    printed = run(str(PROJECT / "tests/verify_on_aws.sh"), {**env, "DRY_RUN": "1", "TMPDIR": str(folder)}, folder)
    for path in map(Path, re.findall(rf"{folder}/[\w./]+", printed)):  # what the script has removed by now
        path.parent.mkdir(exist_ok=True)
        shutil.copy(folder / "layer.zip", path)
    for name, text in (("README", readme), ("verify_on_aws.sh", printed)):
        commands = re.findall(r"^ *aws (.*)", text.replace("\\\n", " "), re.MULTILINE)
        commands = [one for one in commands if "--endpoint-url" not in one]  # those are for `make serve`
        with report.check(f"deploy: the {len(commands)} AWS CLI commands of {name}"), Cloud() as cloud:
            words = json.dumps([shlex.split(command, comments=True) for command in commands])
            with cloud.serving() as where:
                expect(run(f"{python} -c {shlex.quote(AWS_COMMANDS)}", {**env, **where}, folder, words), "")
            if len(cloud.sent) < len(commands):
                raise AssertionError(f"no more than {len(cloud.sent)} requests")

    with report.check("deploy: with SAM"):
        expect(run("sam validate --lint --template sam.yaml", env, folder), re.compile("is a valid SAM Template"))
        python_of_sam = f"PYTHONPATH={sam_cli()} {sys.executable}"
        parsed = json.loads(run(f"{python_of_sam} -c {shlex.quote(FUNCTION_OF_SAM)} <sam.yaml", env, folder))
        expect(parsed["Environment"], {"Variables": variables})
        expect(parsed["Layers"], [{"Ref": "Layer"}])
        expect(parsed["FunctionUrlConfig"], {"AuthType": "AWS_IAM", "InvokeMode": "RESPONSE_STREAM"})

    with report.check("deploy: with Terraform"):
        parsed = run(f"{python} -c {shlex.quote(TERRAFORM)} <main.tf", env, folder)
        found = {kind: body for one in json.loads(parsed) for kind, body in one.items()}
        expect(sorted(found), ["aws_lambda_function", "aws_lambda_function_url", "aws_lambda_layer_version"])
        function = found["aws_lambda_function"]["example"]
        expect(function["environment"][0]["variables"], variables)
        expect(function["layers"], ["${aws_lambda_layer_version.runtime.arn}"])
        expect(found["aws_lambda_function_url"]["example"]["invoke_mode"], "RESPONSE_STREAM")
        for kind, name in re.findall(r"\b(aws_\w+)\.(\w+)\.", (folder / "main.tf").read_text()):
            if name not in found.get(kind, {}) and kind != "aws_iam_role":  # which is the user's
                raise AssertionError(f"there is no {kind}.{name}")

    try:
        command = f"{cdk()} synth --quiet --no-notices --output out --app '{python} cdk.py'"
    except NotHere as error:
        report.skip("deploy: with the CDK", error)
        return
    with report.check("deploy: with the CDK"):
        run(command, env, folder)
        run("cfn-lint --non-zero-exit-code error out/Example.template.json", env, folder)
        resources = json.loads((folder / "out/Example.template.json").read_text())["Resources"].values()
        found = {one["Type"].rpartition("::")[2]: one["Properties"] for one in resources}
        expect(found["Function"]["Environment"], {"Variables": variables})
        expect(len(found["Function"]["Layers"]), 1)
        expect(found["Url"]["InvokeMode"], "RESPONSE_STREAM")


# ──── sam: the template ───────────────────────────────────────────────────────────────────────────────────────────────

# What README tells to do, to the word. What is different here stands in a samconfig.toml.
BUILD = ["sam validate --lint", "sam build"]
INVOKE = "sam local invoke --no-event Hello"
START_API = "sam local start-api"
CONFIG = """\
version = 0.1
[default.global.parameters]
parameter_overrides = "PythonRuntime={version}"
skip_pull_image = true
"""


def sam(report: Report, docker: Docker | None, folder: Path) -> None:
    assert docker
    here = folder / "project/tests/sam"
    shutil.copytree(SAM_FOLDER, here)
    shutil.copytree(PROJECT / "tests/examples", folder / "project/tests/examples")
    (folder / "project/tests/tools").mkdir()
    for name in ("bootstrap", "runtime.py", "Makefile", "tests/tools/package.py"):
        shutil.copy(PROJECT / name, folder / "project" / name)
    version = python_version()
    write_files(here, {"samconfig.toml": CONFIG.format(version=version)})
    home = folder / "python"  # what `uv python install` would give a user: a Python that runs from wherever it lies
    shutil.copytree(python_folder() / "usr/lib" / version, home / "lib" / version)
    (home / "bin").mkdir()
    shutil.copy(python_folder() / "usr/bin" / version, home / "bin/python3")
    tool(folder, "sam", sam_cli())
    env = environment(folder, PYTHON_HOME=str(home), DOCKER_HOST=docker.env["DOCKER_HOST"])

    with report.check("sam: sam validate"):
        expect(run(BUILD[0], env, here), re.compile("is a valid SAM Template"))
    with report.check("sam: sam build"):
        expect(run(BUILD[1], env, here), re.compile("^Build Succeeded$", re.MULTILINE))

    with report.check(f"sam: {INVOKE}"):
        result = json.loads(run(INVOKE, env, here))
        number = call([home / "bin/python3", "-c", "import platform; print(platform.python_version())"]).strip()
        expect((result["greeting"], result["python"]), ("Hello, world!", number))
    with report.check("sam: a stream"):
        seen = run("sam local invoke --no-event Stream", env, here)
        prelude, nuls, body = seen.partition("\0" * 8)
        expect((json.loads(prelude)["headers"]["content-type"], len(nuls)), ("text/event-stream", 8))
        expect(re.findall("id: .", body), ["id: 0", "id: 1", "id: 2"])

    with report.check(f"sam: {START_API}"):
        (port,) = free_ports(1)
        command = ["sh", "-c", f"exec {START_API} --port {port}"]
        with (
            (folder / "api.log").open("w") as log,
            subprocess.Popen(command, env=env, cwd=here, stdout=log, stderr=log) as api,
        ):
            try:
                status, _, body = fetch(port, "GET", "/hello")
                expect((status, json.loads(body)["greeting"]), (200, "Hello, world!"))
                status, cookie, body = fetch(port, "GET", "/managed?name=Ada")
                expect((status, cookie), (200, "visited=yes; Secure; HttpOnly"))
                expect(json.loads(body), {"method": "GET", "path": "/managed", "greeting": "Hello, Ada!"})
            finally:
                api.terminate()

    # SAM starts a layer's bootstrap as the runtime, with the variable or without. In another folder it is the wrapper.
    layer = here / ".aws-sam/build/Layer"
    (layer / "elsewhere").mkdir()
    for name in ("bootstrap", "runtime.py", "__pycache__"):
        (layer / name).rename(layer / "elsewhere" / name)
    for wrapper, said in (("/opt/elsewhere/bootstrap", "id: 2"), ("", "here is AWS's client")):
        with report.check(f"sam: AWS_LAMBDA_EXEC_WRAPPER={wrapper}"):
            write_files(folder, {"variables.json": json.dumps({"Stream": {"AWS_LAMBDA_EXEC_WRAPPER": wrapper}})})
            seen = run(f"sam local invoke --no-event Stream --env-vars {folder}/variables.json 2>&1", env, here)
            expect(seen, re.compile(said))


# ──── images: the Dockerfiles ─────────────────────────────────────────────────────────────────────────────────────────


def images(report: Report, docker: Docker | None, folder: Path) -> None:
    assert docker
    for path in (PROJECT / "bootstrap", PROJECT / "runtime.py", PROJECT / "tests/examples/hello/app.py"):
        shutil.copy(path, folder)
    for path in sorted((SAM_FOLDER / "images").iterdir()):
        shutil.copy(path, folder)
        base = path.read_text().split("FROM ")[1].split()[0]
        with report.check(f"images: {path.name}, on what stands in for {base}"):
            try:
                body, log = built_and_invoked(docker, folder / path.name)
            except CannotRun as error:
                raise AssertionError(error) from None
            if '"Hello, Ada!"' not in body or not re.search(r"\[INFO\]\t.*\tsaying hello to Ada", log):
                raise AssertionError(f"{body}\n{log}")


def built_and_invoked(docker: Docker, dockerfile: Path) -> tuple[str, str]:
    """What the image's function answers, and its log."""
    name = dockerfile.stem
    docker("build", "--quiet", "--tag", name, "--file", dockerfile, dockerfile.parent)
    (image,) = json.loads(docker("image", "inspect", name))
    start = [*image["Config"]["Entrypoint"], *image["Config"]["Cmd"]]
    emulator = ["--volume", f"{emulator_of_aws()}:/aws-lambda-rie:ro", "--entrypoint", "/aws-lambda-rie"]
    if name == "lambda":  # has the emulator, and starts it where there is no Lambda
        start, emulator = image["Config"]["Cmd"], []
    (port,) = free_ports(1)
    as_on_lambda = ["--read-only", "--tmpfs", "/tmp", "--user", "993:990"]
    published = ["--publish", f"127.0.0.1:{port}:8080"]
    container = docker("run", "--detach", *as_on_lambda, *published, *emulator, name, *start).strip()
    try:
        _, _, body = fetch(port, "POST", "/2015-03-31/functions/function/invocations", '{"name": "Ada"}')
        return body, docker("logs", container)
    finally:
        docker("rm", "--force", container)


# ──── the command line ────────────────────────────────────────────────────────────────────────────────────────────────

PARTS = {"deploy": deploy, "sam": sam, "images": images}
WITH_DOCKER = {"sam", "images"}


def main() -> int:
    inside = sys.argv[1:2] == [INSIDE]
    names = sys.argv[1 + inside :] or list(PARTS)
    unknown = set(names) - set(PARTS)
    if unknown:
        sys.exit(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    # This may have been started by make, whose variables are not for the make that SAM starts.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "OUT", "PYTHONS", "PYTHON_HOME"):
        os.environ.pop(name, None)
    report = Report()

    def without_docker(reason: object) -> list[str]:
        report.skip("all that needs Docker", reason)
        return [name for name in names if name not in WITH_DOCKER]

    try:
        if not inside:
            prepare(names)
            try:
                if WITH_DOCKER & set(names):
                    prepare_docker()
                    os.execvp(UNSHARE[0], [*UNSHARE, sys.executable, "-B", __file__, INSIDE, *names])
            except NotHere as error:
                names = without_docker(error)
        with ExitStack() as stack:
            docker = None
            if inside:
                try:
                    docker = stack.enter_context(Docker())
                    stand_ins(docker, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="images-"))))
                except NotHere as error:
                    names = without_docker(error)
            for name in names:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-"))
                PARTS[name](report, docker, Path(folder).resolve())
    except CannotRun as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        return 1
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
