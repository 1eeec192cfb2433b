"""The page's part on whole curves, from synthetic records."""

import csv
from pathlib import Path

import pytest

from sae_bench_htopk import board, curve, leaderboard
from tests.test_leaderboard import Made, make, page_of, put

MEAN = "sparsity_curve.ev_mean"


def drawn(record: Made, rise: float = 0.0, silent: bool = False) -> Made:
    """The record with a curve at its native reading at 32, 32 budgets from one encoding; if silent, nothing fires below k = 3."""
    rows = []
    for row in record["rows"]:
        if row["native"] and row["reading"]["k"] == 32 and row["reading"]["latents"] is None:
            l0 = [0.0 if silent and k < 3 else k * 1.01 for k in range(1, 33)]
            found = {"k": list(range(1, 33)), "l0": l0, "ev": [0.5 + 0.01 * k + rise for k in range(1, 33)]}
            rows.append({**row, "values": {**row["values"], MEAN: 0.7}, "details": {**row["details"], "sparsity_curve": found}})
        else:
            rows.append({**row, "values": {**row["values"], MEAN: None}, "missing": {**row["missing"], MEAN: "not asked for at this reading"}})
    return {**record, "rows": rows}


def without(record: Made, reason: str) -> Made:
    """The record with a reason in place of its curve."""
    rows = [{**row, "values": {**row["values"], MEAN: None}, "missing": {**row["missing"], MEAN: reason}} for row in record["rows"]]
    return {**record, "rows": rows}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two seeds of one SAE, one of another that is silent at first, and one without a curve."""
    made = [drawn(make("topk", 8, 0)), drawn(make("topk", 8, 1), 0.02), drawn(make("batchtopk", 32), silent=True)]
    return put(tmp_path, [*made, without(make("matryoshka", 32), "has no smaller budgets inside")])


def test_the_figure_holds_every_budget_and_its_data_are_means_over_seeds(root: Path) -> None:
    """In the order of the budgets, with the marker's note at the trained k alone."""
    leaderboard.build_all(root)
    assert leaderboard.check(root) == []
    with (root / "small" / "curve.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    topk = [row for row in rows if row["SAE"] == "topk k=8"]
    assert [int(row["k"]) for row in topk] == list(range(1, 33)) and len(rows) == 64
    assert [float(row["explained_variance.ev"]) for row in topk] == pytest.approx([0.51 + 0.01 * k for k in range(1, 33)])
    assert {float(row["standard deviation over seeds"]) for row in topk} == {0.0141421}  # of two numbers 0.02 apart
    assert [row["k"] for row in topk if row["note"]] == ["8"]
    svg = (root / "small" / "curve.svg").read_text(encoding="utf-8")
    assert "topk k=8" in svg and "batchtopk k=32" in svg and "matryoshka" not in svg and "log scale of 1 - EV" in svg


def test_the_page_says_what_the_lines_are_and_who_has_none(root: Path) -> None:
    """In a fold, with the reason."""
    page = page_of(root)
    fold = page.partition("<summary>The whole curve: every k from 1 to 32</summary>")[2].partition("</details>")[0]
    assert "](small/curve.svg)" in fold and "from one encoding at 32" in fold and "Marker" in fold and "Bands" in fold
    assert "Without a curve: matryoshka k=32 (has no smaller budgets inside)." in fold
    assert page.index("frontier.svg") < page.index("curve.svg") < page.index("## Explained variance at each sparsity")


def test_a_changed_curve_is_seen(root: Path) -> None:
    """By --check, in the data and in the figure."""
    leaderboard.build_all(root)
    put(root, [drawn(make("batchtopk", 32), 0.001, silent=True)])
    changed = {Path(sentence.partition(":")[0]).name for sentence in leaderboard.check(root)}
    assert changed == {"curve.csv", "curve.svg", "small.md"}  # the page has a digest of all records


def test_no_curves_no_figure(tmp_path: Path) -> None:
    """A suite without the metric has no section; where it was asked for and nothing came of it, the page says why."""
    assert "whole curve" not in page_of(put(tmp_path / "none", [make()]))
    page = page_of(put(tmp_path / "empty", [without(make(), "no such thing")]))
    assert "no SAE has one" in page and "Without a curve: topk k=32 (no such thing)." in page and "curve.svg" not in page


def test_it_is_drawn_by_its_own_code() -> None:
    """So that a change of the drawing is a change of the stamp."""
    assert curve.Curve.code.name == "curve.py" and not curve.picture(board.assemble([make()])).points
