# SPDX-License-Identifier: MIT-0
"""Its handler in front: traces and metrics in the log, trace ids in log records."""

import logging

from datadog_lambda.metric import lambda_metric

logging.getLogger().setLevel(logging.INFO)


def work(event, context):
    lambda_metric("shop.greetings", 1, tags=["kind:hello"])
    logging.info("at work")
    if event["rawPath"] == "/fail":
        raise ValueError("on purpose")
    return {"statusCode": 200, "body": "hello"}
