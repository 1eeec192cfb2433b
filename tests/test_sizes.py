"""The page's part on dictionary size, from synthetic records: both cuts, every compared column, and what it says in words."""

import math
import re
from pathlib import Path

import pytest

from sae_bench_htopk import board, leaderboard, saes, sizes
from sae_bench_htopk.contract import Missing
from tests.test_leaderboard import KS, Made, N, borrowed, cells, make, page_of, put, section, suite
from tests.test_leaderboard import row as one_row

KEPT = {512: 0.5, 1024: 0.75}  # the share of codes that is left when codes are chosen among all latents and then dropped


def late(record: Made, **changes: float | None) -> Made:
    """The record with rows of the cut after the choice as well, of the variant that has fewer latents last: 0.5 + 0.1 log2 L0 by invention."""
    last = record["rows"][-1]
    native = next(row["reading"]["select"] for row in record["rows"] if row["native"])
    found = []
    for latents, share in KEPT.items():
        for k in KS:
            reading = {"k": k, "latents": latents, "select": native, "cut": "after", "rank": "importance"}
            found.append(one_row(last["variant"], last["config"], native, reading, 0.5 + 0.1 * math.log2(k * share), k * share, **changes))
    return {**record, "rows": record["rows"] + found}


def of_base(record: Made) -> Made:
    """The record with rows of pruned_vanilla over its own variant."""
    config = {"k": 32, "base": record["sae"]["variant"]}
    return {**record, "rows": record["rows"] + [{**row, "variant": "pruned_vanilla", "config": config} for row in record["rows"]]}


def both_cuts(seeds: int = 1) -> list[Made]:
    """The synthetic suite with pruned_vanilla and matryoshka read by both cuts."""
    made = suite(seeds)
    cut = [record["sae"]["variant"] == "matryoshka" or record["rows"][-1]["variant"] == "pruned_vanilla" for record in made]
    return [late(record) if is_cut else record for record, is_cut in zip(made, cut, strict=True)]


def the(found: board.Board, variant: str) -> saes.Sae:
    """The only SAE of a variant."""
    (sae,) = [sae for sae in found.everything if sae.variant == variant]
    return sae


def test_a_cut_after_the_choice_is_compared_at_its_measured_l0() -> None:
    """On 512 latents nominal 8 leaves 4: at 8 it has what nominal 16 leaves, 0.5 + 0.3. On 1,024 there are 12 and 24 on both sides of 16: 0.5 + 0.4."""
    sae = the(board.assemble(both_cuts()), "pruned_vanilla")
    for latents, k, wanted in ((512, 8, 0.8), (1024, 16, 0.9)):
        number = sae.shown(saes.EV, k, latents=latents, cut="after")
        assert isinstance(number, saes.Number)
        assert (number.how, number.l0) == ("interpolated", float(k)) and number.mean == pytest.approx(wanted)
    assert sae.at(saes.EV, 32, latents=512, cut="after") == Missing("no readings on both sides of a measured L0 of 32")
    beyond = sae.shown(saes.EV, 32, latents=512, cut="after")
    assert isinstance(beyond, saes.Number) and (beyond.how, beyond.l0) == ("off", 16.0) and beyond.mean == pytest.approx(0.9)


def test_the_cuts_have_curves_of_their_own() -> None:
    """What is added by the one cut leaves the other's numbers as they were; of the whole dictionary a cut says nothing."""
    alone, both = (the(board.assemble(made), "pruned_vanilla") for made in (suite(1), both_cuts()))
    assert (alone.cuts(), both.cuts()) == (["before"], ["before", "after"]) and both.sizes() == [512, 1024]
    for latents in (512, 1024):
        assert all(alone.at(saes.EV, k, latents=latents) == both.at(saes.EV, k, latents=latents) for k in KS)
        used = both.parts(0, saes.EV, 8, latents=latents, cut="after")
        assert used and {(row["reading"]["latents"], row["reading"]["cut"]) for _, row in used} == {(latents, "after")}
    assert both.reading(8, N, cut="after", rank="random") == both.reading(8) and both.shown(saes.EV, 8, latents=N, cut="after") == both.shown(saes.EV, 8)


def test_a_number_of_one_seed_stands_at_that_seeds_l0() -> None:
    """A costly column may be measured on one of two seeds: the other's L0 says nothing of it."""
    one, two = late(make("matryoshka", 32, 0)), late(make("matryoshka", 32, 1), **{saes.DELTA: None, saes.L0: 5.0})
    sae = the(board.assemble([one, two]), "matryoshka")
    number, both = (sae.read(column, 32, latents=512, cut="after") for column in (saes.DELTA, saes.EV))
    assert isinstance(number, saes.Number) and (number.seeds, number.spread, number.l0) == (1, None, 16.0)
    assert isinstance(both, saes.Number) and (both.seeds, both.l0) == (2, 10.5)


def test_an_sae_that_was_read_by_the_later_cut_alone_has_its_row() -> None:
    made = late(make("matryoshka"))
    made["rows"] = [row for row in made["rows"] if not row["reading"]["latents"] or row["reading"]["cut"] == "after"]
    found = board.assemble([made])
    assert [(line.label, line.kind) for line in sizes.lines(found, saes.EV, False)] == [("matryoshka k=32, chosen among all", "late")]


def test_tables_of_both_cuts(tmp_path: Path) -> None:
    """Rows side by side, what each was read at, and a sentence on what the later one means."""
    part = section(page_of(put(tmp_path, both_cuts(2))), "Dictionary size")
    equal_l0, equal_share = part.split("<summary>At equal share")[0], part.split("<summary>At equal share")[1].split("</details>")[0]
    assert cells(equal_l0, "pruned_vanilla k=32, chosen among all")[1:] == ["0.900 ±0.000 (L0 16.0)", "0.958 ±0.000 (L0 24.0)", "0.961 ±0.001"]
    assert cells(equal_share, "pruned_vanilla k=32, chosen among all")[1:] == ["~0.800 ±0.000", "~0.900 ±0.000", "0.961 ±0.001"]
    assert cells(equal_l0, "pruned_vanilla k=32")[1:] == ["0.841 ±0.001", "0.901 ±0.001", "0.961 ±0.001"]
    assert "*Chosen among all*: " in part and "*Chosen among all*" not in page_of(put(tmp_path / "without", suite(1)))


def test_every_compared_column_has_its_tables(tmp_path: Path) -> None:
    """dCE is 1 - EV and CKA EV - 0.01 by invention. A column that was measured on the whole dictionary alone has none, one that was not asked for a letter."""
    made = both_cuts()
    for row in (row for record in made for row in record["rows"] if row["reading"]["latents"]):
        row["values"]["sparse_probing.auc_1"] = None
        row["missing"]["sparse_probing.auc_1"] = "not asked for at this reading"
        if row["reading"]["cut"] == "after":
            row["values"]["representational_similarity.rsa"] = None
            row["missing"]["representational_similarity.rsa"] = "not asked for at this reading"
    part = section(page_of(put(tmp_path, made)), "Dictionary size")
    assert re.findall(r"<summary>(.*?)</summary>", part) == [
        "At equal share of active latents", "ΔCE (lower is better)", "RSA (higher is better)", "CKA (higher is better)", "Latents kept in another order",
    ]  # fmt: skip
    delta, rsa, cka = (
        part.split(f"<summary>{title} (")[1].split("</details>")[0].split("At equal share of active latents:") for title in ("ΔCE", "RSA", "CKA")
    )
    assert [cells(table, "pruned_vanilla k=32, chosen among all")[1] for table in delta] == ["0.100 (L0 16.0)", "~0.200"]
    assert [cells(table, "pruned_vanilla k=32, chosen among all")[1] for table in cka] == ["0.890 (L0 16.0)", "~0.790"]
    assert [cells(table, "pruned_vanilla k=32, chosen among all")[1] for table in rsa] == ["<sup>a</sup>"] * 2
    assert all("<sup>a</sup> not asked for at this reading" in table for table in rsa)


def test_pruning_of_two_kinds_of_weights_is_two_rows() -> None:
    """Neither stands for the other, though they are one variant."""
    found = board.assemble([borrowed(make("topk", 32)), of_base(make("batchtopk", 32))])
    labels = [line.label for line in sizes.lines(found, saes.EV, False) if line.kind == "single"]
    assert labels == ['pruned_vanilla k=32 base="batchtopk"', 'pruned_vanilla k=32 base="topk"']


def test_an_oracle_is_the_best_of_its_size_or_says_why_not() -> None:
    """Off its k it is marked; where the number was not measured the cell has that reason, and not that nothing was trained."""
    small = make("topk", 32, 0, N // 4)
    for row in small["rows"]:
        row["values"] |= {"sparsity.l0": row["reading"]["k"] * 0.9, "downstream_loss.delta": None}
        row["missing"]["downstream_loss.delta"] = "not asked for"
    found = board.assemble([borrowed(make("topk", 32)), small])
    number = next(line for line in sizes.lines(found, saes.EV, False) if line.kind == "oracle").numbers[512]
    assert isinstance(number, saes.Number) and number.how == "off" and number.l0 == pytest.approx(28.8)
    assert next(line for line in sizes.lines(found, saes.DELTA, False) if line.kind == "oracle").numbers[512] == Missing("not asked for")


def test_a_cell_of_fewer_seeds_than_the_boards_says_so(tmp_path: Path) -> None:
    """dCE of the later cut is measured on the first of two seeds alone: 0.100 and 0.200 by invention, as where both have it."""
    made = both_cuts(2)
    for row in (row for record in made if record["sae"]["seed"] for row in record["rows"] if row["reading"]["cut"] == "after"):
        row["values"][saes.DELTA], row["missing"][saes.DELTA] = None, "not asked for at this reading"
    part = section(page_of(put(tmp_path, made)), "Dictionary size")
    delta = part.split("<summary>ΔCE (")[1].split("</details>")[0].split("At equal share of active latents:")
    assert [cells(table, "pruned_vanilla k=32, chosen among all")[1] for table in delta] == ["0.100 (L0 16.0) (1 seed)", "~0.200 (1 seed)"]
    assert "seed)" not in part.split("<summary>")[0] and not any("seed)" in line for line in part.splitlines() if "trained at each size" in line)


def test_the_figure_holds_the_cut_before_the_choice_alone(tmp_path: Path) -> None:
    root = put(tmp_path, both_cuts())
    leaderboard.build_all(root)
    data = (root / "small" / "dictionary.csv").read_text(encoding="utf-8")
    assert "pruned_vanilla k=32" in data and "chosen among all" not in data
