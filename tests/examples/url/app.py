# SPDX-License-Identifier: MIT-0
"""A function behind a function URL or an HTTP API: it gets a request as an event, and returns a response."""

import json


def handler(event, context):
    request = event["requestContext"]["http"]
    name = event.get("queryStringParameters", {}).get("name", "world")
    answer = {"method": request["method"], "path": event["rawPath"], "greeting": f"Hello, {name}!"}
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json", "cache-control": "no-store"},
        "cookies": ["visited=yes; Secure; HttpOnly"],
        "body": json.dumps(answer),
    }
