"""The page's part on whole curves, from synthetic records."""

import csv
import math
from pathlib import Path

import pytest

from sae_bench_htopk import board, curve, draw_curve, leaderboard, records
from tests.test_leaderboard import Made, make, page_of, put

MEAN = "sparsity_curve.ev_mean"


def drawn(record: Made, rise: float = 0.0, silent: bool = False, last: int = 32) -> Made:
    """The record with a curve at its native reading at `last`, from one encoding; if silent, nothing fires below k = 3."""
    rows = []
    for row in record["rows"]:
        if row["native"] and row["reading"]["k"] == last and row["reading"]["latents"] is None:
            l0 = [0.0 if silent and k < 3 else k * 1.01 for k in range(1, last + 1)]
            ev = [0.5 + 0.01 * k + rise for k in range(1, last + 1)]
            found = {"k": list(range(1, last + 1)), "l0": l0, "ev": ev, "low": [one - 0.004 for one in ev], "high": [one + 0.003 for one in ev]}
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
    assert {(row["seeds"], row["low, 2.5% of draws of documents"], row["high, 97.5%"]) for row in topk} == {("2", "", "")}
    assert [row["k"] for row in topk if row["note"]] == ["8"]
    alone = next(row for row in rows if row["SAE"] == "batchtopk k=32" and row["k"] == "7")
    assert (alone["seeds"], alone["standard deviation over seeds"]) == ("1", "")
    assert (alone["low, 2.5% of draws of documents"], alone["high, 97.5%"]) == ("0.566", "0.573")
    svg = (root / "small" / "curve.svg").read_text(encoding="utf-8")
    assert "topk k=8" in svg and "batchtopk k=32" in svg and "matryoshka" not in svg and "log scale of 1 - EV" in svg


def test_the_page_says_what_the_lines_are_and_who_has_none(root: Path) -> None:
    """In a fold, with the reason."""
    page = page_of(root)
    fold = page.partition("<summary>The whole curve: every k from 1 to 32</summary>")[2].partition("</details>")[0]
    assert "](small/curve.svg)" in fold and "from one encoding at 32" in fold and "Marker" in fold
    assert "Bands: ± one standard deviation over seeds; around an SAE of one seed, 95% of draws of documents, which says nothing of other seeds." in fold
    assert "fewer seeds" not in fold
    assert "Without a curve: matryoshka k=32 (has no smaller budgets inside)." in fold
    assert page.index("frontier.svg") < page.index("## Explained variance at each sparsity") < page.index("curve.svg")


def test_saes_that_end_at_different_budgets_and_a_seed_without_a_curve(tmp_path: Path) -> None:
    """Each is drawn to its own largest k, from the seeds that have it, and the page and the data say which they are."""
    made = [drawn(make("topk", 8, 0)), without(make("topk", 8, 1), "broken"), drawn(make("batchtopk", 32), last=16)]
    made += [drawn(make("matryoshka", 32, 0)), drawn(make("matryoshka", 32, 1), last=16)]
    page = page_of(put(tmp_path, made))
    fold = page.partition("<summary>The whole curve: every k from 1 to each SAE's largest, 16 and 32</summary>")[2].partition("</details>")[0]
    assert "at every k from 1 to its own largest k, 16 and 32, by its native selector, from one encoding at that k:" in fold
    assert "fewer seeds than there are, those with a curve to the largest k: matryoshka k=32 (1 of 2) and topk k=8 (1 of 2)." in fold
    assert "Bands: 95% of draws of documents, of one seed." in fold and "Without a curve" not in fold
    rows = list(csv.DictReader(curve.picture(board.assemble(records.read_all(tmp_path / "small"))).csv().splitlines()))
    assert {(row["SAE"], row["seeds"]) for row in rows} == {("topk k=8", "1"), ("batchtopk k=32", "1"), ("matryoshka k=32", "1")}
    assert {name: max(int(row["k"]) for row in rows if row["variant"] == name) for name in ("topk", "batchtopk", "matryoshka")} == {
        "topk": 32, "batchtopk": 16, "matryoshka": 32,
    }  # fmt: skip


def test_the_shade_is_over_documents_for_one_seed_and_over_seeds_for_several(root: Path) -> None:
    """In the drawing itself, where the scale is -log(1 - ev): at the first budget whose line is drawn."""
    picture = curve.picture(board.assemble(records.read_all(root / "small")))
    (axis,) = draw_curve.draw(picture).axes
    corners = [shade.get_paths()[0].vertices for shade in axis.collections]
    first = [sorted({float(y) for x, y in corner if x == corner[:, 0].min()}) for corner in corners]
    by_name = dict(zip(dict.fromkeys(point.line for point in picture.points), first, strict=True))
    around = {"topk k=8": (0.52 - 0.02 / math.sqrt(2), 0.52 + 0.02 / math.sqrt(2)), "batchtopk k=32": (0.526, 0.533)}
    assert by_name == {name: pytest.approx([-math.log(1 - y) for y in both]) for name, both in around.items()}


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
    assert curve.Curve.module == "draw_curve" and not curve.picture(board.assemble([make()])).points
