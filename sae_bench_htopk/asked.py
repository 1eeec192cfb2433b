"""What is measured, by name: a metric on held-out text, `sparsity`, or on a labelled text of the suite, `sparsity@ag_news`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

HELD_OUT = "held_out"  # what a metric is measured on unless it is told otherwise
Place = TypeVar("Place")


def named(metric: str, text: str) -> str:
    """The name under which the keys and columns of a metric on one text stand."""
    return metric if text == HELD_OUT else f"{metric}@{text}"


def metric_of(name: str) -> str:
    """Which metric it is."""
    return name.partition("@")[0]


def text_of(name: str) -> str:
    """Which text it is measured on."""
    return name.partition("@")[2] or HELD_OUT


def on(text: str, wanted: Mapping[Place, Sequence[str]]) -> dict[Place, list[str]]:
    """Of what is wanted at some places that which is measured on one text; places that have none of it are left out."""
    found = {place: [name for name in names if text_of(name) == text] for place, names in wanted.items()}
    return {place: names for place, names in found.items() if names}


def texts(names: Iterable[str]) -> list[str]:
    """All texts that something is measured on, held-out text first, then by name."""
    return sorted({text_of(name) for name in names}, key=lambda text: (text != HELD_OUT, text))
