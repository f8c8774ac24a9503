# SPDX-License-Identifier: MIT-0
"""Its decorator: an error in the handler, a message."""

import os

import rollbar

rollbar.init("token", "production", endpoint=os.environ["SERVER"] + "/", handler="blocking")


@rollbar.lambda_function
def handler(event, context):
    if event["rawPath"] == "/fail":
        raise ValueError("on purpose")
    rollbar.report_message("all is well", "info")
    return {"done": True}
