# SPDX-License-Identifier: MIT-0
import asyncio


async def fetch(name):
    await asyncio.sleep(0.1)  # a request, a query
    return f"{name} fetched"


async def handler(event, context):
    return await asyncio.gather(*(fetch(name) for name in event["names"]))
