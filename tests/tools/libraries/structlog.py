# SPDX-License-Identifier: MIT-0
"""JSON lines printed, and records through the logging module, with an exception."""

import logging

import structlog

logging.getLogger().setLevel(logging.INFO)
processors = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
processors += [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
structlog.configure(processors)
printed = structlog.get_logger()
logged = structlog.wrap_logger(logging.getLogger("shop"), processors)


def handler(event, context):
    structlog.contextvars.bind_contextvars(request_id=context.aws_request_id)
    printed.info("printed", path=event["rawPath"])
    logged.info("logged", path=event["rawPath"])
    try:
        return 1 / (event["rawPath"] != "/fail")
    except ZeroDivisionError:
        logged.exception("failed")
        raise
