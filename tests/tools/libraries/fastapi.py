# SPDX-License-Identifier: MIT-0
"""Mangum in front of FastAPI: a route with a model, one that fails, the event and context in the scope."""

from fastapi import FastAPI, Request
from mangum import Mangum
from pydantic import BaseModel

app = FastAPI()


class Greeting(BaseModel):
    hello: str
    request_id: str


@app.get("/hello")
async def hello(request: Request, name: str = "world") -> Greeting:
    return Greeting(hello=name, request_id=request.scope["aws.context"].aws_request_id)


@app.get("/fail")
def fail():
    raise ValueError("on purpose")


handler = Mangum(app)
