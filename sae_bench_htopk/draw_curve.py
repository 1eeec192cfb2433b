"""Draws the whole curve of each SAE: explained variance against L0 at every budget."""

import math
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_bench_htopk.axes import End, finish, name_lines, y_ticks
from sae_bench_htopk.curve import TRAINED, Budget, Curve
from sae_bench_htopk.palette import GREY, look
from sae_bench_htopk.picture import Point


def draw(picture: Curve) -> Figure:
    """Names at the ends of the lines; a marker for each of so many budgets would hide them."""
    figure = Figure(figsize=(9.2, 5.6), layout="constrained")
    axis = figure.subplots()
    ends = draw_lines(axis, picture)
    axis.set_ylim(*picture.limits())
    axis.set_yticks(*y_ticks(picture))
    ticks = sorted({2 ** round(math.log2(point.x)) for point in picture.points if point.x > 0})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(f"{picture.x} (log scale)", color=GREY)
    axis.set_ylabel(picture.y_title(), color=GREY)
    finish(axis)
    name_lines(axis, ends)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return figure


def draw_lines(axis: Axes, picture: Curve) -> list[End]:
    """Every SAE in its variant's colour, from the first budget at which anything fires, with its band; returns names, colours and ends."""
    axis.set_xscale("log", base=2)
    colours, ends = look({point.variant for point in picture.points}), list[End]()
    for name, every in groupby(zip(picture.points, picture.budgets, strict=True), key=lambda pair: pair[0].line):
        pairs = [(point, band(picture, point, budget)) for point, budget in every if point.x > 0]
        if not pairs:
            continue
        line, bands = zip(*pairs, strict=True)
        colour, marker = colours[line[0].variant]
        x, y = [point.x for point in line], [picture.height(point.y) for point in line]
        axis.plot(x, y, color=colour, linewidth=1.8)
        axis.fill_between(x, [low for low, _ in bands], [high for _, high in bands], color=colour, alpha=0.2, linewidth=0)
        own = [point for point in line if point.note == TRAINED]
        axis.plot([p.x for p in own], [picture.height(p.y) for p in own], marker, color=colour, markersize=6.5)
        ends.append((name, colour, (x[-1], y[-1])))
    return ends


def band(picture: Curve, point: Point, budget: Budget) -> tuple[float, float]:
    """Between which heights its line is shaded: over documents for one seed, over seeds for several; nothing if neither is known."""
    if budget.low is not None and budget.high is not None:
        return picture.height(budget.low), picture.height(budget.high)
    spread = point.spread or 0.0
    return picture.height(point.y - spread), picture.height(point.y + spread)
