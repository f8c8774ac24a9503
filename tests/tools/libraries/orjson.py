# SPDX-License-Identifier: MIT-0
"""Its bytes as the result's text and as the result, its error for what JSON cannot carry."""

import orjson


def handler(event, context):
    if event["rawPath"] == "/fail":
        return orjson.dumps({"set": {1}})
    return {"statusCode": 200, "body": orjson.dumps(event["headers"]).decode()}
