"""What all labelled texts have in common: where they come from, what they come to, and what a data set calls its classes and tags."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from sae_bench_htopk.labels import Labels
from sae_bench_htopk.text import Files, Hub

LEAST = 3  # documents of each class: one to choose latents on, one to fit on, one to score on; a trustworthy number takes far more
UNKNOWN = {-1, -100}  # what stands where a class is not known (`datasets`), and where a tag is not to count (PyTorch)

LabelledSource: TypeAlias = Files | Hub


class LabelledDocuments(NamedTuple):
    """What a labelled text comes to: the documents, and who knows their labels."""

    texts: tuple[str, ...]
    labels: Labels


def at_least(config: object, **least: int) -> None:
    """Raises ValueError if a number is less than it may be."""
    for key, bound in least.items():
        if (given := getattr(config, key)) < bound:
            raise ValueError(f"{key}: {given}, wanted a whole number of at least {bound}")


def class_names(feature: object) -> list[str]:
    """The names of the classes of a column by their numbers, if the data set gives them."""
    return list(getattr(feature, "names", None) or ())


def called(value: int | str, names: Sequence[str]) -> str | None:
    """What a data set calls a class or a tag, by its number if it gives names; None for one that it does not know."""
    if value in UNKNOWN:
        return None
    if not names or not isinstance(value, int):
        return str(value)
    return names[value] if 0 <= value < len(names) else None
