"""The page's part on power laws, and SAEs whose budget was measured or whose rate is their own, from synthetic records."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sae_bench_htopk import board, falloff, leaderboard
from sae_bench_htopk.power_law import laws
from tests.test_leaderboard import Made, cells, make, page_of, put, section


def fitted(record: Made, law: str, exponent: float = 0.8) -> Made:
    """The record with fits of importance by a known law; the other quantities are what chance gives."""
    random = np.random.default_rng(record["sae"]["seed"])
    worth = {"power": random.pareto(1 / exponent, 2000) + 1, "exponential": random.exponential(1.0, 2000)}[law]
    W = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    return {**record, "power_law": laws(W, {"importance": torch.from_numpy(worth), "frequency": torch.full((2000,), 0.05)}, rows=1000)}


def measured(record: Made, budget: int) -> Made:
    """The record as that of an SAE whose L0 came out of training."""
    rows = [{**row, "variant": "relu", "config": {"l1": 0.02, "base": None}, "budget": budget, "budget_measured": True} for row in record["rows"]]
    return {**record, "sae": {**record["sae"], "variant": "relu", "config": {"l1": 0.02, "base": None}}, "rows": rows}


def test_the_section_says_which_law_and_how_steep(tmp_path: Path) -> None:
    """The first seed by number, whatever its record is called; the mean over seeds; a reason where there is no fit; words that count."""
    made = [fitted(make("topk", 32, seed), "power", 0.8 + 0.02 * seed) for seed in (0, 1, 2)] + [fitted(make("batchtopk", 32), "exponential")]
    page = page_of(put(tmp_path, made))
    said = section(page, "Do latents follow a power law?")
    assert (
        "Importance: of 2 SAEs a lognormal is likelier than a power law for 1; the power law is likelier than an exponential for 1, less likely for 1." in said
    )
    topk = cells(said, "topk k=32")
    first = made[0]["power_law"]["importance"]
    assert topk[1:3] == ["importance", "10 to 2,000"] and topk[4] == f"{first['low']:.3g} to {first['high']:.3g}"
    assert float(topk[3].split(" ±")[0]) == pytest.approx(0.82, abs=0.05) and " ±" in topk[3]
    assert float(topk[6]) > 3 and float(cells(said, "batchtopk k=32")[6]) < -3
    assert cells(said.replace("| topk k=32 | importance", ""), "topk k=32")[1:3] == ["frequency", "all values in ranks 10 to 2000 are equal"]
    assert "falloff.svg" in said


def test_seeds_without_a_fit_are_counted_as_such() -> None:
    """Apart from those that fall faster than any power."""
    assert falloff.exponents([{"exponent": 0.8}, {"missing": "x"}]) == "no fit in 1 of 2 seeds"
    assert falloff.exponents([{"exponent": None}, {"exponent": 0.8}, {"missing": "x"}]) == "steeper than any power in 1 of 3 seeds, no fit in 1 of 3 seeds"


def test_its_figure_is_drawn_and_stamped_by_its_own_code(tmp_path: Path) -> None:
    """A picture of the curves of the records; a page without fits has neither."""
    root = put(tmp_path, [fitted(make(), "power")])
    leaderboard.build_all(root)
    assert "log scale" in (root / "small" / "falloff.svg").read_text(encoding="utf-8")
    assert len((root / "small" / "falloff.csv").read_text(encoding="utf-8").splitlines()) > 60
    assert falloff.Falloff.module == "draw_falloff"
    assert not falloff.picture(board.assemble([make()])).points and "Do latents follow a power law" not in page_of(put(tmp_path / "other", [make()]))


def test_a_measured_budget_is_called_one(tmp_path: Path) -> None:
    """The mean of the seeds' L0s, under that name, never as a k that it was trained at; settings that are not set are not shown."""
    others = [{**measured(make("topk", 32, seed), budget), "train_key": str(seed) * 16} for seed, budget in ((0, 30), (1, 35))]
    made = [*others, make("topk", 32, 0), make("topk", 32, 1)]
    found = board.assemble(made)
    assert {found.label(sae): sae.trained_at(32) for sae in found.saes} == {"relu L0=32": False, "topk k=32": True}
    page = page_of(put(tmp_path, made))
    assert cells(page, "relu")[1] == "L0 32" and cells(page, "topk")[1] == "32"
    assert "l1=0.02" in page and "base" not in section(page, "Training")


def test_two_rates_of_one_setting_are_two_saes(tmp_path: Path) -> None:
    """Neither replaces the other, and both say their rate."""
    records = [make(), make()]
    for rate, record in zip((0.003, 0.006), records, strict=True):
        record |= {"settings": {"rate": rate}, "train_key": f"{rate:.4f}".replace(".", "0").ljust(16, "a")}
    found = board.assemble(records)
    assert sorted(found.label(sae) for sae in found.saes) == ["topk k=32 rate=0.003", "topk k=32 rate=0.006"] and not found.left_out
    assert cells(section(page_of(put(tmp_path, records)), "Training"), "topk k=32 rate=0.003")[-2] == "0.003"
