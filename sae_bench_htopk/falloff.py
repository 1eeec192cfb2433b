"""The part of a page on how the latents of an SAE fall off by rank: a log-log plot, and the fits of a power law to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_bench_htopk.board import Board
from sae_bench_htopk.figures import GREY, Picture, Point, finish, look, name_lines
from sae_bench_htopk.markdown import Table, rounded
from sae_bench_htopk.saes import Sae

QUANTITIES = {  # name in a record -> title of its panel
    "importance": "mean squared activation times norm",
    "frequency": "share of vectors on which it fires",
    "spectrum": "eigenvalue of the decoder's covariance",
}


@dataclass(frozen=True)
class Falloff(Picture):
    """A panel for each quantity; both axes are logarithmic."""

    code: ClassVar[Path] = Path(__file__)

    def draw(self) -> Figure:
        """Lines alone: a marker for each of 60 ranks would hide them."""
        figure = Figure(figsize=(14, 4.6), layout="constrained")
        for axis, title in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.values(), strict=True):
            draw_panel(axis, [point for point in self.points if point.panel == title])
            axis.set_title(title, color=GREY, fontsize=11)
        return figure


def draw_panel(axis: Axes, points: list[Point]) -> None:
    """One quantity of each SAE by rank."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    ends = []
    colours = look({point.variant for point in points})
    for name in dict.fromkeys(point.line for point in points):
        line = [point for point in points if point.line == name]
        colour = colours[line[0].variant][0]
        axis.plot([p.x for p in line], [p.y for p in line], color=colour, linewidth=1.6)
        ends.append((name, colour, (line[-1].x, line[-1].y)))
    axis.set_xlabel("rank (log scale)", color=GREY)
    finish(axis)
    name_lines(axis, ends)


def shown(board: Board) -> list[Sae]:
    """Each variant's SAE of the budget at which dictionary sizes are compared, or the nearest that it has: its records hold fits."""
    fitted = [sae for sae in board.saes if sae.owner == sae.variant and any(record.get("power_law") for record in sae.records)]
    return [min((s for s in fitted if s.variant == name), key=lambda s: abs(s.budget - board.anchor)) for name in sorted({s.variant for s in fitted})]


def picture(board: Board) -> Falloff:
    """The curves of the first seed of each variant."""
    points = [
        Point(title, board.label(sae), sae.variant, "single", float(rank), float(value), None, "", False)
        for name, title in QUANTITIES.items()
        for sae in shown(board)
        for rank, value in fits(sae, name)[0]["curve"]
    ]
    return Falloff("falloff", "Three quantities of latents against their rank, both logarithmic", "rank", "value", "higher", tuple(points), "log")


def fits(sae: Sae, quantity: str) -> list[Mapping[str, Any]]:
    """What each seed's record says of one quantity."""
    return [found[quantity] for record in sae.records if (found := record.get("power_law"))]


def table(board: Board) -> str:
    """The exponent of each quantity with its spread over seeds, one seed's interval and its tests; an answer before the numbers."""
    made = Table("SAE", "quantity", "ranks", "exponent", "95%, first seed", "z against lognormal", "z against exponential")
    for sae in shown(board):
        for quantity in QUANTITIES:
            first, *_ = found = fits(sae, quantity)
            if "missing" in first:
                made.add(board.label(sae), quantity, first["missing"], None, None, None, None)
                continue
            exponents = [fit["exponent"] for fit in found if fit.get("exponent") is not None]
            z = (f"{first['against'][law]['z']:+.1f}" for law in ("lognormal", "exponential"))
            made.add(board.label(sae), quantity, f"{first['first']} to {first['last']:,}", mean(exponents), interval(first), *z)
    return made.markdown()


def mean(exponents: list[float]) -> str:
    """A mean with its standard deviation over seeds; "beyond any power" where there is none."""
    if not exponents:
        return "steeper than any power"
    return rounded(fmean(exponents), stdev(exponents)) + f" ±{stdev(exponents):.2g}" if len(exponents) > 1 else rounded(exponents[0])


def interval(fit: Mapping[str, Any]) -> str:
    """low to high."""
    return " to ".join("∞" if end is None else f"{end:.3g}" for end in (fit["low"], fit["high"]))


def sentences(board: Board) -> Iterator[str]:
    """For how many of the SAEs each quantity follows a power law better than the other two laws, by |z| of at least 2."""
    for quantity in QUANTITIES:
        found = [fits(sae, quantity)[0] for sae in shown(board)]
        tests = [[fit["against"][law]["z"] for law in ("lognormal", "exponential")] for fit in found if "against" in fit]
        if tests:
            power, other = sum(min(z) >= 2 for z in tests), sum(min(z) <= -2 for z in tests)
            yield f"{quantity}: a power law for {power} of {len(tests)} SAEs, another law for {other}, undecided for {len(tests) - power - other}."
