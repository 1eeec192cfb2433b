"""Keeps the chance of any false finding among several tests where it was wanted: Holm's step-down correction (Holm 1979)."""

from collections.abc import Sequence


def holm(ps: Sequence[float]) -> list[float]:
    """The p of each test, adjusted for there being several of them; in the order given, at most 1."""
    adjusted, highest = [1.0] * len(ps), 0.0
    for done, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - done) * ps[place]))
        adjusted[place] = highest
    return adjusted
