# SPDX-License-Identifier: MIT-0
"""The smallest function worth a look: `make invoke` runs it on event.json, which lies beside this file."""

import logging
import platform

log = logging.getLogger()
log.setLevel(logging.INFO)


def handler(event, context):
    name = event.get("name", "world")
    log.info("saying hello to %s", name)
    return {
        "greeting": f"Hello, {name}!",
        "requestId": context.aws_request_id,
        "millisLeft": context.get_remaining_time_in_millis(),
        "python": platform.python_version(),
    }
