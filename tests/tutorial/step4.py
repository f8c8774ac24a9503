#!/usr/bin/env python3
# SPDX-License-Identifier: MIT-0
"""Step 4: send a response while the handler makes it."""

import base64
import http.client
import importlib
import json
import os
import sys
import time
import traceback

API = "/2018-06-01/runtime"
JSON = {"Content-Type": "application/json"}
TYPE, BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"
STREAM = {
    "Content-Type": "application/octet-stream",
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Transfer-Encoding": "chunked",
    "Trailer": f"{TYPE}, {BODY}",
}


class Context:
    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.deadline = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self.deadline - int(time.time() * 1000))


def call(method, path, body=None, headers=None):
    connection.request(method, API + path, body, headers or {})
    response = connection.getresponse()
    return response.headers, response.read()


def report(error):
    traceback.print_exc()
    name = type(error).__name__
    return f"Function.{name}", json.dumps({"errorMessage": str(error), "errorType": name})


def fail(path, error):
    kind, body = report(error)
    call("POST", f"{path}/error", body, {**JSON, TYPE: kind})


def chunks(items):
    trailers = ""
    try:
        for item in filter(None, items):  # an empty chunk would end the stream
            data = item.encode()
            yield b"%x\r\n%b\r\n" % (len(data), data)
    except Exception as error:
        kind, body = report(error)
        trailers = f"{TYPE}: {kind}\r\n{BODY}: {base64.b64encode(body.encode()).decode()}\r\n"
    yield f"0\r\n{trailers}\r\n".encode()


connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
try:
    module, _, function = os.environ["_HANDLER"].rpartition(".")
    handler = getattr(importlib.import_module(module), function)
except Exception as error:
    fail("/init", error)
    sys.exit(1)
while True:
    headers, event = call("GET", "/invocation/next")
    path = f"/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}"
    os.environ["_X_AMZN_TRACE_ID"] = headers.get("Lambda-Runtime-Trace-Id", "")
    try:
        result = handler(json.loads(event), Context(headers))
        body = chunks(result) if hasattr(result, "__next__") else json.dumps(result)
    except Exception as error:
        fail(path, error)
    else:
        call("POST", f"{path}/response", body, JSON if isinstance(body, str) else STREAM)
