"""Draws lines with markers and bands, a panel for each L0 or size at which they are compared."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_bench_htopk.axes import End, finish, name_lines, y_ticks
from sae_bench_htopk.palette import GREY, look
from sae_bench_htopk.picture import Picture, Point

STYLE = {"envelope": "-", "sae": "-", "oracle": "--", "control": ":"}
TURNS = ("-", "-.", (0, (1.5, 0.8)), (0, (5, 1, 1, 1, 1, 1)))  # of single SAEs of one variant


def draw(picture: Picture) -> Figure:
    """A panel for each of the picture's, side by side; a line is named at its end in the last panel that has it."""
    panels = list(dict.fromkeys(point.panel for point in picture.points))
    figure = Figure(figsize=(9.2 if len(panels) == 1 else 12.4, 5.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    last = {point.line: point.panel for point in picture.points}
    for axis, panel in zip(axes, panels, strict=True):
        ends = draw_panel(axis, picture, [point for point in picture.points if point.panel == panel])
        name_lines(axis, [end for end in ends if last[end[0]] == panel])
        axis.set_title(panel, color=GREY, fontsize=11)
    axes[0].set_ylabel(picture.y_title(), color=GREY)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return figure


def draw_panel(axis: Axes, picture: Picture, points: Sequence[Point]) -> list[End]:
    """The lines of one panel: thick for a variant, thin for one of its several SAEs; filled markers lie on the frontier. Returns where thick ones end."""
    ends: list[End] = []
    colours, styles = look({p.variant for p in points}), patterns(points)
    low, high = picture.limits()
    axis.set_xscale("log", base=2)
    for name, kind in dict.fromkeys((point.line, point.kind) for point in points):
        line = [point for point in points if (point.line, point.kind) == (name, kind)]
        colour, marker = (GREY, "x") if kind == "control" else colours[line[0].variant]
        draw_line(axis, picture, line, colour, marker, styles[name, kind])
        inside = [point for point in line if low <= picture.height(point.y) <= high]
        if kind != "sae" and inside:
            ends.append((name, colour, (inside[-1].x, picture.height(inside[-1].y))))
    axis.set_ylim(low, high)
    if picture.scale != "linear":
        axis.set_yticks(*y_ticks(picture))
    ticks = sorted({2 ** round(math.log2(point.x)) for point in points})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(f"{picture.x} (log scale)", color=GREY)
    finish(axis)
    return ends


def draw_line(axis: Axes, picture: Picture, line: Sequence[Point], colour: str, marker: str, style: Any) -> None:
    """One line with its band and markers."""
    x, thin = [point.x for point in line], line[0].kind == "sae"
    low, y, high = ([picture.height(p.y + sign * (p.spread or 0.0)) for p in line] for sign in (-1, 0, 1))
    axis.plot(x, y, linestyle=style, color=colour, linewidth=0.8 if thin else 2.0, alpha=0.5 if thin else 1.0)
    if not thin:
        axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    for best, face in ((True, colour), (False, "none")):
        of = [point for point in line if point.best == best]
        axis.plot([p.x for p in of], [picture.height(p.y) for p in of], marker, color=colour, markersize=3 if thin else 6, markerfacecolor=face)


def patterns(points: Sequence[Point]) -> dict[tuple[str, str], Any]:
    """How each line is dashed: by its kind, and the second and further ones of a variant, which share its colour, in turn."""
    found: dict[tuple[str, str], Any] = {}
    for point in points:
        if (line := (point.line, point.kind)) not in found:
            turn = len({p.line for p in points if (p.variant, p.kind) == (point.variant, point.kind) and (p.line, p.kind) in found})
            found[line] = TURNS[turn % len(TURNS)] if point.kind == "single" else STYLE[point.kind]
    return found
