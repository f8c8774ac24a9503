# SPDX-License-Identifier: MIT-0
"""Many invocations, some of which go wrong, in one process that must stay as it is: make soak INVOCATIONS=100000

Results, errors, streams and large bodies are mixed; three in a hundred times the API is at fault: it hangs up, refuses,
answers nonsense, cuts an event. Nothing may get lost or be done twice: the API, the handler and the plan have to
agree on every count. Memory, descriptors and threads are looked at all the time, and must be flat.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzz import RUNTIME, Ended, Fault, Peer, Request, event, reply

HANDLER = """
import collections, gc, hashlib, json, logging

calls = collections.Counter()

def handler(event, context):
    kind = event["kind"]
    calls[kind] += 1
    if kind == "count": return {**calls, "garbage": sum(one["collected"] for one in gc.get_stats())}
    if kind == "log": logging.getLogger().warning("a record")
    if kind == "error": raise ValueError(event["number"])
    if kind == "bytes": return b"b" * event["size"]
    if kind == "stream": return stream(event)
    if kind == "async": return later(event)
    return {"number": event["number"], "padding": "x" * event["size"]}

def stream(event):
    yield {"statusCode": 200}
    for _ in range(event["items"]): yield "s" * event["size"]
    if event["fails"]: raise ValueError(event["number"])

async def later(event):
    return {"number": event["number"]}
"""

KINDS = ["result"] * 14 + ["error", "stream", "stream", "bytes", "async", "log"]
FAULTS = (
    "the event is cut", "no event yet", "the event is nonsense", "closed behind the event", "closed before the answer",
    "closed behind the answer", "refused", "the answer is nonsense", "interim answers", "slow",
)  # fmt: skip
PERCENT = 3
NEAR = 1_000_000  # bytes that memory may differ by: arenas come and go


class Soak:
    """The API's side: gives events, keeps count of what comes back."""

    def __init__(self, peer: Peer, seed: str, invocations: int) -> None:
        self.peer = peer
        self.random = random.Random(seed)
        self.planned: Counter[str] = Counter()  # events that the handler should have had
        self.faults: Counter[str] = Counter()
        self.samples: list[tuple[int, int, int]] = []
        self.before = ""
        self._requests = iter(peer)
        self._every = max(1, invocations // 50)

    def run(self, invocations: int) -> None:
        for number in range(invocations):
            if number % self._every == 0:
                self.samples.append(measure(self.peer.process.pid))
            self.invoke(number)
        self.samples.append(measure(self.peer.process.pid))
        counts = json.loads(self.exchange(b"count", {"kind": "count"}).body)
        self.garbage = counts.pop("garbage")
        counts.pop("count")
        if counts != self.planned:
            raise Fault(f"the handler counts {counts}, the plan {dict(self.planned)}")

    def invoke(self, number: int) -> None:
        """One event, and all that goes with it."""
        kind = self.random.choice(KINDS)
        large = self.random.random() < 0.01
        size = self.random.choice([1_000_000, 5_000_000]) if large else self.random.randrange(2000)
        sent = {
            "kind": kind, "number": number, "size": size, "items": 2 if large else self.random.randrange(9),
            "fails": self.random.random() < 0.1, "load": "l" * (size if self.random.random() < 0.5 else 10),
        }  # fmt: skip
        fault = self.random.choice(FAULTS) if self.random.random() * 100 < PERCENT else ""
        if self.before:
            fault = ""  # who is hung up on twice in a row may give up
        self.before = fault
        if kind == "stream" and fault == "closed behind the event":
            fault = "slow"  # its beginning may be gone before anybody can know
        self.planned[kind] += 1
        self.faults[fault] += 1
        request_id = b"id-%d" % number
        answer = self.exchange(request_id, sent, fault)
        check(answer, sent)

    def exchange(self, request_id: bytes, sent: dict[str, object], fault: str = "") -> Request:
        """Give an event, with a fault on the way; the answer that was taken."""
        data = event(request_id, json.dumps(sent).encode())
        asked = self.get()
        if fault == "the event is cut":
            asked.wire.send(data[: self.random.randrange(len(data))])
            self.peer.drop(asked.wire, reset=self.random.random() < 0.5)
            asked = self.get()
        elif fault == "the event is nonsense":
            asked.wire.send(b"\0nonsense\r\n\r\n")
            self.peer.drop(asked.wire)
            asked = self.get()
        elif fault == "no event yet":
            asked.wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            asked = self.get()
        elif fault == "slow":
            for start in range(0, len(data), len(data) // 3 + 1):
                asked.wire.send(data[start : start + len(data) // 3 + 1])
                time.sleep(0.001)
            data = b""
        asked.wire.send(data)
        if fault == "closed behind the event":
            self.peer.drop(asked.wire)

        answer = self.post(request_id)
        streams = answer.headers.get("transfer-encoding") == "chunked"
        if fault in ("closed before the answer", "the answer is nonsense"):
            if fault == "the answer is nonsense":
                answer.wire.send(b"nonsense\r\n\r\n")
            else:
                self.peer.drop(answer.wire, reset=self.random.random() < 0.5)
            if not streams:  # which are sent once; all else comes again, and had arrived
                again = self.post(request_id)
                if again.body != answer.body:
                    raise Fault("the second try differs")
                again.wire.send(reply(400))
        elif fault == "refused":
            answer.wire.send(reply(self.random.choice([400, 403, 410, 413, 429])))
        else:
            if fault == "interim answers":
                answer.wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 3)
            answer.wire.send(reply(202))
            if fault == "closed behind the answer":
                self.peer.drop(answer.wire)
        return answer

    def get(self) -> Request:
        request = self.whole()
        if request.method != "GET":
            raise Fault(f"not asked for: {request.method} {request.path}")
        return request

    def post(self, request_id: bytes) -> Request:
        request = self.whole()
        if request.method != "POST" or request.request_id != request_id:
            raise Fault(f"not the answer to {request_id!r}: {request.method} {request.path}")
        return request

    def whole(self) -> Request:
        while True:
            request = next(self._requests)
            if request.complete:
                return request


def check(answer: Request, sent: dict[str, object]) -> None:
    """The answer is the one to this event, whole and in the right place."""
    kind, body, size, items = sent["kind"], bytes(answer.body), sent["size"], sent["items"]
    assert isinstance(size, int)
    assert isinstance(items, int)
    if (answer.endpoint == "error") != (kind == "error"):
        raise Fault(f"{kind} is answered by {answer.endpoint}")
    if kind == "error":
        good = json.loads(body)["errorMessage"] == str(sent["number"])
    elif kind == "bytes":
        good = body == b"b" * size
    elif kind == "stream":
        prelude, _, rest = body.partition(bytes(8))
        good = json.loads(prelude)["statusCode"] == 200 and rest == b"s" * size * items
    else:
        result = json.loads(body)
        good = result["number"] == sent["number"] and len(result.get("padding", "x" * size)) == size
    if not good:
        raise Fault(f"a wrong answer to {kind}: {body[:200]!r}")


def measure(pid: int) -> tuple[int, int, int]:
    """Memory in bytes, descriptors and threads of a process."""
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return memory, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--invocations", type=int, default=100_000, help="how many (default: 100000)")
    parser.add_argument("--seed", default="1", help="what chance is made from (default: 1)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak ") as folder:
        Path(folder, "fuzzed.py").write_text(HANDLER)
        peer = Peer(os.path.realpath(folder), str(RUNTIME))
        soak = Soak(peer, given.seed, given.invocations)
        began = time.monotonic()
        try:
            soak.run(given.invocations)
            seconds = time.monotonic() - began
            peer.process.send_signal(signal.SIGTERM)
            if peer.process.wait(20) or peer.stderr:
                raise Fault("it does not end as it should")
        except (Fault, Ended) as fault:
            said = (peer.stderr[-3000:], peer.stdout[-600:])
            print(f"{type(fault).__name__}: {fault}", *soak.faults.items(), *said, sep="\n    ")
            return 1
        finally:
            peer.close()
    settled = soak.samples[len(soak.samples) // 5 :]  # by then all that is made once has been made
    memory, descriptors, threads = (sorted(column) for column in zip(*settled))
    faults = sum(count for fault, count in soak.faults.items() if fault)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.planned.items()))
    print(f"{given.invocations} invocations, {given.invocations / seconds:.0f} a second ({kinds})")
    print(f"{faults} faults:", ", ".join(f"{count} × {fault}" for fault, count in sorted(soak.faults.items()) if fault))
    first, last = (min(sample[0] for sample in part) for part in (settled[:10], settled[-10:]))
    print(f"memory {first / 1e6:.1f} MB, later {last / 1e6:.1f} MB (peak {memory[-1] / 1e6:.1f} MB), "
          f"descriptors {descriptors[0]} to {descriptors[-1]}, threads {threads[0]} to {threads[-1]}, "
          f"{soak.garbage} objects in cycles")  # fmt: skip
    if last - first > NEAR or descriptors[-1] - descriptors[0] > 1 or threads[-1] - threads[0] > 1:
        print("that is not flat")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
