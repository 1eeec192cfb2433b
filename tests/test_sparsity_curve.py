"""The whole curve from one reading is, at every budget, what a reading at that budget measures on its own."""

import sys

import numpy as np
import pytest
import torch

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Batch, Codes, Prefixes, Reading, Setting
from sae_bench_htopk.evaluate import Job, empty, measure
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.prefix_loss import prefix_errors
from sae_bench_htopk.rows import summary
from sae_bench_htopk.windows import collate
from tests.made_up_text import read
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


@pytest.mark.parametrize(
    ("select", "latents", "cut"),
    [("row", None, "before"), ("row", 32, "before"), ("threshold", None, "before"), ("threshold", 32, "before"), ("threshold", 32, "after")],
)
@pytest.mark.parametrize("name", ["topk", "batchtopk", "hierarchical_topk", "matryoshka"])
def test_every_budget_is_as_if_read_alone(name: str, select: str, latents: int | None, cut: str, model: SubjectModel) -> None:
    """Explained variance and L0 at k = 2, 3 and 5, each reading encoded on its own, with massive rows out, and however text is cut into batches."""
    variant, kinds = sae(name, model), {one: plugins.metric(one) for one in ("explained_variance", "sparsity", "sparsity_curve")}
    mine = [reading for reading in READINGS if (reading.select, reading.latents, reading.cut) == (select, latents, cut)]
    jobs = [Job(variant, {reading: kinds}) for reading in mine]
    held = empty(model, jobs, len(TEXTS))
    everything = windows()
    for start in range(0, len(everything), 20):
        measure(model, collate(everything[start : start + 20], CONTEXT, BOS), units(model), TEXTS, jobs, held)
    rows = {reading.k: summary(held[index, reading], kinds, len(TEXTS)) for index, reading in enumerate(mine)}
    found, (low, high) = rows[K]["details"]["sparsity_curve"], rows[K]["intervals"]["explained_variance.ev"]
    assert found["k"] == [1, 2, 3, 4, 5] and (found["low"][-1], found["high"][-1]) == (pytest.approx(low, abs=2e-6), pytest.approx(high, abs=2e-6))
    for k, row in rows.items():
        assert found["ev"][k - 1] == pytest.approx(row["values"]["explained_variance.ev"], abs=2e-6)
        assert found["l0"][k - 1] == pytest.approx(row["values"]["sparsity.l0"], abs=1e-4)
    log_l0 = np.log(np.maximum(found["l0"], 1))
    heights = np.interp(np.linspace(log_l0[0], log_l0[-1], 10_001), log_l0, found["ev"])
    assert rows[K]["values"]["sparsity_curve.ev_mean"] == pytest.approx(heights.mean(), abs=1e-4)
    low, high = rows[K]["intervals"]["sparsity_curve.ev_mean"]
    assert low <= rows[K]["values"]["sparsity_curve.ev_mean"] <= high


def test_a_curve_by_hand() -> None:
    """Two rows of two codes and of one about a mean of 0, and a massive row that must not matter; no draws, no band."""
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 90.0]])
    text = read(x, x, torch.tensor([0, 1, 1]), torch.zeros(3, 4), ["a", "b"], torch.tensor([False, False, True])).text
    codes = Codes(torch.ones(4), torch.arange(4), torch.tensor([0, 2, 3, 4]))
    known = Prefixes(torch.tensor([1, 2, 1, 1]), torch.tensor([4.0, 4.0, 8100.0]), torch.tensor([1.0, 0.0, 3.0, 7.0]))
    metric = plugins.metric("sparsity_curve")(Setting(2, 4, 4, 2, 2))
    metric.update(Batch(text, x, codes, lambda: known))
    assert metric.result(None) == {"ev_mean": pytest.approx((0.5 + 0.625) / 2)}
    assert metric.details() == {"k": [1, 2], "l0": [1.0, 1.5], "ev": [0.5, 0.625]}


def test_budgets_that_add_no_codes_count_for_nothing() -> None:
    """By hand, of two rows: L0 0.5, 1, 2, 2, 8, ev 1/4, 3/8, 3/4, 3/4, 1. One octave from 1 to 2, two from there to 8, none elsewhere."""
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    text = read(x, x, torch.tensor([0, 1]), torch.zeros(2, 16), ["a", "b"], torch.tensor([False, False])).text
    codes = Codes(torch.ones(16), torch.arange(16), torch.tensor([0, 8, 16]))
    enters = torch.tensor([2, 3, 5, 5, 5, 5, 5, 5, 1, 3, 5, 5, 5, 5, 5, 5])
    after = torch.tensor([3.0, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0])
    metric = plugins.metric("sparsity_curve")(Setting(2, 16, 16, 2, 5))
    metric.update(Batch(text, x, codes, lambda: Prefixes(enters, torch.tensor([4.0, 4.0]), after)))
    assert metric.result(None) == {"ev_mean": pytest.approx((1 * (3 / 8 + 3 / 4) / 2 + 2 * (3 / 4 + 1) / 2) / 3)}
    assert metric.details() == {"k": [1, 2, 3, 4, 5], "l0": [0.5, 1.0, 2.0, 2.0, 8.0], "ev": [0.25, 0.375, 0.75, 0.75, 1.0]}


def test_the_mean_does_not_jump_where_l0_passes_1() -> None:
    """Draws of documents lie on both sides of 1 at the first budget; none may lose its first octave. Where L0 never grows, the last height."""
    mean_height = sys.modules[plugins.metric("sparsity_curve").__module__].mean_height
    l0, ev = np.array([[0.999, 2, 4], [1.001, 2, 4], [0.3, 0.4, 0.4], [3, 3, 3]]), np.array([[0.2, 0.6, 0.8]] * 4)
    below, above, short, flat = mean_height(l0, ev)
    assert below == pytest.approx(above, abs=1e-3) and below == pytest.approx((0.4 + 0.7) / 2) and short == flat == 0.8


def test_one_budget_is_a_curve_of_one_point(model: SubjectModel) -> None:
    """Its mean is its only height."""
    variant, kinds = sae("topk", model), {one: plugins.metric(one) for one in ("explained_variance", "sparsity_curve")}
    jobs = [Job(variant, {Reading(1): kinds})]
    held = empty(model, jobs, len(TEXTS))
    measure(model, collate(windows(), CONTEXT, BOS), units(model), TEXTS, jobs, held)
    row = summary(held[0, Reading(1)], kinds, len(TEXTS))
    assert row["values"]["sparsity_curve.ev_mean"] == pytest.approx(row["values"]["explained_variance.ev"], abs=1e-6)


def test_weights_count_documents(model: SubjectModel) -> None:
    """A document that is counted twice is as two of it; one that is counted never is not there."""
    variant, reading = sae("topk", model), Reading(K)
    kinds = {one: plugins.metric(one) for one in ("explained_variance", "sparsity_curve")}
    jobs = [Job(variant, {reading: kinds})]
    held = empty(model, jobs, len(TEXTS))
    measure(model, collate(windows(), CONTEXT, BOS), units(model), TEXTS, jobs, held)
    weights = torch.tensor([2.0, 0, 1, 1, 3, 0, 1, 1, 1])
    ev = held[0, reading]["explained_variance"].result(weights)["ev"]
    l0, curve = held[0, reading]["sparsity_curve"].curves(weights[None])  # type: ignore[attr-defined]
    assert float(curve[0, -1]) == pytest.approx(ev, abs=1e-6) and l0.shape == (1, K)


def test_readings_that_hold_no_smaller_ones_say_so(model: SubjectModel) -> None:
    """Chosen among all latents and then dropped, codes at k are no prefix of those at more: no number, no curve, the reason."""
    reading, kinds = Reading(K, 32, cut="after"), {"sparsity_curve": plugins.metric("sparsity_curve")}
    jobs = [Job(sae("topk", model), {reading: kinds})]
    held = empty(model, jobs, len(TEXTS))
    measure(model, collate(windows(), CONTEXT, BOS), units(model), TEXTS, jobs, held)
    row = summary(held[0, reading], kinds, len(TEXTS))
    assert "has no smaller budgets inside" in row["missing"]["sparsity_curve.ev_mean"] and row["details"] == {}
