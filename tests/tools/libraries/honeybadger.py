# SPDX-License-Identifier: MIT-0
"""Its Lambda plugin: an error in the handler, with the event and a context of one's own."""

import os

from honeybadger import honeybadger

honeybadger.configure(api_key="key", endpoint=os.environ["SERVER"], environment="production")


def handler(event, context):
    honeybadger.set_context(path=event["rawPath"])
    if event["rawPath"] == "/fail":
        raise ValueError("on purpose")
    return {"done": True}
