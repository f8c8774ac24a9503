# SPDX-License-Identifier: MIT-0
"""A FastAPI app on Lambda: asgi.py beside this file is all that it takes."""

import asyncio
import contextlib
import signal
import sys

from asgi import lambda_handler
from fastapi import FastAPI
from fastapi.responses import StreamingResponse


@contextlib.asynccontextmanager
async def lifespan(app):
    print("connecting")
    yield
    print("disconnecting")


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def greet(name: str = "world"):
    return {"greeting": f"Hello, {name}!"}


@app.get("/count")
async def count(to: int = 3):
    async def numbers():
        for number in range(to):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(numbers(), media_type="text/event-stream")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # with it, Lambda says when it ends us: the lifespan can finish
handler = lambda_handler(app)
