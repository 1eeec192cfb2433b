"""The figures of a page: their lines as data (CSV) and their drawing as SVG, readable on a light and on a dark page."""

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae_bench_htopk import frontier, plugins
from sae_bench_htopk.board import Board
from sae_bench_htopk.saes import DELTA, EV, SHOWN, Number, Sae

# Okabe and Ito's colours, which the colour-blind can tell apart: without yellow and black, the palest two darkened,
# so that each has a contrast of 3 to white and to GitHub's dark page
PALETTE = ("#CC8400", "#3399D6", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P")
TINY = 1e-6  # what a log scale shows of 0
GREY = "#808080"  # the same contrast on a white and on a near-black page
STYLE = {"envelope": "-", "sae": "-", "single": "-", "oracle": "--", "control": ":"}


class Point(NamedTuple):
    """One reading, or one size of dictionary, on one line of one panel."""

    panel: str
    line: str
    variant: str
    kind: Literal["envelope", "sae", "single", "oracle", "control"]  # envelope: the best of a variant's SAEs; sae: one of several; single: the only one
    x: float
    y: float
    spread: float | None  # standard deviation over seeds
    note: str  # where the reading's L0 is not its k: it is not compared
    best: bool  # on the frontier of its panel: no other point of a trained SAE is as good in x and y and better in one


@dataclass(frozen=True)
class Picture:
    """All that a figure is drawn from."""

    name: str
    alt: str
    x: str
    y: str
    better: frontier.Better
    points: tuple[Point, ...]
    scale: Literal["linear", "log", "unexplained"] = "linear"  # unexplained: log of 1 - y, for what ends at 1
    code: ClassVar[Path] = Path(__file__)  # the module that draws it

    def csv(self) -> str:
        """The data, six digits of each number."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["panel", "line", "variant", "kind", self.x, self.y, "standard deviation over seeds", "note", "on the frontier"])
        for point in self.points:
            numbers = ["" if number is None else f"{number:.6g}" for number in (point.x, point.y, point.spread)]
            writer.writerow([point.panel, point.line, point.variant, point.kind, *numbers, point.note, "yes" if point.best else "no"])
        return file.getvalue()

    def y_title(self) -> str:
        """EV (higher is better; log of 1 - EV)."""
        title = SHOWN[self.y][0]
        return f"{title} ({self.better} is better{ {'linear': '', 'log': '; log scale', 'unexplained': f'; log scale of 1 - {title}'}[self.scale] })"

    def height(self, y: float) -> float:
        """Where y is drawn on the axis."""
        return y if self.scale == "linear" else math.log(max(y, TINY)) if self.scale == "log" else -math.log(max(1 - y, TINY))

    def colours(self) -> str:
        """How each variant in the picture is drawn; those that are not in it do not matter."""
        drawn = {p.variant for p in self.points}
        return str({name: how for name, how in look(drawn).items() if name in drawn})

    def draw(self) -> Figure:
        """A panel for each of the picture's, side by side, with the names of the lines at their ends."""
        return draw(self)

    def stamp(self) -> str:
        """The hash of the data, the words, the colours and the code that draws: two drawings of one stamp show the same."""
        drawn = [self.csv(), self.alt, self.scale, self.colours(), *(plugins.code_of(path) for path in sorted({self.code, Path(__file__)}))]
        return hashlib.sha256("\0".join(drawn).encode()).hexdigest()[:32]


def look(variants: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) of each variant, the same on every page: a hash of its name, the next free one if that is taken; packaged variants first."""
    places: dict[str, int] = {}
    packaged = {path.stem for path in Path(plugins.folder("variants")).glob("*.py")} & set(plugins.names("variants"))
    for name in [*sorted(packaged), *sorted({*variants, *plugins.names("variants")} - packaged)]:
        start = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        turn = [(start + step) % len(PALETTE) for step in range(len(PALETTE))]
        places[name] = next((place for place in turn if place not in places.values()), turn[0])
    return {name: (PALETTE[place], MARKERS[place]) for name, place in places.items()}


def pictures(board: Board) -> list[Picture]:
    """Every figure of a column against measured L0 that the records can fill."""
    names = {EV: "frontier", DELTA: "loss"}
    against_l0 = [sparsity(board, column, names.get(column, column.split(".")[1])) for column in board.columns]
    return [picture for picture in against_l0 if picture.points]


def sparsity(board: Board, column: str, name: str) -> Picture:
    """One column against measured L0: each variant by its native selector on its whole dictionary."""
    title, better = SHOWN[column]
    lines: list[Point] = []
    for variant in board.variants:
        saes = board.of(variant)
        each = [readings(board, sae, column, "sae" if len(saes) > 1 else "single") for sae in saes]
        lines += envelope(each, f"{variant} ({len(saes)} SAEs)", better) if len(saes) > 1 else []
        lines += [point for line in each for point in line]
    controls = [point for sae in board.controls for point in readings(board, sae, column, "control")]
    points = marked(lines, better) + controls
    positive = column == DELTA and all(point.y > 0 for point in lines)
    words = f"{title} ({better} is better) against measured L0 of each variant, controls in grey"
    return Picture(name, words, "measured L0", column, better, tuple(points), "unexplained" if column == EV else "log" if positive else "linear")


def at(line: Sequence[Point], point: Point) -> float | None:
    """The height of a line where a point is, L0s within 2% of one budget being the same."""
    return frontier.at_budget([frontier.snapped(p.x) for p in line], [p.y for p in line], frontier.snapped(point.x))


def envelope(lines: Sequence[Sequence[Point]], name: str, better: frontier.Better) -> list[Point]:
    """The readings that no other of the lines passes, between its own readings, at the same L0."""
    found = []
    for line in lines:
        for point in line:
            others = [at(other, point) for other in lines if other is not line]
            if all(other is None or (point.y >= other if better == "higher" else point.y <= other) for other in others):
                found.append(point._replace(line=name, kind="envelope"))
    return sorted(found, key=lambda point: point.x)


def readings(board: Board, sae: Sae, column: str, kind: Literal["sae", "single", "control"]) -> list[Point]:
    """The readings of one SAE at their measured L0, or at their nominal k where no L0 can be measured."""
    label = f"{board.label(sae)} (one SAE)" if kind == "single" else board.label(sae)
    found = [(k, number) for k in sae.ks() if isinstance(number := sae.read(column, k), Number)]
    points = [Point("", label, sae.variant, kind, float(k) if n.l0 is None else n.l0, n.mean, n.spread, "", False) for k, n in found]
    return sorted(points, key=lambda point: point.x)


def marked(points: list[Point], better: frontier.Better) -> list[Point]:
    """The same points, with those on the frontier marked: less of x is better."""
    compared = [(frontier.snapped(p.x), math.nan if p.note else p.y) for p in points]
    best = frontier.non_dominated(np.array(compared).reshape(-1, 2), ("lower", better))
    return [point._replace(best=bool(is_best)) for point, is_best in zip(points, best, strict=True)]


def svg(picture: Picture) -> str:
    """The figure, text as text, with its stamp in a comment; the same on every run of one matplotlib."""
    settings: dict[str, Any] = {"svg.hashsalt": "sae_bench_htopk", "svg.fonttype": "none", "font.size": 11}
    with matplotlib.style.context(["default", settings]):
        picture.draw().savefig(file := io.StringIO(), format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue().replace("<svg ", f"<!-- stamp {picture.stamp()} -->\n<svg ", 1)


def draw(picture: Picture) -> Figure:
    """A panel for each of the picture's, side by side, with the names of the lines at their ends."""
    panels = list(dict.fromkeys(point.panel for point in picture.points))
    figure = Figure(figsize=(9.2 if len(panels) == 1 else 12.4, 4.8), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, panel in zip(axes, panels, strict=True):
        draw_panel(axis, picture, [point for point in picture.points if point.panel == panel])
        axis.set_title(panel, color=GREY, fontsize=11)
    axes[0].set_ylabel(picture.y_title(), color=GREY)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return figure


def draw_panel(axis: Axes, picture: Picture, points: Sequence[Point]) -> None:
    """The lines of one panel: thick for a variant, thin for one of its several SAEs; filled markers lie on the frontier."""
    ends: list[tuple[str, str, tuple[float, float]]] = []
    colours = look({p.variant for p in points})
    axis.set_xscale("log", base=2)
    for name, kind in dict.fromkeys((point.line, point.kind) for point in points):
        line = [point for point in points if (point.line, point.kind) == (name, kind)]
        colour, marker = (GREY, "x") if kind == "control" else colours[line[0].variant]
        x = [point.x for point in line]
        low, y, high = ([picture.height(p.y + sign * (p.spread or 0.0)) for p in line] for sign in (-1, 0, 1))
        thin = kind == "sae"
        axis.plot(x, y, STYLE[kind], color=colour, linewidth=0.8 if thin else 2.0, alpha=0.6 if thin else 1.0)
        if not thin:
            axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        for best, face in ((True, colour), (False, "none")):
            of = [point for point in line if point.best == best]
            axis.plot([p.x for p in of], [picture.height(p.y) for p in of], marker, color=colour, markersize=3 if thin else 6, markerfacecolor=face)
        if not thin:
            ends.append((name, colour, (x[-1], y[-1])))
    axis.set_ylim(*limits(picture))
    if picture.scale != "linear":
        axis.set_yticks(*y_ticks(picture))
    ticks = sorted({2 ** round(math.log2(point.x)) for point in points})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(f"{picture.x} (log scale)", color=GREY)
    finish(axis)
    name_lines(axis, ends)


def finish(axis: Axes) -> None:
    """Grey frame and grid, which a white and a near-black page show alike."""
    axis.tick_params(colors=GREY)
    axis.grid(color=GREY, alpha=0.2, linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set(color=GREY, visible=side in ("left", "bottom"))


def limits(picture: Picture) -> tuple[float, float]:
    """The range of heights: everything on the better side, controls too, and on the worse side at most as much again as the thick lines take."""
    thick = [picture.height(p.y) for p in picture.points if p.kind in ("envelope", "single", "oracle")]
    every = [picture.height(p.y) for p in picture.points]
    low, high = min(thick or every), max(thick or every)
    span = max(high - low, 1e-3)
    low, high = (max(min(every), low - span), max(every)) if picture.better == "higher" else (min(every), min(max(every), high + span))
    return low - span / 15, high + span / 15


def y_ticks(picture: Picture) -> tuple[list[float], list[str]]:
    """(heights, numbers) of a log scale: steps of 1, 2, 5, finer ones if fewer than four of those fit, even ones if those do not either."""
    low, high = limits(picture)
    values: list[float] = []
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        amounts = [float(f"{step}e{power}") for power in range(-6, 4) for step in steps]
        values = [value for value in (amount if picture.scale == "log" else round(1 - amount, 8) for amount in amounts) if low <= picture.height(value) <= high]
        if len(values) > 3:
            return [picture.height(value) for value in values], [f"{value:.6g}" for value in values]
    ends = [math.exp(height) if picture.scale == "log" else 1 - math.exp(-height) for height in (low, high)]
    values = [value for value in MaxNLocator(6).tick_values(*ends) if ends[0] <= value <= ends[1]]
    return [picture.height(value) for value in values], [f"{value:.6g}" for value in values]


def name_lines(axis: Axes, ends: Sequence[tuple[str, str, tuple[float, float]]]) -> None:
    """Writes each line's name right of the axes, as near to its end as its neighbours leave room, with a thin leader."""
    axis.autoscale_view(scaley=False)
    heights = [float(axis.transAxes.inverted().transform(axis.transData.transform(end))[1]) for *_, end in ends]
    inside = [(*end, height) for end, height in zip(ends, heights, strict=True) if 0 <= height <= 1]
    places = apart([height for *_, height in inside], 0.062)
    for (name, colour, end, _), place in zip(inside, places, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.6, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}
        axis.annotate(
            name, end, (1.03, place), textcoords="axes fraction", color=colour, va="center", fontsize=10.5,
            annotation_clip=False, arrowprops=leader,
        )  # fmt: skip


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Moves heights as little as is easy so that no two are nearer than `gap` and all stay within 0 to 1; their order stays."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    places = list(heights)
    gap = min(gap, 1 / max(len(order) - 1, 1))
    for _ in range(200):
        for low, high in pairwise(order):
            if (short := gap - (places[high] - places[low])) > 1e-9:
                places[low], places[high] = places[low] - short / 2, places[high] + short / 2
        places = [min(max(place, 0.0), 1.0) for place in places]
    return places


def stamp_of(text: str) -> str | None:
    """The stamp that a drawing carries."""
    _, found, rest = text.partition("<!-- stamp ")
    return rest.split(" ", 1)[0] if found else None


def outside(picture: Picture) -> list[str]:
    """The lines of which some point is outside the picture."""
    low, high = limits(picture)
    return list(dict.fromkeys(point.line for point in picture.points if not low <= picture.height(point.y) <= high))
