"""The axes of a figure: grey frame and grid, ticks of its scale, and the names of lines at their ends."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sae_bench_htopk.palette import GREY
from sae_bench_htopk.picture import Picture

End: TypeAlias = tuple[str, str, tuple[float, float]]  # a line's name, its colour, and its last point that is in the picture


def finish(axis: Axes) -> None:
    """Grey frame and grid, which a white and a near-black page show alike."""
    axis.tick_params(colors=GREY)
    axis.grid(color=GREY, alpha=0.2, linewidth=0.6)
    for side, spine in axis.spines.items():
        spine.set(color=GREY, visible=side in ("left", "bottom"))


def y_ticks(picture: Picture) -> tuple[list[float], list[str]]:
    """(heights, numbers) of a log scale: steps of 1, 2, 5, finer ones if fewer than four of those fit, even ones if those do not either."""
    low, high = picture.limits()
    values: list[float] = []
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        amounts = [float(f"{step}e{power}") for power in range(-6, 4) for step in steps]
        values = [value for value in (amount if picture.scale == "log" else round(1 - amount, 8) for amount in amounts) if low <= picture.height(value) <= high]
        if len(values) > 3:
            return [picture.height(value) for value in values], [f"{value:.6g}" for value in values]
    ends = [math.exp(height) if picture.scale == "log" else 1 - math.exp(-height) for height in (low, high)]
    values = [value for value in MaxNLocator(6).tick_values(*ends) if ends[0] <= value <= ends[1]]
    return [picture.height(value) for value in values], [f"{value:.6g}" for value in values]


def name_lines(axis: Axes, ends: Sequence[End]) -> None:
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
