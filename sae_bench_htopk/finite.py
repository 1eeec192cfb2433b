"""Finds numbers that are infinite or none, however deep in lists and objects they lie."""

import math
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any

WHOLE = {int, str, bool, type(None)}


def finite(values: Collection[Any]) -> bool:
    """Whether no number in them is infinite or none: a record holds 100,000 of them, so those of one list are looked at together."""
    if (kinds := set(map(type, values))) == {float}:
        return all(map(math.isfinite, values))
    if kinds == {list}:  # such as intervals
        return finite(list(chain.from_iterable(values)))
    return kinds <= WHOLE or all(map(holds, values))


def holds(value: Any) -> bool:
    """The same of one value."""
    if isinstance(value, dict):
        return finite(value.values())
    return finite(value) if isinstance(value, list | tuple) else not isinstance(value, float) or math.isfinite(value)


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value that is no container, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value
