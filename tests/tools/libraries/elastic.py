# SPDX-License-Identifier: MIT-0
"""Its decorator: transactions, a captured span, an error."""

import elasticapm
from elasticapm import capture_serverless


@capture_serverless
def handler(event, context):
    with elasticapm.capture_span("work"):
        if event["rawPath"] == "/fail":
            raise ValueError("on purpose")
        return {"statusCode": 200, "body": "hello"}
