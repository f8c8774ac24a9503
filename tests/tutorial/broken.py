# SPDX-License-Identifier: MIT-0
"""A module that cannot be imported: what it needs was not deployed with it."""

import a_package_that_was_forgotten


def handler(event, context):
    return a_package_that_was_forgotten.answer(event)
