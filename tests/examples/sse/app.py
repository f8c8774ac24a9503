# SPDX-License-Identifier: MIT-0
import json
import time


def handler(event, context):
    yield {"statusCode": 200, "headers": {"content-type": "text/event-stream", "cache-control": "no-cache"}}
    for number in range(3):
        yield f"id: {number}\ndata: {json.dumps({'time': time.time()})}\n\n"
        time.sleep(0.2)
