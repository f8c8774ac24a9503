# SPDX-License-Identifier: MIT-0
"""Its Lambda integration: an error in the handler, a transaction, an error in the log."""

import logging
import os

import sentry_sdk
from sentry_sdk.integrations.aws_lambda import AwsLambdaIntegration

sentry_sdk.init(
    dsn=os.environ["SERVER"].replace("://", "://key@") + "/1",
    integrations=[AwsLambdaIntegration(timeout_warning=True)],
    traces_sample_rate=1.0,
)


def handler(event, context):
    sentry_sdk.set_tag("path", event["rawPath"])
    if event["rawPath"] == "/fail":
        raise ValueError("on purpose")
    logging.error("this is told, too")
    return {"told": sentry_sdk.is_initialized()}
