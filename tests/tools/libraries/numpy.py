# SPDX-License-Identifier: MIT-0
"""Its numbers and lists in a result, an array as a result, which JSON cannot carry."""

import numpy as np


def handler(event, context):
    array = np.arange(6).reshape(2, 3)
    if event["rawPath"] == "/fail":
        return {"array": array}
    return {"sum": int(array.sum()), "mean": array.mean(), "list": array.tolist()}
