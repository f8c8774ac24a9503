# SPDX-License-Identifier: MIT-0
"""A session at each event, requests side by side, an HTTP status as an exception."""

import asyncio
import os

import aiohttp


async def main(path):
    async with aiohttp.ClientSession(os.environ["SERVER"], raise_for_status=True) as session:

        async def get(path):
            async with session.get(path) as answer:
                return await answer.json()

        return await asyncio.gather(get(path), get("/hello"))


def handler(event, context):
    return asyncio.run(main(event["rawPath"].replace("fail", "refused")))
