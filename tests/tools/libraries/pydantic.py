# SPDX-License-Identifier: MIT-0
"""The event as a model, a model as result, a validation error."""

from typing import Literal

from pydantic import BaseModel


class Event(BaseModel):
    rawPath: Literal["/hello"]  # noqa: N815 # the event's name
    headers: dict[str, str]


class Result(BaseModel):
    length: int
    path: str


def handler(event, context):
    parsed = Event.model_validate(event)
    return Result(length=len(parsed.headers), path=parsed.rawPath).model_dump()
