# SPDX-License-Identifier: MIT-0
"""Its default output, with the values in the stack of an exception; JSON lines; records of the logging module."""

import logging
import sys

from loguru import logger

logger.add(sys.stdout, serialize=True, filter=lambda record: not record["exception"])


class Intercept(logging.Handler):
    def emit(self, record):
        logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())


logging.getLogger("shop").addHandler(Intercept())


@logger.catch(reraise=True)
def handler(event, context):
    logger.bind(path=event["rawPath"]).info("at work")
    logging.getLogger("shop").warning("from the logging module")
    return 1 / (event["rawPath"] != "/fail")
