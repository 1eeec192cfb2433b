"""Corrects p-values of several tests at once, so that the chance of any false finding among them stays what one test's would be."""

from collections.abc import Sequence

SMALL = 1e-4  # a p below it is told as that


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order of `ps`: the i-th smallest of m times m - i + 1, never less than one before it, at most 1."""
    adjusted, least = [1.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = least
    return adjusted


def probability(p: float | None) -> str:
    """A p-value to two digits; empty where there is no such test."""
    return "" if p is None else f"<{SMALL:.4f}" if p < SMALL else f"{p:.2g}"
