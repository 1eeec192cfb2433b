"""The part of a page on the whole curve of each SAE: explained variance against L0 at every budget, from one encoding at the largest."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.figures import GREY, Picture, Point, finish, limits, look, name_lines, outside, y_ticks
from sae_bench_htopk.markdown import fold, words
from sae_bench_htopk.saes import EV, Sae, spread

MEAN = "sparsity_curve.ev_mean"  # the column whose metric keeps the curve in its details
TRAINED = "trained at this k"


@dataclass(frozen=True)
class Curve(Picture):
    """One panel: a line for each SAE, and a marker where it is read at the k that it was trained at."""

    code: ClassVar[Path] = Path(__file__)

    def csv(self) -> str:
        """A line for each SAE and budget, six digits of each number."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["SAE", "variant", "k", self.x, self.y, "standard deviation over seeds", "note"])
        for _, line in groupby(self.points, key=lambda point: point.line):
            for k, point in enumerate(line, 1):
                numbers = ["" if number is None else f"{number:.6g}" for number in (point.x, point.y, point.spread)]
                writer.writerow([point.line, point.variant, k, *numbers, point.note])
        return file.getvalue()

    def draw(self) -> Figure:
        """Names at the ends of the lines; a marker for each of so many budgets would hide them."""
        figure = Figure(figsize=(9.2, 5.6), layout="constrained")
        axis = figure.subplots()
        ends = draw_lines(axis, self)
        axis.set_ylim(*limits(self))
        axis.set_yticks(*y_ticks(self))
        ticks = sorted({2 ** round(math.log2(point.x)) for point in self.points if point.x > 0})
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel(f"{self.x} (log scale)", color=GREY)
        axis.set_ylabel(self.y_title(), color=GREY)
        finish(axis)
        name_lines(axis, ends)
        return figure


def draw_lines(axis: Axes, picture: Curve) -> list[tuple[str, str, tuple[float, float]]]:
    """Every SAE in its variant's colour, from the first budget at which anything fires, with a band over seeds; returns names, colours and ends."""
    axis.set_xscale("log", base=2)
    colours, ends = look({point.variant for point in picture.points}), []
    for name, every in groupby(picture.points, key=lambda point: point.line):
        line = [point for point in every if point.x > 0]
        if not line:
            continue
        colour, marker = colours[line[0].variant]
        x = [point.x for point in line]
        low, y, high = ([picture.height(p.y + sign * (p.spread or 0.0)) for p in line] for sign in (-1, 0, 1))
        axis.plot(x, y, color=colour, linewidth=1.8)
        axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        own = [point for point in line if point.note == TRAINED]
        axis.plot([p.x for p in own], [picture.height(p.y) for p in own], marker, color=colour, markersize=6.5)
        ends.append((name, colour, (x[-1], y[-1])))
    return ends


def kept(sae: Sae) -> list[Mapping[str, Any]]:
    """Each seed's curve, of the native reading of the whole dictionary at the largest k that has one."""
    metric = MEAN.partition(".")[0]
    for k in reversed(sae.ks()):
        if found := [curve for rows in sae.rows.values() if (curve := rows.get(sae.reading(k), {}).get("details", {}).get(metric))]:
            return found
    return []


def picture(board: Board) -> Curve:
    """Means over seeds of every SAE that is compared on the whole dictionary."""
    points = [point for sae in board.saes if (found := kept(sae)) for point in line(board, sae, found)]
    alt = "Explained variance (higher is better) against measured L0 of each SAE at every budget"
    return Curve("curve", alt, "measured L0", EV, "higher", tuple(points), "unexplained")


def line(board: Board, sae: Sae, found: Sequence[Mapping[str, Any]]) -> list[Point]:
    """One SAE, from the first budget to the last."""
    l0s, evs = (list(zip(*(one[name] for one in found), strict=True)) for name in ("l0", "ev"))
    return [
        Point("", board.label(sae), sae.variant, "single", fmean(l0), fmean(ev), spread(ev), TRAINED if sae.trained_at(k) else "", False)
        for k, l0, ev in zip(found[0]["k"], l0s, evs, strict=True)
    ]


def section(board: Board, drawn: Picture | None) -> str:
    """The figure with its caption, folded; a sentence alone where no SAE has a curve; nothing where none was asked for."""
    if not any(MEAN in row["values"] for record in board.records for row in record["rows"]):
        return ""
    largest = max((len(one["k"]) for sae in board.saes for one in kept(sae)), default=0)
    said = [caption(board, drawn, largest)] if drawn else []
    text = "\n\n".join([*said, *left_out(board)])
    return fold(f"The whole curve: every k from 1 to {largest}" if largest else "The whole curve: no SAE has one", text)


def caption(board: Board, drawn: Picture, largest: int) -> str:
    """The figure, and what its lines are."""
    parts = [
        f"Each line is one SAE at every k from 1 to {largest}, by its native selector, from one encoding at {largest}: where that is `row`, the "
        "first k codes of each vector, which are the reading at k exactly; where it is `threshold`, the codes above the threshold that calibration "
        "found for k.",
        "Marker: the k that it was trained at." if any(point.note == TRAINED for point in drawn.points) else "",
        "Bands: ± one standard deviation over seeds." if any(point.spread for point in drawn.points) else "",
        f"Partly or wholly out of the picture: {words(beyond)}." if (beyond := outside(drawn)) else "",
        f"[Data]({board.suite}/{drawn.name}.csv).",
    ]
    return f"![{drawn.alt}]({board.suite}/{drawn.name}.svg)\n\n<sub>{' '.join(part for part in parts if part)}</sub>"


def left_out(board: Board) -> list[str]:
    """A sentence for each reason why SAEs have no curve."""
    reasons: dict[str, list[str]] = {}
    for sae in [sae for sae in board.saes if not kept(sae)]:
        found = sae.read(MEAN, max(sae.ks(), default=0))
        reasons.setdefault(found.reason if isinstance(found, Missing) else "its curve was not kept", []).append(board.label(sae))
    return [f"Without a curve: {words(labels)} ({reason})." for reason, labels in reasons.items()]
