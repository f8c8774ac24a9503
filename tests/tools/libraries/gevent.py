# SPDX-License-Identifier: MIT-0
"""All that can be patched, patched before anything else; greenlets that ask a server; an error out of one."""

from gevent import monkey

monkey.patch_all()

import os  # patched first, as its documentation asks
import urllib.request

import gevent


def get(path):
    if path == "/fail":
        raise ValueError("on purpose")
    with urllib.request.urlopen(os.environ["SERVER"] + path) as answer:
        return answer.status


def handler(event, context):
    tasks = [gevent.spawn(get, path) for path in (event["rawPath"], "/a", "/a")]
    gevent.joinall(tasks, raise_error=True)
    return [task.value for task in tasks]
