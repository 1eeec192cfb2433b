"""What a variant is worth over a range of sparsities: the mean height of its SAEs' best over log L0, on one grid for all variants."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_bench_htopk import frontier
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.saes import SHOWN, Number, Sae


class Area(NamedTuple):
    """The mean over log L0 of the best of a variant's SAEs, and which of them are the best somewhere: more trainings may mean more area, and are said."""

    height: float
    saes: tuple[Sae, ...]


def shared(board: Board, column: str) -> tuple[int, ...]:
    """The budgets at which every variant that was read at two or more has the number: only these count, so that more readings are no more area."""
    read = [{k for sae in board.of(variant) for k in sae.ks() if isinstance(sae.read(column, k), Number)} for variant in board.variants]
    several = [ks for ks in read if len(ks) > 1]
    return tuple(sorted(set.intersection(*several))) if several else ()


def span(board: Board, column: str) -> tuple[float, float] | None:
    """The range of measured L0 that every variant reaches by the budgets that are shared; None if there is none."""
    ks = shared(board, column)
    reached = [[l0 for sae in board.of(variant) for l0 in sae.mean_curve(column, ks)[0]] for variant in board.variants]
    ends = [(min(l0), max(l0)) for l0 in reached if len(l0) > 1]
    low, high = max((low for low, _ in ends), default=0.0), min((high for _, high in ends), default=0.0)
    return (low, high) if 0 < low < high else None


def areas(board: Board, column: str) -> dict[str, Area | Missing]:
    """Of each variant, the mean over log L0, from end to end of `span`, of the best that any of its SAEs reaches there."""
    if (found := span(board, column)) is None:
        return dict.fromkeys(board.variants, Missing("no range of L0 is common to the variants"))
    ks, places = shared(board, column), frontier.grid(*found)
    return {variant: area(board.of(variant), column, ks, places) for variant in board.variants}


def area(saes: Sequence[Sae], column: str, ks: tuple[int, ...], places: NDArray[np.float64]) -> Area | Missing:
    """Of these SAEs by their readings at these budgets, on a grid."""
    curves = np.stack([frontier.along(*sae.mean_curve(column, ks), places) for sae in saes])
    better = np.fmax if SHOWN[column][1] == "higher" else np.fmin  # these pass over NaN, where an SAE has no readings
    best = better.reduce(curves)
    height = frontier.mean_height(best)
    return Missing("its readings do not reach from end to end") if height is None else Area(height, needed(saes, curves, best))


def needed(saes: Sequence[Sae], curves: NDArray[np.float64], best: NDArray[np.float64]) -> tuple[Sae, ...]:
    """The SAEs that make the best of their curves [SAEs, places], as few as do: those alone in it somewhere, and the first of any that are equal."""
    first = (curves == best).argmax(axis=0)
    return tuple(sae for index, sae in enumerate(saes) if (first == index).any())
