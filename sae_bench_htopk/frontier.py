"""What lies on a Pareto frontier, and what a curve of readings is worth at one sparsity or over a range of them; numpy only.

A curve is (l0, value): the measured mean number of codes of each reading, and one number for each.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Better: TypeAlias = Literal["higher", "lower"]
TOLERANCE = 0.02  # a reading further than this from its nominal k is not a reading at k
ROUNDING = 1e-12  # of a logarithm: the ends of a curve belong to it
GRID = 257  # points in log L0 on which every area is taken; odd, so that the middle of the range is one of them


def as_costs(points: ArrayLike, better: Sequence[Better]) -> NDArray[np.float64]:
    """The points [n, m] with signs such that lower is better. Raises ValueError if `better` does not fit them."""
    costs = np.array(points, dtype=np.float64)
    if costs.ndim != 2 or costs.shape[1] != len(better):
        raise ValueError(f"points: shape {costs.shape}, wanted (n, {len(better)}), one column for each of better={list(better)}")
    return costs * np.array([{"higher": -1.0, "lower": 1.0}[way] for way in better], dtype=np.float64)


def non_dominated(points: ArrayLike, better: Sequence[Better]) -> NDArray[np.bool_]:
    """Which of the points [n, m] no other point beats: at least as good in every column and better in one.

    Exact. Equal points do not beat each other, so both stay. A row with a NaN is never on the frontier and beats nobody.
    """
    costs = as_costs(points, better)
    whole = ~np.isnan(costs).any(axis=1)
    beaten = [bool((whole & beats(costs, cost)).any()) for cost in costs]
    return whole & ~np.array(beaten, dtype=np.bool_)


def beats(costs: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of costs [n, m] beat one cost [m]."""
    return np.asarray((costs <= cost).all(axis=1) & (costs < cost).any(axis=1))


def dominated_by(points: ArrayLike, better: Sequence[Better]) -> list[int | None]:
    """For each point the first point of the frontier that beats it; None on the frontier, and for a row with a NaN."""
    costs, frontier = as_costs(points, better), non_dominated(points, better)
    found = [np.flatnonzero(frontier & beats(costs, cost)) for cost in costs]
    return [int(indices[0]) if len(indices) else None for indices in found]


def on_budget(l0: int | float, k: int | float) -> bool:
    """Whether a measured L0 is within 2% of k: only then does a reading stand for k as it is."""
    return abs(l0 / k - 1) <= TOLERANCE


def snapped(l0: float, k: int | float) -> float:
    """A measured L0 as the budget that it was read at, if it is within 2% of it: noise in L0 alone puts nothing on a frontier."""
    return float(k) if on_budget(l0, k) else l0


def curve(l0: ArrayLike, value: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(log L0, value) by rising L0; NaN and L0 of 0 dropped, readings at one L0 averaged. Raises ValueError if the lengths differ."""
    x, y = np.array(l0, dtype=np.float64).ravel(), np.array(value, dtype=np.float64).ravel()
    if x.shape != y.shape:
        raise ValueError(f"l0 has {len(x)} readings and value {len(y)}, wanted the same number")
    usable = ~np.isnan(x) & ~np.isnan(y) & (x > 0)
    different, place, count = np.unique(x[usable], return_inverse=True, return_counts=True)
    return np.log(different), np.bincount(place, weights=y[usable], minlength=len(different)) / count


def along(l0: ArrayLike, value: ArrayLike, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values at each L0 of places [n], linear in log L0 between the two nearest readings; NaN outside them: nothing is extrapolated."""
    (x, y), wanted = curve(l0, value), np.log(places)
    if not len(x):
        return np.full(len(wanted), np.nan)
    inside = (wanted >= x[0] - ROUNDING) & (wanted <= x[-1] + ROUNDING)
    return np.where(inside, np.interp(wanted, x, y), np.nan)


def shares(l0: ArrayLike, k: int | float) -> list[float] | None:
    """What each reading counts for in the value at L0 = k, which is linear in the values; None outside the readings."""
    x = np.array(l0, dtype=np.float64).ravel()
    usable = x > 0  # which NaN is not
    different, place, count = np.unique(x[usable], return_inverse=True, return_counts=True)
    places, wanted = np.log(different), np.log(np.array([float(k)]))
    if not len(places) or not places[0] - ROUNDING <= wanted[0] <= places[-1] + ROUNDING:
        return None
    found = np.zeros(len(x))
    found[usable] = np.array([np.interp(wanted, places, one)[0] for one in np.eye(len(places)) / count])[place]
    return [float(share) for share in found]


def grid(low: int | float, high: int | float) -> NDArray[np.float64]:
    """The L0s, even in their log, on which every area from low to high is taken. Raises ValueError unless 0 < low < high."""
    if not 0 < low < high:
        raise ValueError(f"range of L0: {low} to {high}, wanted 0 < low < high")
    return np.geomspace(low, high, GRID)


def area(l0: ArrayLike, value: ArrayLike, low: int | float, high: int | float) -> float | None:
    """The mean height of a curve over log L0 from low to high; None if its readings do not reach both ends.

    A trapezoid rule on one grid for every curve, so a reading that lies on the curve already adds nothing.
    Raises ValueError unless 0 < low < high.
    """
    return mean_height(along(l0, value, grid(low, high)))


def mean_height(heights: NDArray[np.float64]) -> float | None:
    """The trapezoid mean of values on a `grid`; None if one is missing."""
    return None if np.isnan(heights).any() else float((heights[:-1] + heights[1:]).mean() / 2)
