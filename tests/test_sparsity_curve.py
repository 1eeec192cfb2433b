"""The whole curve from one reading is, at every budget, what a reading at that budget measures on its own."""

import numpy as np
import pytest
import torch

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Missing, Reading
from sae_bench_htopk.evaluate import Job, empty, measure, prefixes, text_batch
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.prefix_loss import prefix_errors
from sae_bench_htopk.windows import collate
from tests.synthetic import SHAPES, ragged
from tests.test_evaluate import BOS, CONTEXT, READINGS, TEXTS, K, model, sae, units, windows

__all__ = ["model"]  # the fixture


@pytest.mark.parametrize("shape", SHAPES)
def test_prefix_errors_one_code_at_a_time(shape: tuple[int, ...]) -> None:
    """In float64, by plain loops, for rows of unequal length."""
    batch, d, latents, longest = shape
    values, index, offsets = ragged(batch, latents, longest, seed=11)
    random = torch.Generator().manual_seed(6)
    W, b, x = (torch.randn(*size, generator=random, dtype=torch.float64) for size in ((latents, d), (d,), (batch, d)))
    before, after = prefix_errors(values, index, offsets, W, b, x)
    for row in range(batch):
        left = x[row] - b
        assert float(before[row]) == pytest.approx(float(left @ left), rel=1e-12)
        for code in range(int(offsets[row]), int(offsets[row + 1])):
            left = left - values[code] * W[index[code]]
            assert float(after[code]) == pytest.approx(float(left @ left), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("select", ["row", "threshold"])
@pytest.mark.parametrize("latents", [None, 32])
@pytest.mark.parametrize("name", ["topk", "batchtopk", "hierarchical_topk", "matryoshka"])
def test_every_budget_is_as_if_read_alone(name: str, latents: int | None, select: str, model: SubjectModel) -> None:
    """Explained variance and L0 at k = 2, 3 and 5, with massive rows out, and however text is cut into batches."""
    variant = sae(name, model)
    mine = [reading for reading in READINGS if (reading.select, reading.latents, reading.cut) == (select, latents, "before")]
    kinds = {one: plugins.metric(one) for one in ("explained_variance", "sparsity")}
    jobs = [Job(variant, {reading: kinds | ({"sparsity_curve": plugins.metric("sparsity_curve")} if reading.k == K else {}) for reading in mine})]
    held = empty(model, jobs, len(TEXTS))
    everything = windows()
    for start in range(0, len(everything), 20):
        measure(model, collate(everything[start : start + 20], CONTEXT, BOS), units(model), TEXTS, jobs, held)
    curve = held[0, mine[-1]]["sparsity_curve"]
    found = curve.details()
    assert found["k"] == [1, 2, 3, 4, 5] and all(low <= value <= high for low, value, high in zip(found["low"], found["ev"], found["high"], strict=True))
    for reading in mine:
        alone = held[0, reading]
        assert found["ev"][reading.k - 1] == pytest.approx(alone["explained_variance"].result(None)["ev"], abs=2e-6)
        assert found["l0"][reading.k - 1] == pytest.approx(alone["sparsity"].result(None)["l0"], abs=1e-4)
    heights = np.interp(np.linspace(0, np.log(5), 10_001), np.log(found["k"]), found["ev"])
    assert curve.result(None)["ev_mean"] == pytest.approx(heights.mean(), abs=1e-4)


def test_weights_count_documents(model: SubjectModel) -> None:
    """A document that is counted twice is as two of it; one that is counted never is not there."""
    variant, reading = sae("topk", model), Reading(K)
    kinds = {one: plugins.metric(one) for one in ("explained_variance", "sparsity_curve")}
    jobs = [Job(variant, {reading: kinds})]
    held = empty(model, jobs, len(TEXTS))
    measure(model, collate(windows(), CONTEXT, BOS), units(model), TEXTS, jobs, held)
    weights = torch.tensor([2.0, 0, 1, 1, 3, 0, 1, 1, 1])
    ev = held[0, reading]["explained_variance"].result(weights)["ev"]
    l0, curve = held[0, reading]["sparsity_curve"].curves(weights.double()[None])  # type: ignore[attr-defined]
    assert float(curve[0, -1]) == pytest.approx(ev, abs=1e-6) and l0.shape == (1, K)


def test_readings_that_hold_no_smaller_ones_say_so(model: SubjectModel) -> None:
    """Chosen among all latents and then dropped, codes at k are no prefix of those at more."""
    variant = sae("topk", model)
    text = text_batch(model, collate(windows(), CONTEXT, BOS), units(model), TEXTS)
    reading = Reading(K, 32, cut="after")
    codes = variant.encode(text.x, reading)
    assert isinstance(prefixes(variant, reading, codes, text.x), Missing)
