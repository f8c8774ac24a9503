#!/usr/bin/env python3
# SPDX-License-Identifier: MIT-0
"""Step 3: tell the handler about its invocation."""

import http.client
import importlib
import json
import os
import sys
import time
import traceback

API = "/2018-06-01/runtime"
JSON = {"Content-Type": "application/json"}
TYPE = "Lambda-Runtime-Function-Error-Type"


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
        body = json.dumps(handler(json.loads(event), Context(headers)))
    except Exception as error:
        fail(path, error)
    else:
        call("POST", f"{path}/response", body, JSON)
