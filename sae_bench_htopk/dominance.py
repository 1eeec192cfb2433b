"""The part of a page that says of every reading whether it is on the Pareto frontier of a measure, and if not, which reading passes it."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from sae_bench_htopk import frontier
from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import Table, brief, fold, rounded, words
from sae_bench_htopk.saes import SHOWN, Number, Sae

WORDS = (
    "A reading is on the frontier if no other has as few codes (an L0 within 2% of the k that it was read at being that k) and is as good, and better in one "
    "of the two; what passes it is the best of those. Every SAE counts, by its native selector on its whole dictionary, and every k that it was read at; "
    "controls do not, and a k at which an SAE has no other codes to give than at a smaller one counts once. A number is a mean over the seeds that all "
    "readings of its SAE have. Numbers are taken as they are: whether a difference is more than noise stands in the tables of differences."
)


class Place(NamedTuple):
    """One reading among all of its measure."""

    sae: Sae
    k: int
    number: Number
    by: tuple[Sae, Number] | None  # what passes it; None on the frontier


def places(board: Board, column: str) -> list[Place]:
    """Every reading with the number and a measured L0; of those that pass it, the best, which is the frontier at its own L0."""
    read = ((sae, k, sae.even(column).read(column, k)) for sae in board.saes for k in sae.ks())
    points = [(sae, k, number) for sae, k, number in read if isinstance(number, Number) and number.l0 is not None]
    better = SHOWN[column][1]
    order = sorted(range(len(points)), key=lambda index: points[index][2].mean, reverse=better == "higher")
    values = np.array([(frontier.snapped(points[index][2].l0 or 0.0, points[index][1]), points[index][2].mean) for index in order]).reshape(-1, 2)
    by = dict(zip(order, frontier.dominated_by(values, ("lower", better)), strict=True))
    passed = {index: None if first is None else points[order[first]] for index, first in by.items()}
    return [Place(*point, None if (best := passed[index]) is None else (best[0], best[2])) for index, point in enumerate(points)]


def standing(board: Board, place: Place) -> str:
    """Yes, or no and who passes it."""
    return "yes" if place.by is None else f"no: {board.label(place.by[0])} at L0 {rounded(place.by[1].l0 or 0.0)}"


def table(board: Board, column: str) -> str:
    """Every reading of one measure, with what passes it and the number that it has."""
    made = Table("SAE", "read at k", "measured L0", SHOWN[column][0], "on the frontier", "its number")
    for place in places(board, column):
        theirs = None if place.by is None else brief(place.by[1])
        made.add(board.label(place.sae), str(place.k), rounded(place.number.l0 or 0.0), brief(place.number), standing(board, place), theirs)
    return made.markdown()


def summary(board: Board, column: str) -> str:
    """How many readings of which variant are on the frontier; where an SAE has no more codes to give, a larger k is the same reading again."""
    found = list({(place.sae, place.number.mean, place.number.l0): place for place in places(board, column)}.values())
    counts = Counter(place.sae.variant for place in found if place.by is None)
    return (
        f"{sum(counts.values())} of {len(found)} different readings are on the frontier: {words(f'{count} of {name}' for name, count in counts.most_common())}."
    )


def sections(board: Board) -> list[str]:
    """A folded table for each compared measure that any SAE has."""
    columns = [column for column in board.columns if places(board, column)]
    folds = [fold(f"{SHOWN[column][0]}: what passes what", f"{summary(board, column)}\n\n{table(board, column)}") for column in columns]
    return ["## What is on the frontier, and what passes what", WORDS, *folds] if folds else []
