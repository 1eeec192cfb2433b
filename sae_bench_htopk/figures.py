"""The figures of a board: each compared column against measured L0."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from sae_bench_htopk import frontier
from sae_bench_htopk.board import Board
from sae_bench_htopk.lines import Lines, Ratio
from sae_bench_htopk.picture import Point, Scale
from sae_bench_htopk.saes import DELTA, EV, SCORE, SHOWN, Number, Sae

NAMES = {EV: "frontier", DELTA: "loss"}  # of files; other columns have their own


def name_of(column: str) -> str:
    """What the file of a column's figure is called."""
    return NAMES.get(column, column.split(".")[1])


def pictures(board: Board) -> Iterator[Lines]:
    """Every figure of a column against measured L0 that the records can fill."""
    return (picture for column in board.columns if (picture := sparsity(board, column)).points)


def sparsity(board: Board, column: str) -> Lines:
    """One column against measured L0: each variant by its native selector on its whole dictionary."""
    title, better = SHOWN[column]
    lines: list[Point] = []
    for variant in board.variants:
        saes = board.of(variant)
        each = [readings(board, sae, column, "sae" if len(saes) > 1 else "single") for sae in saes]
        lines += envelope(each, f"{variant} ({len(saes)} SAEs)", better) if len(saes) > 1 else []
        lines += [point for line in each for point in line]
    controls = [point for sae in board.controls for point in readings(board, sae, column, "control")]
    words = f"{title} ({better} is better) against measured L0 of each variant, controls in grey"
    return Lines(name_of(column), words, "measured L0", column, better, tuple(marked(lines, better) + controls), scale_of(column, lines))


def relative(board: Board) -> Ratio:
    """What each variant leaves unexplained over what the best leaves at the same L0: 1 is the best; nothing where there is one line, or nothing is left."""
    thick = [point for point in sparsity(board, EV).points if point.kind in ("envelope", "single")]
    lines = [[point for point in thick if point.line == name] for name in dict.fromkeys(point.line for point in thick)]
    found = []
    best = np.fmax.reduce([np.array([point.y for point in thick]), *(heights(line, thick) for line in lines)])
    for point, left in zip(thick, (1 - best).tolist(), strict=True) if len(lines) > 1 else []:
        if left > 0:
            found.append(point._replace(y=max((1 - point.y) / left, 1.0), spread=None if point.spread is None else point.spread / left))
    words = "Unexplained variance of each variant over that of the best at the same measured L0 (lower is better, 1 is the best)"
    return Ratio("relative", words, "measured L0", "unexplained variance / the best's", "lower", tuple(found), "log")


def scale_of(column: str, points: Sequence[Point]) -> Scale:
    """Of what ends at 1, the log of what is missing to it; of a loss that is never 0 or below, its log."""
    if column in (EV, SCORE) and all(point.y < 1 for point in points):
        return "unexplained"
    return "log" if column == DELTA and all(point.y > 0 for point in points) else "linear"


def heights(line: Sequence[Point], points: Sequence[Point]) -> Float[np.ndarray, " points"]:
    """A line's heights where points are, L0s within 2% of one budget being the same; NaN beyond the line."""
    return frontier.along([p.place() for p in line], [p.y for p in line], np.array([p.place() for p in points]))


def envelope(lines: Sequence[Sequence[Point]], name: str, better: frontier.Better) -> list[Point]:
    """The readings that no other of the lines passes, between its own readings, at the same L0."""
    found, sign = list[Point](), 1 if better == "higher" else -1
    for line in lines:
        own, passed = np.array([point.y for point in line]), np.zeros(len(line), bool)
        for other in lines:
            passed |= (other is not line) & (sign * heights(other, line) > sign * own)  # beyond the other line it is not
        found += [point._replace(line=name, kind="envelope") for point, beaten in zip(line, passed, strict=True) if not beaten]
    return sorted(found, key=lambda point: point.x)


def readings(board: Board, sae: Sae, column: str, kind: Literal["sae", "single", "control"]) -> list[Point]:
    """The readings of one SAE at their measured L0, or at their nominal k where no L0 can be measured; an L0 of 0 has no place on a log scale."""
    label = f"{board.label(sae)} (one SAE)" if kind == "single" else board.label(sae)
    found = [(k, number) for k in sae.ks() if isinstance(number := sae.even(column).read(column, k), Number) and number.l0 != 0]
    points = [Point("", label, sae.variant, kind, float(k) if n.l0 is None else n.l0, n.mean, n.spread, "", False, k) for k, n in found]
    return sorted(points, key=lambda point: point.x)


def marked(points: list[Point], better: frontier.Better) -> list[Point]:
    """The same points, with those on the frontier marked: less of x is better."""
    compared = [(p.place(), math.nan if p.note else p.y) for p in points]
    best = frontier.non_dominated(np.array(compared).reshape(-1, 2), ("lower", better))
    return [point._replace(best=bool(is_best)) for point, is_best in zip(points, best, strict=True)]
