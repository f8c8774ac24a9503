# SPDX-License-Identifier: MIT-0
"""Its Lambda integration: an error while the module is imported."""

import os

import sentry_sdk
from sentry_sdk.integrations.aws_lambda import AwsLambdaIntegration

sentry_sdk.init(dsn=os.environ["SERVER"].replace("://", "://key@") + "/1", integrations=[AwsLambdaIntegration()])

raise ValueError("on purpose")
