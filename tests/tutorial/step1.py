#!/usr/bin/env python3
# SPDX-License-Identifier: MIT-0
"""Step 1: get an event, call the handler, send the result."""

import http.client
import importlib
import json
import os
import sys

API = "/2018-06-01/runtime"
JSON = {"Content-Type": "application/json"}


def call(method, path, body=None, headers=None):
    connection.request(method, API + path, body, headers or {})
    response = connection.getresponse()
    return response.headers, response.read()


connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
module, _, function = os.environ["_HANDLER"].rpartition(".")
handler = getattr(importlib.import_module(module), function)
while True:
    headers, event = call("GET", "/invocation/next")
    path = f"/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}"
    result = handler(json.loads(event), None)
    call("POST", f"{path}/response", json.dumps(result), JSON)
