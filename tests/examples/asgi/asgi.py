# SPDX-License-Identifier: MIT-0
"""Run an ASGI app (FastAPI, Starlette, Litestar ...) behind a Lambda function URL, streaming. Copy this file.

    from asgi import lambda_handler
    handler = lambda_handler(app)

The function URL's invoke mode must be RESPONSE_STREAM. https://asgi.readthedocs.io/en/latest/specs/
"""

import asyncio
import base64
import logging
from urllib.parse import unquote

ASGI = {"version": "3.0", "spec_version": "2.4"}


def lambda_handler(app):
    """Start the app, and make the handler that serves it. An app that cannot start fails the function's init."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # the runtime takes over this loop, with the lifespan task in it
    state = {}

    async def handler(event, context):
        scope = {**http_scope(event), "state": state.copy(), "aws.event": event, "aws.context": context}
        body = event.get("body") or ""
        requests = [base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()]
        messages = asyncio.Queue()
        over = asyncio.Event()  # the response is complete, or the client has gone

        async def receive():
            if requests:
                return {"type": "http.request", "body": requests.pop(), "more_body": False}
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if over.is_set():
                raise OSError("the response is over")
            messages.put_nowait(message)
            await messages.join()  # until it is sent, so a slow client slows the app down

        task = asyncio.ensure_future(app(scope, receive, send))
        task.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while message := await messages.get():
                if message["type"] == "http.response.start":
                    yield prelude(message)
                else:
                    yield b"" if scope["method"] == "HEAD" else message.get("body", b"")
                    if not message.get("more_body"):
                        over.set()
                messages.task_done()
            if not over.is_set():
                task.result()  # raises what the app has raised
                raise RuntimeError("the app returned before its response was complete")
            if task.exception():  # the client has a complete response, so only the log can tell
                logging.error("the app failed after its response", exc_info=task.exception())
        finally:
            over.set()
            task.cancel()
            await asyncio.wait([task])

    handler.lifespan = loop.run_until_complete(start(app, state))  # a task that nobody refers to may vanish
    return handler


async def start(app, state):
    """Run the app's lifespan until it has started. The runtime cancels all tasks when it ends: that is the shutdown."""
    started = asyncio.get_running_loop().create_future()
    requests = ["lifespan.startup"]

    async def receive():
        if requests:
            return {"type": requests.pop()}
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"type": "lifespan.shutdown"}

    async def send(message):
        if not started.done():
            started.set_result(message)

    task = asyncio.ensure_future(app({"type": "lifespan", "asgi": ASGI, "state": state}, receive, send))
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    if started.done() and started.result()["type"] == "lifespan.startup.failed":
        if task.done():
            task.result()  # Starlette raises what went wrong
        raise RuntimeError(started.result().get("message") or "the app failed to start")
    return task  # it is done already if the app knows no lifespan and has raised something: then there is none


def http_scope(event):
    http = event["requestContext"]["http"]
    headers = dict(event["headers"])
    if event.get("cookies"):  # Lambda takes them out of the headers
        headers["cookie"] = "; ".join(event["cookies"])
    return {
        "type": "http",
        "asgi": ASGI,
        "http_version": http["protocol"].partition("/")[2],
        "method": http["method"],
        "scheme": headers.get("x-forwarded-proto", "https"),
        "path": unquote(event["rawPath"]),
        "raw_path": event["rawPath"].encode(),
        "query_string": event["rawQueryString"].encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": (http["sourceIp"], 0),
        "server": (event["requestContext"]["domainName"], 443),
    }


def prelude(start):
    """Lambda takes each header once. Repeated ones are joined by commas, which means the same, except for cookies."""
    headers, cookies = {}, []
    for pair in start.get("headers", ()):
        name, value = (part.decode("latin-1") for part in pair)
        name = name.lower()
        if name == "set-cookie":
            cookies.append(value)
        else:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return {"statusCode": start["status"], "headers": headers, "cookies": cookies}
