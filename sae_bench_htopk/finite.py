"""Finds numbers that are infinite or none, however deep in lists and objects they lie."""

import math
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any


def finite(values: Collection[Any]) -> bool:
    """Whether no number in them, however deep, is infinite or none.

    A record holds 300,000 numbers, so what lies in several lists, or in several objects, is looked at together.
    """
    kinds = set(map(type, values))
    numbers = values if kinds == {float} else [value for value in values if isinstance(value, float)] if holds(kinds, float) else ()
    if not all(map(math.isfinite, numbers)):
        return False
    lists = [value for value in values if isinstance(value, list | tuple)] if holds(kinds, list, tuple) else []
    objects = [value for value in values if isinstance(value, dict)] if holds(kinds, dict) else []
    return (not lists or finite(list(chain.from_iterable(lists)))) and (not objects or finite([inner for one in objects for inner in one.values()]))


def holds(kinds: Collection[type], *wanted: type) -> bool:
    """Whether any of these types is one of those, or is derived from one, as NumPy's floats are."""
    return any(issubclass(kind, wanted) for kind in kinds)


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
