# SPDX-License-Identifier: MIT-0
"""A session made at import, JSON both ways, an HTTP status as an exception."""

import os

import requests

session = requests.Session()


def handler(event, context):
    answer = session.post(os.environ["SERVER"] + event["rawPath"].replace("fail", "refused"), json={"a": 1}, timeout=5)
    answer.raise_for_status()
    return answer.json()
