# SPDX-License-Identifier: MIT-0
"""What tests/verify_on_aws.sh has Lambda run: `handler` does as its event or its query string says."""

import asyncio
import logging
import signal
import sys
import time
import uuid

log = logging.getLogger()
log.setLevel(logging.INFO)
PROCESS = uuid.uuid4().hex  # the same as long as the process lives


def told_to_end(*_):
    print("SIGTERM arrived", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, told_to_end)


def slowly(fail):
    yield {"statusCode": 201, "headers": {"content-type": "text/plain", "x-process": PROCESS}}
    for number in range(3):
        yield f"item {number}\n"
        time.sleep(0.5)
        if fail:
            raise ValueError("failed amid a stream")


def handler(event, context):
    do = event.get("queryStringParameters", event).get("do")
    log.info("asked to %s", do)
    if do == "fail":
        raise ValueError("failed as asked")
    if do == "exit":
        sys.exit(3)
    if do == "return too much":
        return "x" * (7 << 20)
    if do in ("stream", "stream-and-fail"):
        return slowly(fail=do != "stream")
    if do == "stream-20-mb":
        return (b"x" * (1 << 20) for _ in range(20))
    return {"process": PROCESS, "python": sys.version.split()[0], "event": event}


async def gather(event, context):
    began = time.monotonic()
    log.info("awaits")
    await asyncio.gather(*(asyncio.sleep(0.5) for _ in range(10)))
    return {"together": time.monotonic() - began < 4, "process": PROCESS}
