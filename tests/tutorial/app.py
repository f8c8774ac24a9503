# SPDX-License-Identifier: MIT-0
"""The functions of the tutorial, one for each thing that a runtime has to do."""

import os
import sys


def hello(event, context):
    return {"hello": event["name"]}


def fails(event, context):
    return {"price": event["total"] / event["count"]}


def knows(event, context):
    left = context.get_remaining_time_in_millis()
    return [context.aws_request_id, left > 0, os.environ["_X_AMZN_TRACE_ID"]]


def counts(event, context):
    for number in range(3):
        yield f"{number}\n"


def breaks(event, context):
    yield "one\n"
    raise ValueError("there is no two")


# What kills a tiny runtime.


def large(event, context):
    return "x" * 64_000_000


def leaves(event, context):
    sys.exit(3)
