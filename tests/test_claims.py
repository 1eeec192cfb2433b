"""The list of the papers' claims, the rule that judges them, and what a page says of them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_bench_htopk import claims, claims_page, judging, significance
from sae_bench_htopk.claim_ahead import Ahead
from sae_bench_htopk.evidence import Comparison, Match
from sae_bench_htopk.judging import corrected, verdict
from sae_bench_htopk.saes import EV
from sae_bench_htopk.significance import holm
from sae_bench_htopk.strict_yaml import SuiteError
from tests.made_up_claims import Made, judged, sae
from tests.test_leaderboard import make, page_of, put, section, suite

ONE = """
[[claim]]
id = "one"
paper = "2505.00190"
where = "abstract"
wording = "paper's own text"
short = "one is better"
statement = "One is better than the other."
kind = "ahead"
one = {variant = "topk"}
others = [{variant = "batchtopk", config = {k = 8}}]
columns = ["explained_variance.ev"]
place = "whole"
"""


def read(folder: Path, text: str) -> tuple[claims.Claim, ...]:
    """The claims of a file."""
    (path := folder / "claims.toml").write_text(text, encoding="utf-8")
    return claims.read(path)


def test_the_published_list() -> None:
    """Both papers, every kind of test, and reasons for what no suite can measure; each on the page by its own name."""
    found = claims.published()
    assert {claim.paper for claim in found} == {"2505.00190", "2505.24473"}
    assert {type(claim.test) for claim in found if claim.test} == set(claims.KINDS.values())
    assert 20 <= len(found) == len({claim.short for claim in found}) and sum(claim.test is None for claim in found) < len(found) / 2
    assert all(claim.statement.endswith(".") and claim.untested != claim.statement for claim in found)


def test_a_claim_is_read_with_its_test(tmp_path: Path) -> None:
    (claim,) = read(tmp_path, ONE)
    assert claim.test == Ahead(Match("topk"), (Match("batchtopk", {"k": 8}),), (EV,), "whole") and claim.needs == "all"


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ('kind = "ahead"', 'kind = "ahed"', r"claims.toml:2: claim\[0\].kind: 'ahed' is not known here; did you mean ahead\? known: ahead, "),
        ('kind = "ahead"', "kind = 3", r"claim\[0\].kind: 3 is not known here; known: ahead, "),
        ('place = "whole"', 'place = "whole"\nplaces = 3', r"claim\[0\].places: unknown key \(3 given\); did you mean place\? known: "),
        ('place = "whole"', 'place = "hole"', r"claim\[0\].place: 'hole' is not known here; did you mean whole\? "),
        ('place = "whole"', "", r"claims.toml:2: claim\[0\]: the key place is missing, wanted one of whole, "),
        ('id = "one"', "", r"claim\[0\]: the key id is missing, wanted text"),
        ("explained_variance.ev", "explained_variance.fve", r"claim\[0\].columns\[0\]: .* did you mean explained_variance.ev\?"),
        ('variant = "topk"', 'variant = "topk", rank = "size"', r"claim\[0\].one.rank: 'size' is not known here; known: "),
        ("paper's own text", "hearsay", r"claim\[0\].wording: 'hearsay' is not known here; known: "),
        ('place = "whole"', 'place = "whole"\nuntested = "no judge"', r"claim one has both a kind and a reason to be untested"),
        ('place = "whole"', f'place = "whole"\n{ONE}', r"claims.toml:15: claim\[1\].id: one is another claim's, too; wanted an id of its own"),
        ("[[claim]]", "[claim]", r"claims.toml:1: holds claim, wanted \[\[claim\]\] tables alone"),
        ('id = "one"', "id = one", r"claims.toml:1: no TOML: "),
    ],
)
def test_what_is_wrong_in_the_list_is_said(tmp_path: Path, old: str, new: str, wanted: str) -> None:
    """What was given, where, and what is wanted."""
    assert old in ONE
    with pytest.raises(SuiteError, match=wanted):
        read(tmp_path, ONE.replace(old, new))


def test_margins_are_of_compared_columns(tmp_path: Path) -> None:
    text = re.sub(r"kind = [\s\S]*", 'kind = "as_good"\none = {variant = "a"}\ntrained = [{variant = "b"}]\nmargins = {"explained_variance.fve" = 0.1}\n', ONE)
    with pytest.raises(SuiteError, match=r"margins: explained_variance.fve is no compared column; did you mean explained_variance.ev\?"):
        read(tmp_path, text)
    with pytest.raises(SuiteError, match="claim one has neither a kind nor a reason to be untested"):
        read(tmp_path, re.sub(r"kind = [\s\S]*", "", ONE))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [([], []), ([0.03], [0.03]), ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.04, 0.01, 0.02, 0.5], [0.08, 0.04, 0.06, 0.5]), ([0.6, 0.7], [1.0, 1.0])],
)
def test_holm(given: list[float], wanted: list[float]) -> None:
    """By hand: the smallest times all, the next times all but one, none below the one before, none above 1."""
    assert holm(given) == pytest.approx(wanted)


def test_holm_rarely_finds_what_is_not_there() -> None:
    """Of 2,000 families of six true nulls about a twentieth have any finding; without a correction a quarter would."""
    ps = np.random.default_rng(0).random((2000, 6))
    assert 0.035 < np.mean([min(holm(list(family))) <= 0.05 for family in ps]) < 0.065 < np.mean(ps.min(1) <= 0.05)


def line(favour: float | None, against: float, **other: Any) -> Comparison:
    """A comparison by its p alone."""
    return Comparison("one", "what", "0.1", favour, against, **other)


FOR, AGAINST, NEITHER, UNTESTED = line(1e-6, 1.0), line(1.0, 1e-6), line(0.4, 0.6), line(1.0, 1.0, untested="one seed alone")
SILENT, VETO = line(None, 0.4), line(None, 1e-6)


@pytest.mark.parametrize(
    ("needs", "comparisons", "wanted"),
    [
        ("all", [FOR, FOR], "supported"),
        ("all", [FOR, NEITHER], "undecided"),
        ("all", [FOR, UNTESTED], "undecided"),
        ("all", [FOR, FOR, AGAINST], "contradicted"),
        ("all", [FOR, SILENT], "supported"),
        ("all", [FOR, VETO], "contradicted"),
        ("all", [SILENT], "undecided"),
        ("most", [FOR, FOR, NEITHER], "supported"),
        ("most", [FOR, FOR, AGAINST], "supported"),
        ("most", [FOR, NEITHER], "undecided"),
        ("most", [FOR, AGAINST], "contradicted"),
        ("any", [FOR, AGAINST, AGAINST], "supported"),
        ("any", [AGAINST, AGAINST], "contradicted"),
        ("any", [AGAINST, NEITHER], "undecided"),
    ],
)
def test_the_rule(needs: Any, comparisons: list[Comparison], wanted: str) -> None:
    assert verdict(needs, corrected(comparisons)) == wanted


def test_a_comparison_says_what_its_corrected_p_says() -> None:
    """0.02 on one side is 0.04 for both; of two such comparisons Holm makes 0.08, of which neither is for it; what was not tested counts for nothing."""
    alone, two = corrected([line(0.02, 0.98)]), corrected([line(0.02, 0.98), line(0.02, 0.98), UNTESTED])
    assert [(one.favour, one.side) for one in alone] == [(pytest.approx(0.04), "for")]
    assert [(one.favour, one.side) for one in two[:2]] == [(pytest.approx(0.08), "neither")] * 2
    assert (two[2].favour, two[2].side) == (None, "not tested")


def test_saes_on_which_a_claim_comes_out_differently_leave_it_undecided() -> None:
    """Each has its own verdict, and all lines are one family."""
    made = [sae("topk", k, {(k, None): 0.6 + by}) for k, by in ((8, 0.05), (32, -0.05))] + [sae("batchtopk", k, {(k, None): 0.6}) for k in (8, 32)]
    found = judged(Ahead(Match("topk"), (Match("batchtopk"),), (EV,), "whole"), *made)
    assert (found.verdict, found.reason) == ("undecided", "supported on topk k=8; contradicted on topk k=32")
    assert dict(found.verdicts) == {"topk k=8": "supported", "topk k=32": "contradicted"}


def of_page(root: Path, made: list[Made]) -> str:
    """The section of a page that these records make."""
    return section(page_of(put(root, made)), "What the papers claim")


def test_the_page_has_a_line_for_each_claim_and_its_comparisons(tmp_path: Path) -> None:
    """From the synthetic suite: topk at 4 is ahead of topk at 16 by invention, and HierarchicalTopK of topk below 32."""
    text = of_page(tmp_path, suite(3))
    for claim in claims.published():
        (found,) = [each for each in text.splitlines() if each.startswith(f"| {claim.statement.replace('|', '')} |")]
        assert f"(https://arxiv.org/abs/{claim.paper})" in found and re.search(r"\*\*(supported|contradicted|undecided|untested here)\*\*", found)
    assert "<details><summary>TopK is tied to the k that it was trained at: supported</summary>" in text
    assert "<details><summary>HierarchicalTopK beats SAEs of its k, read below it: " in text and judging.RULE in text
    top = section(page_of(tmp_path), "In short")
    assert re.search(r"\*\*The papers' claims\*\* \(\[each with its test\]\(#what-the-papers-claim\)\): of \d+, here \d+ supported, \d+ contradicted", top)


def test_with_one_seed_nothing_is_decided(tmp_path: Path) -> None:
    text = of_page(tmp_path, suite(1))
    assert " budget 0 supported, 0 contradicted, " in text and "With one seed none can be decided." in text
    assert "**supported**" not in text and "**contradicted**" not in text and "one seed alone" in text


@pytest.mark.parametrize("made", [[make("topk")], [make("hierarchical_topk", 32, 0), make("hierarchical_topk", 32, 1)], [make("matryoshka")]])
def test_small_boards_have_the_section(tmp_path: Path, made: list[Made]) -> None:
    """What nothing was measured for is undecided, and the line says what it wants."""
    assert "not measured here: it wants " in of_page(tmp_path, made)


def test_controls_alone_are_no_ground_for_claims(tmp_path: Path) -> None:
    page = page_of(put(tmp_path, [make("pca", control=True)]))
    assert "What the papers claim" not in page and "The papers' claims" not in page


def test_a_line_shows_the_number_that_decides_it() -> None:
    """The lead as it was tested, with the interval and the p of the same comparison."""
    made = sae("topk", 8, {(8, None): 0.7}), sae("batchtopk", 8, {(8, None): 0.6})
    found = judged(Ahead(Match("topk"), (Match("batchtopk"),), (EV,), "whole"), *made)
    (one,) = found.lines
    assert one.comparison.shown == "+0.1000 ±0.0023" and one.favour is not None
    p = significance.probability(one.favour)
    wanted = f"of 1 comparison 1 for; the least sure: EV at k = 8, over batchtopk k=8, +0.1000 ±0.0023, p {p}"
    assert claims_page.deciding(found) == wanted
    assert f"| +0.1000 ±0.0023 | {p} | 1 | for |" in claims_page.details(found)


def test_what_can_speak_against_a_claim_alone_is_said_where_it_applies() -> None:
    """Support does not need it, so a page does not say that it wants every comparison."""
    claim = next(claim for claim in claims.published() if claim.id == "power-law-importance")
    exempt = "Wanted for it: every comparison, but for those that can speak against it alone, while they are silent."
    for comparisons, told in (([FOR, SILENT], True), ([FOR, VETO], True), ([FOR, NEITHER], False), ([FOR, UNTESTED], False)):
        found = judging.Judged(claim, tuple(corrected(comparisons)), {}, "supported", "")
        assert (exempt in claims_page.details(found)) == told
    assert "A test that can speak against a claim alone, as that of a lognormal, is no such comparison while it is silent" in judging.RULE


def test_of_several_learning_rates_the_best_one_is_judged() -> None:
    """A sweep of rates is no sample of SAEs: one of 0.7, 0.5 and (of fewer seeds) 0.9 stands for all."""
    swept = []
    for rate, ev, seeds in ((0.001, 0.5, 3), (0.003, 0.7, 3), (0.01, 0.9, 2)):
        for record in sae("topk", 8, {(8, None): ev}, seeds=seeds):
            swept.append({**record, "train_key": f"{record['train_key']}-{rate}", "settings": {**record["settings"], "rate": rate}})
    found = judged(Ahead(Match("topk"), (Match("batchtopk"),), (EV,), "whole"), swept, sae("batchtopk", 8, {(8, None): 0.6}))
    assert [line.comparison.on for line in found.lines] == ["topk k=8 rate=0.003"] and found.verdict == "supported"
