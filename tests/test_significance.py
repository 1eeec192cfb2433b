"""Holm's correction: examples solved by hand, and what holds for any p-values."""

from itertools import permutations

import numpy as np
import pytest

from sae_bench_htopk.significance import holm


@pytest.mark.parametrize(
    ("ps", "wanted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4 * .005, 3 * .01, 2 * .03, and .04, which may not be less than .06
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.6, 0.4], [0.8, 0.8]),
        ([0.9, 0.8, 0.7], [1.0, 1.0, 1.0]),
        ([0.0, 1.0, 1.0], [0.0, 1.0, 1.0]),
    ],
)
def test_by_hand(ps: list[float], wanted: list[float]) -> None:
    assert holm(ps) == pytest.approx(wanted)


def test_the_order_of_tests_says_nothing() -> None:
    """Each keeps its own corrected value, wherever it stands."""
    ps = [0.004, 0.2, 0.011, 0.04]
    of = dict(zip(ps, holm(ps), strict=True))
    assert all(holm(order) == [of[p] for p in order] for order in permutations(ps))


def test_between_no_correction_and_bonferronis() -> None:
    """Never below p, never above m p or 1, and a smaller p is never corrected to a larger one."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        ps = sorted(generator.uniform(0, 1, generator.integers(1, 9)) ** 3)
        corrected = holm(ps)
        assert corrected == sorted(corrected)
        assert all(p <= found <= min(1.0, len(ps) * p) + 1e-12 for p, found in zip(ps, corrected, strict=True))


def test_a_true_null_among_eight_is_rejected_in_5_percent_of_families() -> None:
    """All eight null: the chance that any is called significant is 1 - (1 - .05 / 8)^8 = .0489; 4,000 families give it to .0034."""
    families = np.random.default_rng(1).uniform(size=(4000, 8))
    assert np.mean([min(holm(list(family))) <= 0.05 for family in families]) == pytest.approx(1 - (1 - 0.05 / 8) ** 8, abs=4 * 0.0034)
