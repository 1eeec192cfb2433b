"""The part of a page on the whole curve of each SAE: explained variance against L0 at every budget, from one encoding at the largest.

It draws what the metric of MEAN keeps in its details: lists of one length, `k`, `l0` and `ev`, and where it has them `low` and `high`, between
which ev lies for 95% of the draws of documents. A metric of that name that keeps them so is drawn, whoever wrote it; another is not.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.markdown import fold, words
from sae_bench_htopk.picture import Picture, Point
from sae_bench_htopk.saes import EV, Sae, spread

MEAN = "sparsity_curve.ev_mean"  # the column whose metric keeps the curve in its details
TRAINED = "trained at this k"


class Budget(NamedTuple):
    """What a point of a curve is, beside its place."""

    k: int
    seeds: int  # that it is a mean of
    low: float | None  # ev that 2.5% of the draws of documents stay below; None with several seeds, whose spread says more, or if it was not kept
    high: float | None


@dataclass(frozen=True)
class Curve(Picture):
    """One panel: a line for each SAE, and a marker where it is read at the k that it was trained at."""

    module: ClassVar[str] = "draw_curve"
    budgets: tuple[Budget, ...] = ()  # one for each point

    def csv(self) -> str:
        """A line for each SAE and budget, six digits of each number."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        bands = ["standard deviation over seeds", "low, 2.5% of draws of documents", "high, 97.5%"]
        writer.writerow(["SAE", "variant", "k", self.x, self.y, "seeds", *bands, "note"])
        for point, budget in zip(self.points, self.budgets, strict=True):
            x, y, *band = ["" if number is None else f"{number:.6g}" for number in (point.x, point.y, point.spread, budget.low, budget.high)]
            writer.writerow([point.line, point.variant, budget.k, x, y, budget.seeds, *band, point.note])
        return file.getvalue()


def kept(sae: Sae) -> list[Mapping[str, Any]]:
    """Each seed's curve, of the native reading of the whole dictionary at the largest k that has one."""
    metric = MEAN.partition(".")[0]
    for k in reversed(sae.ks()):
        if found := [curve for rows in sae.rows.values() if (curve := rows.get(sae.reading(k), {}).get("details", {}).get(metric))]:
            return found
    return []


def picture(board: Board) -> Curve:
    """Means over seeds of every SAE that is compared on the whole dictionary."""
    pairs = [pair for sae in board.saes if (found := kept(sae)) for pair in line(board, sae, found)]
    alt = "Explained variance (higher is better) against measured L0 of each SAE at every budget"
    points, budgets = tuple(point for point, _ in pairs), tuple(budget for _, budget in pairs)
    return Curve("curve", alt, "measured L0", EV, "higher", points, "unexplained", budgets)


def line(board: Board, sae: Sae, found: Sequence[Mapping[str, Any]]) -> list[tuple[Point, Budget]]:
    """One SAE, from the first budget to the last."""
    ks, label = found[0]["k"], board.label(sae)
    lows, highs = (found[0].get(name) if len(found) == 1 else None for name in ("low", "high"))
    pairs = []
    for place, k in enumerate(ks):
        l0, ev = ([one[name][place] for one in found] for name in ("l0", "ev"))
        point = Point("", label, sae.variant, "single", fmean(l0), fmean(ev), spread(ev), TRAINED if sae.trained_at(k) else "", False)
        pairs.append((point, Budget(k, len(found), lows and lows[place], highs and highs[place])))
    return pairs


def section(board: Board, drawn: Picture | None) -> str:
    """The figure with its caption, folded; a sentence alone where no SAE has a curve; nothing where none was asked for."""
    if not any(MEAN in row["values"] for record in board.records for row in record["rows"]):
        return ""
    ends = sorted({found[0]["k"][-1] for sae in board.saes if (found := kept(sae))})
    said = [caption(board, drawn, ends)] if isinstance(drawn, Curve) else []
    last = f"{ends[-1]}" if len(ends) == 1 else f"each SAE's largest, {words(map(str, ends))}"
    return fold(f"The whole curve: every k from 1 to {last}" if ends else "The whole curve: no SAE has one", "\n\n".join([*said, *left_out(board)]))


def caption(board: Board, drawn: Curve, ends: Sequence[int]) -> str:
    """The figure, and what its lines are; `ends` are the SAEs' largest k."""
    reach = f"to {ends[0]}" if len(ends) == 1 else f"to its own largest k, {words(map(str, ends))}"
    parts = [
        f"Each line is one SAE at every k from 1 {reach}, by its native selector, from one encoding at {ends[0] if len(ends) == 1 else 'that k'}: where that "
        "selector is `row`, the first k codes of each vector, which are the reading at k exactly; where it is `threshold`, the codes above the threshold "
        "that calibration found for k.",
        "Marker: the k that it was trained at." if any(point.note == TRAINED for point in drawn.points) else "",
        bands(drawn),
        f"Means of fewer seeds than there are, those with a curve to the largest k: {words(part)}." if (part := partly(board)) else "",
        f"Partly or wholly out of the picture: {words(beyond)}." if (beyond := drawn.outside()) else "",
        f"[Data]({board.suite}/{drawn.name}.csv).",
    ]
    return f"![{drawn.alt}]({board.suite}/{drawn.name}.svg)\n\n<sub>{' '.join(part for part in parts if part)}</sub>"


def bands(drawn: Curve) -> str:
    """What the shades around the lines are."""
    seeds, documents = any(point.spread is not None for point in drawn.points), any(budget.low is not None for budget in drawn.budgets)
    over_seeds, over_documents = "± one standard deviation over seeds", "95% of draws of documents"
    if seeds and documents:
        return f"Bands: {over_seeds}; around an SAE of one seed, {over_documents}, which says nothing of other seeds."
    return f"Bands: {over_seeds}." if seeds else f"Bands: {over_documents}, of one seed." if documents else ""


def partly(board: Board) -> list[str]:
    """SAEs whose line is a mean over some of their seeds."""
    counted = [(sae, len(kept(sae)), len(sae.rows)) for sae in board.saes]
    return [f"{board.label(sae)} ({found} of {seeds})" for sae, found, seeds in counted if 0 < found < seeds]


def left_out(board: Board) -> list[str]:
    """A sentence for each reason why SAEs have no curve."""
    reasons: dict[str, list[str]] = {}
    for sae in [sae for sae in board.saes if not kept(sae)]:
        found = sae.read(MEAN, max(sae.ks(), default=0))
        reasons.setdefault(found.reason if isinstance(found, Missing) else "its curve was not kept", []).append(board.label(sae))
    return [f"Without a curve: {words(labels)} ({reason})." for reason, labels in reasons.items()]
