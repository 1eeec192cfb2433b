"""Thresholds and ranks against sorting everything."""

import pytest
import torch

from sae_bench_htopk import plugins
from sae_bench_htopk.calibrate import calibrate, score_histogram, thresholds_for
from sae_bench_htopk.contract import Reading, Variant
from tests.synthetic import D, raw_rows, units

LATENTS = 48


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    """Calibration rows."""
    return raw_rows(3000, seed=11) * units().scale


def new(name: str = "topk", seed: int = 0) -> Variant:
    """An SAE with decoder rows of unequal norm, so that value and score differ."""
    kind = plugins.variant(name)
    variant = kind(kind.Config(k=4), D, LATENTS, seed)
    with torch.no_grad():
        variant.W_dec.mul_(torch.linspace(0.2, 3, LATENTS)[:, None])
    return variant


@pytest.mark.parametrize("k", [1, 3, 10])
def test_threshold_is_the_score_of_that_rank(k: int, x: torch.Tensor) -> None:
    """To one part in 1000 of the sorted scores' own value at rank k * rows."""
    variant = new()
    threshold = float(thresholds_for(score_histogram(variant, x, None), torch.tensor([k * len(x)])))
    scores = variant.scores(x).flatten().sort(descending=True).values
    assert threshold == pytest.approx(float(scores[k * len(x)]), rel=1e-3)


def test_more_than_there_is_means_no_threshold(x: torch.Tensor) -> None:
    """A budget beyond every positive score keeps them all."""
    assert float(thresholds_for(score_histogram(new(), x, None), torch.tensor([LATENTS * len(x)]))) == 0


def test_importance_and_frequency_are_sums_over_the_native_reading(x: torch.Tensor) -> None:
    """Against dense sums over the 4 largest scores of each row."""
    variant = new()
    calibrate(variant, [Reading(4, 10), Reading(4, 10, rank="frequency")], x, "row", 4)
    scores = variant.scores(x)
    kept = scores * (scores >= scores.topk(4, dim=1).values[:, -1:])
    assert variant.calibration.order["importance"][:10].tolist() == kept.double().square().sum(0).argsort(descending=True)[:10].tolist()
    counts = (kept > 0).sum(0)
    assert counts[variant.calibration.order["frequency"]].diff().le(0).all()


def test_cutting_after_uses_the_whole_dictionarys_threshold(x: torch.Tensor) -> None:
    """Choose among all, then drop: the threshold is that of the whole; cutting before has a lower one."""
    variant = new()
    whole, after, before = Reading(4, select="threshold"), Reading(4, 12, "threshold", "after"), Reading(4, 12, "threshold")
    calibrate(variant, [whole, after, before], x, "threshold", 4)
    thresholds = variant.calibration.thresholds
    assert thresholds[after] == thresholds[whole] > thresholds[before]


def test_random_order_is_the_seeds(x: torch.Tensor) -> None:
    """The null's order depends on the seed and on nothing else."""
    orders = []
    for seed in (0, 0, 1):
        variant = new()
        calibrate(variant, [Reading(4, 10, rank="random")], x, "row", 4, seed)
        orders.append(variant.calibration.order["random"].tolist())
    assert orders[0] == orders[1] != orders[2]
