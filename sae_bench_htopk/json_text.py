"""Reads JSON as the standard has it, in which no number is infinite or none; with orjson, several times as fast, where that is installed."""

import json
import math
from typing import Any, NoReturn

try:
    import orjson
except ImportError:  # a GPU machine may lack it
    orjson = None  # type: ignore[assignment]


def parse(text: bytes) -> Any:
    """What it holds. Raises ValueError if it is no JSON, no UTF-8, or has a number that no float holds."""
    return slowly(text) if orjson is None else orjson.loads(text)


def slowly(text: bytes) -> Any:
    """The same without orjson."""
    return json.loads(text.decode("utf-8"), parse_constant=refuse, parse_float=number)


def refuse(constant: str) -> NoReturn:
    """NaN and infinities are no JSON."""
    raise ValueError(f"{constant} is no number")


def number(text: str) -> float:
    """One that a float can hold."""
    return value if math.isfinite(value := float(text)) else refuse(text)
