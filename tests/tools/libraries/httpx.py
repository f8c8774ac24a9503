# SPDX-License-Identifier: MIT-0
"""A client made at import, an async one at each event, an HTTP status as an exception."""

import asyncio
import os

import httpx

client = httpx.Client(base_url=os.environ["SERVER"])


async def twice():
    async with httpx.AsyncClient(base_url=os.environ["SERVER"]) as awaited:
        return [answer.json() for answer in await asyncio.gather(awaited.get("/a"), awaited.get("/a"))]


def handler(event, context):
    answer = client.post(event["rawPath"].replace("fail", "refused"), json={"a": 1})
    answer.raise_for_status()
    return [answer.json(), *asyncio.run(twice())]
