"""Frontiers and areas against cases solved by hand."""

import math

import numpy as np
import pytest

from sae_bench_htopk import frontier

NAN = float("nan")


def test_non_dominated_by_hand() -> None:
    """L0 is better lower, explained variance higher: (8, .7) is beaten by (4, .8), and (16, .8) by it too."""
    points = [(4, 0.8), (8, 0.7), (8, 0.9), (16, 0.8), (32, 0.95)]
    assert frontier.non_dominated(points, ("lower", "higher")).tolist() == [True, False, True, False, True]
    assert frontier.dominated_by(points, ("lower", "higher")) == [None, 0, None, 0, None]


def test_equal_points_both_stay_and_a_tie_in_one_column_does_not() -> None:
    """To beat is to be better in at least one column."""
    points = [(4, 0.8), (4, 0.8), (4, 0.7), (5, 0.8)]
    assert frontier.non_dominated(points, ("lower", "higher")).tolist() == [True, True, False, False]


def test_nan_is_never_on_the_frontier_and_beats_nobody() -> None:
    """A missing number neither wins nor hides another."""
    points = [(1, NAN), (NAN, 2.0), (4, 0.8)]
    assert frontier.non_dominated(points, ("lower", "higher")).tolist() == [False, False, True]
    assert frontier.dominated_by(points, ("lower", "higher")) == [None, None, None]


def test_three_columns_by_hand() -> None:
    """Two trade-offs, one beaten point; all columns better higher."""
    points = [(1, 2, 3), (3, 2, 1), (2, 2, 2), (1, 2, 2)]
    assert frontier.non_dominated(points, ("higher",) * 3).tolist() == [True, True, True, False]


def test_frontier_is_what_the_definition_says() -> None:
    """Random integer points, many of them equal, against the definition written out pair by pair."""
    points = np.random.default_rng(0).integers(0, 6, (80, 3))
    expected = [not any((b <= a).all() and (b < a).any() for b in points) for a in points]
    assert frontier.non_dominated(points, ("lower",) * 3).tolist() == expected
    by = frontier.dominated_by(points, ("lower",) * 3)
    assert [index is None for index in by] == expected
    assert all(expected[index] for index in by if index is not None)


def test_no_points_and_wrong_points() -> None:
    """Nothing has an empty frontier; a wrong shape says so."""
    assert frontier.non_dominated(np.zeros((0, 2)), ("lower", "higher")).tolist() == []
    with pytest.raises(ValueError, match=r"wanted \(n, 2\)"):
        frontier.non_dominated([(1, 2, 3)], ("lower", "higher"))


def at(l0: list[float], value: list[float], k: float) -> float:
    """The height of one curve at one L0."""
    return float(frontier.along(l0, value, np.array([float(k)]))[0])


def test_interpolation_is_linear_in_log_l0() -> None:
    """Half way between 4 and 16 is 8."""
    assert at([16, 4], [0.9, 0.5], 8) == pytest.approx(0.7)
    assert at([4, 16], [0.5, 0.9], 16) == pytest.approx(0.9)


def test_nothing_is_extrapolated() -> None:
    """Below, above, and where there is nothing."""
    assert math.isnan(at([4, 16], [0.5, 0.9], 3.9))
    assert math.isnan(at([4, 16], [0.5, 0.9], 17))
    assert math.isnan(at([], [], 4))
    assert math.isnan(at([4, 16], [NAN, 0.9], 8))


def test_readings_at_one_l0_are_averaged() -> None:
    """A saturated SAE gives the same L0 at several k."""
    assert at([8, 8, 2], [0.6, 0.8, 0.1], 8) == pytest.approx(0.7)


@pytest.mark.parametrize(("l0", "stands"), [(32.0, True), (32.6, True), (31.4, True), (32.7, False), (31.3, False), (0.0, False)])
def test_two_percent(l0: float, stands: bool) -> None:
    """2% of 32 is 0.64."""
    assert frontier.on_budget(l0, 32) is stands


def test_area_of_straight_and_bent_curves() -> None:
    """Mean heights: a line from 0 to 1 is 1/2; up to 1 at the middle and level after it is (1/2 + 1) / 2."""
    assert frontier.area([4, 64], [0, 1], 4, 64) == pytest.approx(0.5)
    assert frontier.area([4, 16, 64], [0, 1, 1], 4, 64) == pytest.approx(0.75)
    assert frontier.area([4, 64], [0, 1], 8, 32) == pytest.approx(0.5)
    assert frontier.area([4, 64], [0, 1], 4, 16) == pytest.approx(0.25)


def test_more_readings_are_no_more_area() -> None:
    """Readings that lie on the curve change nothing."""
    few, many = [4.0, 64.0], [4.0, 5.0, 7.0, 30.0, 64.0]
    heights = [math.log(l0 / 4) / math.log(16) for l0 in many]
    assert frontier.area(many, heights, 4, 64) == pytest.approx(frontier.area(few, [0, 1], 4, 64))


def test_area_needs_the_whole_range() -> None:
    """A range that the readings do not reach has no area, and no range is an error."""
    assert frontier.area([5, 64], [0, 1], 4, 64) is None
    assert frontier.area([4, 60], [0, 1], 4, 64) is None
    with pytest.raises(ValueError, match="64 to 4"):
        frontier.area([4, 64], [0, 1], 64, 4)


def test_noise_in_l0_puts_nothing_on_a_frontier() -> None:
    """7.99 and 31.5 stand for the 8 and 32 that they were read at; 60.4 and 4.2 are themselves, also where another whole number is nearer."""
    pairs = ((7.99, 8), (8.0, 8), (31.5, 32), (4.2, 4), (60.4, 64), (63.4, 64))
    assert [frontier.snapped(l0, k) for l0, k in pairs] == [8.0, 8.0, 32.0, 4.2, 60.4, 64.0]
