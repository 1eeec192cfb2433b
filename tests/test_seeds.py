"""Which SAEs are twins, and what a record and a page say of two of them."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from sae_bench_htopk import alike, board, plugins, seeds
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Missing, Variant
from sae_bench_htopk.keys import Training
from sae_bench_htopk.trainer import Recipe
from tests.synthetic import D, raw_rows, units
from tests.test_leaderboard import make

LATENTS = 32
RECIPE = Recipe(tokens=1, batch=1, latents=LATENTS)


def training(seed: int, k: int = 4, name: str = "topk", latents: int = LATENTS, recipe: Recipe = RECIPE) -> Training:
    """One training; its key is all that tells it from others."""
    return Training(f"{name}{k}-{latents}-{recipe.rate}-{seed}", name, plugins.variant(name).Config(k=k), latents, seed, False, recipe)


def test_twins_differ_in_their_seed_alone_and_come_before() -> None:
    """Another k, size, rate or variant is no twin; nor is a later seed, so that each pair is compared once."""
    same = [training(seed) for seed in (2, 0, 1)]
    others = [training(2, k=8), training(2, latents=16), training(2, name="batchtopk"), training(2, recipe=replace(RECIPE, rate=0.1))]
    everything = [others[0], same[0], *others[1:], *same[1:]]
    assert list(seeds.twins(same[2], everything)) == [same[0], same[1]]
    assert list(seeds.twins(same[0], everything)) == []


def sae(seed: int) -> Variant:
    """An SAE before training, calibrated."""
    kind = plugins.variant("topk")
    variant = kind(kind.Config(k=4), D, LATENTS, seed)
    calibrate(variant, [], rows(), "row", 4)
    return variant


def rows() -> torch.Tensor:
    """Calibration rows."""
    return raw_rows(500, seed=5, shift=0.0) * units().scale


def agreements(everything: list[Training], stored: dict[str, Variant | Missing], measured: dict[str, Variant]) -> list[Any]:
    """What the last of them says of all others."""
    kin = seeds.Kin(rows(), lambda one: stored[one.key], measured)
    return kin.agreements(everything[-1], list(seeds.twins(everything[-1], everything)))


def test_a_pair_is_compared_by_its_live_latents_and_one_without_weights_says_so() -> None:
    """A twin of the very same weights agrees in all; another seed in little; a twin that is not here leaves its reason."""
    everything = [training(seed) for seed in (0, 1, 2)]
    zero, one, two = (each.key for each in everything)
    same, absent = agreements(everything, {zero: sae(0), one: seeds.Absent("the weights of seed 1 were not here")}, {two: sae(0)})
    assert (same["seed"], absent["seed"]) == (0, 1)
    assert same["train_key"] == zero and same["matched"] == pytest.approx(1) and same["shared"] == 1
    assert same["live"] == same["live_other"] == int((sae(0).calibration.use["frequency"] > 0).sum())
    assert absent == {"seed": 1, "train_key": one, "missing": "the weights of seed 1 were not here", "absent": True}
    (other,) = agreements(everything[:2], {zero: sae(0)}, {one: sae(1)})
    assert other["matched"] == pytest.approx(other["floor"]["matched"], abs=0.1) and other["shared"] < 0.2
    for stored, measured in (({zero: Missing("seed 0: no numbers")}, {one: sae(1)}), ({zero: sae(0), one: Missing("seed 0: no numbers")}, {})):
        assert agreements(everything[:2], stored, measured) == [{"seed": 0, "train_key": zero, "missing": "seed 0: no numbers"}]


def test_a_twin_is_calibrated_once_for_all_pairs_and_not_at_all_if_it_is_measured_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seeds, of which the first comes from its file: one calibration; the numbers are those of calibrating each time."""
    everything, calibrated = [training(seed) for seed in (0, 1, 2)], []
    wanted = [agreements(everything[:2], {everything[0].key: sae(0)}, {everything[1].key: sae(1)})[0]]
    wanted += agreements(everything, {everything[0].key: sae(0), everything[1].key: sae(1)}, {everything[2].key: sae(2)})
    measured = {everything[seed].key: sae(seed) for seed in (1, 2)}
    monkeypatch.setattr(seeds, "calibrate", lambda variant, *rest: (calibrated.append(variant), calibrate(variant, *rest)))
    kin = seeds.Kin(rows(), lambda one: {everything[0].key: sae(0)}[one.key], measured)
    assert [pair for one in everything[1:] for pair in kin.agreements(one, list(seeds.twins(one, everything)))] == wanted
    assert len(calibrated) == 1


def test_a_pair_that_was_known_outlives_the_twins_weights() -> None:
    """What is absent now takes nothing back; what was compared anew, or is known to have no numbers, stands."""
    old = [pair("a", 0.5), pair("b", 0.5), {"seed": 0, "train_key": "c", "missing": "not here", "absent": True}]
    new = [{"seed": 0, "train_key": "a", "missing": "not here", "absent": True}, pair("b", 0.7), pair("c", 0.9)]
    assert seeds.merged(old, new) == [pair("a", 0.5), pair("b", 0.7), pair("c", 0.9)]
    failed = {"seed": 0, "train_key": "b", "missing": "seed 0: no numbers"}
    assert seeds.merged(old, [failed]) == [failed]


def pair(key: str, matched: float) -> dict[str, Any]:
    """What a record holds of two seeds."""
    floor = {"mmcs_to": 0.3, "mmcs_from": 0.2, "matched": 0.2, "pairs": 30, "shared": 0.0}
    found = {"mmcs_to": 0.9, "mmcs_from": 0.7, "matched": matched, "pairs": 30, "shared": 0.5, "live": 30, "live_other": 32}
    return {"seed": 0, "train_key": key, **found, "matching": "hungarian", "floor": floor}


def test_the_page_has_means_over_pairs_beside_what_chance_gives() -> None:
    """Pairs with a record that is not on the board are left out; without any pair there is no table."""
    records = [make("topk", 32, seed) for seed in (0, 1, 2)]
    records[1]["stability"] = [pair(records[0]["train_key"], 0.6), {"seed": 5, "train_key": "gone", "missing": "not on the board"}]
    records[2]["stability"] = [pair(records[0]["train_key"], 0.8), pair("elsewhere", 0.0)]
    table = alike.stability(board.assemble(records))
    assert "| topk k=32 | 2 | hungarian | 31 | 0.800 ±0.000 (0.250) | 0.700 ±0.141 (0.200) | 0.500 ±0.000 (0.000) |" in table
    assert "not on the board" not in table
    assert not alike.stability(board.assemble([make("topk", 32, 0)]))


def test_pairs_that_could_not_be_compared_have_a_row_and_their_reason() -> None:
    """Beside those that could; their cells are empty."""
    records = [make("topk", 32, seed) for seed in (0, 1, 2)]
    keys = [record["train_key"] for record in records]
    records[1]["stability"] = [{"seed": 0, "train_key": keys[0], "missing": "seed 0: no numbers"}]
    records[2]["stability"] = [{"seed": 0, "train_key": keys[0], "missing": "seed 0: no numbers"}, pair(keys[1], 0.8)]
    table = alike.stability(board.assemble(records))
    assert "| topk k=32 | 1 | hungarian | 31 |" in table
    assert "| topk k=32 | 2 | none |  | <sup>a</sup> | <sup>a</sup> | <sup>a</sup> |" in table and "<sup>a</sup> seed 0: no numbers." in table
