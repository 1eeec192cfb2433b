"""What a page says of leads: clear, not clear or not tested, to which digits; and what a record keeps for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sae_bench_htopk import leads, pairs, plugins, resampling
from sae_bench_htopk.contract import Missing, Reading
from sae_bench_htopk.imports import standing
from sae_bench_htopk.keys import EVERY_NUMBER, core_file
from sae_bench_htopk.rows import pairable, summary
from sae_bench_htopk.saes import CKA_SAMPLE, COMPARED, DELTA, EV, SCORE
from sae_bench_htopk.sentences import winners
from sae_bench_htopk.tables import headline
from tests.test_leaderboard import Made, cells, page_of, put, section
from tests.test_leads import DOCUMENTS, NAME, board_of, documents, evaluated, record


def a_lead(value: float, documents: float | Missing, seeds: float | Missing, *others: object, **more: object) -> leads.Lead:
    """One whose sources of noise have these half intervals, known well."""
    noises = (half if isinstance(half, Missing) else leads.Noise(half / 1.959964) for half in (documents, seeds))
    return leads.Lead(value, *noises, *others, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (a_lead(0.007, 0.006, 0.003), "clear"),
        (a_lead(0.007, 0.006, 0.008), "not clear: seeds"),
        (a_lead(0.007, 0.008, 0.008), "not clear: documents; seeds"),
        (a_lead(0.007, 0.006, 0.006), "not clear: both together"),
        (a_lead(-0.007, 0.006, 0.003), "not clear: documents; seeds"),
        (a_lead(1e-17, 0.0, 0.0), "not clear: documents; seeds"),
        (a_lead(0.007, 0.006, 0.003, (8.1, 7.9)), "not clear: L0"),
        (a_lead(0.007, 0.006, 0.003, (8.1, 7.9), 0.008), "not clear: L0"),
        (a_lead(0.007, 0.006, 0.003, (8.1, 7.9), 0.005), "clear"),
        (a_lead(0.007, Missing("x"), 0.003), "not tested: documents (clear of seeds)"),
        (a_lead(0.007, Missing("x"), 0.008), "not clear: seeds (documents not tested)"),
        (a_lead(0.007, Missing("x"), Missing("y")), "not tested: documents and seeds"),
    ],
)
def test_clear_not_clear_and_not_tested_are_three_things(found: leads.Lead, verdict: str) -> None:
    """Clear only of both, each and together; what was not tested is no finding."""
    assert pairs.verdict(found) == verdict


def test_digits_are_those_that_100_draws_support() -> None:
    """A deviation known to 7% has two digits if it begins with less than 35, else one."""
    assert pairs.cells(a_lead(0.01234, 0.01234, 0.00081)) == ("0.012", "±0.012", "±0.0008")
    assert pairs.cells(a_lead(0.01234, Missing("x"), Missing("y"), interpolated=True)) == ("~0.012", Missing("x"), Missing("y"))


def test_a_row_keeps_the_draws_of_paired_columns_alone() -> None:
    """To a thousandth of their range; only of native readings, whole or of the most important latents; with the fingerprint of the draws."""
    row = evaluated(*documents(1)[:2])
    assert set(row["draws"]) == {EV} and len(row["draws"][EV]) == 100 and max(len(str(value)) for value in row["draws"][EV]) <= 8
    assert row["drawn"] == {NAME: resampling.fingerprint(DOCUMENTS)} != {NAME: resampling.fingerprint(DOCUMENTS + 1)}
    assert np.quantile(row["draws"][EV], [0.025, 0.975]) == pytest.approx(row["intervals"][EV], abs=1e-4)
    kind = plugins.metric(NAME)
    assert "draws" not in summary({}, {NAME: kind}, DOCUMENTS) and summary({}, {NAME: kind}, DOCUMENTS, paired=True)["draws"] == {}
    reading = Reading(8, select="threshold")
    fewer = replace(reading, latents=32)
    assert pairable(reading, "threshold") and pairable(fewer, "threshold")
    others = replace(reading, select="row"), replace(fewer, select="row"), replace(fewer, cut="after"), replace(fewer, rank="random")
    assert not any(pairable(other, "threshold") for other in others)
    assert resampling.brief([0.25, 0.25]) == [0.25, 0.25] and resampling.brief([0.1234567, 0.1334567]) == [0.12346, 0.13346]


def test_compared_columns_are_paired_as_far_as_they_are_resampled() -> None:
    """CKA over all rows is not: its interval would need moments by document. CKA on a sample of rows stands for it.

    A change to how documents are drawn is seen by every key.
    """
    columns = {f"{metric}.{column.name}": column for metric in plugins.names("metrics") for column in plugins.metric(metric).columns}
    paired = {name for name, column in columns.items() if column.paired}
    assert paired == {name for name in COMPARED if columns[name].resampled} - {SCORE}  # another scale for the loss that DELTA has
    assert {"rows", "resampling"} <= set(standing(map(core_file, EVERY_NUMBER)))


def several(seeds: int = 2) -> list[Made]:
    """TopK above BatchTopK, at k = 8 by 0.1 and at k = 16 by 0.001, with draws that are sure of the first alone; none at 32."""
    made = []
    for seed in range(seeds):
        noise = 0.004 * seed
        swings = np.random.default_rng(0).normal(0, 0.05, 100)
        other = np.random.default_rng(1).normal(0, 0.01, 100)
        made.append(
            record(
                "topk",
                seed,
                {8: 0.6 + noise, 16: 0.701 + noise, 32: 0.8},
                {8: 0.6 + noise + swings + np.linspace(-0.02, 0.02, 100), 16: 0.701 + noise + swings + other},
            )
        )
        made.append(record("batchtopk", seed, {8: 0.5, 16: 0.7, 32: 0.75}, {8: 0.5 + swings, 16: 0.7 + swings}))
    return made


def test_the_page_says_at_which_budgets_the_lead_is_clear(tmp_path: Path) -> None:
    """Two seeds: standard error 0.002, and with the other's 0 one degree of freedom: 12.7 of them; at 16 neither noise is passed, at 32 are no draws."""
    page = page_of(put(tmp_path, several()))
    said = section(page, "In short")
    assert "in explained variance clear at k = 8, not clear at k = 16 (documents; seeds), not tested at k = 32 (documents: a record holds no draws" in said
    assert "significance" not in page
    table = (
        section(page, "Explained variance at each sparsity").split("<details><summary>Differences from the best at each k: EV", 1)[1].split("</details>", 1)[0]
    )
    assert cells(table, "8")[1:] == ["topk k=8", "batchtopk k=8", "0.102", "±0.023", "±0.025", "clear"]
    assert cells(table, "16")[6] == "not clear: documents; seeds"
    assert cells(table, "32")[4] == "<sup>a</sup>" and "<sup>a</sup> a record holds no draws of documents for it" in table


def test_with_one_seed_the_page_does_not_call_anything_clear(tmp_path: Path) -> None:
    """Seeds are not known, documents are."""
    page = page_of(put(tmp_path, several(seeds=1)))
    said = section(page, "In short")
    assert "one seed, so no difference on this page is known to be more than chance" in said
    assert "not clear at k = 16 (documents), not tested at k = 8 (seeds: one seed alone), 32 (documents: a record holds no draws of documents" in said
    assert "clear at k = 8" not in said


def test_without_draws_the_page_says_so_once_and_its_tables_what_seeds_say(tmp_path: Path) -> None:
    """As in records made before draws were kept."""
    made = several()
    for row in (row for one in made for row in one["rows"]):
        row["draws"] = {}
    page = page_of(put(tmp_path, made))
    assert page.count("Differences over documents are not in these records, so no lead is tested for both noises") == 1
    table = page.split("<details><summary>Differences from the best at each k: EV", 1)[1].split("</details>", 1)[0]
    assert cells(table, "8")[5:] == ["±0.025", "not tested: documents (clear of seeds)"]
    assert cells(table, "16")[6] == "not clear: seeds (documents not tested)"


def test_words_stand_at_the_first_table_whichever_it_is() -> None:
    """Here one variant alone has explained variance; CKA on a sample says what it stands for."""
    made = several()
    for one in made[1::2]:
        for row in one["rows"]:
            row["values"][EV], row["missing"] = None, {EV: "could not be computed"}
    for row in (row for one in made for row in one["rows"]):
        row["values"][CKA_SAMPLE], row["draws"] = 0.5, {CKA_SAMPLE: [0.5] * 100}
    board, _ = board_of(*made)
    assert pairs.section(board, EV) == "" and pairs.NOTE in pairs.section(board, DELTA)
    (sample,) = pairs.further(board)
    assert "CKA on the rows of RSA" in sample and pairs.SAMPLE in sample and pairs.NOTE not in sample


def test_who_is_alone_at_a_budget_leads_nobody_and_is_not_bold() -> None:
    """Two budgets, a rival at the first of them only."""
    board, _ = board_of(record("topk", 0, {8: 0.6, 16: 0.7}, {}), record("batchtopk", 0, {8: 0.5}, {}))
    assert "**topk** at k = 8 (0.600, ahead by 0.10) and 16 (0.700, alone)" in winners(board, EV)
    first, second = cells(headline(board, EV), "topk")[2:4]
    assert first.startswith("**") and not second.startswith("**")
