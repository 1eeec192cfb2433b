"""What a plan says that evaluation takes, against a suite that is counted by hand."""

from dataclasses import replace
from typing import Any

import pytest

from sae_bench_htopk import estimate, plugins, suite
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.keys import Cell, Training
from sae_bench_htopk.plan import Item, Wanted
from sae_bench_htopk.trainer import Recipe

N, PART = 100, 30
ROW = [Reading(4), Reading(8)]  # one encoding of the whole dictionary
CUT = [Reading(8, PART), Reading(4, PART, cut="after"), Reading(8, PART, cut="after")]  # one of the part; those after the choice are of ROW's
THRESHOLD = [Reading(8, select="threshold"), Reading(4, PART, "threshold"), Reading(8, PART, "threshold")]  # one of the whole, one of the part


def item(name: str, readings: list[Reading], spliced: int = 0, seed: int = 0, **config: Any) -> Item:
    """An SAE of which these readings are missing, at the first few of which the model runs on."""
    kind = plugins.variant(name)
    settings = kind.Config(**config)
    wanted: Wanted = {reading: ("explained_variance", *["downstream_loss"] * (at < spliced)) for at, reading in enumerate(readings)}
    training = Training("0", name, settings, N, seed, False, Recipe(tokens=1, batch=1, latents=N))
    every = dict.fromkeys(("explained_variance", "downstream_loss"), "")  # of which the model runs on at more readings than are missing
    cell = Cell(name, settings, kind.native(settings), {reading: every for reading in readings})
    return Item(training, "evaluate", "", [(cell, wanted)])


@pytest.mark.parametrize(
    ("readings", "encoded", "calibrated"),
    [(ROW, N, N), (CUT, N + PART, N), (ROW + CUT, N + PART, N), (THRESHOLD, N + PART, 2 * N + PART), (ROW + CUT + THRESHOLD, 2 * N + 2 * PART, 2 * N + PART)],
)
def test_a_group_is_encoded_once_and_calibrated_once(readings: list[Reading], encoded: int, calibrated: int) -> None:
    """Counted by hand, of an SAE whose native selector is row."""
    ((cell, _),) = (one := item("topk", readings, k=8)).missing
    assert estimate.encodings(readings, N) == encoded and estimate.calibrations(one.training, cell, readings) == calibrated


@pytest.mark.parametrize(("name", "config"), [("batchtopk", {"k": 8}), ("relu", {"l1": 0.1})])
def test_a_native_threshold_and_a_budget_that_is_measured_take_a_histogram(name: str, config: dict[str, Any]) -> None:
    """Also where nothing else is read by threshold; no second one where something is."""
    for readings, calibrated in ((ROW, 2 * N), (THRESHOLD, 2 * N + PART)):
        ((cell, _),) = (one := item(name, readings, **config)).missing
        assert estimate.calibrations(one.training, cell, readings) == calibrated


def test_the_language_model_runs_anew_in_every_pass_and_after_the_hook_for_every_reading_that_asks() -> None:
    """Layer 1 of 4: two layers before, two and the vocabulary after; 1000 tokens held out, 200 of calibration; 3 runs of a pass are shared."""
    chosen = suite.load("quickstart")
    shape = replace(chosen.model.shape, d=10, layers=4, vocab=50)
    model = replace(chosen.model, shape=shape, hook=replace(chosen.model.hook, layer=1))
    text = replace(chosen.text, held_out=replace(chosen.text.held_out, tokens=1000), calibration=replace(chosen.text.calibration, tokens=200))
    chosen = replace(chosen, model=model, text=text)
    one, other, compared = item("topk", ROW, spliced=2, k=8), item("topk", ROW, seed=1, k=8), Item(item("topk", ROW, k=8).training, "compare", "", [])
    layers, runs = 2 * 24 * 10**2, 1000 * (2 + 3)
    own, found, head = estimate.evaluating(chosen, [[one], [other, compared]])
    assert found == 2 * 1200 * layers + runs * layers and head == runs * 2 * 10 * 50
    assert own == 2 * (2 * 10 * N * 1200) + 4 * estimate.READ * 10 * 1000
    assert estimate.evaluating(chosen, [[one, other]]) == (own, 1200 * layers + runs * layers, head)
    assert estimate.evaluating(chosen, [[compared]]) == (0, 0, 0) == estimate.evaluating(chosen, [])
    gated = replace(chosen, model=replace(model, shape=replace(shape, layer_weights=3 * 10**2)))  # a quarter of 12 d^2
    assert estimate.evaluating(gated, [[one], [other]]) == (own, found / 4, head)


def test_a_pace_is_the_models_own_where_it_is_not_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of two products, each measured in its own dtype; a language model in float32 is measured once."""
    monkeypatch.setattr(estimate, "measured_speed", lambda device, dtype="float32": {"float32": 1e9, "bfloat16": 16e9}[dtype])
    assert estimate.pace("cuda", "bfloat16") == (0.25e9, 8e9, 0.5e9, float("inf"), 1e9)
    assert estimate.pace("cpu", "float32") == (0.25e9, 0.5e9, 0.5e9, float("inf"), 1e9)
