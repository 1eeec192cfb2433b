"""Areas under frontiers on a page: one range and grid for all, and no more area for more readings."""

import math
from pathlib import Path

import pytest

from sae_bench_htopk import areas, saes
from sae_bench_htopk.board import Board, assemble
from sae_bench_htopk.contract import Missing
from tests.test_leaderboard import KS, Made, cells, make, page_of, put, section


def of(variant: str, trained: int, values: dict[int, float | None], **l0: float) -> Made:
    """A record of one SAE with these explained variances at its native readings; those at other k are not there."""
    made = make(variant, trained)
    made["rows"] = [row for row in made["rows"] if row["native"] and row["reading"]["latents"] is None and row["reading"]["k"] in values]
    for row in made["rows"]:
        k = row["reading"]["k"]
        row["values"] |= {saes.EV: values[k], saes.L0: l0.get(f"at_{k}", float(k))}
        row["missing"] |= {saes.EV: "not asked for"} if values[k] is None else {}
    return made


def area(board: Board, variant: str) -> areas.Area:
    """Of explained variance, which must be there."""
    found = areas.areas(board, saes.EV)[variant]
    assert isinstance(found, areas.Area)
    return found


def line(k: float) -> float:
    """A straight line in log L0 from 0.5 at 4 to 0.8 at 32."""
    return 0.5 + 0.1 * math.log2(k / 4)


def test_a_reading_that_lies_on_the_line_adds_nothing() -> None:
    """0.5 to 0.8 is 0.65 in the mean, with or without 8 and 16 between."""
    other = of("batchtopk", 32, {k: 0.6 for k in KS})
    few, many = (assemble([of("topk", 32, {k: line(k) for k in ks}), other]) for ks in ((4, 32), KS))
    assert area(few, "topk").height == pytest.approx(0.65) == area(many, "topk").height


def test_who_is_read_more_often_does_not_gain_by_it() -> None:
    """A curve that bends above its chord: at 8 and 16, where the other has no number, it does not count for either; where both have it, it counts."""
    bent = {4: 0.5, 8: 0.75, 16: 0.78, 32: 0.8}
    ends, four = {k: bent[k] for k in (4, 32)}, bent
    few, one, both = (assemble([of("topk", 32, mine), of("batchtopk", 32, theirs)]) for mine, theirs in ((ends, ends), (four, ends), (four, four)))
    assert area(one, "topk").height == pytest.approx(area(few, "topk").height) == pytest.approx(0.65)
    assert areas.shared(one, saes.EV) == (4, 32) and area(both, "topk").height > 0.7
    assert area(one, "topk").height == pytest.approx(area(one, "batchtopk").height)


def test_the_range_is_of_measured_l0_and_the_same_for_all() -> None:
    """One ends at 20 whatever is asked of it: nobody's area goes beyond."""
    ends = assemble([of("topk", 32, {k: 0.5 for k in KS}), of("batchtopk", 8, {k: 0.6 for k in KS}, at_32=20.0)])
    assert areas.span(ends, saes.EV) == (4.0, 20.0)
    assert (area(ends, "topk").height, area(ends, "batchtopk").height) == pytest.approx((0.5, 0.6))


def test_an_envelope_is_another_thing_and_says_of_how_many_trainings_it_is() -> None:
    """Two SAEs that are best at either end, and a third that is best nowhere; one of the other variant."""
    high = of("topk", 4, {4: 0.8, 8: 0.7, 16: 0.6, 32: 0.5}), of("topk", 32, {4: 0.5, 8: 0.6, 16: 0.7, 32: 0.8})
    found = assemble([*high, of("topk", 8, {k: 0.1 for k in KS}), of("batchtopk", 32, {k: 0.6 for k in KS})])
    assert [sae.budget for sae in area(found, "topk").saes] == [4, 32] and len(area(found, "batchtopk").saes) == 1
    assert area(found, "topk").height == pytest.approx(0.725, abs=1e-4)


def test_a_variant_of_one_reading_has_no_area_and_takes_none_from_others(tmp_path: Path) -> None:
    """Its cell has the reason."""
    made = [of("topk", 32, {k: 0.5 for k in KS}), of("batchtopk", 8, {8: 0.6})]
    found = assemble(made)
    assert area(found, "topk").height == pytest.approx(0.5)
    assert areas.areas(found, saes.EV)["batchtopk"] == Missing("its readings do not reach from end to end")
    table = section(page_of(put(tmp_path, made)), "Explained variance at each sparsity")
    assert cells(table, "topk")[6] == "0.500 (1 SAE)" and "its readings do not reach from end to end" in table


@pytest.mark.parametrize("values", [{}, {8: 0.6}])
def test_without_two_readings_there_is_no_area(values: dict[int, float | None]) -> None:
    assert areas.areas(assemble([of("topk", 8, {8: None, **values})]), saes.EV)["topk"] == Missing("no range of L0 is common to the variants")
