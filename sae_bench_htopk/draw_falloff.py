"""Draws how the latents of each SAE fall off by rank: a panel for each quantity, both axes logarithmic."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_bench_htopk.axes import End, finish, name_lines
from sae_bench_htopk.falloff import QUANTITIES, Falloff
from sae_bench_htopk.palette import GREY, look
from sae_bench_htopk.picture import Point


def draw(picture: Falloff) -> Figure:
    """Lines alone, since a marker for each of 60 ranks would hide them; named once, at their ends in the last panel."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    for axis, title in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.values(), strict=True):
        ends = draw_panel(axis, [point for point in picture.points if point.panel == title])
        axis.set_title(title, color=GREY, fontsize=11)
    name_lines(axis, ends)
    figure.get_layout_engine().set(w_pad=0.15)  # type: ignore[union-attr, call-arg]
    return figure


def draw_panel(axis: Axes, points: Sequence[Point]) -> list[End]:
    """One quantity of each SAE by rank; returns where the lines end."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    ends: list[End] = []
    colours = look({point.variant for point in points})
    for name in dict.fromkeys(point.line for point in points):
        line = [point for point in points if point.line == name]
        colour = colours[line[0].variant][0]
        axis.plot([p.x for p in line], [p.y for p in line], color=colour, linewidth=1.6)
        ends.append((name, colour, (line[-1].x, line[-1].y)))
    axis.set_xlabel("rank (log scale)", color=GREY)
    finish(axis)
    return ends
