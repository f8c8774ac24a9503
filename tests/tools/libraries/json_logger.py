# SPDX-License-Identifier: MIT-0
"""Its formatter on Lambda's own log handler, fields of one's own, an exception."""

import logging

from pythonjsonlogger.json import JsonFormatter

logger = logging.getLogger()
logger.setLevel(logging.INFO)
logger.handlers[0].setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(aws_request_id)s %(message)s"))


def handler(event, context):
    logger.info("at work", extra={"path": event["rawPath"]})
    try:
        return 1 / (event["rawPath"] != "/fail")
    except ZeroDivisionError:
        logger.exception("failed")
        raise
