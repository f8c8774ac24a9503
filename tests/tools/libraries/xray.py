# SPDX-License-Identifier: MIT-0
"""Subsegments with annotations, a patched HTTP client, an exception in a subsegment."""

import os
import urllib.request

from aws_xray_sdk.core import patch, xray_recorder

patch(["httplib"])


def handler(event, context):
    with xray_recorder.in_subsegment("work") as subsegment:
        subsegment.put_annotation("path", event["rawPath"])
        with urllib.request.urlopen(f"{os.environ['SERVER']}/called") as answer:
            answer.read()
        if event["rawPath"] == "/fail":
            raise ValueError("on purpose")
        return xray_recorder.current_subsegment().trace_id
