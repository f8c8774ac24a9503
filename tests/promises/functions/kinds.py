# SPDX-License-Identifier: MIT-0
"""What handlers may return or raise: a kind of everything. For the cases in conformance_cases.py."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import logging
import os
import sys
import uuid
from typing import Any, NoReturn

__all__ = [
    "AsDict", "AsDictDict", "AsDictList", "AsDictStr", "Color", "D", "DSub", "Data", "Float", "Int",
    "Kind", "Level", "List", "Odd", "Pair", "Str", "Tuple", "collections", "cycle", "datetime", "deep", "log", "os",
    "raise_it", "recurse", "sys", "uuid",
]  # fmt: skip

D = decimal.Decimal
log = logging.getLogger()
Pair = collections.namedtuple("Pair", "a b")


class AsDict:
    def _asdict(self) -> dict[str, Any]:
        return {"x": 1, "pair": Pair(1, D("2.50"))}


class AsDictList(list):  # type: ignore[type-arg]
    def _asdict(self) -> dict[str, Any]:
        return {"l": 1}


class AsDictDict(dict):  # type: ignore[type-arg]
    def _asdict(self) -> dict[str, Any]:
        return {"d": 1}


class AsDictStr(str):
    def _asdict(self) -> dict[str, Any]:
        return {"s": 1}


@dataclasses.dataclass
class Data:
    a: int = 1


class Odd:
    def __repr__(self) -> str:
        return "repr of Odd"

    def __str__(self) -> str:
        return "str of Odd"


class Str(str):
    pass


class Int(int):
    def __repr__(self) -> str:
        return "not a number"


class Float(float):
    def __repr__(self) -> str:
        return "not a number"


class List(list):  # type: ignore[type-arg]
    pass


class Tuple(tuple):  # type: ignore[type-arg]
    pass


class DSub(decimal.Decimal):
    pass


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 7


class Kind(str, enum.Enum):
    ODD = "odd"


cycle: list[Any] = []
cycle.append(cycle)


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def raise_it(error: BaseException) -> NoReturn:
    raise error


def recurse(number: int) -> int:
    return recurse(number + 1)
