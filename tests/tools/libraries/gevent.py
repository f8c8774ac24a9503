# SPDX-License-Identifier: MIT-0
"""All that can be patched, patched before anything else; greenlets that ask a server; an error out of one."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402 # patched first, as its documentation asks
import urllib.request  # noqa: E402

import gevent  # noqa: E402


def get(path):
    if path == "/fail":
        raise ValueError("on purpose")
    with urllib.request.urlopen(os.environ["SERVER"] + path) as answer:
        return answer.status


def handler(event, context):
    tasks = [gevent.spawn(get, path) for path in (event["rawPath"], "/a", "/a")]
    gevent.joinall(tasks, raise_error=True)
    return [task.value for task in tasks]
