"""The top of a page: one short sentence for each question, whose numbers stand with their own verdicts."""

import re
from pathlib import Path

import numpy as np
import pytest

from sae_bench_htopk import gaps, index, sentences
from sae_bench_htopk.answer_best import by_size, by_sparsity
from sae_bench_htopk.answer_budgets import away, one_for_all
from sae_bench_htopk.answer_costs import how_sure, what_it_cost
from sae_bench_htopk.answer_nested import nested_or_cut
from sae_bench_htopk.board import assemble
from sae_bench_htopk.saes import DELTA, EV
from tests.test_areas import of
from tests.test_costs import the_suite, timed
from tests.test_leaderboard import Made, make, page_of, put, section, suite
from tests.test_leads import record
from tests.test_pairs import several
from tests.test_sizes import both_cuts

LONGEST = 50  # words


def drawn_alike(made: list[Made]) -> list[Made]:
    """The records with draws of documents in which all SAEs swing together, so that only seeds can spoil a lead."""
    for row in (row for one in made for row in one["rows"]):
        row |= {"draws": {column: [row["values"][column] + step / 1000 for step in range(101)] for column in (EV, DELTA)}, "drawn": "d1"}
    return made


@pytest.mark.parametrize("made", [suite(2), suite(1), both_cuts(2), drawn_alike(both_cuts(3)), [make()], [make("pca", 32, control=True)], the_suite()])
def test_every_sentence_is_short_and_answers_one_question(made: list[Made]) -> None:
    """Whatever is on the board; none at all where controls stand alone."""
    found = sentences.in_short(assemble(made))
    assert all(len(sentence.split()) <= LONGEST for sentence in found)
    heads = [sentence.split("**")[1] for sentence in found]
    assert len(heads) == len(set(heads)) and all(heads) and bool(found) == any(not one["sae"]["control"] for one in made)


def test_the_questions_stand_in_order_and_the_detail_is_folded(tmp_path: Path) -> None:
    short, _, rest = section(page_of(put(tmp_path, both_cuts(2))), "In short").partition("<details>")
    wanted = ["Best explained variance", "Best downstream loss", "Fewer latents", "One SAE for every budget:", "Reading away from the trained k",
              "Nested or cut down?", "Most interpretable without a judge", "The papers' claims", "How sure:", "What it cost"]  # fmt: skip
    assert re.findall(r"^- \*\*(.*?)\*\*", short, re.M) == wanted
    folded, _, after = rest.partition("</details>")
    assert "**The selector alone**" in folded and after.strip().startswith("![EV (higher is better) against measured L0")


def test_the_best_is_named_with_its_lead_and_whether_that_is_clear() -> None:
    """0.1 at 8 is, 0.001 at 16 is not; 0.05 at 32 has no draws. With one seed nothing is: at 8 and 32 for want of tests."""
    assert "**topk** at 8, 16 and 32. Lead over the next variant: 0.0030 to 0.10, clear at 8 alone." in by_sparsity(assemble(several()), EV)
    assert "none clear" in by_sparsity(assemble(several(1)), EV)
    alone = by_sparsity(assemble(several()[::2]), EV)
    assert "Lead" not in alone and alone.endswith("No rival at 8, 16 and 32.")


def test_nobody_is_the_best_where_another_does_better_with_fewer_codes(tmp_path: Path) -> None:
    """At 32 topk has 0.80; batchtopk, which has no more than 27 codes to give, 0.85 with these. 0.79 with these would leave it the best."""
    for most, passed in ((0.85, True), (0.79, False)):
        rival = of("batchtopk", 8, {8: 0.6, 16: 0.7, 32: most})
        for row in (row for row in rival["rows"] if row["reading"]["k"] == 32):
            row["values"]["sparsity.l0"] = 27.0
        made = [of("topk", 8, {8: 0.65, 16: 0.75, 32: 0.80}), rival, of("hierarchical_topk", 8, {8: 0.4, 16: 0.6, 32: 0.7})]
        board = assemble(made)
        assert list(board.winners(EV)) == [8, 16, 32][: 3 - passed] and [sae.variant for sae, _ in board.passed(EV).values()] == ["batchtopk"] * passed
        assert by_sparsity(board, EV).endswith(" Nobody at 32: batchtopk does better with 27.0 codes.") == passed
        assert ("at k = 32 batchtopk k=8 has 0.850 at an L0 of 27.0." in sentences.winners(board, EV)) == passed
        table = section(page_of(put(tmp_path / str(passed), made)), "Explained variance at each sparsity")
        (row,) = [line for line in table.splitlines() if line.startswith("| topk | 8 |")]
        assert ("**0.800**" in row) != passed and ("| 0.800 |" in row) == passed
        (row,) = [line for line in table.splitlines() if line.startswith("| batchtopk | 8 |")]
        assert f"| {most:.3f} (L0 27.0) |" in row


def test_where_everyone_is_passed_the_page_and_the_index_say_so() -> None:
    """At the only k the one SAE that reaches it has 0.8, and the other 0.85 with 27 codes; of probing, for which codes are not spent, it stays the best."""
    short = of("batchtopk", 8, {32: 0.85}, at_32=27.0)
    board = assemble([of("topk", 8, {32: 0.8}), short])
    assert by_sparsity(board, EV).endswith(": nobody. Nobody at 32: batchtopk does better with 27.0 codes.")
    assert "latents: nobody. Nobody is the best where" in sentences.winners(board, EV)
    assert index.headline(board) == "nobody at 32, where batchtopk with fewer codes does better (0.850)"
    probing = "sparse_probing.auc_1"
    short["rows"][0]["values"][probing] = 0.99
    assert board.winners(probing)[32].sae.variant == "topk" and not board.passed(probing)


def test_the_cell_of_a_variant_is_its_best_with_at_most_k_codes(tmp_path: Path) -> None:
    """Its SAE with 27 codes is better at 32 than the one that has 32; read at 16 alone it is not asked."""
    short = of("topk", 16, {8: 0.5, 16: 0.7, 32: 0.85})
    short["rows"][-1]["values"]["sparsity.l0"] = 27.0
    made = [of("topk", 8, {8: 0.6, 16: 0.65, 32: 0.8}), of("batchtopk", 8, {8: 0.4, 16: 0.5, 32: 0.6})]
    for more, cell in (([short], "| 0.850 (L0 27.0) |"), ([short | {"rows": short["rows"][:2]}], "| **0.800** |")):
        table = section(page_of(put(tmp_path / cell[2:6], [*made, *more])), "Explained variance at each sparsity")
        (row,) = [line for line in table.splitlines() if line.startswith("| topk | 8, 16 |")]
        assert cell in row


def test_verdicts_in_few_words() -> None:
    clear, unclear, untested = (gaps.Gap(0.1, verdict) for verdict in ("clear", "not clear", "untested"))  # type: ignore[arg-type]
    told = [({1: clear, 2: clear}, "all clear"), ({1: clear}, "clear"), ({1: unclear, 2: unclear}, "none clear"), ({1: untested, 2: untested}, "untested"),
            ({1: clear, 2: untested, 4: clear}, "clear at 1 and 4 alone"), ({1: unclear, 2: untested}, "none clear"), ({1: unclear}, "not clear")]  # fmt: skip
    assert [gaps.surely(found) for found, _ in told] == [wanted for _, wanted in told]


def test_a_difference_of_either_sign_may_be_clear() -> None:
    """The one behind is clearly behind where the one ahead is clearly ahead."""
    board = assemble(several())
    topk, batchtopk = (next(sae for sae in board.saes if sae.variant == name) for name in ("topk", "batchtopk"))
    ahead, behind = gaps.gap(EV, 8, topk, batchtopk), gaps.gap(EV, 8, batchtopk, topk)
    assert ahead.verdict == behind.verdict == "clear" and ahead.value == pytest.approx(-behind.value) and ahead.value > 0.1


def test_fewer_latents_names_who_is_cut_best_and_what_training_at_that_size_gives() -> None:
    """matryoshka has 0.9 on 512 and pruned 0.845; topk trained at 512 has 0.84, and with swings in common only seeds could spoil that."""
    said = by_size(assemble(drawn_alike(both_cuts(3))))
    assert "**matryoshka** on 512 and 1,024 (by 0.015 to 0.055, all clear)" in said
    assert "training at 512 instead (topk): -0.059, clear." in said
    assert by_size(assemble([make("topk")])).endswith("cut down from 2,048, **topk** on 512 and 1,024.")
    one = make("topk")
    whole = {**one, "rows": [row for row in one["rows"] if row["reading"]["latents"] is None]}
    trained = by_size(assemble([whole, make("topk", 8, 0, 512)]))
    assert trained.endswith("trained at that size: best explained variance **topk** at 512.")


def test_one_sae_for_every_budget_needs_several_below_its_own() -> None:
    """Of what it is compared with, each was trained at that k; an SAE that others were trained below at one k alone serves nobody."""
    board = assemble(suite())
    assert "(topk and batchtopk; untested): one training for 4." in one_for_all(board)
    assert one_for_all(assemble([make("topk", 8), make("topk", 16)])) == ""


def test_away_says_the_most_and_the_middle() -> None:
    """0.3 is lost by the one read at 32, 0.1 by the other at 4."""
    made = [of("topk", 4, {4: 0.6, 32: 0.5}), of("topk", 32, {4: 0.5, 32: 0.8})]
    said = away(assemble(made))
    assert "0.200 in the median of 2 readings, 0.300 at most (topk k=4 read at 32, against topk k=32: " in said
    assert away(assemble(made[:1])) == ""


def test_nested_or_cut_says_where_it_is_ahead_and_where_behind() -> None:
    said = nested_or_cut(assemble(drawn_alike(both_cuts(3))))
    assert re.search(r"on fewer latents ahead by 0\.02\d? to 0\.06\d? in EV and .* in ΔCE \(all clear\); with all latents behind by 0\.02\d? in EV", said)
    assert nested_or_cut(assemble([make("topk")])) == ""


def test_one_seed_is_never_significant_and_controls_need_no_sentence() -> None:
    assert "one seed, so nothing on this page is significant" in how_sure(assemble(suite(1)))
    assert "2 seeds" in how_sure(assemble(suite(2))) and how_sure(assemble([make("pca", 32, control=True)])) == ""


def test_what_it_cost_tells_seconds_where_they_can_be_compared() -> None:
    """Else FLOPs, with the reason; one variant's trainings cover all four k. Two seeds that end at one moment were trained at the same time."""
    told = "**What it cost** for each seed (cpu, 2 threads{}), for the k that each reaches (4 of 4): batchtopk 1 training, 7 s; topk 2, 40 s."
    assert what_it_cost(assemble(the_suite())) == told.format(", some beside other seeds' training")
    in_turn = [one | {"provenance": one["provenance"] | {"when": f"2026-11-20T1{one['sae']['seed']}:00:00+00:00"}} for one in the_suite()]
    assert what_it_cost(assemble(in_turn)) == told.format("")
    apart = what_it_cost(assemble([*the_suite()[:4], *(timed("batchtopk", 32, seed, threads=4) for seed in (0, 1))]))
    assert "batchtopk 1 training, 1.2e+12 FLOPs; topk 2, 2e+12 FLOPs. No seconds: trained with different numbers of threads: 2 and 4." in apart


def test_a_lead_that_turns_at_exactly_its_l0_is_not_called_one() -> None:
    """topk has 0.6 read at an L0 of 7.9 and batchtopk 0.595 at 8, but at exactly 8 it is on a line that falls to 0.2 at 16 and so has 0.59."""
    one, other = record("topk", 0, {4: 0.3, 8: 0.6, 16: 0.2}, {}), record("batchtopk", 0, {4: 0.3, 8: 0.596, 16: 0.7}, {})
    for row in one["rows"]:
        row["values"]["sparsity.l0"] *= 7.9 / 8 if row["reading"]["k"] == 8 else 1.0
    said = sentences.winners(assemble([one, other]), EV)
    assert "**topk** at k = 8 (0.600, at exactly this L0 behind by 0.00" in said


def test_who_is_best_within_two_percent_but_not_at_exactly_k_leads_clearly_nowhere() -> None:
    """At an L0 of 8.15 one is ahead by .001, at 8 the other is: of a lead that is none nothing is clear, whatever is clear of the other."""
    made = []
    for seed in range(3):
        for name, l0, more in (("topk", {4: 4.0, 8: 8.15, 16: 16.0}, 0.0), ("batchtopk", {4: 4.0, 8: 8.0, 16: 16.0}, 0.001)):
            ev = {k: 0.5 + 0.3 * np.log(at) / np.log(16) + more + 1e-5 * seed for k, at in l0.items()}
            made.append(record(name, seed, ev, {k: [value + step / 1e4 for step in range(100)] for k, value in ev.items()}, l0=l0))
    board = assemble(made)
    best = board.best(EV, 8)
    assert best is not None and best.next is not None and best.sae.variant == "topk"
    found = gaps.winning(EV, 8, best.sae, best.next[0])
    assert found.value < 0 and found.verdict == "not clear" and gaps.gap(EV, 8, best.sae, best.next[0]).verdict == "clear"
    said = by_sparsity(board, EV)
    assert "**topk** at 8" in said and "all clear" not in said


def test_without_an_untrained_sae_no_score_is_held_against_it() -> None:
    from sae_bench_htopk.answer_interpretable import most_interpretable

    made = [make(name, 32, seed) for name in ("topk", "hierarchical_topk") for seed in (0, 1)]
    for one in made:
        for row in one["rows"]:
            row["values"]["sparse_probing.auc_1"] = 0.6 if one["sae"]["variant"] == "topk" else 0.7
    said = most_interpretable(assemble(made))
    assert said and "no better than the untrained" not in said and "There is no untrained SAE to compare with." in said
