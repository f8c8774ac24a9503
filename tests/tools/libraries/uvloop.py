# SPDX-License-Identifier: MIT-0
"""Its loop for what is awaited, a child process, an error out of a task."""

import asyncio

import uvloop


async def main(path):
    child = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    if path == "/fail":
        raise ValueError("on purpose")
    return [said.decode(), type(asyncio.get_running_loop()).__module__]


def handler(event, context):
    return uvloop.run(main(event["rawPath"]))
