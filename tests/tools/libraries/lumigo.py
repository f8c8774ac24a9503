# SPDX-License-Identifier: MIT-0
"""Its handler in front: spans of the handler and of an HTTP call, an execution tag."""

import os
import urllib.request

import lumigo_tracer


def work(event, context):
    lumigo_tracer.add_execution_tag("path", event["rawPath"])
    with urllib.request.urlopen(f"{os.environ['SERVER']}/called") as answer:
        answer.read()
    if event["rawPath"] == "/fail":
        raise ValueError("on purpose")
    return {"statusCode": 200, "body": "hello"}
