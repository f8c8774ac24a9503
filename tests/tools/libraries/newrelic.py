# SPDX-License-Identifier: MIT-0
"""Its decorator: transactions and errors in the log, a traced function, a custom event."""

import newrelic.agent

newrelic.agent.initialize()

from newrelic_lambda.lambda_handler import lambda_handler  # the agent has to come first


@newrelic.agent.function_trace()
def work(path):
    newrelic.agent.record_custom_event("Greeting", {"path": path})
    if path == "/fail":
        raise ValueError("on purpose")
    return {"statusCode": 200, "body": "hello"}


@lambda_handler()
def handler(event, context):
    return work(event["rawPath"])
