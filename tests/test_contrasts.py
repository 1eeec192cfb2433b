"""Primary contrasts on a page: what is tested and how surely, what cannot be, and what all else is called."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sae_bench_htopk import contrasts, declarations, pairs
from sae_bench_htopk.board import assemble
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.index import line_in as line_of
from sae_bench_htopk.records import RecordError
from sae_bench_htopk.saes import CKA_SAMPLE, DELTA, EV
from tests.test_areas import of
from tests.test_leaderboard import Made, N, borrowed, cells, make, page_of, put, section, suite
from tests.test_leads import record

TOPK, BATCHTOPK, MATRYOSHKA = np.array([0.60, 0.61, 0.63, 0.62, 0.60]), np.array([0.55, 0.58, 0.60, 0.61, 0.59]), 0.57 + 0.002 * np.arange(5)
PRECISE = np.linspace(-1e-6, 1e-6, 100)  # draws of documents that say next to nothing of their own


def side(variant: str, k: int = 8, latents: int = N, rate: float | None = None, **settings: Any) -> Made:
    """One side as a record declares it."""
    return {"variant": variant, "config": {"k": k, **settings}, "latents": latents, "rate": rate}


def pair(one: str | Made, other: str | Made, column: str = EV, k: int = 8, latents: int | None = None) -> Made:
    """One contrast as a record declares it; of a variant alone the SAE trained at 8."""
    sides = (side(each) if isinstance(each, str) else each for each in (one, other))
    return {"column": column, "k": k, "latents": latents} | dict(zip(("one", "other"), sides, strict=True))


def declaring(made: list[Made], *declared: Made, why: str = "These were asked for.") -> list[Made]:
    """The records with a family."""
    return [{**each, "page": {**each["page"], "contrasts": {"why": why, "pairs": list(declared)}}} for each in made]


def five(seeds: int = 5, away: float = 0.0) -> list[Made]:
    """Three SAEs over some seeds, on documents that swing all of them alike; `away` is what draws move TopK alone by."""
    made, swings = [], np.random.default_rng(0).normal(0, 0.1, 100)
    own = np.tile([-away, away], 50)
    for seed in range(seeds):
        made.append(record("topk", seed, {8: TOPK[seed]}, {8: list(TOPK[seed] + swings + own + PRECISE)}))
        made.append(record("batchtopk", seed, {8: BATCHTOPK[seed]}, {8: list(BATCHTOPK[seed] + swings)}))
        made.append(record("matryoshka", seed, {8: MATRYOSHKA[seed]}, {8: list(MATRYOSHKA[seed] + swings + PRECISE)}))
    return made


def test_the_selectors_of_both_sides_stand_in_the_table() -> None:
    """topk is read by row, batchtopk by threshold, where it is ahead by 0.05; both by row, topk is. One selector is just named."""
    made = [of("topk", 8, {8: 0.60}), of("batchtopk", 8, {8: 0.65}), of("hierarchical_topk", 8, {8: 0.5})]
    for one, select, ev in ((made[0], "threshold", 0.63), (made[1], "row", 0.58)):
        (row,) = one["rows"]
        one["rows"].append(row | {"native": False, "reading": row["reading"] | {"select": select}, "values": row["values"] | {EV: ev}})
    by = [one.selectors for one in results(declaring(made, pair("topk", "batchtopk"), pair("topk", "hierarchical_topk")))]
    assert by == ["row against threshold: both row +0.020, both threshold -0.020", "both row"]


def results(made: list[Made]) -> list[contrasts.Result]:
    """What comes of the family that the records declare."""
    return contrasts.verdicts(assemble(made))


def test_p_is_welchs_of_both_signs_where_documents_say_nothing() -> None:
    """As scipy has it; whichever side stands first, only the sign of the difference turns."""
    wanted = stats.ttest_ind(TOPK, BATCHTOPK, equal_var=False)
    there, back = (results(declaring(five(), pair(*names)))[0] for names in (("topk", "batchtopk"), ("batchtopk", "topk")))
    assert there.lead is not None and back.lead is not None
    assert there.p == back.p == pytest.approx(wanted.pvalue, rel=1e-3)
    assert there.lead.value == -back.lead.value == pytest.approx(TOPK.mean() - BATCHTOPK.mean())
    low, high = wanted.confidence_interval()
    assert there.lead.half() == pytest.approx((high - low) / 2, rel=1e-3)


def test_the_largest_p_of_any_source_counts() -> None:
    """Draws of documents that differ by ±0.1 in turn: a standard error of 0.1 on a difference of 0.026, by t with 60 documents' 59 degrees of freedom."""
    (found,) = results(declaring(five(away=0.1), pair("topk", "batchtopk")))
    value, error = TOPK.mean() - BATCHTOPK.mean(), 0.1 * np.sqrt(100 / 99)
    assert found.p is not None and found.p > 2 * stats.t.sf(value / error, 59) - 1e-6
    assert found.verdict == "not significant"


def test_holm_is_over_all_that_are_declared() -> None:
    """Of three the smallest counts three times, the next twice: also where the third could not be tested, which here has no draws."""
    one, two, none = results(declaring(five(), pair("topk", "matryoshka"), pair("topk", "batchtopk"), pair("topk", "batchtopk", DELTA)))
    first = float(stats.ttest_ind(TOPK, MATRYOSHKA, equal_var=False).pvalue)
    second = float(stats.ttest_ind(TOPK, BATCHTOPK, equal_var=False).pvalue)
    assert first < second and one.corrected == pytest.approx(3 * first, rel=1e-3) and two.corrected == pytest.approx(2 * second, rel=1e-3)
    assert (none.p, none.corrected, none.verdict, none.reason) == (None, None, "not tested", "a record holds no draws of documents for it")
    assert none.lead is not None
    (alone,) = results(declaring(five(), pair("topk", "matryoshka")))
    assert alone.p == one.p and alone.corrected == pytest.approx(first, rel=1e-3)
    assert [alone.verdict, one.verdict, two.verdict] == ["significant", "significant", "not significant"]


def test_the_page_says_it_after_explained_variance_and_in_its_top(tmp_path: Path) -> None:
    """A row for each, behind is said as behind; the rest is called exploratory."""
    page = page_of(put(tmp_path, declaring(five(), pair("matryoshka", "topk"), pair("topk", "batchtopk"), pair("topk", "batchtopk", DELTA))))
    assert [part.splitlines()[0] for part in page.split("\n## ")].index("Primary contrasts") == 3
    said, text = section(page, "In short"), section(page, "Primary contrasts")
    assert text.strip().startswith("These were asked for.") and "for all 3 declared contrasts" in text and "whose own variance is in none of this" in text
    first, second, third = (
        cells(text, name) for name in ("matryoshka k=8 against topk k=8", "topk k=8 against batchtopk k=8", "topk k=8 against batchtopk k=8")
    )
    assert first[1:4] == ["EV", "8", "all"] and first[4].startswith("-0.038 ±0.01") and first[6] == "significant" and float(first[5]) < 0.05
    assert second[6] == "not significant" and third[1] == "EV"
    assert "not tested: a record holds no draws of documents for it" in text
    assert (
        "Of the 3 primary contrasts declared in the suite, 1 is significant under Holm: matryoshka k=8 against topk k=8 in EV at k = 8 (behind by 0.038" in said
    )
    assert "; 1 not; 1 could not be tested. Everything else on this page is exploratory." in said
    assert "<summary>Differences from the best at each k: EV (exploratory)</summary>" in page and "No primary contrasts" not in page


def test_without_a_family_all_is_exploratory(tmp_path: Path) -> None:
    page = page_of(put(tmp_path, five()))
    assert "No primary contrasts are declared, so everything on this page is exploratory." in section(page, "In short")
    assert "## Primary contrasts" not in page
    assert results(declaring(five())) == []  # a family of none is none


def test_with_one_seed_nothing_is_significant(tmp_path: Path) -> None:
    """However large the difference; the page says so."""
    made = declaring(five(seeds=1), pair("topk", "batchtopk"), pair("topk", "matryoshka"))
    assert [(found.verdict, found.reason, found.corrected) for found in results(made)] == [("not tested", "one seed alone", None)] * 2
    page = page_of(put(tmp_path, made))
    assert "nothing on it is significant. Of the 2 primary contrasts declared in the suite none could be tested." in section(page, "In short")
    assert "None of them could be tested, so nothing on this page is significant." in section(page, "Primary contrasts")
    assert cells(section(page, "Primary contrasts"), "topk k=8 against batchtopk k=8")[6] == "not tested: one seed alone"


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (pair("topk", side("batchtopk", 16)), "batchtopk k=16 (2,048 latents) is not on this board"),
        (pair("topk", side("batchtopk", latents=64)), "batchtopk k=8 (64 latents) is not on this board"),
        (pair("topk", "their_own"), "their_own k=8 (2,048 latents) is not on this board"),
        (pair("topk", "batchtopk", "their_own.number"), "their_own.number is no number that SAEs are compared by"),
        (pair("topk", "batchtopk", k=4), "topk k=8: not read there; batchtopk k=8: not read there"),
        (pair("topk", "batchtopk", latents=64), "topk k=8: not read there; batchtopk k=8: not read there"),
        (pair("topk", "topk"), "identical by construction"),
    ],
)
def test_what_cannot_be_tested_says_why(declared: Made, reason: str) -> None:
    """And counts in the family beside what can."""
    found, other = results(declaring(five(), declared, pair("topk", "matryoshka")))
    assert (found.verdict, found.reason, found.lead) == ("not tested", reason, None)
    assert other.p is not None and other.corrected == pytest.approx(2 * other.p)


def test_a_rate_tells_saes_apart_where_it_is_known() -> None:
    """Two TopK SAEs that differ in it alone; where records do not know it, two are one too many, and one is enough."""
    fast = [{**each, "settings": {"rate": 0.5}} for each in five() if each["sae"]["variant"] == "topk"]
    slow = [{**each, "settings": {"rate": 0.25}, "train_key": f"slow{each['sae']['seed']}"} for each in fast]
    both = [*fast, *slow, *(each for each in five() if each["sae"]["variant"] != "topk")]
    at_rate, at_other, at_any = results(declaring(both, *(pair(side("topk", rate=rate), "batchtopk") for rate in (0.25, 0.75, None))))
    assert at_rate.p is not None and at_rate.names[0] == "topk k=8 rate=0.25"
    assert at_other.reason == "topk k=8 (2,048 latents) is not on this board, though at another learning rate it is"
    assert at_any.reason == "topk k=8 (2,048 latents) is 2 SAEs of this board"
    assert results(declaring(five(), pair(side("topk", rate=0.75), "batchtopk")))[0].p is not None


def with_draws(made: list[Made]) -> list[Made]:
    """Records whose every reading holds draws that agree with its number but for a little of each variant's own."""
    swings = np.random.default_rng(0).normal(0, 0.05, 100)
    own = {variant: np.random.default_rng(place).normal(0, 1e-4, 100) for place, variant in enumerate(("topk", "pruned_vanilla", "matryoshka"), 1)}
    for row in (row for each in made for row in each["rows"]):
        row |= {"draws": {EV: list(row["values"][EV] + swings + own.get(row["variant"], 0.0))}, "drawn": "d1"}
    return made


def test_on_fewer_latents_those_readings_are_compared() -> None:
    """Invented at an L0 of 32: matryoshka on a quarter 0.88 + 0.06 - 0.04, TopK cut down 0.90 + 0.06 - 0.12, so ahead by 0.06; on the whole behind by 0.02."""
    pruned = side("pruned_vanilla", 32, base="topk")
    made = with_draws(suite(3))
    whole, quarter = results(
        declaring(made, *(pair(side("matryoshka", 32), side("topk", 32) if not size else pruned, k=32, latents=size) for size in (None, 512)))
    )
    assert whole.lead is not None and quarter.lead is not None
    assert (whole.lead.value, quarter.lead.value) == (pytest.approx(-0.02, abs=2e-3), pytest.approx(0.06, abs=2e-3))
    assert quarter.words() == "matryoshka k=32 against pruned_vanilla k=32 in EV at k = 32 on 512 latents"
    (trained_so,) = results(declaring(made, pair(side("matryoshka", 32), side("topk", 32, 512), k=32, latents=512)))
    assert trained_so.names[1] == "topk k=32 (512 latents)" and trained_so.lead is not None and trained_so.lead.value == pytest.approx(0.06, abs=2e-3)


def test_same_weights_are_called_identical_and_never_compared(tmp_path: Path) -> None:
    """On the whole dictionary, however the contrast names it; on fewer latents there may be something to compare."""
    pruned, topk = side("pruned_vanilla", 32, base="topk"), side("topk", 32)
    made = declaring(suite(2), pair(topk, pruned, k=32), pair(pruned, topk, k=32, latents=N), pair(topk, pruned, k=32, latents=512))
    one, named, fewer = results(made)
    assert one.reason == named.reason == "identical by construction" and fewer.reason == "identical in every number"
    page = page_of(put(tmp_path, made))
    assert "pruned_vanilla k=32 reads the weights of topk k=32: with all 2,048 latents they are one and the same, identical by construction, so" in page
    ahead = [line for part in page.split("Differences from the best at each k")[1:] for line in part.split("</details>")[0].splitlines()]
    assert not any("| pruned_vanilla" in line for line in ahead)


def test_equal_numbers_are_called_identical_in_tables_of_differences() -> None:
    """To the last bit of every seed, reading and draw; one draw apart they are only not clear."""
    made = [record(variant, seed, {8: 0.6 + 0.01 * seed}, {8: [0.6, 0.7] * 50}) for variant in ("topk", "batchtopk") for seed in range(2)]
    assert cells(pairs.table(assemble(made), EV), "8")[6] == "identical"
    made[0]["rows"][0]["draws"][EV][0] = 0.61
    assert cells(pairs.table(assemble(made), EV), "8")[6] == "not clear: documents; seeds"


def test_where_records_disagree_the_newest_counts_and_the_page_says_so(tmp_path: Path) -> None:
    """By its weights' date or its last number's; what declares none is counted apart, and so is never silently followed."""
    made = five()
    old, new, none = declaring(made[:6], pair("topk", "batchtopk")), declaring(made[6:9], pair("topk", "matryoshka"), why="Newer."), made[9:]
    later = {"2026-11-21T10": {"when": "2026-11-21T10"}}
    new[-1]["measured"] = later
    found = declarations.family_of(assemble([*old, *new, *none]))
    assert found is not None and (found.why, found.others, found.silent) == ("Newer.", 6, 6) and found.pairs[0].other.variant == "matryoshka"
    text = section(page_of(put(tmp_path, [*old, *new, *none])), "Primary contrasts")
    assert text.rstrip().endswith("of the other records of this board 6 declare another family and 6 declare none.")
    new[-1].pop("measured")
    old[0]["provenance"] = {**old[0]["provenance"], "when": "2026-11-22"}
    assert (declarations.family_of(assemble([*old, *new, *none])) or pytest.fail("no family")).why == "These were asked for."
    agreed = declarations.family_of(assemble(declaring(made, pair("topk", "batchtopk"))))
    assert agreed is not None and agreed.disagreement() == ""


def test_checkpoints_do_not_declare_and_are_tested_by_the_same_family() -> None:
    """What was kept earlier makes a board of its own; a contrast is the same on both."""
    made = declaring(five(), pair("topk", "batchtopk"))
    early = [{**each, "train_key": f"early{place}", "sae": {**each["sae"], "share": 0.5}} for place, each in enumerate(five())]
    early = [{**each, "provenance": {**each["provenance"], "when": "2027"}} for each in declaring(early, pair("topk", "matryoshka"))]
    board = assemble([*made, *early])
    family = declarations.family_of(board)
    assert family is not None and family.pairs[0].other.variant == "batchtopk" and not family.disagreement()
    (late,), (before,) = contrasts.verdicts(board), contrasts.verdicts(board.earlier[0], family)
    assert late.pair == before.pair and hash(late.pair) == hash(before.pair) and before.p is not None


def test_l0s_that_differ_count_against_a_contrast() -> None:
    """TopK reads at 7.9 alone and BatchTopK at 8.1 alone: with nothing known of how steep they are, any difference may be that of L0."""
    made = [
        record(variant, seed, {8: 0.5 + 0.2 * (variant == "topk") + 0.001 * seed}, {8: [0.5] * 100}, {8: l0})
        for seed in range(3)
        for variant, l0 in (("topk", 7.9), ("batchtopk", 8.1))
    ]
    (found,) = results(declaring(made, pair("topk", "batchtopk")))
    assert (found.p, found.verdict) == (1.0, "not significant")
    assert "(L0 7.900 against 8.100)" in contrasts.table([found])


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda held: held.pop("why"), "page.contrasts: wanted an object with why and pairs"),
        (lambda held: held["pairs"].append(8), "page.contrasts.pairs[1] is 8, wanted an object"),
        (lambda held: held["pairs"][0].update(k="8"), "page.contrasts.pairs[0].k is '8', wanted int"),
        (lambda held: held["pairs"][0].pop("latents"), "page.contrasts.pairs[0].latents is None"),
        (lambda held: held["pairs"][0]["one"].update(config=[]), "page.contrasts.pairs[0].one.config is [], wanted dict"),
    ],
)
def test_a_damaged_declaration_names_its_record(tmp_path: Path, spoil: Any, where: str) -> None:
    """As any other part of a record that no page can be made of; the index, which does not look there, stays."""
    made = declaring(five(), pair("topk", "batchtopk"))
    held = {"why": "x", "pairs": [pair("topk", "batchtopk")]}
    spoil(held)
    made[3]["page"] = {**made[3]["page"], "contrasts": held}
    with pytest.raises(RecordError, match=made[3]["train_key"]) as caught:
        page_of(put(tmp_path, made))
    assert where in str(caught.value)
    assert line_of(tmp_path / "small") is not None


@pytest.mark.parametrize("made", [[make("pca", control=True)], [make("topk")], [make("topk", seed=seed) for seed in range(3)], [borrowed(make("topk"))]])
def test_boards_with_little_on_them_make_a_page(tmp_path: Path, made: list[Made]) -> None:
    """Controls alone, one record, one SAE with several seeds, one that is read twice."""
    declared = [pair(side("topk", 32), "batchtopk"), pair("topk", "batchtopk", CKA_SAMPLE), pair("pca", side("pca", 32))]
    text = section(page_of(put(tmp_path, declaring(made, *declared))), "Primary contrasts")
    assert text.count("not tested: ") == 3
    assert isinstance(declarations.Side("pca", '{"k": 32}', N, None).on(assemble(made)), Missing)  # a control is held against nothing
